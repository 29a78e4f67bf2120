//! Which consents are under way, and for which accounts a code waits to be redeemed: what the watch of consent Secrets has told,
//! without any of their content.

use crate::api::vocabulary as v;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One consent.
struct Entry {
    /// The account (`namespace/name`), where its code waits.
    deposited: Option<Box<str>>,
    /// Until when it is worth anything.
    expires: Option<Timestamp>,
}

/// The consents under way, by name of their Secret.
#[derive(Default)]
pub struct Consents {
    entries: Mutex<HashMap<Box<str>, Entry>>,
}

/// The account (`namespace/name`) that a consent Secret has a code for.
pub fn deposited(metadata: &ObjectMeta) -> Option<&str> {
    let annotations = metadata.annotations.as_ref()?;
    let waits = annotations.get(v::CONSENT_PHASE_ANNOTATION).is_some_and(|phase| phase == v::DEPOSITED);
    annotations.get(v::ACCOUNT_ANNOTATION).filter(|_| waits).map(String::as_str)
}

impl Entry {
    fn of(metadata: &ObjectMeta) -> Self {
        let expires = metadata.annotations.as_ref().and_then(|all| all.get(v::CONSENT_EXPIRES_ANNOTATION)?.parse().ok());
        Self { deposited: deposited(metadata).map(Into::into), expires }
    }
}

impl Consents {
    /// Whether a code waits for this account.
    pub fn has_deposit(&self, namespace: &str, name: &str) -> bool {
        let account = format!("{namespace}/{name}");
        self.lock().values().any(|there| there.deposited.as_deref() == Some(&*account))
    }

    /// Names of the Secrets of consents that are worth nothing any more.
    pub fn expired(&self, now: Timestamp) -> Vec<String> {
        let over = |entry: &Entry| entry.expires.is_none_or(|expires| expires <= now);
        self.lock().iter().filter(|(_, entry)| over(entry)).map(|(name, _)| name.to_string()).collect()
    }

    /// A consent Secret is there, or has changed.
    pub fn set(&self, metadata: &ObjectMeta) {
        self.lock().insert(metadata.name.as_deref().unwrap_or_default().into(), Entry::of(metadata));
    }

    /// A consent Secret is gone.
    pub fn remove(&self, name: &str) {
        self.lock().remove(name);
    }

    /// These and no other consent Secrets are there.
    pub fn replace<'a>(&self, all: impl Iterator<Item = &'a ObjectMeta>) {
        *self.lock() = all.map(|metadata| (metadata.name.as_deref().unwrap_or_default().into(), Entry::of(metadata))).collect();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Entry>> {
        // Each change is whole before its lock is let go.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn consent(phase: &str, expires: &str) -> ObjectMeta {
        serde_json::from_value(json!({"name": "consent-1", "annotations": {
            "oauth-operator.dev/account": "apps/bot", "oauth-operator.dev/consent-phase": phase,
            "oauth-operator.dev/consent-expires": expires,
        }}))
        .unwrap()
    }

    #[test]
    fn only_a_code_waits_and_nothing_waits_for_ever() {
        let (consents, now) = (Consents::default(), "2026-01-01T00:00:00Z".parse().unwrap());
        consents.set(&consent("Started", "2026-01-01T00:15:00Z"));
        assert!(!consents.has_deposit("apps", "bot") && consents.expired(now).is_empty());
        consents.set(&consent("Deposited", "2026-01-01T00:00:00Z"));
        assert!(consents.has_deposit("apps", "bot") && !consents.has_deposit("apps", "other"));
        assert_eq!(consents.expired(now), ["consent-1"]);
        consents.set(&consent("Started", "when?"));
        assert_eq!(consents.expired(now), ["consent-1"], "what says nothing is worth nothing");
        consents.replace(std::iter::empty());
        assert!(consents.expired(now).is_empty());
    }
}
