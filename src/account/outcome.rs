//! What came of a step, and how it changes what has been seen.

use super::consent::{Deposit, Polled};
use super::health::Checked;
use super::login_seen::{Liveness, Redemption, Settlement};
use super::{
    AttemptOutcome, Contents, Held, Inputs, Record, Restarted, SecretMark, Seen, State, StateView, Stray, TokenSecretView,
    Version,
};
use crate::api::{ExpirySource, OAuthAccountStatus, Trigger};
use crate::oauth::{
    DeviceAuthorization, Ending, Endpoints, Fault, FaultKind, Introspection, RegisteredClient, Sensitive, Token, judge,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

/// What came of a step.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The token Secret was read.
    TokenSecretRead(TokenSecretView),
    /// The references were read.
    InputsRead(Inputs),
    /// The token Secret and the references were read.
    AllRead(TokenSecretView, Inputs),
    /// The endpoints were sought.
    EndpointsFound(Result<Endpoints, Fault>),
    /// The provider has registered a client for us, or not.
    Registered(Result<RegisteredClient, Fault>),
    /// The record of a login that begins was written.
    Recorded {
        /// As which version.
        version: Version,
        /// What was written.
        state: State,
    },
    /// The provider gave a code for a person to enter, or not.
    DeviceBegun(Result<DeviceAuthorization, Fault>),
    /// The code is shown.
    CodeShown,
    /// A device was polled, and nobody has entered the code yet; when it is polled next.
    Polled(Polled),
    /// What the consent pages have left was read.
    DepositRead(Option<Deposit>),
    /// What the consent pages had left is gone.
    DepositForgotten,
    /// A token was made for a ServiceAccount, or not.
    SubjectTokenMinted(Result<Sensitive, Fault>),
    /// A key pair was made: the private key, PEM.
    KeyMade(Sensitive),
    /// An attempt ended without a request.
    Failed(AttemptOutcome),
    /// The operator's record of the login was read.
    StateRead(StateView),
    /// The journal was asked for the reply to an intent that was left; what it holds.
    JournalRead(Option<Redemption>),
    /// Other accounts were asked for the same refresh token; the one that has it.
    DuplicateSought(Option<String>),
    /// The provider was asked what it says of a token.
    Introspected(Result<Introspection, Fault>),
    /// The health of the published token was checked.
    HealthChecked(Checked),
    /// A probe of the published token ended.
    Probed(Liveness),
    /// The provider has not asked for patience.
    Heeded,
    /// The intent is written down.
    Armed {
        /// As which version.
        version: Version,
        /// What was written.
        state: State,
        /// When that began, on the boot clock.
        began: Duration,
    },
    /// It is not, or nobody knows: look again. Nothing has been spent.
    ArmUnclear {
        /// When that began, on the boot clock.
        began: Duration,
    },
    /// A POST that may spend came to its end.
    Spent(Redemption),
    /// Its reply is in the journal, or cannot be.
    Journalled,
    /// What it means is durable.
    Kept {
        /// As which version.
        version: Version,
        /// What was written.
        state: State,
        /// What became of the refresh.
        settlement: Settlement,
    },
    /// Somebody has changed the record; look again.
    KeepConflicted,
    /// Whoever waits for a newer token has an answer; none where it could not be written, and is left to the next pass.
    DemandAnswered(Option<(Version, State)>),
    /// The token endpoint answered or did not.
    Redeemed {
        /// Why it was asked.
        trigger: Trigger,
        /// When it was asked.
        sent: Timestamp,
        /// When the answer was there.
        finished: Timestamp,
        /// The answer.
        result: Result<Token, Fault>,
    },
    /// The Secret was written.
    Published {
        /// What it records.
        record: Record,
        /// What it holds.
        contents: Contents,
        /// Which one it is now.
        held: Held,
    },
    /// Somebody was faster; look again.
    PublishConflicted,
    /// The API server refused the write.
    PublishRefused {
        /// When.
        at: Timestamp,
        /// Why.
        fault: Fault,
    },
    /// Workloads were restarted, or not.
    Restarted(Restarted),
    /// A Secret under an old name is gone.
    Pruned(Stray),
    /// Status was written.
    Said(OAuthAccountStatus),
    /// The account, or its namespace, is gone.
    Gone,
}

impl Seen {
    /// What is known after a step.
    #[must_use]
    pub fn after(mut self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::TokenSecretRead(view) => self.token_secret = Some(view),
            Outcome::InputsRead(inputs) => self.inputs = Some(inputs),
            Outcome::AllRead(view, inputs) => (self.token_secret, self.inputs) = (Some(view), Some(inputs)),
            Outcome::EndpointsFound(endpoints) => self.endpoints = Some(endpoints),
            Outcome::Registered(client) => self.login.registered = Some(client),
            Outcome::Recorded { version, state } => self.login.state = Some(StateView::Stored { version, state }),
            Outcome::DeviceBegun(device) => self.login.device = Some(device),
            Outcome::CodeShown => self.login.code_shown = true,
            Outcome::Polled(polled) => self.polled = Some(polled),
            Outcome::DepositRead(deposit) => self.login.deposit = Some(deposit),
            Outcome::DepositForgotten => (self.deposited, self.login.deposit) = (false, Some(None)),
            Outcome::SubjectTokenMinted(token) => self.subject_token = Some(token),
            Outcome::KeyMade(key) => self.dpop_key = Some(key),
            Outcome::Failed(attempt) => {
                self.tried(attempt);
                self.login.redemption = None;
            }
            Outcome::StateRead(view) => self.login.state = Some(view),
            Outcome::JournalRead(found) => {
                self.login.journal_read = true;
                self.redeemed(found);
            }
            Outcome::DuplicateSought(other) => self.login.duplicate = Some(other),
            Outcome::Introspected(said) => self.introspected(said),
            Outcome::HealthChecked(checked) => self.checked = Some(checked),
            Outcome::Probed(liveness) => self.login.probed = Some(liveness),
            Outcome::Heeded => self.heeded = true,
            Outcome::Armed { version, state, began } => {
                self.login.armed = Some(began);
                self.login.state = Some(StateView::Stored { version, state });
            }
            Outcome::ArmUnclear { began } => {
                self.login.armed = Some(began);
                self.login.state = None;
            }
            Outcome::Spent(redemption) => self.redeemed(Some(redemption)),
            Outcome::Journalled => {
                if let Some(redemption) = &mut self.login.redemption {
                    redemption.journalled = true;
                }
            }
            Outcome::Kept { version, state, settlement } => {
                self.login.state = Some(StateView::Stored { version, state });
                self.login.redemption = None;
                self.tried(settlement.attempt);
            }
            Outcome::KeepConflicted => self.login.state = None,
            Outcome::DemandAnswered(written) => {
                self.demanded = None;
                self.login.state = written.map(|(version, state)| StateView::Stored { version, state });
            }
            Outcome::Redeemed { trigger, sent, finished, result } => {
                let fault = match (result, &self.plan) {
                    (Ok(token), Ok(plan)) => {
                        let generation = self.generation_of_token().saturating_add(1);
                        let proved = self.dpop_key.as_ref().filter(|_| plan.dpop.is_some());
                        self.unpublished = Some(Record::issued(&token, plan, generation, sent, proved));
                        None
                    }
                    (Ok(_), Err(_)) => None,
                    (Err(fault), _) => Some(fault),
                };
                let issued = fault.is_none();
                self.tried(AttemptOutcome { trigger, started: sent, finished, fault, issued });
            }
            Outcome::Published { record, contents, held } => {
                self.mark = Some(SecretMark { resource_version: held.resource_version.clone() });
                self.token_secret = Some(TokenSecretView::Ours { held, contents, record: Some(record) });
                self.unpublished = None;
                // What was refused in a pass before has been taken now.
                if let Some(attempt) = &mut self.attempt {
                    attempt.fault.take_if(|fault| matches!(fault.kind, FaultKind::ApiRefused | FaultKind::TemplateFailed));
                }
            }
            Outcome::PublishConflicted => self.token_secret = None,
            Outcome::PublishRefused { at, fault } => {
                let before = self.attempt.clone();
                let (trigger, started) = before.as_ref().map_or((Trigger::Retry, at), |a| (a.trigger, a.started));
                let issued = before.is_some_and(|attempt| attempt.issued);
                self.tried(AttemptOutcome { trigger, started, finished: at, fault: Some(fault), issued });
                self.publish_refused = true;
            }
            Outcome::Restarted(restarted) => self.restarted = Some(restarted),
            Outcome::Pruned(gone) => self.strays.retain(|stray| *stray != gone),
            Outcome::Said(status) => {
                self.status = status;
                (self.attempt, self.answering) = (None, None);
            }
            Outcome::Gone => self.gone = true,
        }
        self
    }

    /// An attempt has ended, or the one of this pass turns out otherwise.
    fn tried(&mut self, attempt: AttemptOutcome) {
        if self.attempt.is_none() {
            self.answering = self.requested();
        }
        (self.attempt, self.attempted) = (Some(attempt), true);
    }

    /// What the provider says of a token is worth more than what nobody said.
    fn introspected(&mut self, said: Result<Introspection, Fault>) {
        self.login.probed = Some(match &said {
            Ok(Introspection { active: true, .. }) => Liveness::Alive,
            Ok(Introspection { active: false, .. }) => Liveness::Dead,
            Err(fault) => Liveness::Unclear(fault.clone()),
        });
        if let (Ok(Introspection { active: true, expires: Some(end) }), Some(record)) = (&said, self.to_publish()) {
            let mut record = record.clone();
            let public = &mut record.public;
            (public.expiration_time, public.expiry_source) = (Time(*end), ExpirySource::Introspection);
            self.unpublished = Some(record);
        }
        self.introspected = Some(said);
    }

    /// A refused refresh token must be what the record holds: it is looked at once more.
    fn redeemed(&mut self, redemption: Option<Redemption>) {
        let dialect = self.plan.as_ref().map(|plan| plan.dialect.clone()).unwrap_or_default();
        let refused = |redemption: &Redemption| match &redemption.ending {
            Ending::Replied(reply) => {
                let answer = judge(reply, &dialect, &[], redemption.sent, redemption.finished);
                answer.is_err_and(|fault| fault.kind == FaultKind::InvalidGrant)
            }
            Ending::NotSent(_) | Ending::Lost(_) => false,
        };
        if redemption.as_ref().is_some_and(refused) {
            self.login.state = None;
        }
        self.login.redemption = redemption;
    }
}
