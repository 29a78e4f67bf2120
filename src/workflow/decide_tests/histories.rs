//! Random histories: graphs of steps of every delivery, answers, lost answers, lost writes, deaths of the process, cancellation.

use super::play::{Play, done, failed, step};
use crate::api::{Phase, RunReason, WorkflowRunStatus};
use crate::workflow::{Failure, Next, Outcome, Work, decide};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn graph(dice: &mut Dice) -> Value {
    let count = 2 + dice.roll(5);
    let steps: Vec<_> = (0..count)
        .map(|n| {
            let before: Vec<String> = (0..n).filter(|_| dice.roll(3) == 0).map(|n| format!("s{n}")).collect();
            let before: Vec<&str> = before.iter().map(String::as_str).collect();
            let delivery = ["AtMostOnce", "AtLeastOnce", "Verify"][dice.roll(3) as usize];
            let mut patch = json!({"delivery": delivery, "retry": {"limit": dice.roll(3)}});
            if delivery == "Verify" {
                patch["verify"] = json!({"url": "https://api.example.com/v"});
            }
            if dice.roll(3) == 0 {
                patch["onError"] = json!("Continue");
            }
            if dice.roll(4) == 0 {
                patch["onCancel"] = json!({"url": "https://api.example.com/c"});
            }
            step(&format!("s{n}"), &before, patch)
        })
        .collect();
    let mut spec = json!({"steps": steps, "parallelism": 1 + dice.roll(3), "failFast": dice.roll(2) == 0});
    if dice.roll(2) == 0 {
        spec["outputs"] = json!({"x": "${steps.s0.output}"});
    }
    if dice.roll(2) == 0 {
        spec["onComplete"] = json!({"url": "https://api.example.com/h"});
    }
    spec
}

fn outcome(dice: &mut Dice, doubtful: bool) -> Outcome {
    match dice.roll(8) {
        0..=3 => done(json!(1)),
        4 => failed(Failure::new(RunReason::StepFailed, "no")),
        5 => failed(Failure::new(RunReason::RateLimited, "busy").transient()),
        6 => failed(Failure::new(RunReason::StepFailed, "no answer").doubtful()),
        _ if doubtful => Outcome::NotCarriedOut,
        _ => done(json!(2)),
    }
}

/// Steps whose requests may have been carried out though nobody knows, and what each of them may do after that.
#[derive(Default)]
struct Doubts(BTreeSet<String>);

fn check(before: &WorkflowRunStatus, after: &WorkflowRunStatus) {
    for (was, is) in before.steps.iter().zip(&after.steps) {
        if was.phase.is_final() {
            assert_eq!((was.phase, &was.output), (is.phase, &is.output), "what has ended stays ended");
        }
        assert!(is.attempts >= was.attempts);
        assert!(was.idempotency_key.is_none() || was.idempotency_key == is.idempotency_key);
    }
    if before.phase.is_final() {
        assert_eq!(before.phase, after.phase);
    }
}

/// One move: of the process, or of the world around it.
fn step_of_history(play: &mut Play, dice: &mut Dice, doubts: &mut Doubts, trouble: bool) -> bool {
    let before = play.stored.clone();
    if trouble && dice.roll(20) == 0 {
        doubts.0.extend(play.under_way());
        doubts.0.extend(play.seen.outcomes.keys().cloned());
        play.restart();
        return true;
    }
    if trouble && dice.roll(200) == 0 {
        play.seen.cancel = true;
    }
    let next = decide(&play.seen, play.now);
    match &next {
        // A write that does not come through, or whose answer does not.
        Next::Record(status) if trouble && dice.roll(6) == 0 => {
            if dice.roll(2) == 0 {
                play.store((**status).clone());
            } else {
                play.seen = std::mem::take(&mut play.seen).recorded(before.clone());
            }
        }
        Next::Begin(Work::Step(step)) => {
            let at_most_once = play.definition.step(step).unwrap().delivery == crate::api::Delivery::AtMostOnce;
            assert!(!(at_most_once && doubts.0.contains(step)), "{step} is sent again though it may have been carried out");
            let dependencies = play.definition.graph.index(step).map(|index| play.definition.graph.dependencies(index).to_vec());
            for dependency in dependencies.unwrap_or_default() {
                let there = &play.stored.steps[dependency];
                assert!(matches!(there.phase, Phase::Completed | Phase::Failed), "{step} is sent before {}", there.name);
            }
            play.turn();
        }
        Next::Wait(until) => {
            let under_way = play.under_way();
            if let Some(step) = under_way.get(dice.roll(under_way.len().max(1) as u64) as usize) {
                let outcome = outcome(dice, play.status(step).doubtful);
                if matches!(&outcome, Outcome::Failed(failure) if failure.doubt) {
                    doubts.0.insert(step.clone());
                }
                if outcome == Outcome::NotCarriedOut {
                    doubts.0.remove(step);
                }
                play.answer(step, outcome);
            } else if let Some(work) = play.seen.live.first().cloned() {
                play.seen.live.remove(&work);
                match work {
                    Work::Cancellation(step) => drop(play.seen.cancellations.insert(step, dice.roll(2) == 0)),
                    Work::Completion => play.seen.completion = Some(dice.roll(2) == 0),
                    other => panic!("{other:?} stays"),
                }
            } else {
                play.now = until.unwrap_or_else(|| panic!("it waits for nothing: {:#?}", play.stored)).max(play.now);
            }
        }
        Next::Done => return false,
        _ => drop(play.turn()),
    }
    check(&before, &play.stored);
    let running = play.stored.steps.iter().filter(|step| step.phase == Phase::Running).count();
    assert!(running <= play.definition.parallelism, "{running} under way");
    true
}

#[test]
fn every_run_ends_and_no_request_is_repeated_that_may_not_be() {
    let (mut completed, mut failed, mut cancelled) = (0, 0, 0);
    for seed in 0..600 {
        let mut dice = Dice(seed * 7919 + 1);
        let mut play = Play::of(&graph(&mut dice));
        let mut doubts = Doubts::default();
        let ended = (0..3000).any(|turn| !step_of_history(&mut play, &mut dice, &mut doubts, turn < 200));
        assert!(ended, "seed {seed} does not end: {:#?}", play.stored);
        assert!(play.stored.completion != Some(crate::api::Notice::Pending));
        match play.stored.phase {
            Phase::Completed => completed += 1,
            Phase::Failed => failed += 1,
            Phase::Cancelled => cancelled += 1,
            phase => panic!("seed {seed} ended as {phase:?}"),
        }
        let before = play.writes;
        play.restart();
        play.rest();
        assert_eq!(play.writes, before, "seed {seed}: at rest nothing is written");
    }
    assert!(completed > 50 && failed > 50 && cancelled > 10, "{completed} {failed} {cancelled}");
}
