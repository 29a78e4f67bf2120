//! A world made of values: a Secret, a status, a provider and a clock that the test sets.

use crate::account::seen::tests::{account, at, unseen};
use crate::account::{
    AttemptOutcome, Contents, Credentials, Held, Inputs, Next, Outcome, Record, SecretMark, Stray, TokenSecretView, decide,
    notices,
};
use crate::api::{ConditionType, ExpirySource, OAuthAccount, OAuthAccountStatus};
use crate::oauth::{Expiry, Fault, FaultKind, Sensitive, Token};
use jiff::{SignedDuration, Timestamp};

/// More turns than any pass may take.
const TURNS: usize = 16;

pub struct World {
    pub account: OAuthAccount,
    pub status: OAuthAccountStatus,
    pub secret: Option<(u64, Contents)>,
    pub foreign: bool,
    pub stray: Option<String>,
    pub unpublished: Option<Record>,
    /// What the provider answers, and for how many seconds its tokens live.
    pub provider: Result<i64, Fault>,
    /// Seconds that an answer takes.
    pub latency: i64,
    pub seed_version: u64,
    pub seed: Result<(), Fault>,
    pub token_hosts: Option<String>,
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
            latency: 0,
            seed_version: 1,
            seed: Ok(()),
            token_hosts: None,
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

    /// Reconciles until it rests; the moment until which it does.
    pub fn reconcile(&mut self) -> Option<Timestamp> {
        let mut seen = unseen(self.account.clone());
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
        for _ in 0..TURNS {
            let next = decide(&seen, self.now);
            if let Next::Rest(until) = next {
                self.unpublished = seen.unpublished;
                return until;
            }
            let outcome = self.act(next);
            seen = seen.after(outcome);
        }
        panic!("no rest within {TURNS} turns");
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

    pub fn act(&mut self, next: Next) -> Outcome {
        match next {
            Next::ReadTokenSecret(_) => Outcome::TokenSecretRead(match &self.secret {
                _ if self.foreign => TokenSecretView::Foreign("belongs to someone else".into()),
                None => TokenSecretView::Absent,
                Some((version, contents)) => TokenSecretView::Ours {
                    held: held(*version),
                    contents: contents.clone(),
                    record: Record::read(contents, self.status.token.as_ref()),
                },
            }),
            Next::ReadInputs(_) => Outcome::InputsRead(Inputs {
                references: self.seed_version.to_string(),
                credentials: self.seed.clone().map(|()| Credentials {
                    client_id: "app".into(),
                    client_secret: Sensitive::new("secret"),
                    ca_bundle: None,
                    token_hosts: vec![("app".into(), self.token_hosts.clone())],
                }),
            }),
            Next::FindEndpoint { .. } => Outcome::EndpointFound(Ok("https://login.example.com/token".parse().unwrap())),
            Next::Fail { trigger, fault } => Outcome::Failed(AttemptOutcome {
                trigger,
                started: self.now,
                finished: self.now,
                fault: Some(fault),
                issued: false,
            }),
            Next::Redeem { trigger, .. } => {
                self.requests += 1;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let result = self.provider.clone().map(|lifetime| Token {
                    access_token: Sensitive::new(format!("token-{}", self.requests)),
                    token_type: "Bearer".into(),
                    scopes: None,
                    expiry: Expiry { at: sent + SignedDuration::from_secs(lifetime), source: ExpirySource::Field },
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
                self.writes += 1;
                let version = self.secret.as_ref().map_or(1, |(version, _)| version + 1);
                self.secret = Some((version, contents));
                Outcome::Published { record, held: held(version) }
            }
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
            Next::Rest(_) => unreachable!("rest is no step"),
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
