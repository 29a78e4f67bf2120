//! What the operator reports of a run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far a run or a step has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Pending,
    /// It has begun.
    Running,
    /// It came to its end; a step, also where its `when` said that there was nothing to do.
    Completed,
    /// It came to no good end.
    Failed,
    /// It was ended.
    Cancelled,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Running, Self::Completed, Self::Failed, Self::Cancelled];

    /// As it stands in `status.phase`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether nothing comes after it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// Why a run or a step is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RunReason {
    /// It waits for its turn.
    Pending,
    /// It is under way.
    Running,
    /// It came to its end.
    Completed,
    /// A workflow can be run.
    Accepted,
    /// The definition, the input or an expression cannot be used.
    InvalidDefinition,
    /// The account has no token to send.
    AccountNotReady,
    /// The token is refused, a fresh one too.
    AuthFailed,
    /// The token is taken, but not for this; or it may not be sent there.
    PermissionDenied,
    /// The server asks for patience for longer than it was asked.
    RateLimited,
    /// It took too long.
    Timeout,
    /// A step failed.
    StepFailed,
    /// Nobody knows whether a request was carried out.
    OutcomeUnknown,
    /// An answer or an output is larger than may be kept.
    OutputTooLarge,
    /// Somebody cancelled the run.
    CancelledByUser,
    /// A newer run took its place.
    Replaced,
    /// The remote workflow waits for an answer of a person's.
    Interrupted,
    /// A step whose `when` was false.
    Skipped,
    /// A step that depends on one that did not come to a good end.
    DependencyFailed,
}

impl RunReason {
    /// As it stands in `status.conditions[].reason` and `status.steps[].reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Completed => "Completed",
            Self::Accepted => "Accepted",
            Self::InvalidDefinition => "InvalidDefinition",
            Self::AccountNotReady => "AccountNotReady",
            Self::AuthFailed => "AuthFailed",
            Self::PermissionDenied => "PermissionDenied",
            Self::RateLimited => "RateLimited",
            Self::Timeout => "Timeout",
            Self::StepFailed => "StepFailed",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::OutputTooLarge => "OutputTooLarge",
            Self::CancelledByUser => "CancelledByUser",
            Self::Replaced => "Replaced",
            Self::Interrupted => "Interrupted",
            Self::Skipped => "Skipped",
            Self::DependencyFailed => "DependencyFailed",
        }
    }
}

/// An output that is too large for status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputReference {
    /// Secret that holds it.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// Key within the Secret: compact JSON, gzipped.
    #[schemars(length(max = 253))]
    pub key: String,
    /// Bytes of the JSON.
    #[schemars(range(min = 0, max = 2147483647i64))]
    pub bytes: i64,
    /// SHA-256 of the JSON, hexadecimal.
    #[schemars(length(max = 64))]
    pub sha256: String,
}

/// A remote workflow that waits for an answer of a person's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Interrupt {
    /// Id of the event, as the remote side has it.
    #[serde(rename = "eventID")]
    #[schemars(length(max = 256))]
    pub event_id: String,
    /// Kind of the interrupt, as the remote side has it.
    #[schemars(range(min = -2147483648i64, max = 2147483647i64))]
    pub kind: i64,
    /// What the person is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub question: Option<String>,
    /// Whether the answer was given and sent.
    #[serde(default)]
    pub answered: bool,
}

/// What the remote side calls it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteStatus {
    /// Id of the execution.
    #[serde(rename = "executeID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub execute_id: Option<String>,
    /// Id of the request, for the support of whoever runs the remote side.
    #[serde(rename = "logID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub log_id: Option<String>,
    /// Page that shows the execution.
    #[serde(rename = "debugURL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub debug_url: Option<String>,
    /// What the remote side last said of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub state: Option<String>,
    /// Answer that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupt: Option<Interrupt>,
    /// First hex digits of the SHA-256 of the answer that was last given, so that none is given twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub answer_digest: Option<String>,
}

/// Tokens of language models that were used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens read.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub input_count: i64,
    /// Tokens written.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub output_count: i64,
    /// Both together.
    #[serde(default)]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub token_count: i64,
}

/// A request that is sent beside a run: when a step was cancelled, or when the run has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Notice {
    /// It is to be sent.
    Pending,
    /// It was answered with success.
    Delivered,
    /// It was not.
    Failed,
    /// There is no request that would tell the remote side, and what it does is not known.
    NotSupported,
}

/// One step of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// Name of the step.
    #[schemars(length(max = 63))]
    pub name: String,
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Why it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<RunReason>,
    /// The same in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// How often it was tried.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub attempts: i32,
    /// When the last attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// Whether an earlier attempt may have been carried out; its request `verify` tells.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub doubtful: bool,
    /// Before when it is not tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// Key that is sent with each attempt, so that the server can tell a repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub idempotency_key: Option<String>,
    /// Status of the last answer.
    #[serde(rename = "httpStatus", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 999))]
    pub http_status: Option<i32>,
    /// Output, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_value")]
    pub output: Option<Value>,
    /// Bytes of the output as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2147483647i64))]
    pub output_bytes: Option<i64>,
    /// Where the output is, where it is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_ref: Option<OutputReference>,
    /// What the remote side calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<RemoteStatus>,
    /// Tokens of language models that were used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether the remote side was told that it was cancelled. Absent: it was not cancelled, or had not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Notice>,
}

/// What is known of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRunStatus {
    /// Generation of the spec that was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub observed_generation: Option<i64>,
    /// How far it has come.
    #[serde(default)]
    pub phase: Phase,
    /// Condition `Succeeded`: Unknown until it has ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Steps that have ended, of all, such as 2/5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub progress: Option<String>,
    /// Generation of the workflow that is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub workflow_generation: Option<i64>,
    /// ControllerRevision that holds the workflow as it is run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub revision_name: Option<String>,
    /// SHA-256 of the input as canonical JSON, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub input_digest: Option<String>,
    /// Operator process that works on it: what another one has left Running is not known to have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub executor: Option<String>,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<Time>,
    /// When it fails, wherever it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_time: Option<Time>,
    /// Moment of the schedule that it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_time: Option<Time>,
    /// Steps, in the order of the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<StepStatus>,
    /// What the run gives, where it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_value")]
    pub outputs: Option<Value>,
    /// Where it is, where it is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs_ref: Option<OutputReference>,
    /// Tokens of language models that all steps used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Whether `onComplete` was told of the end. Absent: there is none, or the run has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion: Option<Notice>,
}
