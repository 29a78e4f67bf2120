//! A refresh token was posted and no answer came: when it is posted again, and when not.

use super::login::{requested_at, rotating};
use super::provider::Fate;
use super::world::{Crash, World, fault, yes};
use crate::account::Liveness;
use crate::account::seen::tests::at;
use crate::api::ConditionType;
use crate::oauth::FaultKind;
use serde_json::{Value, json};

/// A refresh of a published token whose outcome nobody knows, at second 3000 or before.
fn in_doubt(patch: Value, fate: Fate) -> World {
    let mut world = rotating(patch);
    world.reconcile();
    world.login.fate = fate;
    world.now = at(2900);
    world.reconcile();
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")));
    assert_eq!(world.ready(), yes("TokenPublished"), "the token published before stays");
    world.login.fate = Fate::Answered;
    world
}

#[test]
fn status_tells_when_a_doubt_will_be_resolved() {
    let world = in_doubt(json!({}), Fate::RequestLost);
    assert_eq!(world.status.next_attempt_time.as_ref().map(|time| time.0), Some(at(3420)));
}

#[test]
fn in_doubt_a_strict_provider_is_asked_once_more_when_little_is_left_to_lose() {
    for fate in [Fate::RequestLost, Fate::ReplyLost, Fate::Status(502)] {
        let mut world = in_doubt(json!({}), fate);
        let before = world.login.seen.len();
        world.run_until(3400);
        assert_eq!(world.login.seen.len(), before, "{fate:?}: not yet");
        world.run_until(3599);
        assert_eq!(world.login.seen.len(), before + 1, "{fate:?}: once");
        if fate == Fate::ReplyLost {
            assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("Authentication")));
        } else {
            assert_eq!((world.condition(ConditionType::RefreshOutcomeUnknown), world.ready()), (None, yes("TokenPublished")));
        }
    }
}

#[test]
fn in_doubt_a_provider_that_does_not_rotate_is_asked_again() {
    for rotation in [json!({"mode": "Never"}), json!({"onUnknown": "Retry"})] {
        let mut world = in_doubt(on_unknown(rotation), Fate::RequestLost);
        world.run_until(2910);
        assert_eq!((world.login.seen.len(), world.condition(ConditionType::RefreshOutcomeUnknown)), (2, None));
    }
}

#[test]
fn in_doubt_a_grace_is_used_while_it_lasts() {
    let mut world = in_doubt(on_unknown(json!({"graceSeconds": 600})), Fate::RequestLost);
    world.run_until(2910);
    assert_eq!(world.login.seen.len(), 2);
    let mut world = in_doubt(on_unknown(json!({"graceSeconds": 600})), Fate::RequestLost);
    world.login.fate = Fate::RequestLost;
    world.now = at(3490);
    world.status.next_attempt_time = None;
    world.login.fate = Fate::Answered;
    world.account.metadata.generation = Some(2);
    world.now = at(3485);
    world.reconcile();
    assert_eq!(world.login.seen.len(), 2, "nearly spent by then: the gamble is due");
}

#[test]
fn in_doubt_a_probe_tells_whether_the_refresh_happened() {
    let probing = || on_unknown(json!({"killsOldAccessToken": true}));
    let mut world = in_doubt(probing(), Fate::RequestLost);
    world.run_until(2910);
    assert_eq!((world.probes, world.login.seen.len()), (1, 2), "alive: it did not happen, and is made again");
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), None);
    let mut world = in_doubt(probing(), Fate::ReplyLost);
    world.probe = Liveness::Dead;
    world.run_until(2910);
    assert_eq!((world.probes, world.login.seen.len()), (1, 3), "dead: the successor is lost, and one more post costs nothing");
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("Authentication")));
    let mut world = in_doubt(probing(), Fate::ReplyLost);
    world.probe = Liveness::Unclear(fault(FaultKind::TimedOut));
    world.run_until(3500);
    assert_eq!(world.login.seen.len(), 2, "unclear: nothing is posted");
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")));
}

#[test]
fn in_doubt_a_person_may_decide() {
    let mut world = in_doubt(json!({}), Fate::RequestLost);
    world.account.metadata.annotations = Some(requested_at(2910));
    world.now = at(2910);
    world.reconcile();
    assert_eq!((world.login.seen.len(), world.condition(ConditionType::RefreshOutcomeUnknown)), (2, None));
}

#[test]
fn a_request_is_leave_to_post_once() {
    let mut world = rotating(json!({}));
    world.reconcile();
    (world.account.metadata.annotations, world.now) = (Some(requested_at(60)), at(60));
    (world.login.fate, world.crash) = (Fate::ReplyLost, Some(Crash::AfterStep("keep")));
    world.pass().unwrap_err();
    world.login.fate = Fate::Answered;
    for second in 61..70 {
        world.now = at(second);
        world.reconcile();
    }
    assert_eq!(world.login.seen, ["r1", "r2"], "nobody has asked again");
    assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), Some(yes("OutcomeUnknown")), "and the doubt is told");
}

fn on_unknown(rotation: Value) -> Value {
    json!({"provider": {"overrides": {"rotation": rotation, "probe": {"method": "GET", "url": "https://api.example.com/me"}}}})
}

#[test]
fn a_provider_that_can_be_asked_tells_whether_the_old_token_lives() {
    use crate::oauth::Endpoint;
    let mut world = rotating(json!({"provider": {"overrides": {"rotation": {"mode": "Always", "onUnknown": "Probe"}}}}));
    world.reconcile();
    world.login.fate = Fate::ReplyLost;
    world.run_until(2800);
    let posts = world.login.seen.len();
    world.login.fate = Fate::Answered;
    world.run_until(3000);
    assert_eq!((world.probes, world.login.seen.len()), (0, posts), "without anybody to ask it is postponed");
    world.discovered =
        std::mem::take(&mut world.discovered).with(Endpoint::Introspection, "https://login.example.com/i".parse().unwrap());
    world.probe = crate::account::Liveness::Dead;
    world.account.metadata.generation = Some(2);
    world.run_until(3100);
    assert!(world.probes >= 1, "{:?}", world.steps);
}
