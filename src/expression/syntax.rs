//! How to read the tree that a parser made of an expression: paths as users write them, and loops behind their macros.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

/// What macros call their accumulator; no source can name it.
const RESULT: &str = "@result";

/// `range.map(variable, guard, item)` and its kin.
pub(super) struct Loop<'e> {
    pub(super) range: &'e IdedExpr,
    pub(super) variable: &'e str,
    /// The condition of `filter`, `all`, `exists`, `exists_one` and of the longer `map`.
    pub(super) guard: Option<&'e IdedExpr>,
    /// What becomes an element of the list; `all`, `exists` and `exists_one` make no list.
    pub(super) item: Option<&'e IdedExpr>,
}

impl<'e> Loop<'e> {
    /// The loop that a macro made this comprehension of; none if it is not one that we know.
    pub(super) fn of(comprehension: &'e ComprehensionExpr) -> Option<Self> {
        let variable = comprehension.iter_var.as_str();
        if comprehension.accu_var != RESULT || comprehension.iter_var2.is_some() || variable.starts_with(['.', '@']) {
            return None;
        }
        let step = call(&comprehension.loop_step)?;
        let (guard, item) = match (step.func_name.as_str(), step.args.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [result, guard]) if is_result(result) => (Some(guard), None),
            (operators::CONDITIONAL, [guard, step, result]) if is_result(result) => (Some(guard), appended(call(step)?)?),
            _ => (None, appended(step)?),
        };
        Some(Self { range: &comprehension.iter_range, variable, guard, item })
    }
}

/// `[item]` of `@result + [item]`; nothing of `@result + 1`, which counts.
fn appended(step: &CallExpr) -> Option<Option<&IdedExpr>> {
    let (operators::ADD, [result, added]) = (step.func_name.as_str(), step.args.as_slice()) else { return None };
    match &added.expr {
        _ if !is_result(result) => None,
        Expr::List(list) if list.optional_indices.is_empty() && list.elements.len() == 1 => Some(list.elements.first()),
        Expr::Literal(LiteralValue::Int(_)) => Some(None),
        _ => None,
    }
}

fn is_result(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Ident(name) if name == RESULT)
}

fn call(expression: &IdedExpr) -> Option<&CallExpr> {
    if let Expr::Call(call) = &expression.expr { Some(call) } else { None }
}

/// The name of the function that a call calls, with its namespace, and whether it is called on something: `json.encode(x)` is
/// not called on `json`.
pub(super) fn function(call: &CallExpr, known: impl Fn(&str) -> bool) -> (String, Option<&IdedExpr>) {
    if let Some(target) = call.target.as_deref() {
        if let Expr::Ident(namespace) = &target.expr {
            let qualified = format!("{namespace}.{}", call.func_name);
            if known(&qualified) {
                return (qualified, None);
            }
        }
        return (call.func_name.clone(), Some(target));
    }
    (call.func_name.clone(), None)
}

/// A string that stands in the source.
pub(super) fn text(expression: &IdedExpr) -> Option<&str> {
    if let Expr::Literal(LiteralValue::String(text)) = &expression.expr { Some(text.inner()) } else { None }
}

/// One step into a value: of `operand.field`, `operand['field']` and their optional forms.
pub(super) fn step(expression: &IdedExpr) -> Option<(&IdedExpr, &str)> {
    match &expression.expr {
        Expr::Select(select) => Some((&select.operand, &select.field)),
        Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [operand, index]) => Some((operand, text(index)?)),
            _ => None,
        },
        _ => None,
    }
}

/// The expressions within one that are evaluated with the same variables; none of a loop's.
pub(super) fn children(expression: &IdedExpr) -> Vec<&IdedExpr> {
    match &expression.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => {
            let pairs = map.entries.iter().filter_map(|entry| match &entry.expr {
                EntryExpr::MapEntry(pair) => Some([&pair.key, &pair.value]),
                EntryExpr::StructField(_) => None,
            });
            pairs.flatten().collect()
        }
        Expr::Comprehension(_) | Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => vec![],
    }
}
