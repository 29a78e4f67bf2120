//! What expressions may refer to.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Values that expressions may refer to, by name; members of `steps` one by one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Scope(Arc<BTreeMap<String, Variable>>);

/// A variable, which may have been put together of members.
#[derive(Clone)]
pub(super) enum Variable {
    One(Arc<Value>),
    Members(Arc<BTreeMap<String, Arc<Value>>>),
}

impl Scope {
    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: Arc<Value>) -> Self {
        Arc::make_mut(&mut self.0).insert(name.to_owned(), Variable::One(value));
        self
    }

    /// With one more member of a variable, which is an object of nothing else.
    #[must_use]
    pub fn with_member(mut self, name: &str, member: &str, value: Arc<Value>) -> Self {
        let variable = Arc::make_mut(&mut self.0).entry(name.to_owned()).or_insert_with(Variable::none);
        if !matches!(variable, Variable::Members(_)) {
            *variable = Variable::none();
        }
        if let Variable::Members(members) = variable {
            Arc::make_mut(members).insert(member.to_owned(), value);
        }
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name)
    }

    /// The names that are there.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

impl Variable {
    fn none() -> Self {
        Self::Members(Arc::default())
    }
}
