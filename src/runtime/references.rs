//! Which accounts to wake when a Secret or ConfigMap changes.

use crate::account::token_secret_name;
use crate::api::{CABundleKind, OAuthAccount};
use kube_runtime::reflector::ObjectRef;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Kind of what is referred to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Referent {
    /// A seed, a CA bundle, or the Secret to publish in.
    Secret,
    /// A CA bundle.
    ConfigMap,
}

type Key = (Referent, Box<str>, Box<str>);

#[derive(Default)]
struct Index {
    accounts: HashMap<Key, HashSet<ObjectRef<OAuthAccount>>>,
    keys: HashMap<ObjectRef<OAuthAccount>, Vec<Key>>,
}

/// The references of the accounts in one scope.
#[derive(Default)]
pub struct References {
    index: Mutex<Index>,
}

impl References {
    /// An account is there, or has changed.
    pub fn set(&self, account: &OAuthAccount) {
        let reference = ObjectRef::from_obj(account);
        let mut index = self.lock();
        index.remove(&reference);
        index.insert(reference, keys(account));
    }

    /// An account is gone.
    pub fn remove(&self, account: &OAuthAccount) {
        self.lock().remove(&ObjectRef::from_obj(account));
    }

    /// These and no other accounts are there.
    pub fn replace<'a>(&self, all: impl Iterator<Item = &'a OAuthAccount>) {
        let mut index = Index::default();
        all.for_each(|account| index.insert(ObjectRef::from_obj(account), keys(account)));
        *self.lock() = index;
    }

    /// The accounts that name this object.
    pub fn to(&self, referent: Referent, namespace: &str, name: &str) -> Vec<ObjectRef<OAuthAccount>> {
        let key = (referent, namespace.into(), name.into());
        self.lock().accounts.get(&key).into_iter().flatten().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Each change is whole before its lock is let go.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn insert(&mut self, reference: ObjectRef<OAuthAccount>, keys: Vec<Key>) {
        for key in &keys {
            self.accounts.entry(key.clone()).or_default().insert(reference.clone());
        }
        self.keys.insert(reference, keys);
    }

    fn remove(&mut self, reference: &ObjectRef<OAuthAccount>) {
        for key in self.keys.remove(reference).unwrap_or_default() {
            if let Some(accounts) = self.accounts.get_mut(&key) {
                accounts.remove(reference);
                if accounts.is_empty() {
                    self.accounts.remove(&key);
                }
            }
        }
    }
}

fn keys(account: &OAuthAccount) -> Vec<Key> {
    let spec = &account.spec;
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
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
    let mut keys = vec![(Referent::Secret, namespace.into(), token_secret_name(account).into_boxed_str())];
    keys.extend(seeds.into_iter().flatten().map(|seed| (Referent::Secret, namespace.into(), seed.name.as_str().into())));
    keys.extend(spec.provider.ca_bundle_ref.as_ref().map(|bundle| {
        let referent = match bundle.kind {
            CABundleKind::ConfigMap => Referent::ConfigMap,
            CABundleKind::Secret => Referent::Secret,
        };
        (referent, namespace.into(), bundle.name.as_str().into())
    }));
    keys
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

    #[test]
    fn an_account_is_found_by_whatever_it_names_and_no_longer_by_what_it_named() {
        let references = References::default();
        references.set(&account("one"));
        references.set(&account("two"));
        let found = |referent, namespace: &str, name: &str| references.to(referent, namespace, name).len();
        assert_eq!(found(Referent::Secret, "apps", "two"), 1);
        assert_eq!(found(Referent::Secret, "apps", "a-token"), 1);
        assert_eq!(found(Referent::ConfigMap, "apps", "ca"), 1);
        assert_eq!(found(Referent::Secret, "apps", "one"), 0);
        assert_eq!(found(Referent::Secret, "apps", "ca"), 0);
        assert_eq!(found(Referent::Secret, "elsewhere", "two"), 0);
        references.remove(&account("two"));
        assert!(references.lock().accounts.is_empty() && references.lock().keys.is_empty());
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
            references.set(&with("one", &grant));
            assert_eq!(references.to(Referent::Secret, "apps", "right").len(), 1, "{grant}");
        }
    }
}
