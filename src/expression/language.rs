//! What workflows' expressions may call: the standard functions, those extensions of the language whose cost has a bound, and
//! what JSON needs beside.

use super::json;
use super::rules::Rule;
use cel::common::types::{CelBool, CelString, DYN_TYPE, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{Env, ExecutionError, extensions};
use std::sync::{Arc, LazyLock};

/// Bytes that a compiled pattern may take, which bounds its states.
pub(super) const LARGEST_PATTERN: usize = 16 * 1024;

/// How a function is called.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    /// `f(x)`
    Global,
    /// `x.f()`
    Member,
    /// Either.
    Both,
}

/// Name, style, how many arguments it takes (what it is called on is one), and what it costs. What is not here cannot be
/// called, whatever the library has.
const FUNCTIONS: &[(&str, Style, [usize; 2], Rule)] = &[
    ("size", Style::Both, [1, 1], Rule::Size),
    ("contains", Style::Member, [2, 2], Rule::Scalar),
    ("startsWith", Style::Member, [2, 2], Rule::Scalar),
    ("endsWith", Style::Member, [2, 2], Rule::Scalar),
    ("matches", Style::Both, [2, 2], Rule::Match),
    ("string", Style::Global, [1, 1], Rule::String),
    ("int", Style::Global, [1, 1], Rule::Scalar),
    ("uint", Style::Global, [1, 1], Rule::Scalar),
    ("double", Style::Global, [1, 1], Rule::Double),
    ("bool", Style::Global, [1, 1], Rule::Scalar),
    ("bytes", Style::Global, [1, 1], Rule::Alike),
    ("dyn", Style::Global, [1, 1], Rule::Alike),
    ("type", Style::Global, [1, 1], Rule::Scalar),
    // optional values: a.?b.orValue(c)
    ("optional.of", Style::Global, [1, 1], Rule::Optional),
    ("optional.ofNonZeroValue", Style::Global, [1, 1], Rule::Optional),
    ("optional.none", Style::Global, [0, 0], Rule::Optional),
    ("hasValue", Style::Member, [1, 1], Rule::Scalar),
    ("value", Style::Member, [1, 1], Rule::Alike),
    ("or", Style::Member, [2, 2], Rule::Either),
    ("orValue", Style::Member, [2, 2], Rule::Either),
    // the encoders extension
    ("base64.encode", Style::Global, [1, 1], Rule::Grown(2)),
    ("base64.decode", Style::Global, [1, 1], Rule::Grown(6)),
    // JSON within JSON
    ("json.encode", Style::Global, [1, 1], Rule::Grown(2)),
    ("json.decode", Style::Global, [1, 1], Rule::Decode),
    // the strings extension, without format and quote
    ("charAt", Style::Member, [2, 2], Rule::Alike),
    ("indexOf", Style::Member, [2, 3], Rule::Find),
    ("lastIndexOf", Style::Member, [2, 3], Rule::Find),
    ("join", Style::Member, [1, 2], Rule::Join),
    ("lowerAscii", Style::Member, [1, 1], Rule::Alike),
    ("upperAscii", Style::Member, [1, 1], Rule::Alike),
    ("trim", Style::Member, [1, 1], Rule::Alike),
    ("replace", Style::Member, [3, 4], Rule::Replace),
    ("split", Style::Member, [2, 3], Rule::Split),
    ("substring", Style::Member, [2, 3], Rule::Alike),
    // the lists extension, without range and sortBy; `reverse` is of both
    ("reverse", Style::Member, [1, 1], Rule::Alike),
    ("slice", Style::Member, [3, 3], Rule::Slice),
    ("flatten", Style::Member, [1, 1], Rule::Flatten),
    ("distinct", Style::Member, [1, 1], Rule::Distinct),
    ("sort", Style::Member, [1, 1], Rule::Sort),
    // the math extension, without bits and macros
    ("math.abs", Style::Global, [1, 1], Rule::Double),
    ("math.ceil", Style::Global, [1, 1], Rule::Double),
    ("math.floor", Style::Global, [1, 1], Rule::Double),
    ("math.round", Style::Global, [1, 1], Rule::Double),
    ("math.trunc", Style::Global, [1, 1], Rule::Double),
    ("math.sign", Style::Global, [1, 1], Rule::Double),
    ("math.sqrt", Style::Global, [1, 1], Rule::Double),
    ("math.isNaN", Style::Global, [1, 1], Rule::Scalar),
    ("math.isInf", Style::Global, [1, 1], Rule::Scalar),
    ("math.isFinite", Style::Global, [1, 1], Rule::Scalar),
];

static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_stdlib();
    // Each fails only where a function is declared twice; the tests call them all.
    let _ = env.add_extension(extensions::encoders);
    let _ = env.add_extension(extensions::strings);
    let _ = env.add_extension(extensions::lists);
    let _ = env.add_extension(extensions::math);
    let _ = env.add_overload("json.encode", "json_encode", vec![DYN_TYPE], encode);
    let _ = env.add_overload("json.decode", "json_decode", vec![STRING_TYPE], decode);
    let _ = env.add_overload("matches", "matches", vec![STRING_TYPE, STRING_TYPE], matches);
    let _ = env.add_member_overload("matches", "string_matches", STRING_TYPE, vec![STRING_TYPE], matches);
    Arc::new(env)
});

pub(super) fn environment() -> Arc<Env> {
    LANGUAGE.clone()
}

/// `int`, as in `type(x) == int`.
pub(super) fn is_type(name: &str) -> bool {
    LANGUAGE.types().find_type(name).is_some()
}

pub(super) fn is_function(name: &str) -> bool {
    FUNCTIONS.iter().any(|(known, ..)| *known == name)
}

/// What a function costs, if it can be called so.
pub(super) fn rule(name: &str, member: bool, arguments: usize) -> Option<Rule> {
    let (_, style, [least, most], rule) = FUNCTIONS.iter().find(|(known, ..)| *known == name)?;
    let styled = *style == Style::Both || (*style == Style::Member) == member;
    (styled && (*least..=*most).contains(&arguments)).then_some(*rule)
}

/// The functions' names, for whoever called one that is not there.
pub(super) fn names() -> String {
    FUNCTIONS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

fn encode<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let failed = || ExecutionError::function_error("json.encode", "is no JSON");
    let value = arguments.first().ok_or(ExecutionError::MissingArgumentOrTarget)?;
    let value = json::written(value.as_ref()).map_err(|_| failed())?;
    Ok(CowVal::owned(CelString::from(value.to_string())))
}

fn decode<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let text = text(&arguments, 0)?;
    let value = serde_json::from_str(text).map_err(|_| ExecutionError::function_error("json.decode", "is no JSON"))?;
    Ok(CowVal::Owned(json::owned(value)))
}

/// The library's own `matches` needs another engine; this one takes time linear in the text, too.
fn matches<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let pattern = compiled(text(&arguments, 1)?, LARGEST_PATTERN)
        .map_err(|_| ExecutionError::function_error("matches", "is no pattern, or too large a one"))?;
    Ok(CowVal::owned(CelBool::from(pattern.is_match(text(&arguments, 0)?))))
}

fn compiled(pattern: &str, most: usize) -> Result<regex_lite::Regex, regex_lite::Error> {
    regex_lite::RegexBuilder::new(pattern).size_limit(most).build()
}

/// Bytes that a pattern takes, compiled: it does not tell, but it is not compiled to more than it may take.
pub(super) fn pattern_size(pattern: &str) -> usize {
    let sizes = std::iter::successors(Some(512), |size| Some(size * 2)).take_while(|size| *size < LARGEST_PATTERN);
    sizes.into_iter().find(|size| compiled(pattern, *size).is_ok()).unwrap_or(LARGEST_PATTERN)
}

fn text<'a>(arguments: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a str, ExecutionError> {
    let text = arguments.get(at).and_then(|argument| argument.downcast_ref::<CelString>());
    text.map(CelString::inner).ok_or(ExecutionError::MissingArgumentOrTarget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patterns_size_follows_what_it_repeats() {
        let sizes = ["a", "[0-9]{4}-[0-9]{2}", "(a{4}){4}", "((a{16}){16}){4}", "(", "((a{1000}){1000}){1000}"].map(pattern_size);
        assert_eq!(sizes, [512, 512, 1024, LARGEST_PATTERN, LARGEST_PATTERN, LARGEST_PATTERN]);
    }

    #[test]
    fn every_function_is_there() {
        for (name, style, [arguments, _], _) in FUNCTIONS {
            let member = *style == Style::Member;
            let arguments = vec!["null"; *arguments - usize::from(member)].join(", ");
            let source = if member { format!("null.{name}({arguments})") } else { format!("{name}({arguments})") };
            let expression = cel::parser::PrattParser::new().parse(&source).unwrap();
            let missing = cel::Value::resolve(&expression, &cel::Context::with_env(environment()));
            assert!(!matches!(missing, Err(ExecutionError::UndeclaredReference(_))), "{source}");
        }
    }
}
