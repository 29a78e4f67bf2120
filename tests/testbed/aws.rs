//! AWS SSO OIDC, as its API reference describes it: clients register themselves and end, JSON in camel case, refresh tokens that
//! rotate. The real one takes no test's word for a person's.

use super::Result;
use super::authorization_server::random;
use super::tls_server::serve;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// What it knows.
#[derive(Default)]
struct Known {
    /// Secrets by client.
    clients: HashMap<String, String>,
    /// What clients were registered with.
    registrations: Vec<Value>,
    /// Whether a person has entered the code, by device code.
    devices: HashMap<String, bool>,
    /// When devices were polled.
    polled: Vec<Instant>,
    /// What devices were authorized with.
    authorizations: Vec<Value>,
    /// The refresh token that is good.
    live: Option<String>,
    /// Refresh tokens that came a second time.
    reused: u64,
}

/// The service, for as long as the runtime that started it.
pub struct Aws {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    known: Arc<Mutex<Known>>,
}

impl Aws {
    /// Registrations live for so many seconds.
    pub async fn start(registration_seconds: i64) -> Result<Self> {
        let known: Arc<Mutex<Known>> = Arc::default();
        let told = known.clone();
        let (address, ca) = serve("testbed aws", move |request| answer(request, told.clone(), registration_seconds)).await?;
        Ok(Self { url: format!("https://{address}"), ca, known })
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding it")
    }

    /// A person enters every code that is open.
    pub fn approve(&self) {
        self.known().devices.values_mut().for_each(|entered| *entered = true);
    }

    /// What clients were registered with.
    pub fn registrations(&self) -> Vec<Value> {
        self.known().registrations.clone()
    }

    /// What devices were authorized with.
    pub fn authorizations(&self) -> Vec<Value> {
        self.known().authorizations.clone()
    }

    /// Refresh tokens that came twice.
    pub fn reused(&self) -> u64 {
        self.known().reused
    }

    /// When devices were polled.
    pub fn polled(&self) -> Vec<Instant> {
        self.known().polled.clone()
    }
}

type Answer = std::result::Result<Response<Full<Bytes>>, Infallible>;

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(Full::new(body.to_string().into())).expect("a response")
}

fn refusal(status: u16, error: &str) -> Response<Full<Bytes>> {
    reply(status, &json!({"error": error, "error_description": "as documented"}))
}

async fn answer(request: Request<Incoming>, known: Arc<Mutex<Known>>, registration_seconds: i64) -> Answer {
    let path = request.uri().path().to_owned();
    let typed = request.headers().get("content-type").is_some_and(|value| value == "application/json");
    let bytes = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let mut known = known.lock().expect("nobody panics while holding it");
    if !typed {
        return Ok(refusal(400, "invalid_request"));
    }
    if path == "/client/register" {
        if text("clientType") != "public" || text("clientName").is_empty() || !body["scopes"].is_array() {
            return Ok(refusal(400, "invalid_client_metadata"));
        }
        let (id, secret) = (random(), random());
        known.clients.insert(id.clone(), secret.clone());
        known.registrations.push(body);
        let ends = Timestamp::now().as_second() + registration_seconds;
        return Ok(reply(200, &json!({"clientId": id, "clientSecret": secret, "clientSecretExpiresAt": ends})));
    }
    if known.clients.get(&text("clientId")) != Some(&text("clientSecret")) {
        return Ok(refusal(401, "invalid_client"));
    }
    if path == "/device_authorization" {
        let code = random();
        known.devices.insert(code.clone(), false);
        known.authorizations.push(body);
        let page = "https://view.awsapps.example/start/device";
        let answer = json!({"deviceCode": code, "userCode": "ABCD-EFGH", "verificationUri": page,
            "verificationUriComplete": format!("{page}?user_code=ABCD-EFGH"), "expiresIn": 600, "interval": 1});
        return Ok(reply(200, &answer));
    }
    let granted = match text("grantType").as_str() {
        "urn:ietf:params:oauth:grant-type:device_code" => {
            known.polled.push(Instant::now());
            match known.devices.get(&text("deviceCode")) {
                None => return Ok(refusal(400, "invalid_grant")),
                // Whoever has just come is asked to be slower (RFC 8628 §3.5).
                Some(false) if known.polled.len() == 1 => return Ok(refusal(400, "slow_down")),
                Some(false) => return Ok(refusal(400, "authorization_pending")),
                Some(true) => known.devices.remove(&text("deviceCode")).is_some(),
            }
        }
        "refresh_token" => {
            let good = known.live.as_deref() == Some(&text("refreshToken"));
            known.reused += u64::from(!good);
            good
        }
        _ => return Ok(refusal(400, "unsupported_grant_type")),
    };
    if !granted {
        known.live = None;
        return Ok(refusal(400, "invalid_grant"));
    }
    let refresh_token = random();
    known.live = Some(refresh_token.clone());
    let token = json!({"accessToken": random(), "tokenType": "Bearer", "expiresIn": 28_800, "refreshToken": refresh_token});
    Ok(reply(200, &token))
}
