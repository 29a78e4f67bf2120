//! When a workflow runs by itself, and what its status says. Pure.
//!
//! A moment of the schedule is seen to by moving `lastScheduleTime` past it, by compare-and-swap, before its run is made: so it
//! fires at most once, whoever leads, also after its run was deleted.

use super::definition::{Definition, DefinitionError};
use super::schedule::run_name;
use crate::api::vocabulary as v;
use crate::api::{
    ConcurrencyPolicy, RunReason, ScheduleStatus, Workflow, WorkflowReference, WorkflowRun, WorkflowRunSpec, WorkflowStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, OwnerReference, Time};
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};

/// What to do for a workflow now.
#[derive(Clone, Debug, PartialEq)]
pub enum Tick {
    /// Write this in place of its status.
    Say(Box<WorkflowStatus>),
    /// Write this in place of its status; once it is stored, make this run.
    Fire(Box<WorkflowStatus>, Box<WorkflowRun>),
    /// Write this in place of its status, and tell that this moment passes without a run.
    Skip(Box<WorkflowStatus>, String),
    /// Nothing, until this moment.
    Rest(Option<Timestamp>),
}

/// What to do for a workflow now. `active`: a run of it that has not ended.
pub fn tick(workflow: &Workflow, definition: &Result<Definition, DefinitionError>, active: Option<&str>, now: Timestamp) -> Tick {
    let stored = workflow.status.clone().unwrap_or_default();
    let created = workflow.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
    let mut status = stored.clone();
    status.observed_generation = workflow.metadata.generation;
    status.conditions = vec![ready(&stored, definition.as_ref().err(), workflow.metadata.generation, now)];
    let spec =
        workflow.spec.schedule.as_ref().filter(|_| !workflow.spec.suspend && workflow.metadata.deletion_timestamp.is_none());
    let scheduled = spec.zip(definition.as_ref().ok().and_then(|definition| definition.schedule.as_ref()));
    let Some((spec, schedule)) = scheduled else {
        (status.schedule, status.next_schedule_time) = (None, None);
        return if status == stored { Tick::Rest(None) } else { Tick::Say(Box::new(status)) };
    };
    let same = |there: &&ScheduleStatus| there.cron == spec.cron && there.time_zone == spec.time_zone;
    let since = match stored.schedule.as_ref().filter(same) {
        Some(there) => there.since_time.0,
        // The first schedule that was looked at is in force since the workflow was made; another one, or one that was
        // suspended, since it is seen.
        None if stored.observed_generation.is_none() => created,
        None => now,
    };
    status.schedule =
        Some(ScheduleStatus { cron: spec.cron.clone(), time_zone: spec.time_zone.clone(), since_time: Time(since) });
    let after = stored.last_schedule_time.as_ref().map_or(since, |last| last.0.max(since));
    let deadline = spec.starting_deadline_seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
    let due = schedule.due(after, now, deadline);
    // Where the clock went back, moments come that were seen to: the next one is after them.
    status.next_schedule_time = schedule.next_after(now.max(after)).map(Time);
    let newest = due.tick.or_else(|| schedule.due(after, now, None).tick);
    let Some(moment) = newest else {
        let next = status.next_schedule_time.clone().map(|next| next.0);
        return if status == stored { Tick::Rest(next) } else { Tick::Say(Box::new(status)) };
    };
    status.last_schedule_time = Some(Time(moment));
    if let (None, Some(seconds)) = (due.tick, spec.starting_deadline_seconds) {
        let why = format!("No run is made for {moment}: startingDeadlineSeconds ({seconds}) had passed when it was seen to.");
        return Tick::Skip(Box::new(status), why);
    }
    let name = workflow.name_any();
    if let Some(active) = active.filter(|_| workflow.spec.concurrency_policy == ConcurrencyPolicy::Forbid) {
        let why = format!("No run is made for {moment}: {active} is under way, and concurrencyPolicy is Forbid.");
        return Tick::Skip(Box::new(status), why);
    }
    let run = run(workflow, run_name(&name, moment), moment);
    status.last_run_name = run.metadata.name.clone();
    Tick::Fire(Box::new(status), Box::new(run))
}

fn ready(stored: &WorkflowStatus, error: Option<&DefinitionError>, generation: Option<i64>, now: Timestamp) -> Condition {
    let (status, reason, message) = match error {
        None => ("True", RunReason::Accepted, "It can be run.".to_owned()),
        Some(error) => ("False", RunReason::InvalidDefinition, error.to_string()),
    };
    let before = stored.conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == status);
    Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.as_str().into(),
        message,
        last_transition_time: before.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        observed_generation: generation,
    }
}

/// The run of one moment; it goes with its workflow.
fn run(workflow: &Workflow, name: String, moment: Timestamp) -> WorkflowRun {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    WorkflowRun {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: workflow.namespace(),
            labels: Some([label(v::MANAGED_BY_LABEL, v::MANAGER), label(v::WORKFLOW_LABEL, &workflow.name_any())].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: Workflow::api_version(&()).into(),
                kind: Workflow::kind(&()).into(),
                name: workflow.name_any(),
                uid: workflow.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        spec: WorkflowRunSpec {
            workflow_ref: Some(WorkflowReference { name: workflow.name_any() }),
            input: workflow.spec.schedule.as_ref().and_then(|schedule| schedule.input.clone()),
            scheduled_time: Some(Time(moment)),
            ..WorkflowRunSpec::default()
        },
        status: None,
    }
}

#[cfg(test)]
#[path = "tick_tests.rs"]
mod tests;
