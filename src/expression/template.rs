//! Text with `${…}` in it, each a CEL expression without loops.

use super::error::ExpressionError;
use super::grammar::{brackets, operator_characters};
use super::interpolation::{Piece, pieces};
use cel::common::ast::{EntryExpr, Expr};
use cel::parser::PrattParser;
use cel::{Context, Env, ExecutionError, IdedExpr, Value};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, LazyLock};

/// Bytes of one expression.
const LONGEST: usize = 512;
/// Brackets within brackets.
const DEEPEST: usize = 8;
/// Operators of one expression.
const MOST_OPERATORS: usize = 32;
/// Bytes that one text may become.
const LARGEST: usize = 256 * 1024;

/// The standard functions and `base64`.
static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::default().with_stdlib();
    // Fails only where a function is declared twice; the tests call it.
    let _ = env.add_extension(cel::extensions::encoders);
    Arc::new(env)
});

#[derive(Clone)]
enum Part {
    Text(String),
    Expression { source: String, expression: Arc<IdedExpr> },
}

/// A text with expressions in it.
#[derive(Clone)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.source)
    }
}

impl Template {
    /// Understands a text. `$${` stands for `${` itself.
    ///
    /// # Errors
    /// Where an expression does not end, is none, or is larger than it may be.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let mut parts = vec![];
        pieces(source, |piece| {
            parts.push(match piece {
                Piece::Text(text) => Part::Text(text),
                Piece::Expression(source) => compile(source)?,
            });
            Ok(())
        })?;
        Ok(Self { source: source.to_owned(), parts })
    }

    /// The text, its expressions evaluated with these variables.
    ///
    /// # Errors
    /// Where an expression cannot be evaluated, or is no text; the clause quotes the expression and no value.
    pub fn render(&self, variables: &Variables) -> Result<String, ExpressionError> {
        let mut context = Context::with_env(LANGUAGE.clone());
        for (name, value) in &variables.0 {
            context.add_variable_from_value(name.clone(), value.clone());
        }
        let mut rendered = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Expression { source, expression } => {
                    let failed = |why: &str| ExpressionError(format!("${{{source}}} {why}"));
                    match Value::resolve(expression, &context).map_err(|error| failed(&cause(&error)))? {
                        Value::String(text) => rendered.push_str(&text),
                        Value::Int(number) => rendered.push_str(&number.to_string()),
                        Value::UInt(number) => rendered.push_str(&number.to_string()),
                        Value::Bool(truth) => rendered.push_str(if truth { "true" } else { "false" }),
                        other => return Err(failed(&format!("is a {:?} and no text", other.type_of()))),
                    }
                }
            }
            if rendered.len() > LARGEST {
                return Err(ExpressionError(format!("it becomes larger than {} KiB", LARGEST / 1024)));
            }
        }
        Ok(rendered)
    }
}

/// What expressions may refer to.
#[derive(Clone, Debug, Default)]
pub struct Variables(Vec<(String, Value)>);

impl Variables {
    /// With one more object of texts, numbers and lists.
    #[must_use]
    pub fn with(mut self, name: &str, fields: Vec<(&str, Field)>) -> Self {
        let fields: std::collections::HashMap<String, Value> =
            fields.into_iter().map(|(key, value)| (key.to_owned(), value.into_value())).collect();
        self.0.push((name.to_owned(), fields.into()));
        self
    }
}

/// A field of a variable.
#[derive(Clone, Debug)]
pub enum Field {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Texts.
    List(Vec<String>),
    /// Texts by name.
    Map(BTreeMap<String, String>),
}

impl Field {
    fn into_value(self) -> Value {
        match self {
            Self::Text(text) => text.into(),
            Self::Number(number) => number.into(),
            Self::List(texts) => texts.into_iter().map(Value::from).collect::<Vec<_>>().into(),
            Self::Map(texts) => Value::Map(texts.into_iter().collect::<HashMap<_, _>>().into()),
        }
    }
}

fn compile(source: &str) -> Result<Part, ExpressionError> {
    let shown: String = source.chars().take(80).collect();
    let refused = |why: &str| ExpressionError(format!("${{{shown}}} {why}"));
    if source.len() > LONGEST {
        return Err(refused(&format!("is longer than {LONGEST} bytes")));
    }
    if brackets(source) > DEEPEST {
        return Err(refused(&format!("has brackets more than {DEEPEST} deep")));
    }
    if operator_characters(source) > MOST_OPERATORS {
        return Err(refused(&format!("has more than {MOST_OPERATORS} operators")));
    }
    // The library's other parser takes megabytes of stack for what is let through here.
    let parser = PrattParser::new().max_recursion_depth(64);
    let expression = parser.parse(source).map_err(|_| refused("is no CEL expression"))?;
    if repeats(&expression) {
        return Err(refused("has a macro that goes through a list, which is not allowed here"));
    }
    Ok(Part::Expression { source: shown, expression: Arc::new(expression) })
}

/// Whether anything in an expression is evaluated more than once: a list of lists of lists would never end.
fn repeats(expression: &IdedExpr) -> bool {
    match &expression.expr {
        Expr::Comprehension(_) => true,
        Expr::Call(call) => call.target.as_deref().is_some_and(repeats) || call.args.iter().any(repeats),
        Expr::List(list) => list.elements.iter().any(repeats),
        Expr::Select(select) => repeats(&select.operand),
        Expr::Map(map) => map.entries.iter().any(|entry| entry_repeats(&entry.expr)),
        Expr::Struct(object) => object.entries.iter().any(|entry| entry_repeats(&entry.expr)),
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => false,
    }
}

fn entry_repeats(entry: &EntryExpr) -> bool {
    match entry {
        EntryExpr::StructField(field) => repeats(&field.value),
        EntryExpr::MapEntry(pair) => repeats(&pair.key) || repeats(&pair.value),
    }
}

/// What went wrong, without a value: errors of the evaluation quote what they were given.
fn cause(error: &ExecutionError) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => format!("names {name}, which does not exist"),
        ExecutionError::NoSuchKey(_) => "names a field that does not exist".into(),
        ExecutionError::NoSuchOverload(overload) => {
            format!("gives {} something it does not take: ({})", overload.function(), overload.argument_types().join(", "))
        }
        ExecutionError::IndexOutOfBounds(_) => "asks for an element that a list does not have".into(),
        ExecutionError::FunctionError { function, .. } => format!("fails in {function}"),
        _ => "cannot be evaluated".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(source: &str) -> Result<String, String> {
        let fields = vec![
            ("accessToken", Field::Text("s3cret".into())),
            ("generation", Field::Number(7)),
            ("scopes", Field::List(vec!["read".into(), "write".into()])),
        ];
        let variables = Variables::default().with("token", fields);
        let rendered = Template::parse(source).and_then(|template| template.render(&variables));
        rendered.map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_are_evaluated_and_the_rest_is_left() {
        for (source, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("Bearer ${token.accessToken}", "Bearer s3cret"),
            ("${token.generation}-${token.scopes[1]}", "7-write"),
            ("${size(token.scopes) > 1 ? 'many' : 'one'}", "many"),
            (r#"{"auth":"${base64.encode(bytes("user:" + token.accessToken))}"}"#, r#"{"auth":"dXNlcjpzM2NyZXQ="}"#),
            ("${'}' + \"{\" + 'it\\'s'}", "}{it's"),
            ("${{'a': 'x'}['a']}", "x"),
            ("$${not an expression} $5 ${'$'}", "${not an expression} $5 $"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_a_value() {
        for (source, words) in [
            ("${token.accessToken", "does not end"),
            ("${'a}", "does not end"),
            ("${token.}", "is no CEL expression"),
            ("${}", "is no CEL expression"),
            ("${tokens.accessToken}", "names tokens, which does not exist"),
            ("${token.refreshToken}", "names a field that does not exist"),
            ("${token[token.accessToken]}", "names a field that does not exist"),
            ("${token.scopes}", "and no text"),
            ("${token.scopes[9]}", "asks for an element"),
            ("${token.accessToken + 1}", "cannot be evaluated"),
            ("${size(token.generation)}", "gives size something it does not take: (int)"),
            ("${base64.decode(token.accessToken + '!')}", "fails in base64.decode"),
            ("${1 / 0}", "cannot be evaluated"),
        ] {
            let error = rendered(source).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{source}: {error}");
        }
    }

    #[test]
    fn what_is_larger_than_it_may_be_is_not_evaluated() {
        for (source, words) in [
            (format!("${{'{}'}}", "a".repeat(600)), "longer than 512"),
            (format!("${{{}1{}}}", "(".repeat(9), ")".repeat(9)), "8 deep"),
            (format!("${{'a'{}}}", " + 'a'".repeat(33)), "more than 32 operators"),
            (format!("${{{}true}}", "!".repeat(33)), "more than 32 operators"),
            ("${token.scopes.map(a, token.scopes.map(b, a + b))}".into(), "goes through a list"),
            ("${size({'a': [1, 2].all(x, x > 0)})}".into(), "goes through a list"),
        ] {
            let error = rendered(&source).unwrap_err();
            assert!(error.contains(words), "{source}: {error}");
        }
        let nothing = Variables::default();
        let large = Template::parse(&"x".repeat(LARGEST + 1)).unwrap();
        assert!(large.render(&nothing).is_err_and(|error| error.to_string().contains("larger than 256 KiB")));
    }

    /// A thread has 2 MiB unless it is made with more, and those of the operator are: the worst that is let through needs
    /// less, even unoptimized.
    #[test]
    fn the_worst_that_is_let_through_fits_a_small_stack() {
        let worst = [
            format!("${{{}'a'{}}}", "(".repeat(8), ")".repeat(8)),
            format!("${{'a'{}}}", "+'a'".repeat(32)),
            format!("${{{}true}}", "!".repeat(32)),
            format!("${{{}'a'}}", "true?'b':".repeat(31)),
            format!("${{[{}1]}}", "1,".repeat(240)),
            format!("${{a{}}}", ".a".repeat(31)),
            format!("${{{}1}}", "-".repeat(32)),
            format!("${{a{}}}", "[0]".repeat(32)),
            format!("${{{}", "size(".repeat(8)) + "'a'" + &")".repeat(8) + "}",
            "${\"\\u{110000}\"}".to_owned(),
            "${'\\".to_owned(),
            "${\0}".to_owned(),
            "${9223372036854775808}".to_owned(),
            "${'💥' + '\\U0010FFFF'}".to_owned(),
        ];
        let evaluated = std::thread::Builder::new().stack_size(2048 * 1024).spawn(move || {
            for source in worst {
                // Whatever comes of it, it comes back.
                let _ = rendered(&source);
            }
        });
        evaluated.unwrap().join().unwrap();
    }
}
