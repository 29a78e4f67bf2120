//! A step is sent once for each time that it is announced, whatever comes between: a conflict, a lapse, a cancellation, a crash.

use super::play;
use crate::api::{Interrupt, Notice, Phase, RemoteStatus, RunReason, StepStatus, WorkflowRunStatus};
use crate::workflow::decide::{Next, decide};
use crate::workflow::definition::Definition;
use crate::workflow::failure::Failure;
use crate::workflow::progress::progress;
use crate::workflow::seen::{AccountState, Identity, Outcome, Prepared, Seen, Task, Work};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Arc;

const ME: &str = "operator-1/a-1";

/// A moment with a part of a second, as clocks have it.
fn now() -> Timestamp {
    Timestamp::new(1_800_000_000, 987_654_321).unwrap()
}

fn seen(step: &Value) -> Seen {
    let mut spec = json!({"steps": [{"name": "a", "http": {"method": "POST", "url": "https://api.example.com/a"}}]});
    json_patch::merge(&mut spec["steps"][0], step);
    let definition = Arc::new(Definition::of(&serde_json::from_value(spec).unwrap()).unwrap());
    let (input, digest) = (Arc::new(json!({})), "digest".to_owned());
    let task = Task { definition, workflow: None, generation: None, revision: None, input, digest };
    let run = Identity { uid: "uid".into(), created: now(), ..Identity::default() };
    Seen { run, me: ME.into(), task: Some(Ok(task)), ..Seen::default() }
}

/// What is known once everything is stored that is to be, and what is to be done then.
fn settled(mut seen: Seen) -> (Seen, Next) {
    for _ in 0..10 {
        match decide(&seen, now()) {
            Next::Record(status) => seen = seen.recorded(*status),
            next => return (seen, next),
        }
    }
    panic!("it does not come to rest");
}

fn call() -> Prepared {
    Prepared::Call(Arc::new(play::call()))
}

/// Announced by this process.
fn announced(step: &Value) -> Seen {
    let (mut seen, next) = settled(seen(step));
    assert_eq!(next, Next::Begin(Work::Preparing("a".into())));
    seen.prepared.insert("a".into(), call());
    let (seen, next) = settled(seen);
    assert_eq!(next, Next::Begin(Work::Step("a".into())));
    assert!(seen.may_send("a"));
    seen
}

/// The same status, as the API server shows it.
fn read(seen: &Seen) -> WorkflowRunStatus {
    serde_json::from_str(&serde_json::to_string(&seen.status).unwrap()).unwrap()
}

fn step(seen: &Seen) -> &StepStatus {
    &seen.status.steps[0]
}

#[test]
fn an_outcome_outlives_a_conflict() {
    let mut seen = announced(&json!({}));
    seen.outcomes.insert("a".into(), Outcome::Failed(Failure::new(RunReason::StepFailed, "no")));
    assert!(matches!(decide(&seen, now()), Next::Record(_)));
    // Somebody has labelled the run, and it was read again.
    let again = read(&seen);
    let (seen, next) = settled(seen.recorded(again));
    assert_eq!((step(&seen).phase, step(&seen).attempts, next), (Phase::Failed, 1, Next::Done));
}

#[test]
fn what_is_announced_is_sent_after_the_answer_to_that_was_lost() {
    let (mut seen, _) = settled(seen(&json!({})));
    seen.prepared.insert("a".into(), call());
    let Next::Record(status) = decide(&seen, now()) else { panic!("it is not announced") };
    assert!(!seen.may_send("a"), "not before it is stored");
    let stored = serde_json::from_value(serde_json::to_value(&*status).unwrap()).unwrap();
    let (seen, next) = settled(seen.recorded(stored));
    assert_eq!((step(&seen).attempts, next, seen.may_send("a")), (1, Next::Begin(Work::Step("a".into())), true));
}

#[test]
fn nobody_is_asked_before_the_time_that_the_server_wants() {
    let mut seen = announced(&json!({"retry": {"limit": 1, "backoff": {"initialSeconds": 1}}}));
    let limited = Failure::new(RunReason::RateLimited, "later").transient();
    let limited = Failure { retry_after: Some(SignedDuration::from_secs(7)), ..limited };
    seen.outcomes.insert("a".into(), Outcome::Failed(limited));
    let (seen, _) = settled(seen);
    let next = step(&seen).next_attempt_time.as_ref().unwrap().0;
    assert!(next >= now() + SignedDuration::from_secs(7), "{next}");
    assert_eq!(read(&seen), seen.status, "it is known as it is stored");
}

#[test]
fn what_was_not_sent_for_want_of_the_lease_is_no_attempt() {
    let mut seen = announced(&json!({}));
    seen.outcomes.insert("a".into(), Outcome::Withheld);
    seen.prepared.clear();
    let (seen, next) = settled(seen);
    let wanted = progress(&seen, now());
    assert_eq!((wanted.steps[0].phase, wanted.steps[0].attempts), (Phase::Pending, 0));
    assert_eq!(next, Next::Begin(Work::Preparing("a".into())));
}

#[test]
fn a_step_found_under_way_is_resolved_by_its_delivery() {
    let found = |delivery: &Value| {
        let mut seen = announced(delivery);
        (seen.me, seen.prepared) = ("operator-2/b-1".into(), [].into());
        settled(seen)
    };
    let (seen, next) = found(&json!({}));
    assert_eq!((step(&seen).phase, step(&seen).reason, next), (Phase::Failed, Some(RunReason::OutcomeUnknown), Next::Done));
    let (seen, next) = found(&json!({"delivery": "AtLeastOnce"}));
    assert_eq!((progress(&seen, now()).steps[0].phase, next), (Phase::Pending, Next::Begin(Work::Preparing("a".into()))));
    assert!(!seen.may_send("a"), "it is announced anew first");
    let verify = json!({"url": "https://api.example.com/verify"});
    let (seen, next) = found(&json!({"delivery": "Verify", "verify": verify}));
    assert_eq!((progress(&seen, now()).steps[0].doubtful, next), (true, Next::Begin(Work::Preparing("a".into()))));
}

#[test]
fn a_step_found_under_way_in_a_cancelled_run_is_told_of_it() {
    let hook = json!({"url": "https://api.example.com/cancel"});
    for (step_, cancellation) in [
        (json!({"delivery": "AtLeastOnce"}), Notice::NotSupported),
        (json!({"delivery": "AtLeastOnce", "onCancel": hook}), Notice::Pending),
        (json!({"onCancel": hook}), Notice::Pending),
    ] {
        let mut seen = announced(&step_);
        (seen.me, seen.prepared, seen.cancel) = ("operator-2/b-1".into(), [].into(), true);
        let (seen, _) = settled(seen);
        assert_eq!((step(&seen).phase, step(&seen).cancellation), (Phase::Cancelled, Some(cancellation)), "{step_}");
    }
}

#[test]
fn an_answer_to_an_interrupt_that_is_repeated_begins_no_other_run_there() {
    let coze = json!({"workflowID": "w", "accountRef": {"name": "coze"}});
    let mut seen = seen(&json!({"http": null, "coze": coze, "retry": {"limit": 1}}));
    seen.accounts.insert("coze".into(), AccountState::Ready);
    let mut seen = settled(seen).0;
    seen.prepared.insert("a".into(), call());
    let mut seen = settled(seen).0;
    let interrupt = Interrupt { event_id: "e".into(), kind: 2, question: None, answered: false };
    let remote = RemoteStatus { execute_id: Some("x".into()), interrupt: Some(interrupt), ..RemoteStatus::default() };
    seen.outcomes.insert("a".into(), Outcome::Interrupted(Box::new(remote)));
    seen.resume = Some("yes".into());
    let (mut seen, next) = settled(seen);
    assert_eq!(next, Next::Begin(Work::Preparing("a".into())), "the answer is sent");
    let limited = Failure::new(RunReason::RateLimited, "later").transient();
    let limited = Failure { remote: Some(Box::default()), ..limited };
    seen.outcomes.insert("a".into(), Outcome::Failed(limited));
    let (mut seen, _) = settled(seen);
    assert_eq!(step(&seen).phase, Phase::Pending);
    seen.prepared.insert("a".into(), call());
    let Next::Record(status) = decide(&seen, now() + SignedDuration::from_secs(60)) else { panic!("it is not repeated") };
    let remote = status.steps[0].remote.as_ref().unwrap();
    assert_eq!(
        (status.steps[0].phase, remote.interrupt.as_ref().map(|interrupt| interrupt.answered)),
        (Phase::Running, Some(true))
    );
}
