//! What is said of a run: its condition, in the words of a person. Pure.

use crate::api::{Phase, RunReason, StepStatus, WorkflowRunStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Type of a run's condition.
pub const SUCCEEDED: &str = "Succeeded";

/// Says it in the condition `Succeeded`, whose status is the phase's; the moment moves with the status alone.
pub fn tell(status: &mut WorkflowRunStatus, reason: RunReason, message: &str, generation: Option<i64>, now: Timestamp) {
    let truth = match status.phase {
        Phase::Pending | Phase::Running => "Unknown",
        Phase::Completed => "True",
        Phase::Failed | Phase::Cancelled => "False",
    };
    let before = status.conditions.iter().find(|condition| condition.type_ == SUCCEEDED && condition.status == truth);
    let since = before.map_or(Time(now), |condition| condition.last_transition_time.clone());
    // The schema's own stands since the beginning of time.
    let since = if since.0 == Timestamp::UNIX_EPOCH { Time(now) } else { since };
    status.conditions = vec![Condition {
        type_: SUCCEEDED.to_owned(),
        status: truth.to_owned(),
        reason: reason.as_str().to_owned(),
        message: super::failure::shortened(message.to_owned()),
        last_transition_time: since,
        observed_generation: generation,
    }];
}

/// Steps that have ended, of all.
pub fn progress(steps: &[StepStatus]) -> String {
    let ended = steps.iter().filter(|step| step.phase.is_final()).count();
    format!("{ended}/{}", steps.len())
}

/// What is said of a run that goes on: what keeps it waiting, where something does.
pub fn under_way(status: &WorkflowRunStatus) -> (RunReason, String) {
    let waits = |reason: RunReason| status.steps.iter().find(|step| step.reason == Some(reason) && !step.phase.is_final());
    for reason in [RunReason::Interrupted, RunReason::AccountNotReady] {
        if let Some(step) = waits(reason) {
            return (reason, format!("Step {}: {}", step.name, step.message.as_deref().unwrap_or_default()));
        }
    }
    let running = status.steps.iter().any(|step| step.phase == Phase::Running);
    let reason = if status.phase == Phase::Pending && !running { RunReason::Pending } else { RunReason::Running };
    let again = status.steps.iter().find(|step| step.next_attempt_time.is_some() && step.phase == Phase::Pending);
    match again {
        Some(step) => (reason, format!("Step {}: {}", step.name, step.message.as_deref().unwrap_or_default())),
        None if reason == RunReason::Pending => (reason, "Its first step is prepared.".into()),
        None => (reason, "Its steps are under way.".into()),
    }
}
