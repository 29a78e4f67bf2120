//! A program whose token was refused, and what the operator's refresh endpoint answers it.

use super::Result;
use super::app_pod::bundle;
use super::operator::Operator;
use super::story::Story;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What the endpoint answers.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Seconds after which to ask again.
    pub again: Option<u64>,
    pub body: Value,
}

impl Answer {
    pub fn token(&self) -> Result<&str> {
        let token = self.body["accessToken"].as_str().filter(|_| self.status == 200);
        Ok(token.ok_or_else(|| format!("no token: {self:?}"))?)
    }

    pub fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or_default())
    }

    pub fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }
}

/// As status and Secret have it.
pub fn fingerprint(token: &str) -> String {
    Sha256::digest(token)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program beside one replica, which knows the operator by its Service and trusts what the account's namespace says, and
/// nothing else.
pub struct Program {
    http: reqwest::Client,
    url: String,
    namespace: String,
}

impl Program {
    pub async fn beside(story: &Story<'_>, operator: &Operator) -> Result<Self> {
        let host = format!("oauth-operator.{}.svc", story.system);
        let ca = reqwest::Certificate::from_pem_bundle(bundle(story).await?.as_bytes())?;
        let http = reqwest::Client::builder().tls_certs_only(ca).no_proxy().resolve(&host, operator.tls_address);
        let url = format!("https://{host}:{}", operator.tls_address.port());
        Ok(Self { http: http.build()?, url, namespace: story.apps.clone() })
    }

    /// The same program as one of another namespace would be.
    pub fn of(&self, namespace: &str) -> Self {
        Self { http: self.http.clone(), url: self.url.clone(), namespace: namespace.to_owned() }
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: String) -> Result<Answer> {
        let mut request = self.http.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.body(body).send().await?;
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
        assert_eq!(text("cache-control").as_deref(), Some("no-store"), "{status}");
        assert_eq!(text("www-authenticate").is_some(), status == 401, "{status}");
        let again = text("retry-after").map(|seconds| seconds.parse()).transpose()?;
        Ok(Answer { status, again, body: serde_json::from_str(&answer.text().await?)? })
    }

    /// Asks for a token of an account in place of the one that was refused.
    pub async fn ask(&self, name: &str, token: &str, refused: Option<&str>) -> Result<Answer> {
        let body = refused.map_or_else(|| json!({}), |refused| json!({"rejectedFingerprint": fingerprint(refused)}));
        let path = format!("/v1/namespaces/{}/accounts/{name}/refresh", self.namespace);
        self.post(&path, Some(token), body.to_string()).await
    }
}
