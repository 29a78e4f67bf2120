//! What becomes of a run that nobody disturbs, and of one that fails, waits or is cancelled.

use super::play::{Play, done, failed, step};
use crate::api::{Interrupt, Notice, Phase, RemoteStatus, RunReason};
use crate::workflow::{AccountState, Failure, Next, Outcome, Turn, Unclear, Work};
use jiff::SignedDuration;
use serde_json::json;

fn chain() -> Play {
    Play::of(&json!({"steps": [step("a", &[], json!({})), step("b", &["a"], json!({})), step("c", &["b"], json!({}))]}))
}

fn lost() -> Failure {
    Failure::new(RunReason::StepFailed, "no answer").doubtful()
}

#[test]
fn a_chain_costs_one_write_a_step_and_one_more() {
    let mut play = chain();
    for step in ["a", "b", "c"] {
        assert!(matches!(play.rest(), Next::Wait(Some(_))));
        assert_eq!(play.under_way(), [step]);
        play.answer(step, done(json!(1)));
    }
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason(), play.writes), (Phase::Completed, "Completed", 4));
    assert_eq!(play.stored.progress.as_deref(), Some("3/3"));
    assert!(play.stored.completion_time.is_some());
}

#[test]
fn outputs_are_made_when_all_steps_have_ended() {
    let mut play = Play::of(&json!({"steps": [step("a", &[], json!({}))], "outputs": {"x": "${steps.a.output}"}}));
    play.rest();
    play.answer("a", done(json!(1)));
    play.rest();
    assert_eq!((play.stored.phase, play.stored.outputs.clone()), (Phase::Completed, Some(json!({"gives": 1}))));
}

#[test]
fn a_run_whose_first_step_is_skipped_has_a_deadline_too() {
    let waiting = json!({"http": {"url": "https://x.example", "accountRef": {"name": "acc"}}});
    let spec = json!({"timeoutSeconds": 60, "steps": [step("a", &[], json!({})), step("b", &["a"], waiting)]});
    let mut play = Play::of(&spec);
    play.skipped = vec!["a"];
    play.seen.accounts.insert("acc".into(), AccountState::NotReady("OAuthAccount acc waits.".into()));
    assert!(matches!(play.rest(), Next::Wait(Some(_))));
    assert_eq!((play.status("a").phase, play.stored.phase), (Phase::Completed, Phase::Running));
    play.later(60);
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "AccountNotReady"));
}

#[test]
fn after_a_deadline_nothing_is_waited_for_without_a_pause() {
    let spec = json!({"timeoutSeconds": 60, "steps": [step("a", &[], json!({}))], "outputs": {"x": "${steps.a.output}"}});
    let mut play = Play::of(&spec);
    play.rest();
    // What the run gives takes its time.
    play.seen.live.insert(Work::Conclusion);
    play.answer("a", done(json!(1)));
    assert!(matches!(play.rest(), Next::Wait(Some(_))));
    play.later(61);
    assert_eq!(play.rest(), Next::Wait(None));
}

#[test]
fn no_more_steps_are_under_way_than_may_be() {
    let steps: Vec<_> = (0..6).map(|n| step(&format!("s{n}"), &[], json!({}))).collect();
    let mut play = Play::of(&json!({"steps": steps, "parallelism": 2}));
    for _ in 0..3 {
        play.rest();
        let under_way = play.under_way();
        assert_eq!(under_way.len(), 2);
        under_way.iter().for_each(|step| play.answer(step, done(json!(null))));
    }
    assert_eq!(play.rest(), Next::Done);
}

#[test]
fn a_failure_is_repeated_as_often_as_it_may_and_not_before_its_time() {
    let mut play =
        Play::of(&json!({"steps": [step("a", &[], json!({"retry": {"limit": 2, "backoff": {"initialSeconds": 10}}}))]}));
    let busy = || failed(Failure::new(RunReason::RateLimited, "busy").transient());
    for attempt in 1..=2 {
        play.rest();
        play.answer("a", busy());
        let Next::Wait(Some(until)) = play.rest() else { panic!("waits") };
        let wait = until.duration_since(play.now).as_secs_f64();
        let most = 10.0 * f64::from(attempt);
        assert!((most / 2.0..=most).contains(&wait), "{wait}");
        assert!(play.under_way().is_empty());
        play.now = until;
    }
    play.rest();
    play.answer("a", busy());
    play.rest();
    assert_eq!((play.stored.phase, play.reason(), play.times("a")), (Phase::Failed, "RateLimited", 3));
    let keys = &play.sent["a"];
    assert!(keys.iter().all(|key| *key == keys[0]), "one key for every attempt");
}

#[test]
fn what_the_server_asks_for_is_waited_for_and_no_longer_than_the_run_lasts() {
    let spec = json!({"timeoutSeconds": 100, "steps": [step("a", &[], json!({"retry": {"limit": 5}}))]});
    for (asked, phase) in [(50, Phase::Running), (200, Phase::Failed)] {
        let mut play = Play::of(&spec);
        play.rest();
        let limited = Failure::new(RunReason::RateLimited, "busy").transient();
        play.answer("a", failed(Failure { retry_after: Some(SignedDuration::from_secs(asked)), ..limited }));
        play.rest();
        assert_eq!(play.stored.phase, phase, "{asked}");
    }
}

#[test]
fn a_failure_ends_what_is_under_way_or_what_depends_on_it() {
    let steps = json!([step("a", &[], json!({})), step("b", &[], json!({})), step("c", &["a"], json!({}))]);
    let no = || failed(Failure::new(RunReason::StepFailed, "no"));
    let mut play = Play::of(&json!({"steps": steps}));
    play.rest();
    play.answer("a", no());
    assert_eq!(play.rest(), Next::Done);
    assert_eq!(
        (play.stored.phase, play.status("b").phase, play.status("c").phase),
        (Phase::Failed, Phase::Cancelled, Phase::Cancelled)
    );
    assert_eq!(play.status("b").cancellation, Some(Notice::NotSupported), "its POST was under way");
    assert_eq!(play.status("c").cancellation, None);

    let mut play = Play::of(&json!({"steps": steps, "failFast": false}));
    play.rest();
    play.answer("a", no());
    play.rest();
    assert_eq!(play.under_way(), ["b"], "it goes on");
    play.answer("b", done(json!(1)));
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.status("b").phase), (Phase::Failed, Phase::Completed));
    assert_eq!(play.status("c").reason, Some(RunReason::DependencyFailed));
}

#[test]
fn a_failure_that_may_be_is_passed_over() {
    let mut play = Play::of(&json!({"steps": [step("a", &[], json!({"onError": "Continue"})), step("b", &["a"], json!({}))]}));
    play.rest();
    play.answer("a", failed(Failure::new(RunReason::StepFailed, "no")));
    play.rest();
    play.answer("b", done(json!(1)));
    play.rest();
    assert_eq!((play.stored.phase, play.status("a").phase), (Phase::Completed, Phase::Failed));
}

#[test]
fn a_lost_answer_means_what_delivery_says() {
    let with = |delivery: &str| {
        let verify = (delivery == "Verify").then(|| json!({"url": "https://api.example.com/v"}));
        let mut patch = json!({"delivery": delivery, "retry": {"limit": 1}});
        patch.as_object_mut().unwrap().extend(verify.map(|verify| ("verify".to_owned(), verify)));
        let mut play = Play::of(&json!({"steps": [step("a", &[], patch)]}));
        play.rest();
        play.answer("a", failed(lost()));
        play.rest();
        play.later(600);
        play.rest();
        play
    };
    let play = with("AtMostOnce");
    assert_eq!((play.stored.phase, play.reason(), play.times("a")), (Phase::Failed, "OutcomeUnknown", 1));
    let play = with("AtLeastOnce");
    assert_eq!((play.under_way(), play.times("a")), (vec!["a".to_owned()], 2));
    let mut play = with("Verify");
    assert!(play.status("a").doubtful, "verify is asked now");
    play.answer("a", Outcome::NotCarriedOut);
    play.rest();
    assert!(!play.status("a").doubtful && play.under_way() == ["a"], "and the request is sent again");
    play.answer("a", done(json!(1)));
    play.rest();
    assert_eq!(play.stored.phase, Phase::Completed);
}

#[test]
fn an_account_that_is_not_ready_is_waited_for_until_the_run_is_too_old() {
    let spec = json!({"timeoutSeconds": 60, "steps": [step("a", &[], json!({"http": {"url": "https://x.example", "accountRef": {"name": "acc"}}}))]});
    let not_ready = || [("acc".to_owned(), AccountState::NotReady("OAuthAccount acc is not Ready.".into()))];
    let mut play = Play::of(&spec);
    play.seen.accounts = not_ready().into();
    assert!(matches!(play.rest(), Next::Wait(Some(_))));
    assert_eq!((play.stored.phase, play.reason(), play.times("a")), (Phase::Pending, "AccountNotReady", 0));
    play.seen.accounts = [("acc".to_owned(), AccountState::Ready)].into();
    play.rest();
    assert_eq!((play.under_way(), play.reason()), (vec!["a".to_owned()], "Running"));

    let mut play = Play::of(&spec);
    play.seen.accounts = not_ready().into();
    play.rest();
    play.later(60);
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "AccountNotReady"));
}

#[test]
fn a_run_that_takes_too_long_ends_wherever_it_is() {
    let mut play = Play::of(&json!({"timeoutSeconds": 60, "steps": [step("a", &[], json!({}))]}));
    let Next::Wait(Some(until)) = play.rest() else { panic!("waits") };
    assert_eq!(until.duration_since(play.now).as_secs(), 60);
    play.now = until;
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "Timeout"));
    assert!(play.seen.live.is_empty(), "its request is ended");
}

#[test]
fn a_cancelled_run_tells_the_remote_side_before_it_ends() {
    let hook = json!({"onCancel": {"method": "POST", "url": "https://api.example.com/cancel"}});
    let mut play = Play::of(&json!({"steps": [step("a", &[], hook), step("b", &[], json!({})), step("c", &["a"], json!({}))]}));
    play.rest();
    play.seen.cancel = true;
    play.rest();
    assert_eq!(play.told, [Work::Cancellation("a".into())]);
    assert!(!play.stored.phase.is_final() && play.reason() == "CancelledByUser");
    play.seen.live.clear();
    play.seen.cancellations.insert("a".into(), true);
    assert_eq!(play.rest(), Next::Done);
    assert_eq!(play.stored.phase, Phase::Cancelled);
    let notices = ["a", "b", "c"].map(|name| play.status(name).cancellation);
    assert_eq!(notices, [Some(Notice::Delivered), Some(Notice::NotSupported), None]);
}

#[test]
fn a_run_is_cancelled_before_it_has_begun() {
    let mut play = chain();
    play.seen.cancel = true;
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason(), play.times("a")), (Phase::Cancelled, "CancelledByUser", 0));
}

#[test]
fn whoever_is_to_know_of_the_end_is_told_once() {
    let mut play = Play::of(&json!({"steps": [step("a", &[], json!({}))], "onComplete": {"url": "https://hook.example.com/x"}}));
    play.rest();
    play.answer("a", done(json!(1)));
    play.rest();
    assert_eq!((play.stored.phase, play.stored.completion), (Phase::Completed, Some(Notice::Pending)));
    assert_eq!(play.told, [Work::Completion]);
    play.restart();
    play.rest();
    assert_eq!(play.told.len(), 2, "the process that was to tell is no more");
    play.seen.live.clear();
    play.seen.completion = Some(false);
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.stored.completion), (Phase::Completed, Some(Notice::Failed)));
}

#[test]
fn a_run_waits_for_its_turn_and_gives_its_place_away() {
    let mut play = chain();
    play.seen.turn = Turn::After("other".into());
    assert!(matches!(play.rest(), Next::Wait(Some(_))));
    assert_eq!((play.stored.phase, play.times("a")), (Phase::Pending, 0));
    assert!(play.stored.conditions[0].message.contains("other"));
    play.seen.turn = Turn::Go;
    play.rest();
    assert_eq!(play.under_way(), ["a"]);
    play.seen.turn = Turn::ReplacedBy("newer".into());
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Cancelled, "Replaced"));
}

#[test]
fn what_is_missing_is_waited_for_and_what_is_wrong_is_not() {
    let mut play = chain();
    play.turn();
    play.unclear(Unclear::Missing("Workflow w does not exist".into()));
    let Next::Wait(Some(until)) = play.rest() else { panic!("waits") };
    assert_eq!((play.stored.phase, play.reason()), (Phase::Pending, "Pending"));
    play.now = until;
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "InvalidDefinition"));
    let mut play = chain();
    play.turn();
    play.unclear(Unclear::Refused("steps: a → a".into()));
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "InvalidDefinition"));
}

fn at_coze() -> Play {
    let coze = json!({"workflowID": "7", "baseURL": "https://c.example", "mode": "Async", "accountRef": {"name": "acc"}, "poll": {"timeoutSeconds": 100}});
    let mut play = Play::of(&json!({"steps": [{"name": "a", "coze": coze}]}));
    play.rest();
    play
}

#[test]
fn a_run_that_goes_on_at_coze_is_asked_for_and_not_begun_again() {
    let mut play = at_coze();
    let begun = RemoteStatus { execute_id: Some("e".into()), log_id: Some("l".into()), ..RemoteStatus::default() };
    play.answer("a", Outcome::Accepted(Box::new(begun)));
    play.rest();
    assert_eq!((play.under_way(), play.times("a")), (vec!["a".to_owned()], 2), "the second asks how it goes");
    play.restart();
    play.rest();
    assert_eq!(play.status("a").phase, Phase::Running);
    assert_eq!((play.under_way().len(), play.status("a").attempts), (1, 1));
    play.answer("a", done(json!("end")));
    play.rest();
    assert_eq!((play.stored.phase, play.status("a").remote.clone().unwrap().log_id.as_deref()), (Phase::Completed, Some("l")));

    let mut play = at_coze();
    play.answer("a", Outcome::Accepted(Box::new(RemoteStatus { execute_id: Some("e".into()), ..RemoteStatus::default() })));
    play.rest();
    play.later(100);
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "Timeout"));
}

#[test]
fn a_person_is_asked_and_each_answer_is_given_once() {
    let interrupt = |event: &str| {
        let interrupt = Interrupt { event_id: event.into(), kind: 2, question: Some("which?".into()), answered: false };
        Outcome::Interrupted(Box::new(RemoteStatus { interrupt: Some(interrupt), ..RemoteStatus::default() }))
    };
    let mut play = at_coze();
    play.answer("a", interrupt("one"));
    assert!(matches!(play.rest(), Next::Wait(Some(_))));
    assert_eq!((play.reason(), play.times("a")), ("Interrupted", 1));
    play.restart();
    play.rest();
    assert_eq!((play.reason(), play.times("a")), ("Interrupted", 1), "it waits on");
    play.seen.resume = Some("red".into());
    play.rest();
    assert_eq!((play.reason(), play.times("a")), ("Running", 2));
    play.answer("a", interrupt("two"));
    play.rest();
    assert_eq!((play.reason(), play.times("a")), ("Interrupted", 2), "the old answer is not one to this");
    play.seen.resume = Some("blue".into());
    play.rest();
    assert_eq!(play.times("a"), 3);
    play.later(3600);
    play.rest();
    assert_eq!(play.stored.phase, Phase::Failed);
}
