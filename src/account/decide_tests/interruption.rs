//! A refresh in the middle of which a process ends, another instance acts, or somebody touches the record.

use super::login::{edit, held, requested_at, rotating};
use super::world::{Crash, World, no, yes};
use crate::account::seen::tests::at;
use crate::account::{INTENT_LIFETIME, Intent, Seen, State, StateView, Version, refresh};
use crate::api::ConditionType;
use jiff::SignedDuration;
use serde_json::json;

#[test]
fn a_request_that_was_answered_before_the_process_ended_is_not_answered_twice() {
    let mut world = rotating(json!({}));
    world.reconcile();
    (world.account.metadata.annotations, world.now) = (Some(requested_at(60)), at(60));
    world.crash = Some(Crash::AfterStep("keep"));
    world.pass().unwrap_err();
    world.reconcile();
    assert_eq!((world.login.seen.len(), world.token()), (2, "access-2"));
    assert_eq!(world.status.last_handled_refresh_time.as_ref().map(|time| time.0), Some(at(60)), "and its echo is told");
}

#[test]
fn a_crash_at_any_step_loses_no_login_that_can_be_kept() {
    for journals in [true, false] {
        for turn in 0..14 {
            for crash in [Crash::Before(turn), Crash::After(turn)] {
                let mut world = rotating(json!({}));
                world.journals = journals;
                world.reconcile();
                world.now = at(3000);
                world.crash = Some(crash);
                let crashed = world.pass().is_err();
                let at_step = world.steps.last().copied().unwrap_or("none");
                let place = format!("{crash:?} ({at_step}), journal {journals}");
                let armed = crashed && world.state.as_ref().unwrap().1.intent.is_some();
                let replied = world.login.seen.len() == 2;
                let unjournalled = armed && world.journal.is_empty();
                world.reconcile();
                if unjournalled {
                    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")), "{place}");
                    assert_eq!(world.ready(), yes("TokenPublished"), "{place}: the old token stays");
                    world.run_until(3599);
                }
                assert_eq!(world.login.seen[..2], ["r1", "r2"], "{place}");
                if unjournalled && replied {
                    // Nobody could have kept it: it was redeemed once, and once more when nothing was left to lose.
                    assert_eq!(world.login.seen, ["r1", "r2", "r2"], "{place}");
                    assert!(world.condition(ConditionType::ReauthorizationRequired).is_some(), "{place}");
                } else {
                    assert_eq!(world.login.seen.len(), 2, "{place}: each refresh token is posted once");
                    assert_eq!((world.ready(), held(&world)), (yes("TokenPublished"), world.login.live.as_deref()), "{place}");
                    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), None, "{place}");
                }
            }
        }
    }
}

/// An instance ends right after ARM, and another one goes on.
fn armed_by_another() -> World {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(3000);
    world.crash = Some(Crash::AfterStep("arm"));
    world.pass().unwrap_err();
    world.identity = "operator-2".into();
    world
}

#[test]
fn an_intent_of_another_is_waited_for_and_then_in_doubt() {
    let mut world = armed_by_another();
    let until = world.reconcile();
    assert_eq!(until, Some(at(3000) + INTENT_LIFETIME), "the other may be at work");
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), None);
    world.now = at(3000) + INTENT_LIFETIME;
    world.unsteady_until = Some(at(3080));
    assert_eq!(world.reconcile(), Some(at(3080)), "it may be offering its reply to an API server that was away");
    world.now = at(3080);
    world.reconcile();
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")));
    assert_eq!(world.login.seen, ["r1"], "an intent that ran out is no right to post");
}

#[test]
fn an_intent_of_another_is_waited_for_as_long_whatever_his_clock_says() {
    for skew in [SignedDuration::from_hours(1), -SignedDuration::from_hours(1)] {
        let mut world = armed_by_another();
        world.state.as_mut().unwrap().1.intent.as_mut().unwrap().deadline += skew;
        world.skew = skew;
        assert_eq!(world.reconcile(), Some(at(3000) + INTENT_LIFETIME), "{skew}: it may be at work");
        world.now = at(3000) + INTENT_LIFETIME;
        world.reconcile();
        assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")), "{skew}");
    }
}

#[test]
fn an_intent_that_the_watch_has_not_told_of_was_armed_just_now() {
    let mut world = armed_by_another();
    let (version, state) = world.state.clone().unwrap();
    let version = Version { uid: "u".into(), resource_version: version.to_string() };
    let mut seen = world.observe();
    seen.login.state = Some(StateView::Stored { version, state });
    let until = |seen: &Seen, now| refresh::waits_until(seen, seen.plan.as_ref().unwrap(), now);
    assert_eq!(until(&seen, at(5000)), None);
    seen.instance.armed = Some(("another".into(), at(0)));
    assert_eq!(until(&seen, at(5000)), Some(at(5000) + INTENT_LIFETIME));
}

#[test]
fn a_new_seed_ends_a_doubt_that_a_dead_process_has_left() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(3000);
    world.journals = false;
    world.crash = Some(Crash::AfterStep("arm"));
    world.pass().unwrap_err();
    world.reconcile();
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")));
    assert!(world.status.observed_references.is_some(), "by these a new seed is known");
}

#[test]
fn an_edit_that_waits_for_the_intent_of_another_is_not_forgotten() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(60);
    edit(&mut world, json!({"scopes": ["more"]}));
    world.crash = Some(Crash::AfterStep("arm"));
    world.pass().unwrap_err();
    world.identity = "operator-2".into();
    assert_eq!(world.reconcile(), Some(at(60) + INTENT_LIFETIME));
    assert_ne!(world.status.observed_generation, world.account.metadata.generation, "it is not acted on yet");
    world.now = at(60) + INTENT_LIFETIME;
    world.reconcile();
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")));
    assert_eq!(world.status.observed_generation, world.account.metadata.generation);
}

#[test]
fn a_record_deleted_or_scribbled_over_in_the_middle_of_a_refresh_is_written_anew() {
    for scribbled in [true, false] {
        let mut world = rotating(json!({}));
        world.reconcile();
        world.now = at(3000);
        // The reply is in hand when the record goes.
        let vandal = |world: &mut World, step| {
            if step == "keep" && !world.steps.contains(&"keep") {
                if scribbled {
                    world.overwrite(|state| state);
                    world.state_unreadable = true;
                } else {
                    world.state = None;
                }
            }
        };
        world.pass_beside(vandal).unwrap();
        assert_eq!(world.steps.iter().filter(|step| **step == "keep").count(), 2, "{:?}", world.steps);
        assert_eq!((held(&world), world.ready()), (Some("r3"), yes("TokenPublished")), "scribbled {scribbled}");
    }
}

#[test]
fn what_another_gave_up_for_lost_is_kept_when_its_reply_comes_after_all() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(3000);
    // Paused for a minute; another instance has called the outcome unknown.
    let another = |world: &mut World, step| {
        if step == "keep" && !world.steps.contains(&"keep") {
            world.overwrite(State::doubted);
        }
    };
    world.pass_beside(another).unwrap();
    assert_eq!(world.steps.iter().filter(|step| **step == "keep").count(), 2, "{:?}", world.steps);
    assert_eq!((held(&world), world.ready()), (Some("r3"), yes("TokenPublished")));
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), None);
}

#[test]
fn a_reply_outlasts_another_that_posts_what_it_has_spent() {
    for refused in [true, false] {
        let mut world = rotating(json!({}));
        world.reconcile();
        world.now = at(3000);
        let another = |world: &mut World, step| match step {
            // Paused for a minute: another has called it unknown, and now posts it once more.
            "keep" if !world.steps.contains(&"keep") => world.overwrite(|state| {
                let intent = Intent { id: "another".into(), holder: "operator-2".into(), ..state.intent.clone().unwrap() };
                state.doubted().armed(intent)
            }),
            "give way" => world.overwrite(if refused { State::rejected } else { State::doubted }),
            _ => {}
        };
        world.pass_beside(another).unwrap();
        assert_eq!(world.steps.iter().filter(|step| **step == "give way").count(), 1, "{:?}", world.steps);
        assert_eq!((held(&world), world.ready()), (Some("r3"), yes("TokenPublished")), "refused {refused}: {:?}", world.steps);
    }
}

#[test]
fn suspended_it_posts_nothing_and_still_brings_home_what_was_answered() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(3000);
    world.crash = Some(Crash::AfterStep("journal"));
    world.pass().unwrap_err();
    edit(&mut world, json!({"suspend": true}));
    world.reconcile();
    assert_eq!((held(&world), world.token()), (Some("r3"), "access-2"));
    world.run_until(9000);
    assert_eq!((world.login.seen.len(), world.ready()), (2, no("TokenExpired")));
}
