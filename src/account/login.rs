//! A login: whom it was made with, and what stands for it.

use crate::oauth::{Sensitive, exposed, exposed_option};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

/// Whom the login was made with: a refresh token is sent nowhere else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Login {
    /// Scheme, host and port of the token endpoint.
    pub origin: String,
    /// The client it was issued to (RFC 6749 §10.4 binds them).
    pub client_id: String,
}

impl Login {
    /// The login of a client at an endpoint.
    pub fn of(endpoint: &Url, client_id: &str) -> Self {
        Self { origin: endpoint.origin().ascii_serialization(), client_id: client_id.to_owned() }
    }
}

/// Where a refresh token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// The user's seed Secret.
    Seed,
    /// A reply of the provider's.
    Reply,
}

/// What a login is redeemed with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CredentialKind {
    /// A refresh token.
    #[default]
    RefreshToken,
    /// The code of a person's consent: it works once (RFC 6749 §4.1.2).
    #[serde(rename_all = "camelCase")]
    AuthorizationCode {
        /// Where it was sent to.
        redirect_uri: String,
        /// What its challenge was made of.
        #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
        verifier: Option<Sensitive>,
    },
    /// The code of a device: it works once a person has entered another one (RFC 8628).
    DeviceCode(DeviceSession),
}

/// What a person is told who is to enter a code (RFC 8628 §3.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSession {
    /// What is to be entered.
    pub user_code: String,
    /// Where.
    pub verification_url: String,
    /// The same with the code in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_url_complete: Option<String>,
    /// Until when.
    pub expires: Timestamp,
    /// Seconds between two polls.
    pub interval: i64,
}

/// A client that the provider has registered for us (RFC 7591).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Client identifier.
    pub client_id: String,
    /// Client secret.
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Sensitive>,
    /// When it was made.
    pub since: Timestamp,
    /// When the registration ends, where the provider or its preset says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Scheme, host and port of where it was registered.
    pub origin: String,
}

/// What stands for a login: a refresh token, or the code that one is obtained with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// The refresh token, or the code.
    #[serde(with = "exposed")]
    pub refresh_token: Sensitive,
    /// Which of them it is.
    #[serde(default, skip_serializing_if = "is_refresh_token")]
    pub kind: CredentialKind,
    /// Where it came from.
    pub source: Source,
    /// When it expires, where the provider said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// Since when nobody knows whether it was spent: it was posted then, and no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Timestamp>,
    /// Private key of the login, PEM: the refresh token of a public client is bound to it (RFC 9449 §5), and lost without.
    /// It stands with the credential, so that what is displaced keeps its own.
    #[serde(default, with = "exposed_option", skip_serializing_if = "Option::is_none")]
    pub dpop_key: Option<Sensitive>,
}

fn is_refresh_token(kind: &CredentialKind) -> bool {
    *kind == CredentialKind::RefreshToken
}

impl Credential {
    /// As it is read from a seed or a person's consent.
    pub fn seed(secret: &Sensitive, kind: CredentialKind) -> Self {
        Self { refresh_token: secret.clone(), kind, source: Source::Seed, expires: None, doubt: None, dpop_key: None }
    }

    /// Whether it is a refresh token, and not the code that one is obtained with.
    pub fn is_refresh_token(&self) -> bool {
        is_refresh_token(&self.kind)
    }
}
