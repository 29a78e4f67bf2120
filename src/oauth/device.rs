//! What an authorization server answers before there is a token: a code for a person to enter (RFC 8628 §3.2), and a client
//! of our own (RFC 7591 §3.2.1).

use super::dialect::Dialect;
use super::token_reply::{granted, is_vschar};
use super::{Fault, FaultKind, Reply, Sensitive};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use url::Url;

/// Seconds between two polls where the server does not say (RFC 8628 §3.2).
const INTERVAL: i64 = 5;
/// Longest time between two polls, in seconds.
const LONGEST_INTERVAL: i64 = 60;
/// Longest time that a code is waited for.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// A code that a person is to enter, and one that we poll with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceAuthorization {
    /// What we poll with.
    pub device_code: Sensitive,
    /// What the person enters.
    pub user_code: String,
    /// Where.
    pub verification_url: String,
    /// The same with the code in it.
    pub verification_url_complete: Option<String>,
    /// Until when.
    pub expires: Timestamp,
    /// Seconds between two polls.
    pub interval: i64,
}

/// Reads the answer of a device authorization endpoint to a request that was sent at `sent`.
///
/// # Errors
/// What the provider refuses; [`FaultKind::Malformed`] for an answer that nobody could act on.
pub fn read_device_authorization(
    reply: &Reply,
    dialect: &Dialect,
    secrets: &[Sensitive],
    sent: Timestamp,
) -> Result<DeviceAuthorization, Fault> {
    let who = "The device authorization endpoint";
    let body = granted(reply, who, dialect, secrets, sent)?;
    let malformed = |what: &str| Fault::new(FaultKind::Malformed, format!("{who} answered {} with {what}.", reply.status));
    let body = body.ok_or_else(|| malformed("a body that is no JSON object"))?;
    let root = dialect.root(&body);
    let text = |name: &str| dialect.field(root, None, name).and_then(Value::as_str).filter(|text| is_vschar(text));
    let number = |name: &str| dialect.field(root, None, name).and_then(Value::as_i64).filter(|number| *number > 0);
    let device_code = text("device_code").ok_or_else(|| malformed("no device_code"))?;
    let user_code = text("user_code").filter(|code| code.len() <= 64).ok_or_else(|| malformed("no user_code"))?;
    // Google says verification_url, as early drafts did.
    let url = text("verification_uri").or_else(|| text("verification_url")).and_then(page);
    let complete = text("verification_uri_complete").or_else(|| text("verification_url_complete")).and_then(page);
    // Coze's is a moment, as its other expiries are.
    let lifetime = number("expires_in").map(|seconds| match Timestamp::from_second(seconds) {
        Ok(moment) if seconds > super::LONGEST_LIFETIME => moment.duration_since(sent),
        _ => SignedDuration::from_secs(seconds),
    });
    let lifetime = lifetime.filter(SignedDuration::is_positive).ok_or_else(|| malformed("no expires_in"))?;
    Ok(DeviceAuthorization {
        device_code: Sensitive::new(device_code),
        user_code: user_code.to_owned(),
        verification_url: url.ok_or_else(|| malformed("no https verification_uri"))?,
        verification_url_complete: complete,
        expires: sent + lifetime.min(LONGEST_WAIT),
        interval: number("interval").unwrap_or(INTERVAL).min(LONGEST_INTERVAL),
    })
}

/// A page that a person may be sent to.
fn page(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    (url.scheme() == "https" && text.len() <= 2048).then(|| text.to_owned())
}

/// Reads the answer to an authorization request that was pushed (RFC 9126 §2.2): the reference to it.
///
/// # Errors
/// What the provider refuses; [`FaultKind::Malformed`] for an answer without a reference.
pub fn read_pushed(reply: &Reply, dialect: &Dialect, secrets: &[Sensitive], now: Timestamp) -> Result<String, Fault> {
    let who = "The pushed authorization request endpoint";
    let body = granted(reply, who, dialect, secrets, now)?;
    let reference = body.as_ref().and_then(|body| body.get("request_uri")).and_then(Value::as_str);
    let reference = reference.filter(|text| is_vschar(text)).map(str::to_owned);
    reference.ok_or_else(|| Fault::new(FaultKind::Malformed, format!("{who} answered {} with no request_uri.", reply.status)))
}

/// A client that was registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredClient {
    /// Client identifier.
    pub client_id: String,
    /// Client secret, where it has one.
    pub client_secret: Option<Sensitive>,
    /// When it ends, where the answer says so; zero means never (RFC 7591 §3.2.1).
    pub expires: Option<Timestamp>,
}

/// Reads the answer of a registration endpoint.
///
/// # Errors
/// What the provider refuses; [`FaultKind::Malformed`] for an answer without a client.
pub fn read_registration(reply: &Reply, dialect: &Dialect, now: Timestamp) -> Result<RegisteredClient, Fault> {
    let who = "The registration endpoint";
    let body = granted(reply, who, dialect, &[], now)?;
    let malformed = |what: &str| Fault::new(FaultKind::Malformed, format!("{who} answered {} with {what}.", reply.status));
    let body = body.ok_or_else(|| malformed("a body that is no JSON object"))?;
    let field = |name: &str| dialect.field(&body, None, name);
    let text = |name: &str| field(name).and_then(Value::as_str).filter(|text| is_vschar(text));
    let expires = field("client_secret_expires_at").and_then(Value::as_i64).filter(|at| *at > 0);
    Ok(RegisteredClient {
        client_id: text("client_id").filter(|id| id.len() <= 512).ok_or_else(|| malformed("no client_id"))?.to_owned(),
        client_secret: text("client_secret").map(Sensitive::new),
        expires: expires.and_then(|at| Timestamp::from_second(at).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn reply(body: &Value) -> Reply {
        Reply { status: 200, retry_after: None, dpop_nonce: None, body: body.to_string().into_bytes() }
    }

    fn device(knobs: Value, body: &Value) -> Result<DeviceAuthorization, Fault> {
        let dialect = Dialect::of(&serde_json::from_value(knobs).unwrap());
        read_device_authorization(&reply(body), &dialect, &[], now())
    }

    #[test]
    fn the_dialects_of_device_authorization_are_read() {
        let standard = json!({"device_code": "d", "user_code": "AB-CD", "verification_uri": "https://a.example/d",
            "verification_uri_complete": "https://a.example/d?c=AB-CD", "expires_in": 600, "interval": 7});
        let read = device(json!({}), &standard).unwrap();
        assert_eq!((read.user_code.as_str(), read.verification_url.as_str(), read.interval), ("AB-CD", "https://a.example/d", 7));
        assert_eq!(read.expires.duration_since(now()).as_secs(), 600);
        let aws = json!({"deviceCode": "d", "userCode": "AB-CD", "verificationUri": "https://a.example/d", "expiresIn": 600});
        assert_eq!(device(json!({"case": "Camel"}), &aws).unwrap().interval, 5, "RFC 8628 section 3.2");
        let google = json!({"device_code": "d", "user_code": "c", "verification_url": "https://a.example/d", "expires_in": 60});
        assert!(device(json!({}), &google).is_ok());
        let coze = json!({"data": {"device_code": "d", "user_code": "c", "verification_uri": "https://a.example/d",
            "expires_in": now().as_second() + 300}});
        let read = device(json!({"response": {"root": "data"}}), &coze).unwrap();
        assert_eq!(read.expires.duration_since(now()).as_secs(), 300);
    }

    #[test]
    fn what_nobody_could_act_on_is_refused() {
        let whole = json!({"device_code": "d", "user_code": "c", "verification_uri": "https://a.example/d", "expires_in": 60});
        for (field, value) in [
            ("device_code", json!(null)),
            ("user_code", json!("")),
            ("user_code", json!("x".repeat(65))),
            ("verification_uri", json!("javascript:alert(1)")),
            ("verification_uri", json!("http://a.example/d")),
            ("expires_in", json!(0)),
        ] {
            let mut body = whole.clone();
            body[field] = value.clone();
            assert_eq!(device(json!({}), &body).unwrap_err().kind, FaultKind::Malformed, "{field} {value}");
        }
        let refused = device(json!({}), &json!({"error": "invalid_scope"})).unwrap_err();
        assert!(refused.message.starts_with("The device authorization endpoint answered"), "{refused}");
    }

    #[test]
    fn a_registration_ends_when_it_says_so_and_zero_is_never() {
        let read = |body: &Value| read_registration(&reply(body), &Dialect::default(), now()).unwrap();
        let client = read(&json!({"client_id": "c", "client_secret": "s", "client_secret_expires_at": 1_800_000_000}));
        assert_eq!(client.expires.map(|at| at.as_second()), Some(1_800_000_000));
        assert_eq!(read(&json!({"client_id": "c", "client_secret_expires_at": 0})).expires, None);
        assert!(read_registration(&reply(&json!({})), &Dialect::default(), now()).is_err());
    }
}
