//! The loop of one scope: see, decide, act, until there is nothing to do.

use super::CONCURRENT_RECONCILES;
use super::leadership::Leadership;
use super::watches::Scope;
use super::workqueue::Key;
use crate::account::act::{Hands, act, say};
use crate::account::memory::Untold;
use crate::account::observe::observe;
use crate::account::telling::{LONGEST_TELLING, asked_of, may_wait};
use crate::account::{Next, Outcome, Policy, ReplyInHand, Seen, decide, fraction, interim, state_secret_name};
use crate::api::{NamespacedName, OAuthAccount, OAuthAccountStatus};
use crate::telemetry::metrics::ACCOUNT_CONTROLLER;
use crate::world::gate::Permit;
use crate::world::{ApiError, World, clock, token_endpoint};
use futures::FutureExt;
use jiff::Timestamp;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Steps of one pass, at most: the longest way to a token has fifteen. More is a defect of ours, and is said.
const MOST_TURNS: usize = 32;
/// How long is waited before a reply in hand is offered to the API server again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often an account that waits to be told of is looked at.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// What a pass needs.
pub struct Controller {
    /// Everything outside.
    pub world: Arc<World>,
    /// Caches of the scope.
    pub scope: Arc<Scope>,
    /// Whether we lead.
    pub leadership: Leadership,
    /// What the configuration says of all accounts.
    pub policy: Policy,
    /// Set when no new work is to be taken.
    pub stop: CancellationToken,
    /// Passes under way, which nothing cancels.
    pub passes: TaskTracker,
}

impl Controller {
    /// Whether this instance may still ask for tokens, and begin what somebody else could.
    fn may_ask(&self) -> bool {
        !self.stop.is_cancelled() && self.leadership.is_held()
    }
}

/// Why a pass did not come to rest.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A defect of ours.
    #[error("the pass did not come to rest within {MOST_TURNS} steps")]
    Restless,
    /// A defect of ours.
    #[error("the pass broke off: {0}")]
    Panicked(String),
}

/// Reconciles what is woken, until `stop`; passes under way are finished.
pub async fn run(controller: Arc<Controller>) {
    tokio::select! {
        () = controller.scope.until_synced() => {}
        () = controller.stop.cancelled() => return,
    }
    let places = Arc::new(Semaphore::new(CONCURRENT_RECONCILES.into()));
    let mut under_way = JoinSet::new();
    loop {
        let next = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await;
            (place, controller.scope.queue.get().await)
        };
        tokio::select! {
            biased;
            () = controller.stop.cancelled() => break,
            Some(ended) = under_way.join_next() => whole(ended),
            (place, (account, waited)) = next => {
                let controller = controller.clone();
                under_way.spawn(async move {
                    reconcile(account, waited, controller).await;
                    drop(place);
                });
            }
        }
    }
    while let Some(ended) = under_way.join_next().await {
        whole(ended);
    }
}

/// What happens around a pass has no reason to break off; where it does, the process ends with it: an account that nobody works on would
/// look well.
fn whole(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        std::panic::resume_unwind(panic);
    }
}

/// One turn of an account, from the queue and back into it.
async fn reconcile(name: Key, waited: Duration, controller: Arc<Controller>) {
    let metrics = controller.world.metrics.clone();
    let queue = &controller.scope.queue;
    // An account that went between its wake-up and its turn is no error.
    let there = controller.scope.accounts.contains(&name);
    if !there || !controller.may_ask() {
        queue.done(&name, None);
        return;
    }
    let label = &[ACCOUNT_CONTROLLER];
    metrics.queue_duration.with_label_values(label).observe(waited.as_secs_f64());
    let workers = metrics.active_workers.with_label_values(label);
    workers.inc();
    let began = Instant::now();
    let id = reconcile_id();
    let span = tracing::error_span!(
        parent: None,
        "reconcile",
        controller = ACCOUNT_CONTROLLER,
        namespace = &*name.namespace,
        name = &*name.name,
        reconcileID = id,
    );
    let result = turns(&name, &controller, id).instrument(span.clone()).await;
    workers.dec();
    let (label_of_result, again) = match result {
        Ok(None) => ("success", None),
        Ok(Some(again)) => ("requeue_after", Some(again)),
        Err(error) => {
            let again = after_error(&name);
            span.in_scope(|| tracing::warn!(%error, again_in = again.as_secs(), "reconcile failed; it is tried again"));
            ("error", Some(again))
        }
    };
    metrics.reconciled(label_of_result, began.elapsed());
    let took = queue.done(&name, again);
    metrics.work_duration.with_label_values(label).observe(took.as_secs_f64());
}

/// How a pass ended.
enum Ended {
    /// It came to rest, for so long at most.
    Rest(Option<Duration>),
    /// It is to go on when its turn at this gate has come: by when it needs it, and when the token that status tells of expires.
    Turn { host: String, deadline: Timestamp, expiry: Option<Timestamp> },
    /// Its token is published, and is to be told of when others' tells are over.
    Telling,
}

/// What a pass begins with.
#[derive(Default)]
struct Permits {
    /// The turn at the provider's gate.
    turn: Option<Permit>,
    /// The right to tell of a token that is published.
    telling: Option<Permit>,
    /// Whether that was waited for, or for something else long enough: it is told now.
    waited: bool,
}

/// Passes over one account until it rests: for how long, unless something changes. Whoever waits for a turn at a gate is nothing but a
/// place in a queue.
async fn turns(name: &Key, controller: &Arc<Controller>, id: String) -> Result<Option<Duration>, PassError> {
    let mut permits = Permits::default();
    loop {
        // As it is now.
        let Some(account) = controller.scope.accounts.get(name) else { return Ok(None) };
        let (asked, made) = (asked_of(&account), made_at(&account));
        // Detached: whatever becomes of the loop, a request that is on its way is brought to its end.
        let (controller_, id_, uid) = (controller.clone(), id.clone(), account.metadata.uid.clone().unwrap_or_default());
        let pass = async move { pass(account, &controller_, &id_, permits).await }.in_current_span();
        let ended = controller.passes.spawn(pass).await.unwrap_or_else(|error| Err(PassError::Panicked(error.to_string())));
        if !controller.scope.accounts.contains(name) {
            // It went meanwhile, and the pass may have noted something since.
            controller.scope.memory.forget(&uid);
        }
        let come = match ended? {
            Ended::Rest(rest) => return Ok(rest),
            Ended::Turn { host, deadline, expiry } => {
                let turn = await_turn(name, (deadline, expiry), controller, &id, &host).await;
                turn.map(|turn| Permits { turn: Some(turn), ..Permits::default() })
            }
            Ended::Telling => {
                let telling = await_telling(name, asked, made, controller).await;
                telling.map(|telling| Permits { turn: None, telling, waited: true })
            }
        };
        permits = match come {
            Ok(permits) => permits,
            // Somebody else's work now, or the next start's.
            Err(ApiError::LeaseLost) => return Ok(None),
            Err(_) => return Ok(Some(Duration::from_millis(100))),
        };
    }
}

/// Waits for a turn, and says meanwhile that the published token has expired, if it does: others before us must not keep
/// status from telling the truth.
async fn await_turn(
    name: &Key,
    (deadline, expiry): (Timestamp, Option<Timestamp>),
    controller: &Controller,
    id: &str,
    host: &str,
) -> Result<Permit, ApiError> {
    let now = clock::now();
    let may_ask = || controller.may_ask();
    let mut turn = pin!(token_endpoint::take_turn(&controller.world.gates, host, deadline, may_ask));
    let Some(expiry) = expiry.filter(|expiry| *expiry > now) else { return turn.await };
    let until_then = Duration::try_from(expiry.duration_since(now)).unwrap_or_default();
    tokio::select! {
        turn = &mut turn => return turn,
        () = tokio::time::sleep(until_then) => {}
    }
    let telling = async {
        let Some(account) = controller.scope.accounts.get(name) else { return };
        let Scope { marks, memory, .. } = &*controller.scope;
        let hands = Hands { world: &controller.world, marks, memory, reconcile_id: id, may_ask: &may_ask, turn: None };
        let seen = observe(account, &controller.world, marks, memory, &controller.policy, false);
        tell(&seen, &hands).await;
    };
    tokio::join!(turn, telling.boxed()).0
}

/// When an account was made: every other turn at a gate is that of the youngest.
fn made_at(account: &OAuthAccount) -> Timestamp {
    let now = clock::now();
    account.metadata.creation_timestamp.as_ref().map_or(now, |made| made.0.min(now))
}

/// Waits until it may be told of that a token is published, and no longer than a token that is well may go untold. What somebody asks of the
/// account meanwhile goes before that: it is looked at anew.
async fn await_telling(
    name: &Key,
    asked: (Option<String>, Option<i64>, Option<String>),
    made: Timestamp,
    controller: &Controller,
) -> Result<Option<Permit>, ApiError> {
    let mut turn = pin!(controller.world.gates.tell(made));
    let Controller { world, scope, .. } = controller;
    let record = state_secret_name(&name.namespace, &name.name);
    let began = Instant::now();
    let permit = loop {
        if let Ok(permit) = tokio::time::timeout(LOOKED_AT, &mut turn).await {
            break permit;
        }
        let unchanged = scope.accounts.get(name).is_some_and(|account| asked_of(&account) == asked);
        let wanted = world.logins.demanded(&record).is_some() || world.consents.has_deposit(&name.namespace, &name.name);
        if !unchanged || wanted || began.elapsed() > LONGEST_TELLING {
            break None;
        }
    };
    if controller.may_ask() { Ok(permit) } else { Err(ApiError::LeaseLost) }
}

async fn pass(account: Arc<OAuthAccount>, controller: &Controller, id: &str, permits: Permits) -> Result<Ended, PassError> {
    let Scope { marks, memory, .. } = &*controller.scope;
    let may_ask = || controller.may_ask();
    let world = &controller.world;
    let Permits { turn, mut telling, waited } = permits;
    let mut hands = Hands { world, marks, memory, reconcile_id: id, may_ask: &may_ask, turn };
    let has_turn = hands.turn.is_some();
    let mut seen = observe(account, world, marks, memory, &controller.policy, has_turn);
    let mut in_hand: Option<ReplyInHand<&World>> = None;
    let mut unstored = None;
    let mut pause = Duration::from_millis(100);
    let mut turns = 0;
    while turns < MOST_TURNS {
        turns += 1;
        let now = clock::now();
        in_hand = seen.login.has_reply().then(|| in_hand.unwrap_or_else(|| ReplyInHand::new(world)));
        let next = match decide(&seen, now) {
            Next::Rest(until) => {
                remember(seen, controller);
                let rest = until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
                return Ok(Ended::Rest(rest));
            }
            Next::TakeTurn(host) => {
                let expiry = seen.status.token.as_ref().map(|token| token.expiration_time.0);
                // Who has no token goes before all whose token still lives, also whoever has lost it with its Secret.
                let deadline = expiry.filter(|_| seen.mark.is_some()).unwrap_or_else(|| made_at(&seen.account));
                remember(seen, controller);
                return Ok(Ended::Turn { host, deadline, expiry });
            }
            next => next,
        };
        // Whom the user names may take his time: nobody else is kept from the provider meanwhile.
        if matches!(next, Next::CheckHealth { .. }) || (seen.attempted && matches!(next, Next::Introspect { .. })) {
            (hands.turn, seen.turn) = (None, false);
        }
        // Who still has no token goes before those of whom it is only to be told that they have one.
        let plan = seen.plan.as_ref().ok().filter(|_| matches!(next, Next::Say(_)) && telling.is_none() && !waited && may_ask());
        if plan.is_some_and(|plan| may_wait(&seen, plan, now)) {
            (hands.turn, seen.turn) = (None, false);
            telling = world.gates.tell_now();
            if telling.is_none() {
                remember(seen, controller);
                return Ok(Ended::Telling);
            }
        }
        // Nor is anybody kept from telling by who else is asked meanwhile.
        if telling.is_some() && !matches!(next, Next::Say(_) | Next::ReadTokenSecret(_) | Next::ReadState | Next::ReadInputs(_)) {
            telling = None;
        }
        // From before the first byte: what a provider does not take back is not dropped with the process.
        if matches!(next, Next::Spend { .. } | Next::Poll { .. }) {
            in_hand.get_or_insert_with(|| ReplyInHand::new(world));
        }
        match step(next, &seen, &hands).await {
            (Ok(outcome), said) => {
                if in_hand.is_some() && matches!(outcome, Outcome::KeepConflicted) {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    turns = 0;
                }
                // What was said meanwhile has told of the attempt.
                seen.attempt = seen.attempt.take().filter(|_| said.is_none() || seen.to_publish().is_some());
                seen = seen.after(outcome);
                seen.status = said.unwrap_or(seen.status);
            }
            // Somebody else's work now, or the next start's.
            (Err(ApiError::LeaseLost), _) => {
                remember(seen, controller);
                return Ok(Ended::Rest(None));
            }
            // Nothing else may happen before it is durable, however long that takes.
            (Err(error), _) if in_hand.is_some() => {
                tell_unstored(&error, *unstored.get_or_insert_with(clock::uptime), &world.namespace);
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
                // What was written before the answer was lost is seen then.
                seen.login.state = None;
                turns = 0;
            }
            (Err(error), _) => {
                let said = tell(&seen, &hands).await;
                seen.attempt = seen.attempt.take().filter(|_| said.is_none() || seen.to_publish().is_some());
                remember(seen, controller);
                return Err(error.into());
            }
        }
    }
    remember(seen, controller);
    Err(PassError::Restless)
}

/// Tells that a reply could not be stored since then: what heals itself in a moment is no error, and then somebody is to know what they must
/// not do.
fn tell_unstored(error: &ApiError, since: Duration, namespace: &str) {
    let held = clock::uptime().saturating_sub(since);
    if held < LONGEST_PAUSE {
        tracing::warn!(%error, "a reply of the provider's could not be stored yet; it is held and offered again");
    } else {
        tracing::error!(
            %error,
            seconds = held.as_secs(),
            "a reply of the provider's could not be stored yet, and this Pod alone has it: do not delete the Pod, or the login may have to be \
             made anew; find out why Secrets of namespace {namespace} cannot be written"
        );
    }
}

/// Does a step, and says meanwhile that the published token has expired, if it does: a provider that takes its time must
/// not keep status from telling the truth.
async fn step(next: Next, seen: &Seen, hands: &Hands<'_>) -> (Result<Outcome, ApiError>, Option<OAuthAccountStatus>) {
    let now = clock::now();
    let expiry = seen.standing().map(|token| token.expiration_time.0);
    let expiry = expiry.filter(|expiry| *expiry > now && !matches!(next, Next::Say(_)));
    let mut doing = pin!(act(next, seen, hands));
    let Some(expiry) = expiry else { return (doing.await, None) };
    let until_then = Duration::try_from(expiry.duration_since(now)).unwrap_or_default();
    tokio::select! {
        outcome = &mut doing => return (outcome, None),
        () = tokio::time::sleep(until_then) => {}
    }
    // Both at once: what is being done must not wait for what is being said.
    tokio::join!(doing, tell(seen, hands))
}

/// Says what is true now, as far as the API server lets us; what was said.
async fn tell(seen: &Seen, hands: &Hands<'_>) -> Option<OAuthAccountStatus> {
    let status = interim(seen, clock::now());
    if status == seen.status || seen.gone {
        return None;
    }
    match say(status.clone(), seen, hands).await {
        Ok(Outcome::Said(_)) => Some(status),
        _ => None,
    }
}

/// A token that is in no Secret yet is kept for the next pass, and an attempt that status does not tell of.
fn remember(mut seen: Seen, controller: &Controller) {
    let memory = &controller.scope.memory;
    if let Some(record) = seen.unpublished.take().filter(|_| !seen.gone) {
        memory.keep(seen.uid(), record);
    }
    if let Some(attempt) = seen.attempt.take().filter(|_| !seen.gone) {
        // One of an earlier spec does not become one of today's by being kept twice.
        let generation = seen.attempted.then(|| seen.generation());
        memory.keep_attempt(seen.uid(), Untold { attempt, generation, request: seen.answering });
    }
}

/// The API server did not answer: soon again, not all at once.
fn after_error(name: &NamespacedName) -> Duration {
    Duration::from_secs_f64(1.0 + 4.0 * fraction(&name.to_string(), "api error"))
}

/// Unlike that of any other pass, of this start and of others.
fn reconcile_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}-{:x}", *START, COUNT.fetch_add(1, Ordering::Relaxed))
}
