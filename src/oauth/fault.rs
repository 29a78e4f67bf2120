//! Why no token came: a closed set, so that status, metrics and back-off speak of the same thing.

use crate::api::Reason;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Class of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// `invalid_client` (RFC 6749 §5.2), or HTTP 401 without a word.
    InvalidClient,
    /// `invalid_grant` (RFC 6749 §5.2).
    InvalidGrant,
    /// `invalid_scope`, `access_denied`, or HTTP 403 without a word.
    NotAllowed,
    /// `unauthorized_client`, `unsupported_grant_type`, `invalid_target` (RFC 8707), or an endpoint that is none.
    Misconfigured,
    /// `invalid_request`: a few retries first, for some servers say so of a lost race.
    InvalidRequest,
    /// HTTP 429.
    RateLimited,
    /// `authorization_pending` (RFC 8628 §3.5): nobody has entered the code yet.
    AuthorizationPending,
    /// `slow_down` (RFC 8628 §3.5).
    SlowDown,
    /// `expired_token` (RFC 8628 §3.5): nobody has entered the code in time.
    DeviceCodeExpired,
    /// HTTP 503, 408, 425, `temporarily_unavailable`: it does not keep up.
    Unavailable,
    /// Any other HTTP 5xx, `server_error`.
    ServerError,
    /// An answer that is none: HTML, empty, too large, a lifetime that cannot be, a redirect.
    Malformed,
    /// The host name does not resolve.
    NameNotResolved,
    /// No connection.
    NotConnected,
    /// The TLS handshake failed.
    Tls,
    /// No answer in time.
    TimedOut,
    /// The address is none that the operator may talk to.
    AddressRefused,
    /// The seed Secret does not permit this host.
    HostNotPermitted,
    /// A Secret or ConfigMap, or its key, does not exist.
    ReferenceMissing,
    /// A Secret's or ConfigMap's content is not what it should be.
    ReferenceInvalid,
    /// The API server does not let the operator read or write what it must.
    ApiRefused,
    /// A template of `spec.tokenSecret.data` cannot be made of this token.
    TemplateFailed,
    /// `invalid_grant` for a refresh token that was received here and posted nowhere else by us: another cluster shares
    /// this login, or the provider has ended it.
    RedeemedElsewhere,
    /// `invalid_grant` for a new refresh token of the user's, while the login held before goes on.
    SeedRefused,
    /// A refresh left us and no answer came: nobody knows whether the refresh token was spent.
    OutcomeUnknown,
    /// The refresh token of the seed is another account's.
    DuplicateCredential,
    /// The operator's record of the login is older than what status tells of, or gone.
    StateRolledBack,
    /// The operator's record of the login cannot be read.
    StateUnreadable,
    /// The login that is held was made with another provider or client.
    LoginChanged,
    /// The provider's reply is about somebody else's login.
    WrongSubject,
    /// The operator was held up before a byte was sent, or is not to send any more.
    HeldUp,
}

impl FaultKind {
    /// Its name, as status keeps it.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The class of a name that status has kept; none for a name of another version.
    pub fn named(name: &str) -> Option<Self> {
        serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
    }

    /// Reason that conditions and Events give.
    pub const fn reason(self) -> Reason {
        match self {
            Self::InvalidClient | Self::InvalidGrant | Self::SeedRefused => Reason::Authentication,
            Self::RedeemedElsewhere => Reason::RedeemedElsewhere,
            Self::OutcomeUnknown => Reason::OutcomeUnknown,
            Self::DuplicateCredential => Reason::DuplicateCredential,
            Self::StateRolledBack => Reason::StateRolledBack,
            Self::WrongSubject => Reason::WrongSubject,
            Self::HeldUp => Reason::Pending,
            Self::NotAllowed => Reason::Authorization,
            Self::RateLimited | Self::SlowDown => Reason::RateLimited,
            Self::AuthorizationPending => Reason::AuthorizationPending,
            Self::DeviceCodeExpired => Reason::AuthorizationExpired,
            Self::InvalidRequest | Self::Unavailable | Self::ServerError | Self::Malformed => Reason::ProviderError,
            Self::NameNotResolved | Self::NotConnected | Self::Tls | Self::TimedOut => Reason::Network,
            Self::Misconfigured
            | Self::AddressRefused
            | Self::HostNotPermitted
            | Self::ReferenceMissing
            | Self::ReferenceInvalid
            | Self::StateUnreadable
            | Self::LoginChanged
            | Self::TemplateFailed
            | Self::ApiRefused => Reason::Configuration,
        }
    }

    /// Whether only a person's change can help: then retries are rare, and kstatus hears `Stalled`. A missing
    /// reference is none: it may come with the next object of the same `kubectl apply`.
    pub const fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::InvalidClient
                | Self::InvalidGrant
                | Self::DeviceCodeExpired
                | Self::NotAllowed
                | Self::Misconfigured
                | Self::AddressRefused
                | Self::HostNotPermitted
                | Self::ReferenceInvalid
                | Self::TemplateFailed
                | Self::RedeemedElsewhere
                | Self::DuplicateCredential
                | Self::StateRolledBack
                | Self::StateUnreadable
                | Self::LoginChanged
                | Self::WrongSubject
        )
    }

    /// Whether the provider has ended the login, or whatever it was asked with.
    pub const fn ends_the_login(self) -> bool {
        matches!(self, Self::InvalidGrant | Self::RedeemedElsewhere | Self::DeviceCodeExpired)
    }

    /// Whether the login itself is over or in question, and not one attempt to use it.
    pub const fn touches_the_login(self) -> bool {
        matches!(
            self,
            Self::InvalidGrant
                | Self::DeviceCodeExpired
                | Self::RedeemedElsewhere
                | Self::SeedRefused
                | Self::OutcomeUnknown
                | Self::DuplicateCredential
                | Self::StateRolledBack
                | Self::StateUnreadable
                | Self::LoginChanged
                | Self::WrongSubject
        )
    }

    /// All values of the label `result` of `oauth_operator_token_requests_total`.
    pub const METRICS: [&'static str; 9] =
        ["success", "invalid_client", "invalid_grant", "unknown", "rate_limited", "server_error", "timeout", "tls", "other"];

    /// The one of this class.
    pub const fn metric(self) -> &'static str {
        match self {
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant | Self::RedeemedElsewhere | Self::SeedRefused => "invalid_grant",
            Self::OutcomeUnknown => "unknown",
            Self::RateLimited | Self::SlowDown => "rate_limited",
            Self::Unavailable | Self::ServerError => "server_error",
            Self::TimedOut => "timeout",
            Self::Tls => "tls",
            _ => "other",
        }
    }
}

/// A failed attempt: what class, in what words, and how long the provider asks us to wait.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Class of the failure.
    pub kind: FaultKind,
    /// One sentence: what is wrong, where, and what to do. Without a secret.
    pub message: String,
    /// `Retry-After`, at most an hour.
    pub retry_after: Option<SignedDuration>,
}

impl Fault {
    /// A fault without a wish of the provider's.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }
}

/// `Retry-After` in seconds or as an HTTP date (RFC 9110 §10.2.3), capped at one hour; what is unreadable or past is
/// no wish.
pub fn retry_after(value: &str, now: Timestamp) -> Option<SignedDuration> {
    let value = value.trim();
    let wait = match value.parse::<u32>() {
        Ok(seconds) => SignedDuration::from_secs(i64::from(seconds)),
        Err(_) => jiff::fmt::rfc2822::parse(value).ok()?.timestamp().duration_since(now),
    };
    wait.is_positive().then(|| wait.min(SignedDuration::from_hours(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_reads_seconds_and_dates_and_is_capped() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(retry_after("30", now), Some(SignedDuration::from_secs(30)));
        assert_eq!(retry_after("Thu, 01 Jan 2026 00:01:00 GMT", now), Some(SignedDuration::from_secs(60)));
        assert_eq!(retry_after("86400", now), Some(SignedDuration::from_hours(1)));
        assert_eq!(retry_after("Wed, 31 Dec 2025 00:00:00 GMT", now), None);
        assert_eq!(retry_after("soon", now), None);
    }
}
