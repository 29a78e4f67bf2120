//! Which accounts to wake when a Secret or ConfigMap changes.

use super::workqueue::Key;
use crate::account::token_secret_name;
use crate::api::{CABundleKind, NamespacedName, OAuthAccount};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Kind of what is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Referent {
    /// A seed, a CA bundle, or the Secret to publish in.
    Secret,
    /// A CA bundle.
    ConfigMap,
}

/// An object that is referred to. Of its kind, namespace and name only a hash is kept: where two have the same, an account is woken
/// in vain once in a blue moon.
type Target = u64;

#[derive(Default)]
struct Index {
    /// Who refers to what.
    accounts: BTreeSet<(Target, Key)>,
    targets: HashMap<Key, Box<[Target]>>,
}

/// The references of the accounts in one scope.
#[derive(Default)]
pub struct References {
    index: Mutex<Index>,
    hash: RandomState,
}

/// The references of what a list of the watch has told so far.
#[derive(Default)]
pub struct Listing(Index);

impl References {
    /// An account is there, or has changed.
    pub fn set(&self, name: Key, account: &OAuthAccount) {
        let targets = self.targets(account);
        let mut index = self.lock();
        index.remove(&name);
        index.insert(name, targets);
    }

    /// An account is gone.
    pub fn remove(&self, name: &NamespacedName) {
        self.lock().remove(name);
    }

    /// One more of a list.
    pub fn list(&self, listing: &mut Listing, name: Key, account: &OAuthAccount) {
        listing.0.insert(name, self.targets(account));
    }

    /// These and no other accounts are there.
    pub fn replace(&self, listing: Listing) {
        *self.lock() = listing.0;
    }

    /// The accounts that name this object.
    pub fn to(&self, referent: Referent, namespace: &str, name: &str) -> Vec<Key> {
        let target = self.target(referent, namespace, name);
        let first = (target, Arc::new(NamespacedName::new("", "")));
        let index = self.lock();
        index.accounts.range(first..).take_while(|(other, _)| *other == target).map(|(_, account)| account.clone()).collect()
    }

    fn target(&self, referent: Referent, namespace: &str, name: &str) -> Target {
        self.hash.hash_one((referent, namespace, name))
    }

    fn targets(&self, account: &OAuthAccount) -> Box<[Target]> {
        let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
        named(account).into_iter().map(|(referent, name)| self.target(referent, namespace, &name)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Each change is whole before its lock is let go.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, account: Key, targets: Box<[Target]>) {
        self.accounts.extend(targets.iter().map(|target| (*target, account.clone())));
        self.targets.insert(account, targets);
    }

    fn remove(&mut self, account: &NamespacedName) {
        if let Some((account, targets)) = self.targets.remove_entry(account) {
            for target in targets {
                self.accounts.remove(&(target, account.clone()));
            }
        }
    }
}

/// What an account names in its namespace.
fn named(account: &OAuthAccount) -> Vec<(Referent, Cow<'_, str>)> {
    let spec = &account.spec;
    let client = spec.client.as_ref();
    let grant = &spec.grant;
    let seeds = [
        client.and_then(|client| client.secret_ref.as_ref()),
        client.and_then(|client| client.id_from.as_ref()).map(|from| &from.secret_key_ref),
        grant.refresh_token.as_ref().map(|refresh_token| &refresh_token.secret_ref),
        grant.jwt_bearer.as_ref().map(|assertion| &assertion.key_ref),
        grant.token_exchange.as_ref().and_then(|exchange| exchange.subject_token.secret_ref.as_ref()),
        grant.github_app.as_ref().map(|app| &app.key_ref),
        grant.password.as_ref().map(|password| &password.secret_ref),
    ];
    let mut named = vec![(Referent::Secret, Cow::Owned(token_secret_name(account)))];
    named.extend(seeds.into_iter().flatten().map(|seed| (Referent::Secret, Cow::Borrowed(&*seed.name))));
    named.extend(spec.provider.ca_bundle_ref.as_ref().map(|bundle| {
        let referent = match bundle.kind {
            CABundleKind::ConfigMap => Referent::ConfigMap,
            CABundleKind::Secret => Referent::Secret,
        };
        (referent, Cow::Borrowed(&*bundle.name))
    }));
    named
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn account(seed: &str) -> OAuthAccount {
        with(seed, &json!({"clientCredentials": {}}))
    }

    fn with(seed: &str, grant: &serde_json::Value) -> OAuthAccount {
        serde_json::from_value(json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount",
            "metadata": {"name": "a", "namespace": "apps"},
            "spec": {
                "provider": {"issuer": "https://login.example.com", "caBundleRef": {"name": "ca"}},
                "client": {"id": "app", "secretRef": {"name": seed, "key": "k"}},
                "grant": grant,
            }
        }))
        .unwrap()
    }

    fn a() -> Key {
        Arc::new(NamespacedName::new("apps", "a"))
    }

    #[test]
    fn an_account_is_found_by_whatever_it_names_and_no_longer_by_what_it_named() {
        let references = References::default();
        references.set(a(), &account("one"));
        references.set(a(), &account("two"));
        let found = |referent, namespace: &str, name: &str| references.to(referent, namespace, name);
        assert_eq!(found(Referent::Secret, "apps", "two"), [a()]);
        assert_eq!(found(Referent::Secret, "apps", "a-token"), [a()]);
        assert_eq!(found(Referent::ConfigMap, "apps", "ca"), [a()]);
        assert_eq!(found(Referent::Secret, "apps", "one"), []);
        assert_eq!(found(Referent::Secret, "apps", "ca"), []);
        assert_eq!(found(Referent::Secret, "elsewhere", "two"), []);
        references.remove(&a());
        assert!(references.lock().accounts.is_empty() && references.lock().targets.is_empty());
    }

    #[test]
    fn a_list_takes_the_place_of_what_was_known() {
        let references = References::default();
        references.set(a(), &account("one"));
        let mut listing = Listing::default();
        let b = Arc::new(NamespacedName::new("apps", "b"));
        references.list(&mut listing, b.clone(), &account("one"));
        assert_eq!(references.to(Referent::Secret, "apps", "one"), [a()]);
        references.replace(listing);
        assert_eq!(references.to(Referent::Secret, "apps", "one"), [b]);
    }

    #[test]
    fn whatever_a_grant_is_made_with_wakes_its_account() {
        let key = json!({"name": "right", "key": "k"});
        for grant in [
            json!({"refreshToken": {"secretRef": key}}),
            json!({"jwtBearer": {"keyRef": key}}),
            json!({"tokenExchange": {"subjectToken": {"secretRef": key}}}),
            json!({"githubApp": {"appID": 1, "installationID": 2, "keyRef": key}}),
            json!({"password": {"secretRef": key}}),
        ] {
            let references = References::default();
            references.set(a(), &with("one", &grant));
            assert_eq!(references.to(Referent::Secret, "apps", "right"), [a()], "{grant}");
        }
    }
}
