//! What the watch of Secrets has told: which of them are ours and at which version, in a few bytes each. Secrets of
//! others leave nothing here, however many and large they are.

use crate::api::vocabulary::{ACCOUNT_UID_LABEL, COMPONENT_LABEL, GROUP, MANAGED_BY_LABEL, MANAGER, TOKEN_COMPONENT};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

/// Namespace and name.
pub type Place = (Box<str>, Box<str>);

#[derive(Default)]
struct Index {
    by_owner: HashMap<Box<str>, BTreeMap<Place, Mark>>,
    owner_of: HashMap<Place, Box<str>>,
}

/// The marks of one watch.
#[derive(Default)]
pub struct Marks {
    index: RwLock<Index>,
}

impl Marks {
    /// The mark of the Secret at this place, if this account controls it.
    pub fn of(&self, owner: &str, namespace: &str, name: &str) -> Option<Mark> {
        self.read().by_owner.get(owner)?.get(&(namespace.into(), name.into())).cloned()
    }

    /// Names and marks of the other Secrets in the namespace that this account controls.
    pub fn others(&self, owner: &str, namespace: &str, name: &str) -> Vec<(String, Mark)> {
        let index = self.read();
        let all = index.by_owner.get(owner).into_iter().flatten();
        let others = all.filter(|((there, other), mark)| **there == *namespace && **other != *name && mark.controlled);
        others.map(|((_, other), mark)| (other.to_string(), mark.clone())).collect()
    }

    /// Sets or removes the mark of one place.
    pub fn set(&self, place: Place, mark: Option<Mark>) {
        self.write().set(place, mark);
    }

    /// Replaces everything: what a new list of the watch says.
    pub fn replace(&self, all: Vec<(Place, Mark)>) {
        let mut index = Index::default();
        all.into_iter().for_each(|(place, mark)| index.set(place, Some(mark)));
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
    fn set(&mut self, place: Place, mark: Option<Mark>) {
        if let Some(owner) = self.owner_of.remove(&place)
            && let Some(theirs) = self.by_owner.get_mut(&owner)
        {
            theirs.remove(&place);
            if theirs.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        if let Some(mark) = mark {
            self.owner_of.insert(place.clone(), mark.owner.clone());
            self.by_owner.entry(mark.owner.clone()).or_default().insert(place, mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(owner: &str, version: &str) -> Mark {
        Mark { owner: owner.into(), uid: "s".into(), resource_version: version.into(), controlled: true }
    }

    fn place(name: &str) -> Place {
        ("apps".into(), name.into())
    }

    #[test]
    fn a_mark_belongs_to_its_owner_only() {
        let marks = Marks::default();
        marks.set(place("a-token"), Some(mark("a", "1")));
        assert_eq!(marks.of("a", "apps", "a-token"), Some(mark("a", "1")));
        assert_eq!(marks.of("b", "apps", "a-token"), None);
        marks.set(place("a-token"), Some(mark("b", "2")));
        assert_eq!(marks.of("a", "apps", "a-token"), None);
        marks.set(place("a-token"), None);
        assert_eq!(marks.of("b", "apps", "a-token"), None);
        assert!(marks.read().by_owner.is_empty() && marks.read().owner_of.is_empty());
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
        marks.set(place("old"), Some(mark));
        assert!(marks.others("a", "apps", "new").is_empty());
    }

    #[test]
    fn others_are_those_of_the_same_owner_under_another_name() {
        let marks = Marks::default();
        marks.replace(vec![(place("old"), mark("a", "1")), (place("new"), mark("a", "2")), (place("b"), mark("b", "3"))]);
        assert_eq!(marks.others("a", "apps", "new"), [("old".to_owned(), mark("a", "1"))]);
        assert!(marks.others("a", "elsewhere", "new").is_empty());
        marks.replace(vec![]);
        assert!(marks.others("a", "apps", "new").is_empty());
    }
}
