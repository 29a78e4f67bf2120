//! Evaluates programs with the values of a scope, as long as they keep within the bounds.

use super::bound;
use super::budget::{Budget, Excess, LARGEST};
use super::error::{ExpressionError, cause};
use super::json::{self, NoJson};
use super::language;
use super::program::Program;
use super::references::{References, Use};
use super::scope::{Scope, Variable};
use super::shape::{self, Part, Shape, TooLarge};
use cel::common::types::{CelBool, CelDouble, CelInt, CelMap, CelMapKey, CelString, CelUInt, Kind};
use cel::common::value::{CowVal, Val};
use cel::{Context, Value as CelValue};
use std::collections::{BTreeMap, HashMap};

/// The values that programs refer to, and what is left to spend on them.
pub(super) struct Evaluation<'s> {
    scope: &'s Scope,
    context: Context<'s, 's>,
    shapes: BTreeMap<String, Part>,
    budget: Budget,
}

impl<'s> Evaluation<'s> {
    /// With what of a scope is referred to.
    pub(super) fn new(references: &References, scope: &'s Scope) -> Result<Self, ExpressionError> {
        let mut evaluation = Self {
            scope,
            context: Context::with_env(language::environment()),
            shapes: BTreeMap::new(),
            budget: Budget::default(),
        };
        for (name, used) in references.uses() {
            if let Some(variable) = scope.get(name) {
                let too_large = |_| {
                    ExpressionError(format!(
                        "{name} is too large to go through: refer to those of its fields that are needed, and not to all of it"
                    ))
                };
                evaluation.load(name, variable, used).map_err(too_large)?;
            }
        }
        Ok(evaluation)
    }

    fn load(&mut self, name: &str, variable: &'s Variable, used: &Use) -> Result<(), TooLarge> {
        let (shape, value) = match variable {
            Variable::One(value) => {
                let shape = shape::measured(value, used, self.budget.work)?;
                self.spend(&shape)?;
                (shape, json::borrowed(value, used))
            }
            Variable::Members(members) => {
                let whole = Use { whole: true, ..Use::default() };
                let (mut shapes, mut values) = (vec![], HashMap::new());
                for (member, value) in members.iter() {
                    let Some(used) = (if used.whole { Some(&whole) } else { used.fields.get(member) }) else { continue };
                    let shape = shape::measured(value, used, self.budget.work)?;
                    self.spend(&shape)?;
                    shapes.push((member.as_str(), shape));
                    values.insert(CelMapKey::from(member.as_str()), json::borrowed(value, used));
                }
                (shape::composed(shapes), Box::new(CelMap::from(values)) as Box<dyn Val + 's>)
            }
        };
        self.shapes.insert(name.to_owned(), shape.into());
        self.context.add_variable_as_val(name, value);
        Ok(())
    }

    /// A value is measured, converted and dropped.
    fn spend(&mut self, shape: &Shape) -> Result<(), TooLarge> {
        self.budget.spend(shape.work.all.saturating_mul(2)).map_err(|_| TooLarge)
    }

    /// What a program comes to, as JSON.
    pub(super) fn json(&mut self, program: &Program) -> Result<serde_json::Value, ExpressionError> {
        let value = self.value(program)?;
        json::written(value.as_ref()).map_err(|error| program.failed(&no_json(error)))
    }

    /// Whether what a program says is true.
    pub(super) fn truth(&mut self, program: &Program) -> Result<bool, ExpressionError> {
        let value = self.value(program)?;
        let truth = value.downcast_ref::<CelBool>().map(|truth| *truth.inner());
        truth.ok_or_else(|| {
            program.failed(&format!("is {} and neither true nor false: compare it with something", kind(value.as_ref())))
        })
    }

    /// What a program comes to, as a part of a text.
    pub(super) fn text(&mut self, program: &Program) -> Result<String, ExpressionError> {
        let value = self.value(program)?;
        let value = value.as_ref();
        if let Some(text) = value.downcast_ref::<CelString>() {
            Ok(text.inner().to_owned())
        } else if let Some(int) = value.downcast_ref::<CelInt>() {
            Ok(int.inner().to_string())
        } else if let Some(uint) = value.downcast_ref::<CelUInt>() {
            Ok(uint.inner().to_string())
        } else if let Some(truth) = value.downcast_ref::<CelBool>() {
            Ok(truth.inner().to_string())
        } else if let Some(double) = value.downcast_ref::<CelDouble>() {
            number(*double.inner()).ok_or_else(|| program.failed(&no_json(NoJson::Number)))
        } else {
            let hint = match value.get_type().kind() {
                Kind::NullType => "say what to write instead, as in x == null ? '' : x",
                _ => "use json.encode(…), or one of its fields",
            };
            Err(program.failed(&format!("is {} and cannot be part of a text: {hint}", kind(value))))
        }
    }

    /// Bytes that are left.
    #[cfg(test)]
    pub(super) fn left(&self) -> u64 {
        self.budget.size
    }

    fn value<'e>(&'e mut self, program: &'e Program) -> Result<CowVal<'e, 's>, ExpressionError> {
        if let Some(name) = program.references.variables().iter().find(|name| self.scope.get(name).is_none()) {
            let there = self.scope.names().join(", ");
            return Err(program.failed(&format!("names {name}, which does not exist; there are: {there}")));
        }
        let shape =
            bound::of(&program.expression, &self.shapes, &mut self.budget).map_err(|excess| program.failed(&too_much(excess)))?;
        self.budget.size =
            self.budget.size.checked_sub(shape.size.each).ok_or_else(|| program.failed(&too_much(Excess::Size)))?;
        CelValue::resolve_val(&program.expression, &self.context).map_err(|error| program.failed(&cause(&error, program)))
    }
}

/// A number in a text: without a fraction where it has none, as `string(…)` writes it.
fn number(double: f64) -> Option<String> {
    let number = serde_json::Number::from_f64(double)?.to_string();
    Some(number.strip_suffix(".0").map_or(number.clone(), str::to_owned))
}

/// What a value is, with an article.
fn kind(value: &dyn Val) -> String {
    match value.get_type().name() {
        "null_type" => "null".into(),
        "int" | "uint" | "double" => "a number".into(),
        "optional_type" => "a value that may be nothing".into(),
        name => format!("a {name}"),
    }
}

fn no_json(error: NoJson) -> String {
    match error {
        NoJson::Type(name) if name == "bytes" => "is bytes and no JSON: use string(…) or base64.encode(…)".into(),
        NoJson::Type(name) if name == "optional_type" => "may be nothing: end it with .orValue(…)".into(),
        NoJson::Type(name) => format!("is a {name} and no JSON"),
        NoJson::Number => "is no number that JSON has (NaN, or infinite)".into(),
        NoJson::Key => "makes an object with a key that is no text: use string(…)".into(),
        NoJson::TooDeep => "is nested too deeply".into(),
    }
}

fn too_much(excess: Excess) -> String {
    match excess {
        Excess::Work => "could cost too much with values of this size: go through less at once (filter first, or take only the fields that are needed), or split it into steps".into(),
        Excess::Size => format!("could become larger than {} MiB: take only the fields that are needed", LARGEST / 1024 / 1024),
    }
}
