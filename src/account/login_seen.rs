//! What is seen of a login in one pass, and by whom.

use super::consent::Deposit;
use super::state::{Intent, State};
use super::state_secret::{StateView, Version};
use super::{AttemptOutcome, Record};
use crate::oauth::{DeviceAuthorization, Ending, Fault, RegisteredClient, Sensitive, hex};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::fmt;
use std::time::Duration;

/// Who decides, and what is its own in this pass.
#[derive(Clone)]
pub struct Instance {
    /// `--identity`: the holder of intents. It outlives a restart of the container.
    pub identity: String,
    /// Bytes that nobody else has, of this pass alone.
    pub entropy: [u8; 32],
    /// Id of an intent that this process wrote and surely never acted on.
    pub unposted: Option<String>,
    /// Until when the holder of another intent may still be busy: the API server was away.
    pub unsteady_until: Option<Timestamp>,
    /// The intent that the watch tells of, and when it did first.
    pub armed: Option<(Box<str>, Timestamp)>,
}

impl Instance {
    /// Id of the intent of this pass.
    pub fn intent_id(&self) -> String {
        hex(&self.derived("intent")[..16])
    }

    /// What seals the reply of this pass in the journal.
    pub fn journal_key(&self) -> Sensitive {
        Sensitive::new(hex(&self.derived("journal key")))
    }

    fn derived(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.entropy).chain_update(purpose).finalize().into()
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance {{ identity: {:?} }}", self.identity)
    }
}

/// A POST that came to its end, until what it means is kept.
#[derive(Clone, Debug)]
pub struct Redemption {
    /// The state as it was armed for it.
    pub armed: State,
    /// Its intent.
    pub intent: Intent,
    /// When it began.
    pub sent: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// How it ended.
    pub ending: Ending,
    /// What nobody may be told of it.
    pub secrets: Vec<Sensitive>,
    /// Whether its reply is in the journal, or none is to be.
    pub journalled: bool,
}

/// What became of a refresh.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    /// As status tells it.
    pub attempt: AttemptOutcome,
    /// The token it obtained.
    pub record: Option<Record>,
}

/// Whether an access token lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// The resource server takes it.
    Alive,
    /// It does not.
    Dead,
    /// It did not say.
    Unclear(Fault),
}

/// What is known of a login in this pass; what is `None` has not been looked at.
#[derive(Clone, Debug, Default)]
pub struct LoginSeen {
    /// The operator's record, read live.
    pub state: Option<StateView>,
    /// The account that has the same seed, if one has.
    pub duplicate: Option<Option<String>>,
    /// When ARM began, on the boot clock.
    pub armed: Option<Duration>,
    /// Whether the journal was asked for the reply of an intent that was left.
    pub journal_read: bool,
    /// The POST of this pass, or one found in the journal.
    pub redemption: Option<Redemption>,
    /// Whether the published token lives.
    pub probed: Option<Liveness>,
    /// The client that the provider has registered for us in this pass, or why it has not.
    pub registered: Option<Result<RegisteredClient, Fault>>,
    /// The code that the provider gave for a person to enter, or why it did not.
    pub device: Option<Result<DeviceAuthorization, Fault>>,
    /// Whether it is shown to those who may read the token.
    pub code_shown: bool,
    /// What the consent pages have left, if they have.
    pub deposit: Option<Option<Deposit>>,
}

impl LoginSeen {
    /// Whether a reply of the provider's is not durable yet.
    pub fn has_reply(&self) -> bool {
        self.redemption.as_ref().is_some_and(|redemption| matches!(redemption.ending, Ending::Replied(_)))
    }

    /// Which record it is that is there.
    pub fn version(&self) -> Option<Version> {
        match &self.state {
            Some(StateView::Stored { version, .. }) => Some(version.clone()),
            Some(StateView::Unreadable { version, .. }) => version.clone(),
            Some(StateView::Absent) | None => None,
        }
    }

    /// The record, where it was read and says something.
    pub fn stored(&self) -> Option<(&Version, &State)> {
        match &self.state {
            Some(StateView::Stored { version, state }) => Some((version, state)),
            _ => None,
        }
    }
}
