//! The loop of one scope: see, decide, act, until there is nothing to do.

use super::CONCURRENT_RECONCILES;
use super::leadership::Leadership;
use super::watches::Scope;
use crate::account::act::{Hands, act, say};
use crate::account::observe::observe;
use crate::account::{Next, Outcome, Policy, ReplyInHand, Seen, decide, fraction, report};
use crate::api::{OAuthAccount, OAuthAccountStatus};
use crate::telemetry::metrics::ACCOUNT_CONTROLLER;
use crate::world::gate::Permit;
use crate::world::{ApiError, World, clock, token_endpoint};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use kube_runtime::controller::{Action, Config, Error as ControllerError, applier};
use kube_runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Steps of one pass, at most: the longest way to a token has fifteen. More is a defect of ours, and is said.
const MOST_TURNS: usize = 32;
/// How long is waited before a reply in hand is offered to the API server again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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
pub async fn run(controller: Arc<Controller>, woken: UnboundedReceiver<ObjectRef<OAuthAccount>>) {
    tokio::select! {
        () = controller.scope.until_synced() => {}
        () = controller.stop.cancelled() => return,
    }
    let adds = controller.world.metrics.queue_adds.with_label_values(&[ACCOUNT_CONTROLLER]);
    let queue = woken.take_until(controller.stop.clone().cancelled_owned()).map(move |account| {
        adds.inc();
        Ok::<_, Infallible>(account)
    });
    let store = controller.scope.accounts.clone();
    let config = Config::default().concurrency(CONCURRENT_RECONCILES);
    let reconcile = |account: Arc<OAuthAccount>, controller: Arc<Controller>| reconcile(account, controller).boxed();
    applier(reconcile, on_error, controller, store, queue, config)
        .for_each(|ended| async move {
            match ended {
                // An account that went between its wake-up and its turn is no error.
                Ok(_) | Err(ControllerError::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(%error, "reconcile failed"),
            }
        })
        .await;
}

async fn reconcile(account: Arc<OAuthAccount>, controller: Arc<Controller>) -> Result<Action, PassError> {
    let reference = ObjectRef::from_obj(&*account);
    let waited = controller.scope.queue.left(&reference);
    if !controller.leadership.is_held() || controller.stop.is_cancelled() {
        return Ok(Action::await_change());
    }
    let began = Instant::now();
    let metrics = controller.world.metrics.clone();
    let workers = metrics.active_workers.with_label_values(&[ACCOUNT_CONTROLLER]);
    workers.inc();
    controller.scope.queue.begun(&reference, waited, &metrics);
    let scope = controller.scope.clone();
    let id = reconcile_id();
    let metadata = &account.metadata;
    let span = tracing::error_span!(
        parent: None,
        "reconcile",
        controller = ACCOUNT_CONTROLLER,
        namespace = metadata.namespace.as_deref().unwrap_or_default(),
        name = metadata.name.as_deref().unwrap_or_default(),
        reconcileID = id,
    );
    let result = turns(account, controller, id).instrument(span).await;
    workers.dec();
    scope.queue.done(&reference, &metrics);
    let label = match &result {
        Ok(action) if *action == Action::await_change() => "success",
        Ok(_) => "requeue_after",
        Err(_) => "error",
    };
    metrics.reconciled(label, began.elapsed());
    result
}

/// How a pass ended.
enum Ended {
    /// It came to rest.
    Rest(Action),
    /// It is to go on when its turn at this gate has come.
    Turn(String),
}

/// Passes over one account until it rests. Whoever waits for a turn is nothing but a place in a queue.
async fn turns(mut account: Arc<OAuthAccount>, controller: Arc<Controller>, id: String) -> Result<Action, PassError> {
    let mut turn = None;
    loop {
        // Detached: whatever becomes of the loop, a request that is on its way is brought to its end.
        let (controller_, id_, account_) = (controller.clone(), id.clone(), account.clone());
        let pass = async move { pass(account_, &controller_, &id_, turn).await }.in_current_span();
        let ended = controller.passes.spawn(pass).await.unwrap_or_else(|error| Err(PassError::Panicked(error.to_string())));
        let host = match ended? {
            Ended::Rest(action) => return Ok(action),
            Ended::Turn(host) => host,
        };
        turn = match await_turn(&account, &controller, &id, &host).await {
            Ok(permit) => Some(permit),
            // Somebody else's work now, or the next start's.
            Err(ApiError::LeaseLost) => return Ok(Action::await_change()),
            Err(_) => return Ok(Action::requeue(Duration::from_millis(100))),
        };
        // As it is now.
        match controller.scope.accounts.get(&ObjectRef::from_obj(&*account)) {
            Some(latest) => account = latest,
            None => return Ok(Action::await_change()),
        }
    }
}

/// Waits for a turn, and says meanwhile that the published token has expired, if it does: others before us must not keep
/// status from telling the truth.
async fn await_turn(account: &Arc<OAuthAccount>, controller: &Controller, id: &str, host: &str) -> Result<Permit, ApiError> {
    let now = clock::now();
    let expiry = account.status.as_ref().and_then(|status| status.token.as_ref()).map(|token| token.expiration_time.0);
    let may_ask = || !controller.stop.is_cancelled() && controller.leadership.is_held();
    // Who has no token goes before all whose token still lives.
    let deadline = expiry.unwrap_or(now);
    let mut turn = pin!(token_endpoint::take_turn(&controller.world.gates, host, deadline, may_ask));
    let Some(expiry) = expiry.filter(|expiry| *expiry > now) else { return turn.await };
    let until_then = Duration::try_from(expiry.duration_since(now)).unwrap_or_default();
    tokio::select! {
        turn = &mut turn => return turn,
        () = tokio::time::sleep(until_then) => {}
    }
    let telling = async {
        let Scope { marks, memory, .. } = &*controller.scope;
        let hands = Hands { world: &controller.world, marks, memory, reconcile_id: id, may_ask: &may_ask, turn: None };
        let seen = observe(account.clone(), &controller.world, marks, memory, &controller.policy, false);
        tell(&seen, &hands).await;
    };
    tokio::join!(turn, telling.boxed()).0
}

async fn pass(account: Arc<OAuthAccount>, controller: &Controller, id: &str, turn: Option<Permit>) -> Result<Ended, PassError> {
    let Scope { marks, memory, .. } = &*controller.scope;
    let may_ask = || !controller.stop.is_cancelled() && controller.leadership.is_held();
    let world = &controller.world;
    let hands = Hands { world, marks, memory, reconcile_id: id, may_ask: &may_ask, turn };
    let has_turn = hands.turn.is_some();
    let mut seen = observe(account, world, marks, memory, &controller.policy, has_turn);
    let mut in_hand: Option<ReplyInHand<&World>> = None;
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
                return Ok(Ended::Rest(rest.map_or_else(Action::await_change, Action::requeue)));
            }
            Next::TakeTurn(host) => {
                remember(seen, controller);
                return Ok(Ended::Turn(host));
            }
            next => next,
        };
        match step(next, &seen, &hands).await {
            (Ok(outcome), said) => {
                if in_hand.is_some() && matches!(outcome, Outcome::KeepConflicted) {
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                    turns = 0;
                }
                // What was said meanwhile has told of the attempt.
                seen.attempt = seen.attempt.filter(|_| said.is_none());
                seen = seen.after(outcome);
                seen.status = said.unwrap_or(seen.status);
            }
            // Somebody else's work now, or the next start's.
            (Err(ApiError::LeaseLost), _) => {
                remember(seen, controller);
                return Ok(Ended::Rest(Action::await_change()));
            }
            // Nothing else may happen before it is durable, however long that takes.
            (Err(error), _) if in_hand.is_some() => {
                tracing::error!(%error, "a reply of the provider's could not be stored yet; it is held and offered again");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
                // What was written before the answer was lost is seen then.
                seen.login.state = None;
                turns = 0;
            }
            (Err(error), _) => {
                tell(&seen, &hands).await;
                remember(seen, controller);
                return Err(error.into());
            }
        }
    }
    remember(seen, controller);
    Err(PassError::Restless)
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
    let status = report(seen, clock::now());
    if status == seen.status || seen.gone {
        return None;
    }
    match say(status.clone(), seen, hands).await {
        Ok(Outcome::Said(_)) => Some(status),
        _ => None,
    }
}

/// A token that is in no Secret yet is kept for the next pass.
fn remember(mut seen: Seen, controller: &Controller) {
    if let Some(record) = seen.unpublished.take().filter(|_| !seen.gone) {
        controller.scope.memory.keep(seen.uid(), record);
    }
}

/// The API server did not answer: soon again, not all at once.
fn on_error(account: Arc<OAuthAccount>, _: &PassError, _: Arc<Controller>) -> Action {
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    Action::requeue(Duration::from_secs_f64(1.0 + 4.0 * fraction(uid, "api error")))
}

/// Unlike that of any other pass, of this start and of others.
fn reconcile_id() -> String {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:016x}-{:x}", *START, COUNT.fetch_add(1, Ordering::Relaxed))
}
