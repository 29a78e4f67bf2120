//! A relay in front of an HTTPS server, which ends TLS with a CA of its own and can hold a chosen request or reply, or lose
//! it: crash points are made from outside, without a hook in the product.

use super::Result;
use super::tls_server::serve;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// A request on its way.
pub struct Passing {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

impl Passing {
    /// The record of a login in a write of a state Secret.
    pub fn state(&self) -> Option<Value> {
        use base64::Engine;
        let secret: Value = serde_json::from_slice(&self.body).ok()?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(secret["data"]["state"].as_str()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

/// Where an exchange is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before the server sees it.
    Request,
    /// After the server has answered, before the client sees that.
    Reply,
}

/// What becomes of what is held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waits,
    GoesOn,
    BreaksOff,
}

type Matches = Arc<dyn Fn(&Passing) -> bool + Send + Sync>;

#[derive(Clone)]
struct Rule {
    point: Point,
    matches: Matches,
    /// Answered with an error in place of being held.
    lost: bool,
    /// How many exchanges came here.
    hits: watch::Sender<u64>,
    /// What becomes of them.
    fate: watch::Sender<Fate>,
}

/// A rule that holds or loses exchanges, until it is released or dropped.
pub struct Held {
    rule: Rule,
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Held {
    /// Waits until an exchange is held or lost here.
    pub async fn hit(&self, limit: Duration) -> Result<()> {
        let mut hits = self.rule.hits.subscribe();
        let hit = tokio::time::timeout(limit, hits.wait_for(|hits| *hits > 0)).await;
        hit.map_err(|_| "nothing came to where it was to be held")??;
        Ok(())
    }

    /// How many exchanges came here.
    pub fn hits(&self) -> u64 {
        *self.rule.hits.borrow()
    }

    /// Lets go what is held, and everything after it.
    pub fn release(self) {}

    /// Breaks off what is held, and lets everything after it go: whoever asked was killed. What it had sent would go on
    /// otherwise when the relay is slow to learn of its end.
    pub fn abandon(self) {
        self.rule.fate.send_replace(Fate::BreaksOff);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rules.lock().expect("nobody panics while holding it").retain(|rule| !rule.hits.same_channel(&self.rule.hits));
        self.rule.fate.send_if_modified(|fate| {
            let waits = *fate == Fate::Waits;
            if waits {
                *fate = Fate::GoesOn;
            }
            waits
        });
    }
}

/// The relay, for as long as the runtime that started it.
pub struct Relay {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    rules: Arc<Mutex<Vec<Rule>>>,
}

impl Relay {
    /// In front of the server at this URL, which has a certificate of this CA.
    pub async fn before(upstream: &str, upstream_ca: &str) -> Result<Self> {
        let trusted = reqwest::Certificate::from_pem(upstream_ca.as_bytes())?;
        let client = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy().http1_only().build()?;
        let rules: Arc<Mutex<Vec<Rule>>> = Arc::default();
        let (shared, upstream) = (rules.clone(), upstream.to_owned());
        let answer = move |request| relay(request, client.clone(), shared.clone(), upstream.clone());
        let (address, ca) = serve("testbed relay", answer).await?;
        Ok(Self { url: format!("https://{address}"), ca, rules })
    }

    /// Holds exchanges that match, at this point.
    pub fn hold(&self, point: Point, matches: impl Fn(&Passing) -> bool + Send + Sync + 'static) -> Held {
        self.rule(point, false, Arc::new(matches))
    }

    /// Breaks exchanges that match off, at this point.
    pub fn lose(&self, point: Point, matches: impl Fn(&Passing) -> bool + Send + Sync + 'static) -> Held {
        self.rule(point, true, Arc::new(matches))
    }

    fn rule(&self, point: Point, lost: bool, matches: Matches) -> Held {
        let rule = Rule { point, matches, lost, hits: watch::Sender::new(0), fate: watch::Sender::new(Fate::Waits) };
        self.rules.lock().expect("nobody panics while holding it").push(rule.clone());
        Held { rule, rules: self.rules.clone() }
    }
}

/// An exchange that is broken off: the connection closes without an answer.
#[derive(Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

type Body = BoxBody<Bytes, reqwest::Error>;

async fn relay(
    request: Request<Incoming>,
    client: reqwest::Client,
    rules: Arc<Mutex<Vec<Rule>>>,
    upstream: String,
) -> std::result::Result<Response<Body>, BrokenOff> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let body = body.collect().await.map_err(|_| BrokenOff)?.to_bytes().to_vec();
    let passing = Passing { method: head.method.to_string(), path, body: body.clone() };
    pause(&rules, Point::Request, &passing).await?;
    let mut request = client.request(head.method, format!("{upstream}{}", passing.path)).body(body);
    for (name, value) in head.headers.iter().filter(|(name, _)| *name != "host" && *name != "content-length") {
        request = request.header(name, value);
    }
    let answer = request.send().await.map_err(|_| BrokenOff)?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers().iter().filter(|(name, _)| *name != "transfer-encoding" && *name != "connection") {
        response = response.header(name, value);
    }
    // A watch never ends: what is held is an answer that is whole.
    let held = {
        let rules = rules.lock().expect("nobody panics while holding it");
        rules.iter().any(|rule| rule.point == Point::Reply && (rule.matches)(&passing))
    };
    if held {
        let whole = answer.bytes().await.map_err(|_| BrokenOff)?;
        pause(&rules, Point::Reply, &passing).await?;
        return response.body(Full::new(whole).map_err(|never| match never {}).boxed()).map_err(|_| BrokenOff);
    }
    let chunks = stream::unfold(answer, |mut answer| async move {
        let chunk = answer.chunk().await.transpose()?;
        Some((chunk.map(Frame::data), answer))
    });
    response
        .body(BodyExt::boxed(StreamBody::new(Box::pin(chunks) as std::pin::Pin<Box<dyn stream::Stream<Item = _> + Send + Sync>>)))
        .map_err(|_| BrokenOff)
}

async fn pause(rules: &Mutex<Vec<Rule>>, point: Point, passing: &Passing) -> std::result::Result<(), BrokenOff> {
    let rule = {
        let rules = rules.lock().expect("nobody panics while holding it");
        rules.iter().find(|rule| rule.point == point && (rule.matches)(passing)).cloned()
    };
    let Some(rule) = rule else { return Ok(()) };
    rule.hits.send_modify(|hits| *hits += 1);
    if rule.lost {
        return Err(BrokenOff);
    }
    let mut fate = rule.fate.subscribe();
    let goes_on = fate.wait_for(|fate| *fate != Fate::Waits).await.is_ok_and(|fate| *fate == Fate::GoesOn);
    if goes_on { Ok(()) } else { Err(BrokenOff) }
}
