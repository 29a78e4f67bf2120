//! `WorkflowRun`: one execution of a workflow, the request and its record.

use super::reference::{DATA_KEY, OBJECT_NAME};
use super::run_status::WorkflowRunStatus;
use super::{KeyReference, WorkflowSpec};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names a `Workflow` of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.name) <= 52").message("`name` must have at most 52 characters: no Workflow has more"))]
pub struct WorkflowReference {
    /// Name of the `Workflow`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// One key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyReference {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Key within the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// Where a large input is: JSON, of at most 1 MB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)").message("must set exactly one of `secretKeyRef` and `configMapKeyRef`"))]
pub struct InputSource {
    /// Key of a Secret that permits it by its annotation `oauth-operator.dev/run-input: "true"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyReference>,
    /// Key of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyReference>,
}

impl InputSource {
    /// Name of the Secret or the ConfigMap.
    pub fn name(&self) -> &str {
        let secret = self.secret_key_ref.as_ref().map(|reference| reference.name.as_str());
        secret.or_else(|| self.config_map_key_ref.as_ref().map(|reference| reference.name.as_str())).unwrap_or_default()
    }
}

/// What is to be run, with which input. Immutable but for `cancel`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "oauth-operator.dev",
    version = "v1alpha1",
    kind = "WorkflowRun",
    plural = "workflowruns",
    singular = "workflowrun",
    shortname = "owr",
    category = "oauth",
    namespaced,
    status = "WorkflowRunStatus",
    derive = "Default",
    derive = "PartialEq",
    doc = "WorkflowRun is one execution of a Workflow: what was asked for, and the record of what was done.",
    selectable = ".spec.workflowRef.name",
    selectable = ".status.phase",
    printcolumn(name = "Workflow", type_ = "string", json_path = ".spec.workflowRef.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].reason"#),
    printcolumn(name = "Steps", type_ = "string", json_path = ".status.progress", description = "Steps that have ended, of all"),
    printcolumn(name = "Started", type_ = "date", json_path = ".status.startTime"),
    printcolumn(name = "Ended", type_ = "date", json_path = ".status.completionTime"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Succeeded")].message"#, priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 180").message("`metadata.name` must have at most 180 characters, so that names can be derived from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.workflowRef) != has(self.workflowSpec)").message("must set exactly one of `workflowRef` and `workflowSpec`"))]
#[x_kube(validation = Rule::new("!(has(self.input) && has(self.inputFrom))").message("may not set both `input` and `inputFrom`"))]
#[x_kube(validation = Rule::new("has(self.workflowRef) == has(oldSelf.workflowRef) && has(self.workflowSpec) == has(oldSelf.workflowSpec) && has(self.input) == has(oldSelf.input) && has(self.inputFrom) == has(oldSelf.inputFrom) && has(self.scheduledTime) == has(oldSelf.scheduledTime)").message("a run may not be changed but for `cancel`; it must be made anew"))]
#[x_kube(validation = Rule::new("self.cancel || !oldSelf.cancel").message("`cancel` may not be taken back; the run must be made anew"))]
pub struct WorkflowRunSpec {
    /// Workflow that is run, as it is when the run begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a run may not be changed but for `cancel`; it must be made anew"))]
    pub workflow_ref: Option<WorkflowReference>,
    /// What is run, where there is no `Workflow` of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a run may not be changed but for `cancel`; it must be made anew"))]
    #[x_kube(validation = Rule::new("!has(self.schedule)").message("may not have a schedule: only a Workflow has"))]
    pub workflow_spec: Option<WorkflowSpec>,
    /// Input of the run, at most 256 KiB; more by `inputFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::schema::immutable_object")]
    pub input: Option<Value>,
    /// Where the input is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a run may not be changed but for `cancel`; it must be made anew"))]
    pub input_from: Option<InputSource>,
    /// Moment of the schedule that the run is for. The operator sets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a run may not be changed but for `cancel`; it must be made anew"))]
    pub scheduled_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Whether the run is to end now.
    #[serde(default)]
    pub cancel: bool,
}
