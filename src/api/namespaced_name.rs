//! What an object of a namespace is called in the cluster.

use super::OAuthAccount;
use std::fmt;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespacedName {
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

impl NamespacedName {
    /// Of these two.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Of an account.
    pub fn of(account: &OAuthAccount) -> Self {
        let text = |value: &Option<String>| value.as_deref().unwrap_or_default().into();
        Self { namespace: text(&account.metadata.namespace), name: text(&account.metadata.name) }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
