//! What an expression refers to.

use super::language;
use super::syntax::{self, Loop};
use cel::IdedExpr;
use cel::common::ast::Expr;
use std::collections::{BTreeMap, BTreeSet};

/// What an expression refers to, so that a definition can be checked before it runs and only what is needed is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    names: BTreeSet<String>,
    uses: BTreeMap<String, Use>,
}

/// Which members of a variable are referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// None: the variable is not referred to.
    None,
    /// These: `steps.fetch` and `steps['fetch']` name `fetch`.
    Named(BTreeSet<String>),
    /// It is used other than by the names of its members.
    Whole,
}

/// How much of a value is referred to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// All of it. Otherwise its fields; if there are none either, only whether it is there.
    pub(super) whole: bool,
    pub(super) fields: BTreeMap<String, Use>,
}

impl References {
    /// Every variable by its name, those of loops excluded.
    #[must_use]
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Which members of a variable are referred to.
    #[must_use]
    pub fn members(&self, name: &str) -> Members {
        match self.uses.get(name) {
            None => Members::None,
            Some(used) if used.whole => Members::Whole,
            Some(used) => Members::Named(used.fields.keys().cloned().collect()),
        }
    }

    /// Refers to what another one refers to, too.
    pub fn merge(&mut self, other: &Self) {
        self.names.extend(other.names.iter().cloned());
        for (name, used) in &other.uses {
            self.uses.entry(name.clone()).or_default().merge(used);
        }
    }

    pub(super) fn uses(&self) -> impl Iterator<Item = (&str, &Use)> {
        self.uses.iter().map(|(name, used)| (name.as_str(), used))
    }

    pub(super) fn of(expression: &IdedExpr) -> Self {
        let mut references = Self::default();
        references.collect(expression, &mut vec![]);
        references
    }

    fn collect<'e>(&mut self, expression: &'e IdedExpr, bound: &mut Vec<&'e str>) {
        if self.path(expression, bound) {
            return;
        }
        match &expression.expr {
            Expr::Comprehension(comprehension) => {
                let Some(repeated) = Loop::of(comprehension) else { return };
                self.collect(repeated.range, bound);
                bound.push(repeated.variable);
                for inner in repeated.guard.into_iter().chain(repeated.item) {
                    self.collect(inner, bound);
                }
                bound.pop();
            }
            Expr::Call(call) => {
                let (_, target) = syntax::function(call, language::is_function);
                for inner in target.into_iter().chain(&call.args) {
                    self.collect(inner, bound);
                }
            }
            _ => {
                for inner in syntax::children(expression) {
                    self.collect(inner, bound);
                }
            }
        }
    }

    /// Whether the expression is a path from a variable; it is noted if the variable is none of a loop's.
    fn path(&mut self, expression: &IdedExpr, bound: &[&str]) -> bool {
        let mut fields = vec![];
        let mut at = expression;
        while let Some((operand, field)) = syntax::step(at) {
            fields.push(field);
            at = operand;
        }
        let Expr::Ident(name) = &at.expr else { return false };
        // A leading dot passes over the loops.
        let (free, name) = name.strip_prefix('.').map_or((!bound.contains(&name.as_str()), name.as_str()), |name| (true, name));
        if free && !(fields.is_empty() && language::is_type(name)) {
            self.names.insert(name.to_owned());
            let mut used = self.uses.entry(name.to_owned()).or_default();
            for field in fields.into_iter().rev() {
                used = used.fields.entry(field.to_owned()).or_default();
            }
            used.whole |= !matches!(&expression.expr, Expr::Select(select) if select.test);
        }
        true
    }
}

impl Use {
    fn merge(&mut self, other: &Self) {
        self.whole |= other.whole;
        for (field, used) in &other.fields {
            self.fields.entry(field.clone()).or_default().merge(used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Condition;
    use super::*;

    fn references(source: &str) -> References {
        Condition::parse(source).unwrap().references().clone()
    }

    fn named(names: &[&str]) -> Members {
        Members::Named(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn variables_are_those_that_no_loop_binds() {
        for (source, expected) in [
            ("true", &[] as &[&str]),
            ("input.a == response.b", &["input", "response"]),
            ("input.items.all(i, i.price > run.limit)", &["input", "run"]),
            ("input.all(input, input > 1)", &["input"]),
            ("[1].all(input, input > 1)", &[]),
            ("[1].all(input, .input > 1)", &["input"]),
            ("[1].all(i, i > 0) && i > 1", &["i"]),
            ("type(input.a) == int", &["input"]),
            ("json.decode(input.a).ok", &["input"]),
            ("json.other == 1", &["json"]),
            ("{input.key: run.value}['x'] == 1", &["input", "run"]),
            ("has(input.a) && input.?b.orValue(false)", &["input"]),
        ] {
            let expected = expected.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(*references(source).variables(), expected, "{source}");
        }
    }

    #[test]
    fn members_are_named_unless_the_variable_is_used_whole() {
        for (source, expected) in [
            ("input.a", Members::None),
            ("steps.fetch.ok", named(&["fetch"])),
            ("steps['fetch'].ok && steps.store.ok", named(&["fetch", "store"])),
            ("has(steps.fetch)", named(&["fetch"])),
            ("steps.?fetch.hasValue()", named(&["fetch"])),
            ("steps[input.name].ok", Members::Whole),
            ("steps.all(s, steps[s].ok)", Members::Whole),
            ("size(steps) > 1 || steps.fetch.ok", Members::Whole),
            ("'fetch' in steps", Members::Whole),
            ("[1].all(steps, steps.x)", Members::None),
        ] {
            assert_eq!(references(source).members("steps"), expected, "{source}");
        }
    }

    #[test]
    fn merged_references_are_those_of_both() {
        let mut both = references("steps.fetch.ok && input.a");
        both.merge(&references("steps.store.ok && run.b"));
        assert_eq!(both.members("steps"), named(&["fetch", "store"]));
        assert_eq!(both.variables().len(), 3);
        both.merge(&references("size(steps) > 0"));
        assert_eq!(both.members("steps"), Members::Whole);
    }
}
