//! What a run's status should be now, by what is stored and what is known beside it. Pure.
//!
//! A step is Running in status before a byte of its request leaves, and is written as the work of one process
//! (`status.executor`). What is found Running of another process may or may not have been carried out: the step's `delivery`
//! says what is done about it.

use super::attempt::{adopt, after_failure, again, ask, complete, digest, fail, later, skip, start};
use super::definition::{CallPlan, Definition, StepPlan};
use super::ending::{cancelled, refused, unclear_now};
use super::report;
use super::seen::{AccountState, Kept, Outcome, Prepared, Seen, Task, Turn, Work};
use crate::api::{
    ConcurrencyPolicy, Delivery, Notice, OnError, Phase, RemoteStatus, RunReason, StepStatus, Usage, WorkflowRunStatus,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How long what a run names may be missing.
pub(super) const MISSING_FOR: SignedDuration = SignedDuration::from_mins(5);

/// A status on its way from what is stored to what should be.
pub(super) struct Progress<'a> {
    pub(super) seen: &'a Seen,
    pub(super) task: &'a Task,
    pub(super) now: Timestamp,
    pub(super) status: WorkflowRunStatus,
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

impl Progress<'_> {
    pub(super) fn definition(&self) -> &Definition {
        &self.task.definition
    }

    /// Whether nothing was sent yet.
    pub(super) fn is_untouched(&self) -> bool {
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
            // What it waited for before its first step does not count.
            let from = self.status.start_time.as_ref().map_or(now, |start| start.0);
            self.status.start_time.get_or_insert(Time(seen.begun.unwrap_or(now)));
            self.status.deadline_time.get_or_insert(Time(later(from, self.definition().timeout)));
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
    let CallPlan::Coze(coze) = &plan.call else { return None };
    let goes_on = |remote: &RemoteStatus| remote.execute_id.is_some() && remote.interrupt.is_none();
    let begun = step.start_time.as_ref().filter(|_| step.remote.as_ref().is_some_and(goes_on))?;
    Some(later(begun.0, SignedDuration::try_from(coze.patience).unwrap_or(SignedDuration::MAX)))
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
