//! Whose a token is, as the authorization server says (RFC 7662): by this the testbed's APIs know a token from a made-up one.

use super::Result;
use super::authorization_server::{AuthorizationServer, Client};
use serde_json::{Value, json};

/// A resource server's access to the provider's introspection endpoint.
pub struct Introspection {
    http: reqwest::Client,
    endpoint: String,
    client: Client,
}

impl Introspection {
    /// At this provider, with a client of its own.
    pub async fn at(provider: &AuthorizationServer) -> Result<Self> {
        let client = provider.register(60, "client_secret_basic").await?;
        Ok(Self { http: provider.http()?, endpoint: format!("{}/token/introspection", provider.issuer), client })
    }

    /// Client that the token was issued to; none where the provider does not take it.
    pub async fn holder(&self, token: &str) -> Result<Option<String>> {
        let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let request = self.http.post(&self.endpoint).basic_auth(&self.client.id, Some(&self.client.secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        let said: Value = serde_json::from_str(&request.send().await?.text().await?)?;
        Ok(said["client_id"].as_str().filter(|_| said["active"] == json!(true)).map(str::to_owned))
    }
}
