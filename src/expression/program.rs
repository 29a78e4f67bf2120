//! One expression, parsed.

use super::error::{ExpressionError, quoted};
use super::grammar;
use super::references::References;
use super::syntax;
use cel::IdedExpr;
use cel::common::ast::Expr;
use cel::parser::PrattParser;

/// An expression that may be evaluated, if what it goes through is not too large.
pub(super) struct Program {
    /// As sentences name it.
    shown: String,
    pub(super) expression: IdedExpr,
    pub(super) references: References,
}

impl Program {
    /// Understands what stands between `${` and `}`.
    pub(super) fn interpolated(source: &str) -> Result<Self, ExpressionError> {
        Self::parse(source, format!("${{{}}}", quoted(source)))
    }

    /// Understands an expression that stands for itself.
    pub(super) fn bare(source: &str) -> Result<Self, ExpressionError> {
        Self::parse(source, quoted(source))
    }

    fn parse(source: &str, shown: String) -> Result<Self, ExpressionError> {
        let refused = |why: String| ExpressionError(format!("{shown} {why}"));
        if let Some(why) = grammar::refused_source(source) {
            return Err(refused(why));
        }
        // The library's other parser takes megabytes of stack for what is let through here.
        let parser = PrattParser::new().max_recursion_depth(64).enable_optional_syntax(true);
        let expression = parser.parse(source).map_err(|_| refused("is no CEL expression".into()))?;
        if let Some(why) = grammar::refused(&expression) {
            return Err(refused(why));
        }
        Ok(Self { references: References::of(&expression), shown, expression })
    }

    /// A sentence about it.
    pub(super) fn failed(&self, why: &str) -> ExpressionError {
        ExpressionError(format!("{} {why}", self.shown))
    }

    /// Whether a name stands in the source, so that a sentence may say it.
    pub(super) fn says(&self, name: &str) -> bool {
        fn within(expression: &IdedExpr, name: &str) -> bool {
            let here = match &expression.expr {
                Expr::Ident(ident) => ident == name,
                _ => syntax::step(expression).is_some_and(|(_, field)| field == name),
            };
            let inner = match &expression.expr {
                Expr::Comprehension(comprehension) => syntax::Loop::of(comprehension).is_some_and(|repeated| {
                    [Some(repeated.range), repeated.guard, repeated.item].into_iter().flatten().any(|inner| within(inner, name))
                }),
                _ => syntax::children(expression).into_iter().any(|inner| within(inner, name)),
            };
            here || inner
        }
        within(&self.expression, name)
    }
}
