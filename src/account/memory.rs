//! What one pass over an account must hand to the next. Nothing of it is needed for safety: a restart forgets it.

use super::health::Checked;
use super::{AttemptOutcome, Polled, Record};
use crate::api::OAuthAccountStatus;
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Heals that are remembered of one account.
const HEALS: usize = 8;

/// A status that was written and that the cache may not show yet.
struct Said {
    /// resourceVersion that the cache showed when it was written.
    over: String,
    /// resourceVersion that the write made.
    made: String,
    status: Box<OAuthAccountStatus>,
}

/// An attempt that status does not tell of: its pass broke off.
pub struct Untold {
    /// What came of it.
    pub attempt: AttemptOutcome,
    /// Generation of the spec that it was made with, if that was the one of today.
    pub generation: Option<i64>,
    /// The request of a person's that it answers.
    pub request: Option<Timestamp>,
}

#[derive(Default)]
struct Entries {
    said: HashMap<String, Said>,
    unpublished: HashMap<String, Record>,
    untold: HashMap<String, Untold>,
    /// Intents that were written and that nothing was done about.
    unposted: HashMap<String, String>,
    /// When token Secrets were last put right, the newest at the end.
    heals: HashMap<String, Vec<Timestamp>>,
    /// Checks of tokens' health.
    checked: HashMap<String, Checked>,
    /// When devices are polled next.
    polled: HashMap<String, Polled>,
    gone: HashSet<String>,
}

/// The memory of one controller, by UID of the account.
#[derive(Default)]
pub struct Memory {
    entries: Mutex<Entries>,
}

impl Memory {
    /// Status was written over what the cache showed.
    pub fn said(&self, uid: &str, over: &str, made: &str, status: OAuthAccountStatus) {
        self.lock().said.insert(uid.to_owned(), Said { over: over.to_owned(), made: made.to_owned(), status: status.into() });
    }

    /// The status written last, while the cache does not show it yet.
    pub fn newer_status(&self, uid: &str, cached: &str) -> Option<OAuthAccountStatus> {
        let mut entries = self.lock();
        let said = entries.said.get(uid)?;
        if shows(cached, said) {
            entries.said.remove(uid);
            return None;
        }
        Some(OAuthAccountStatus::clone(&said.status))
    }

    /// Keeps a token that is in no Secret yet.
    pub fn keep(&self, uid: &str, record: Record) {
        self.lock().unpublished.insert(uid.to_owned(), record);
    }

    /// Takes the token that is in no Secret yet.
    pub fn take(&self, uid: &str) -> Option<Record> {
        self.lock().unpublished.remove(uid)
    }

    /// Keeps an attempt that status does not tell of.
    pub fn keep_attempt(&self, uid: &str, untold: Untold) {
        self.lock().untold.insert(uid.to_owned(), untold);
    }

    /// Takes the attempt that status does not tell of.
    pub fn take_attempt(&self, uid: &str) -> Option<Untold> {
        let mut entries = self.lock();
        let untold = entries.untold.remove(uid);
        // After thousands at once there is nobody.
        if entries.untold.is_empty() {
            entries.untold.shrink_to_fit();
        }
        untold
    }

    /// An intent is being written, and nothing is posted for it.
    pub fn arming(&self, uid: &str, intent: &str) {
        self.lock().unposted.insert(uid.to_owned(), intent.to_owned());
    }

    /// From now on something may have been posted, or it is settled.
    pub fn posting(&self, uid: &str) {
        self.lock().unposted.remove(uid);
    }

    /// The intent that surely nothing was posted for.
    pub fn unposted(&self, uid: &str) -> Option<String> {
        self.lock().unposted.get(uid).cloned()
    }

    /// A token Secret was put right.
    pub fn heal(&self, uid: &str, now: Timestamp) {
        let mut entries = self.lock();
        let heals = entries.heals.entry(uid.to_owned()).or_default();
        heals.push(now);
        let surplus = heals.len().saturating_sub(HEALS);
        heals.drain(..surplus);
    }

    /// When a token Secret was last put right.
    pub fn heals(&self, uid: &str) -> Vec<Timestamp> {
        self.lock().heals.get(uid).cloned().unwrap_or_default()
    }

    /// The health of a token was checked.
    pub fn check(&self, uid: &str, checked: Checked) {
        self.lock().checked.insert(uid.to_owned(), checked);
    }

    /// The last check of a token's health.
    pub fn checked(&self, uid: &str) -> Option<Checked> {
        self.lock().checked.get(uid).cloned()
    }

    /// A device was polled.
    pub fn poll(&self, uid: &str, polled: Polled) {
        self.lock().polled.insert(uid.to_owned(), polled);
    }

    /// When a device is polled next.
    pub fn polled(&self, uid: &str) -> Option<Polled> {
        self.lock().polled.get(uid).copied()
    }

    /// The API server says that the account is gone, before the watch does.
    pub fn gone(&self, uid: &str) {
        let mut entries = self.lock();
        entries.forget(uid);
        entries.gone.insert(uid.to_owned());
    }

    /// Whether the account is known to be gone.
    pub fn is_gone(&self, uid: &str) -> bool {
        self.lock().gone.contains(uid)
    }

    /// The watch says that the account is gone.
    pub fn forget(&self, uid: &str) {
        let mut entries = self.lock();
        entries.forget(uid);
        entries.gone.remove(uid);
    }

    /// A list of the watch says that these and no other accounts are there.
    pub fn retain(&self, there: &HashSet<String>) {
        let mut entries = self.lock();
        entries.said.retain(|uid, _| there.contains(uid));
        entries.unpublished.retain(|uid, _| there.contains(uid));
        entries.untold.retain(|uid, _| there.contains(uid));
        entries.unposted.retain(|uid, _| there.contains(uid));
        entries.heals.retain(|uid, _| there.contains(uid));
        entries.checked.retain(|uid, _| there.contains(uid));
        entries.polled.retain(|uid, _| there.contains(uid));
        entries.gone.retain(|uid| there.contains(uid));
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Each change is whole before its lock is let go.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn forget(&mut self, uid: &str) {
        self.said.remove(uid);
        self.unpublished.remove(uid);
        self.untold.remove(uid);
        self.unposted.remove(uid);
        self.heals.remove(uid);
        self.checked.remove(uid);
        self.polled.remove(uid);
    }
}

/// Whether the cache shows what was said. resourceVersions of one resource are numbers that grow (Kubernetes 1.35 made
/// that a promise, KEP-5504); where they are none, any other version than the one written over counts.
fn shows(cached: &str, said: &Said) -> bool {
    match (cached.parse::<u64>(), said.made.parse::<u64>()) {
        (Ok(cached), Ok(made)) => cached >= made,
        _ => cached != said.over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_counts_until_the_cache_shows_it() {
        let memory = Memory::default();
        let status = OAuthAccountStatus { failed_attempts: 1, ..OAuthAccountStatus::default() };
        memory.said("a", "5", "9", status.clone());
        for cached in ["5", "7"] {
            assert_eq!(
                memory.newer_status("a", cached),
                Some(status.clone()),
                "somebody else's write at {cached} changes nothing"
            );
        }
        assert_eq!(memory.newer_status("a", "10"), None);
        memory.said("a", "x", "y", status.clone());
        assert_eq!(memory.newer_status("a", "x"), Some(status));
        assert_eq!(memory.newer_status("a", "z"), None);
    }

    #[test]
    fn nothing_is_kept_of_accounts_that_are_gone() {
        let memory = Memory::default();
        let record = crate::account::seen::tests::record(1, 60);
        memory.keep("a", record.clone());
        memory.gone("a");
        assert!(memory.is_gone("a") && memory.take("a").is_none());
        memory.keep("b", record);
        memory.retain(&HashSet::new());
        assert!(!memory.is_gone("a") && memory.take("b").is_none());
    }
}
