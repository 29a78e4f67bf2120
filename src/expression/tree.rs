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
