//! GitHub's API for installation tokens of Apps, as its page has it: a real one has no CA of ours, and no App to lend.
//! <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>

use super::Result;
use super::authorization_server::random;
use super::keys::Key;
use super::tls_server::serve;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// Identifier of the App that it knows, and of the App's only installation.
pub const APP: i64 = 4711;
pub const INSTALLATION: i64 = 815;

/// An installation token that was asked for.
#[derive(Clone, Debug)]
pub struct Issued {
    pub token: String,
    pub expires_at: String,
    /// What it was asked with.
    pub body: Value,
}

/// The API, for as long as the runtime that started it.
pub struct GitHub {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    issued: Arc<Mutex<Vec<Issued>>>,
}

impl GitHub {
    /// Knows the App by its key.
    pub async fn start(key: &Key) -> Result<Self> {
        let key: Jwk = serde_json::from_value(key.jwk.clone())?;
        let key = Arc::new(DecodingKey::from_jwk(&key)?);
        let issued: Arc<Mutex<Vec<Issued>>> = Arc::default();
        let kept = issued.clone();
        let (address, ca) = serve("testbed GitHub", move |request| answer(request, key.clone(), kept.clone())).await?;
        Ok(Self { url: format!("https://{address}"), ca, issued })
    }

    /// Every token it has issued.
    pub fn issued(&self) -> Vec<Issued> {
        self.issued.lock().expect("nobody panics while holding it").clone()
    }
}

type Answer = std::result::Result<Response<Full<Bytes>>, Infallible>;

async fn answer(request: Request<Incoming>, key: Arc<DecodingKey>, issued: Arc<Mutex<Vec<Issued>>>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (status, body) = match judge(&head, &body, &key) {
        Ok(asked) => (201, issue(asked, &issued)),
        Err((status, message)) => {
            let page = "https://docs.github.com/rest";
            (status, json!({"message": message, "documentation_url": page, "status": status.to_string()}))
        }
    };
    let response = Response::builder().status(status).header("content-type", "application/json; charset=utf-8");
    Ok(response.body(Full::new(body.to_string().into())).expect("a response"))
}

/// What is asked for, or the answer to who may not.
fn judge(head: &http::request::Parts, body: &[u8], key: &DecodingKey) -> std::result::Result<Value, (u16, String)> {
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("user-agent").is_empty() {
        return Err((
            403,
            "Request forbidden by administrative rules. Please make sure your request has a User-Agent header".into(),
        ));
    }
    let path = format!("/app/installations/{INSTALLATION}/access_tokens");
    if head.method != http::Method::POST || head.uri.path() != path || head.uri.query().is_some() {
        return Err((404, "Not Found".into()));
    }
    if header("accept") != "application/vnd.github+json" {
        return Err((415, "Must accept 'application/json'".into()));
    }
    let jwt = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_required_spec_claims(&["iss", "exp"]);
    validation.set_issuer(&[APP.to_string()]);
    validation.leeway = 0;
    // It does not look at an audience.
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Value>(jwt, key, &validation);
    let claims = decoded.map_err(|_| (401, "A JSON web token could not be decoded".to_owned()))?.claims;
    let now = Timestamp::now().as_second();
    if claims["exp"].as_i64().is_none_or(|expires| expires > now + 600) {
        return Err((401, "'Expiration time' claim ('exp') is too far in the future".into()));
    }
    if claims["iat"].as_i64().is_none_or(|issued| issued > now) {
        return Err((
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued".into(),
        ));
    }
    if header("content-type") != "application/json" {
        return Err((400, "Problems parsing JSON".into()));
    }
    serde_json::from_slice(body).map_err(|_| (400, "Problems parsing JSON".into()))
}

fn issue(asked: Value, issued: &Mutex<Vec<Issued>>) -> Value {
    let token = format!("ghs_{}", random());
    let expires_at = Timestamp::now() + SignedDuration::from_hours(1);
    let expires_at = Timestamp::from_second(expires_at.as_second()).expect("a moment").to_string();
    let mut body = json!({
        "token": token, "expires_at": expires_at, "permissions": asked.get("permissions").unwrap_or(&json!({"contents": "write"})),
        "repository_selection": if asked.get("repositories").is_some() { "selected" } else { "all" },
    });
    if let Some(names) = asked["repositories"].as_array() {
        body["repositories"] = names.iter().map(|name| json!({"id": 1_296_269, "name": name})).collect();
    }
    issued.lock().expect("nobody panics while holding it").push(Issued { token, expires_at, body: asked });
    body
}
