//! An API for steps that costs next to nothing, takes the same time for each, and remembers when it was asked.

use crate::testbed::Result;
use crate::testbed::tls_server::serve;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What an answer takes.
pub const WAIT: Duration = Duration::from_millis(20);

/// The API, for as long as the runtime that started it. It is asked at `/<run>/<step>`.
pub struct Steps {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    calls: Arc<Mutex<Calls>>,
}

/// How long the server had each request, by run and step.
#[derive(Default)]
struct Calls {
    taken: HashMap<(String, String), Duration>,
    count: usize,
    refused: usize,
}

impl Steps {
    pub async fn start() -> Result<Self> {
        let calls: Arc<Mutex<Calls>> = Arc::default();
        let kept = calls.clone();
        let (address, ca) = serve("bench steps", move |request| answer(request, kept.clone())).await?;
        Ok(Self { url: format!("https://{address}"), ca, calls })
    }

    /// Requests so far, and those that had no token.
    pub fn counts(&self) -> (usize, usize) {
        let calls = self.calls.lock().expect("nobody panics while holding it");
        (calls.count, calls.refused)
    }

    /// How long the request of a step was here.
    pub fn taken(&self, run: &str, step: &str) -> Result<Duration> {
        let calls = self.calls.lock().expect("nobody panics while holding it");
        calls
            .taken
            .get(&(run.to_owned(), step.to_owned()))
            .copied()
            .ok_or_else(|| format!("{run} has not asked for {step}").into())
    }
}

async fn answer(request: Request<Incoming>, calls: Arc<Mutex<Calls>>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let token = head.headers.get("authorization").and_then(|value| value.to_str().ok()).is_some_and(|value| value.len() > 20);
    let _ = body.collect().await;
    tokio::time::sleep(WAIT).await;
    let mut path = head.uri.path().trim_matches('/').split('/').map(str::to_owned);
    let key = (path.next().unwrap_or_default(), path.next().unwrap_or_default());
    let body = format!(r#"{{"run":"{}","items":[{{"id":1}},{{"id":2}},{{"id":3}}]}}"#, key.0);
    let mut calls = calls.lock().expect("nobody panics while holding it");
    calls.count += 1;
    calls.refused += usize::from(!token);
    calls.taken.insert(key, began.elapsed());
    let response = Response::builder().status(if token { 200 } else { 401 }).header("content-type", "application/json");
    Ok(response.body(Full::new(body.into())).expect("a response"))
}
