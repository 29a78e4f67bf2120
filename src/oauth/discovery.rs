//! Discovery of endpoints: RFC 8414 and OpenID Connect Discovery 1.0.

use super::{Fault, FaultKind};
use serde::Deserialize;
use url::Url;

/// What a provider says of itself, as far as it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Token endpoint.
    pub token_endpoint: Url,
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    token_endpoint: Option<String>,
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
pub fn read_metadata(issuer: &str, body: &[u8]) -> Result<Metadata, Fault> {
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
    let endpoint = document.token_endpoint.as_deref().map(Url::parse);
    match endpoint {
        Some(Ok(token_endpoint)) if token_endpoint.scheme() == "https" => Ok(Metadata { token_endpoint }),
        _ => Err(Fault::new(
            FaultKind::Misconfigured,
            format!("The discovery document of {issuer} names no https token_endpoint."),
        )),
    }
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
        let body = br#"{"issuer": "https://login.example.com/", "token_endpoint": "https://login.example.com/token", "x": 1}"#;
        let metadata = read_metadata("https://login.example.com", body).unwrap();
        assert_eq!(metadata.token_endpoint.as_str(), "https://login.example.com/token");
    }
}
