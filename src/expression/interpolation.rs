//! Where in a text the expressions are.

use super::error::ExpressionError;

/// A piece of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'s> {
    Text(String),
    /// What stands between `${` and `}`.
    Expression(&'s str),
}

/// Takes the pieces of a text one after the other, none of them empty text. `$${` stands for `${` itself.
pub(super) fn pieces<'s>(
    source: &'s str,
    mut take: impl FnMut(Piece<'s>) -> Result<(), ExpressionError>,
) -> Result<(), ExpressionError> {
    let mut text = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            text.push_str(&rest[..at]);
            text.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        text.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let end = end_of(inner).ok_or_else(|| ExpressionError("an expression that begins with ${ does not end".into()))?;
        if !text.is_empty() {
            take(Piece::Text(std::mem::take(&mut text)))?;
        }
        take(Piece::Expression(&inner[..end]))?;
        rest = &inner[end + 1..];
    }
    text.push_str(rest);
    if text.is_empty() { Ok(()) } else { take(Piece::Text(text)) }
}

/// Where the expression that begins here ends: at the brace that closes it, and not at one within it or within a string.
fn end_of(text: &str) -> Option<usize> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (at, character) in text.char_indices() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}
