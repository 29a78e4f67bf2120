//! An API that checks each token at the authorization server (RFC 7662), and misbehaves on request.

use super::Result;
use super::authorization_server::AuthorizationServer;
use super::introspection::Introspection;
use super::namespaces::host;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use oauth_operator::oauth::Sensitive;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

type Body = BoxBody<Bytes, Infallible>;

/// A running API: `/items` answers whose token it was, and what was posted; `/events?count=N&every=MS` is a stream of so many
/// server-sent events, numbered from 0.
pub struct ResourceServer {
    /// Its address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Introspection,
    /// Requests that were answered, by account of the token or `refused`.
    seen: Mutex<Vec<Seen>>,
    /// Connections that are closed in place of the next answers.
    resets: AtomicUsize,
    /// Answers that fail with 503.
    failures: AtomicUsize,
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    pub path: String,
    /// Client of the token; none where it was refused.
    pub client: Option<String>,
    /// Fingerprint of the token; none where there was none.
    pub token: Option<String>,
}

impl ResourceServer {
    /// One that asks this provider.
    pub async fn start(provider: &AuthorizationServer) -> Result<Self> {
        let shared = Arc::new(Shared {
            tokens: Introspection::at(provider).await?,
            seen: Mutex::default(),
            resets: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
        });
        let listener = TcpListener::bind((host(), 0)).await?;
        let address = listener.local_addr()?;
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let shared = serving.clone();
                tokio::spawn(async move {
                    let answer = service_fn(|request| shared.clone().answer(request));
                    // An error of `answer` closes the connection.
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// As an upstream is named.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next so many requests are not answered: their connections end.
    pub fn reset(&self, times: usize) {
        self.shared.resets.fetch_add(times, Ordering::SeqCst);
    }

    /// The next so many requests are answered with 503.
    pub fn fail(&self, times: usize) {
        self.shared.failures.fetch_add(times, Ordering::SeqCst);
    }

    /// Requests that came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("no test panics with it").clone()
    }
}

/// One less, where there is one.
fn takes(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> std::result::Result<Response<Body>, std::io::Error> {
        if takes(&self.resets) {
            return Err(std::io::Error::other("asked to"));
        }
        if takes(&self.failures) {
            return Ok(plain(StatusCode::SERVICE_UNAVAILABLE, "try later"));
        }
        let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let holder = match token {
            Some(token) => self.tokens.holder(token).await.map_err(std::io::Error::other)?,
            None => None,
        };
        let path = request.uri().path().to_owned();
        let seen = Seen {
            method: request.method().to_string(),
            path: path.clone(),
            client: holder.clone(),
            token: token.map(|token| Sensitive::new(token).fingerprint()),
        };
        self.seen.lock().expect("no test panics with it").push(seen);
        let Some(holder) = holder else {
            let mut refused = plain(StatusCode::UNAUTHORIZED, "who are you?");
            let challenge = HeaderValue::from_static("Bearer realm=\"items\", error=\"invalid_token\"");
            refused.headers_mut().insert("www-authenticate", challenge);
            return Ok(refused);
        };
        let query: Vec<(String, usize)> = request
            .uri()
            .query()
            .map(|query| {
                url::form_urlencoded::parse(query.as_bytes())
                    .filter_map(|(key, value)| Some((key.into(), value.parse().ok()?)))
                    .collect()
            })
            .unwrap_or_default();
        let number = |name: &str| query.iter().find(|(key, _)| key == name).map_or(0, |(_, value)| *value);
        if path == "/events" {
            return Ok(events(number("count"), Duration::from_millis(number("every") as u64)));
        }
        let posted = if request.method() == Method::POST {
            let body = request.into_body().collect().await.map_err(std::io::Error::other)?.to_bytes();
            Value::from(String::from_utf8_lossy(&body).into_owned())
        } else {
            Value::Null
        };
        Ok(plain(StatusCode::OK, &json!({"client": holder, "posted": posted}).to_string()))
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *response.status_mut() = status;
    response
}

fn events(count: usize, every: Duration) -> Response<Body> {
    let stream = futures::stream::unfold(0, move |next| async move {
        if next >= count {
            return None;
        }
        tokio::time::sleep(every).await;
        Some((Ok(Frame::data(Bytes::from(format!("data: {next}\n\n")))), next + 1))
    });
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
    response
}
