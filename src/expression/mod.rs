//! EXPRESSIONS THAT USERS WRITE, in CEL (Common Expression Language). Pure, and bounded before they are evaluated: what
//! somebody else writes must cost us nothing worth speaking of.
//!
//! Two dialects. [`Template`] is text with `${…}` in it, for the keys of a token Secret: no loops, few variables. Workflows
//! go through JSON: a [`Tree`] is JSON with `${…}` in its strings, a [`Condition`] a bare expression that is true or false, an
//! [`Address`] a URL whose values cannot change where it leads; all of them see a [`Scope`] and say with [`References`] what of
//! it they need.
//!
//! The way of an expression: `interpolation` finds it in a text, `program` parses it, `grammar` refuses what may not be
//! written, `references` lists what it names (both read it through `syntax`). Then, with actual values: `shape` measures them,
//! `bound` says the most that the expression could cost (with `rules` for the functions of `language`) and refuses it if that is
//! more than its `budget`; only then `evaluation` evaluates it, with `json` on either side.

mod address;
mod bound;
mod budget;
mod condition;
mod error;
mod evaluation;
mod grammar;
mod interpolation;
mod json;
mod language;
mod program;
mod references;
mod rules;
mod scope;
mod shape;
mod syntax;
mod template;
mod tree;

#[cfg(test)]
mod adversaries_tests;

pub use address::Address;
pub use condition::Condition;
pub use error::ExpressionError;
pub use references::{Members, References};
pub use scope::Scope;
pub use template::{Field, Template, Variables};
pub use tree::Tree;
