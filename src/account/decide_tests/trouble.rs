//! Trouble: with the provider, with the seed, with the API server and with vandals.

use super::world::{WAITS_TO_BE_TOLD_OF, World, fault, no, yes};
use crate::account::seen::tests::at;
use crate::api::ConditionType;
use crate::oauth::{Fault, FaultKind};
use jiff::SignedDuration;
use serde_json::json;

#[test]
fn a_token_that_a_template_cannot_be_made_of_is_kept_and_said_and_asked_for_once() {
    // The provider grants one scope where two were asked for.
    let mut world = World::new(&json!({"scopes": ["a", "b"], "tokenSecret": {"data": {"second": "${token.scopes[1]}"}}}));
    world.granted = Some(vec!["a".into()]);
    world.reconcile();
    assert_eq!((world.requests, world.secret.is_none(), world.ready()), (1, true, no("Configuration")));
    let told = &world.status.conditions[0].message;
    assert!(told.contains("spec.tokenSecret.data[second] cannot be made of it") && told.contains("an element"), "{told}");
    for _ in 0..5 {
        world.reconcile();
    }
    assert_eq!((world.requests, world.status_writes), (1, 1), "neither asked nor said again");
    world.edit(&json!({"scopes": ["a", "b"]}));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")), "the token was kept");
}

#[test]
fn a_wrong_secret_stalls_and_a_corrected_one_is_tried_at_once() {
    let mut world = World::new(&json!({}));
    world.provider = Err(fault(FaultKind::InvalidClient));
    world.reconcile();
    assert_eq!(world.ready(), no("Authentication"));
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Authentication")));
    assert_eq!(world.condition(ConditionType::Authorized), Some(no("Authentication")));
    world.now = at(1);
    world.reconcile();
    assert_eq!(world.requests, 1, "nothing has changed: no second request");
    (world.seed_version, world.provider) = (2, Ok(3600));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (2, yes("TokenPublished")));
    assert_eq!(world.condition(ConditionType::Stalled), None);
    assert_eq!(world.condition(ConditionType::RefreshFailing), None);
    assert_eq!(world.told, ["Authentication", "Recovered"]);
}

#[test]
fn patience_that_the_provider_asked_for_outlives_a_changed_secret() {
    let mut world = World::new(&json!({}));
    let wait = Some(SignedDuration::from_secs(30));
    world.provider = Err(Fault { retry_after: wait, ..fault(FaultKind::RateLimited) });
    world.reconcile();
    (world.seed_version, world.now) = (2, at(29));
    world.reconcile();
    assert_eq!(world.requests, 1);
    world.run_until(31);
    assert_eq!(world.requests, 2);
}

#[test]
fn a_missing_secret_is_no_stall_and_its_arrival_is_enough() {
    let mut world = World::new(&json!({}));
    world.seed = Err(fault(FaultKind::ReferenceMissing));
    world.reconcile();
    assert_eq!(world.ready(), no("Configuration"));
    assert_eq!(world.condition(ConditionType::Reconciling), Some(yes("Configuration")));
    assert_eq!(world.requests, 0);
    (world.seed_version, world.seed) = (2, Ok(()));
    world.reconcile();
    assert_eq!(world.ready(), yes("TokenPublished"));
}

#[test]
fn an_edited_spec_is_tried_at_once_after_a_failure() {
    let mut world = World::new(&json!({}));
    world.provider = Err(fault(FaultKind::NotAllowed));
    world.reconcile();
    world.provider = Ok(3600);
    world.edit(&json!({"scopes": ["other"]}));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (2, yes("TokenPublished")));
}

#[test]
fn a_token_that_could_not_be_published_is_not_asked_for_twice() {
    let mut world = World::new(&json!({}));
    world.write_refused = Some(fault(FaultKind::ApiRefused));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (1, no("Configuration")));
    world.write_refused = None;
    world.run_until(60);
    assert_eq!((world.requests, world.ready(), world.token()), (1, yes("TokenPublished"), "token-1"));
}

#[test]
fn a_failure_of_another_class_or_of_another_spec_begins_to_count_anew() {
    let mut world = World::new(&json!({}));
    world.seed = Err(fault(FaultKind::ReferenceMissing));
    for _ in 0..5 {
        world.reconcile();
        world.now = world.status.next_attempt_time.as_ref().unwrap().0;
    }
    assert_eq!(world.status.failed_attempts, 5);
    (world.seed, world.provider) = (Ok(()), Err(fault(FaultKind::InvalidClient)));
    world.reconcile();
    assert_eq!(world.status.failed_attempts, 1);
    let until = world.status.next_attempt_time.as_ref().unwrap().0;
    assert!(until.duration_since(world.now).as_secs() <= 60, "whoever repairs early must not wait longest");
    world.edit(&json!({"scopes": ["other"]}));
    world.reconcile();
    assert_eq!((world.requests, world.status.failed_attempts), (2, 1));
}

#[test]
fn a_token_that_is_due_when_it_comes_is_published_and_asked_for_again_without_haste() {
    let mut world = World::new(&json!({}));
    (world.provider, world.latency) = (Ok(20), 15);
    for _ in 0..5 {
        let (requests, before) = (world.requests, world.now);
        let until = world.reconcile().unwrap();
        assert_eq!(world.requests, requests + 1, "one request a pass");
        assert_eq!(world.ready(), yes("TokenPublished"));
        assert!(until.duration_since(before).as_secs() >= 1);
        world.now = until;
    }
}

#[test]
fn whoever_keeps_deleting_the_secret_does_not_drive_us() {
    let mut world = World::new(&json!({}));
    while world.now < at(600) {
        world.secret = None;
        let until = world.reconcile().unwrap();
        world.now = until.min(world.now + SignedDuration::from_millis(500));
    }
    assert!((5..30).contains(&world.requests), "{} requests in ten minutes", world.requests);
    assert!(world.told.contains(&"TokenMissing".to_owned()), "{:?}", world.told);
    assert_eq!(world.requests, world.writes);
}

#[test]
fn a_refused_publication_is_tried_again_when_the_spec_changes() {
    let mut world = World::new(&json!({"tokenSecret": {"labels": {"forbidden": "label"}}}));
    world.write_refused = Some(fault(FaultKind::ApiRefused));
    world.reconcile();
    assert_eq!(world.condition(ConditionType::Authorized), Some(yes("TokenIssued")), "the provider did issue it");
    world.write_refused = None;
    world.edit(&json!({}));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")));
}

/// Wakes again and again, as every write of ours does, and counts what is written meanwhile.
fn written_by_waking(world: &mut World, times: usize) -> (u64, u64, usize) {
    let before = (world.offered, world.status_writes, world.told.len());
    for _ in 0..times {
        world.reconcile();
    }
    (world.offered - before.0, world.status_writes - before.1, world.told.len() - before.2)
}

#[test]
fn a_refused_write_is_not_offered_again_at_every_wake_up() {
    let refused = Some(fault(FaultKind::ApiRefused));
    let asked = || {
        let mut world = World::new(&json!({}));
        world.reconcile();
        let annotation = ("oauth-operator.dev/refresh-requested-at".to_owned(), "2026-01-01T00:00:05Z".to_owned());
        world.account.metadata.annotations = Some(std::collections::BTreeMap::from([annotation]));
        world
    };
    let relabelled = || {
        let mut world = World::new(&json!({}));
        world.reconcile();
        world.edit(&json!({"tokenSecret": {"labels": {"forbidden": "label"}}}));
        world
    };
    for mut world in [asked(), relabelled()] {
        world.write_refused = refused.clone();
        world.reconcile();
        assert_eq!(world.condition(ConditionType::RefreshFailing), Some(yes("Configuration")));
        assert_eq!(written_by_waking(&mut world, 10), (0, 0, 0), "neither writes nor Events");
        assert_eq!(world.ready(), yes("TokenPublished"), "the token is as good as it was");
        world.write_refused = None;
        world.run_until(60);
        assert_eq!(world.condition(ConditionType::RefreshFailing), None);
    }
}

#[test]
fn faults_that_alternate_back_off_all_the_same() {
    let mut world = World::new(&json!({}));
    for number in 0..12 {
        world.provider = Err(fault(if number % 2 == 0 { FaultKind::ServerError } else { FaultKind::NotConnected }));
        world.reconcile();
        world.now = world.status.next_attempt_time.as_ref().unwrap().0;
    }
    assert_eq!(world.status.failed_attempts, 12);
}

#[test]
fn a_fault_for_a_person_still_stalls_when_the_token_expires() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.provider = Err(fault(FaultKind::HostNotPermitted));
    world.run_until(3600);
    assert_eq!(world.ready(), no("TokenExpired"));
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Configuration")));
}

#[test]
fn neither_an_edit_nor_another_secret_shortens_the_patience_a_provider_asked_for() {
    let mut world = World::new(&json!({}));
    let wait = Some(SignedDuration::from_secs(300));
    world.provider = Err(Fault { retry_after: wait, ..fault(FaultKind::Unavailable) });
    world.reconcile();
    world.seed_version = 2;
    world.edit(&json!({"scopes": ["other"]}));
    world.run_until(299);
    assert_eq!(world.requests, 1);
    world.run_until(301);
    assert_eq!(world.requests, 2);
}

#[test]
fn an_edit_during_a_patience_that_a_person_s_request_was_asked_for_is_not_forgotten() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let wait = Some(SignedDuration::from_secs(300));
    world.provider = Err(Fault { retry_after: wait, ..fault(FaultKind::RateLimited) });
    (world.account.metadata.annotations, world.now) = (Some(super::login::requested_at(10)), at(10));
    world.reconcile();
    assert_eq!((world.requests, world.status.failed_attempts), (2, 0), "the token is as good as it was");
    world.provider = Ok(3600);
    world.edit(&json!({"scopes": ["other"]}));
    world.run_until(309);
    assert_eq!(world.requests, 2);
    world.run_until(312);
    assert_eq!((world.requests, world.status.observed_generation), (3, world.account.metadata.generation));
}

#[test]
fn a_template_that_the_token_cannot_fill_does_not_keep_the_next_one_away() {
    let mut world = World::new(&json!({"scopes": ["a"]}));
    world.reconcile();
    world.edit(&json!({"scopes": ["a", "b"], "tokenSecret": {"data": {"second": "${token.scopes[1]}"}}}));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (2, yes("TokenPublished")));
    assert_eq!(world.secret.as_ref().unwrap().1.data["second"].expose(), "b");
}

#[test]
fn a_race_for_the_secret_is_looked_at_again_and_costs_no_second_request() {
    let mut world = World::new(&json!({}));
    world.conflicts = 2;
    world.reconcile();
    assert_eq!((world.requests, world.writes, world.ready()), (1, 1, yes("TokenPublished")));
}

#[test]
fn history_keeps_the_last_five_attempts_and_failures_are_counted() {
    let mut world = World::new(&json!({}));
    world.provider = Err(fault(FaultKind::Unavailable));
    for failures in 1..=7 {
        world.reconcile();
        assert_eq!(world.status.failed_attempts, failures);
        world.now = world.status.next_attempt_time.as_ref().unwrap().0;
    }
    assert_eq!(world.status.history.len(), 5);
    assert!(world.status.history.windows(2).all(|pair| pair[0].start_time > pair[1].start_time), "newest first");
}

#[test]
fn a_seed_that_names_other_hosts_is_not_sent() {
    let mut world = World::new(&json!({}));
    world.token_hosts = Some("other.example.com".into());
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (0, no("Configuration")));
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Configuration")));
}

#[test]
fn whoever_edits_the_secret_again_and_again_does_not_drive_us() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let writes = world.writes;
    let rival = |world: &mut World| {
        let (version, contents) = world.secret.as_mut().unwrap();
        *version += 1;
        contents.labels.insert("app.kubernetes.io/managed-by".into(), "rival".into());
        world.versions += 1;
    };
    let mut second = 0;
    while second < 120 {
        rival(&mut world);
        let until = world.reconcile();
        second = until.map_or(120, |until| until.duration_since(at(0)).as_secs().clamp(second + 1, second + 5));
        world.now = at(second);
    }
    let heals = world.writes - writes;
    // What the user wants meanwhile does not wait for the two of them.
    world.run_until(world.now.duration_since(at(0)).as_secs() + 1);
    world.edit(&json!({"tokenSecret": {"labels": {"team": "a"}}}));
    world.reconcile();
    assert_eq!(world.secret.as_ref().unwrap().1.labels["team"], "a", "an edit is written at once");
    assert!((4..=12).contains(&heals), "{heals} writes in two minutes");
    world.run_until(200);
    let (_, contents) = world.secret.as_ref().unwrap();
    assert_eq!(contents.labels["app.kubernetes.io/managed-by"], "oauth-operator", "put right in the end");
    assert_eq!(world.status.token_secret_resource_version, world.secret.as_ref().map(|(version, _)| version.to_string()));
}

#[test]
fn an_edit_of_an_account_that_waits_to_be_told_of_is_acted_on() {
    let mut world = World { tells_later: true, ..World::new(&json!({})) };
    let mut waited = 0;
    let others = |world: &mut World, step| {
        if step == WAITS_TO_BE_TOLD_OF {
            waited += 1;
            world.edit(&json!({"scopes": ["other"]}));
        }
    };
    world.pass_beside(others).unwrap();
    world.reconcile();
    assert_eq!((waited, world.token(), world.status.observed_generation), (1, "token-2", Some(2)), "{:?}", world.steps);
    assert_eq!(world.status.history.len(), 2, "both are told");
}
