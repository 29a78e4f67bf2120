//! How a run ends before all of its steps have, and what becomes of those that have not. Pure.

use super::attempt::later;
use super::definition::StepPlan;
use super::progress::{MISSING_FOR, Progress};
use super::report;
use super::seen::{Seen, Turn, Unclear};
use crate::api::{Notice, OnError, Phase, RunReason, StepStatus, WorkflowRunStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Why a run ends before all of its steps have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    phase: Phase,
    reason: RunReason,
    message: String,
}

pub(super) fn cancelled() -> Ending {
    Ending { phase: Phase::Cancelled, reason: RunReason::CancelledByUser, message: "The run was cancelled.".into() }
}

/// Nobody knows what is to be run: that is waited for, or it is the end.
pub(super) fn unclear_now(seen: &Seen, mut status: WorkflowRunStatus, now: Timestamp, unclear: &Unclear) -> WorkflowRunStatus {
    let refuse = |message: &str| Ending { phase: Phase::Failed, reason: RunReason::InvalidDefinition, message: message.into() };
    match unclear {
        _ if seen.cancel => refused(seen, status, now, cancelled()),
        Unclear::Refused(why) => refused(seen, status, now, refuse(why)),
        Unclear::Missing(why) if now.duration_since(seen.run.created) >= MISSING_FOR => refused(seen, status, now, refuse(why)),
        Unclear::Missing(why) => {
            report::tell(&mut status, RunReason::Pending, why, seen.run.generation, now);
            status
        }
    }
}

/// A run that ends without a definition.
pub(super) fn refused(seen: &Seen, mut status: WorkflowRunStatus, now: Timestamp, ending: Ending) -> WorkflowRunStatus {
    for step in status.steps.iter_mut().filter(|step| !step.phase.is_final()) {
        let begun = step.phase == Phase::Running;
        step.phase = Phase::Cancelled;
        step.reason = Some(ending.reason);
        step.cancellation = begun.then_some(Notice::NotSupported);
        step.completion_time = Some(Time(now));
    }
    status.phase = ending.phase;
    status.completion_time = Some(Time(now));
    report::tell(&mut status, ending.reason, &ending.message, seen.run.generation, now);
    status
}

impl Progress<'_> {
    /// Why the run ends now, if it does.
    pub(super) fn ending(&self) -> Option<Ending> {
        let seen = self.seen;
        if let Some(ending) = self.begun_ending() {
            return Some(ending);
        }
        if seen.cancel {
            return Some(cancelled());
        }
        if let Turn::ReplacedBy(other) = &seen.turn {
            let message = format!("The run {other} has taken its place: concurrencyPolicy is Replace.");
            return Some(Ending { phase: Phase::Cancelled, reason: RunReason::Replaced, message });
        }
        let failed = self.failed();
        if let Some((step, _)) = failed.filter(|_| self.definition().fail_fast || self.all_ended()) {
            let (reason, why) = (step.reason.unwrap_or(RunReason::StepFailed), step.message.as_deref().unwrap_or_default());
            return Some(Ending { phase: Phase::Failed, reason, message: format!("Step {}: {why}", step.name) });
        }
        let deadline = self.status.deadline_time.as_ref().map(|at| at.0);
        // One that waits for its turn has its time from when it was made.
        let deadline = deadline.or_else(|| self.is_untouched().then(|| later(seen.run.created, self.definition().timeout)));
        if deadline.is_some_and(|deadline| deadline <= self.now) && !self.all_ended() {
            return Some(self.too_late());
        }
        None
    }

    /// The end that has begun, where the remote side of a step is yet to be told: whatever happens meanwhile, it stays the end.
    fn begun_ending(&self) -> Option<Ending> {
        let ended = |step: &&StepStatus| step.phase == Phase::Cancelled && step.reason != Some(RunReason::DependencyFailed);
        let reason = self.status.steps.iter().find(ended)?.reason?;
        let phase = match reason {
            RunReason::CancelledByUser | RunReason::Replaced => Phase::Cancelled,
            _ => Phase::Failed,
        };
        let said = self.status.conditions.iter().find(|condition| condition.reason == reason.as_str());
        Some(Ending { phase, reason, message: said.map(|condition| condition.message.clone()).unwrap_or_default() })
    }

    /// The deadline of the run has come.
    fn too_late(&self) -> Ending {
        let seconds = self.definition().timeout.as_secs();
        let waiting = self.status.steps.iter().filter(|step| !step.phase.is_final());
        let because = |reason| waiting.clone().find(|step| step.reason == Some(reason));
        let stuck = because(RunReason::AccountNotReady).or_else(|| because(RunReason::Interrupted));
        let (reason, what) = match stuck {
            Some(step) => {
                let why = step.message.as_deref().unwrap_or_default();
                (step.reason.unwrap_or(RunReason::Timeout), format!("step {} still waits. {why}", step.name))
            }
            None => {
                let names: Vec<_> = waiting.map(|step| step.name.as_str()).collect();
                (RunReason::Timeout, format!("not ended: {}.", names.join(", ")))
            }
        };
        Ending {
            phase: Phase::Failed,
            reason,
            message: format!("The run has not ended within timeoutSeconds ({seconds}); {what}"),
        }
    }

    /// The first step that failed and may not.
    fn failed(&self) -> Option<(&StepStatus, &StepPlan)> {
        let steps = self.status.steps.iter().zip(&self.definition().steps);
        steps.into_iter().find(|(step, plan)| step.phase == Phase::Failed && plan.on_error == OnError::Fail)
    }

    pub(super) fn all_ended(&self) -> bool {
        self.status.steps.iter().all(|step| step.phase.is_final())
    }

    /// Ends every step that has not.
    pub(super) fn end(&mut self, ending: &Ending) {
        let (task, now) = (self.task, self.now);
        for (step, plan) in self.status.steps.iter_mut().zip(&task.definition.steps) {
            if step.phase.is_final() {
                continue;
            }
            let begun = step.phase == Phase::Running || step.doubtful || step.remote.is_some();
            if begun {
                let hook = plan.on_cancel.as_ref();
                // What only reads changes nothing that anybody must be told of.
                let silent = plan.call.is_safe();
                step.cancellation = hook.map(|_| Notice::Pending).or((!silent).then_some(Notice::NotSupported));
            }
            step.phase = Phase::Cancelled;
            step.reason = Some(ending.reason);
            step.message = Some(
                match step.cancellation {
                    Some(Notice::NotSupported) => "It was ended here; what becomes of it at the remote side is not known.",
                    Some(_) => "It was ended here, and the remote side is told by onCancel.",
                    None => "It was ended.",
                }
                .to_owned(),
            );
            step.next_attempt_time = None;
            step.completion_time = Some(Time(now));
        }
        if self.status.steps.iter().all(|step| step.cancellation != Some(Notice::Pending)) {
            self.finish(ending.phase, ending.reason, &ending.message);
        } else {
            report::tell(&mut self.status, ending.reason, &ending.message, self.seen.run.generation, now);
        }
    }

    pub(super) fn finish(&mut self, phase: Phase, reason: RunReason, message: &str) {
        self.status.phase = phase;
        self.status.completion_time = Some(Time(self.now));
        self.status.completion = self.definition().on_complete.as_ref().map(|_| Notice::Pending);
        report::tell(&mut self.status, reason, message, self.seen.run.generation, self.now);
    }
}
