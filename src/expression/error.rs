//! Why an expression cannot be used, in a clause for whoever wrote it.

use super::program::Program;
use cel::ExecutionError;

/// Why a text cannot be used, in a clause without any value in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(pub(super) String);

/// As much of a source as a sentence quotes.
pub(super) fn quoted(source: &str) -> String {
    source.chars().take(80).collect()
}

/// What went wrong while a program was evaluated, and what to do, without a value: the library's errors quote what they were
/// given. A name is said only where the source has it.
pub(super) fn cause(error: &ExecutionError, program: &Program) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) if program.says(name) => format!("names {name}, which does not exist"),
        ExecutionError::NoSuchKey(name) if program.says(name) => {
            format!("names the field {name}, which is not there: use has(…) where it may be absent")
        }
        ExecutionError::NoSuchKey(_) => "names a field that is not there: use in or has(…) where it may be absent".into(),
        ExecutionError::NoSuchOverload(overload) => {
            let (what, types) = (operation(overload.function()), overload.argument_types().join(", "));
            format!("gives {what} something it does not take: ({types})")
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            let (left, right) = (left.type_of(), right.type_of());
            format!("cannot {operator} {left} and {right}: convert one of them, with string(…), int(…) or double(…)")
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("cannot compare {} with {}: convert one of them", left.type_of(), right.type_of())
        }
        ExecutionError::IndexOutOfBounds(_) => "asks for an element that the list does not have: check size(…) first".into(),
        ExecutionError::FunctionError { function, .. } => format!("fails in {function}: check what it is given"),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "divides by zero".into(),
        ExecutionError::Overflow(..) => "computes a number that is too large: use double(…)".into(),
        ExecutionError::DuplicateKey(_) => "makes an object with the same key twice".into(),
        ExecutionError::UnsupportedKeyType(_) => "uses something as a key that can be none: use string(…)".into(),
        ExecutionError::UnexpectedType { got, want } => format!("has a {got} where a {want} is needed"),
        _ => "cannot be evaluated".into(),
    }
}

/// How users write what the language calls `_+_`.
fn operation(name: &str) -> String {
    match name {
        "_._" | "_?._" => "a field's selection".into(),
        "_[_]" | "_[?_]" => "an index".into(),
        "_?_:_" => "a condition".into(),
        "-_" => "a negation".into(),
        "@in" => "in".into(),
        _ => name.trim_matches('_').to_owned(),
    }
}
