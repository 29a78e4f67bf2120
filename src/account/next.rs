//! One step of a pass over an account, as a value: decided here, done elsewhere.

use super::{Contents, Held, Intent, Plan, Record, Settlement, State, Stray, Version};
use crate::api::{DPoPAlgorithm, OAuthAccountStatus, Probe, RestartTarget, ServiceAccountToken, Trigger};
use crate::oauth::{DeviceAuthorization, Fault, Reply, Sensitive, TlsSettings, TokenRequest};
use jiff::Timestamp;
use std::time::Duration;
use url::Url;

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Read the token Secret from the API server, not from a cache: nothing is asked for before that.
    ReadTokenSecret(String),
    /// Read the Secrets and the CA bundle that the plan names.
    ReadInputs(Plan),
    /// Both at once: for a first token all of it is needed.
    ReadAll(Plan),
    /// Have a token made for a ServiceAccount, to be exchanged.
    MintSubjectToken(ServiceAccountToken),
    /// Make a key pair that a token is to be bound to.
    MakeKey(DPoPAlgorithm),
    /// Have the provider register a client for us.
    Register {
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Write the record of a login that begins.
    Record {
        /// What is written.
        state: State,
        /// What it replaces.
        over: Option<Version>,
    },
    /// Ask for a code that a person enters on another device.
    BeginDevice {
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Show the code to those who may read the token.
    ShowCode(DeviceAuthorization),
    /// Ask whether somebody has entered the code: that spends it once somebody has.
    Poll {
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
        /// The state that the code stands in.
        armed: State,
        /// Seconds between two polls, as the provider said at first.
        interval: i64,
    },
    /// Read what the consent pages have left.
    ReadDeposit,
    /// Delete what the consent pages have left.
    ForgetDeposit(Version),
    /// Find the endpoints.
    FindEndpoint {
        /// What to ask.
        plan: Plan,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Count an attempt that ended before a byte was sent.
    Fail {
        /// Why it was made.
        trigger: Trigger,
        /// Why it ended.
        fault: Fault,
    },
    /// Read the operator's record of the login from the API server.
    ReadState,
    /// Ask the journal for the reply to an intent that was left.
    ReadJournal {
        /// The intent.
        intent: Intent,
        /// The state that it stands in.
        armed: State,
    },
    /// Ask whether another account has one of these refresh tokens, and claim them.
    FindDuplicate {
        /// Their digests.
        digests: Vec<String>,
    },
    /// Ask the provider what it says of a token.
    Introspect {
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Ask the resource server that the user names whether it accepts the published token.
    CheckHealth {
        /// What is asked.
        url: Url,
        /// With what.
        access_token: Sensitive,
        /// The private key that it is bound to, if it is to one.
        dpop_key: Option<Sensitive>,
        /// The token's generation.
        generation: i64,
        /// Whom to trust.
        tls: TlsSettings,
    },
    /// Ask a resource server whether the published token lives.
    Probe {
        /// How.
        probe: Probe,
        /// With what.
        access_token: Sensitive,
        /// The private key that it is bound to, if it is to one.
        dpop_key: Option<Sensitive>,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Wait for our turn at the gate of this host, holding nothing, and look anew.
    TakeTurn(String),
    /// See whether the provider has asked this client for patience.
    Heed {
        /// The endpoint.
        endpoint: Url,
        /// As whom.
        client_id: String,
        /// Why it is to be asked.
        trigger: Trigger,
    },
    /// ARM: write the intent to spend, before anything is spent.
    Arm {
        /// What is written.
        state: State,
        /// What it replaces.
        over: Option<Version>,
    },
    /// REDEEM: post the refresh token, once.
    Spend {
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
        /// The intent that permits it.
        intent: Intent,
        /// The state it stands in.
        armed: State,
        /// When it was written, on the boot clock: what is too old permits nothing.
        began: Duration,
    },
    /// JOURNAL: seal the reply where the end of this process does not reach it.
    Journal {
        /// The intent that it answers.
        intent: Intent,
        /// The reply.
        reply: Reply,
        /// When it was asked for.
        sent: Timestamp,
        /// When it was there.
        finished: Timestamp,
    },
    /// KEEP: write down what the reply means.
    Keep {
        /// What is written.
        state: State,
        /// What it replaces.
        over: Option<Version>,
        /// What became of the refresh.
        settlement: Settlement,
    },
    /// Write down what came of somebody's wish for a newer token.
    AnswerDemand {
        /// What is written.
        state: State,
        /// What it replaces.
        over: Version,
    },
    /// Wait a little, with the reply in hand, for another instance that has the same refresh token armed, and look again.
    GiveWay,
    /// Ask the token endpoint, which spends nothing.
    Redeem {
        /// Why.
        trigger: Trigger,
        /// What is sent.
        request: TokenRequest,
        /// Whom to trust, and who we are.
        tls: TlsSettings,
    },
    /// Write the token Secret.
    Publish {
        /// Its name.
        name: String,
        /// What it records.
        record: Record,
        /// What it holds.
        contents: Contents,
        /// What it replaces.
        over: Option<Held>,
    },
    /// Count a token that cannot be published as the spec wants it.
    Withhold(Fault),
    /// Restart workloads, so that they read the token of this generation.
    Restart {
        /// Which.
        targets: Vec<RestartTarget>,
        /// The token's.
        generation: i64,
    },
    /// Delete a Secret of ours under an old name.
    Prune(Stray),
    /// Write status.
    Say(OAuthAccountStatus),
    /// Nothing to do before this moment, unless something changes; `None`: at all.
    Rest(Option<Timestamp>),
}
