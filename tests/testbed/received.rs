//! A request as an API of the testbed got it, and whose token it brought.

use super::Result;
use super::introspection::Introspection;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

#[derive(Clone, Debug)]
pub struct Received {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// JSON, or a string where it is none; null without a body.
    pub body: Value,
    /// Client of its token; none without a token that is taken.
    pub client: Option<String>,
    pub when: Instant,
}

impl Received {
    /// The request with its whole body. Without an authorization server to ask, any token is taken: it is `anyone`'s.
    pub async fn of(request: Request<Incoming>, tokens: Option<&Introspection>) -> Result<Self> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = match body.as_ref() {
            [] => Value::Null,
            text => serde_json::from_slice(text).unwrap_or_else(|_| String::from_utf8_lossy(text).into()),
        };
        let query = head.uri.query().unwrap_or_default();
        let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut received = Self {
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            query: url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body,
            client: None,
            when: Instant::now(),
        };
        received.client = match (received.token(), tokens) {
            (None, _) => None,
            (Some(_), None) => Some("anyone".into()),
            (Some(token), Some(tokens)) => tokens.holder(token).await?,
        };
        Ok(received)
    }

    /// The bearer token that came along (RFC 6750 §2.1), whether it is taken or not.
    pub fn token(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ").filter(|token| !token.is_empty())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// A number of the query; 0 without it.
    pub fn number(&self, name: &str) -> u64 {
        self.query.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}
