//! EVERYTHING OUTSIDE, one file per outside thing, each at arm's length: no decision is made here.

use crate::telemetry::metrics::Metrics;
use tokio::sync::Semaphore;

pub mod access;
pub mod accounts;
pub mod authority;
pub mod bundles;
pub mod certificate;
pub mod clock;
pub mod cluster;
pub mod connection;
pub mod consents;
pub mod discovery;
pub mod entropy;
pub mod events;
pub mod gate;
pub mod guarded;
pub mod health;
pub mod issuer;
pub mod journal;
pub mod key_pair;
pub mod keyring;
pub mod lease;
pub mod logins;
pub mod marks;
pub mod nonces;
pub mod outbound;
pub mod pods;
pub mod recent;
pub mod remote_api;
pub mod resource_server;
pub mod revisions;
pub mod runs;
pub mod secrets;
pub mod service_accounts;
pub mod statuses;
pub mod token_endpoint;
pub mod webhook_configuration;
pub mod workflows;
pub mod workloads;

/// Everything outside, as one controller reaches it.
pub struct World {
    /// The API server.
    pub cluster: cluster::Cluster,
    /// Providers.
    pub outbound: outbound::Outbound,
    /// One gate per token-endpoint host.
    pub gates: gate::Gates,
    /// Nonces for DPoP proofs.
    pub nonces: nonces::Nonces,
    /// Discovery documents.
    pub discovery: discovery::Discovery,
    /// Events.
    pub events: events::Events,
    /// Counters.
    pub metrics: Metrics,
    /// How we are.
    pub health: health::Health,
    /// What was read a moment ago.
    pub recent: recent::Recent,
    /// The journal of replies.
    pub journal: journal::Journal,
    /// The keys that records of logins are encrypted with.
    pub keyring: keyring::KeyringFile,
    /// Who holds which login.
    pub logins: logins::Logins,
    /// Runs of workflows.
    pub runs: runs::Runs,
    /// Consents whose code waits to be redeemed.
    pub consents: consents::Consents,
    /// Whom the namespaces of accounts are told to trust for the operator's own CA.
    pub bundles: bundles::Bundles,
    /// Who signs tokens of ServiceAccounts.
    pub issuer: issuer::Issuer,
    /// Who this instance is.
    pub identity: String,
    /// When it started.
    pub started: jiff::Timestamp,
    /// Its own namespace.
    pub namespace: String,
    /// Replies of token endpoints that are not durable yet.
    pub replies_in_hand: std::sync::atomic::AtomicUsize,
}

/// What the API server did not do for us, and what else ends a pass before it rests.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It answered with an error, or not in a way we understand.
    #[error("{}", words(.0))]
    Answered(#[from] kube::Error),
    /// It may have given our Lease to somebody else.
    #[error("this instance leads no more")]
    LeaseLost,
    /// Too many others stand at the provider's gate.
    #[error("its turn at the provider's gate has not come yet")]
    TurnNotCome,
    /// It does not let us write what must be durable.
    #[error("the API server refused to store the record of a login: {0}")]
    KeepRefused(String),
    /// Somebody else writes the same object.
    #[error("{0} was changed by somebody else meanwhile")]
    Changed(String),
    /// It did not answer in time.
    #[error("the API server did not answer within {0} s")]
    TimedOut(u64),
}

/// What came of a call to the API server: its own words where it has answered, or what kept it from that, with all its causes.
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => words_of(status),
        kube::Error::SerdeError(error) => format!("the API server's answer is not understood: {error}"),
        error => {
            let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
            causes.fold(format!("the API server was not reached: {error}"), |text, cause| {
                // Some repeat their causes themselves.
                let cause = cause.to_string();
                if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
            })
        }
    }
}

/// The API server's own words.
pub fn words_of(status: &kube::core::Status) -> String {
    // Of a kind that it does not know it says "404 page not found", which is no object of the API's.
    if status.code == 404 && status.details.is_none() {
        let said = &status.message;
        return format!(
            "the API server answered: {said} (HTTP 404); if it does not know the kind, apply the CustomResourceDefinitions"
        );
    }
    format!("the API server answered: {} (HTTP {})", status.message, status.code)
}

/// Seconds that one call to the API server may take.
const API_DEADLINE: u64 = 15;

/// Calls to the API server that are under way at once: each holds a connection.
static UNDER_WAY: Semaphore = Semaphore::const_new(64);

/// One call to the API server, within its deadline, which runs from when it is made and not while it waits behind others of
/// ours.
async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    // The semaphore is never closed.
    let _under_way = UNDER_WAY.acquire().await;
    let deadline = std::time::Duration::from_secs(API_DEADLINE);
    tokio::time::timeout(deadline, call).await.map_err(|_| ApiError::TimedOut(API_DEADLINE))?.map_err(ApiError::Answered)
}

impl ApiError {
    /// The API server's own words, where it has some.
    fn status(&self) -> Option<&kube::core::Status> {
        match self {
            Self::Answered(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// Whether it does not let us, for want of a right.
    pub fn is_forbidden(&self) -> bool {
        self.status().is_some_and(|status| status.is_forbidden())
    }

    /// Its words, where it answers and does not let us: a missing right, a quota, an admission policy. What says "not now" is
    /// no refusal.
    pub fn refusal(&self) -> Option<String> {
        self.words(&[400, 413])
    }

    /// Whether the API server may answer otherwise in a moment.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Answered(kube::Error::SerdeError(_)) => false,
            Self::Answered(_) => self.refusal().is_none(),
            _ => false,
        }
    }

    /// The same of a write, which an admission webhook that is broken refuses with a 500.
    pub fn refusal_of_write(&self) -> Option<String> {
        self.words(&[400, 413, 500])
    }

    fn words(&self, codes: &[u16]) -> Option<String> {
        let status = self.status()?;
        let refused = status.is_forbidden() || status.is_invalid() || codes.contains(&status.code);
        refused.then(|| status.message.chars().take(300).collect())
    }
}
