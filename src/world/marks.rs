//! What the watch of Secrets has told: which of them are ours and at which version, in a few bytes each. Secrets of
//! others leave nothing here, however many and large they are.

use crate::api::NamespacedName;
use crate::api::vocabulary::{ACCOUNT_UID_LABEL, COMPONENT_LABEL, GROUP, MANAGED_BY_LABEL, MANAGER, TOKEN_COMPONENT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A Secret that an OAuthAccount controls, or publishes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// UID of the account.
    pub owner: Box<str>,
    /// UID of the Secret.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub resource_version: Box<str>,
    /// Whether the account controls it and the operator made it: only then is it ours to delete.
    pub controlled: bool,
}

impl Mark {
    /// The mark of a Secret, where an account controls it, or a label names the account that publishes in it.
    pub fn of(metadata: &ObjectMeta) -> Option<Self> {
        let controller = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let account = controller.filter(|owner| owner.kind == "OAuthAccount" && owner.api_version.starts_with(GROUP));
        let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
        // Others may give a Secret of theirs, a seed, to an account as its owner: it is not ours for that.
        let made_here = label(MANAGED_BY_LABEL) == Some(MANAGER) && label(COMPONENT_LABEL) == Some(TOKEN_COMPONENT);
        let named = || metadata.labels.as_ref()?.get(ACCOUNT_UID_LABEL).map(String::as_str);
        Some(Self {
            owner: account.map(|owner| owner.uid.as_str()).or_else(named)?.into(),
            uid: metadata.uid.as_deref()?.into(),
            resource_version: metadata.resource_version.as_deref()?.into(),
            controlled: account.is_some() && made_here,
        })
    }
}

#[derive(Default)]
struct Index {
    marks: HashMap<Arc<NamespacedName>, Mark>,
    /// Secrets by a hash of their owner: where two owners have the same, each looks at one mark too many.
    owned: BTreeSet<(u64, Arc<NamespacedName>)>,
    hash: RandomState,
}

/// The marks of one watch.
#[derive(Default)]
pub struct Marks {
    index: RwLock<Index>,
}

impl Marks {
    /// The mark of the Secret of this name, if this account controls it.
    pub fn of(&self, owner: &str, secret: &NamespacedName) -> Option<Mark> {
        self.read().marks.get(secret).filter(|mark| *mark.owner == *owner).cloned()
    }

    /// Names and marks of the other Secrets in the namespace that this account controls.
    pub fn others(&self, owner: &str, secret: &NamespacedName) -> Vec<(String, Mark)> {
        let index = self.read();
        let known = |other: &Arc<NamespacedName>| Some((other.clone(), index.marks.get(other)?.clone()));
        let all = index.of_owner(owner).filter(|other| other.namespace == secret.namespace && other.name != secret.name);
        let others = all.filter_map(known).filter(|(_, mark)| *mark.owner == *owner && mark.controlled);
        others.map(|(other, mark)| (other.name.to_string(), mark)).collect()
    }

    /// Sets or removes the mark of one Secret.
    pub fn set(&self, secret: NamespacedName, mark: Option<Mark>) {
        self.write().set(secret, mark);
    }

    /// The mark of a Secret that we have written over this version, or made where there was none: unless the watch has told of something
    /// newer meanwhile, which is to be seen and put right.
    pub fn written(&self, secret: NamespacedName, over: Option<&str>, mark: Mark) {
        let mut index = self.write();
        if index.marks.get(&secret).map(|there| &*there.resource_version) == over {
            index.set(secret, Some(mark));
        }
    }

    /// Replaces everything: what a new list of the watch says.
    pub fn replace(&self, all: Vec<(NamespacedName, Mark)>) {
        let mut index = Index::default();
        all.into_iter().for_each(|(secret, mark)| index.set(secret, Some(mark)));
        *self.write() = index;
    }

    fn read(&self) -> RwLockReadGuard<'_, Index> {
        // Each change is whole before its lock is let go.
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    fn of_owner(&self, owner: &str) -> impl Iterator<Item = &Arc<NamespacedName>> {
        let owner = self.hash.hash_one(owner);
        let first = (owner, Arc::new(NamespacedName::new("", "")));
        self.owned.range(first..).take_while(move |(other, _)| *other == owner).map(|(_, secret)| secret)
    }

    fn set(&mut self, secret: NamespacedName, mark: Option<Mark>) {
        let secret = match self.marks.remove_entry(&secret) {
            Some((secret, before)) => {
                self.owned.remove(&(self.hash.hash_one(&*before.owner), secret.clone()));
                secret
            }
            None => Arc::new(secret),
        };
        if let Some(mark) = mark {
            self.owned.insert((self.hash.hash_one(&*mark.owner), secret.clone()));
            self.marks.insert(secret, mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(owner: &str, version: &str) -> Mark {
        Mark { owner: owner.into(), uid: "s".into(), resource_version: version.into(), controlled: true }
    }

    fn secret(name: &str) -> NamespacedName {
        NamespacedName::new("apps", name)
    }

    #[test]
    fn a_mark_belongs_to_its_owner_only() {
        let marks = Marks::default();
        marks.set(secret("a-token"), Some(mark("a", "1")));
        assert_eq!(marks.of("a", &secret("a-token")), Some(mark("a", "1")));
        assert_eq!(marks.of("b", &secret("a-token")), None);
        marks.set(secret("a-token"), Some(mark("b", "2")));
        assert_eq!(marks.of("a", &secret("a-token")), None);
        marks.set(secret("a-token"), None);
        assert_eq!(marks.of("b", &secret("a-token")), None);
        assert!(marks.read().marks.is_empty() && marks.read().owned.is_empty());
    }

    #[test]
    fn what_we_wrote_does_not_hide_what_came_after_it() {
        let marks = Marks::default();
        let version = || marks.of("a", &secret("s")).map(|mark| mark.resource_version);
        marks.written(secret("s"), None, mark("a", "4"));
        assert_eq!(version().as_deref(), Some("4"));
        marks.written(secret("s"), Some("4"), mark("a", "5"));
        assert_eq!(version().as_deref(), Some("5"));
        marks.set(secret("s"), Some(mark("a", "7")));
        marks.written(secret("s"), Some("5"), mark("a", "6"));
        assert_eq!(version().as_deref(), Some("7"), "somebody has edited it since");
        marks.set(secret("s"), None);
        marks.written(secret("s"), Some("7"), mark("a", "8"));
        assert_eq!(version(), None, "somebody has deleted it since");
    }

    #[test]
    fn only_a_secret_that_an_account_controls_leaves_a_mark() {
        let metadata = |kind: &str, controller: bool| -> ObjectMeta {
            let owner = serde_json::json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": kind, "name": "a", "uid": "u", "controller": controller});
            let labels = serde_json::json!({"app.kubernetes.io/managed-by": "oauth-operator", "app.kubernetes.io/component": "access-token"});
            let metadata = serde_json::json!({"uid": "s", "resourceVersion": "1", "ownerReferences": [owner], "labels": labels});
            serde_json::from_value(metadata).unwrap()
        };
        assert_eq!(Mark::of(&metadata("OAuthAccount", true)), Some(mark("u", "1")));
        let seed = ObjectMeta { labels: None, ..metadata("OAuthAccount", true) };
        assert!(!Mark::of(&seed).unwrap().controlled, "a seed that somebody gave an account as its owner is not ours to delete");
        assert_eq!(Mark::of(&metadata("OAuthAccount", false)), None);
        assert_eq!(Mark::of(&metadata("Deployment", true)), None);
        assert_eq!(Mark::of(&ObjectMeta::default()), None);
    }

    #[test]
    fn a_secret_that_only_names_an_account_is_told_of_and_is_not_its_to_delete() {
        let metadata = serde_json::json!({"uid": "s", "resourceVersion": "1", "labels": {"oauth-operator.dev/account-uid": "a"}});
        let mark = Mark::of(&serde_json::from_value(metadata).unwrap()).unwrap();
        assert!(*mark.owner == *"a" && !mark.controlled);
        let marks = Marks::default();
        marks.set(secret("old"), Some(mark));
        assert!(marks.others("a", &secret("new")).is_empty());
    }

    #[test]
    fn others_are_those_of_the_same_owner_under_another_name() {
        let marks = Marks::default();
        marks.replace(vec![(secret("old"), mark("a", "1")), (secret("new"), mark("a", "2")), (secret("b"), mark("b", "3"))]);
        assert_eq!(marks.others("a", &secret("new")), [("old".to_owned(), mark("a", "1"))]);
        assert!(marks.others("a", &NamespacedName::new("elsewhere", "new")).is_empty());
        marks.replace(vec![]);
        assert!(marks.others("a", &secret("new")).is_empty());
    }
}
