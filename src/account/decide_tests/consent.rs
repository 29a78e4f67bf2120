//! A login that a person consents to: nothing is asked before, nothing has failed until then, and what they consented to is
//! redeemed once.

use super::login::{held, requested_at};
use super::person::Answer;
use super::provider::Fate;
use super::world::{Crash, World, no, yes};
use crate::account::seen::tests::at;
use crate::api::ConditionType;
use serde_json::{Value, json};

fn device(patch: Value) -> World {
    world(json!({"clientCredentials": null, "deviceCode": {}}), patch)
}

fn browser(patch: Value) -> World {
    let mut world = world(json!({"clientCredentials": null, "authorizationCode": {}}), patch);
    world.person.pages = Some("https://connect.example.com");
    world
}

fn world(grant: Value, patch: Value) -> World {
    let mut spec = json!({"grant": grant, "client": {"secretRef": null}});
    spec.as_object_mut().unwrap().extend(patch.as_object().cloned().unwrap());
    World::new(&spec)
}

fn ready(world: &World) -> (String, String) {
    world.ready()
}

/// Status and reason of a condition that there must be.
fn told(world: &World, type_: ConditionType) -> (String, String) {
    world.condition(type_).unwrap_or_else(|| panic!("no {type_:?}: {:?}", world.status.conditions))
}

#[test]
fn a_device_waits_without_failing_until_somebody_enters_its_code() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.reconcile();
    let awaited = world.status.authorization.clone().unwrap();
    assert_eq!((awaited.user_code.as_deref(), awaited.expiration_time.map(|end| end.0)), (Some("CODE-1"), Some(at(600))));
    assert_eq!(ready(&world), no("AuthorizationPending"));
    assert_eq!(told(&world, ConditionType::Reconciling), yes("AuthorizationPending"));
    assert_eq!((world.status.failed_attempts, world.person.begun, world.person.shown), (0, 1, 0));
    let writes = (world.status_writes, world.state_writes);
    world.run_until(60);
    assert!((10..=13).contains(&world.person.polls), "every five seconds: {}", world.person.polls);
    assert_eq!((world.status_writes, world.state_writes), writes, "waiting writes nothing");
    world.person.answer = Answer::Yes;
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.run_until(70);
    assert_eq!((ready(&world), held(&world)), (yes("TokenPublished"), Some("r2")));
    assert_eq!((world.status.authorization.clone(), world.status.token.as_ref().unwrap().generation), (None, 1));
    world.run_until(3700);
    assert_eq!(held(&world), Some("r3"), "and then it is refreshed as any other login");
    assert_eq!(world.login.reused, 0);
}

#[test]
fn a_code_that_nobody_enters_ends_and_a_person_asks_for_the_next() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.run_until(601);
    assert_eq!(told(&world, ConditionType::Stalled), yes("AuthorizationExpired"));
    assert_eq!(told(&world, ConditionType::ReauthorizationRequired), yes("AuthorizationExpired"));
    assert_eq!((world.status.authorization.clone(), world.person.begun), (None, 1));
    let polls = world.person.polls;
    world.run_until(86_400);
    assert_eq!((world.person.begun, world.person.polls), (1, polls), "nothing begins by itself");
    world.account.metadata.annotations = Some(requested_at(7));
    world.reconcile();
    assert_eq!(world.status.authorization.as_ref().unwrap().user_code.as_deref(), Some("CODE-2"));
    assert_eq!(ready(&world), no("AuthorizationPending"));
}

#[test]
fn who_says_no_is_heard() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.run_until(20);
    world.person.answer = Answer::No;
    world.run_until(40);
    assert_eq!(told(&world, ConditionType::ReauthorizationRequired).0, "True");
    assert_eq!((held(&world), world.person.begun), (None, 1));
}

#[test]
fn a_code_that_could_log_anybody_in_is_shown_only_to_those_who_may_read_the_token() {
    let mut world = device(json!({}));
    world.reconcile();
    let awaited = world.status.authorization.clone().unwrap();
    assert_eq!((awaited.user_code, awaited.verification_url, world.person.shown), (None, None, 1));
    let mut world = device(json!({}));
    world.person.pages = Some("https://connect.example.com");
    world.reconcile();
    let awaited = world.status.authorization.clone().unwrap();
    assert_eq!((awaited.user_code, awaited.url.as_deref()), (None, Some("https://connect.example.com/consent/apps/demo")));
    assert_eq!(world.person.shown, 0, "the consent pages show it");
}

#[test]
fn a_provider_that_gives_no_code_is_asked_again_with_patience() {
    let mut world = device(json!({}));
    world.person.refuses = true;
    world.reconcile();
    assert_eq!(told(&world, ConditionType::RefreshFailing).0, "True");
    world.person.refuses = false;
    world.run_until(10);
    assert_eq!((world.person.begun, ready(&world)), (1, no("AuthorizationPending")));
}

#[test]
fn a_client_of_our_own_is_registered_once_and_before_it_ends_again() {
    let registering = json!({"provider": {"overrides": {"registration": {"dynamic": true}}}, "client": null,
        "expectedSubject": "alice"});
    let mut world = device(registering);
    world.person.answer = Answer::None;
    world.reconcile();
    assert_eq!(world.steps.iter().filter(|step| **step == "register").count(), 1, "{:?}", world.steps);
    world.run_until(30);
    assert_eq!((world.person.registrations, world.person.begun), (1, 1));
    world.person.answer = Answer::Yes;
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.run_until(40);
    assert_eq!(ready(&world), yes("TokenPublished"));
    assert_eq!(world.state.as_ref().unwrap().1.login.client_id, "client-1");
    // While nobody can read its record, no other client takes its place.
    world.state_unreadable = true;
    let writes = world.state_writes;
    world.run_until(7200);
    assert_eq!((world.person.registrations, world.state_writes), (1, writes));
    world.state_unreadable = false;
    world.run_until(90 * 86_400 + 7200);
    assert_eq!(world.person.registrations, 2, "a login made with the old client needs another consent");
}

#[test]
fn a_process_that_ends_at_any_step_loses_no_more_than_the_code() {
    for turn in 0..14 {
        for crash in [Crash::Before(turn), Crash::After(turn)] {
            let mut world = device(json!({"expectedSubject": "alice"}));
            world.crash = Some(crash);
            world.reconcile();
            world.person.answer = Answer::Yes;
            world.login.reply = json!({"id_token": super::login::id_token("alice")});
            world.crash = Some(crash);
            world.run_until(30);
            if ready(&world) != yes("TokenPublished") {
                assert_eq!(told(&world, ConditionType::ReauthorizationRequired).0, "True", "{crash:?} {:?}", world.status);
                world.account.metadata.annotations = Some(requested_at(7));
                world.reconcile();
                world.person.answer = Answer::Yes;
                world.run_until(60);
            }
            assert_eq!(ready(&world), yes("TokenPublished"), "{crash:?}");
        }
    }
}

#[test]
fn a_browser_is_waited_for_without_a_word_to_the_provider() {
    let mut world = browser(json!({}));
    world.reconcile();
    let url = world.status.authorization.clone().unwrap().url;
    assert_eq!(url.as_deref(), Some("https://connect.example.com/consent/apps/demo"));
    assert_eq!((ready(&world), world.status.failed_attempts), (no("AuthorizationPending"), 0));
    let writes = world.status_writes;
    world.run_until(86_400);
    assert_eq!((world.requests, world.status_writes, world.state_writes), (0, writes, 0));
}

#[test]
fn what_the_pages_leave_is_redeemed_once_and_then_deleted() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!((ready(&world), held(&world)), (yes("TokenPublished"), Some("r2")));
    let spend = world.login.seen.iter().filter(|token| *token == "code-1").count();
    assert_eq!((spend, world.person.deposit.is_none(), world.status.authorization.clone()), (1, true, None));
    world.run_until(3700);
    assert_eq!((held(&world), world.login.reused), (Some("r3"), 0));
}

#[test]
fn a_process_that_ends_at_any_step_redeems_a_code_at_most_once() {
    for turn in 0..16 {
        for crash in [Crash::Before(turn), Crash::After(turn)] {
            for journals in [false, true] {
                let mut world = browser(json!({}));
                world.journals = journals;
                world.reconcile();
                world.login.live = Some("code-1".into());
                world.person.consent("code-1", 300);
                world.crash = Some(crash);
                world.reconcile();
                world.run_until(120);
                assert!(world.login.seen.iter().filter(|token| *token == "code-1").count() <= 1, "{crash:?}");
                assert!(world.person.deposit.is_none(), "{crash:?}");
                let lost = ready(&world) != yes("TokenPublished");
                let said = world.condition(ConditionType::ReauthorizationRequired).is_some();
                assert_eq!(lost, said, "{crash:?} {journals} {:?}", world.status.conditions);
                // Armed and not answered: whether it was sent is not known, and it works once.
                let open = ["arm", "spend"].contains(&world.ended_after);
                assert!(!lost || !journals || open, "after {}, {crash:?}", world.ended_after);
            }
        }
    }
}

#[test]
fn a_code_whose_answer_is_lost_is_given_up() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.login.fate = Fate::ReplyLost;
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!(told(&world, ConditionType::ReauthorizationRequired).0, "True");
    world.login.fate = Fate::Answered;
    world.run_until(3600);
    assert_eq!(world.login.seen, ["code-1"], "sent again it would end what came of the first time");
    assert_eq!(
        world.status.authorization.as_ref().and_then(|awaited| awaited.url.as_deref()),
        Some("https://connect.example.com/consent/apps/demo")
    );
}

#[test]
fn a_second_consent_takes_the_place_of_the_login_only_when_it_succeeds() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.person.consent("code-1", 300);
    world.reconcile();
    // A code that the provider does not know.
    world.now = at(10);
    world.person.consent("code-x", 310);
    world.reconcile();
    assert_eq!((held(&world), ready(&world)), (Some("r2"), yes("TokenPublished")), "the login goes on");
    assert!(world.person.deposit.is_none());
    world.login.log_in();
    world.login.live = Some("code-2".into());
    world.now = at(20);
    world.person.consent("code-2", 320);
    world.reconcile();
    assert!(world.status.token.as_ref().unwrap().generation == 2 && ready(&world) == yes("TokenPublished"));
}

#[test]
fn a_code_for_another_account_or_one_that_is_too_old_is_thrown_away() {
    for stale in [true, false] {
        let mut world = browser(json!({}));
        world.now = at(10);
        world.reconcile();
        world.person.consent("code-1", if stale { 5 } else { 300 });
        if !stale {
            world.person.deposit.as_mut().unwrap().uid = "another".into();
        }
        world.reconcile();
        assert_eq!((world.login.seen.len(), world.person.deposit.is_none()), (0, true), "{stale}");
        assert_eq!(ready(&world), no("AuthorizationPending"));
    }
}

#[test]
fn without_consent_pages_there_is_no_authorization_code() {
    let mut world = browser(json!({}));
    world.person.pages = None;
    world.reconcile();
    assert_eq!(told(&world, ConditionType::Stalled), yes("Configuration"));
}

#[test]
fn somebody_else_s_consent_is_not_kept() {
    let mut world = browser(json!({"expectedSubject": "alice"}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.login.reply = json!({"id_token": super::login::id_token("mallory")});
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!((held(&world), world.secret.is_none()), (None, true));
    assert_eq!(told(&world, ConditionType::ReauthorizationRequired), yes("WrongSubject"));
    world.run_until(7200);
    assert_eq!(world.login.seen, ["code-1"], "mallory's refresh token is not even there to be used");
    world.login.log_in();
    world.login.live = Some("code-2".into());
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.person.consent("code-2", 7500);
    world.reconcile();
    assert_eq!(ready(&world), yes("TokenPublished"));
}

#[test]
fn before_a_login_ends_for_good_a_person_is_told_and_a_new_one_begins_the_count_anew() {
    let overrides = json!({"provider": {"overrides": {"refreshToken": {"absoluteSeconds": 864_000}}}});
    let mut world = browser(overrides);
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!(world.status.login.as_ref().unwrap().expiration_time.as_ref().unwrap().0, at(864_000));
    world.run_until(8 * 86_400 - 60);
    assert_eq!(world.condition(ConditionType::ReauthorizationDue), None);
    world.run_until(8 * 86_400 + 300);
    assert_eq!(told(&world, ConditionType::ReauthorizationDue), yes("LoginEnds"));
    assert_eq!(ready(&world), yes("TokenPublished"), "until then all is well");
    world.login.log_in();
    world.login.live = Some("code-2".into());
    world.person.consent("code-2", 8 * 86_400 + 900);
    world.reconcile();
    assert_eq!(world.condition(ConditionType::ReauthorizationDue), None);
}

#[test]
fn a_code_is_tried_at_once_and_then_with_patience() {
    use crate::oauth::FaultKind;
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.login.fate = Fate::Status(401);
    world.person.consent("code-1", 300);
    for _ in 0..20 {
        world.reconcile();
    }
    assert_eq!(world.requests, 1, "whoever wakes us does not make us ask again");
    world.run_until(290);
    assert!(world.requests <= 5, "{}", world.requests);
    let mut world = browser(json!({}));
    world.reconcile();
    world.seed = Err(super::world::fault(FaultKind::ReferenceMissing));
    world.person.consent("code-1", 300);
    for _ in 0..20 {
        world.reconcile();
    }
    assert!(world.status_writes <= 3, "{}", world.status_writes);
    world.run_until(400);
    assert!(world.person.deposit.is_none(), "what is too old goes, whatever else is missing");
}

#[test]
fn a_pinned_login_is_taken_over_by_nobody_who_does_not_say_who_they_are() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!(world.state.as_ref().unwrap().1.subject.as_deref(), Some("alice"));
    world.now = at(10);
    world.login.log_in();
    world.login.live = Some("code-2".into());
    world.login.reply = json!({});
    world.person.consent("code-2", 310);
    world.reconcile();
    assert_eq!((held(&world), world.status.token.as_ref().unwrap().generation), (Some("r2"), 1), "alice's login goes on");
}

#[test]
fn a_code_for_another_client_is_sent_nowhere() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.person.consent("code-1", 300);
    world.person.deposit.as_mut().unwrap().login.client_id = "another".into();
    world.reconcile();
    world.run_until(400);
    assert_eq!((world.login.seen.len(), world.person.deposit.is_none()), (0, true));
}

#[test]
fn a_device_whose_client_is_refused_is_polled_with_patience() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.reconcile();
    world.login.fate = Fate::Status(401);
    world.person.answer = Answer::Yes;
    world.run_until(59);
    assert!(world.person.polls <= 3, "{} polls", world.person.polls);
    assert_eq!(told(&world, ConditionType::RefreshFailing).0, "True", "it is said, and stays said");
}

#[test]
fn without_a_refresh_token_a_person_is_called_before_the_token_ends() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.login.reply = json!({"refresh_token": null});
    world.person.consent("code-1", 300);
    world.reconcile();
    assert_eq!((ready(&world), held(&world)), (yes("TokenPublished"), None));
    world.run_until(3000);
    assert_eq!(ready(&world), yes("TokenPublished"));
    assert_eq!(told(&world, ConditionType::ReauthorizationRequired), yes("Authentication"));
    assert_eq!(told(&world, ConditionType::Stalled).0, "True");
    let url = world.status.authorization.as_ref().and_then(|awaited| awaited.url.as_deref());
    assert_eq!(url, Some("https://connect.example.com/consent/apps/demo"));
}

#[test]
fn another_client_in_the_spec_is_said_and_the_login_is_kept() {
    let mut world = browser(json!({}));
    world.reconcile();
    world.login.live = Some("code-1".into());
    world.person.consent("code-1", 300);
    world.reconcile();
    let mut spec =
        json!({"grant": {"clientCredentials": null, "authorizationCode": {}}, "client": {"id": "other", "secretRef": null}});
    spec["scopes"] = json!(["read"]);
    world.edit(&spec);
    world.client_id = "other".into();
    world.reconcile();
    let why = world.status.conditions.iter().find(|condition| condition.type_ == "RefreshFailing").unwrap().message.clone();
    assert!(why.contains("client id") && why.contains("connect the account again"), "{why}");
    assert_eq!(held(&world), Some("r2"), "an edit is no reason to lose it");
}

#[test]
fn a_code_is_polled_for_also_while_a_token_lives() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.login.reply = json!({"id_token": super::login::id_token("alice"), "refresh_token": null});
    world.reconcile();
    world.person.answer = Answer::Yes;
    world.run_until(10);
    assert_eq!((ready(&world), held(&world)), (yes("TokenPublished"), None), "no refresh token came");
    world.account.metadata.annotations = Some(requested_at(7));
    world.reconcile();
    assert_eq!(world.person.begun, 2);
    world.run_until(60);
    let writes = (world.status_writes, world.state_writes);
    world.run_until(120);
    assert_eq!((world.status_writes, world.state_writes), writes);
    world.person.answer = Answer::Yes;
    world.run_until(130);
    assert_eq!(world.status.token.as_ref().unwrap().generation, 2);
    assert_eq!(world.status.authorization, None);
}

#[test]
fn who_is_woken_a_moment_too_early_waits_that_moment() {
    let mut world = device(json!({"expectedSubject": "alice"}));
    world.reconcile();
    let next = world.person.polled.unwrap().next;
    world.now = next - jiff::SignedDuration::from_millis(1);
    assert_eq!(world.reconcile(), Some(next), "and not five minutes");
}
