//! An API for steps of workflows, which misbehaves on request: the first segment of the path names how.

use super::Result;
use super::authorization_server::AuthorizationServer;
use super::gate::Gate;
use super::introspection::Introspection;
use super::received::Received;
use super::tls_server::serve;
use futures::stream::{self, Stream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The API, for as long as the runtime that started it.
///
/// | path | answer |
/// | --- | --- |
/// | `/items` | to a token: `{"items": [{"id": 1}, …], "client"}` |
/// | `/echo…` | to a token: `{"method", "path", "query", "headers", "body"}`, the token among the headers |
/// | `/open/…` | the same without a token, and without the header that bears one |
/// | `/status/{code}?retry-after=N` | that status, and `{"status"}` |
/// | `/flaky/{key}?fail=N&code=503` | fails N times a key, then `{"attempt"}` |
/// | `/unauthorized/{key}?times=N` | 401 N times a key, then `{"attempt"}` |
/// | `/once/{key}` | a side effect of each POST: `{"count"}` of the key |
/// | `/verify/{key}` | `{"done"}`, whether there was one |
/// | `/text` | no JSON |
/// | `/lying/{code}` | that status, and no JSON that says it is |
/// | `/large?bytes=N` | a JSON string of so many bytes, quotation marks included |
/// | `/noise?bytes=N` | a JSON string of so many bytes that hardly become fewer when they are compressed |
/// | `/endless` | a body that does not end |
/// | `/cut` | a body that ends before its length |
/// | `/slow?ms=N` | `{"slept"}`, late |
/// | `/redirect?to=URL` | 302 |
pub struct StepServer {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Introspection,
    gate: Gate,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    requests: Vec<Received>,
    /// Requests by path, as far as they change something.
    counts: HashMap<String, u64>,
    /// Paths of requests whose sender did not wait for the answer.
    abandoned: Vec<String>,
}

impl StepServer {
    /// One that takes the tokens of this provider.
    pub async fn start(provider: &AuthorizationServer) -> Result<Self> {
        let tokens = Introspection::at(provider).await?;
        let shared = Arc::new(Shared { tokens, gate: Gate::default(), state: Mutex::default() });
        let answering = shared.clone();
        let (address, ca) = serve("testbed steps", move |request| answering.clone().answer(request)).await?;
        Ok(Self { url: format!("https://{address}"), ca, shared })
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<Received> {
        self.shared.state().requests.clone()
    }

    /// Those to paths that begin so.
    pub fn requests_to(&self, prefix: &str) -> Vec<Received> {
        self.requests().into_iter().filter(|request| request.path.starts_with(prefix)).collect()
    }

    /// From now on requests to paths that begin so take effect, but are not answered.
    pub fn hold(&self, prefix: &str) {
        self.shared.gate.hold(prefix);
    }

    /// All that are held are answered, and those that come are too.
    pub fn release(&self) {
        self.shared.gate.release();
    }

    /// Those are answered that wait for this prefix.
    pub fn release_only(&self, prefix: &str) {
        self.shared.gate.release_only(prefix);
    }

    /// Requests to paths that begin so, answered or held.
    pub fn arrived(&self, prefix: &str) -> usize {
        self.shared.gate.arrived(prefix)
    }

    /// Requests to paths that begin so whose connection was dropped before they were answered.
    pub fn abandoned(&self, prefix: &str) -> usize {
        self.shared.state().abandoned.iter().filter(|path| path.starts_with(prefix)).count()
    }

    /// Waits for so many.
    pub async fn until_arrived(&self, prefix: &str, times: usize) -> Result<()> {
        self.shared.gate.until_arrived(prefix, times).await
    }
}

type Body = UnsyncBoxBody<Bytes, Error>;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// An error closes the connection.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> std::result::Result<Response<Body>, Error> {
        let request = Received::of(request, Some(&self.tokens)).await.map_err(Error::other)?;
        let response = self.state().respond(&request);
        let mut waiting = Waiting { shared: &self, path: Some(&request.path) };
        self.gate.pass(&request.path).await;
        if request.path == "/slow" {
            tokio::time::sleep(Duration::from_millis(request.number("ms"))).await;
        }
        waiting.path = None;
        Ok(response)
    }
}

/// A request that somebody waits for the answer to: the server drops it when they do no more.
struct Waiting<'a> {
    shared: &'a Shared,
    path: Option<&'a String>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.path {
            self.shared.state().abandoned.push(path.clone());
        }
    }
}

impl State {
    fn respond(&mut self, request: &Received) -> Response<Body> {
        self.requests.push(request.clone());
        let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match path.as_slice() {
            ["items" | "echo", ..] if request.client.is_none() => refused(),
            ["items"] => reply(200, &json!({"items": [{"id": 1}, {"id": 2}, {"id": 3}], "client": request.client})),
            ["echo", ..] => reply(200, &echo(request)),
            ["open", ..] => {
                let mut echo = echo(request);
                echo["headers"].as_object_mut().map(|headers| headers.remove("authorization"));
                reply(200, &echo)
            }
            ["status", code] => {
                let code = code.parse().unwrap_or(400);
                let mut response = reply(code, &json!({"status": code}));
                if let Some(seconds) = request.query.get("retry-after") {
                    response.headers_mut().insert("retry-after", seconds.parse().expect("a header's value"));
                }
                response
            }
            ["flaky", _] => {
                let code = request.query.get("code").and_then(|code| code.parse().ok()).unwrap_or(503);
                match self.count(&request.path) {
                    attempt if attempt <= request.number("fail") => reply(code, &json!({"attempt": attempt})),
                    attempt => reply(200, &json!({"attempt": attempt})),
                }
            }
            ["unauthorized", _] => match self.count(&request.path) {
                attempt if attempt <= request.number("times") => refused(),
                attempt => reply(200, &json!({"attempt": attempt})),
            },
            ["once", _] if request.method == "POST" => reply(200, &json!({"count": self.count(&request.path)})),
            ["verify", key] => reply(200, &json!({"done": self.counts.contains_key(&format!("/once/{key}"))})),
            ["lying", code] => {
                let mut response =
                    typed("application/json", Full::new("<html>".into()).map_err(|never| match never {}).boxed_unsync());
                *response.status_mut() = code.parse().expect("a status");
                response
            }
            ["text"] => typed("text/plain", Full::new("three words here".into()).map_err(|never| match never {}).boxed_unsync()),
            ["large"] => large(request.number("bytes")),
            ["noise"] => reply(200, &json!(noise(request.number("bytes")))),
            ["endless"] => chunks(stream::repeat(Bytes::from_static(b"[ ")).then(|chunk| async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(chunk)
            })),
            ["cut"] => cut(),
            ["slow"] => reply(200, &json!({"slept": request.number("ms")})),
            ["redirect"] => {
                let mut response = reply(302, &Value::Null);
                let to = request.query.get("to").and_then(|to| to.parse().ok()).expect("a URL");
                response.headers_mut().insert("location", to);
                response
            }
            _ => reply(404, &json!({"error": "no such path"})),
        }
    }

    /// One more request to this path: how many there were.
    fn count(&mut self, path: &str) -> u64 {
        let count = self.counts.entry(path.to_owned()).or_default();
        *count += 1;
        *count
    }
}

fn echo(request: &Received) -> Value {
    let Received { method, path, query, headers, body, .. } = request;
    json!({"method": method, "path": path, "query": query, "headers": headers, "body": body})
}

fn typed(content_type: &str, body: Body) -> Response<Body> {
    Response::builder().header("content-type", content_type).body(body).expect("a response")
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(|never| match never {}).boxed_unsync();
    let mut response = typed("application/json", body);
    *response.status_mut() = status.try_into().expect("a status");
    response
}

/// As RFC 6750 §3 has it.
fn refused() -> Response<Body> {
    let mut response = reply(401, &json!({"error": "invalid_token"}));
    let challenge = "Bearer realm=\"steps\", error=\"invalid_token\"";
    response.headers_mut().insert("www-authenticate", challenge.parse().expect("a header's value"));
    response
}

fn chunks(chunks: impl Stream<Item = std::result::Result<Bytes, Error>> + Send + 'static) -> Response<Body> {
    typed("application/json", StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync())
}

/// A string of so many bytes, in pieces: nobody is told its length.
fn large(bytes: u64) -> Response<Body> {
    let inside = usize::try_from(bytes.saturating_sub(2)).unwrap_or(usize::MAX);
    let piece = Bytes::from_static(&[b'x'; 64 * 1024]);
    let (whole, rest) = (inside / piece.len(), piece.slice(..inside % piece.len()));
    let quotation_mark = Bytes::from_static(b"\"");
    let middle = stream::iter(std::iter::repeat_n(piece, whole)).chain(stream::iter([rest]));
    let all = stream::iter([quotation_mark.clone()]).chain(middle).chain(stream::iter([quotation_mark]));
    chunks(all.map(Ok))
}

fn noise(bytes: u64) -> String {
    use base64::Engine;
    use std::io::Read;
    let mut random = vec![];
    let source = std::fs::File::open("/dev/urandom").expect("Linux");
    source.take(bytes.saturating_sub(2) * 3 / 4).read_to_end(&mut random).expect("it never ends");
    base64::engine::general_purpose::STANDARD.encode(random)
}

fn cut() -> Response<Body> {
    let some = stream::iter([Ok(Bytes::from_static(b"{\"items\": ["))]);
    let end = stream::once(async {
        // What came before is on its way by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Error::other("asked to"))
    });
    let mut response = chunks(some.chain(end));
    response.headers_mut().insert("content-length", 4096.into());
    response
}
