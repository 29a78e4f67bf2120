//! Coze's workflow API, as Coze and Coze Studio speak it. It tells tokens apart by the real authorization server, and does with
//! a workflow what a test says. That it speaks Coze is for Coze's own SDK to judge: tests/stories/workflow/coze_platform.rs.

mod behaviour;
mod execution;
mod frame;
mod workspace;

pub use behaviour::{Behaviour, Ending, Failure};
pub use execution::Execution;
pub use frame::Frame;

use super::Result;
use super::authorization_server::{AuthorizationServer, random};
use super::gate::Gate;
use super::introspection::Introspection;
use super::received::Received;
use super::tls_server::serve;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame as Chunk, Incoming};
use hyper::{Request, Response};
use serde_json::{Value, json};
use std::io::Error;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use workspace::{Reply, Then, Workspace};

/// Whose API it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// api.coze.com and api.coze.cn.
    #[default]
    Coze,
    /// The open-source server, github.com/coze-dev/coze-studio.
    CozeStudio,
}

/// A request, and the id that its answer bears.
#[derive(Clone, Debug)]
pub struct CozeRequest {
    pub received: Received,
    pub logid: String,
}

impl Deref for CozeRequest {
    type Target = Received;

    fn deref(&self) -> &Received {
        &self.received
    }
}

/// What every run has used, in the words of docs.coze.cn/developer_guides/workflow_run.
pub fn usage() -> Value {
    json!({"input_count": 50, "output_count": 100, "token_count": 150})
}

/// The platform, for as long as the runtime that started it.
pub struct CozePlatform {
    /// `https://127.0.0.1:<port>`.
    pub url: String,
    /// The CA to trust, PEM.
    pub ca: String,
    /// Requests on their way to their answers.
    pub gate: Arc<Gate>,
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Option<Introspection>,
    gate: Arc<Gate>,
    workspace: Mutex<Workspace>,
}

impl CozePlatform {
    /// One that takes the tokens of this provider.
    pub async fn start(provider: &AuthorizationServer) -> Result<Self> {
        Self::with(Some(Introspection::at(provider).await?)).await
    }

    /// One that takes any token.
    pub async fn open() -> Result<Self> {
        Self::with(None).await
    }

    async fn with(tokens: Option<Introspection>) -> Result<Self> {
        let gate = Arc::new(Gate::default());
        let shared = Arc::new(Shared { tokens, gate: gate.clone(), workspace: Mutex::default() });
        let answering = shared.clone();
        let (address, ca) = serve("testbed coze", move |request| answering.clone().answer(request)).await?;
        Ok(Self { url: format!("https://{address}"), ca, gate, shared })
    }

    /// From now on it speaks so; at first it is Coze.
    pub fn speak(&self, dialect: Dialect) {
        self.shared.workspace().dialect = dialect;
    }

    /// From now on the workflow does so; at first every workflow echoes.
    pub fn behave(&self, workflow_id: &str, behaviour: Behaviour) {
        self.shared.workspace().behaviours.insert(workflow_id.to_owned(), behaviour);
    }

    /// From now on tokens that are not taken are refused in these words.
    pub fn refuse_with(&self, failure: Failure) {
        self.shared.workspace().refusal = Some(failure);
    }

    /// The next so many questions for an execution fail, whichever it is.
    pub fn fail_polls(&self, times: usize, failure: &Failure) {
        self.shared.workspace().failing_polls.extend(std::iter::repeat_n(failure.clone(), times));
    }

    /// The next so many answers to an interrupt fail, whichever it is.
    pub fn fail_answers(&self, times: usize, failure: &Failure) {
        self.shared.workspace().failing_answers.extend(std::iter::repeat_n(failure.clone(), times));
    }

    /// A running execution ends now.
    pub fn finish(&self, execute_id: &str, ending: Ending) {
        let mut workspace = self.shared.workspace();
        let execution = workspace.executions.iter_mut().find(|execution| execution.id == execute_id).expect("it was run");
        (execution.running_polls, execution.ending) = (0, ending);
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<CozeRequest> {
        self.shared.workspace().requests.clone()
    }

    /// All runs that were accepted so far, in order.
    pub fn executions(&self) -> Vec<Execution> {
        self.shared.workspace().executions.clone()
    }
}

type Body = UnsyncBoxBody<Bytes, Error>;

impl Shared {
    fn workspace(&self) -> MutexGuard<'_, Workspace> {
        self.workspace.lock().expect("nobody panics while holding it")
    }

    /// An error closes the connection.
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> std::result::Result<Response<Body>, Error> {
        let received = Received::of(request, self.tokens.as_ref()).await.map_err(Error::other)?;
        let (path, logid) = (received.path.clone(), format!("20241210152726{}", random()[..18].to_uppercase()));
        let (mut reply, dialect) = {
            let mut workspace = self.workspace();
            (workspace.take(CozeRequest { received, logid: logid.clone() }), workspace.dialect)
        };
        self.gate.pass(&path).await;
        while let Reply::After(delay, later) = reply {
            tokio::time::sleep(delay).await;
            reply = *later;
        }
        let header = if dialect == Dialect::Coze { "x-tt-logid" } else { "x-log-id" };
        let response = Response::builder().header(header, &logid);
        let (response, body) = match reply {
            Reply::Json(answer) => (response, whole(answer, dialect, &logid)),
            Reply::Refused(Failure { http, code, msg, retry_after }) => {
                let after = retry_after.map(|seconds| ("retry-after", seconds.to_string()));
                let response =
                    after.into_iter().fold(response.status(http), |response, (name, value)| response.header(name, value));
                (response, whole(json!({"code": code, "msg": msg}), dialect, &logid))
            }
            Reply::Foreign { http, media, body } => {
                let body = Full::new(Bytes::from(body)).map_err(|never| match never {}).boxed_unsync();
                return Ok(Response::builder().status(http).header("content-type", media).body(body).expect("a response"));
            }
            Reply::Stream { frames, debug_url, then } => {
                let response = response.header("content-type", "text/event-stream; charset=utf-8");
                return Ok(response.body(events(frames, then, dialect, debug_url)).expect("a response"));
            }
            Reply::Lost | Reply::After(..) => return Err(Error::other("asked to")),
        };
        Ok(response.header("content-type", "application/json; charset=utf-8").body(body).expect("a response"))
    }
}

/// An answer in one piece; Coze's names the request.
fn whole(mut answer: Value, dialect: Dialect, logid: &str) -> Body {
    if dialect == Dialect::Coze {
        answer["detail"] = json!({"logid": logid});
    }
    Full::new(Bytes::from(answer.to_string())).map_err(|never| match never {}).boxed_unsync()
}

/// A stream, each event in two pieces, as a network may deliver it: not even a character is whole for sure.
fn events(frames: Vec<Frame>, then: Then, dialect: Dialect, debug_url: String) -> Body {
    let breaks = usize::from(matches!(then, Then::Break));
    let told = stream::iter(frames).map(|frame| (Duration::ZERO, frame));
    let more: BoxStream<'static, (Duration, Frame)> = match then {
        Then::More(every) => stream::iter(0_u64..).map(move |seq| (every, Frame::message("Output", seq, "on and on"))).boxed(),
        Then::End | Then::Break => stream::empty().boxed(),
    };
    let pieces = told.chain(more).enumerate().flat_map(move |(id, (pause, frame))| {
        let mut first = Bytes::from(frame.wire(id, dialect, &debug_url));
        let second = first.split_off(first.len() / 2);
        stream::iter([(pause, first), (Duration::from_millis(1), second)])
    });
    let pieces = pieces.then(|(pause, piece)| async move {
        tokio::time::sleep(pause).await;
        Ok(Chunk::data(piece))
    });
    let end = stream::once(async {
        // What came before is on its way by then.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(Error::other("asked to"))
    });
    StreamBody::new(pieces.chain(end.take(breaks))).boxed_unsync()
}
