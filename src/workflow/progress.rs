//! What a run's status should be now, by what is stored and what is known beside it. Pure.
//!
//! A step is Running in status before a byte of its request leaves, and is written as the work of one process
//! (`status.executor`). What is found Running of another process may or may not have been carried out: the step's `delivery`
//! says what is done about it.

use super::answer::Done;
use super::definition::{Definition, StepPlan};
use super::failure::Failure;
use super::report;
use super::seen::{AccountState, Kept, Outcome, Prepared, Seen, Task, Turn, Unclear, Work};
use crate::api::{
    ConcurrencyPolicy, Delivery, Notice, OnError, Phase, RemoteStatus, RunReason, StepStatus, Usage, WorkflowRunStatus,
};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

/// How long what a run names may be missing.
pub(super) const MISSING_FOR: SignedDuration = SignedDuration::from_mins(5);
/// How often a request `verify` is sent beside the step's own attempts.
const VERIFICATIONS: i32 = 5;

/// How long is waited at least before an account is asked again that is Ready and has no token.
const ACCOUNT_PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// Why a run ends before all of its steps have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ending {
    phase: Phase,
    reason: RunReason,
    message: String,
}

struct Progress<'a> {
    seen: &'a Seen,
    task: &'a Task,
    now: Timestamp,
    status: WorkflowRunStatus,
}

/// What status should be now.
pub fn progress(seen: &Seen, now: Timestamp) -> WorkflowRunStatus {
    let mut status = seen.status.clone();
    if status.phase.is_final() {
        // Where nobody knows what was run, nobody knows whom to tell.
        let told = seen.completion.or_else(|| matches!(seen.task, Some(Err(_))).then_some(false));
        if let (Some(Notice::Pending), Some(told)) = (status.completion, told) {
            status.completion = Some(if told { Notice::Delivered } else { Notice::Failed });
        }
        return status;
    }
    status.observed_generation = seen.run.generation;
    let task = match &seen.task {
        // What is stored stays true until it is known what is to be run.
        None if status.steps.is_empty() && seen.cancel => return refused(seen, status, now, cancelled()),
        None => return seen.status.clone(),
        Some(Err(unclear)) => return unclear_now(seen, status, now, unclear),
        Some(Ok(task)) => task,
    };
    let mut progress = Progress { seen, task, now, status };
    progress.begin();
    if let Turn::After(other) = &seen.turn
        && progress.is_untouched()
        && progress.ending().is_none()
    {
        return progress.waiting(other);
    }
    // A run that ends now ends what it finds under way like its own, so that the remote side is told of it.
    if progress.ending().is_none() {
        progress.inherit();
    }
    progress.take_outcomes();
    match progress.ending() {
        Some(ending) => progress.end(&ending),
        None => {
            progress.resume();
            progress.go_on();
        }
    }
    progress.settle();
    progress.status
}

fn cancelled() -> Ending {
    Ending { phase: Phase::Cancelled, reason: RunReason::CancelledByUser, message: "The run was cancelled.".into() }
}

/// Nobody knows what is to be run: that is waited for, or it is the end.
fn unclear_now(seen: &Seen, mut status: WorkflowRunStatus, now: Timestamp, unclear: &Unclear) -> WorkflowRunStatus {
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
fn refused(seen: &Seen, mut status: WorkflowRunStatus, now: Timestamp, ending: Ending) -> WorkflowRunStatus {
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
    fn definition(&self) -> &Definition {
        &self.task.definition
    }

    /// Whether nothing was sent yet.
    fn is_untouched(&self) -> bool {
        self.status.steps.iter().all(|step| step.phase == Phase::Pending && step.attempts == 0)
    }

    /// A run begins with all of its steps.
    fn begin(&mut self) {
        let (seen, task) = (self.seen, self.task);
        if self.status.steps.is_empty() {
            let named = |step: &StepPlan| StepStatus { name: step.name.clone(), ..StepStatus::default() };
            self.status.steps = task.definition.steps.iter().map(named).collect();
            self.status.workflow_generation = task.generation;
            self.status.revision_name = task.revision.clone();
            self.status.input_digest = Some(task.digest.clone());
            self.status.scheduled_time = seen.run.scheduled.map(Time);
        }
    }

    /// Another run goes first.
    fn waiting(mut self, other: &str) -> WorkflowRunStatus {
        let message = match self.definition().concurrency {
            ConcurrencyPolicy::Replace => {
                format!("The run {other} of this workflow is being ended: concurrencyPolicy is Replace.")
            }
            _ => format!("The run {other} of this workflow is under way, and concurrencyPolicy is Forbid."),
        };
        report::tell(&mut self.status, RunReason::Pending, &message, self.seen.run.generation, self.now);
        self.status
    }

    /// What another process has left Running.
    fn inherit(&mut self) {
        if self.status.executor.as_deref() == Some(&self.seen.me) {
            return;
        }
        let task = self.task;
        for (step, plan) in self.status.steps.iter_mut().zip(&task.definition.steps) {
            if step.phase != Phase::Running || goes_on_there(step) {
                continue;
            }
            match plan.delivery {
                Delivery::AtLeastOnce => again(
                    step,
                    RunReason::Running,
                    "The operator was restarted while the request was under way; it is sent again.",
                    None,
                ),
                Delivery::Verify => {
                    step.doubtful = true;
                    again(
                        step,
                        RunReason::Running,
                        "The operator was restarted while the request was under way; verify tells whether it was carried out.",
                        None,
                    );
                }
                Delivery::AtMostOnce => {
                    let message = "The operator was restarted while the request was under way, and delivery is AtMostOnce: nobody knows whether it was carried out.";
                    fail(step, RunReason::OutcomeUnknown, message, self.now);
                }
            }
        }
    }

    /// What came of requests.
    fn take_outcomes(&mut self) {
        let (task, now, seen) = (self.task, self.now, self.seen);
        let deadline = self.status.deadline_time.as_ref().map(|at| at.0);
        for (step, plan) in self.status.steps.iter_mut().zip(&task.definition.steps) {
            let Some(outcome) = seen.outcomes.get(&step.name).filter(|_| step.phase == Phase::Running) else { continue };
            match outcome {
                Outcome::Completed(done, kept) => complete(step, done, kept, now),
                Outcome::Accepted(remote) => adopt(step, remote),
                Outcome::Interrupted(remote) => {
                    adopt(step, remote);
                    ask(step);
                }
                Outcome::NotCarriedOut => {
                    step.doubtful = false;
                    again(step, RunReason::Running, "verify says that the request was not carried out; it is sent again.", None);
                }
                Outcome::Withheld => {
                    step.attempts = (step.attempts - 1).max(0);
                    let message = "This instance of the operator led no more when the request was to be sent; it was not.";
                    again(step, RunReason::Running, message, None);
                }
                Outcome::Failed(failure) => after_failure(step, plan, failure, &seen.run.uid, now, deadline),
            }
        }
        for step in &mut self.status.steps {
            if step.cancellation == Some(Notice::Pending)
                && let Some(told) = seen.cancellations.get(&step.name)
            {
                let (notice, message) = match told {
                    true => (Notice::Delivered, "It was ended here, and onCancel has told the remote side."),
                    false => (Notice::Failed, "It was ended here; onCancel did not reach the remote side."),
                };
                (step.cancellation, step.message) = (Some(notice), Some(message.to_owned()));
            }
        }
    }

    /// Why the run ends now, if it does.
    fn ending(&self) -> Option<Ending> {
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

    fn all_ended(&self) -> bool {
        self.status.steps.iter().all(|step| step.phase.is_final())
    }

    /// Ends every step that has not.
    fn end(&mut self, ending: &Ending) {
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

    fn finish(&mut self, phase: Phase, reason: RunReason, message: &str) {
        self.status.phase = phase;
        self.status.completion_time = Some(Time(self.now));
        self.status.completion = self.definition().on_complete.as_ref().map(|_| Notice::Pending);
        report::tell(&mut self.status, reason, message, self.seen.run.generation, self.now);
    }

    /// A person has answered an interrupt: the first one, of which the condition speaks, and no other with the same words.
    fn resume(&mut self) {
        let Some(answer) = &self.seen.resume else {
            // Who takes an answer away may give the same one again.
            for remote in self.status.steps.iter_mut().filter_map(|step| step.remote.as_mut()) {
                if remote.interrupt.as_ref().is_none_or(|interrupt| !interrupt.answered) {
                    remote.answer_digest = None;
                }
            }
            return;
        };
        let digest = digest(answer);
        let mut remotes = self.status.steps.iter().filter_map(|step| step.remote.as_ref());
        if remotes.any(|remote| remote.answer_digest.as_ref() == Some(&digest)) {
            return;
        }
        for step in self.status.steps.iter_mut().filter(|step| step.phase == Phase::Running) {
            let Some(remote) = &mut step.remote else { continue };
            let Some(interrupt) = remote.interrupt.as_mut().filter(|interrupt| !interrupt.answered) else { continue };
            interrupt.answered = true;
            remote.answer_digest = Some(digest);
            step.reason = Some(RunReason::Running);
            step.message = None;
            return;
        }
    }

    /// What depends on a failure is not done, what waits for an account says so, what is prepared begins.
    fn go_on(&mut self) {
        let (task, seen, now) = (self.task, self.seen, self.now);
        let definition = &*task.definition;
        for &index in definition.graph.order() {
            let plan = &definition.steps[index];
            let lost = definition.graph.dependencies(index).iter().any(|&dependency| {
                let (step, plan) = (&self.status.steps[dependency], &definition.steps[dependency]);
                step.phase == Phase::Cancelled || (step.phase == Phase::Failed && plan.on_error == OnError::Fail)
            });
            let step = &mut self.status.steps[index];
            if step.phase == Phase::Pending && lost {
                step.phase = Phase::Cancelled;
                step.reason = Some(RunReason::DependencyFailed);
                step.message = Some("A step that it depends on did not come to a good end.".into());
                step.completion_time = Some(Time(now));
            }
            if let (Phase::Running, Some(limit)) = (step.phase, patience(step, plan))
                && limit <= now
            {
                fail(step, RunReason::Timeout, "The run at the remote side has not ended within poll.timeoutSeconds.", now);
                step.cancellation = Some(Notice::NotSupported);
            }
            if step.phase == Phase::Running {
                carry_on(seen, step, plan, now);
            }
        }
        let mut places = definition.parallelism.saturating_sub(self.running());
        for index in 0..definition.steps.len() {
            if !is_due(&self.status, definition, index, now) {
                continue;
            }
            let (step, plan) = (&mut self.status.steps[index], &definition.steps[index]);
            match seen.prepared.get(&step.name) {
                Some(Prepared::Skip) => skip(step, now),
                Some(Prepared::Refused(failure)) if failure.reason == RunReason::Interrupted => ask(step),
                Some(Prepared::Refused(failure)) => after_failure(step, plan, failure, &seen.run.uid, now, None),
                Some(Prepared::Call(_)) if places > 0 => {
                    places -= 1;
                    start(step, &seen.run.uid, now);
                }
                Some(Prepared::Call(_)) => {}
                None => match wanting(seen, step, plan) {
                    Some(why) => {
                        step.reason = Some(RunReason::AccountNotReady);
                        step.message = Some(why);
                    }
                    None if step.reason == Some(RunReason::AccountNotReady) => (step.reason, step.message) = (None, None),
                    None => {}
                },
            }
        }
        if self.status.start_time.is_none() && self.running() > 0 {
            self.status.start_time = Some(Time(now));
            self.status.deadline_time = Some(Time(later(now, definition.timeout)));
        }
    }

    fn running(&self) -> usize {
        self.status.steps.iter().filter(|step| step.phase == Phase::Running).count()
    }

    /// The phase of the run, and what is said of it.
    fn settle(&mut self) {
        let (seen, now) = (self.seen, self.now);
        self.status.progress = Some(report::progress(&self.status.steps));
        self.status.usage = total(&self.status.steps);
        if self.running() > 0 || self.status.executor.is_some() {
            self.status.executor = Some(seen.me.clone());
        }
        if self.status.phase.is_final() {
            return;
        }
        if !self.is_untouched() || self.all_ended() {
            self.status.phase = Phase::Running;
            self.status.start_time.get_or_insert(Time(now));
        }
        if self.all_ended() && self.ending().is_none() {
            return self.conclude();
        }
        if self.ending().is_none() {
            let (reason, message) = report::under_way(&self.status);
            report::tell(&mut self.status, reason, &message, seen.run.generation, now);
        }
    }

    /// All steps have ended, and the run with them, once it is known what it gives.
    fn conclude(&mut self) {
        match &self.seen.conclusion {
            None if self.definition().outputs.is_some() => {}
            None => self.finish(Phase::Completed, RunReason::Completed, "Every step has ended."),
            Some(Ok((outputs, kept))) => {
                match kept {
                    Kept::Inline { .. } => self.status.outputs = Some(outputs.clone()),
                    Kept::Secret(reference) => self.status.outputs_ref = Some(reference.clone()),
                }
                self.finish(Phase::Completed, RunReason::Completed, "Every step has ended.");
            }
            Some(Err(failure)) => self.finish(Phase::Failed, failure.reason, &format!("outputs: {}", failure.message)),
        }
    }
}

/// Whether a step can begin, as far as the steps before it and its own waiting time go.
pub(super) fn is_due(status: &WorkflowRunStatus, definition: &Definition, index: usize, now: Timestamp) -> bool {
    let step = &status.steps[index];
    step.phase == Phase::Pending
        && step.next_attempt_time.as_ref().is_none_or(|next| next.0 <= now)
        && definition.graph.dependencies(index).iter().all(|&dependency| {
            let (before, plan) = (&status.steps[dependency], &definition.steps[dependency]);
            before.phase == Phase::Completed || (before.phase == Phase::Failed && plan.on_error == OnError::Continue)
        })
}

/// Why the account of a step keeps it waiting, if it does.
pub(super) fn wanting(seen: &Seen, step: &StepStatus, plan: &StepPlan) -> Option<String> {
    let verify = plan.verify.as_ref().filter(|_| step.doubtful);
    let account = verify.map_or_else(|| plan.call.account(), |verify| verify.account.as_deref())?;
    match seen.accounts.get(account) {
        Some(AccountState::Ready) => None,
        Some(AccountState::NotReady(why)) => Some(why.clone()),
        None => Some(format!("There is no OAuthAccount {account}.")),
    }
}

/// Whether the remote side goes on with a step by itself, so that nothing is lost by a restart here.
pub(super) fn goes_on_there(step: &StepStatus) -> bool {
    let Some(remote) = &step.remote else { return false };
    match &remote.interrupt {
        Some(interrupt) => !interrupt.answered,
        None => remote.execute_id.is_some(),
    }
}

/// Until when the remote side may go on with a step by itself; for a person is waited as long as the run may take.
pub(super) fn patience(step: &StepStatus, plan: &StepPlan) -> Option<Timestamp> {
    let super::definition::CallPlan::Coze(coze) = &plan.call else { return None };
    let goes_on = |remote: &RemoteStatus| remote.execute_id.is_some() && remote.interrupt.is_none();
    let begun = step.start_time.as_ref().filter(|_| step.remote.as_ref().is_some_and(goes_on))?;
    Some(later(begun.0, SignedDuration::try_from(coze.patience).unwrap_or(SignedDuration::MAX)))
}

fn start(step: &mut StepStatus, uid: &str, now: Timestamp) {
    step.phase = Phase::Running;
    step.reason = Some(RunReason::Running);
    step.message = None;
    step.attempts = step.attempts.saturating_add(1).min(1000);
    step.start_time = Some(Time(now));
    step.next_attempt_time = None;
    step.idempotency_key.get_or_insert_with(|| key(uid, &step.name));
}

/// A step that is under way and cannot be asked for: its account keeps it waiting, or its request cannot be made.
fn carry_on(seen: &Seen, step: &mut StepStatus, plan: &StepPlan, now: Timestamp) {
    if step.reason == Some(RunReason::Interrupted) || seen.outcomes.contains_key(&step.name) {
        return;
    }
    match (seen.prepared.get(&step.name), wanting(seen, step, plan)) {
        (Some(Prepared::Refused(failure)), _) if failure.reason == RunReason::Interrupted => ask(step),
        (Some(Prepared::Refused(failure)), _) => after_failure(step, plan, failure, &seen.run.uid, now, None),
        (_, Some(why)) if !seen.prepared.contains_key(&step.name) => {
            (step.reason, step.message) = (Some(RunReason::AccountNotReady), Some(why));
        }
        (_, None) if step.reason == Some(RunReason::AccountNotReady) => {
            (step.reason, step.message) = (Some(RunReason::Running), None);
        }
        _ => {}
    }
}

/// Asks a person what the remote side asks.
fn ask(step: &mut StepStatus) {
    let Some(remote) = &mut step.remote else { return };
    let Some(interrupt) = &mut remote.interrupt else { return };
    interrupt.answered = false;
    let question = interrupt.question.as_ref().map(|question| format!(": {question}")).unwrap_or_default();
    let stale = remote.answer_digest.as_ref().map(
        |_| " What stands there was the answer to an earlier question: change it, or, to give the same again, remove it first.",
    );
    (step.phase, step.reason, step.next_attempt_time) = (Phase::Running, Some(RunReason::Interrupted), None);
    step.message = Some(format!(
        "The remote workflow waits for an answer{question}. Give it in the annotation oauth-operator.dev/resume-data of this run.{}",
        stale.unwrap_or_default()
    ));
}

/// One for each step of a run, the same for every attempt.
pub(super) fn key(uid: &str, step: &str) -> String {
    digest(&format!("{uid}/{step}"))
}

/// The first 32 hex digits of a text's SHA-256.
pub(super) fn digest(text: &str) -> String {
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn skip(step: &mut StepStatus, now: Timestamp) {
    step.phase = Phase::Completed;
    step.reason = Some(RunReason::Skipped);
    step.message = Some("when is false.".into());
    step.completion_time = Some(Time(now));
}

fn complete(step: &mut StepStatus, done: &Done, kept: &Kept, now: Timestamp) {
    if let Some(remote) = &done.remote {
        adopt(step, remote);
    }
    if let Some(remote) = &mut step.remote {
        remote.interrupt = None;
    }
    (step.phase, step.reason, step.message) = (Phase::Completed, Some(RunReason::Completed), None);
    step.doubtful = false;
    step.completion_time = Some(Time(now));
    step.http_status = done.http_status.map(i32::from);
    step.usage = done.usage;
    match kept {
        Kept::Inline { bytes } => (step.output, step.output_bytes) = (Some(done.output.clone()), Some(*bytes)),
        Kept::Secret(reference) => (step.output_ref, step.output_bytes) = (Some(reference.clone()), Some(reference.bytes)),
    }
}

/// What the remote side says now, over what it has said before.
fn adopt(step: &mut StepStatus, remote: &RemoteStatus) {
    let before = step.remote.take().unwrap_or_default();
    let remote = remote.clone();
    step.remote = Some(RemoteStatus {
        execute_id: remote.execute_id.or(before.execute_id),
        log_id: remote.log_id.or(before.log_id),
        debug_url: remote.debug_url.or(before.debug_url),
        state: remote.state.or(before.state),
        interrupt: remote.interrupt,
        answer_digest: before.answer_digest,
    });
}

fn fail(step: &mut StepStatus, reason: RunReason, message: &str, now: Timestamp) {
    step.phase = Phase::Failed;
    step.reason = Some(reason);
    step.message = Some(message.to_owned());
    step.next_attempt_time = None;
    step.completion_time = Some(Time(now));
}

/// Another attempt begins anew; but an answer to an interrupt is sent again.
fn again(step: &mut StepStatus, reason: RunReason, message: &str, next: Option<Timestamp>) {
    step.phase = Phase::Pending;
    step.reason = Some(reason);
    step.message = Some(message.to_owned());
    step.next_attempt_time = next.map(|next| Time(whole(next)));
    let remote = step.remote.take();
    step.remote = match remote {
        Some(remote) if remote.interrupt.is_some() => Some(remote),
        Some(RemoteStatus { answer_digest: Some(digest), .. }) => {
            Some(RemoteStatus { answer_digest: Some(digest), ..RemoteStatus::default() })
        }
        _ => None,
    };
}

fn after_failure(
    step: &mut StepStatus,
    plan: &StepPlan,
    failure: &Failure,
    uid: &str,
    now: Timestamp,
    deadline: Option<Timestamp>,
) {
    step.http_status = failure.http_status.map(i32::from).or(step.http_status);
    if let Some(remote) = &failure.remote {
        let asked = step.remote.as_ref().and_then(|remote| remote.interrupt.clone());
        adopt(step, &RemoteStatus { interrupt: asked, ..(**remote).clone() });
    }
    if failure.reason == RunReason::AccountNotReady && !failure.doubt {
        return wait_for_account(step, plan, failure, uid, now);
    }
    let doubt = failure.doubt || step.doubtful;
    let (repeat, most) = match (doubt, plan.delivery) {
        (false, _) => (failure.retry, plan.retries),
        (true, Delivery::AtMostOnce) => (false, 0),
        (true, Delivery::AtLeastOnce) => (true, plan.retries),
        (true, Delivery::Verify) => (true, plan.retries + VERIFICATIONS),
    };
    // What only reads has done nothing, whether it was answered or not.
    let unknown = doubt && !plan.call.is_safe();
    let reason = if unknown { RunReason::OutcomeUnknown } else { failure.reason };
    let next = later(now, wait(step, plan, uid).max(failure.retry_after.unwrap_or_default()));
    if repeat && step.attempts <= most && deadline.is_none_or(|deadline| next < deadline) {
        step.doubtful = doubt && plan.delivery == Delivery::Verify;
        let message = format!("Attempt {} failed, and is repeated: {}", step.attempts, failure.message);
        return again(step, failure.reason, &super::failure::shortened(message), Some(next));
    }
    let message = match (unknown, plan.delivery) {
        (true, Delivery::AtMostOnce) => {
            format!("{} It may have been carried out all the same, and delivery is AtMostOnce.", failure.message)
        }
        (true, _) => format!("{} It may have been carried out all the same.", failure.message),
        (false, _) if step.attempts > 1 => format!("{} That was attempt {}.", failure.message, step.attempts),
        (false, _) => failure.message.clone(),
    };
    fail(step, reason, &super::failure::shortened(message), now);
}

/// The account had a token when the step was due, and has none to send: the step waits as it did before, and that was no attempt.
fn wait_for_account(step: &mut StepStatus, plan: &StepPlan, failure: &Failure, uid: &str, now: Timestamp) {
    let doubtful = step.doubtful;
    let next = later(now, wait(step, plan, uid).max(ACCOUNT_PAUSE));
    if step.phase == Phase::Running {
        step.attempts = step.attempts.saturating_sub(1);
    }
    again(step, failure.reason, &failure.message, Some(next));
    step.doubtful = doubtful;
}

/// Between half and all of the doubled time, by the run and the attempt: the next leader computes the same.
fn wait(step: &StepStatus, plan: &StepPlan, uid: &str) -> SignedDuration {
    let (first, factor, most) = (plan.backoff.initial_seconds, plan.backoff.factor, plan.backoff.max_seconds);
    let exponent = step.attempts.saturating_sub(1).clamp(0, 16);
    let seconds = (f64::from(first) * f64::from(factor).powi(exponent)).min(f64::from(most.max(first)));
    let jitter = crate::account::fraction(uid, &format!("{} {}", step.name, step.attempts));
    SignedDuration::from_secs_f64(seconds * (0.5 + 0.5 * jitter))
}

fn later(moment: Timestamp, wait: SignedDuration) -> Timestamp {
    moment.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The whole second after a moment: a part of one is not stored, and nobody is asked before it is time.
fn whole(moment: Timestamp) -> Timestamp {
    let unit = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    moment.round(unit).unwrap_or(moment)
}

fn total(steps: &[StepStatus]) -> Option<Usage> {
    steps.iter().filter_map(|step| step.usage).reduce(|sum, usage| Usage {
        input_count: sum.input_count.saturating_add(usage.input_count).min(1 << 53),
        output_count: sum.output_count.saturating_add(usage.output_count).min(1 << 53),
        token_count: sum.token_count.saturating_add(usage.token_count).min(1 << 53),
    })
}

/// Whether a step's work goes on here.
pub(super) fn is_under_way(seen: &Seen, step: &str) -> bool {
    seen.live.contains(&Work::Step(step.to_owned()))
}
