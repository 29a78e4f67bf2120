//! A URL with expressions in it, whose values cannot change where it leads.

use super::error::{ExpressionError, quoted};
use super::evaluation::Evaluation;
use super::interpolation::{Piece, pieces};
use super::program::Program;
use super::references::References;
use super::scope::Scope;
use std::fmt::{self, Write};
use std::sync::Arc;

/// Bytes of a URL; servers and proxies refuse longer ones (RFC 9110 section 4.1 asks for 8,000).
const LONGEST: usize = 16 * 1024;

/// Why an expression is refused that could choose a host.
const HOST: &str = "stands where the URL's host is, which must be constant: write the host, and / after it";

/// A URL in which interpolated values are percent-encoded (everything but RFC 3986's unreserved characters), so that a value
/// can change neither its host nor the structure of its path nor add a parameter. Scalars only.
#[derive(Clone)]
pub struct Address {
    source: Arc<str>,
    parts: Arc<[Part]>,
    references: Arc<References>,
}

enum Part {
    Text(String),
    Expression(Program),
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({:?})", self.source)
    }
}

impl Address {
    /// Understands a URL. Its scheme and host are constant: whoever may change a value must not choose who gets the token.
    ///
    /// # Errors
    /// Where it is no http or https URL, has an expression before its path, or one that is none or larger than it may be.
    pub fn parse(source: &str) -> Result<Self, ExpressionError> {
        let mut references = References::default();
        // The URL with two values in it, to see what they change.
        let (mut parts, mut example, mut another) = (vec![], String::new(), String::new());
        let mut before_path = true;
        pieces(source, |piece| {
            parts.push(match piece {
                Piece::Text(text) => {
                    example.push_str(&text);
                    another.push_str(&text);
                    before_path &= !has_authority(&example);
                    Part::Text(text)
                }
                Piece::Expression(expression) if before_path => {
                    return Err(ExpressionError(format!("${{{}}} {HOST}", quoted(expression))));
                }
                Piece::Expression(expression) => {
                    let program = Program::interpolated(expression)?;
                    references.merge(&program.references);
                    example.push('x');
                    another.push('y');
                    Part::Expression(program)
                }
            });
            Ok(())
        })?;
        let (Some(first), Some(second)) = (place(&example), place(&another)) else {
            return Err(ExpressionError("it is no http or https URL".into()));
        };
        if first != second {
            return Err(ExpressionError(format!("an expression {HOST}")));
        }
        Ok(Self { source: source.into(), parts: parts.into(), references: references.into() })
    }

    /// What its expressions refer to.
    #[must_use]
    pub fn references(&self) -> &References {
        &self.references
    }

    /// The URL, its expressions evaluated.
    ///
    /// # Errors
    /// Where an expression cannot be evaluated, could cost too much, is no scalar, or would make a part of the path empty or
    /// climb it; the clause quotes the expression and no value.
    pub fn render(&self, scope: &Scope) -> Result<String, ExpressionError> {
        let mut evaluation = Evaluation::new(&self.references, scope)?;
        let mut rendered = String::new();
        // Where the segment begins that is being written, and the expression that wrote into it last.
        let (mut segment, mut writer) = (0, None);
        let mut in_path = true;
        for part in self.parts.iter() {
            match part {
                Part::Expression(program) => {
                    encode(&evaluation.text(program)?, &mut rendered);
                    writer = Some(program);
                }
                Part::Text(text) => {
                    for character in text.chars() {
                        if in_path && matches!(character, '/' | '\\' | '?' | '#') {
                            check(&rendered[segment..], writer.take())?;
                            segment = rendered.len() + 1;
                            in_path = matches!(character, '/' | '\\');
                        }
                        rendered.push(character);
                    }
                }
            }
        }
        if in_path {
            check(&rendered[segment..], writer)?;
        }
        if rendered.len() > LONGEST {
            return Err(ExpressionError(format!("the URL becomes longer than {LONGEST} bytes: send what is large in the body")));
        }
        Ok(rendered)
    }
}

/// Scheme and authority of a URL, as what sends requests reads them: it takes `http:///x` for the host `x`.
fn place(url: &str) -> Option<String> {
    if url.contains(|character: char| character.is_ascii_control() || character == ' ') {
        return None;
    }
    let url = url::Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    Some(url[..url::Position::BeforePath].to_owned())
}

/// Whether scheme and authority are over.
fn has_authority(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| rest.contains(['/', '?', '#']))
}

/// A value must not make a segment of the path that readers of URLs take away, or take for none.
fn check(segment: &str, writer: Option<&Program>) -> Result<(), ExpressionError> {
    let Some(program) = writer else { return Ok(()) };
    match segment.to_ascii_lowercase().replace("%2e", ".").as_str() {
        "" => Err(program.failed("makes a segment of the URL's path empty: check its value first")),
        "." | ".." => {
            Err(program.failed("makes a segment of the URL's path . or .., which would lead elsewhere: check its value first"))
        }
        _ => Ok(()),
    }
}

/// Percent-encodes all but what RFC 3986 section 2.3 reserves for nothing.
fn encode(value: &str, into: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(source: &str) -> Result<String, String> {
        let input = json!({
            "id": "7/../8?x=1&y#z", "dot": ".", "dots": "..", "empty": "", "n": 5, "word": "téxt-._~ %", "list": [1], "none": null,
            "host": "evil.example",
        });
        let scope = Scope::default().with("input", Arc::new(input));
        Address::parse(source).and_then(|address| address.render(&scope)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_encoded_and_the_rest_is_left() {
        for (source, expected) in [
            ("https://api.example.com", "https://api.example.com"),
            ("http://a.b:8080/v1/items/${input.id}/x", "http://a.b:8080/v1/items/7%2F..%2F8%3Fx%3D1%26y%23z/x"),
            ("https://a.b/${input.word}?q=${input.word}", "https://a.b/t%C3%A9xt-._~%20%25?q=t%C3%A9xt-._~%20%25"),
            ("https://a.b/v${input.n}/${true}", "https://a.b/v5/true"),
            ("https://a.b?host=${input.host}", "https://a.b?host=evil.example"),
            ("https://a.b/x?dots=${input.dots}&empty=${input.empty}", "https://a.b/x?dots=..&empty="),
            ("https://a.b/x${input.dots}", "https://a.b/x.."),
            ("https://a.b/x?a=/${input.dots}/${input.empty}/#${input.dot}", "https://a.b/x?a=/..//#."),
            ("https://a.b/x${input.empty}/y", "https://a.b/x/y"),
            ("https://a.b/$${x}", "https://a.b/${x}"),
            ("https://a.b/../x/${input.n}", "https://a.b/../x/5"),
        ] {
            assert_eq!(rendered(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn no_value_chooses_where_a_url_leads() {
        for (source, words) in [
            ("${input.host}", "${input.host} stands where the URL's host is, which must be constant"),
            ("https://${input.host}/x", "must be constant"),
            ("https://a.${input.host}/x", "must be constant"),
            ("https://a.b${input.host}", "must be constant"),
            ("https://a.b:${input.n}/x", "must be constant"),
            ("https://a.b@${input.host}/x", "must be constant"),
            ("${'https'}://a.b/x", "must be constant"),
            ("http${'s'}://a.b/x", "must be constant"),
            ("https:///${input.host}", "must be constant"),
            ("https:////${input.host}/x", "must be constant"),
            (r"https://\\${input.host}/x", "must be constant"),
            ("https:/${input.host}/x", "must be constant"),
            ("/x/${input.n}", "must be constant"),
            ("https://a.b/a b", "no http or https URL"),
            ("ftp://a.b/x", "no http or https URL"),
            ("a.b/x", "no http or https URL"),
            ("", "no http or https URL"),
            ("https://a.b/\n${input.n}", "no http or https URL"),
            ("https://a.b/${input.dot}", "${input.dot} makes a segment of the URL's path . or .."),
            ("https://a.b/${input.dots}/x", "path . or .."),
            ("https://a.b/.${input.dot}?x", "path . or .."),
            ("https://a.b/%2E${input.dot}#x", "path . or .."),
            ("https://a.b/${input.dot}${input.empty}.", "path . or .."),
            (r"https://a.b/x\${input.dots}\y", "path . or .."),
            ("https://a.b/x/${input.empty}", "makes a segment of the URL's path empty"),
            ("https://a.b/${input.empty}/x", "path empty"),
            ("https://a.b/${input.list}", "is a list and cannot be part of a text"),
            ("https://a.b/${input.none}", "is null and cannot be part of a text"),
            ("https://a.b/${input.nope}", "names the field nope"),
            ("https://a.b/${input.", "does not end"),
        ] {
            let error = rendered(source).unwrap_err();
            assert!(error.contains(words) && !error.contains("evil"), "{source}: {error}");
        }
    }

    #[test]
    fn a_url_has_an_end() {
        let scope = |bytes: usize| Scope::default().with("input", Arc::new(json!("a".repeat(bytes))));
        let address = Address::parse("https://a.b/${input}").unwrap();
        assert!(address.render(&scope(LONGEST - 12)).is_ok());
        assert!(address.render(&scope(LONGEST - 11)).is_err_and(|error| error.to_string().contains("longer than 16384")));
    }

    #[test]
    fn an_address_shows_its_source_and_says_what_it_refers_to() {
        let address = Address::parse("https://a.b/${input.n}?${steps.x.y}").unwrap();
        assert_eq!(format!("{address:?}"), r#"Address("https://a.b/${input.n}?${steps.x.y}")"#);
        assert_eq!(address.references().variables().len(), 2);
    }
}
