//! `Workflow`: a graph of requests that are made with the tokens of accounts.

use super::{AccountReference, HTTPRequest, Retry, Step};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What runs are given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// JSON Schema (draft 2020-12) that the input of a run must satisfy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub schema: Option<Value>,
}

/// When runs begin by themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// Minute, hour, day of month, month and day of week, or a macro such as @daily.
    #[schemars(length(min = 1, max = 256))]
    pub cron: String,
    /// Time zone of the schedule, by its name in the IANA database.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,
    /// Seconds after its moment within which a run that was missed is made up for. Absent: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31536000))]
    pub starting_deadline_seconds: Option<i32>,
    /// Input of these runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub input: Option<Value>,
}

fn default_time_zone() -> String {
    "UTC".into()
}

/// What happens to a run while another one of the same workflow is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Both run.
    #[default]
    Allow,
    /// A scheduled one is left out, and one that a person made waits.
    Forbid,
    /// The older one is cancelled.
    Replace,
}

/// Which runs are kept after their end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// How many that completed.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 1000))]
    pub completed: i32,
    /// How many that failed or were cancelled.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 1000))]
    pub failed: i32,
    /// Seconds after which each goes. Absent: none goes for its age.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31536000))]
    pub ttl_seconds_after_finished: Option<i32>,
}

impl Default for History {
    fn default() -> Self {
        Self { completed: default_history(), failed: default_history(), ttl_seconds_after_finished: None }
    }
}

fn default_history() -> i32 {
    3
}

/// What steps have that do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepDefaults {
    /// Account whose token is sent along.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_ref: Option<AccountReference>,
    /// Attempts after the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// A graph of steps.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "oauth-operator.dev",
    version = "v1alpha1",
    kind = "Workflow",
    plural = "workflows",
    singular = "workflow",
    shortname = "owf",
    category = "oauth",
    namespaced,
    status = "WorkflowStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "Workflow is a graph of HTTP requests and Coze workflows that are run with the tokens of OAuthAccounts.",
    selectable = ".spec.defaults.accountRef.name",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether it can be run"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule.cron"),
    printcolumn(name = "Time zone", type_ = "string", json_path = ".spec.schedule.timeZone"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Last", type_ = "string", json_path = ".status.lastScheduleTime", description = "Last moment of the schedule that was seen to"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", description = "Next moment of the schedule"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 52").message("`metadata.name` must have at most 52 characters, so that names of runs can be derived from it")
)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowSpec {
    /// What runs are given.
    #[serde(default)]
    pub inputs: Inputs,
    /// When runs begin by themselves. Absent: they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Whether the schedule pauses. Runs that people make are run all the same.
    #[serde(default)]
    pub suspend: bool,
    /// What happens to a run while another one of the same workflow is under way.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// How many steps of a run are under way at once at most.
    #[serde(default = "default_parallelism")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: i32,
    /// Whether the first failure cancels what is under way. Otherwise steps go on that do not depend on what failed.
    #[serde(default = "default_fail_fast")]
    pub fail_fast: bool,
    /// Seconds that a run may take.
    #[serde(default = "default_run_timeout")]
    #[schemars(range(min = 1, max = 604800))]
    pub timeout_seconds: i32,
    /// Which runs are kept after their end.
    #[serde(default)]
    pub history: History,
    /// What steps have that do not say otherwise.
    #[serde(default)]
    pub defaults: StepDefaults,
    /// Steps of the graph.
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub steps: Vec<Step>,
    /// What a run gives, by name, with expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::free_object")]
    pub outputs: Option<Value>,
    /// Request that is sent when a run has ended; its failure changes nothing. The account of `defaults` is not taken for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_complete: Option<HTTPRequest>,
}

fn default_parallelism() -> i32 {
    5
}

fn default_fail_fast() -> bool {
    true
}

fn default_run_timeout() -> i32 {
    3600
}

/// The schedule as it is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleStatus {
    /// Its cron expression.
    #[schemars(length(max = 256))]
    pub cron: String,
    /// Its time zone.
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// Since when: moments before are none of its own.
    pub since_time: Time,
}

/// What is known of a workflow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// Generation of the spec that was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9007199254740991i64))]
    pub observed_generation: Option<i64>,
    /// Whether it can be run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// Schedule that is in force. Absent: there is none, or it is suspended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleStatus>,
    /// Last moment of the schedule that was seen to, whether a run came of it or not. It moves before the run is made, so that no
    /// moment comes twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Next moment of the schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Name of the last run that the schedule made.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub last_run_name: Option<String>,
}
