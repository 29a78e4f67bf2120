//! Which accounts hold a login, and by which digests their refresh tokens are known: what the watch of state Secrets has
//! told, without any of their content.

use super::clock::{now, uptime};
use crate::api::NamespacedName;
use crate::api::vocabulary as v;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long an account that is about to import a refresh token keeps others from it, until its state Secret says so.
const CLAIM: Duration = Duration::from_secs(60);

/// The login of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginEntry {
    /// Name of the state Secret.
    pub secret: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
    /// Namespace of the account.
    pub namespace: Box<str>,
    /// Name of the account.
    pub name: Box<str>,
    /// Digests of the refresh token that is held and of the one that was imported.
    digests: Vec<Box<str>>,
    /// Whether it goes when the account is gone.
    pub deletable: bool,
    /// Whether its tokens are revoked then.
    pub revocable: bool,
    /// Since when somebody waits for a newer token.
    pub demanded: Option<Timestamp>,
    /// Id of the intent that it holds.
    pub intent: Option<Box<str>>,
    /// Name of the key that it is encrypted with.
    pub encryption_key: Option<Box<str>>,
}

impl LoginEntry {
    /// What the metadata of a state Secret says; `None` where it is none.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let annotations = metadata.annotations.as_ref()?;
        let (namespace, name) = annotations.get(v::ACCOUNT_ANNOTATION)?.split_once('/')?;
        let digests = [v::REFRESH_TOKEN_DIGEST_ANNOTATION, v::SEED_DIGEST_ANNOTATION];
        Some(Self {
            secret: metadata.name.as_deref()?.into(),
            uid: metadata.uid.as_deref()?.into(),
            namespace: namespace.into(),
            name: name.into(),
            digests: digests.iter().filter_map(|key| annotations.get(*key)).map(|digest| digest.as_str().into()).collect(),
            demanded: annotations.get(v::REFRESH_DEMANDED_ANNOTATION).and_then(|at| at.parse().ok()),
            intent: annotations.get(v::INTENT_ANNOTATION).map(|id| id.as_str().into()),
            encryption_key: annotations.get(v::ENCRYPTION_KEY_ANNOTATION).map(|name| name.as_str().into()),
            revocable: annotations.contains_key(v::REVOCATION_POLICY_ANNOTATION),
            deletable: annotations.get(v::STATE_POLICY_ANNOTATION).is_some_and(|policy| policy == "Delete"),
        })
    }

    fn account(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

#[derive(Default)]
struct Index {
    /// By name of the state Secret.
    entries: HashMap<Box<str>, LoginEntry>,
    /// Since when the intents in them are known, by the boot clock: no clock of another machine is believed.
    armed: HashMap<Box<str>, (Box<str>, Duration)>,
    /// Digests that accounts are about to import, until when.
    claims: HashMap<String, (String, Duration)>,
}

impl Index {
    /// A state Secret has this intent, or none.
    fn arm(&mut self, secret: &str, intent: Option<Box<str>>) {
        match intent {
            None => drop(self.armed.remove(secret)),
            Some(intent) => {
                if self.armed.get(secret).is_none_or(|(known, _)| *known != intent) {
                    self.armed.insert(secret.into(), (intent, uptime()));
                }
            }
        }
    }
}

/// The logins of one operator.
#[derive(Default)]
pub struct Logins {
    index: Mutex<Index>,
    /// Told when an account goes.
    left: Notify,
}

impl Logins {
    /// Claims refresh tokens for an account (`namespace/name`), unless another one has or claims one of them: that one.
    pub fn claim(&self, account: &str, digests: &[String]) -> Option<String> {
        let mut index = self.lock();
        let now = uptime();
        index.claims.retain(|_, (_, until)| *until > now);
        let holds = |entry: &LoginEntry| digests.iter().any(|digest| entry.digests.iter().any(|held| **held == **digest));
        let mut holders = index.entries.values().filter(|entry| holds(entry)).map(LoginEntry::account);
        let claimers = digests.iter().filter_map(|digest| index.claims.get(digest)).map(|(claimer, _)| claimer.clone());
        let other = holders.find(|holder| holder != account).or_else(|| claimers.into_iter().find(|claimer| claimer != account));
        if other.is_none() {
            let claims = digests.iter().map(|digest| (digest.clone(), (account.to_owned(), now + CLAIM)));
            index.claims.extend(claims);
        }
        other
    }

    /// A state Secret is there, has changed, or is gone; whether an intent in it has come to its end by that.
    pub fn set(&self, secret: &str, entry: Option<LoginEntry>) -> bool {
        let mut index = self.lock();
        let after = entry.as_ref().and_then(|entry| entry.intent.clone());
        index.arm(secret, after.clone());
        let before = match entry {
            Some(entry) => index.entries.insert(secret.into(), entry),
            None => index.entries.remove(secret),
        };
        let before = before.and_then(|before| before.intent);
        before.is_some() && before != after
    }

    /// The account whose record has this intent.
    pub fn armed_with(&self, intent: &str) -> Option<NamespacedName> {
        let index = self.lock();
        let armed = index.entries.values().find(|entry| entry.intent.as_deref() == Some(intent))?;
        Some(NamespacedName::new(&armed.namespace, &armed.name))
    }

    /// An account is gone: what it leaves is looked at.
    pub fn account_left(&self) {
        self.left.notify_one();
    }

    /// Waits until an account goes.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// These and no other state Secrets are there.
    pub fn replace(&self, all: Vec<LoginEntry>) {
        let mut index = self.lock();
        index.entries = all.into_iter().map(|entry| (entry.secret.clone(), entry)).collect();
        let Index { entries, armed, .. } = &mut *index;
        armed.retain(|secret, _| entries.contains_key(secret));
        let intents: Vec<_> = entries.values().map(|entry| (entry.secret.clone(), entry.intent.clone())).collect();
        intents.into_iter().for_each(|(secret, intent)| index.arm(&secret, intent));
    }

    /// The intent in this state Secret, and when it was known first.
    pub fn armed(&self, secret: &str) -> Option<(Box<str>, Timestamp)> {
        let (intent, since) = self.lock().armed.get(secret)?.clone();
        let known = jiff::SignedDuration::try_from(uptime().saturating_sub(since)).ok()?;
        Some((intent, now() - known))
    }

    /// Since when somebody waits for a newer token of the account of this state Secret.
    pub fn demanded(&self, secret: &str) -> Option<Timestamp> {
        self.lock().entries.get(secret)?.demanded
    }

    /// All of them.
    pub fn all(&self) -> Vec<LoginEntry> {
        self.lock().entries.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Each change is whole before its lock is let go.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(account: &str, held: &str, seed: &str) -> LoginEntry {
        let metadata = json!({"name": account.replace('/', "-"), "uid": "u", "annotations": {
            "oauth-operator.dev/account": account, "oauth-operator.dev/refresh-token-digest": held,
            "oauth-operator.dev/seed-digest": seed, "oauth-operator.dev/state-policy": "Delete",
        }});
        LoginEntry::of(&serde_json::from_value(metadata).unwrap()).unwrap()
    }

    fn claim(logins: &Logins, account: &str, digest: &str) -> Option<String> {
        logins.claim(account, &[digest.to_owned()])
    }

    #[test]
    fn a_refresh_token_is_of_one_account() {
        let logins = Logins::default();
        logins.replace(vec![entry("apps/a", "r2", "r1")]);
        for digest in ["r1", "r2"] {
            assert_eq!(claim(&logins, "apps/b", digest).as_deref(), Some("apps/a"));
            assert_eq!(claim(&logins, "apps/a", digest), None);
        }
        assert_eq!(claim(&logins, "apps/b", "r3"), None);
        logins.set("apps-a", None);
        assert_eq!(claim(&logins, "apps/a", "r9"), None);
    }

    #[test]
    fn of_two_that_import_at_once_one_is_first() {
        let logins = Logins::default();
        assert_eq!(claim(&logins, "apps/a", "r1"), None);
        assert_eq!(claim(&logins, "apps/b", "r1").as_deref(), Some("apps/a"));
        assert_eq!(claim(&logins, "apps/a", "r1"), None, "also when it tries again");
    }

    #[test]
    fn an_intent_is_found_by_its_id_and_its_end_is_told_once() {
        let logins = Logins::default();
        let armed = LoginEntry { intent: Some("i1".into()), ..entry("apps/a", "r1", "r1") };
        assert!(!logins.set("apps-a", Some(armed.clone())));
        assert_eq!(logins.armed_with("i1"), Some(NamespacedName::new("apps", "a")));
        assert_eq!(logins.armed_with("i2"), None);
        assert!(!logins.set("apps-a", Some(armed.clone())));
        assert!(logins.set("apps-a", Some(LoginEntry { intent: None, ..armed.clone() })));
        assert!(!logins.set("apps-a", Some(LoginEntry { intent: None, ..armed })), "told already");
    }

    #[test]
    fn an_intent_is_known_since_it_was_seen_first() {
        let logins = Logins::default();
        let armed = |intent: &str| LoginEntry { intent: Some(intent.into()), ..entry("apps/a", "r1", "r1") };
        logins.set("apps-a", Some(armed("i1")));
        logins.lock().armed.get_mut("apps-a").unwrap().1 -= Duration::from_secs(30);
        logins.set("apps-a", Some(LoginEntry { demanded: Some(Timestamp::UNIX_EPOCH), ..armed("i1") }));
        logins.replace(vec![armed("i1")]);
        let known = |intent: &str| {
            let (id, since) = logins.armed("apps-a").unwrap();
            assert_eq!(&*id, intent);
            now().duration_since(since).as_secs()
        };
        assert_eq!(known("i1"), 30, "neither another change nor another list makes it younger");
        logins.replace(vec![armed("i2")]);
        assert_eq!(known("i2"), 0);
        logins.set("apps-a", Some(entry("apps/a", "r1", "r1")));
        assert_eq!(logins.armed("apps-a"), None);
        logins.set("apps-a", Some(armed("i3")));
        logins.replace(vec![]);
        assert_eq!(logins.armed("apps-a"), None);
    }

    #[test]
    fn what_is_no_state_secret_is_no_login() {
        assert_eq!(LoginEntry::of(&ObjectMeta::default()), None);
        assert!(entry("apps/a", "x", "y").deletable);
    }
}
