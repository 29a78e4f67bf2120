//! A world made of values: a Secret, a status, a provider and a clock that the test sets.

use super::person::Person;
use super::provider::Provider;
use crate::account::health::{Checked, Verdict};
use crate::account::memory::Untold;
use crate::account::observe::resumed;
use crate::account::seen::tests::{account, at, unseen};
use crate::account::telling::may_wait;
use crate::account::{
    Contents, Credentials, Held, INTENT_LIFETIME, Inputs, Liveness, Next, Plan, Record, SecretMark, Seen, State, Stray,
    TokenSecretView, Version, decide,
};
use crate::api::{ConditionType, ExpirySource, OAuthAccount, OAuthAccountStatus, Trigger};
use crate::oauth::{DPoPKey, Endpoints, Fault, FaultKind, Reply, Sensitive, TokenRequest};
use jiff::{SignedDuration, Timestamp};
use std::collections::{HashMap, HashSet};

/// What others are told a pass does that is not told of yet.
pub const WAITS_TO_BE_TOLD_OF: &str = "wait to be told of";
/// More turns than any pass may take.
const TURNS: usize = 24;

/// Where a process ends before its pass does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before the step of this number.
    Before(usize),
    /// After its effect, before anybody here knows of it.
    After(usize),
    /// After the effect of the step of this name.
    AfterStep(&'static str),
}

pub struct World {
    pub account: OAuthAccount,
    pub status: OAuthAccountStatus,
    pub secret: Option<(u64, Contents)>,
    pub foreign: bool,
    pub stray: Option<String>,
    pub unpublished: Option<Record>,
    /// What the provider answers, and for how many seconds its tokens live.
    pub provider: Result<i64, Fault>,
    /// Generations of the tokens that workloads were restarted for.
    pub restarts: Vec<i64>,
    pub restart_refused: bool,
    /// Scopes that the provider names as granted.
    pub granted: Option<Vec<String>>,
    /// Seconds that an answer takes.
    pub latency: i64,
    pub seed_version: u64,
    pub seed: Result<(), Fault>,
    pub token_hosts: Option<String>,
    /// The refresh token in the seed; what stands in the way of reading it.
    pub refresh_token: Result<String, Fault>,
    /// The provider of refresh tokens.
    pub login: Provider,
    /// The operator's record, with its version.
    pub state: Option<(u64, State)>,
    /// Versions given out so far.
    pub versions: u64,
    /// Whether the record can be read.
    pub state_unreadable: bool,
    pub journal: HashMap<String, (Reply, Timestamp, Timestamp)>,
    /// Whether replies are journalled.
    pub journals: bool,
    pub duplicate: Option<String>,
    pub heals: Vec<Timestamp>,
    /// Whom the Secrets and the spec make of us.
    pub client_id: String,
    /// Who says when a token expires.
    pub source: ExpirySource,
    /// What the provider's metadata say beside the usual.
    pub discovered: Endpoints,
    /// What the resource server of the health check says.
    pub verdict: Verdict,
    pub checked: Option<Checked>,
    pub health_checks: u64,
    /// Who is to consent, and the pages that they do it on.
    pub person: Person,
    /// The token of a ServiceAccount, or why there is none.
    pub minted: Result<Sensitive, Fault>,
    /// What the resource server says of the published token.
    pub probe: Liveness,
    pub probes: u64,
    pub identity: String,
    /// Counts passes: each has entropy of its own.
    pub passes: u64,
    /// The intent that the living process surely has not posted.
    pub unposted: Option<String>,
    pub unsteady_until: Option<Timestamp>,
    /// By how much the clock of whoever armed it is ahead of ours.
    pub skew: SignedDuration,
    /// Where the process ends in the next pass.
    pub crash: Option<Crash>,
    /// Whether others are being told of, so that whoever may be told of later is.
    pub tells_later: bool,
    /// The step after which it ended last.
    pub ended_after: &'static str,
    /// Refresh tokens whose last POST may have spent them.
    pub doubtful: HashSet<String>,
    /// Digests of what must never be posted again.
    pub dead: Vec<String>,
    /// Names of the steps of the last pass.
    pub steps: Vec<&'static str>,
    pub state_writes: u64,
    /// Seconds between ARM and the first byte.
    pub held_up: u64,
    pub write_refused: Option<Fault>,
    pub conflicts: u32,
    /// Writes of the Secret that were tried.
    pub offered: u64,
    pub writes: u64,
    pub requests: u64,
    pub status_writes: u64,
    pub told: Vec<String>,
    pub now: Timestamp,
}

impl World {
    pub fn new(patch: &serde_json::Value) -> Self {
        Self {
            account: account(patch),
            status: OAuthAccountStatus::default(),
            secret: None,
            foreign: false,
            stray: None,
            unpublished: None,
            provider: Ok(3600),
            restarts: vec![],
            restart_refused: false,
            granted: None,
            latency: 0,
            seed_version: 1,
            seed: Ok(()),
            minted: Ok(Sensitive::new("minted")),
            person: Person::default(),
            heals: vec![],
            client_id: "app".into(),
            source: ExpirySource::Field,
            discovered: Endpoints::default(),
            verdict: Verdict::Accepted,
            checked: None,
            health_checks: 0,
            token_hosts: None,
            refresh_token: Ok("r1".into()),
            login: Provider::new(),
            state: None,
            versions: 0,
            state_unreadable: false,
            journal: HashMap::new(),
            journals: true,
            duplicate: None,
            probe: Liveness::Alive,
            probes: 0,
            identity: "operator-1".into(),
            passes: 0,
            unposted: None,
            unsteady_until: None,
            skew: SignedDuration::ZERO,
            crash: None,
            tells_later: false,
            ended_after: "",
            doubtful: HashSet::new(),
            dead: vec![],
            steps: vec![],
            state_writes: 0,
            held_up: 0,
            write_refused: None,
            conflicts: 0,
            offered: 0,
            writes: 0,
            requests: 0,
            status_writes: 0,
            told: vec![],
            now: at(0),
        }
    }

    /// Reconciles until it rests; the moment until which it does. A process that ends in between begins anew with what is
    /// stored, and this with it.
    pub fn reconcile(&mut self) -> Option<Timestamp> {
        loop {
            if let Ok(until) = self.pass() {
                return until;
            }
        }
    }

    /// One pass; an error where the process ended in it.
    pub fn pass(&mut self) -> Result<Option<Timestamp>, ()> {
        self.pass_beside(|_, _| {})
    }

    /// One pass beside others, who act before each of its steps.
    pub fn pass_beside(&mut self, mut others: impl FnMut(&mut Self, &'static str)) -> Result<Option<Timestamp>, ()> {
        let mut seen = self.observe();
        self.steps.clear();
        let mut awaited = false;
        // Whoever waits to be told of has another pass afterwards.
        for turn in 0..TURNS * (1 + usize::from(self.tells_later)) {
            let next = decide(&seen, self.now);
            let plan = seen.plan.as_ref().ok().filter(|_| self.tells_later && !awaited && matches!(next, Next::Say(_)));
            if plan.is_some_and(|plan| may_wait(&seen, plan, self.now)) {
                others(self, WAITS_TO_BE_TOLD_OF);
                // Looked at anew, with nothing but what was attempted.
                let (generation, request) = (Some(seen.generation()), seen.answering);
                let attempt = seen.attempt.take().unwrap();
                self.unpublished = seen.unpublished.take();
                seen = resumed(self.observe(), Untold { attempt, generation, request });
                awaited = true;
                continue;
            }
            if let Next::Rest(until) = next {
                self.unpublished = seen.unpublished;
                return Ok(until);
            }
            if let Next::TakeTurn(_) = next {
                // Looked at anew, with nothing but the turn.
                seen = Seen { turn: true, instance: seen.instance.clone(), ..self.observe() };
                continue;
            }
            if self.crash == Some(Crash::Before(turn)) {
                self.ended_after = self.steps.last().copied().unwrap_or_default();
                return self.end();
            }
            let step = name(&next);
            others(self, step);
            self.steps.push(step);
            let outcome = self.act(next);
            if [Crash::After(turn), Crash::AfterStep(step)].map(Some).contains(&self.crash) {
                self.ended_after = step;
                return self.end();
            }
            seen = seen.after(outcome);
        }
        panic!("no rest within {TURNS} turns: {:?}", self.steps);
    }

    /// The process ends: what it only remembered is gone.
    fn end(&mut self) -> Result<Option<Timestamp>, ()> {
        (self.crash, self.unposted, self.unpublished, self.person.polled) = (None, None, None, None);
        Err(())
    }

    /// What a pass sees first.
    pub fn observe(&mut self) -> Seen {
        let mut seen = unseen(self.account.clone());
        self.passes += 1;
        seen.instance.entropy[..8].copy_from_slice(&self.passes.to_be_bytes());
        seen.instance.identity.clone_from(&self.identity);
        seen.instance.unposted.clone_from(&self.unposted);
        seen.instance.unsteady_until = self.unsteady_until;
        // The watch has told of it as soon as it was written.
        let intent = self.state.as_ref().and_then(|(_, state)| state.intent.as_ref());
        seen.instance.armed = intent.map(|intent| (intent.id.as_str().into(), intent.deadline - INTENT_LIFETIME - self.skew));
        seen.status = self.status.clone();
        // The index knows our own Secrets only.
        let ours = self.secret.as_ref().filter(|_| !self.foreign);
        seen.mark = ours.map(|(version, _)| SecretMark { resource_version: version.to_string() });
        seen.strays = self
            .stray
            .iter()
            .map(|name| Stray { name: name.clone(), uid: String::new(), resource_version: String::new() })
            .collect();
        seen.unpublished = self.unpublished.take();
        seen.policy.consent_url = self.person.pages.map(Into::into);
        seen.plan = Plan::of(&seen.account).and_then(|plan| plan.permitted(&seen.policy));
        seen.deposited = self.person.deposit.is_some();
        let demand = self.state.as_ref().and_then(|(_, state)| state.demand.as_ref());
        seen.demanded = demand.filter(|demand| demand.pending).map(|demand| demand.at);
        seen.polled = self.person.polled;
        seen.checked = self.checked.clone();
        seen.heals = self.heals.clone();
        seen
    }

    /// The version of the record that stands, as a write must name it.
    pub(super) fn version(&self) -> Option<Version> {
        self.state.as_ref().map(|(version, _)| Version { uid: "s".into(), resource_version: version.to_string() })
    }

    /// No refresh token is posted that is dead; none that may be spent is posted again without a reason.
    pub(super) fn judge_post(&self, token: &str, armed: &State, intent: &crate::account::Intent) {
        assert!(!self.dead.contains(&Sensitive::new(token).digest()), "a dead refresh token is posted: {:?}", self.steps);
        assert_eq!(self.state.as_ref().and_then(|(_, state)| state.intent.as_ref()), Some(intent), "posted without an intent");
        if self.doubtful.contains(token) {
            let doubt = armed.credential.as_ref().and_then(|credential| credential.doubt);
            assert!(doubt.is_some(), "{token} may be spent and is posted as if it were not: {:?}", self.steps);
            let published = self.secret.as_ref().and_then(|(_, contents)| Record::read(contents, self.status.token.as_ref()));
            let left = published.map_or(0, |record| record.public.expiration_time.0.duration_since(self.now).as_secs());
            // What else allows it has tests of its own.
            let nearly_spent = left <= 300 || self.account.spec.provider.overrides.is_some();
            assert!(nearly_spent || intent.trigger == Trigger::Requested, "{token} is gambled with while {left} s are left");
        }
    }

    /// The key in the token Secret.
    pub(super) fn published_key(&self) -> Option<&Sensitive> {
        self.secret.as_ref().and_then(|(_, contents)| contents.data.get("dpop_key"))
    }

    /// The key that a request proves, which must be written down.
    pub(super) fn proves(&mut self, request: &TokenRequest, armed: &State) {
        let stored = self.state.as_ref().and_then(|(_, state)| state.credential.as_ref());
        assert_eq!(request.dpop_key, armed.credential.as_ref().unwrap().dpop_key);
        assert_eq!(request.dpop_key, stored.unwrap().dpop_key, "a key is used that is not written down: {:?}", self.steps);
        self.login.proof = request.dpop_key.as_ref().map(|key| DPoPKey::read(key).unwrap().thumbprint());
    }

    /// Another instance, or a person, changes the record.
    pub fn overwrite(&mut self, change: impl FnOnce(State) -> State) {
        let (_, state) = self.state.take().unwrap();
        self.versions += 1;
        self.state = Some((self.versions, change(state)));
    }

    /// Writes the record by compare-and-swap.
    pub(super) fn store(&mut self, state: &State, over: Option<&Version>) -> Option<Version> {
        if over != self.version().as_ref() {
            return None;
        }
        self.versions += 1;
        self.state_writes += 1;
        self.state_unreadable = false;
        self.state = Some((self.versions, state.clone()));
        self.version()
    }

    /// Lets the clock run to `seconds`, waking as often as the decisions ask for.
    pub fn run_until(&mut self, seconds: i64) {
        loop {
            let until = self.reconcile().unwrap_or(at(seconds));
            if until > at(seconds) {
                self.now = at(seconds);
                self.reconcile();
                return;
            }
            self.now = until;
        }
    }

    pub(super) fn token_secret(&self) -> TokenSecretView {
        match &self.secret {
            _ if self.foreign => TokenSecretView::Foreign("belongs to someone else".into()),
            None => TokenSecretView::Absent,
            Some((version, contents)) => TokenSecretView::Ours {
                held: held(*version),
                contents: contents.clone(),
                record: Record::read(contents, self.status.token.as_ref()),
            },
        }
    }

    pub(super) fn inputs(&self) -> Inputs {
        Inputs {
            references: self.seed_version.to_string(),
            credentials: self.seed.clone().map(|()| Credentials {
                client_id: self.client_id.clone(),
                client_secret: Some(Sensitive::new("secret")),
                identity: None,
                grant: None,
                seed: Some(self.refresh_token.clone().map(Sensitive::new)),
                ca_bundle: None,
                token_hosts: vec![("app".into(), self.token_hosts.clone())],
            }),
        }
    }

    pub fn condition(&self, type_: ConditionType) -> Option<(String, String)> {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
        found.map(|condition| (condition.status.clone(), condition.reason.clone()))
    }

    pub fn ready(&self) -> (String, String) {
        self.condition(ConditionType::Ready).unwrap()
    }

    pub fn edit(&mut self, patch: &serde_json::Value) {
        let generation = self.account.metadata.generation.map(|generation| generation + 1);
        self.account = account(patch);
        self.account.metadata.generation = generation;
    }

    pub fn token(&self) -> &str {
        self.secret.as_ref().unwrap().1.data["access_token"].expose()
    }
}

/// What a step is called in lists of steps.
pub fn name(next: &Next) -> &'static str {
    match next {
        Next::ReadTokenSecret(_) => "read token Secret",
        Next::ReadInputs(_) => "read inputs",
        Next::ReadAll(_) => "read all",
        Next::FindEndpoint { .. } => "find endpoint",
        Next::MintSubjectToken(_) => "mint subject token",
        Next::MakeKey(_) => "make key",
        Next::Register { .. } => "register",
        Next::Record { .. } => "record",
        Next::BeginDevice { .. } => "begin device",
        Next::ShowCode(_) => "show code",
        Next::Poll { .. } => "poll",
        Next::ReadDeposit => "read deposit",
        Next::ForgetDeposit(_) => "forget deposit",
        Next::Fail { .. } => "fail",
        Next::ReadState => "read state",
        Next::ReadJournal { .. } => "read journal",
        Next::FindDuplicate { .. } => "find duplicate",
        Next::Introspect { .. } => "introspect",
        Next::CheckHealth { .. } => "check health",
        Next::Probe { .. } => "probe",
        Next::TakeTurn(_) => "take turn",
        Next::Heed { .. } => "heed",
        Next::Arm { .. } => "arm",
        Next::Spend { .. } => "spend",
        Next::Journal { .. } => "journal",
        Next::GiveWay => "give way",
        Next::AnswerDemand { .. } => "answer demand",
        Next::Keep { .. } => "keep",
        Next::Redeem { .. } => "redeem",
        Next::Publish { .. } => "publish",
        Next::Restart { .. } => "restart",
        Next::Withhold(_) => "withhold",
        Next::Prune(_) => "prune",
        Next::Say(_) => "say",
        Next::Rest(_) => "rest",
    }
}

pub fn held(version: u64) -> Held {
    Held { uid: "s".into(), resource_version: version.to_string(), unalterable: false, disowned: false }
}

pub fn yes(reason: &str) -> (String, String) {
    ("True".into(), reason.into())
}

pub fn no(reason: &str) -> (String, String) {
    ("False".into(), reason.into())
}

pub fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, "something is wrong")
}
