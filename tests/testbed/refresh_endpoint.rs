//! The operator's refresh endpoint, as the proxy sees it: it gives what it is told to give, and writes down what it is asked.

use super::Result;
use super::authorization_server::random;
use super::process::folder;
use super::tls_server::serve;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use jiff::{Timestamp, ToSpan};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct State {
    fresh: Option<String>,
    asked: Vec<(String, Value)>,
}

/// The endpoint, for as long as the runtime that started it.
pub struct RefreshEndpoint {
    /// What tells a proxy of it.
    pub flags: Vec<String>,
    /// The same in a routes file.
    pub routes: Value,
    state: Arc<Mutex<State>>,
}

impl RefreshEndpoint {
    /// One that knows one ServiceAccount token, which lies in a file of the story's.
    pub async fn start(story: &str) -> Result<Self> {
        let (folder, bearer) = (folder(story)?, random());
        let state: Arc<Mutex<State>> = Arc::default();
        let (shared, known) = (state.clone(), format!("Bearer {bearer}"));
        let (address, ca) = serve(story, move |request| answer(request, known.clone(), shared.clone())).await?;
        let (ca_file, token_file) = (folder.join("refresh-ca.crt"), folder.join("service-account-token"));
        std::fs::write(&ca_file, ca)?;
        std::fs::write(&token_file, bearer)?;
        let (url, ca_file, token_file) =
            (format!("https://{address}"), ca_file.display().to_string(), token_file.display().to_string());
        let routes = json!({"url": url, "caFile": ca_file, "tokenFile": token_file, "namespace": "apps"});
        let flags = ["--refresh-url", &url, "--refresh-ca", &ca_file, "--refresh-token", &token_file, "--namespace", "apps"];
        Ok(Self { flags: flags.map(str::to_owned).into(), routes, state })
    }

    /// From now on it gives this token; none: the provider fails.
    pub fn give(&self, token: Option<&str>) {
        self.state.lock().expect("nobody panics while holding it").fresh = token.map(str::to_owned);
    }

    /// Path and body of what was asked since the last time.
    pub fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.state.lock().expect("nobody panics while holding it").asked)
    }
}

type Answer = std::result::Result<Response<Full<Bytes>>, hyper::Error>;

async fn answer(request: Request<Incoming>, known: String, state: Arc<Mutex<State>>) -> Answer {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let authorized = head.headers.get("authorization").is_some_and(|value| value == known.as_str());
    let fresh = {
        let mut state = state.lock().expect("nobody panics while holding it");
        state.asked.push((head.uri.path().to_owned(), serde_json::from_slice(&body).unwrap_or_default()));
        state.fresh.clone()
    };
    let (status, document) = match fresh {
        _ if !authorized => (401, json!({"error": {"code": "unauthenticated", "message": "nobody's token"}})),
        None => (502, json!({"error": {"code": "provider_failed", "message": "the provider refused"}})),
        Some(token) => {
            let expires_at = Timestamp::now() + 1.hour();
            (200, json!({"accessToken": token, "tokenType": "Bearer", "expiresAt": expires_at.to_string(), "generation": 2}))
        }
    };
    let response =
        Response::builder().status(status).header("content-type", "application/json").header("cache-control", "no-store");
    Ok(response.body(Full::new(document.to_string().into())).expect("a response"))
}
