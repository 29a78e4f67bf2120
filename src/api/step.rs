//! Steps of a workflow: what is asked of whom, how often, and what is known when nobody knows whether it was done.

use super::CABundleReference;
use super::provider::HTTPS_URL;
use super::reference::OBJECT_NAME;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A DNS label (RFC 1123): what names a step.
pub const STEP_NAME: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// Names an `OAuthAccount` of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccountReference {
    /// Name of the `OAuthAccount`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// HTTP method of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// As it stands in a request.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether it only reads (RFC 9110 §9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether doing it twice is the same as doing it once (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Name of the header.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub name: String,
    /// Value, with expressions.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// One HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HTTPRequest {
    /// Method of the request.
    #[serde(default)]
    pub method: Method,
    /// Address with expressions after the host; what they bring is percent-encoded.
    #[schemars(length(min = 1, max = 4096), regex(pattern = r"^https://[^\s/?#@$]+([/?].*)?$"))]
    pub url: String,
    /// Headers beside those that the operator sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.all(header, !(header.name.lowerAscii() in ['authorization', 'connection', 'content-length', 'dpop', 'host', 'idempotency-key', 'proxy-authorization', 'te', 'trailer', 'transfer-encoding', 'upgrade']))").message("may not set Authorization, DPoP, Host, Idempotency-Key or a header of the connection: the operator does"))]
    pub headers: Vec<Header>,
    /// Body with expressions: a text is sent as it is, anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_value")]
    pub body: Option<Value>,
    /// Account whose token is sent along. Absent: that of `defaults`, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Certificates trusted in place of the public ones. Absent: those of the account's provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CABundleReference>,
    /// Seconds that one attempt may take.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 900))]
    pub timeout_seconds: i32,
    /// Bytes of the answer that are read at most; more is a failure.
    #[serde(default = "default_max_response")]
    #[schemars(range(min = 1, max = 8388608))]
    pub max_response_bytes: i32,
    /// Expression that says whether the answer is a success. Absent: a status of 2xx is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub success_when: Option<String>,
}

fn default_timeout() -> i32 {
    30
}

fn default_max_response() -> i32 {
    1_048_576
}

/// How a workflow of Coze is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CozeMode {
    /// One request that waits for the end.
    #[default]
    Sync,
    /// One request whose answer is a stream of events.
    Stream,
    /// A request that begins it, and others that ask how it goes.
    Async,
}

/// Which Coze is spoken with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CozeDialect {
    /// coze.com and coze.cn.
    #[default]
    Coze,
    /// The self-hosted Coze Studio.
    CozeStudio,
}

/// How often is asked for the end of an asynchronous run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// Seconds between two questions.
    #[serde(default = "default_poll_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,
    /// Seconds after which it has failed. Coze keeps asynchronous runs for 24 hours.
    #[serde(default = "default_poll_timeout")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i32,
}

impl Default for Poll {
    fn default() -> Self {
        Self { interval_seconds: default_poll_interval(), timeout_seconds: default_poll_timeout() }
    }
}

fn default_poll_interval() -> i32 {
    10
}

fn default_poll_timeout() -> i32 {
    1800
}

/// A run of a workflow at Coze.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CozeRun {
    /// Id of the workflow at Coze.
    #[serde(rename = "workflowID")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[0-9A-Za-z_-]+$"))]
    pub workflow_id: String,
    /// Which Coze is spoken with.
    #[serde(default)]
    pub dialect: CozeDialect,
    /// Where its API is. Absent: as the preset of the account says (Coze, CozeCN).
    #[serde(rename = "baseURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = HTTPS_URL))]
    pub base_url: Option<String>,
    /// How it is run.
    #[serde(default)]
    pub mode: CozeMode,
    /// Inputs of the workflow, with expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub parameters: Option<Value>,
    /// Bot that the workflow belongs to.
    #[serde(rename = "botID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub bot_id: Option<String>,
    /// App that the workflow belongs to.
    #[serde(rename = "appID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub app_id: Option<String>,
    /// What Coze calls `ext`, with expressions: texts by name, such as `latitude`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub ext: Option<Value>,
    /// How often is asked for the end, in mode Async.
    #[serde(default)]
    pub poll: Poll,
    /// Account whose token is sent along. Absent: that of `defaults`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Certificates trusted in place of the public ones. Absent: those of the account's provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<CABundleReference>,
    /// Seconds that one request may take. Coze ends one that does not stream after 90 s, and a run after ten minutes.
    #[serde(default = "default_coze_timeout")]
    #[schemars(range(min = 1, max = 900))]
    pub timeout_seconds: i32,
    /// Bytes of an answer, or of a stream, that are read at most; more is a failure.
    #[serde(default = "default_max_response")]
    #[schemars(range(min = 1, max = 8388608))]
    pub max_response_bytes: i32,
}

fn default_coze_timeout() -> i32 {
    600
}

/// What is done about a step whose request may or may not have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// It is not sent again: the step fails with the reason OutcomeUnknown.
    AtMostOnce,
    /// It is sent again, with the same key.
    AtLeastOnce,
    /// The step's request `verify` is asked.
    Verify,
}

/// What a step that failed means for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on; the step's output is null.
    Continue,
}

/// Time between two attempts, with jitter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Seconds before the second attempt.
    #[serde(default = "default_initial")]
    #[schemars(range(min = 1, max = 3600))]
    pub initial_seconds: i32,
    /// By how much each wait is longer than the one before it.
    #[serde(default = "default_factor")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: i32,
    /// Seconds that a wait has at most.
    #[serde(default = "default_max")]
    #[schemars(range(min = 1, max = 86400))]
    pub max_seconds: i32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial_seconds: default_initial(), factor: default_factor(), max_seconds: default_max() }
    }
}

fn default_initial() -> i32 {
    2
}

fn default_factor() -> i32 {
    2
}

fn default_max() -> i32 {
    60
}

/// Attempts after the first one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How many there are at most.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub limit: i32,
    /// Time between them. What the server asks for (Retry-After) is waited for too.
    #[serde(default)]
    pub backoff: Backoff,
    /// Expression that says whether an answer is worth another attempt. Absent: 429 and 503 are, and where the request may be
    /// repeated also 500, 502, 504 and no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub retry_when: Option<String>,
}

/// One step of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.coze)").message("must set exactly one of `http` and `coze`"))]
#[x_kube(validation = Rule::new("(has(self.delivery) && self.delivery == 'Verify') == has(self.verify)").message("must set `verify` with `delivery: Verify`, and only then"))]
pub struct Step {
    /// Name of the step.
    #[schemars(length(min = 1, max = 63), regex(pattern = STEP_NAME))]
    pub name: String,
    /// Steps that end before this one begins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub depends_on: Vec<String>,
    /// Expression that says whether it is done at all. Absent: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub when: Option<String>,
    /// An HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HTTPRequest>,
    /// A run of a workflow at Coze.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coze: Option<CozeRun>,
    /// What is kept of the answer, with expressions. Absent: the body of an HTTP answer, the output of a run at Coze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_value")]
    pub output: Option<Value>,
    /// Attempts after the first one. Absent: those of `defaults`, or none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// What is done where nobody knows whether it was carried out. Absent: AtLeastOnce for methods that may be repeated (RFC 9110
    /// section 9.2.2), AtMostOnce for POST, PATCH and Coze.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Request that tells whether it was carried out: its `successWhen` is true where it was, and the step's output is made of
    /// its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify: Option<HTTPRequest>,
    /// What its failure means for the run.
    #[serde(default)]
    pub on_error: OnError,
    /// Request that is sent when the step was cancelled after it had begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_cancel: Option<HTTPRequest>,
}
