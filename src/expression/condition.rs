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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(source: &str) -> Result<bool, String> {
        let response = json!({"status": 503, "body": {"state": "s3cret"}});
        let scope = Scope::default().with("response", Arc::new(response));
        Condition::parse(source).and_then(|condition| condition.holds(&scope)).map_err(|error| error.to_string())
    }

    #[test]
    fn conditions_hold_or_do_not() {
        for (source, expected) in [
            ("true", true),
            ("response.status >= 500 && response.status < 600", true),
            ("response.status in [200, 201]", false),
            ("has(response.body.error)", false),
            ("response.body.state == 'done' || response.status == 503", true),
            ("!(response.body.?state.orValue('') == 'done')", true),
        ] {
            assert_eq!(holds(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_is_neither_true_nor_false_is_said() {
        for (source, words) in [
            ("response.status", "response.status is a number and neither true nor false: compare it with something"),
            ("response.body.state", "is a string and neither"),
            ("null", "is null and neither"),
            ("response.nothing == 1", "names the field nothing"),
            ("request.status == 1", "names request, which does not exist; there are: response"),
            ("${true}", "${true} is no CEL expression"),
            ("", "is no CEL expression"),
        ] {
            let error = holds(source).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{source}: {error}");
        }
    }

    #[test]
    fn a_condition_shows_its_source_only() {
        assert_eq!(format!("{:?}", Condition::parse("1 < 2").unwrap()), r#"Condition("1 < 2")"#);
    }
}
