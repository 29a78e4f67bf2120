//! What is sent to a token endpoint.

use super::Sensitive;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use oauth2::basic::BasicClient;
use oauth2::{AuthType, ClientId, ClientSecret, HttpRequest, HttpResponse, RefreshToken, Scope, TokenUrl};
use std::cell::RefCell;
use std::fmt;
use url::Url;

/// How the client proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// HTTP Basic with form-encoded id and secret (RFC 6749 §2.3.1).
    Basic,
    /// `client_id` and `client_secret` in the body (RFC 6749 §2.3.1).
    Post,
    /// `client_id` in the body: a public client (RFC 6749 §2.1).
    None,
}

/// By what right a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantRequest {
    /// The client's own (RFC 6749 §4.4.2).
    ClientCredentials,
    /// A refresh token (RFC 6749 §6).
    RefreshToken(Sensitive),
}

/// A request to a token endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Where it goes.
    pub endpoint: Url,
    /// Client identifier.
    pub client_id: String,
    /// Whether the client identifier comes from a Secret.
    pub client_id_is_secret: bool,
    /// Client secret; a public client has none.
    pub client_secret: Option<Sensitive>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// By what right.
    pub grant: GrantRequest,
    /// Scopes asked for; none: the provider's default.
    pub scopes: Vec<String>,
    /// Parameter `audience`, which several providers know.
    pub audience: Option<String>,
    /// Parameters `resource` (RFC 8707 §2).
    pub resources: Vec<String>,
}

impl TokenRequest {
    /// Everything in this request that nobody may be told, in the forms in which a provider may echo it.
    pub fn secrets(&self) -> Vec<Sensitive> {
        let id = &self.client_id;
        let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic = |id: &str, secret: &str| Sensitive::new(STANDARD.encode(format!("{id}:{secret}")));
        let forms = |secret: &Sensitive| {
            let text = secret.expose();
            [secret.clone(), basic(&encoded(id), &encoded(text)), basic(id, text)]
        };
        let client_secret = self.client_secret.iter().flat_map(forms);
        let id_alone = self.client_id_is_secret.then(|| Sensitive::new(id.as_str()));
        let spent = match &self.grant {
            GrantRequest::ClientCredentials => None,
            GrantRequest::RefreshToken(token) => Some(token.clone()),
        };
        client_secret.chain(id_alone).chain(spent).collect()
    }
}

/// Taken by the sender that sends nothing.
#[derive(Debug)]
struct Taken;

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request was composed, not sent")
    }
}

impl std::error::Error for Taken {}

impl TokenRequest {
    /// The HTTP request, byte for byte as the oauth2 library composes it. Its sender is replaced by one that keeps the
    /// request: what goes over the wire is the shell's business, and what is in it can be tested without one.
    ///
    /// # Errors
    /// A sentence where the endpoint is no URL for the library; not for URLs that came through [`Url`].
    pub fn compose(&self) -> Result<http::Request<Vec<u8>>, String> {
        let endpoint = TokenUrl::new(self.endpoint.to_string()).map_err(|_| "the token endpoint is not a URL".to_owned())?;
        let method = match self.authentication {
            ClientAuthentication::Basic => AuthType::BasicAuth,
            ClientAuthentication::Post | ClientAuthentication::None => AuthType::RequestBody,
        };
        let mut client = BasicClient::new(ClientId::new(self.client_id.clone())).set_auth_type(method).set_token_uri(endpoint);
        if let Some(secret) = &self.client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose().to_owned()));
        }
        let scopes = self.scopes.iter().cloned().map(Scope::new);
        let audience = self.audience.iter().map(|audience| ("audience", audience));
        let extra = audience.chain(self.resources.iter().map(|resource| ("resource", resource)));
        let taken = RefCell::new(None);
        let keep = |request: HttpRequest| -> Result<HttpResponse, Taken> {
            *taken.borrow_mut() = Some(request);
            Err(Taken)
        };
        let unsent = match &self.grant {
            GrantRequest::ClientCredentials => {
                let exchange = client.exchange_client_credentials().add_scopes(scopes);
                extra.fold(exchange, |exchange, (name, value)| exchange.add_extra_param(name, value)).request(&keep).is_err()
            }
            GrantRequest::RefreshToken(token) => {
                let token = RefreshToken::new(token.expose().to_owned());
                let exchange = client.exchange_refresh_token(&token).add_scopes(scopes);
                extra.fold(exchange, |exchange, (name, value)| exchange.add_extra_param(name, value)).request(&keep).is_err()
            }
        };
        debug_assert!(unsent, "a sender that sends nothing cannot have succeeded");
        taken.into_inner().ok_or_else(|| "the token request could not be composed".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(authentication: ClientAuthentication) -> TokenRequest {
        TokenRequest {
            endpoint: "https://login.example.com/token".parse().unwrap(),
            client_id: "a:b c".into(),
            client_id_is_secret: false,
            client_secret: Some(Sensitive::new("s%cr&t")),
            authentication,
            grant: GrantRequest::ClientCredentials,
            scopes: vec!["read".into(), "write".into()],
            audience: Some("api".into()),
            resources: vec!["https://a.example.com/".into(), "https://b.example.com/".into()],
        }
    }

    fn body(request: &http::Request<Vec<u8>>) -> Vec<(String, String)> {
        url::form_urlencoded::parse(request.body()).into_owned().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn basic_authentication_form_encodes_id_and_secret() {
        let composed = request(ClientAuthentication::Basic).compose().unwrap();
        assert_eq!(composed.method(), http::Method::POST);
        assert_eq!(composed.uri(), "https://login.example.com/token");
        assert_eq!(composed.headers()["content-type"], "application/x-www-form-urlencoded");
        let basic = composed.headers()["authorization"].to_str().unwrap().strip_prefix("Basic ").unwrap().to_owned();
        let decoded = STANDARD.decode(&basic).unwrap();
        assert_eq!(String::from_utf8(decoded).unwrap(), "a%3Ab+c:s%25cr%26t");
        let secrets = request(ClientAuthentication::Basic).secrets();
        assert!(secrets.iter().any(|secret| secret.expose() == basic), "the header's value is a secret");
        let expected = pairs(&[
            ("grant_type", "client_credentials"),
            ("scope", "read write"),
            ("audience", "api"),
            ("resource", "https://a.example.com/"),
            ("resource", "https://b.example.com/"),
        ]);
        assert_eq!(body(&composed), expected);
    }

    #[test]
    fn post_authentication_puts_them_into_the_body() {
        let composed = request(ClientAuthentication::Post).compose().unwrap();
        assert!(composed.headers().get("authorization").is_none());
        let fields = body(&composed);
        assert!(fields.contains(&("client_id".into(), "a:b c".into())), "{fields:?}");
        assert!(fields.contains(&("client_secret".into(), "s%cr&t".into())), "{fields:?}");
    }

    #[test]
    fn a_public_client_refreshes_with_its_id_alone() {
        let token = Sensitive::new("r3fresh+t");
        let request = TokenRequest {
            client_secret: None,
            grant: GrantRequest::RefreshToken(token.clone()),
            audience: None,
            resources: vec![],
            ..request(ClientAuthentication::None)
        };
        let composed = request.compose().unwrap();
        assert!(composed.headers().get("authorization").is_none());
        let expected = pairs(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", "r3fresh+t"),
            ("client_id", "a:b c"),
            ("scope", "read write"),
        ]);
        let mut fields = body(&composed);
        fields.sort();
        let mut sorted = expected;
        sorted.sort();
        assert_eq!(fields, sorted);
        assert_eq!(request.secrets(), [token], "the refresh token is a secret, the id of a public client is none");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert!(!format!("{:?}", request(ClientAuthentication::Basic)).contains("s%cr&t"));
    }
}
