//! What a token endpoint answers, judged.

use super::dialect::{Dialect, at};
use super::expiry::{claims, lifetime, moment};
use super::{Expiry, Fault, FaultKind, Sensitive, retry_after};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// A reply as it came over the wire, its size already bounded by the shell.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header `Retry-After`.
    pub retry_after: Option<String>,
    /// Header `DPoP-Nonce` (RFC 9449 §8).
    #[serde(default)]
    pub dpop_nonce: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reply {{ status: {}, body: {} bytes }}", self.status, self.body.len())
    }
}

/// How a POST ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No byte left us.
    NotSent(Fault),
    /// There is a reply.
    Replied(Reply),
    /// Bytes left us, and no reply came.
    Lost(Fault),
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The access token.
    pub access_token: Sensitive,
    /// Its type, as the provider spells it; `Bearer` where it does not say.
    pub token_type: String,
    /// Scopes granted, where the provider names them (RFC 6749 §5.1: else those asked for).
    pub scopes: Option<Vec<String>>,
    /// When it expires.
    pub expiry: Expiry,
    /// The refresh token that takes the place of the one that was sent; none: that one goes on.
    pub refresh_token: Option<Sensitive>,
    /// When the refresh token expires, where the provider says so (`refresh_token_expires_in`, `refresh_expires_in`).
    pub refresh_token_expires: Option<Timestamp>,
    /// When the provider wishes it to be refreshed (`refresh_in`).
    pub refresh_at: Option<Timestamp>,
    /// Before when the provider does not wish it to be refreshed (`earliest_refresh_at`).
    pub earliest_refresh_at: Option<Timestamp>,
    /// Whose login it is: the claim `sub` of the ID token (OpenID Connect Core §12.2), which came from the token endpoint
    /// over TLS and needs no other proof (§3.1.3.7).
    pub subject: Option<String>,
    /// Public fields of the reply that the provider's users need beside the token, by their paths.
    pub extra: BTreeMap<String, String>,
}

/// Fields of a reply that are kept beside the token, and bytes of each, at most.
const MOST_EXTRA: usize = 1024;
/// Names under which providers put an error's description.
const DESCRIPTIONS: [&str; 6] = ["error_description", "errorDescription", "error_message", "msg", "message", "detail"];

/// Judges a reply to a request sent at `sent`. `secrets` are masked in whatever words of the provider's are passed on.
///
/// # Errors
/// The class of the failure, with a sentence.
pub fn judge(reply: &Reply, dialect: &Dialect, secrets: &[Sensitive], sent: Timestamp, now: Timestamp) -> Result<Token, Fault> {
    let body = granted(reply, "The token endpoint", dialect, secrets, now)?;
    issued(body.as_ref(), reply, dialect, secrets, sent, now)
}

/// The body of a reply that says yes, where it is an object. `who` answers.
///
/// # Errors
/// The class of the failure, with a sentence.
pub(super) fn granted(
    reply: &Reply,
    who: &str,
    dialect: &Dialect,
    secrets: &[Sensitive],
    now: Timestamp,
) -> Result<Option<Value>, Fault> {
    let body = object(reply);
    let error = dialect.error_code(body.as_ref().unwrap_or(&Value::Null), reply.status);
    if (200..300).contains(&reply.status) && error.is_none() {
        return Ok(body);
    }
    // A server that is overloaded or broken says so by its status, whatever stands in its body.
    let by_status = matches!(reply.status, 429 | 500..=599);
    let kind = match error.as_deref().filter(|_| !by_status) {
        Some(code) if dialect.errors.terminal.iter().any(|known| known == code) => FaultKind::InvalidGrant,
        Some(code) if dialect.errors.transient.iter().any(|known| known == code) => FaultKind::Unavailable,
        Some(code) => kind_of_code(dialect.meaning(code), reply.status),
        None => kind_of_status(reply.status),
    };
    let words = error.as_deref().map(|code| {
        let description = |name: &&str| body.as_ref()?.get(*name)?.as_str();
        quoted(code, DESCRIPTIONS.iter().find_map(description), secrets)
    });
    let mut fault = Fault::new(kind, sentence(who, kind, reply.status, words.as_deref()));
    fault.retry_after = reply.retry_after.as_deref().and_then(|value| retry_after(value, now));
    Err(fault)
}

/// The refresh token in a reply that grants anything, whatever else is wrong with it: the one that was sent is spent,
/// and this one is all that is left of the login.
pub fn successor(reply: &Reply, dialect: &Dialect) -> Option<Sensitive> {
    let body = object(reply)?;
    let granted = (200..300).contains(&reply.status) && dialect.error_code(&body, reply.status).is_none();
    let token = dialect.field(dialect.root(&body), dialect.response.refresh_token.as_ref(), "refresh_token");
    let token = token.and_then(Value::as_str).filter(|token| granted && is_vschar(token))?;
    Some(Sensitive::new(token))
}

fn object(reply: &Reply) -> Option<Value> {
    serde_json::from_slice(&reply.body).ok().filter(Value::is_object)
}

/// 1*VSCHAR (RFC 6749 appendix A): anything else would break the request or header that it is sent in.
pub(super) fn is_vschar(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn issued(
    body: Option<&Value>,
    reply: &Reply,
    dialect: &Dialect,
    secrets: &[Sensitive],
    sent: Timestamp,
    now: Timestamp,
) -> Result<Token, Fault> {
    let malformed =
        |what: &str| Fault::new(FaultKind::Malformed, format!("The token endpoint answered {} with {what}.", reply.status));
    let Some(body) = body else {
        return Err(malformed(if reply.body.is_empty() { "an empty body" } else { "a body that is no JSON object" }));
    };
    let (root, paths) = (dialect.root(body), &dialect.response);
    let field = |path: Option<&String>, usual: &str| dialect.field(root, path, usual);
    let text = |usual: &str| field(None, usual).and_then(Value::as_str);
    let access_token = field(paths.access_token.as_ref(), "access_token").and_then(Value::as_str);
    let access_token = access_token.filter(|token| !token.is_empty()).ok_or_else(|| malformed("no access_token"))?;
    if !is_vschar(access_token) {
        return Err(malformed("an access_token that holds control or non-ASCII characters"));
    }
    let token_type = paths.token_type.as_deref().or(text("token_type")).unwrap_or("Bearer");
    if token_type.len() > 64 || !token_type.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(malformed("a token_type that is no name"));
    }
    let scopes = field(paths.scope.as_ref(), "scope").and_then(|scope| self::scopes(scope, paths.scope_delimiter.as_deref()));
    if scopes.as_ref().is_some_and(|scopes: &Vec<String>| scopes.len() > 256 || scopes.iter().any(|scope| scope.len() > 1024)) {
        return Err(malformed("a scope that is beyond measure"));
    }
    // What is reported must not carry what was sent, whoever puts it there.
    let told = [token_type].into_iter().chain(scopes.iter().flatten().map(String::as_str));
    if told.into_iter().any(|text| masked(text, secrets) != text) {
        return Err(malformed("our own credentials in a field that is no place for them"));
    }
    let refresh_token = field(paths.refresh_token.as_ref(), "refresh_token").and_then(Value::as_str);
    if refresh_token.is_some_and(|token| !token.is_empty() && !is_vschar(token)) {
        return Err(malformed("a refresh_token that holds control or non-ASCII characters"));
    }
    let extra = extra(root, body, &paths.extra);
    if extra.values().any(|text| masked(text, secrets) != *text) {
        return Err(malformed("our own credentials in a field that is no place for them"));
    }
    let end = match &paths.expires_at {
        Some(path) => at(root, path),
        None => field(paths.expires_in.as_ref(), "expires_in"),
    };
    let expiry = Expiry::of(end, access_token, &dialect.expiry, sent, now)?;
    let in_seconds = |usual: &str| field(None, usual).and_then(lifetime).and_then(|life| sent.checked_add(life).ok());
    let subject = text("id_token").and_then(claims).and_then(|claims| claims.get("sub")?.as_str().map(str::to_owned));
    Ok(Token {
        access_token: Sensitive::new(access_token),
        token_type: token_type.to_owned(),
        scopes,
        expiry,
        refresh_token: successor(reply, dialect),
        // Zero means without end (Keycloak's offline tokens).
        refresh_token_expires: in_seconds("refresh_token_expires_in").or_else(|| in_seconds("refresh_expires_in")),
        refresh_at: in_seconds("refresh_in").map(whole_second),
        earliest_refresh_at: field(None, "earliest_refresh_at").and_then(|value| instant(value, sent)).map(whole_second),
        subject: subject.filter(|subject| subject.len() <= 512),
        extra,
    })
}

/// Scopes as text or as a list of texts.
fn scopes(value: &Value, delimiter: Option<&str>) -> Option<Vec<String>> {
    match value {
        // A provider without scopes (GitHub Apps) says nothing of them by this.
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => {
            let parts = text.split(|c: char| c.is_ascii_whitespace() || delimiter.is_some_and(|delimiter| delimiter.contains(c)));
            Some(parts.filter(|part| !part.is_empty()).map(str::to_owned).collect())
        }
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Fields that the provider's users need, as text; what is none, or beyond measure, is left out.
fn extra(root: &Value, body: &Value, paths: &[String]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let fit = |text: &String| text.len() <= MOST_EXTRA && !text.chars().any(char::is_control);
    let found = |path: &String| Some((path.clone(), at(root, path).or_else(|| at(body, path)).and_then(text).filter(fit)?));
    paths.iter().filter_map(found).collect()
}

/// A moment as an epoch or in RFC 3339.
fn instant(value: &Value, sent: Timestamp) -> Option<Timestamp> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    text.or_else(|| moment(value, sent).ok())
}

fn whole_second(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

/// RFC 6749 §5.2, RFC 8707 §2, RFC 8628 §3.5, RFC 9449 §5 and §8.
fn kind_of_code(code: &str, status: u16) -> FaultKind {
    match code {
        "invalid_client" => FaultKind::InvalidClient,
        "invalid_grant" => FaultKind::InvalidGrant,
        "invalid_scope" | "access_denied" => FaultKind::NotAllowed,
        "unauthorized_client" | "unsupported_grant_type" | "invalid_target" => FaultKind::Misconfigured,
        "invalid_request" | "invalid_dpop_proof" | "use_dpop_nonce" => FaultKind::InvalidRequest,
        "authorization_pending" => FaultKind::AuthorizationPending,
        "slow_down" => FaultKind::SlowDown,
        "expired_token" => FaultKind::DeviceCodeExpired,
        "temporarily_unavailable" => FaultKind::Unavailable,
        "server_error" => FaultKind::ServerError,
        _ => kind_of_status(status),
    }
}

fn kind_of_status(status: u16) -> FaultKind {
    match status {
        401 => FaultKind::InvalidClient,
        403 => FaultKind::NotAllowed,
        404 | 405 | 410 | 415 => FaultKind::Misconfigured,
        429 => FaultKind::RateLimited,
        408 | 425 | 503 => FaultKind::Unavailable,
        500..=599 => FaultKind::ServerError,
        _ => FaultKind::Malformed,
    }
}

fn sentence(who: &str, kind: FaultKind, status: u16, words: Option<&str>) -> String {
    let said = words.map_or_else(|| format!("HTTP {status}"), |words| format!("HTTP {status}, {words}"));
    let advice = match kind {
        FaultKind::InvalidClient => "check the client id, the secret in spec.client.secretRef and spec.client.authMethod",
        FaultKind::InvalidGrant => "the provider does not accept this grant",
        FaultKind::NotAllowed => {
            "check what the client may ask for: spec.scopes, spec.audience and the client's rights at the provider"
        }
        FaultKind::Misconfigured => "check the endpoint in spec.provider and whether the client may use this grant",
        FaultKind::RateLimited | FaultKind::SlowDown => "the provider asks for patience",
        FaultKind::AuthorizationPending => "nobody has entered the code yet",
        FaultKind::DeviceCodeExpired => "nobody has entered the code in time",
        FaultKind::Malformed if (300..400).contains(&status) => {
            "redirects are never followed with credentials; set the endpoint it points to in spec.provider"
        }
        FaultKind::InvalidRequest if words.is_some_and(|words| words.to_ascii_lowercase().contains("dpop")) => {
            "check spec.dpop, and that the clocks agree"
        }
        FaultKind::Malformed | FaultKind::InvalidRequest => "check that spec.provider names a token endpoint",
        _ => "the provider is in trouble; the operator keeps trying",
    };
    format!("{who} answered {said}: {advice}.")
}

/// The provider's words for a person: printable, short, without our secrets.
fn quoted(code: &str, description: Option<&str>, secrets: &[Sensitive]) -> String {
    let clean = |text: &str, most: usize| {
        // Cleaned first: a control character within a secret must not hide it.
        let printable: String = text.chars().filter(|c| !c.is_control()).take(16 * 1024).collect();
        masked(&printable, secrets).chars().take(most).collect::<String>()
    };
    let code = clean(code, 64);
    match description.map(|text| clean(text, 300)).filter(|text| !text.is_empty()) {
        Some(description) => format!("\"{code}\" ({description})"),
        None => format!("\"{code}\""),
    }
}

fn masked(text: &str, secrets: &[Sensitive]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| secret.mask(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ExpirySource, Reason};

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn judged(status: u16, body: &str) -> Result<Token, Fault> {
        let reply = Reply { status, retry_after: None, dpop_nonce: None, body: body.as_bytes().to_vec() };
        judge(&reply, &Dialect::default(), &[Sensitive::new("hunter22")], now(), now())
    }

    #[test]
    fn a_plain_reply_is_a_token() {
        let token = judged(200, r#"{"access_token":"abc","token_type":"Bearer","expires_in":3600,"scope":"a b"}"#).unwrap();
        assert_eq!(token.access_token.expose(), "abc");
        assert_eq!(token.scopes, Some(vec!["a".into(), "b".into()]));
        assert_eq!(token.expiry.source, ExpirySource::Field);
    }

    #[test]
    fn what_a_reply_says_of_its_refresh_token_is_read() {
        use base64::Engine;
        let part = |claims: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let id_token = format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(r#"{"sub":"alice"}"#));
        let body = format!(
            r#"{{"access_token":"a","expires_in":3600,"refresh_token":"r2","refresh_token_expires_in":86400,"refresh_in":1800,
                "earliest_refresh_at":"2026-01-01T00:10:00Z","id_token":"{id_token}"}}"#
        );
        let token = judged(200, &body).unwrap();
        assert_eq!(token.refresh_token, Some(Sensitive::new("r2")));
        let after = |moment: Option<Timestamp>| moment.map(|moment| moment.duration_since(now()).as_secs());
        assert_eq!(after(token.refresh_token_expires), Some(86_400));
        assert_eq!((after(token.refresh_at), after(token.earliest_refresh_at)), (Some(1800), Some(600)));
        assert_eq!(token.subject.as_deref(), Some("alice"));
        let silent = judged(200, r#"{"access_token":"a","refresh_expires_in":0}"#).unwrap();
        assert_eq!((silent.refresh_token, silent.refresh_token_expires, silent.subject), (None, None, None));
    }

    #[test]
    fn a_successor_is_found_whatever_else_is_wrong() {
        let found = |status, body: &str| {
            successor(&Reply { status, retry_after: None, dpop_nonce: None, body: body.as_bytes().to_vec() }, &Dialect::default())
        };
        let r2 = Some(Sensitive::new("r2"));
        assert_eq!(found(200, r#"{"refresh_token":"r2"}"#), r2, "no access token");
        assert_eq!(found(200, r#"{"access_token":"a","expires_in":-1,"refresh_token":"r2"}"#), r2, "a token that is over");
        for (status, body) in [
            (400, r#"{"refresh_token":"r2"}"#),
            (200, r#"{"error":"invalid_grant","refresh_token":"r2"}"#),
            (200, r#"{"refresh_token":""}"#),
            (200, "{\"refresh_token\":\"r\\n2\"}"),
            (200, "<html>"),
        ] {
            assert_eq!(found(status, body), None, "{status} {body}");
        }
    }

    #[test]
    fn a_reply_without_a_type_is_taken_for_bearer() {
        assert_eq!(judged(200, r#"{"access_token":"abc"}"#).unwrap().token_type, "Bearer");
    }

    #[test]
    fn what_is_no_reply_is_called_malformed() {
        for body in ["", "<html>Sign in</html>", "[]", "null", "{}", r#"{"access_token":""}"#, r#"{"access_token":7}"#] {
            assert_eq!(judged(200, body).unwrap_err().kind, FaultKind::Malformed, "{body}");
        }
    }

    #[test]
    fn a_token_with_a_line_break_is_refused() {
        let fault = judged(200, "{\"access_token\":\"a\\r\\nSet-Cookie: b\"}").unwrap_err();
        assert_eq!(fault.kind, FaultKind::Malformed);
        assert!(!fault.message.contains("Set-Cookie"));
    }

    #[test]
    fn each_error_has_its_class() {
        for (status, body, kind, reason) in [
            (401, r#"{"error":"invalid_client"}"#, FaultKind::InvalidClient, Reason::Authentication),
            (400, r#"{"error":"invalid_client"}"#, FaultKind::InvalidClient, Reason::Authentication),
            (400, r#"{"error":"invalid_scope"}"#, FaultKind::NotAllowed, Reason::Authorization),
            (400, r#"{"error":"unauthorized_client"}"#, FaultKind::Misconfigured, Reason::Configuration),
            (400, r#"{"error":"invalid_request"}"#, FaultKind::InvalidRequest, Reason::ProviderError),
            (200, r#"{"error":"invalid_client"}"#, FaultKind::InvalidClient, Reason::Authentication),
            (429, "", FaultKind::RateLimited, Reason::RateLimited),
            (503, "<html>", FaultKind::Unavailable, Reason::ProviderError),
            (429, r#"{"error":"invalid_request"}"#, FaultKind::RateLimited, Reason::RateLimited),
            (500, r#"{"error":"invalid_client"}"#, FaultKind::ServerError, Reason::ProviderError),
            (302, "", FaultKind::Malformed, Reason::ProviderError),
            (404, "<html>", FaultKind::Misconfigured, Reason::Configuration),
        ] {
            let fault = judged(status, body).unwrap_err();
            assert_eq!((fault.kind, fault.kind.reason()), (kind, reason), "{status} {body}");
        }
    }

    #[test]
    fn a_provider_that_echoes_our_secret_does_not_make_us_tell_it() {
        let fault =
            judged(401, r#"{"error":"invalid_client","error_description":"bad secret hunter22\u0007 given"}"#).unwrap_err();
        assert!(fault.message.contains("bad secret [redacted] given"), "{fault}");
        let fault = judged(401, r#"{"error":"hunter22","error_description":"hun\u0007ter22 aHVudGVyMjI="}"#).unwrap_err();
        assert!(fault.message.contains("\"[redacted]\" ([redacted] [redacted])"), "{fault}");
        for body in [r#"{"access_token":"abc","token_type":"hunter22"}"#, r#"{"access_token":"abc","scope":"read hunter22"}"#] {
            let fault = judged(200, body).unwrap_err();
            assert!(fault.kind == FaultKind::Malformed && !fault.message.contains("hunter22"), "{fault}");
        }
    }

    #[test]
    fn a_proof_that_is_missing_or_refused_is_no_wrong_address() {
        for body in [
            r#"{"error":"invalid_dpop_proof","error_description":"iat is not recent enough"}"#,
            r#"{"error":"invalid_request","error_description":"DPoP proof JWT is required"}"#,
        ] {
            let fault = judged(400, body).unwrap_err();
            assert!(fault.kind == FaultKind::InvalidRequest && fault.message.contains("check spec.dpop"), "{fault}");
        }
        assert!(judged(400, r#"{"error":"invalid_request"}"#).unwrap_err().message.contains("names a token endpoint"));
    }

    #[test]
    fn retry_after_is_kept() {
        let reply = Reply { status: 429, retry_after: Some("30".into()), dpop_nonce: None, body: vec![] };
        let fault = judge(&reply, &Dialect::default(), &[], now(), now()).unwrap_err();
        assert_eq!(fault.retry_after.map(|wait| wait.as_secs()), Some(30));
    }
}
