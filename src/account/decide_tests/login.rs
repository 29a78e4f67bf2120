//! A login whose refresh tokens rotate: what is written before it is spent, what is kept, and what is never posted.

use super::provider::Fate;
use super::world::{World, fault, no, yes};
use crate::account::seen::tests::at;
use crate::api::ConditionType;
use crate::oauth::FaultKind;
use jiff::SignedDuration;
use serde_json::{Value, json};

/// An account with a refresh token `r1` in its seed, and `patch` merged into its spec.
pub fn rotating(patch: Value) -> World {
    World::new(&spec(patch))
}

/// Its spec.
pub fn spec(patch: Value) -> Value {
    let mut spec =
        json!({"grant": {"clientCredentials": null, "refreshToken": {"secretRef": {"name": "seed", "key": "refresh_token"}}}});
    spec.as_object_mut().unwrap().extend(patch.as_object().cloned().unwrap());
    spec
}

/// The annotation by which a person asks for a refresh, for the so manieth time.
pub fn requested_at(number: i64) -> std::collections::BTreeMap<String, String> {
    [("oauth-operator.dev/refresh-requested-at".to_owned(), at(number).to_string())].into()
}

/// An ID token about somebody.
pub fn id_token(subject: &str) -> String {
    use base64::Engine;
    let part = |claims: Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("{}.{}.c2ln", part(json!({"alg": "RS256"})), part(json!({"sub": subject})))
}

/// The refresh token that is held.
pub fn held(world: &World) -> Option<&str> {
    world.state.as_ref()?.1.credential.as_ref().map(|credential| credential.refresh_token.expose())
}

/// The spec is edited.
pub fn edit(world: &mut World, patch: Value) {
    world.edit(&spec(patch));
}

/// What is told in a sentence while a condition is true.
fn message(world: &World, type_: ConditionType) -> String {
    let found = world.status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
    found.map(|condition| condition.message.clone()).unwrap_or_default()
}

#[test]
fn the_steps_come_in_the_order_of_the_protocol() {
    let mut world = rotating(json!({}));
    world.reconcile();
    let first = [
        "read all",
        "read state",
        "find endpoint",
        "find duplicate",
        "heed",
        "arm",
        "spend",
        "journal",
        "keep",
        "publish",
        "say",
    ];
    assert_eq!(world.steps, first);
    assert_eq!((world.state_writes, world.writes, world.status_writes, world.requests), (2, 1, 1, 1), "four writes");
    assert_eq!((held(&world), world.login.seen.as_slice()), (Some("r2"), &["r1".to_owned()][..]));
    assert_eq!(world.ready(), yes("TokenPublished"));
    world.run_until(3000);
    assert_eq!((world.state_writes, world.writes, world.status_writes, world.requests), (4, 2, 2, 2));
    assert_eq!((held(&world), world.login.seen.as_slice()), (Some("r3"), &["r1".to_owned(), "r2".to_owned()][..]));
    for _ in 0..5 {
        world.reconcile();
    }
    assert_eq!((world.state_writes, world.writes, world.status_writes), (4, 2, 2), "at rest nothing is written");
}

#[test]
fn a_reply_without_a_refresh_token_leaves_the_old_one() {
    let mut world = rotating(json!({}));
    world.login.rotates = false;
    world.run_until(10_000);
    assert!(world.login.seen.len() > 2 && world.login.seen.iter().all(|token| token == "r1"), "{:?}", world.login.seen);
    assert_eq!((held(&world), world.ready()), (Some("r1"), yes("TokenPublished")));
}

#[test]
fn the_token_secret_is_made_again_from_what_is_kept() {
    let mut world = rotating(json!({}));
    world.reconcile();
    let before = world.token().to_owned();
    world.secret = None;
    world.reconcile();
    assert_eq!((world.token(), world.requests), (before.as_str(), 1), "no token request heals what is kept");
    if let Some((version, contents)) = &mut world.secret {
        *version += 1000;
        contents.data.insert("access_token".into(), crate::oauth::Sensitive::new("forged"));
    }
    world.reconcile();
    assert_eq!((world.token(), world.requests), (before.as_str(), 1));
}

#[test]
fn a_reapplied_seed_is_not_imported_again_and_a_new_one_is_at_the_next_refresh() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.seed_version += 1;
    world.run_until(3000);
    assert_eq!(world.login.seen, ["r1", "r2"], "the same seed, applied again, is spent");
    world.refresh_token = Ok(world.login.log_in());
    world.run_until(6000);
    assert_eq!(world.login.seen, ["r1", "r2", "r4"]);
    assert_eq!(held(&world), Some("r5"));
}

#[test]
fn a_bad_new_seed_does_not_cost_the_login() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.refresh_token = Ok("mistyped".into());
    world.now = at(3000);
    world.reconcile();
    assert!(message(&world, ConditionType::RefreshFailing).contains("The login held before goes on"));
    assert_eq!(held(&world), Some("r2"));
    world.run_until(3300);
    assert_eq!(world.login.seen, ["r1", "mistyped", "r2"]);
    assert_eq!((world.ready(), world.condition(ConditionType::RefreshFailing)), (yes("TokenPublished"), None));
}

#[test]
fn a_spent_or_dead_seed_that_comes_back_is_not_posted_and_stops_nobody() {
    let mut world = rotating(json!({}));
    world.reconcile();
    for (number, seed) in ["mistyped", "r1", "mistyped", "r1"].into_iter().enumerate() {
        world.refresh_token = Ok(seed.into());
        world.seed_version += 1;
        world.run_until(3000 * (i64::try_from(number).unwrap() + 1));
    }
    assert_eq!(world.login.seen.iter().filter(|token| *token == "r1").count(), 1, "{:?}", world.login.seen);
    assert_eq!(world.login.seen.iter().filter(|token| *token == "mistyped").count(), 1, "{:?}", world.login.seen);
    assert_eq!((world.ready(), world.condition(ConditionType::ReauthorizationRequired)), (yes("TokenPublished"), None));
    assert_eq!(held(&world), world.login.live.as_deref(), "the login goes on");
}

#[test]
fn a_missing_seed_does_not_stop_what_was_imported() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.refresh_token = Err(fault(FaultKind::ReferenceMissing));
    world.run_until(6000);
    assert_eq!((world.login.seen.len(), world.ready()), (3, yes("TokenPublished")));
    let mut world = rotating(json!({}));
    world.refresh_token = Err(fault(FaultKind::ReferenceInvalid));
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (0, no("Configuration")), "there is nothing to begin with");
}

#[test]
fn a_refused_refresh_token_is_never_posted_again() {
    let mut world = rotating(json!({}));
    world.login.live = Some("another".into());
    world.reconcile();
    assert_eq!(world.login.seen, ["r1"]);
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("Authentication")));
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Authentication")));
    world.run_until(86_400);
    assert_eq!(world.login.seen, ["r1"], "not in a day");
    world.refresh_token = Ok(world.login.log_in());
    world.seed_version += 1;
    world.reconcile();
    assert_eq!(world.ready(), yes("TokenPublished"), "a new seed is tried at once");
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), None);
    world.refresh_token = Ok("r1".into());
    world.now += SignedDuration::from_secs(3000);
    world.reconcile();
    assert_eq!(world.login.seen.iter().filter(|token| *token == "r1").count(), 1, "also when its bytes come back as a seed");
}

#[test]
fn an_ended_login_is_told_at_once_and_its_token_is_left_until_it_expires() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.login.live = None;
    world.run_until(3000);
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("RedeemedElsewhere")));
    assert_eq!(world.ready(), yes("TokenPublished"));
    assert!(message(&world, ConditionType::ReauthorizationRequired).contains("another cluster or program shares this login"));
    world.run_until(3700);
    assert_eq!(world.ready(), no("TokenExpired"));
    assert_eq!(world.login.seen, ["r1", "r2"]);
}

#[test]
fn a_login_that_ended_is_taken_up_by_a_new_seed_while_the_token_still_lives() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.login.live = None;
    world.account.metadata.annotations = Some(requested_at(60));
    world.now = at(60);
    world.reconcile();
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("RedeemedElsewhere")));
    world.now = at(70);
    world.reconcile();
    assert!(world.condition(ConditionType::ReauthorizationRequired).is_some(), "a token that is well does not excuse it");
    world.refresh_token = Ok(world.login.log_in());
    world.seed_version += 1;
    world.now = at(80);
    world.reconcile();
    assert_eq!(world.login.seen, ["r1", "r2", "r3"], "at once, and not when the token is due");
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), None);
}

#[test]
fn two_accounts_with_one_seed_do_not_log_each_other_out() {
    let mut world = rotating(json!({}));
    world.duplicate = Some("the account other".into());
    world.reconcile();
    assert_eq!((world.requests, world.state.is_none()), (0, true));
    assert_eq!(world.condition(ConditionType::DuplicateCredential), Some(yes("DuplicateCredential")));
    assert!(message(&world, ConditionType::Stalled).contains("is that of the account other"));
    world.duplicate = None;
    world.run_until(3700);
    assert_eq!(world.condition(ConditionType::DuplicateCredential), None);
}

#[test]
fn a_record_from_an_old_backup_is_not_used() {
    let mut world = rotating(json!({}));
    world.reconcile();
    let backup = world.state.clone();
    world.run_until(3000);
    world.state = backup;
    world.run_until(6500);
    assert_eq!(world.login.seen, ["r1", "r2"], "r2 is spent: to post it again would end the login");
    assert_eq!(world.condition(ConditionType::StateRolledBack), Some(yes("StateRolledBack")));
    assert_eq!(world.login.live.as_deref(), Some("r3"), "whoever has the newest record can still restore it");
    world.refresh_token = Ok(world.login.log_in());
    world.seed_version += 1;
    world.reconcile();
    assert_eq!((world.condition(ConditionType::StateRolledBack), world.ready()), (None, yes("TokenPublished")));
}

/// The record comes into an empty cluster from a backup; status does not.
fn restored() -> World {
    let mut world = rotating(json!({}));
    world.reconcile();
    let fresh = rotating(json!({}));
    (world.status, world.secret) = (fresh.status, None);
    world.account.metadata.uid = Some("another".into());
    world.state.as_mut().unwrap().1.home = Some("the Secret that was".into());
    world
}

#[test]
fn what_a_copy_of_a_record_holds_is_published_and_is_not_spent_by_itself() {
    let mut world = restored();
    world.reconcile();
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")), "the access token in it is still good");
    world.run_until(3700);
    assert_eq!(world.login.seen, ["r1"], "nobody knows whether r2 is the newest");
    assert_eq!(world.condition(ConditionType::StateRolledBack), Some(yes("StateRolledBack")));
    assert!(message(&world, ConditionType::StateRolledBack).contains("restored from a copy"));
    world.account.metadata.annotations = Some(requested_at(3700));
    world.reconcile();
    assert_eq!(world.login.seen, ["r1", "r2"], "a person says that it is");
    assert_eq!((world.condition(ConditionType::StateRolledBack), world.ready()), (None, yes("TokenPublished")));
    let home = world.state.as_ref().unwrap().1.home.clone();
    assert_eq!(home, None, "from now on it is an original");
    world.run_until(9000);
    assert!(world.login.seen.len() > 2, "and is renewed by itself");
}

#[test]
fn a_copy_that_status_tells_of_is_the_newest() {
    let mut world = restored();
    let told = {
        let mut known = rotating(json!({}));
        known.reconcile();
        known.status
    };
    world.status = told;
    world.run_until(3700);
    assert!(world.login.seen.len() > 1 && world.condition(ConditionType::StateRolledBack).is_none(), "{:?}", world.login.seen);
}

#[test]
fn where_refresh_tokens_do_not_rotate_a_copy_is_as_good_as_the_original() {
    let mut world = restored();
    edit(&mut world, json!({"provider": {"issuer": "https://login.example.com", "overrides": {"rotation": {"mode": "Never"}}}}));
    world.run_until(3700);
    assert!(world.login.seen.len() > 1 && world.condition(ConditionType::StateRolledBack).is_none());
}

#[test]
fn a_deleted_record_is_not_replaced_by_a_seed_that_is_spent() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.state = None;
    world.run_until(3000);
    assert_eq!(world.login.seen, ["r1"]);
    assert_eq!(world.condition(ConditionType::StateRolledBack), Some(yes("StateRolledBack")));
    assert!(message(&world, ConditionType::StateRolledBack).contains("is gone"));
    let mut world = rotating(json!({}));
    world.login.rotates = false;
    world.reconcile();
    world.state = None;
    world.run_until(3000);
    assert_eq!(world.login.seen, ["r1", "r1"], "what never was replaced is as good as it was");
}

#[test]
fn a_record_that_cannot_be_read_is_left_alone() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.state_unreadable = true;
    world.run_until(3000);
    assert_eq!((world.login.seen.len(), world.state_writes), (1, 2));
    assert_eq!(world.condition(ConditionType::RefreshFailing), Some(yes("Configuration")));
    world.state_unreadable = false;
    world.run_until(7000);
    assert_eq!(world.ready(), yes("TokenPublished"));
}

#[test]
fn another_provider_or_client_does_not_get_the_refresh_token() {
    let mut world = rotating(json!({}));
    world.reconcile();
    edit(&mut world, json!({"client": {"id": "another"}}));
    world.reconcile();
    // The world's inputs say `app` whatever the spec says: what counts is what is read.
    assert_eq!(world.login.seen, ["r1", "r2"]);
    let (_, state) = world.state.as_mut().unwrap();
    state.login.origin = "https://elsewhere.example.com".into();
    edit(&mut world, json!({"scopes": ["more"]}));
    world.reconcile();
    assert_eq!(world.login.seen, ["r1", "r2"]);
    let told = message(&world, ConditionType::RefreshFailing);
    assert!(told.contains("made with https://elsewhere.example.com and the spec now names another provider"), "{told}");
    world.refresh_token = Ok(world.login.log_in());
    world.seed_version += 1;
    world.reconcile();
    assert_eq!((world.login.seen.last().map(String::as_str), world.ready()), (Some("r4"), yes("TokenPublished")));
}

#[test]
fn a_namesake_adopts_a_login_by_its_seed_and_not_without() {
    let mut world = rotating(json!({}));
    world.reconcile();
    let mut heir = rotating(json!({}));
    (heir.state, heir.versions, heir.now) = (world.state.clone(), world.versions, at(10));
    heir.account.metadata.uid = Some("another".into());
    (heir.login.live, heir.login.seen) = (world.login.live.clone(), world.login.seen.clone());
    heir.reconcile();
    assert_eq!(heir.login.seen, ["r1", "r2"], "the same seed: the login goes on where it stood");
    assert_eq!(heir.state.as_ref().unwrap().1.account.uid, "another");

    let mut stranger = rotating(json!({}));
    (stranger.state, stranger.versions, stranger.now) = (world.state.clone(), world.versions, at(10));
    stranger.account.metadata.uid = Some("another".into());
    stranger.refresh_token = Ok("guess".into());
    stranger.reconcile();
    assert_eq!(stranger.login.seen, ["guess"]);
    assert!(stranger.secret.is_none(), "nothing that was another's is published");
    stranger.run_until(4000);
    assert_eq!(stranger.login.seen, ["guess"], "and its refresh token is not posted");

    let mut seedless = rotating(json!({}));
    (seedless.state, seedless.versions, seedless.now) = (world.state.clone(), world.versions, at(10));
    seedless.account.metadata.uid = Some("another".into());
    seedless.refresh_token = Err(fault(FaultKind::ReferenceMissing));
    seedless.reconcile();
    assert_eq!((seedless.login.seen.len(), seedless.secret.is_none()), (0, true), "without a seed there is no claim");
}

#[test]
fn a_reply_about_somebody_else_is_kept_and_not_published() {
    let mut world = rotating(json!({}));
    world.login.reply = json!({"id_token": id_token("alice")});
    world.reconcile();
    let before = world.token().to_owned();
    world.login.reply = json!({"id_token": id_token("mallory")});
    world.now = at(2900);
    world.reconcile();
    assert_eq!((world.token(), held(&world)), (before.as_str(), Some("r3")), "its refresh token is the only one there is");
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), Some(yes("WrongSubject")));
    world.login.reply = json!({"id_token": id_token("alice")});
    world.run_until(4000);
    assert_eq!(world.condition(ConditionType::ReauthorizationRequired), None);

    let mut world = rotating(json!({"expectedSubject": "alice"}));
    world.reconcile();
    assert!(message(&world, ConditionType::Stalled).contains("ask for the scope openid"), "{:?}", world.status.conditions);
    world.login.reply = json!({"id_token": id_token("alice")});
    world.run_until(100);
    assert_eq!(world.ready(), yes("TokenPublished"));
    world.login.reply = json!({});
    world.run_until(4000);
    assert_eq!(world.ready(), yes("TokenPublished"), "once known, a silent reply is about the same");
}

#[test]
fn a_reply_that_is_of_no_use_still_has_the_next_refresh_token() {
    let mut world = rotating(json!({}));
    for broken in [json!({"expires_in": -1}), json!({"access_token": null}), json!({"token_type": "\u{7}"})] {
        world.login.reply = broken;
        world.now += SignedDuration::from_secs(600);
        world.reconcile();
        assert_eq!(held(&world), world.login.live.as_deref());
        assert_eq!(world.condition(ConditionType::RefreshFailing), Some(yes("ProviderError")));
    }
    world.login.reply = json!({});
    world.now += SignedDuration::from_secs(600);
    world.reconcile();
    assert_eq!(world.ready(), yes("TokenPublished"));
}

#[test]
fn what_was_not_sent_or_not_looked_at_is_sent_again() {
    for fate in [Fate::NotConnected, Fate::Status(503), Fate::Status(429), Fate::Status(401)] {
        let mut world = rotating(json!({}));
        world.login.fate = fate;
        world.reconcile();
        assert_eq!((held(&world), &world.state.as_ref().unwrap().1.intent), (Some("r1"), &None), "{fate:?}");
        assert_eq!(world.condition(ConditionType::RefreshOutcomeUnknown), None, "{fate:?}");
        world.login.fate = Fate::Answered;
        world.run_until(3600);
        assert_eq!(world.ready(), yes("TokenPublished"), "{fate:?}");
    }
}

#[test]
fn what_is_armed_too_long_ago_is_not_posted() {
    let mut world = rotating(json!({}));
    world.held_up = 10;
    world.reconcile();
    assert!(world.login.seen.is_empty());
    assert_eq!(world.state.as_ref().unwrap().1.intent, None);
    world.held_up = 0;
    world.run_until(10);
    assert_eq!(world.ready(), yes("TokenPublished"));
}
