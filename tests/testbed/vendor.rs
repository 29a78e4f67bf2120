//! The chat APIs of Coze, OpenAI and Anthropic, as far as an SDK can tell: their answers, streams and errors are those of
//! tests/sdk/<vendor>.yaml, and they take the tokens that they are told to take.

use super::tls_server::serve;
use super::{Result, root};
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{HeaderMap, Request, Response};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// One event of a stream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    pub event: Option<String>,
    pub data: Value,
    /// Whether the SDK keeps it from its caller.
    #[serde(default)]
    pub silent: bool,
}

/// What an API says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Dialect {
    /// Where its chat is.
    pub path: String,
    /// Header in which it gives a request an id.
    pub id_header: String,
    /// To a plain call.
    pub answer: Value,
    /// To a streaming call.
    pub events: Vec<Event>,
    /// To a token that it does not know, with status 401.
    pub refused: Value,
    /// To one too many, with status 429.
    pub limited: Value,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Default)]
struct State {
    tokens: BTreeSet<String>,
    asked: Vec<Asked>,
    limits: bool,
    on_refusal: Option<Box<dyn FnOnce() + Send>>,
}

struct Shared {
    dialect: Dialect,
    state: Mutex<State>,
    /// How often somebody asked for the rest of a stream.
    going_on: watch::Sender<u64>,
}

/// An API, for as long as the runtime that started it.
pub struct Vendor {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    /// What it says.
    pub dialect: Dialect,
    shared: Arc<Shared>,
}

impl Vendor {
    /// `coze`, `openai` or `anthropic`.
    pub async fn start(name: &str) -> Result<Self> {
        let text = std::fs::read_to_string(root().join(format!("tests/sdk/{name}.yaml")))?;
        let dialect: Dialect = serde_saphyr::from_str(&text)?;
        let shared = Arc::new(Shared { dialect: dialect.clone(), state: Mutex::default(), going_on: watch::Sender::new(0) });
        let answering = shared.clone();
        let (address, ca) = serve(name, move |request| answer(request, answering.clone())).await?;
        Ok(Self { url: format!("https://{address}"), ca, dialect, shared })
    }

    /// From now on these tokens are taken, and no others.
    pub fn take(&self, tokens: &[&str]) {
        self.shared.state().tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
    }

    /// From now on it is one too many, or is not.
    pub fn limit(&self, limits: bool) {
        self.shared.state().limits = limits;
    }

    /// Does this before the next token is refused.
    pub fn before_refusal(&self, act: impl FnOnce() + Send + 'static) {
        self.shared.state().on_refusal = Some(Box::new(act));
    }

    /// What was asked since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.state().asked)
    }
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed()
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> std::result::Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    if head.uri.path() == "/go-on" {
        shared.going_on.send_modify(|times| *times += 1);
        return Ok(Response::builder().status(204).body(whole(String::new())).expect("a response"));
    }
    let authorization = head.headers.get("authorization").and_then(|value| value.to_str().ok());
    let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().to_owned();
    let streams = serde_json::from_str::<Value>(&body).is_ok_and(|body| body["stream"] == true);
    let path = head.uri.path_and_query().map_or("", |path| path.as_str()).to_owned();
    let dialect = &shared.dialect;
    let found = head.uri.path() == dialect.path;
    let (number, known, limits, act) = {
        let mut state = shared.state();
        state.asked.push(Asked { path, headers: head.headers, body });
        let known = state.tokens.contains(&token);
        let act = if known { None } else { state.on_refusal.take() };
        (state.asked.len(), known, state.limits, act)
    };
    if let Some(act) = act {
        act();
    }
    let response = Response::builder().header(&dialect.id_header, format!("vendor-{number}"));
    let plain = response.header("content-type", "application/json");
    Ok(match () {
        () if !known => plain.status(401).header("www-authenticate", "Bearer").body(whole(dialect.refused.to_string())),
        () if !found => plain.status(404).body(whole("{}".into())),
        () if limits => {
            plain.status(429).header("retry-after", "7").header("x-limit-remaining", "0").body(whole(dialect.limited.to_string()))
        }
        () if streams => return Ok(events(&shared)),
        () => plain.body(whole(dialect.answer.to_string())),
    }
    .expect("a response"))
}

/// The stream: its first event at once, the others when somebody has asked for them.
fn events(shared: &Arc<Shared>) -> Response<Body> {
    let mut going_on = shared.going_on.subscribe();
    going_on.mark_unchanged();
    let all: Vec<(usize, Event)> = shared.dialect.events.iter().cloned().enumerate().collect();
    let frames = stream::unfold((all.into_iter(), going_on), |(mut rest, mut going_on)| async move {
        let (index, event) = rest.next()?;
        if index == 1 {
            let _ = tokio::time::timeout(Duration::from_secs(30), going_on.changed()).await;
        }
        let name = event.event.map(|name| format!("event: {name}\n")).unwrap_or_default();
        let data = event.data.as_str().map_or_else(|| event.data.to_string(), str::to_owned);
        Some((Ok(Frame::data(Bytes::from(format!("{name}data: {data}\n\n")))), (rest, going_on)))
    });
    let frames: std::pin::Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>> = Box::pin(frames);
    let response =
        Response::builder().header("content-type", "text/event-stream").header(&shared.dialect.id_header, "vendor-stream");
    response.body(BodyExt::boxed(StreamBody::new(frames))).expect("a response")
}
