//! JSON with expressions in it.

use super::error::ExpressionError;
use super::evaluation::Evaluation;
use super::interpolation::{Piece, pieces};
use super::program::Program;
use super::references::References;
use super::scope::Scope;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// Lists and objects within each other.
const DEEPEST: usize = 100;

/// A JSON tree whose strings may hold `${…}`. A string that is exactly one `${…}` becomes the typed value; text around or
/// between takes scalars only. `$${` is a literal `${`. Keys are not templates.
#[derive(Clone)]
pub struct Tree {
    source: Arc<Value>,
    root: Arc<Node>,
    references: Arc<References>,
}

enum Node {
    /// JSON without expressions.
    Literal(Value),
    /// A string that is one expression.
    Whole(Program),
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

enum Part {
    Text(String),
    Expression(Program),
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree({})", self.source)
    }
}

impl Tree {
    /// Understands JSON.
    ///
    /// # Errors
    /// Where an expression does not end, is none, or is larger than it may be.
    pub fn parse(source: &Value) -> Result<Self, ExpressionError> {
        let mut references = References::default();
        let root = node(source, &mut references, 0)?;
        Ok(Self { source: Arc::new(source.clone()), root: root.into(), references: references.into() })
    }

    /// What its expressions refer to.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.references
    }

    /// The JSON, its expressions evaluated.
    ///
    /// # Errors
    /// Where an expression cannot be evaluated, could cost too much, or is no JSON; the clause quotes the expression and no value.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        self.root.evaluate(&mut Evaluation::new(&self.references, scope)?)
    }
}

fn node(source: &Value, references: &mut References, depth: usize) -> Result<Node, ExpressionError> {
    if depth > DEEPEST {
        return Err(ExpressionError(format!("it is nested more than {DEEPEST} deep")));
    }
    Ok(match source {
        Value::String(text) => string(text, references)?,
        Value::Array(elements) => {
            let nodes = elements.iter().map(|element| node(element, references, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            if nodes.iter().all(Node::is_same) { Node::Literal(source.clone()) } else { Node::List(nodes) }
        }
        Value::Object(members) => {
            let nodes = members.iter().map(|(key, value)| Ok((key.clone(), node(value, references, depth + 1)?)));
            let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
            if nodes.iter().all(|(_, node)| node.is_same()) { Node::Literal(source.clone()) } else { Node::Object(nodes) }
        }
        scalar => Node::Literal(scalar.clone()),
    })
}

fn string(source: &str, references: &mut References) -> Result<Node, ExpressionError> {
    let mut parts = vec![];
    pieces(source, |piece| {
        parts.push(match piece {
            Piece::Text(text) => Part::Text(text),
            Piece::Expression(source) => {
                let program = Program::interpolated(source)?;
                references.merge(&program.references);
                Part::Expression(program)
            }
        });
        Ok(())
    })?;
    Ok(match (parts.pop(), parts.is_empty()) {
        (Some(Part::Expression(program)), true) => Node::Whole(program),
        (Some(Part::Text(text)), true) if text == source => Node::Literal(Value::String(text)),
        (None, _) => Node::Literal(Value::String(String::new())),
        (Some(last), _) => {
            parts.push(last);
            Node::Text(parts)
        }
    })
}

impl Node {
    /// Whether it stands for what was written.
    fn is_same(&self) -> bool {
        matches!(self, Self::Literal(_))
    }

    fn evaluate(&self, evaluation: &mut Evaluation<'_>) -> Result<Value, ExpressionError> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Whole(program) => evaluation.json(program),
            Self::Text(parts) => {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(literal) => text.push_str(literal),
                        Part::Expression(program) => text.push_str(&evaluation.text(program)?),
                    }
                }
                Ok(Value::String(text))
            }
            Self::List(nodes) => nodes.iter().map(|node| node.evaluate(evaluation)).collect(),
            Self::Object(members) => {
                let members = members.iter().map(|(key, node)| Ok((key.clone(), node.evaluate(evaluation)?)));
                members.collect::<Result<_, _>>().map(Value::Object)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scope() -> Scope {
        let input = json!({
            "name": "s3cret", "n": 7, "big": 9_223_372_036_854_775_808_u64, "half": 0.5, "yes": true, "none": null, "round": 3.0,
            "items": [{"id": 1, "price": 5, "tags": ["a", "b"]}, {"id": 2, "price": 20, "tags": []}, {"id": 3, "price": 11.5}],
            "headers": {"content-type": "text/plain"}, "text": "{\"a\": [1, 2.5, \"x\"]}",
        });
        Scope::default()
            .with("input", Arc::new(input))
            .with_member("steps", "fetch", Arc::new(json!({"ok": true, "rows": [[1, 2], [3]]})))
            .with_member("steps", "get-it", Arc::new(json!({"ok": false})))
    }

    fn evaluated(source: Value) -> Result<Value, String> {
        Tree::parse(&source).and_then(|tree| tree.evaluate(&scope())).map_err(|error| error.to_string())
    }

    #[test]
    fn a_string_that_is_one_expression_becomes_its_value() {
        for (source, expected) in [
            ("${input.n}", json!(7)),
            ("${input.n + 1}", json!(8)),
            ("${input.big}", json!(9_223_372_036_854_775_808_u64)),
            ("${input.half * 2.0}", json!(1.0)),
            ("${input.yes && !steps['get-it'].ok}", json!(true)),
            ("${input.none}", json!(null)),
            ("${input.none == null}", json!(true)),
            ("${input.items[0].tags}", json!(["a", "b"])),
            ("${input.items.map(i, i.id)}", json!([1, 2, 3])),
            ("${input.items.map(i, i.id > 1, i.id * 10)}", json!([20, 30])),
            ("${input.items.all(i, has(i.tags))}", json!(false)),
            ("${input.items.exists(i, i.price == 20)}", json!(true)),
            ("${input.items.exists_one(i, i.price > 10)}", json!(false)),
            ("${input.items.map(i, i.?tags.orValue([]).map(t, t + string(i.id)))}", json!([["a1", "b1"], [], []])),
            ("${size(input.items) > 2 ? 'many' : 'few'}", json!("many")),
            ("${has(input.missing) ? input.missing : 'none'}", json!("none")),
            ("${'n' in input && !('m' in input)}", json!(true)),
            ("${input.headers['content-type'].startsWith('text/')}", json!(true)),
            ("${input.headers.map(h, h)}", json!(["content-type"])),
            ("${steps.fetch.rows.flatten()}", json!([1, 2, 3])),
            ("${steps.fetch.rows.flatten().reverse().slice(0, 2)}", json!([3, 2])),
            ("${[3, 1, 2, 1].distinct().sort()}", json!([1, 2, 3])),
            ("${'a,b'.split(',').map(s, s.upperAscii()).join('-')}", json!("A-B")),
            ("${'abc'.replace('b', 'x').substring(1)}", json!("xc")),
            ("${'2024-05-01'.matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}$') && matches('a1', '[0-9]')}", json!(true)),
            ("${json.decode(input.text).a[1]}", json!(2.5)),
            ("${json.decode(input.text)}", json!({"a": [1, 2.5, "x"]})),
            ("${base64.encode(bytes(input.name))}", json!("czNjcmV0")),
            ("${string(base64.decode('aGk='))}", json!("hi")),
            ("${math.round(2.5) + double(input.n)}", json!(10.0)),
            ("${int('42') + int(input.round) + size('hé')}", json!(47)),
            ("${type(input.n) == int && type(input.half) == double && type(input.big) == uint}", json!(true)),
            ("${[1, 2] == [1.0, 2u] && {'a': 1} == {'a': 1}}", json!(true)),
            ("${input.items[0] == input.items[0] && input.items[0] != input.items[1]}", json!(true)),
            ("${optional.of(1).or(optional.none()).value()}", json!(1)),
            ("${{'a': {'b': [1]}}.a.b[0]}", json!(1)),
            ("${'}' + \"{\"}", json!("}{")),
        ] {
            assert_eq!(evaluated(json!(source)), Ok(expected), "{source}");
        }
    }

    #[test]
    fn objects_are_made_of_expressions() {
        let chosen = "${input.items.filter(i, i.price > 10).map(i, {'id': i.id, 'p': i.price})}";
        assert_eq!(evaluated(json!(chosen)), Ok(json!([{"id": 2, "p": 20}, {"id": 3, "p": 11.5}])));
        let encoded = "${json.encode({'b': input.items[0].tags, 'a': null})}";
        assert_eq!(evaluated(json!(encoded)), Ok(json!("{\"a\":null,\"b\":[\"a\",\"b\"]}")));
    }

    #[test]
    fn expressions_stand_anywhere_but_in_keys() {
        for (source, expected) in [
            (json!("plain"), json!("plain")),
            (json!(""), json!("")),
            (json!([1, null, true, "$5"]), json!([1, null, true, "$5"])),
            (json!("$${input.n} is ${input.n}"), json!("${input.n} is 7")),
            (json!(["$${x}"]), json!(["${x}"])),
            (json!("${input.n}${input.yes}-${input.half}-${input.round}-${input.big}"), json!("7true-0.5-3-9223372036854775808")),
            (
                json!({"a": {"b": ["${input.n}", "n: ${input.n}", {"c": "${input.yes}"}]}}),
                json!({"a": {"b": [7, "n: 7", {"c": true}]}}),
            ),
            (json!({"${input.n}": 1}), json!({"${input.n}": 1})),
        ] {
            assert_eq!(evaluated(source.clone()), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_with_the_expression_and_without_a_value() {
        for (source, words) in [
            ("${input.n", "does not end"),
            ("${}", "${} is no CEL expression"),
            ("a ${input.} b", "${input.} is no CEL expression"),
            ("${intput.n}", "${intput.n} names intput, which does not exist; there are: input, steps"),
            ("${input.missing}", "names the field missing, which is not there: use has(…)"),
            ("${steps.missing.ok}", "names the field missing"),
            ("${input[input.name]}", "names a field that is not there"),
            ("${input.items[9]}", "asks for an element that the list does not have"),
            ("${input.items[0.5]}", "cannot be evaluated"),
            ("${input.name + 1}", "cannot add string and int: convert one of them"),
            ("${input.name < 1}", "gives < something it does not take: (string, int)"),
            ("${-input.name}", "gives a negation something it does not take: (string)"),
            ("${input.name ? 1 : 2}", "has a string where a bool is needed"),
            ("${size(input.n)}", "gives size something it does not take: (int)"),
            ("${int(input.name)}", "fails in int: check what it is given"),
            ("${json.decode(input.name)}", "fails in json.decode"),
            ("${json.encode(b'a')}", "fails in json.encode"),
            ("${'a'.matches('(')}", "fails in matches"),
            ("${'a'.matches('((a{1000}){1000}){1000}')}", "fails in matches"),
            ("${1 / 0}", "divides by zero"),
            ("${1 % 0}", "divides by zero"),
            ("${9223372036854775807 + input.n}", "computes a number that is too large"),
            ("${-9223372036854775808 / -1}", "computes a number that is too large"),
            ("${{'a': 1, 'a': 2}}", "makes an object with the same key twice"),
            ("${{input.items: 2}}", "uses something as a key that can be none"),
            ("${{1: 2}}", "makes an object with a key that is no text"),
            ("${b'a'}", "is bytes and no JSON: use string(…) or base64.encode(…)"),
            ("${int}", "is a type and no JSON"),
            ("${input.?missing}", "may be nothing: end it with .orValue(…)"),
            ("${0.0 / 0.0}", "is no number that JSON has"),
            ("x${double('infinity')}", "is no number that JSON has"),
            ("x${input.none}", "is null and cannot be part of a text"),
            ("x${input.items}", "is a list and cannot be part of a text: use json.encode(…)"),
            ("x${input}", "is a map and cannot be part of a text"),
            ("${foo(1)}", "calls foo, which does not exist; there are size,"),
            ("${'%d'.format([1])}", "calls format, which does not exist"),
            ("${size()}", "calls size with the wrong number of arguments"),
            ("${contains('a', 'b')}", "calls contains with the wrong number of arguments, or on what"),
            ("${a.b{c: 1}}", "makes a a.b, which does not exist: an object is {'key': value}"),
            ("${[1].map(1, 2)}", "is no CEL expression"),
            ("${[1].map(.x, 2)}", "has a loop of a kind that is not known here"),
            ("${@result}", "is no CEL expression"),
            ("${`a`}", "is no CEL expression"),
            ("${input.items.exists(i, i.nope == 1)}", "names the field nope"),
        ] {
            let error = evaluated(json!([{"a": source}])).unwrap_err();
            assert!(error.contains(words) && !error.contains("s3cret"), "{source}: {error}");
        }
    }

    #[test]
    fn a_sentence_quotes_eighty_characters_of_an_expression() {
        let error = evaluated(json!(format!("${{missing + '{}'}}", "x".repeat(100)))).unwrap_err();
        assert!(error.starts_with(&format!("${{missing + '{}}} names missing", "x".repeat(69))), "{error}");
    }

    #[test]
    fn a_tree_shows_its_source_only() {
        let tree = Tree::parse(&json!({"a": "${input.n}"})).unwrap();
        assert_eq!(format!("{:?}", tree.clone()), r#"Tree({"a":"${input.n}"})"#);
        assert_eq!(tree.references().variables().len(), 1);
    }

    #[test]
    fn all_of_a_tree_together_must_not_become_too_large() {
        let scope = Scope::default().with("input", Arc::new(json!("x".repeat(1024 * 1024))));
        let tree = |copies: usize| Tree::parse(&json!(vec!["${input}"; copies])).unwrap();
        assert!(tree(7).evaluate(&scope).is_ok());
        let error = tree(8).evaluate(&scope).unwrap_err().to_string();
        assert!(error.contains("${input} could become larger than 8 MiB"), "{error}");
    }

    #[test]
    fn what_is_nested_too_deeply_is_refused() {
        let deep = |levels: usize, inner: Value| (0..levels).fold(inner, |inner, _| json!([inner]));
        assert!(Tree::parse(&deep(DEEPEST, json!("${1}"))).is_ok());
        assert!(Tree::parse(&deep(DEEPEST + 1, json!("${1}"))).is_err_and(|error| error.to_string().contains("deep")));
        let evaluated = |levels: usize| {
            let scope = Scope::default().with("input", Arc::new(deep(levels, json!(1))));
            Tree::parse(&json!("${input}")).unwrap().evaluate(&scope).map_err(|error| error.to_string())
        };
        assert!(evaluated(100).is_ok());
        assert!(evaluated(120).unwrap_err().contains("is nested too deeply"));
        assert!(evaluated(150).unwrap_err().contains("input is too large to go through"));
    }
}
