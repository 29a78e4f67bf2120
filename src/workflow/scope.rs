//! What expressions of a run see. Pure.

use super::seen::{Identity, Task};
use crate::api::{RemoteStatus, StepStatus, WorkflowRunStatus};
use crate::expression::{Members, References, Scope};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Outputs of steps, those that are kept in Secrets too.
pub type Outputs = BTreeMap<String, Arc<Value>>;

/// Steps that expressions refer to.
pub fn named<'a>(references: impl IntoIterator<Item = &'a References>) -> BTreeSet<String> {
    let members = references.into_iter().map(|references| references.members("steps"));
    members.filter_map(|members| if let Members::Named(named) = members { Some(named) } else { None }).flatten().collect()
}

/// What expressions see: `input`, `run`, `workflow`, and of `steps` those that are named. Tokens and Secrets are never in it.
pub fn scope(run: &Identity, task: &Task, status: &WorkflowRunStatus, named: &BTreeSet<String>, outputs: &Outputs) -> Scope {
    let about = json!({
        "name": run.name,
        "namespace": run.namespace,
        "uid": run.uid,
        "phase": status.phase.as_str(),
        "reason": status.conditions.first().map_or("", |condition| condition.reason.as_str()),
        "message": status.conditions.first().map_or("", |condition| condition.message.as_str()),
        "startTime": status.start_time.as_ref().map(|at| at.0.to_string()),
        "scheduledTime": run.scheduled.map(|at| at.to_string()),
    });
    let workflow = json!({"name": task.workflow, "generation": task.generation});
    let scope =
        Scope::default().with("input", task.input.clone()).with("run", Arc::new(about)).with("workflow", Arc::new(workflow));
    let steps = status.steps.iter().filter(|step| named.contains(&step.name));
    steps.fold(scope, |scope, step| scope.with_member("steps", &step.name, Arc::new(seen(step, outputs.get(&step.name)))))
}

fn seen(step: &StepStatus, kept: Option<&Arc<Value>>) -> Value {
    let output = kept.map(|output| (**output).clone()).or_else(|| step.output.clone()).unwrap_or_default();
    json!({"output": output, "status": step.http_status, "phase": step.phase.as_str()})
}

/// The same for a request that ends a step at the remote side.
pub fn with_remote(scope: Scope, remote: Option<&RemoteStatus>) -> Scope {
    let remote = remote.cloned().unwrap_or_default();
    scope.with("remote", Arc::new(json!({"executeID": remote.execute_id, "logID": remote.log_id})))
}
