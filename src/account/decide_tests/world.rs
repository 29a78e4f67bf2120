//! A world made of values: a Secret, a status, a provider and a clock that the test sets.

use super::person::{Answer, Person};
use super::provider::Provider;
use crate::account::health::{Checked, Verdict};
use crate::account::seen::tests::{account, at, unseen};
use crate::account::{
    AttemptOutcome, Contents, Credentials, Held, Inputs, Liveness, Next, Outcome, Plan, Polled, Record, Redemption, Restarted,
    SecretMark, Seen, State, StateView, Stray, TokenSecretView, Version, decide, notices,
};
use crate::api::{ConditionType, ExpirySource, OAuthAccount, OAuthAccountStatus, Trigger};
use crate::oauth::{
    DPOP, DPoPKey, Ending, Endpoint, Endpoints, Expiry, Fault, FaultKind, GrantRequest, Introspection, Reply, Sensitive, Token,
    TokenRequest,
};
use crate::world::key_pair;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

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
    /// Where the process ends in the next pass.
    pub crash: Option<Crash>,
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
            crash: None,
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
        for turn in 0..TURNS {
            let next = decide(&seen, self.now);
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
    fn version(&self) -> Option<Version> {
        self.state.as_ref().map(|(version, _)| Version { uid: "s".into(), resource_version: version.to_string() })
    }

    /// No refresh token is posted that is dead; none that may be spent is posted again without a reason.
    fn judge_post(&self, token: &str, armed: &State, intent: &crate::account::Intent) {
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
    fn published_key(&self) -> Option<&Sensitive> {
        self.secret.as_ref().and_then(|(_, contents)| contents.data.get("dpop_key"))
    }

    /// The key that a request proves, which must be written down.
    fn proves(&mut self, request: &TokenRequest, armed: &State) {
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
    fn store(&mut self, state: &State, over: Option<&Version>) -> Option<Version> {
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

    fn token_secret(&self) -> TokenSecretView {
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

    fn inputs(&self) -> Inputs {
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

    pub fn act(&mut self, next: Next) -> Outcome {
        match next {
            Next::ReadTokenSecret(_) => Outcome::TokenSecretRead(self.token_secret()),
            Next::ReadInputs(_) => Outcome::InputsRead(self.inputs()),
            Next::ReadAll(_) => Outcome::AllRead(self.token_secret(), self.inputs()),
            Next::FindEndpoint { .. } => Outcome::EndpointsFound(Ok(Endpoints::default()
                .with(Endpoint::Token, "https://login.example.com/token".parse().unwrap())
                .with(Endpoint::DeviceAuthorization, "https://login.example.com/device".parse().unwrap())
                .with(Endpoint::Registration, "https://login.example.com/register".parse().unwrap())
                .or(self.discovered.clone()))),
            Next::MakeKey(algorithm) => Outcome::KeyMade(key_pair::make(algorithm)),
            Next::Register { .. } => Outcome::Registered(self.person.register(self.now)),
            Next::Record { state, over } => match self.store(&state, over.as_ref()) {
                Some(version) => Outcome::Recorded { version, state },
                None => Outcome::KeepConflicted,
            },
            Next::BeginDevice { .. } => Outcome::DeviceBegun(self.person.begin(self.now)),
            Next::ShowCode(_) => {
                self.person.shown += 1;
                Outcome::CodeShown
            }
            Next::Poll { request, armed, interval, .. } => {
                assert!(self.person.polled.is_none_or(|polled| polled.next <= self.now), "polled too soon");
                let GrantRequest::DeviceCode(code) = &request.grant else { panic!("{request:?}") };
                self.person.polls += 1;
                let slower = self.person.polled.map_or(0, |polled| polled.slower);
                let later = Polled { next: self.now + SignedDuration::from_secs(interval + slower), slower };
                let ending = match self.person.answer {
                    Answer::None => {
                        self.person.polled = Some(later);
                        return Outcome::Polled(later);
                    }
                    Answer::Yes => {
                        (self.login.live, self.login.bound) = (Some(code.expose().to_owned()), None);
                        self.proves(&request, &armed);
                        self.login.post(code.expose())
                    }
                    Answer::No => Ending::Replied(Reply {
                        status: 400,
                        retry_after: None,
                        dpop_nonce: None,
                        body: br#"{"error":"access_denied"}"#.to_vec(),
                    }),
                };
                self.person.polled = Some(later);
                let intent = self.person.intent(&armed, self.passes, self.now);
                let (sent, finished) = (self.now, self.now);
                Outcome::Spent(Redemption { armed, intent, sent, finished, ending, secrets: vec![], journalled: true })
            }
            Next::ReadDeposit => Outcome::DepositRead(self.person.deposit.clone()),
            Next::ForgetDeposit(_) => {
                self.person.deposit = None;
                Outcome::DepositForgotten
            }
            Next::MintSubjectToken(_) => Outcome::SubjectTokenMinted(self.minted.clone()),
            Next::Fail { trigger, fault } => Outcome::Failed(AttemptOutcome {
                trigger,
                started: self.now,
                finished: self.now,
                fault: Some(fault),
                issued: false,
            }),
            Next::Heed { .. } => Outcome::Heeded,
            Next::ReadState => Outcome::StateRead(match &self.state {
                None => StateView::Absent,
                Some(_) if self.state_unreadable => {
                    StateView::Unreadable { fault: fault(FaultKind::StateUnreadable), version: self.version() }
                }
                Some((_, state)) => StateView::Stored { version: self.version().unwrap(), state: state.clone() },
            }),
            Next::ReadJournal { intent, armed } => {
                let found = self.journal.get(&intent.id).cloned();
                Outcome::JournalRead(found.map(|(reply, sent, finished)| Redemption {
                    armed,
                    intent,
                    sent,
                    finished,
                    ending: Ending::Replied(reply),
                    secrets: vec![],
                    journalled: true,
                }))
            }
            Next::FindDuplicate { .. } => Outcome::DuplicateSought(self.duplicate.clone()),
            Next::Introspect { .. } => {
                self.probes += 1;
                Outcome::Introspected(match &self.probe {
                    Liveness::Alive => Ok(Introspection { active: true, expires: Some(at(7200)) }),
                    Liveness::Dead => Ok(Introspection { active: false, expires: None }),
                    Liveness::Unclear(fault) => Err(fault.clone()),
                })
            }
            Next::CheckHealth { generation, dpop_key, .. } => {
                assert_eq!(dpop_key.as_ref(), self.published_key(), "asked by another key than the token's");
                self.health_checks += 1;
                let checked = Checked { at: self.now, generation, verdict: Some(self.verdict.clone()) };
                self.checked = Some(checked.clone());
                Outcome::HealthChecked(checked)
            }
            Next::Probe { dpop_key, .. } => {
                assert_eq!(dpop_key.as_ref(), self.published_key(), "asked by another key than the token's");
                self.probes += 1;
                Outcome::Probed(self.probe.clone())
            }
            Next::Arm { state, over } => {
                self.unposted = state.intent.as_ref().map(|intent| intent.id.clone());
                let began = Duration::from_secs(1000);
                match self.store(&state, over.as_ref()) {
                    Some(version) => Outcome::Armed { version, state, began },
                    None => Outcome::ArmUnclear { began },
                }
            }
            Next::Spend { request, intent, armed, began, .. } => {
                assert_eq!(began, Duration::from_secs(1000));
                let (GrantRequest::RefreshToken(token) | GrantRequest::AuthorizationCode { code: token, .. }) = &request.grant
                else {
                    panic!("{request:?}")
                };
                self.judge_post(token.expose(), &armed, &intent);
                self.proves(&request, &armed);
                self.requests += 1;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let ending = if self.held_up >= 10 {
                    Ending::NotSent(fault(FaultKind::HeldUp))
                } else {
                    self.unposted = None;
                    self.login.post(token.expose())
                };
                let looked_at = match &ending {
                    Ending::NotSent(_) => false,
                    Ending::Lost(_) => true,
                    Ending::Replied(reply) => [200, 400, 500, 502].contains(&reply.status),
                };
                if looked_at && self.login.rotates {
                    self.doubtful.insert(token.expose().to_owned());
                }
                if matches!(ending, Ending::NotSent(_)) {
                    self.unposted = Some(intent.id.clone());
                }
                let secrets = request.secrets();
                Outcome::Spent(Redemption { armed, intent, sent, finished: self.now, ending, secrets, journalled: false })
            }
            Next::Journal { intent, reply, sent, finished } => {
                if self.journals {
                    self.journal.insert(intent.id, (reply, sent, finished));
                }
                Outcome::Journalled
            }
            Next::GiveWay => Outcome::KeepConflicted,
            Next::AnswerDemand { state, over } => {
                Outcome::DemandAnswered(self.store(&state, Some(&over)).map(|version| (version, state)))
            }
            Next::Keep { state, over, settlement } => match self.store(&state, over.as_ref()) {
                Some(version) => {
                    self.unposted = None;
                    self.dead.extend(state.tombstones.iter().cloned());
                    state.settled.as_ref().map(|id| self.journal.remove(id));
                    Outcome::Kept { version, state, settlement }
                }
                None => Outcome::KeepConflicted,
            },
            Next::Redeem { trigger, request, .. } => {
                self.requests += 1;
                let bound = request.dpop_key.is_some() && self.login.binds;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let result = self.provider.clone().map(|lifetime| Token {
                    access_token: Sensitive::new(format!("token-{}", self.requests)),
                    token_type: if bound { DPOP } else { "Bearer" }.into(),
                    scopes: self.granted.clone(),
                    expiry: Expiry { at: sent + SignedDuration::from_secs(lifetime), source: self.source },
                    refresh_token: None,
                    refresh_token_expires: None,
                    refresh_at: None,
                    earliest_refresh_at: None,
                    subject: None,
                    extra: BTreeMap::new(),
                });
                Outcome::Redeemed { trigger, sent, finished: self.now, result }
            }
            Next::Publish { record, contents, over, .. } => {
                self.offered += 1;
                if let Some(fault) = &self.write_refused {
                    return Outcome::PublishRefused { at: self.now, fault: fault.clone() };
                }
                if self.conflicts > 0 {
                    self.conflicts -= 1;
                    return Outcome::PublishConflicted;
                }
                if over != self.secret.as_ref().map(|(version, _)| held(*version)) {
                    return Outcome::PublishConflicted;
                }
                let token = &record.access_token;
                let healed = self.secret.as_ref().is_some_and(|(_, there)| there.data.get("access_token") == Some(token));
                self.heals.extend(healed.then_some(self.now));
                self.writes += 1;
                self.versions += 1;
                let version = self.versions;
                self.secret = Some((version, contents.clone()));
                Outcome::Published { record, contents, held: held(version) }
            }
            Next::Restart { generation, .. } => {
                self.restarts.push(generation);
                let failure = self.restart_refused.then(|| "Not restarted with the new token: forbidden.".to_owned());
                Outcome::Restarted(Restarted { at: self.now, generation, failure })
            }
            Next::Withhold(fault) => Outcome::PublishRefused { at: self.now, fault },
            Next::Prune(stray) => {
                self.writes += 1;
                self.stray = None;
                Outcome::Pruned(stray)
            }
            Next::Say(status) => {
                self.status_writes += 1;
                self.told.extend(notices(&self.status, &status).into_iter().map(|notice| notice.reason));
                self.status = status.clone();
                Outcome::Said(status)
            }
            Next::TakeTurn(_) | Next::Rest(_) => unreachable!("no steps"),
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
