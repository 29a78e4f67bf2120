//! A process dies before and after each of its steps, and another one takes the run up.

use super::play::{Play, done, step};
use crate::api::{Phase, RunReason};
use crate::workflow::{Next, Outcome};
use serde_json::{Value, json};

fn alone(delivery: &str) -> Play {
    let mut patch = json!({"delivery": delivery});
    if delivery == "Verify" {
        patch["verify"] = json!({"url": "https://api.example.com/v"});
    }
    Play::of(&json!({"steps": [step("a", &[], patch)]}))
}

/// As far as the first request is under way.
fn sent(delivery: &str) -> Play {
    let mut play = alone(delivery);
    play.rest();
    assert_eq!(play.times("a"), 1);
    play
}

#[test]
fn before_anything_was_written_nothing_is_lost() {
    for delivery in ["AtMostOnce", "AtLeastOnce", "Verify"] {
        let mut play = alone(delivery);
        while !matches!(play.turn(), Next::Begin(_)) {}
        play.restart();
        play.rest();
        assert_eq!((play.times("a"), play.status("a").attempts), (1, 1), "{delivery}");
    }
}

#[test]
fn after_the_write_ahead_delivery_says_what_is_done() {
    for (delivery, phase, times) in
        [("AtMostOnce", Phase::Failed, 1), ("AtLeastOnce", Phase::Running, 2), ("Verify", Phase::Running, 2)]
    {
        let mut play = sent(delivery);
        play.restart();
        play.rest();
        assert_eq!((play.status("a").phase, play.times("a")), (phase, times), "{delivery}");
        assert_eq!(play.status("a").doubtful, delivery == "Verify");
        assert!(play.sent["a"].iter().all(|key| *key == play.sent["a"][0]), "{delivery}");
    }
    let mut play = sent("AtMostOnce");
    play.restart();
    assert_eq!(play.rest(), Next::Done);
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "OutcomeUnknown"));
}

#[test]
fn an_answer_that_was_not_stored_is_not_known() {
    let mut play = sent("AtMostOnce");
    play.answer("a", done(json!(1)));
    play.restart();
    play.rest();
    assert_eq!(play.status("a").reason, Some(RunReason::OutcomeUnknown));
    let mut play = sent("Verify");
    play.answer("a", done(json!(1)));
    play.restart();
    play.rest();
    play.answer("a", done(json!("as verify tells")));
    play.rest();
    assert_eq!((play.stored.phase, play.times("a")), (Phase::Completed, 2));
}

#[test]
fn a_write_whose_answer_is_lost_is_found_and_goes_on() {
    let mut play = alone("AtMostOnce");
    let written = loop {
        if let Next::Record(status) = play.turn()
            && status.steps.iter().any(|step| step.phase == Phase::Running)
        {
            break status;
        }
    };
    // As `record` does after an error: what is stored is read, and it is our own.
    play.seen = std::mem::take(&mut play.seen).recorded(*written);
    play.rest();
    assert_eq!((play.times("a"), play.status("a").phase), (1, Phase::Running), "sent, and sent once");
}

#[test]
fn a_write_that_did_not_come_through_sends_nothing() {
    let mut play = alone("AtMostOnce");
    loop {
        let before = play.stored.clone();
        if let Next::Record(status) = crate::workflow::decide(&play.seen, play.now)
            && status.steps.iter().any(|step| step.phase == Phase::Running)
        {
            // Somebody else has changed the object: it is read again, and still not Running.
            play.seen = std::mem::take(&mut play.seen).recorded(before);
            break;
        }
        play.turn();
    }
    assert_eq!(play.times("a"), 0);
    play.rest();
    assert_eq!(play.times("a"), 1);
}

#[test]
fn what_a_rival_has_written_is_not_taken_for_ones_own() {
    let mut play = sent("AtMostOnce");
    let mut theirs = play.stored.clone();
    theirs.executor = Some("rival".into());
    play.seen.live.clear();
    play.store(theirs);
    play.rest();
    assert_eq!((play.times("a"), play.status("a").reason), (1, Some(RunReason::OutcomeUnknown)));
}

#[test]
fn verify_that_nobody_answers_ends_too() {
    let mut play = sent("Verify");
    play.restart();
    for _ in 0..20 {
        if play.rest() == Next::Done {
            break;
        }
        if !play.under_way().is_empty() {
            let failure = crate::workflow::Failure::new(RunReason::StepFailed, "no answer").transient();
            play.answer("a", Outcome::Failed(failure));
        }
        play.later(120);
    }
    assert_eq!((play.stored.phase, play.reason()), (Phase::Failed, "OutcomeUnknown"));
    assert!(play.times("a") < 10, "{}", play.times("a"));
}

#[test]
fn a_finished_step_is_never_sent_again() {
    let two: Value = json!({"steps": [step("a", &[], json!({})), step("b", &["a"], json!({}))]});
    let mut play = Play::of(&two);
    play.rest();
    play.answer("a", done(json!(1)));
    play.rest();
    for _ in 0..3 {
        play.restart();
        play.rest();
    }
    assert_eq!((play.times("a"), play.times("b")), (1, 1));
    assert_eq!(play.status("a").phase, Phase::Completed);
}
