//! Which accounts a person has consented to and the leader has not redeemed yet: what the watch of consent Secrets has told,
//! without any of their content.

use crate::api::vocabulary as v;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The consents under way, by name of their Secret: the account, where its code waits to be redeemed.
#[derive(Default)]
pub struct Consents {
    deposits: Mutex<HashMap<Box<str>, Box<str>>>,
}

/// The account (`namespace/name`) that a consent Secret has a code for.
pub fn deposited(metadata: &ObjectMeta) -> Option<&str> {
    let annotations = metadata.annotations.as_ref()?;
    let waits = annotations.get(v::CONSENT_PHASE_ANNOTATION).is_some_and(|phase| phase == v::DEPOSITED);
    annotations.get(v::ACCOUNT_ANNOTATION).filter(|_| waits).map(String::as_str)
}

impl Consents {
    /// Whether a code waits for this account.
    pub fn has_deposit(&self, namespace: &str, name: &str) -> bool {
        let account = format!("{namespace}/{name}");
        self.lock().values().any(|there| **there == account)
    }

    /// A consent Secret is there, or has changed.
    pub fn set(&self, metadata: &ObjectMeta) {
        let name = metadata.name.as_deref().unwrap_or_default();
        match deposited(metadata) {
            Some(account) => self.lock().insert(name.into(), account.into()),
            None => self.lock().remove(name),
        };
    }

    /// A consent Secret is gone.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// These and no other consent Secrets are there.
    pub fn replace<'a>(&self, all: impl Iterator<Item = &'a ObjectMeta>) {
        let named = |metadata: &ObjectMeta| Some((metadata.name.as_deref()?.into(), deposited(metadata)?.into()));
        *self.lock() = all.filter_map(named).collect();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Box<str>>> {
        // Each change is whole before its lock is let go.
        self.deposits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
