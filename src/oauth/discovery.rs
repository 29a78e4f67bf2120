//! Discovery of endpoints: RFC 8414 and OpenID Connect Discovery 1.0.

use super::{Fault, FaultKind};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use url::Url;

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// RFC 6749 §3.1.
    Authorization,
    /// RFC 6749 §3.2.
    Token,
    /// A token endpoint for refreshes alone.
    Refresh,
    /// RFC 8628 §3.1.
    DeviceAuthorization,
    /// RFC 7009.
    Revocation,
    /// RFC 7662.
    Introspection,
    /// RFC 7591.
    Registration,
    /// RFC 9126.
    PushedAuthorizationRequest,
}

impl Endpoint {
    /// Its name in metadata (RFC 8414 §2, RFC 8628 §4, RFC 9126 §5).
    const fn metadata(self) -> &'static str {
        match self {
            Self::Authorization => "authorization_endpoint",
            Self::Token => "token_endpoint",
            Self::Refresh => "",
            Self::DeviceAuthorization => "device_authorization_endpoint",
            Self::Revocation => "revocation_endpoint",
            Self::Introspection => "introspection_endpoint",
            Self::Registration => "registration_endpoint",
            Self::PushedAuthorizationRequest => "pushed_authorization_request_endpoint",
        }
    }

    /// The field under `spec.provider.overrides` that says it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Authorization => "authorizationURL",
            Self::Token => "tokenURL",
            Self::Refresh => "refreshURL",
            Self::DeviceAuthorization => "deviceAuthorizationURL",
            Self::Revocation => "revocationURL",
            Self::Introspection => "introspectionURL",
            Self::Registration => "registrationURL",
            Self::PushedAuthorizationRequest => "pushedAuthorizationRequestURL",
        }
    }

    const DISCOVERED: [Self; 7] = [
        Self::Authorization,
        Self::Token,
        Self::DeviceAuthorization,
        Self::Revocation,
        Self::Introspection,
        Self::Registration,
        Self::PushedAuthorizationRequest,
    ];
}

/// Where a provider is asked what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    urls: BTreeMap<Endpoint, Url>,
    /// Its issuer identifier, where it has told one.
    pub issuer: Option<String>,
    /// Whether it names itself in the answer to an authorization request (RFC 9207 §3).
    pub names_issuer: bool,
    /// Whether authorization requests must be pushed (RFC 9126 §5).
    pub requires_pushed: bool,
}

impl Endpoints {
    /// With an endpoint.
    #[must_use]
    pub fn with(mut self, endpoint: Endpoint, url: Url) -> Self {
        self.urls.insert(endpoint, url);
        self
    }

    /// What is known, and for the rest what was discovered.
    #[must_use]
    pub fn or(mut self, discovered: Self) -> Self {
        for (endpoint, url) in discovered.urls {
            self.urls.entry(endpoint).or_insert(url);
        }
        Self {
            urls: self.urls,
            issuer: self.issuer.or(discovered.issuer),
            names_issuer: self.names_issuer || discovered.names_issuer,
            requires_pushed: self.requires_pushed || discovered.requires_pushed,
        }
    }

    /// An endpoint, where there is one.
    pub fn get(&self, endpoint: Endpoint) -> Option<&Url> {
        self.urls.get(&endpoint)
    }

    /// An endpoint that there must be.
    ///
    /// # Errors
    /// [`FaultKind::Misconfigured`], naming the field that says it.
    pub fn require(&self, endpoint: Endpoint) -> Result<&Url, Fault> {
        self.get(endpoint).ok_or_else(|| {
            let field = endpoint.field();
            let message = format!("The provider names no {field}, which this grant needs; set spec.provider.overrides.{field}.");
            Fault::new(FaultKind::Misconfigured, message)
        })
    }

    /// Where tokens are asked for; refreshes may have an address of their own.
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn token(&self, refresh: bool) -> Result<&Url, Fault> {
        match self.get(Endpoint::Refresh).filter(|_| refresh) {
            Some(url) => Ok(url),
            None => self.require(Endpoint::Token),
        }
    }

    /// Every endpoint with its URL.
    pub fn iter(&self) -> impl Iterator<Item = (Endpoint, &Url)> {
        self.urls.iter().map(|(endpoint, url)| (*endpoint, url))
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    require_pushed_authorization_requests: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Addresses at which an issuer's metadata may stand, in the order in which they are asked: OpenID Connect Discovery
/// §4 appends to the path, RFC 8414 §3.1 inserts before it.
pub fn metadata_urls(issuer: &Url) -> Vec<Url> {
    let path = issuer.path().trim_end_matches('/');
    [format!("{path}/.well-known/openid-configuration"), format!("/.well-known/oauth-authorization-server{path}")]
        .into_iter()
        .map(|path| {
            let mut url = issuer.clone();
            url.set_path(&path);
            url
        })
        .collect()
}

/// Reads a metadata document.
///
/// # Errors
/// [`FaultKind::Malformed`] for what is no such document; [`FaultKind::Misconfigured`] for one of another issuer (RFC
/// 8414 §3.3 demands equality) or without a token endpoint.
pub fn read_metadata(issuer: &str, body: &[u8]) -> Result<Endpoints, Fault> {
    let document: Document = serde_json::from_slice(body).map_err(|_| {
        Fault::new(
            FaultKind::Malformed,
            format!("The discovery document of {issuer} is not JSON with the fields issuer and token_endpoint."),
        )
    })?;
    if document.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
        let theirs: String = document.issuer.chars().filter(|c| c.is_ascii_graphic()).take(200).collect();
        let message = format!(
            "The discovery document of {issuer} names another issuer, \"{theirs}\"; set spec.provider.issuer to the one it names, if you trust it."
        );
        return Err(Fault::new(FaultKind::Misconfigured, message));
    }
    let named = |endpoint: Endpoint| document.rest.get(endpoint.metadata()).and_then(Value::as_str).map(Url::parse);
    let mut endpoints = Endpoints {
        issuer: Some(document.issuer.clone()),
        names_issuer: document.authorization_response_iss_parameter_supported,
        requires_pushed: document.require_pushed_authorization_requests,
        ..Endpoints::default()
    };
    for endpoint in Endpoint::DISCOVERED {
        match named(endpoint) {
            Some(Ok(url)) if url.scheme() == "https" => endpoints = endpoints.with(endpoint, url),
            // What is not https is as good as not there.
            _ if endpoint != Endpoint::Token => {}
            _ => {
                return Err(Fault::new(
                    FaultKind::Misconfigured,
                    format!("The discovery document of {issuer} names no https token_endpoint."),
                ));
            }
        }
    }
    Ok(endpoints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_address_are_asked() {
        let urls = metadata_urls(&"https://login.example.com/realms/x/".parse().unwrap());
        let urls: Vec<_> = urls.iter().map(Url::as_str).collect();
        assert_eq!(
            urls,
            [
                "https://login.example.com/realms/x/.well-known/openid-configuration",
                "https://login.example.com/.well-known/oauth-authorization-server/realms/x"
            ]
        );
    }

    #[test]
    fn a_document_of_another_issuer_is_refused() {
        let body = br#"{"issuer": "https://evil.example.com", "token_endpoint": "https://evil.example.com/token"}"#;
        let fault = read_metadata("https://login.example.com", body).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Misconfigured);
        assert!(fault.message.contains("names another issuer"), "{fault}");
    }

    #[test]
    fn a_plaintext_token_endpoint_is_refused() {
        let body = br#"{"issuer": "https://login.example.com", "token_endpoint": "http://login.example.com/token"}"#;
        assert_eq!(read_metadata("https://login.example.com", body).unwrap_err().kind, FaultKind::Misconfigured);
    }

    #[test]
    fn a_page_is_no_document() {
        assert_eq!(read_metadata("https://login.example.com", b"<html>").unwrap_err().kind, FaultKind::Malformed);
    }

    #[test]
    fn a_document_is_read() {
        let body = br#"{"issuer": "https://login.example.com/", "token_endpoint": "https://login.example.com/token", "x": 1,
            "revocation_endpoint": "http://login.example.com/revoke", "authorization_response_iss_parameter_supported": true}"#;
        let metadata = read_metadata("https://login.example.com", body).unwrap();
        assert_eq!(metadata.require(Endpoint::Token).unwrap().as_str(), "https://login.example.com/token");
        assert!(metadata.names_issuer && !metadata.requires_pushed);
        assert_eq!(metadata.get(Endpoint::Revocation), None, "no token goes over plain http");
    }

    #[test]
    fn what_is_known_goes_before_what_is_discovered() {
        let url = |text: &str| Url::parse(text).unwrap();
        let known = Endpoints::default().with(Endpoint::Token, url("https://a.example/t"));
        let discovered = Endpoints::default()
            .with(Endpoint::Token, url("https://b.example/t"))
            .with(Endpoint::Revocation, url("https://b.example/r"));
        let both = known.or(discovered);
        assert_eq!(both.token(true).unwrap().as_str(), "https://a.example/t");
        assert_eq!(both.require(Endpoint::Revocation).unwrap().as_str(), "https://b.example/r");
        let refresh = both.with(Endpoint::Refresh, url("https://a.example/refresh"));
        assert_eq!(refresh.token(true).unwrap().as_str(), "https://a.example/refresh");
        assert_eq!(refresh.token(false).unwrap().as_str(), "https://a.example/t");
        let why = refresh.require(Endpoint::DeviceAuthorization).unwrap_err().message;
        assert!(why.contains("spec.provider.overrides.deviceAuthorizationURL"), "{why}");
    }
}
