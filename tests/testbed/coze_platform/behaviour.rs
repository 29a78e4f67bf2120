//! What a test tells the platform: what a workflow does, how an execution ends, in which words something is refused.

use super::frame::Frame;
use serde_json::{Value, json};
use std::time::Duration;

/// What a workflow does when it is run. Whatever is run with `is_async` is over at the first question for it, unless it is
/// [`Behaviour::Async`].
#[derive(Clone, Debug, Default)]
pub enum Behaviour {
    /// Its output is `{"output": <the parameters>}`.
    #[default]
    Echo,
    /// Its output is this, as JSON text; a string is put out as it is, as an end node that answers with text does.
    Output(Value),
    /// It is not run.
    Fail(Failure),
    /// It is not run: somebody in front of the platform answers, with this status, media type and body.
    Gateway { http: u16, media: &'static str, body: String },
    /// It is not run so many times; from then on it echoes.
    FailTimes(usize, Failure),
    /// A stream of these frames; otherwise its output is what the last message says.
    Stream(Vec<Frame>),
    /// A stream of these frames that then breaks off; otherwise the connection ends without an answer.
    StreamCut(Vec<Frame>),
    /// A stream of messages, one each time, for as long as somebody listens.
    StreamEndless { every: Duration },
    /// It stops and asks; told the same event and kind, it goes on with these frames.
    Interrupt { event_id: String, kind: u64, then: Vec<Frame> },
    /// It is still running at so many questions, and then has ended.
    Async { running_polls: usize, ending: Ending },
    /// It echoes after so long.
    Slow(Duration),
    /// Its output is a JSON string of so many bytes.
    Large(usize),
    /// It is run, but the connection ends in place of the answer.
    Lost,
}

/// How an execution ends.
#[derive(Clone, Debug)]
pub enum Ending {
    Success(Value),
    Fail {
        code: i64,
        message: String,
    },
    /// Only Coze Studio tells it from a failure.
    Cancel,
}

/// Words in which a request is refused. Which HTTP status goes with a code is not documented: both 200 and others have been
/// seen, so that a test may want both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub http: u16,
    pub code: i64,
    pub msg: String,
    /// Seconds in a `Retry-After`.
    pub retry_after: Option<u64>,
}

impl Behaviour {
    /// How it ends, given these parameters.
    pub fn ending(&self, parameters: &Value) -> Ending {
        match self {
            Self::Output(output) => Ending::Success(output.clone()),
            Self::Large(bytes) => Ending::Success("x".repeat(*bytes).into()),
            Self::Async { ending, .. } => ending.clone(),
            Self::Stream(frames) | Self::StreamCut(frames) | Self::Interrupt { then: frames, .. } => Frame::ending(frames),
            _ => Ending::Success(json!({"output": parameters})),
        }
    }
}

/// Of an execution that somebody has cancelled, as Coze Studio's types/errno/workflow.go has it.
pub const CANCELLED: (i64, &str) = (777_777_777, "workflow cancel by user");

impl Ending {
    /// What an output is on the wire.
    pub fn text(output: &Value) -> String {
        output.as_str().map_or_else(|| output.to_string(), str::to_owned)
    }
}

/// The codes of docs.coze.cn/developer_guides/coze_error_codes that callers tell apart.
impl Failure {
    pub fn new(http: u16, code: i64, msg: &str) -> Self {
        Self { http, code, msg: msg.to_owned(), retry_after: None }
    }

    pub fn bad_input() -> Self {
        Self::new(200, 4000, "Request parameter error")
    }

    pub fn authentication() -> Self {
        Self::new(401, 4100, "authentication is invalid")
    }

    pub fn permission() -> Self {
        Self::new(200, 4101, "The token you entered is incorrect. Please check the token and its permissions.")
    }

    pub fn rate_limit() -> Self {
        Self::new(429, 4013, "The request frequency exceeds the limit, please try again later")
    }

    pub fn not_published() -> Self {
        Self::new(200, 4200, "Requested resource does not exist. Ensure the workflow is published.")
    }

    pub fn server() -> Self {
        Self::new(500, 5000, "Internal server error")
    }

    /// Coze Studio's for any credential that it does not take (its types/errno/user.go); api.coze.cn has been seen to say it
    /// with status 401.
    pub fn wrong_session() -> Self {
        Self::new(200, 700_012_006, "authentication failed: api key invalid")
    }

    pub fn no_such_path(method: &str, path: &str) -> Self {
        let msg = format!("The requested API endpoint {method} {path} does not exist. Please verify the URL and try again.");
        Self::new(404, 4000, &msg)
    }

    /// The same words with another status.
    pub fn with_http(self, http: u16) -> Self {
        Self { http, ..self }
    }

    pub fn with_retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }
}
