//! The ordinary course: a first token, its renewals, edits of the spec and of the Secret, pauses and requests.

use super::world::{World, fault, no, yes};
use crate::account::seen::tests::{account, at, unseen};
use crate::account::{Next, SecretMark, Seen, decide};
use crate::api::ConditionType;
use crate::oauth::{FaultKind, Sensitive};
use serde_json::json;
use std::sync::Arc;

#[test]
fn a_first_token_costs_one_request_and_two_writes_and_then_nothing() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    assert_eq!((world.requests, world.writes, world.status_writes), (1, 1, 1));
    assert_eq!(world.ready(), yes("TokenPublished"));
    assert_eq!(world.condition(ConditionType::Reconciling), None);
    for _ in 0..10 {
        world.reconcile();
    }
    assert_eq!((world.requests, world.writes, world.status_writes), (1, 1, 1));
    assert!(world.told.is_empty(), "routine is no Event: {:?}", world.told);
}

#[test]
fn workloads_are_restarted_for_each_new_token_and_not_more_often_than_allowed() {
    let targets = json!({"restartTargets": [{"kind": "Deployment", "name": "web"}], "restartIntervalSeconds": 3600});
    let mut world = World::new(&targets);
    world.provider = Ok(1800);
    world.run_until(600);
    assert!(world.restarts.is_empty(), "whoever waits for the first token has it when it starts");
    world.run_until(1790);
    assert_eq!(world.restarts, [2]);
    world.run_until(4000);
    assert_eq!((&world.restarts[..], world.status.token.as_ref().unwrap().generation), (&[2][..], 3));
    world.run_until(5400);
    assert_eq!(world.restarts, [2, 4], "the one in between was passed over");
    let writes = world.status_writes;
    world.reconcile();
    assert_eq!(world.status_writes, writes);
}

#[test]
fn workloads_that_are_named_together_with_a_new_token_are_restarted_for_it() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let targets = json!([{"kind": "Deployment", "name": "web"}]);
    world.edit(&json!({"scopes": ["more"], "restartTargets": targets}));
    world.run_until(60);
    assert_eq!((world.requests, &world.restarts[..]), (2, &[2][..]));
}

#[test]
fn a_restart_that_was_refused_is_told_and_tried_again() {
    let targets = json!({"restartTargets": [{"kind": "Deployment", "name": "web"}], "restartIntervalSeconds": 3600});
    let mut world = World::new(&targets);
    world.restart_refused = true;
    world.run_until(2900);
    let tried = world.restarts.len();
    assert!(tried >= 1 && world.restarts.iter().all(|generation| *generation == 2), "{:?}", world.restarts);
    assert!(world.told.contains(&"RestartFailed".to_owned()), "{:?}", world.told);
    assert_eq!(world.ready(), yes("TokenPublished"));
    world.restart_refused = false;
    world.run_until(3300);
    assert_eq!((world.restarts.len(), world.restarts.last()), (tried + 1, Some(&2)), "after five minutes, not after an hour");
    assert_eq!(world.status.restart.as_ref().unwrap().message, None);
}

#[test]
fn a_refresh_comes_in_time_and_costs_one_request_and_two_writes() {
    let mut world = World::new(&json!({}));
    world.run_until(3000);
    assert_eq!((world.requests, world.writes, world.status_writes), (2, 2, 2));
    assert_eq!(world.token(), "token-2");
    let token = world.status.token.as_ref().unwrap();
    assert_eq!(token.generation, 2);
    assert!((2520..=2881).contains(&token.issued_time.0.duration_since(at(0)).as_secs()), "{:?}", token.issued_time);
}

#[test]
fn a_day_of_five_minute_tokens_leaves_no_gap() {
    let mut world = World::new(&json!({}));
    world.provider = Ok(300);
    while world.now < at(86_400) {
        let until = world.reconcile().unwrap();
        assert_eq!(world.ready(), yes("TokenPublished"), "at {}", world.now);
        assert!(world.status.token.as_ref().unwrap().expiration_time.0 > until, "asleep at expiry");
        world.now = until;
    }
    assert!((480..=577).contains(&world.requests), "{}", world.requests);
}

#[test]
fn ready_turns_false_at_expiry_to_the_second() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.provider = Err(fault(FaultKind::Unavailable));
    let mut before = world.ready();
    while world.now < at(4000) {
        world.now = world.reconcile().unwrap();
        if world.now > at(3600) {
            break;
        }
        before = if world.now < at(3600) { world.ready() } else { before };
    }
    assert_eq!(before, yes("TokenPublished"), "a working token is never taken away");
    assert_eq!(world.ready(), no("TokenExpired"));
    let condition = world.status.conditions.iter().find(|c| c.type_ == "Ready").unwrap();
    assert_eq!(condition.last_transition_time.0, at(3600));
    assert!(condition.message.contains("something is wrong"), "{}", condition.message);
    assert!(world.told.contains(&"TokenExpired".to_owned()), "{:?}", world.told);
}

#[test]
fn other_scopes_are_another_token_and_other_labels_are_not() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.edit(&json!({"tokenSecret": {"labels": {"team": "a"}}}));
    world.reconcile();
    assert_eq!((world.requests, world.writes), (1, 2));
    assert_eq!(world.secret.as_ref().unwrap().1.labels["team"], "a");
    world.edit(&json!({}));
    world.reconcile();
    assert_eq!((world.requests, world.writes), (1, 3), "a label taken out of the spec is a reason to write");
    world.edit(&json!({"scopes": ["write"]}));
    world.reconcile();
    assert_eq!((world.requests, world.status.observed_generation), (2, Some(4)));
}

#[test]
fn a_deleted_token_secret_is_made_again() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.secret = None;
    world.reconcile();
    assert_eq!(world.ready(), yes("TokenPublished"));
    assert_eq!(world.token(), "token-2");
}

#[test]
fn an_edited_token_is_replaced_and_an_edited_label_is_put_back_without_a_request() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let (version, contents) = world.secret.as_mut().unwrap();
    *version += 1;
    contents.labels.clear();
    contents.data.remove("token_type");
    world.reconcile();
    assert_eq!((world.requests, world.token()), (1, "token-1"), "status knows this token by its fingerprint");
    assert_eq!(world.secret.as_ref().unwrap().1.data["token_type"].expose(), "Bearer");
    let (version, contents) = world.secret.as_mut().unwrap();
    *version += 1;
    contents.data.insert("access_token".into(), Sensitive::new("forged"));
    world.reconcile();
    assert_eq!((world.requests, world.token()), (2, "token-2"));
    assert_eq!(world.ready(), yes("TokenPublished"));
}

#[test]
fn a_secret_of_someone_else_is_refused_before_anything_is_asked_for() {
    let mut world = World::new(&json!({}));
    world.foreign = true;
    world.reconcile();
    assert_eq!((world.requests, world.writes, world.ready()), (0, 0, no("SecretConflict")));
    assert_eq!(world.condition(ConditionType::SecretConflict), Some(yes("SecretConflict")));
    world.foreign = false;
    world.reconcile();
    assert_eq!(world.ready(), yes("TokenPublished"));
    assert_eq!(world.condition(ConditionType::SecretConflict), None);
}

#[test]
fn a_stray_is_pruned_once_its_successor_is_published() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    (world.stray, world.secret) = (Some("old-token".into()), None);
    world.provider = Err(fault(FaultKind::Unavailable));
    world.edit(&json!({"tokenSecret": {"name": "new-token"}}));
    world.reconcile();
    assert!(world.stray.is_some(), "the old Secret is all that apps have");
    world.provider = Ok(3600);
    world.run_until(60);
    assert_eq!((world.stray.as_ref(), world.ready()), (None, yes("TokenPublished")));
}

#[test]
fn an_operator_that_died_between_secret_and_status_asks_for_nothing() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let before = world.status.clone();
    world.run_until(3000);
    assert_eq!(world.requests, 2);
    world.status = before;
    world.reconcile();
    assert_eq!((world.requests, world.status.token.as_ref().unwrap().generation), (2, 2));
}

#[test]
fn suspension_asks_for_nothing_and_hides_nothing() {
    let mut world = World::new(&json!({"suspend": true}));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (0, no("Suspended")));
    assert_eq!(world.condition(ConditionType::Reconciling), None);
    world.edit(&json!({}));
    world.reconcile();
    world.edit(&json!({"suspend": true}));
    world.run_until(3599);
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")));
    let message = |world: &World| world.status.conditions[0].message.clone();
    assert!(message(&world).contains("spec.suspend keeps the operator from renewing it"));
    world.run_until(3600);
    assert_eq!((world.requests, world.ready()), (1, no("TokenExpired")));
    assert!(message(&world).contains("spec.suspend keeps the operator from renewing it"));
    assert_eq!(world.condition(ConditionType::Stalled), None, "a pause that was asked for is no failure");
    assert_eq!(world.told, ["TokenExpired"]);
    world.edit(&json!({}));
    world.reconcile();
    assert_eq!(world.told, ["TokenExpired", "Recovered"]);
}

#[test]
fn a_field_that_cannot_be_used_stalls_with_its_name_and_leaves_the_token_alone() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.edit(&json!({"expectedSubject": "alice"}));
    world.run_until(3599);
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")), "the token is as valid as it was");
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Configuration")));
    assert_eq!(world.token(), "token-1");
    world.run_until(3600);
    assert_eq!((world.requests, world.ready()), (1, no("TokenExpired")));
    assert_eq!(world.told, ["Configuration", "TokenExpired"]);
    let mut fresh = World::new(&json!({"expectedSubject": "alice"}));
    fresh.reconcile();
    assert_eq!((fresh.requests, fresh.ready()), (0, no("Configuration")));
}

#[test]
fn a_person_who_asks_for_a_new_token_gets_one_once() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let ask = |world: &mut World, moment: &str| {
        let annotation = ("oauth-operator.dev/refresh-requested-at".to_owned(), moment.to_owned());
        world.account.metadata.annotations = Some(std::collections::BTreeMap::from([annotation]));
    };
    ask(&mut world, "2026-01-01T00:00:05.7Z");
    world.now = at(6);
    world.reconcile();
    world.reconcile();
    assert_eq!((world.requests, world.token()), (2, "token-2"));
    assert_eq!(world.status.last_handled_refresh_time.as_ref().map(|time| time.0), Some(at(5)));
    world.provider = Err(fault(FaultKind::Unavailable));
    ask(&mut world, "2026-01-01T00:01:00Z");
    world.reconcile();
    assert_eq!((world.requests, world.status.failed_attempts), (3, 0), "a failure, too, is an answer, and harms nothing");
    assert_eq!((world.ready(), world.told.clone()), (yes("TokenPublished"), vec!["ProviderError".to_owned()]));
    world.reconcile();
    assert_eq!(world.requests, 3);
    world.run_until(2900);
    let (requests, failed) = (world.requests, world.status.failed_attempts);
    assert!(failed > 0);
    ask(&mut world, "2026-01-01T00:02:00Z");
    world.reconcile();
    assert_eq!(
        (world.requests, world.status.failed_attempts),
        (requests + 1, failed),
        "a person's word shortens the wait and does not lengthen the next"
    );
    world.provider = Ok(3600);
    world.run_until(3500);
    ask(&mut world, "now");
    world.reconcile();
    assert_eq!((world.ready(), world.condition(ConditionType::Stalled)), (yes("TokenPublished"), None));
    let message = &world.status.conditions[0].message;
    assert!(message.contains("refresh-requested-at is ignored"), "{message}");
    assert_eq!(world.told.last().map(String::as_str), Some("Configuration"));
    let requests = world.requests;
    world.run_until(20_000);
    assert!(world.requests > requests + 3, "a slip of the finger does not end renewals");
}

#[test]
fn a_stray_left_by_a_crash_is_pruned_at_rest() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.stray = Some("old-token".into());
    world.reconcile();
    assert_eq!(world.stray, None);
}

#[test]
fn a_deleted_account_is_left_alone() {
    let mut world = World::new(&json!({}));
    world.account.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    assert_eq!(world.reconcile(), None);
    assert_eq!((world.requests, world.writes, world.status_writes), (0, 0, 0));
}

#[test]
fn nothing_is_asked_for_before_the_token_secret_was_read_live() {
    let mut seen = unseen(account(&json!({})));
    assert!(matches!(decide(&seen, at(0)), Next::TakeTurn(_)), "whoever waits for a turn holds nothing");
    seen.turn = true;
    assert!(matches!(decide(&seen, at(0)), Next::ReadAll(_)));
    seen.mark = Some(SecretMark { resource_version: "1".into() });
    seen.account = Arc::new(account(&json!({})));
    assert_eq!(decide(&seen, at(0)), Next::ReadTokenSecret("demo-token".into()), "it may be a good one");
}

#[test]
fn whoever_needs_a_turn_to_replace_a_lost_secret_waits_for_it_before_anything_is_read() {
    let lost = |spec: &serde_json::Value| {
        let mut world = World::new(spec);
        world.reconcile();
        Seen { status: world.status.clone(), ..unseen(world.account.clone()) }
    };
    let mut seen = lost(&json!({}));
    assert!(matches!(decide(&seen, at(0)), Next::TakeTurn(_)), "thousands of them do not read before a new account");
    seen.turn = true;
    assert!(matches!(decide(&seen, at(0)), Next::ReadAll(_)));
    let shared = lost(&json!({"tokenSecret": {"deletionPolicy": "Retain"}}));
    assert_eq!(
        decide(&shared, at(0)),
        Next::ReadTokenSecret("demo-token".into()),
        "what is not the account's alone may be there all the same"
    );
    let kept = lost(&json!({"grant": {"refreshToken": {"secretRef": {"name": "seed", "key": "refresh_token"}}}}));
    assert_eq!(
        decide(&kept, at(0)),
        Next::ReadTokenSecret("demo-token".into()),
        "its token is in the record too, and needs no turn"
    );
}

#[test]
fn an_expiry_that_nobody_has_said_is_asked_of_the_provider() {
    use crate::oauth::Endpoint;
    let mut world = World::new(&json!({}));
    world.source = crate::api::ExpirySource::Default;
    world.discovered =
        std::mem::take(&mut world.discovered).with(Endpoint::Introspection, "https://login.example.com/i".parse().unwrap());
    world.reconcile();
    let token = world.status.token.clone().unwrap();
    assert_eq!((token.expiration_time.0, token.expiry_source), (at(7200), crate::api::ExpirySource::Introspection));
    assert_eq!((world.probes, world.requests, world.writes), (1, 1, 1), "asked before it is published");
}
