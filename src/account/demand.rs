//! A demand: somebody's token was refused by the API that it is for, and another one is wanted before its time. Any replica
//! writes it into the account's record, by compare-and-swap; the leader answers it there. Pure.
//!
//! A demand costs a token request at most, and between two of an account lies a floor. Both stand in the same record, so that
//! neither a restart nor another leader forgets them, and an API that refuses everything makes no storm.

use super::login::Login;
use super::report::find;
use super::state::State;
use super::{Next, Plan, Record, Refusal, Seen, StateView};
use crate::api::{ConditionType, OAuthAccount, OAuthAccountStatus};
use crate::oauth::Fault;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Least time between two forced refreshes of an account.
const FLOOR: SignedDuration = SignedDuration::from_secs(30);
/// And the most, however often what came of them was refused again. A token that was well for so long was refused for another
/// reason than the one before it.
const LONGEST_FLOOR: SignedDuration = SignedDuration::from_hours(1);
/// Whoever asked does not wait any more: what is older is put aside, and never the reason of a refresh.
const LIFETIME: SignedDuration = SignedDuration::from_secs(60);
/// A token that ends sooner is no answer, unless none lives for long: a tenth of its lifetime, or this.
const LAST_MOMENTS: SignedDuration = SignedDuration::from_secs(10);

/// The last demand of an account, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// When it was made: the floor counts from then.
    pub at: Timestamp,
    /// Fingerprint of the token that was refused.
    pub rejected: String,
    /// Its generation.
    pub generation: i64,
    /// How many tokens in a row that came of a forced refresh were refused again.
    #[serde(default)]
    pub rejections: u32,
    /// Whether the leader has not answered it yet.
    pub pending: bool,
    /// Why no other token came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Obstacle>,
}

/// Why there is no newer token now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Because {
    /// The spec is refused.
    SpecRefused,
    /// `spec.suspend`.
    Suspended,
    /// Nobody has logged in yet.
    ConsentRequired,
    /// The login is over, or not to be used: a person must see to it.
    ReauthorizationRequired,
    /// Nobody knows whether the refresh token was spent.
    OutcomeUnknown,
    /// The provider refuses, or does not answer.
    ProviderFailed,
    /// The provider has asked for patience.
    ProviderBusy,
    /// The Secret to publish in is somebody else's.
    SecretConflict,
    /// The operator's record of the account cannot be used.
    RecordUnusable,
    /// It was refreshed a moment ago.
    TooSoon,
}

impl Because {
    /// As the error's `code` says it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::SpecRefused => "spec_refused",
            Self::Suspended => "suspended",
            Self::ConsentRequired => "consent_required",
            Self::ReauthorizationRequired => "reauthorization_required",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::ProviderFailed => "provider_failed",
            Self::ProviderBusy => "provider_busy",
            Self::SecretConflict => "secret_conflict",
            Self::RecordUnusable => "record_unusable",
            Self::TooSoon => "too_soon",
        }
    }

    /// HTTP status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::TooSoon => 429,
            Self::ProviderFailed => 502,
            Self::SpecRefused
            | Self::Suspended
            | Self::ConsentRequired
            | Self::ReauthorizationRequired
            | Self::OutcomeUnknown
            | Self::ProviderBusy
            | Self::SecretConflict
            | Self::RecordUnusable => 503,
        }
    }

    /// The class of a failure of the provider's, or of ours.
    fn of(fault: &Fault) -> Self {
        use crate::oauth::FaultKind as K;
        match fault.kind {
            K::OutcomeUnknown => Self::OutcomeUnknown,
            K::StateUnreadable => Self::RecordUnusable,
            K::RateLimited | K::SlowDown => Self::ProviderBusy,
            kind if kind.touches_the_login() => Self::ReauthorizationRequired,
            _ => Self::ProviderFailed,
        }
    }
}

/// Why there is no newer token now, in a sentence. Without a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// Its class.
    pub because: Because,
    /// What is wrong, and what to do.
    pub sentence: String,
}

impl Obstacle {
    /// An obstacle in words of its own.
    pub fn new(because: Because, sentence: impl Into<String>) -> Self {
        Self { because, sentence: sentence.into() }
    }
}

impl Demand {
    /// A demand for another token than `refused`; `prior` is the last one of the account.
    pub fn new(prior: Option<&Self>, refused: &Record, now: Timestamp) -> Self {
        let generation = refused.public.generation;
        let rejections = prior.filter(|prior| now.duration_since(prior.at) < LONGEST_FLOOR).map_or(0, |prior| {
            if generation == prior.generation + 1 {
                prior.rejections.saturating_add(1)
            } else if generation == prior.generation {
                // Nothing came of the last one: that says nothing of the API.
                prior.rejections
            } else {
                0
            }
        });
        Self { at: now, rejected: refused.public.fingerprint.clone(), generation, rejections, pending: true, failure: None }
    }

    /// Before when the account is not refreshed by force again.
    pub fn floor(&self) -> Timestamp {
        let doubled = (FLOOR * (1 << self.rejections.min(7))).min(LONGEST_FLOOR);
        self.at.checked_add(doubled).unwrap_or(Timestamp::MAX)
    }

    /// Whether somebody still waits for its answer. Clocks of replicas differ.
    pub fn is_waited_for(&self, now: Timestamp) -> bool {
        self.pending && is_recent(self.at, now)
    }

    /// With its answer: a newer token, or why there is none.
    #[must_use]
    pub fn answered(self, failure: Option<Obstacle>) -> Self {
        Self { pending: false, failure, ..self }
    }
}

/// Whether whoever made a demand then may still wait for its answer.
pub fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() < LIFETIME
}

/// Whether a token can still be used for a while.
pub fn lives(record: &Record, now: Timestamp) -> bool {
    let (issued, expires) = (record.public.issued_time.0, record.public.expiration_time.0);
    let lifetime = expires.duration_since(issued).max(SignedDuration::ZERO);
    expires.duration_since(now) > LAST_MOMENTS.min(lifetime / 10)
}

/// Whether a published token answers who was refused with another one, or had none.
pub fn is_news(record: &Record, rejected: Option<&str>, now: Timestamp) -> bool {
    lives(record, now) && rejected.is_none_or(|rejected| rejected != record.public.fingerprint)
}

/// What a replica does for whoever wants another token.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Write this down, so that the leader sees it.
    Demand(Box<State>),
    /// Wait: somebody is at it.
    Wait,
    /// Say why there is none, and when to ask again.
    Refuse(Obstacle, Option<Timestamp>),
}

/// What a replica does where the published token, if there is one, is no answer: by the account as its cache has it, and the
/// published token and the record as they were just read.
pub fn judge(
    found: &OAuthAccount,
    plan: &Result<Plan, Refusal>,
    published: Option<&Record>,
    view: &StateView,
    now: Timestamp,
) -> Verdict {
    let status = found.status.clone().unwrap_or_default();
    let plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => {
            let obstacle = Obstacle::new(Because::SpecRefused, refusal.sentence());
            return Verdict::Refuse(obstacle, None);
        }
    };
    if let Some((obstacle, again)) = standing(&status, plan, now) {
        return Verdict::Refuse(obstacle, again);
    }
    // Without a token that lives the operator is at it by itself.
    let Some(refused) = published.filter(|record| lives(record, now)) else { return Verdict::Wait };
    let uid = found.metadata.uid.as_deref().unwrap_or_default();
    let not_ours = || {
        let sentence = "The operator's record of this account is not ready yet; ask again in a moment.";
        Verdict::Refuse(Obstacle::new(Because::RecordUnusable, sentence), None)
    };
    let state = match view {
        StateView::Unreadable { fault, .. } => {
            return Verdict::Refuse(Obstacle::new(Because::RecordUnusable, fault.message.clone()), None);
        }
        // The record of a login is made with the login: an empty one in its place would hide that it is lost.
        StateView::Absent if plan.spends() => return not_ours(),
        StateView::Absent => None,
        StateView::Stored { state, .. } if state.account.uid == uid => Some(state),
        // A predecessor's, of which the leader may have to be told first.
        StateView::Stored { state, .. } if plan.spends() || state.revocation.is_some() => return not_ours(),
        StateView::Stored { .. } => None,
    };
    let under_way = |state: &State| state.intent.as_ref().is_some_and(|intent| intent.deadline > now);
    let kept = |state: &State| plan.spends() && state.generation > refused.public.generation;
    if state.is_some_and(|state| under_way(state) || kept(state)) {
        return Verdict::Wait;
    }
    let prior = state.and_then(|state| state.demand.as_ref());
    if let Some(prior) = prior {
        let same = prior.rejected == refused.public.fingerprint;
        if same && prior.is_waited_for(now) {
            return Verdict::Wait;
        }
        // One that nobody has served does not count against whoever asks now.
        if prior.floor() > now && !(same && prior.pending) {
            return Verdict::Refuse(too_soon(prior, refused), Some(prior.floor()));
        }
    }
    let demand = Some(Demand::new(prior, refused, now));
    let state = match (state, view) {
        (Some(state), _) => state.clone(),
        (None, StateView::Stored { state, .. }) => bare(found, plan, refused, Some(state)),
        (None, _) => bare(found, plan, refused, None),
    };
    Verdict::Demand(Box::new(State { demand, ..state }))
}

/// Why the account has no newer token, as far as its status says: then asking changes nothing.
fn standing(status: &OAuthAccountStatus, plan: &Plan, now: Timestamp) -> Option<(Obstacle, Option<Timestamp>)> {
    if plan.suspended {
        let sentence = "spec.suspend keeps the operator from asking for another token.";
        return Some((Obstacle::new(Because::Suspended, sentence), None));
    }
    let told = |type_, because| find(status, type_).map(|there| Obstacle::new(because, there.message.clone()));
    if let Some(conflict) = told(ConditionType::SecretConflict, Because::SecretConflict) {
        return Some((conflict, None));
    }
    if let (Some(_), None) = (&status.authorization, &status.token)
        && let Some(awaited) = told(ConditionType::Ready, Because::ConsentRequired)
    {
        return Some((awaited, None));
    }
    let later = status.next_attempt_time.as_ref().map(|next| next.0);
    let patience = status.retry_after_time.as_ref().map(|until| until.0).filter(|until| *until > now);
    // What is due is tried at once.
    if status.failed_attempts > 0 && later.is_none_or(|later| later > now) {
        let over = [ConditionType::ReauthorizationRequired, ConditionType::DuplicateCredential, ConditionType::StateRolledBack];
        let over = over.into_iter().find_map(|type_| told(type_, Because::ReauthorizationRequired));
        let unknown = || told(ConditionType::RefreshOutcomeUnknown, Because::OutcomeUnknown);
        let failing = || told(ConditionType::RefreshFailing, Because::ProviderFailed);
        if let Some(obstacle) = over.or_else(unknown).or_else(failing) {
            return Some((obstacle, later.max(patience)));
        }
    }
    patience.map(|until| {
        let sentence = format!("The provider has asked for patience until {until}.");
        (Obstacle::new(Because::ProviderBusy, sentence), Some(until))
    })
}

fn too_soon(prior: &Demand, refused: &Record) -> Obstacle {
    if let Some(failure) = prior.failure.as_ref().filter(|_| prior.generation == refused.public.generation) {
        return failure.clone();
    }
    let floor = prior.floor();
    let sentence = if prior.generation == refused.public.generation {
        format!("Another token was asked for at {}, and none came; it is not asked for again before {floor}.", prior.at)
    } else {
        format!(
            "The token was refreshed at {} because an API refused the one before it, and this one is refused as well; it is not refreshed again before {floor}. See whether the API takes tokens of this account at all.",
            prior.at
        )
    };
    Obstacle::new(Because::TooSoon, sentence)
}

/// The record of an account that has none, because there is nothing to lose: of no login.
fn bare(found: &OAuthAccount, plan: &Plan, published: &Record, prior: Option<&State>) -> State {
    let metadata = &found.metadata;
    let account = super::Account {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    };
    let state = State::begun(account, Login::default(), published.public.generation, prior);
    State { policy: plan.state_policy, ..state }
}

/// The demand that the record has, where somebody waits for it and the published token is no answer to it.
pub fn wanted(seen: &Seen, record: &Record, now: Timestamp) -> bool {
    let demand = pending(seen);
    demand.is_some_and(|demand| demand.is_waited_for(now) && demand.rejected == record.public.fingerprint)
}

fn pending(seen: &Seen) -> Option<&Demand> {
    let (_, state) = seen.login.stored().filter(|(_, state)| state.account.uid == seen.uid())?;
    state.demand.as_ref().filter(|demand| demand.pending)
}

/// The write that answers the demand, once all was done for it that can be done now.
pub fn answer(seen: &Seen, now: Timestamp) -> Option<Next> {
    seen.demanded?;
    let demand = pending(seen)?.clone();
    let (version, state) = seen.login.stored()?;
    // A refresh is under way, of a process that lives, or of one that is waited for.
    if state.intent.is_some() {
        return None;
    }
    let served = seen.record().is_some_and(|record| record.public.fingerprint != demand.rejected);
    let failure = if served || issued(seen, &demand) { None } else { Some(obstacle(seen, &demand, now)) };
    let state = State { demand: Some(demand.answered(failure)), ..state.clone() };
    Some(Next::AnswerDemand { state, over: version.clone() })
}

/// Whether the provider has issued the very same token again.
fn issued(seen: &Seen, demand: &Demand) -> bool {
    seen.record().is_some_and(|record| record.public.generation > demand.generation)
}

fn obstacle(seen: &Seen, demand: &Demand, now: Timestamp) -> Obstacle {
    if let Some(fault) = seen.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref()) {
        return failed(fault);
    }
    if let Some((obstacle, _)) = seen.plan.as_ref().ok().and_then(|plan| standing(&seen.status, plan, now)) {
        return obstacle;
    }
    let sentence = if demand.is_waited_for(now) {
        "The operator could not ask for another token; the account's status says why."
    } else {
        "Nobody led the operator while another token was wanted; ask again."
    };
    Obstacle::new(Because::ProviderFailed, sentence)
}

/// A failed attempt, as whoever waits is told of it.
pub fn failed(fault: &Fault) -> Obstacle {
    Obstacle::new(Because::of(fault), fault.message.chars().take(1024).collect::<String>())
}

/// Whether the demand is one that the record is to be read for.
pub fn is_unread(seen: &Seen) -> bool {
    seen.demanded.is_some() && seen.login.state.is_none()
}

/// Whether status alone says that the provider is to be asked because of it.
pub fn is_due(seen: &Seen, now: Timestamp) -> bool {
    seen.demanded.is_some_and(|at| is_recent(at, now))
}
