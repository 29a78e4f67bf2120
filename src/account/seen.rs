//! What has been seen of one account: the argument of `decide`.

use super::health::Checked;
use super::login_seen::{Instance, LoginSeen};
use super::schedule::renewal;
use super::{Contents, Inputs, Plan, Policy, Polled, Record, Refusal, Restarted};
use crate::api::{Attempt, AttemptResult, OAuthAccount, OAuthAccountStatus, TokenStatus, Trigger};
use crate::oauth::{Endpoints, Fault, FaultKind, Introspection, Sensitive};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// What the watch of Secrets says of the token Secret, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretMark {
    /// Its resourceVersion.
    pub resource_version: String,
}

/// A Secret of ours, as it must still be when it is written over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
    /// Its type or immutability stand in the way of a change: it is deleted and made anew.
    pub unalterable: bool,
    /// Its ownerReference is not as the policies want it: somebody took it away, or they changed.
    pub disowned: bool,
}

/// A Secret of ours under a name that is no longer the one to publish in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

/// The token Secret as a live read found it.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenSecretView {
    /// There is none.
    Absent,
    /// There is one that this account does not own; why, in a clause.
    Foreign(String),
    /// There is one that is about to go; why, in a clause.
    Departing(String),
    /// Ours.
    Ours {
        /// Which one it is.
        held: Held,
        /// What it holds.
        contents: Contents,
        /// The record read from it; none where somebody has changed it.
        record: Option<Record>,
    },
}

/// An attempt that came to its end in this turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// Why it was made.
    pub trigger: Trigger,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Why no token came, or none could be published.
    pub fault: Option<Fault>,
    /// Whether the provider issued a token.
    pub issued: bool,
}

/// Everything known about one account at this moment. What is `None` has not been looked at.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The object, from the cache.
    pub account: Arc<OAuthAccount>,
    /// Its spec, understood or refused.
    pub plan: Result<Plan, Refusal>,
    /// The status last written, which the cache may not show yet.
    pub status: OAuthAccountStatus,
    /// What the watch says of the token Secret.
    pub mark: Option<SecretMark>,
    /// Secrets this account owns beside the one it publishes in now.
    pub strays: Vec<Stray>,
    /// What the operator's configuration says of all accounts.
    pub policy: Policy,
    /// Whether the consent pages have left something.
    pub deposited: bool,
    /// Since when somebody waits for a newer token, as the watch of records has told.
    pub demanded: Option<Timestamp>,
    /// When the token Secret was last put right.
    pub heals: Vec<Timestamp>,
    /// What the provider says of a token, where it was asked in this pass.
    pub introspected: Option<Result<Introspection, Fault>>,
    /// The last check of the token's health.
    pub checked: Option<Checked>,
    /// When a device is polled next.
    pub polled: Option<Polled>,
    /// Who decides.
    pub instance: Instance,
    /// The login, where a refresh token is held.
    pub login: LoginSeen,
    /// Whether our turn at the provider's gate has come.
    pub turn: bool,
    /// Whether the provider has not asked for patience.
    pub heeded: bool,
    /// The token Secret, read live.
    pub token_secret: Option<TokenSecretView>,
    /// The references, read live.
    pub inputs: Option<Inputs>,
    /// Where the provider is asked what.
    pub endpoints: Option<Result<Endpoints, Fault>>,
    /// The token of a ServiceAccount that is to be exchanged.
    pub subject_token: Option<Result<Sensitive, Fault>>,
    /// A private key made in this pass, PEM: that of a login that begins, or of one token that spends nothing.
    pub dpop_key: Option<Sensitive>,
    /// The attempt that status does not tell of yet.
    pub attempt: Option<AttemptOutcome>,
    /// The request of a person's that it answers.
    pub answering: Option<Timestamp>,
    /// Whether an attempt was made in this pass, or with this spec in one that broke off: there is one at most.
    pub attempted: bool,
    /// Whether the account turned out to be gone.
    pub gone: bool,
    /// A token that is in no Secret yet.
    pub unpublished: Option<Record>,
    /// The API server refused to have the Secret written in this turn.
    pub publish_refused: bool,
    /// The restart of this pass.
    pub restarted: Option<Restarted>,
}

impl Seen {
    /// The token to publish: one that is in no Secret yet, or what the operator's record of the login holds and the Secret
    /// does not.
    pub fn to_publish(&self) -> Option<&Record> {
        // Not while a refresh of ours is armed: its token is on the way.
        let armed = |state: &super::State| state.intent.as_ref().is_some_and(|intent| intent.id == self.instance.intent_id());
        // For a grant that spends nothing the token Secret is the record, whatever else there is.
        let spends = self.plan.as_ref().is_ok_and(Plan::spends);
        let kept = self.login.stored().filter(|(_, state)| spends && state.account.uid == self.uid() && !armed(state));
        let kept = kept.and_then(|(_, state)| state.record.as_ref());
        let published = self.record().map(|record| &record.access_token);
        self.unpublished.as_ref().or(kept.filter(|kept| published != Some(&kept.access_token)))
    }

    /// When the provider says that the refresh token ends.
    pub fn refresh_token_expires(&self) -> Option<Timestamp> {
        match self.login.stored() {
            Some((_, state)) => state.credential.as_ref().and_then(|credential| credential.expires),
            None => self.status.refresh_token_expiration_time.as_ref().map(|time| time.0),
        }
    }

    /// When a token is to be refreshed.
    pub fn renewal(&self, token: &TokenStatus, plan: &Plan) -> Timestamp {
        renewal(token, &plan.schedule, self.refresh_token_expires().filter(|_| plan.spends()), self.uid())
    }

    /// Whether a token answers what is asked for and need not be replaced yet.
    pub fn serves(&self, record: &Record, plan: &Plan, now: Timestamp) -> bool {
        record.request_digest == plan.request_digest() && self.renewal(&record.public, plan) > now
    }

    /// Generation of the object's spec.
    pub fn generation(&self) -> i64 {
        self.account.metadata.generation.unwrap_or_default()
    }

    /// UID of the object.
    pub fn uid(&self) -> &str {
        self.account.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The record in the token Secret, where it was read and is whole.
    pub fn record(&self) -> Option<&Record> {
        match &self.token_secret {
            Some(TokenSecretView::Ours { record, .. }) => record.as_ref(),
            _ => None,
        }
    }

    /// What is published, to the best of our knowledge: as read, or as status says of a Secret that nobody has touched.
    pub fn standing(&self) -> Option<&TokenStatus> {
        match &self.token_secret {
            Some(_) => self.record().map(|record| &record.public),
            None => self.status.token.as_ref().filter(|_| self.status.token_secret_resource_version.is_some()),
        }
    }

    /// When a person asked for a new token, if that was not tried yet.
    pub fn requested(&self) -> Option<Timestamp> {
        let requested = self.plan.as_ref().ok()?.requested?;
        let handled = self.status.last_handled_refresh_time.as_ref().is_some_and(|handled| handled.0 == requested);
        (!handled && self.answered() != Some(requested)).then_some(requested)
    }

    /// The request that was answered last, as the record of the login has it.
    pub fn answered(&self) -> Option<Timestamp> {
        self.login.stored().filter(|(_, state)| state.account.uid == self.uid()).and_then(|(_, state)| state.answered)
    }

    /// Whether the last attempt failed and the next one is not due; where the login is over, there is none before something
    /// changes.
    pub fn waits(&self, now: Timestamp) -> bool {
        let over = last_fault(&self.status).is_some_and(FaultKind::ends_the_login);
        let later = self.status.next_attempt_time.as_ref().map_or(over, |next| next.0 > now);
        self.status.failed_attempts > 0 && later
    }

    /// Whether the spec has changed since status spoke of it.
    pub fn is_edited(&self) -> bool {
        self.status.observed_generation != Some(self.generation())
    }

    /// Whether the API server refused our last write of the Secret, and nothing has changed since.
    pub fn write_refused(&self, now: Timestamp) -> bool {
        let last = last_fault(&self.status);
        let refused = matches!(last, Some(FaultKind::ApiRefused | FaultKind::TemplateFailed));
        self.attempt.is_none() && self.waits(now) && !self.is_edited() && refused
    }

    /// Whether the last attempt has put the login itself in question: then the state of the token excuses nothing.
    pub fn login_in_question(&self) -> bool {
        let spends = self.plan.as_ref().is_ok_and(Plan::spends);
        let told = self.status.token.as_ref().map_or(0, |token| token.generation);
        // A token came since, and the operator ended before it could say so.
        let answered = self.login.stored().is_some_and(|(_, state)| state.generation > told);
        spends
            && !answered
            && self.status.failed_attempts > 0
            && last_fault(&self.status).is_some_and(FaultKind::touches_the_login)
    }

    /// Whether what the failed attempt read has changed since.
    pub fn references_changed(&self) -> bool {
        match (&self.inputs, &self.status.observed_references) {
            (Some(inputs), Some(observed)) => inputs.references != *observed,
            _ => false,
        }
    }

    /// Whether the provider asked not to be asked yet: that outlives every change but a person's word.
    pub fn asked_for_patience(&self, now: Timestamp) -> bool {
        self.status.retry_after_time.as_ref().is_some_and(|until| until.0 > now)
    }

    /// Until when a Secret that keeps vanishing is not made again: with each token that was obtained for want of one in the
    /// last minutes the pause doubles, or whoever deletes what we write would drive us as fast as he can.
    pub fn pause_for_vandals(&self) -> Option<Timestamp> {
        let last = self.status.history.first()?.start_time.0;
        let recent = |attempt: &&Attempt| {
            let missing = attempt.trigger == Trigger::Missing && attempt.result == AttemptResult::Succeeded;
            missing && last.duration_since(attempt.start_time.0) < SignedDuration::from_mins(3)
        };
        match self.status.history.iter().filter(recent).count() {
            0..=2 => None,
            many => Some(last + SignedDuration::from_secs(1 << (2 * many.min(5) - 4))),
        }
    }

    /// Until when a Secret that is edited again and again is left as it is: somebody else's controller would drive us as fast
    /// as it can. From the fourth time within three minutes on the pause doubles, to a minute.
    pub fn pause_for_rivals(&self, now: Timestamp) -> Option<Timestamp> {
        let last = *self.heals.last()?;
        let recent = self.heals.iter().filter(|heal| last.duration_since(**heal) < SignedDuration::from_mins(3)).count();
        let pause = SignedDuration::from_secs(1 << (2 * recent.clamp(4, 7) - 6)).min(SignedDuration::from_mins(1));
        (recent >= 4).then_some(last + pause).filter(|until| *until > now)
    }

    /// Generation of the newest token that the account has had.
    pub fn generation_of_token(&self) -> i64 {
        let in_secret = self.record().map_or(0, |record| record.public.generation);
        let in_status = self.status.token.as_ref().map_or(0, |token| token.generation);
        let in_state = self.login.stored().map_or(0, |(_, state)| state.generation);
        in_secret.max(in_status).max(in_state)
    }
}

/// Why the last attempt failed, if it did.
pub(super) fn last_fault(status: &OAuthAccountStatus) -> Option<FaultKind> {
    status.history.first().and_then(|attempt| attempt.fault.as_deref()).and_then(FaultKind::named)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::ExpirySource;
    use crate::oauth::{Expiry, Sensitive, Token};
    use serde_json::{Value, json};

    /// The moment at which every table of these tests begins.
    pub fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    /// `start` and so many seconds.
    pub fn at(seconds: i64) -> Timestamp {
        start() + SignedDuration::from_secs(seconds)
    }

    /// A valid account, with `patch` merged into its spec.
    pub fn account(patch: &Value) -> OAuthAccount {
        fn merge(base: &mut Value, patch: &Value) {
            match (base, patch) {
                (Value::Object(base), Value::Object(patch)) => {
                    for (key, value) in patch {
                        if value.is_null() {
                            base.remove(key);
                        } else {
                            merge(base.entry(key.clone()).or_insert(Value::Null), value);
                        }
                    }
                }
                (base, patch) => *base = patch.clone(),
            }
        }
        let mut spec = json!({
            "provider": {"issuer": "https://login.example.com"},
            "client": {"id": "app", "secretRef": {"name": "app", "key": "client_secret"}},
            "grant": {"clientCredentials": {}},
            "scopes": ["read"]
        });
        merge(&mut spec, patch);
        serde_json::from_value(json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount",
            "metadata": {"name": "demo", "namespace": "apps", "uid": "7d0c", "generation": 1},
            "spec": spec
        }))
        .unwrap()
    }

    /// A token of so many seconds issued at `start`.
    pub fn record(generation: i64, lifetime: i64) -> Record {
        let token = Token {
            access_token: Sensitive::new(format!("token-{generation}")),
            token_type: "Bearer".into(),
            scopes: None,
            expiry: Expiry { at: at(lifetime), source: ExpirySource::Field },
            refresh_token: None,
            refresh_token_expires: None,
            refresh_at: None,
            earliest_refresh_at: None,
            subject: None,
            extra: std::collections::BTreeMap::new(),
        };
        Record::issued(&token, &Plan::of(&account(&json!({}))).unwrap(), generation, start(), None)
    }

    /// An account that nobody has looked at.
    pub fn unseen(account: OAuthAccount) -> Seen {
        Seen {
            plan: Plan::of(&account),
            status: account.status.clone().unwrap_or_default(),
            account: Arc::new(account),
            mark: None,
            strays: vec![],
            policy: Policy::default(),
            deposited: false,
            demanded: None,
            heals: vec![],
            introspected: None,
            checked: None,
            polled: None,
            instance: Instance {
                identity: "operator-1".into(),
                entropy: [7; 32],
                unposted: None,
                unsteady_until: None,
                armed: None,
            },
            login: LoginSeen::default(),
            turn: false,
            heeded: false,
            token_secret: None,
            inputs: None,
            endpoints: None,
            subject_token: None,
            dpop_key: None,
            attempt: None,
            answering: None,
            attempted: false,
            gone: false,
            unpublished: None,
            publish_refused: false,
            restarted: None,
        }
    }
}
