//! One step's attempts: how each begins, what it comes to, and when there is another one. Pure.

use super::answer::Done;
use super::definition::StepPlan;
use super::failure::{Failure, shortened};
use super::seen::Kept;
use crate::api::{Delivery, Phase, RemoteStatus, RunReason, StepStatus};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

/// How often a request `verify` is sent beside the step's own attempts.
const VERIFICATIONS: i32 = 5;

/// How long is waited at least before an account is asked again that is Ready and has no token.
const ACCOUNT_PAUSE: SignedDuration = SignedDuration::from_secs(5);

pub(super) fn start(step: &mut StepStatus, uid: &str, now: Timestamp) {
    step.phase = Phase::Running;
    step.reason = Some(RunReason::Running);
    step.message = None;
    step.attempts = step.attempts.saturating_add(1).min(1000);
    step.start_time = Some(Time(now));
    step.next_attempt_time = None;
    step.idempotency_key.get_or_insert_with(|| key(uid, &step.name));
}

/// Asks a person what the remote side asks.
pub(super) fn ask(step: &mut StepStatus) {
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

pub(super) fn skip(step: &mut StepStatus, now: Timestamp) {
    step.phase = Phase::Completed;
    step.reason = Some(RunReason::Skipped);
    step.message = Some("when is false.".into());
    step.completion_time = Some(Time(now));
}

pub(super) fn complete(step: &mut StepStatus, done: &Done, kept: &Kept, now: Timestamp) {
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
pub(super) fn adopt(step: &mut StepStatus, remote: &RemoteStatus) {
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

pub(super) fn fail(step: &mut StepStatus, reason: RunReason, message: &str, now: Timestamp) {
    step.phase = Phase::Failed;
    step.reason = Some(reason);
    step.message = Some(message.to_owned());
    step.next_attempt_time = None;
    step.completion_time = Some(Time(now));
}

/// Another attempt begins anew; but an answer to an interrupt is sent again.
pub(super) fn again(step: &mut StepStatus, reason: RunReason, message: &str, next: Option<Timestamp>) {
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

pub(super) fn after_failure(
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
        return again(step, failure.reason, &shortened(message), Some(next));
    }
    let message = match (unknown, plan.delivery) {
        (true, Delivery::AtMostOnce) => {
            format!("{} It may have been carried out all the same, and delivery is AtMostOnce.", failure.message)
        }
        (true, _) => format!("{} It may have been carried out all the same.", failure.message),
        (false, _) if step.attempts > 1 => format!("{} That was attempt {}.", failure.message, step.attempts),
        (false, _) => failure.message.clone(),
    };
    fail(step, reason, &shortened(message), now);
}

/// The account had a token when the step was due, and has none to send: the step waits as it did before, and that was no attempt.
pub(super) fn wait_for_account(step: &mut StepStatus, plan: &StepPlan, failure: &Failure, uid: &str, now: Timestamp) {
    let doubtful = step.doubtful;
    let next = later(now, wait(step, plan, uid).max(ACCOUNT_PAUSE));
    if step.phase == Phase::Running {
        step.attempts = step.attempts.saturating_sub(1);
    }
    again(step, failure.reason, &failure.message, Some(next));
    step.doubtful = doubtful;
}

/// Between half and all of the doubled time, by the run and the attempt: the next leader computes the same.
pub(super) fn wait(step: &StepStatus, plan: &StepPlan, uid: &str) -> SignedDuration {
    let (first, factor, most) = (plan.backoff.initial_seconds, plan.backoff.factor, plan.backoff.max_seconds);
    let exponent = step.attempts.saturating_sub(1).clamp(0, 16);
    let seconds = (f64::from(first) * f64::from(factor).powi(exponent)).min(f64::from(most.max(first)));
    let jitter = crate::account::fraction(uid, &format!("{} {}", step.name, step.attempts));
    SignedDuration::from_secs_f64(seconds * (0.5 + 0.5 * jitter))
}

pub(super) fn later(moment: Timestamp, wait: SignedDuration) -> Timestamp {
    moment.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The whole second after a moment: a part of one is not stored, and nobody is asked before it is time.
pub(super) fn whole(moment: Timestamp) -> Timestamp {
    let unit = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    moment.round(unit).unwrap_or(moment)
}
