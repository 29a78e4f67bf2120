//! The accounts of one scope as the watch has told them, each as the bytes of its JSON: ten thousand typed ones, of which
//! most is room for what they do not use, would be most of the operator's memory. Whoever wants one reads it anew.

use crate::api::{NamespacedName, OAuthAccount};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// What a list of the watch has told so far.
#[derive(Default)]
pub struct Listing(HashMap<Arc<NamespacedName>, Box<[u8]>>);

impl Listing {
    /// One more; its name, as it is kept here.
    pub fn add(&mut self, account: &OAuthAccount) -> Arc<NamespacedName> {
        let name = Arc::new(NamespacedName::of(account));
        self.0.insert(name.clone(), bytes(account));
        name
    }
}

/// The accounts of one scope.
#[derive(Default)]
pub struct AccountCache {
    accounts: RwLock<HashMap<Arc<NamespacedName>, Box<[u8]>>>,
}

impl AccountCache {
    /// An account, if there is one of this name.
    pub fn get(&self, name: &NamespacedName) -> Option<Arc<OAuthAccount>> {
        let accounts = self.read();
        // They are our own words: what cannot be read is a defect of ours, which a test would find.
        serde_json::from_slice(accounts.get(name)?).map(Arc::new).ok()
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &NamespacedName) -> bool {
        self.read().contains_key(name)
    }

    /// The names of all.
    pub fn names(&self) -> Vec<Arc<NamespacedName>> {
        self.read().keys().cloned().collect()
    }

    /// An account is there, or has changed; its name, as it is kept here.
    pub fn set(&self, account: &OAuthAccount) -> Arc<NamespacedName> {
        let (name, bytes) = (NamespacedName::of(account), bytes(account));
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        let name = accounts.get_key_value(&name).map_or_else(|| Arc::new(name), |(kept, _)| kept.clone());
        accounts.insert(name.clone(), bytes);
        name
    }

    /// An account is gone.
    pub fn remove(&self, name: &NamespacedName) {
        self.accounts.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// These and no other accounts are there.
    pub fn replace(&self, mut listing: Listing) {
        listing.0.shrink_to_fit();
        *self.accounts.write().unwrap_or_else(PoisonError::into_inner) = listing.0;
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Arc<NamespacedName>, Box<[u8]>>> {
        // Each change is whole before its lock is let go.
        self.accounts.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bytes(account: &OAuthAccount) -> Box<[u8]> {
    // Of types that are written as JSON every day: it cannot fail.
    serde_json::to_vec(account).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn account(name: &str, version: &str) -> OAuthAccount {
        serde_json::from_value(json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount",
            "metadata": {"name": name, "namespace": "apps", "uid": "u", "resourceVersion": version, "generation": 3,
                "annotations": {"oauth-operator.dev/refresh-requested-at": "2026-01-01T00:00:00Z"}},
            "spec": {
                "provider": {"issuer": "https://login.example.com", "caBundleRef": {"name": "ca"}},
                "client": {"id": "app", "secretRef": {"name": "seed", "key": "k"}},
                "grant": {"clientCredentials": {"scopes": ["a"]}}, "suspend": true,
            },
            "status": {
                "observedGeneration": 3, "provider": "Issuer", "nextRefreshTime": "2026-01-01T00:00:00Z",
                "conditions": [{"type": "Ready", "status": "True", "reason": "TokenPublished", "message": "There.",
                    "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 3}],
                "history": [{"startTime": "2026-01-01T00:00:00Z", "trigger": "Missing", "result": "Succeeded", "durationMilliseconds": 3}],
            }
        }))
        .unwrap()
    }

    #[test]
    fn an_account_is_found_as_it_was_told_last() {
        let cache = AccountCache::default();
        let name = NamespacedName::new("apps", "a");
        assert!(cache.get(&name).is_none() && !cache.contains(&name));
        cache.set(&account("a", "1"));
        let kept = cache.set(&account("a", "2"));
        assert_eq!((cache.get(&name).as_deref(), cache.contains(&name)), (Some(&account("a", "2")), true));
        assert!(Arc::ptr_eq(&kept, &cache.names()[0]), "one name for all who keep one");
        cache.remove(&name);
        assert!(cache.get(&name).is_none() && cache.names().is_empty());
    }

    #[test]
    fn a_list_says_who_is_there_and_who_is_not() {
        let cache = AccountCache::default();
        cache.set(&account("old", "1"));
        let mut listing = Listing::default();
        listing.add(&account("new", "2"));
        assert!(cache.contains(&NamespacedName::new("apps", "old")), "until the list is whole");
        cache.replace(listing);
        assert_eq!(cache.names(), [Arc::new(NamespacedName::new("apps", "new"))]);
    }
}
