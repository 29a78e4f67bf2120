//! What a resource server says of the token: told, and answered by one fresh token at most.

use super::world::{World, no, yes};
use crate::account::health::Verdict;
use crate::account::seen::tests::at;
use crate::api::ConditionType;
use crate::oauth::{Fault, FaultKind};
use serde_json::json;

fn checked() -> World {
    World::new(&json!({"healthCheck": {"url": "https://api.example.com/me", "intervalSeconds": 600}}))
}

#[test]
fn a_token_that_is_accepted_is_checked_at_its_interval_and_nothing_is_written() {
    let mut world = checked();
    world.reconcile();
    assert_eq!(world.condition(ConditionType::Healthy), Some(yes("TokenAccepted")));
    let writes = world.status_writes;
    world.run_until(2400);
    assert!((4..=6).contains(&world.health_checks), "{}", world.health_checks);
    assert_eq!((world.status_writes, world.requests), (writes, 1));
}

#[test]
fn a_token_that_is_refused_is_replaced_once_and_then_the_server_is_at_fault() {
    let mut world = checked();
    world.verdict = Verdict::Rejected;
    world.run_until(60);
    assert_eq!(world.requests, 2, "one fresh token");
    assert_eq!(world.condition(ConditionType::Healthy), Some(no("TokenRejected")));
    assert_eq!(world.condition(ConditionType::TokenRejectedByResource), Some(yes("TokenRejected")));
    assert_eq!(world.ready(), yes("TokenPublished"), "a working token is not taken away by a third party's word");
    world.run_until(2400);
    assert_eq!(world.requests, 2, "no storm");
    world.run_until(3700);
    assert_eq!(world.requests, 3, "the schedule goes on");
    world.verdict = Verdict::Accepted;
    world.run_until(4400);
    assert_eq!(world.condition(ConditionType::TokenRejectedByResource), None);
    assert_eq!((world.condition(ConditionType::Healthy), world.status.health.clone()), (Some(yes("TokenAccepted")), None));
}

#[test]
fn one_token_that_is_refused_is_replaced_and_all_is_well() {
    let mut world = checked();
    world.reconcile();
    world.verdict = Verdict::Rejected;
    world.now = at(601);
    let fixed = |world: &mut World, step: &str| {
        if step == "publish" {
            world.verdict = Verdict::Accepted;
        }
    };
    world.pass_beside(fixed).unwrap();
    world.run_until(700);
    assert_eq!((world.requests, world.condition(ConditionType::Healthy)), (2, Some(yes("TokenAccepted"))));
}

#[test]
fn a_provider_that_gives_no_fresh_token_is_asked_with_patience() {
    let mut world = checked();
    world.reconcile();
    world.verdict = Verdict::Rejected;
    world.provider = Err(Fault::new(FaultKind::InvalidClient, "no"));
    world.run_until(600 + 3000);
    assert!(world.requests <= 12, "{} requests", world.requests);
    assert_eq!(world.condition(ConditionType::RefreshFailing).unwrap().0, "True");
}

#[test]
fn a_server_that_does_not_say_changes_nothing() {
    let mut world = checked();
    world.verdict = Verdict::Unclear("it answers HTTP 503.".into());
    world.run_until(1300);
    assert_eq!(world.condition(ConditionType::Healthy), Some(("Unknown".into(), "ProviderError".into())));
    assert_eq!((world.requests, world.condition(ConditionType::TokenRejectedByResource)), (1, None));
}

#[test]
fn another_server_is_asked_at_once() {
    let mut world = checked();
    world.verdict = Verdict::Unclear("it answers HTTP 404.".into());
    world.reconcile();
    world.verdict = Verdict::Accepted;
    world.edit(&json!({"healthCheck": {"url": "https://other.example.com/me", "intervalSeconds": 600}}));
    world.reconcile();
    assert_eq!((world.health_checks, world.condition(ConditionType::Healthy)), (2, Some(yes("TokenAccepted"))));
}

#[test]
fn a_check_goes_only_where_the_token_may_go() {
    let spec = json!({"healthCheck": {"url": "https://evil.example.com/me", "intervalSeconds": 600}, "allowedHosts": ["*.good.example"]});
    let mut world = World::new(&spec);
    world.reconcile();
    assert_eq!((world.health_checks, world.condition(ConditionType::Stalled)), (0, Some(yes("Configuration"))));
}
