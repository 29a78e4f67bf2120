//! What an authorization server says of a token (RFC 7662).

use super::dialect::Dialect;
use super::token_reply::granted;
use super::{Fault, FaultKind, Reply, Sensitive};
use jiff::Timestamp;
use serde_json::Value;

/// What is said of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introspection {
    /// Whether it lives.
    pub active: bool,
    /// When it ends, where that is said.
    pub expires: Option<Timestamp>,
}

/// Reads the answer of an introspection endpoint (RFC 7662 §2.2).
///
/// # Errors
/// What the provider refuses; [`FaultKind::Malformed`] for an answer that says nothing.
pub fn read_introspection(
    reply: &Reply,
    dialect: &Dialect,
    secrets: &[Sensitive],
    now: Timestamp,
) -> Result<Introspection, Fault> {
    let who = "The introspection endpoint";
    let body = granted(reply, who, dialect, secrets, now)?;
    let active = body.as_ref().and_then(|body| body.get("active")).and_then(Value::as_bool);
    let active = active
        .ok_or_else(|| Fault::new(FaultKind::Malformed, format!("{who} answered {} without the field active.", reply.status)))?;
    let seconds = body.as_ref().and_then(|body| body.get("exp")).and_then(Value::as_i64);
    Ok(Introspection { active, expires: seconds.and_then(|seconds| Timestamp::from_second(seconds).ok()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(status: u16, body: &str) -> Result<Introspection, FaultKind> {
        let reply = Reply { status, retry_after: None, dpop_nonce: None, body: body.as_bytes().to_vec() };
        let read = read_introspection(&reply, &Dialect::default(), &[], "2026-01-01T00:00:00Z".parse().unwrap());
        read.map_err(|fault| fault.kind)
    }

    #[test]
    fn a_token_lives_or_not_and_ends_when_it_is_said() {
        let alive = read(200, r#"{"active": true, "exp": 1767229200}"#).unwrap();
        assert_eq!((alive.active, alive.expires.map(|end| end.as_second())), (true, Some(1_767_229_200)));
        assert_eq!(read(200, r#"{"active": false}"#), Ok(Introspection { active: false, expires: None }));
        assert_eq!(read(200, "{}"), Err(FaultKind::Malformed));
        assert_eq!(read(401, r#"{"error": "invalid_client"}"#), Err(FaultKind::InvalidClient));
    }
}
