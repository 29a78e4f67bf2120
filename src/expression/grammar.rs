//! What may be written at all, whatever the values are.

use super::language;
use super::syntax::{self, Loop};
use cel::IdedExpr;
use cel::common::ast::{Expr, operators};

/// Bytes of one expression.
const LONGEST: usize = 2048;
/// Brackets within brackets.
const DEEPEST: usize = 16;
/// Operators of one expression: selections, indexes, calls and loops among them.
const MOST_OPERATORS: usize = 64;
/// Characters that may be operators, within texts too. More would take more stack than there is, before they are counted.
const MOST_CHARACTERS: usize = 256;
/// Loops within loops.
const MOST_LOOPS: usize = 3;
/// Operators within operators, `a + b + c` one within the other. The library takes 40 KiB of stack for each, unoptimized.
const HIGHEST: usize = 40;
/// What a loop takes, in operators.
const LOOP: usize = 3;

/// What the language writes as operators.
const OPERATORS: &[&str] = &[
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::OPT_INDEX,
    operators::OPT_SELECT,
    operators::IN,
];

/// Why a source may not even be parsed.
pub(super) fn refused_source(source: &str) -> Option<String> {
    if source.len() > LONGEST {
        return Some(format!("is longer than {LONGEST} bytes: split it into steps"));
    }
    if brackets(source) > DEEPEST {
        return Some(format!("has brackets more than {DEEPEST} deep: split it into steps"));
    }
    (operator_characters(source) > MOST_CHARACTERS).then(too_many_operators)
}

/// How deep brackets stand within brackets, those in texts included.
pub(super) fn brackets(source: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for character in source.chars() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Characters of which operators are made, those in texts included.
pub(super) fn operator_characters(source: &str) -> usize {
    source.chars().filter(|character| "+-*/%!<>=&|?.[(".contains(*character)).count()
}

/// Why a parsed expression may not be evaluated.
pub(super) fn refused(expression: &IdedExpr) -> Option<String> {
    Inspection::default().inspect(expression, 0, 0).err()
}

fn too_many_operators() -> String {
    format!("has more than {MOST_OPERATORS} operators: split it into steps")
}

#[derive(Default)]
struct Inspection {
    operators: usize,
}

impl Inspection {
    fn inspect(&mut self, expression: &IdedExpr, loops: usize, height: usize) -> Result<(), String> {
        self.operators += usize::from(matches!(expression.expr, Expr::Call(_) | Expr::Select(_) | Expr::Comprehension(_)));
        if self.operators > MOST_OPERATORS {
            return Err(too_many_operators());
        }
        if height > HIGHEST {
            return Err(format!(
                "has operators more than {HIGHEST} deep: join long texts with [a, b].join(), or split it into steps"
            ));
        }
        let height = height + 1;
        match &expression.expr {
            Expr::Call(call) => {
                let (name, target) = syntax::function(call, language::is_function);
                callable(&name, target.is_some(), call.args.len() + usize::from(target.is_some()))?;
                target.into_iter().chain(&call.args).try_for_each(|inner| self.inspect(inner, loops, height))
            }
            Expr::Comprehension(comprehension) if loops == MOST_LOOPS => Err(format!(
                "has more than {MOST_LOOPS} loops within each other, the innermost over {}: split it into steps",
                comprehension.iter_var
            )),
            Expr::Comprehension(comprehension) => {
                let repeated = Loop::of(comprehension).ok_or("has a loop of a kind that is not known here")?;
                self.inspect(repeated.range, loops, height)?;
                repeated
                    .guard
                    .into_iter()
                    .chain(repeated.item)
                    .try_for_each(|inner| self.inspect(inner, loops + 1, height + LOOP))
            }
            Expr::Struct(object) => {
                Err(format!("makes a {}, which does not exist: an object is {{'key': value}}", object.type_name))
            }
            Expr::Unspecified => Err("is no CEL expression".into()),
            _ => syntax::children(expression).into_iter().try_for_each(|inner| self.inspect(inner, loops, height)),
        }
    }
}

fn callable(name: &str, member: bool, arguments: usize) -> Result<(), String> {
    if OPERATORS.contains(&name) && !member || language::rule(name, member, arguments).is_some() {
        return Ok(());
    }
    let why = if language::is_function(name) {
        format!("calls {name} with the wrong number of arguments, or on what it is not called on")
    } else {
        format!("calls {name}, which does not exist; there are {}", language::names())
    };
    Err(why)
}
