//! An expression that is true or false.

use super::error::ExpressionError;
use super::evaluation::Evaluation;
use super::program::Program;
use super::references::References;
use super::scope::Scope;
use std::fmt;
use std::sync::Arc;

/// A bare CEL expression that must be a bool (`when`, `successWhen`, `retryWhen`).
#[derive(Clone)]
pub struct Condition {
    source: Arc<str>,
    program: Arc<Program>,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.source)
    }
}

impl Condition {
    /// Understands an expression, without `${` and `}`.
    ///
    /// # Errors
    /// Where it is none, or is larger than it may be.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        Ok(Self { program: Program::bare(source)?.into(), source: source.into() })
    }

    /// What it refers to.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.program.references
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// Where it cannot be evaluated, could cost too much, or is no bool; the clause quotes the expression and no value.
    pub fn holds(&self, scope: &Scope) -> Result<bool, ExpressionError> {
        Evaluation::new(self.references(), scope)?.truth(&self.program)
    }
}
