//! What one pass over an account must hand to the next. Nothing of it is needed for safety: a restart forgets it.

use super::Record;
use crate::api::OAuthAccountStatus;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Entries {
    said: HashMap<String, (String, OAuthAccountStatus)>,
    unpublished: HashMap<String, Record>,
}

/// The memory of one controller, by UID of the account.
#[derive(Default)]
pub struct Memory {
    entries: Mutex<Entries>,
}

impl Memory {
    /// Status was written while the cache showed this resourceVersion: until it shows another, what was written counts.
    pub fn said(&self, uid: &str, cached_version: &str, status: OAuthAccountStatus) {
        self.lock().said.insert(uid.to_owned(), (cached_version.to_owned(), status));
    }

    /// The status written since the cache was at this resourceVersion.
    pub fn newer_status(&self, uid: &str, cached_version: &str) -> Option<OAuthAccountStatus> {
        let mut entries = self.lock();
        match entries.said.get(uid) {
            Some((version, status)) if version == cached_version => Some(status.clone()),
            Some(_) => {
                entries.said.remove(uid);
                None
            }
            None => None,
        }
    }

    /// Keeps a token that is in no Secret yet.
    pub fn keep(&self, uid: &str, record: Record) {
        self.lock().unpublished.insert(uid.to_owned(), record);
    }

    /// Takes the token that is in no Secret yet.
    pub fn take(&self, uid: &str) -> Option<Record> {
        self.lock().unpublished.remove(uid)
    }

    /// The account is gone.
    pub fn forget(&self, uid: &str) {
        let mut entries = self.lock();
        entries.said.remove(uid);
        entries.unpublished.remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Each change is whole before its lock is let go.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
