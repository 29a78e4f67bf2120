//! What to do next for a run. Pure.

use super::definition::Definition;
use super::progress::{MISSING_FOR, goes_on_there, is_due, is_under_way, patience, progress, wanting};
use super::seen::{Prepared, Seen, Turn, Unclear, Work};
use crate::api::{Notice, Phase, RemoteStatus, StepStatus, WorkflowRunStatus};
use jiff::{SignedDuration, Timestamp};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Find out what is to be run, with which input.
    Understand,
    /// Write this in place of the status that is stored.
    Record(Box<WorkflowRunStatus>),
    /// End this work: nobody waits for what comes of it.
    Abort(Work),
    /// Begin this work.
    Begin(Work),
    /// Nothing, until work ends, something changes, or this moment comes.
    Wait(Option<Timestamp>),
    /// Nothing any more.
    Done,
}

/// How long what came of a request is held back so that what follows from it, and what comes of the requests beside it, is told in
/// the same write. A process that dies in that time would have died a moment later for the write itself.
const TOGETHER: SignedDuration = SignedDuration::from_millis(20);

/// What to do next, by what is known now.
pub fn decide(seen: &Seen, now: Timestamp) -> Next {
    if seen.gone {
        return seen.live.first().cloned().map_or(Next::Done, Next::Abort);
    }
    let hopeless = seen.status.steps.is_empty() && seen.cancel;
    if seen.task.is_none() && !hopeless && needs_task(&seen.status) {
        return Next::Understand;
    }
    let wanted = progress(seen, now);
    if wanted != seen.status {
        return ahead(seen, &wanted, now).unwrap_or_else(|| Next::Record(Box::new(wanted)));
    }
    if let Some(work) = seen.live.iter().find(|work| !is_wanted(seen, work)) {
        return Next::Abort(work.clone());
    }
    if let Some(work) = hook(seen) {
        return if seen.live.contains(&work) { Next::Wait(None) } else { Next::Begin(work) };
    }
    if seen.status.phase.is_final() {
        return Next::Done;
    }
    let Some(definition) = seen.definition() else { return Next::Wait(missing_until(seen)) };
    if let Some(work) = sending(seen, definition).or_else(|| preparing(seen, &seen.status, definition, now)) {
        return Next::Begin(work);
    }
    Next::Wait(next_moment(seen, definition, now))
}

/// What can be made ready before a status is stored, and how long that is waited for.
fn ahead(seen: &Seen, wanted: &WorkflowRunStatus, now: Timestamp) -> Option<Next> {
    let definition = seen.definition().filter(|_| !wanted.phase.is_final())?;
    if let Some(work) = preparing(seen, wanted, definition, now) {
        return Some(Next::Begin(work));
    }
    let making = seen.live.iter().any(|work| matches!(work, Work::Preparing(_) | Work::Step(_) | Work::Conclusion));
    let until = seen.news.and_then(|news| news.checked_add(TOGETHER).ok())?;
    (making && now < until).then_some(Next::Wait(Some(until)))
}

/// Whether what is to be done depends on the definition.
fn needs_task(status: &WorkflowRunStatus) -> bool {
    !status.phase.is_final() || status.completion == Some(Notice::Pending)
}

/// Somebody who is to be told and was not yet: that a step was cancelled, then that the run has ended.
fn hook(seen: &Seen) -> Option<Work> {
    seen.definition()?;
    let cancelled = seen
        .status
        .steps
        .iter()
        .find(|step| step.cancellation == Some(Notice::Pending) && !seen.cancellations.contains_key(&step.name));
    let cancelled = cancelled.map(|step| Work::Cancellation(step.name.clone()));
    let ended = seen.status.completion == Some(Notice::Pending) && seen.completion.is_none();
    cancelled.or(ended.then_some(Work::Completion))
}

/// A step that is stored as Running and has nothing under way: its request is sent, or made ready.
fn sending(seen: &Seen, definition: &Definition) -> Option<Work> {
    let steps = seen.status.steps.iter().zip(&definition.steps);
    let idle = steps.filter(|(step, _)| !seen.is_busy(&step.name) && !seen.outcomes.contains_key(&step.name));
    let mut running = idle.filter(|(step, _)| step.phase == Phase::Running && !awaits_a_person(step));
    running.find_map(|(step, plan)| match seen.prepared.get(&step.name) {
        Some(Prepared::Call(_)) => Some(Work::Step(step.name.clone())),
        None if wanting(seen, step, plan).is_none() => Some(Work::Preparing(step.name.clone())),
        // Status says first what is wrong.
        _ => None,
    })
}

/// A step whose request is to be made ready, or what the run gives, by a status that is stored or is about to be.
fn preparing(seen: &Seen, status: &WorkflowRunStatus, definition: &Definition, now: Timestamp) -> Option<Work> {
    if seen.turn != Turn::Go {
        return None;
    }
    let steps = &status.steps;
    if steps.iter().all(|step| step.phase.is_final()) {
        let wanted = definition.outputs.is_some() && seen.conclusion.is_none() && !seen.live.contains(&Work::Conclusion);
        return wanted.then_some(Work::Conclusion);
    }
    let taken = |step: &&StepStatus| step.phase == Phase::Running || seen.is_busy(&step.name) || ready(seen, step);
    if steps.iter().filter(taken).count() >= definition.parallelism {
        return None;
    }
    let due = steps.iter().zip(&definition.steps).enumerate().find(|(index, (step, plan))| {
        !seen.is_busy(&step.name)
            && !seen.prepared.contains_key(&step.name)
            && is_due(status, definition, *index, now)
            && wanting(seen, step, plan).is_none()
    });
    due.map(|(_, (step, _))| Work::Preparing(step.name.clone()))
}

/// Whether a step has a request that waits to be sent.
fn ready(seen: &Seen, step: &StepStatus) -> bool {
    matches!(seen.prepared.get(&step.name), Some(Prepared::Call(_)))
}

fn awaits_a_person(step: &StepStatus) -> bool {
    let interrupt = step.remote.as_ref().and_then(|remote: &RemoteStatus| remote.interrupt.as_ref());
    interrupt.is_some_and(|interrupt| !interrupt.answered)
}

/// Whether what goes on still belongs to what is stored.
fn is_wanted(seen: &Seen, work: &Work) -> bool {
    let step = |name: &str| seen.status.steps.iter().find(|step| step.name == name);
    match work {
        Work::Step(name) => step(name).is_some_and(|step| step.phase == Phase::Running),
        Work::Preparing(name) => step(name).is_some_and(|step| !step.phase.is_final()) && !seen.status.phase.is_final(),
        Work::Cancellation(name) => step(name).is_some_and(|step| step.cancellation == Some(Notice::Pending)),
        Work::Conclusion => !seen.status.phase.is_final(),
        Work::Completion => seen.status.completion == Some(Notice::Pending),
    }
}

fn missing_until(seen: &Seen) -> Option<Timestamp> {
    matches!(seen.task, Some(Err(Unclear::Missing(_))))
        .then(|| seen.run.created.checked_add(MISSING_FOR).unwrap_or(Timestamp::MAX))
}

/// When something is to be done although nothing happens.
fn next_moment(seen: &Seen, definition: &Definition, now: Timestamp) -> Option<Timestamp> {
    let waiting = seen.status.steps.iter().filter(|step| step.phase == Phase::Pending);
    let attempts = waiting.filter_map(|step| step.next_attempt_time.as_ref().map(|next| next.0));
    let there = seen.status.steps.iter().zip(&definition.steps);
    let there = there.filter(|(step, _)| step.phase == Phase::Running && goes_on_there(step));
    let limits = there.filter_map(|(step, plan)| patience(step, plan));
    let deadline = seen.status.deadline_time.as_ref().map(|deadline| deadline.0);
    let deadline = deadline.or_else(|| seen.run.created.checked_add(definition.timeout).ok());
    attempts.chain(limits).chain(deadline).filter(|moment| *moment > now).min()
}

/// A status as it will be read: moments have whole seconds there. What differs only by that is the same attempt, whose outcome
/// would be lost and whose request sent again.
fn as_stored(status: WorkflowRunStatus) -> WorkflowRunStatus {
    let stored = serde_json::to_value(&status).and_then(serde_json::from_value);
    stored.unwrap_or(status)
}

impl Seen {
    /// What is known when this status is stored: what it tells of needs no telling again.
    #[must_use]
    pub fn recorded(mut self, status: WorkflowRunStatus) -> Self {
        let before = std::mem::replace(&mut self.status, as_stored(status));
        for (was, is) in before.steps.iter().zip(&self.status.steps) {
            if was == is {
                continue;
            }
            self.outcomes.remove(&is.name);
            // A request is made ready for one attempt; one that goes on at the remote side is asked in another way.
            let begins = was.phase == Phase::Pending && is.phase == Phase::Running;
            if !begins {
                self.prepared.remove(&is.name);
            }
            if is.cancellation != Some(Notice::Pending) {
                self.cancellations.remove(&is.name);
            }
        }
        if self.status.completion != Some(Notice::Pending) {
            self.completion = None;
        }
        self.news = None;
        self
    }

    /// Whether a step's request may be sent now: what is stored says so, and that it is ours.
    pub fn may_send(&self, step: &str) -> bool {
        let stored = self.status.steps.iter().find(|there| there.name == step);
        self.status.executor.as_deref() == Some(&self.me)
            && stored.is_some_and(|there| there.phase == Phase::Running)
            && !is_under_way(self, step)
    }
}
