//! Tokens that are bound to a key (RFC 9449): a login has one for its life, written down before it is used; what spends
//! nothing has a new one for each token.

use super::login::{edit, held, requested_at, rotating};
use super::person::Answer;
use super::provider::Fate;
use super::world::{Crash, World, fault, yes};
use crate::account::seen::tests::at;
use crate::account::{Next, Outcome, decide};
use crate::api::DPoPAlgorithm;
use crate::oauth::{DPoPKey, FaultKind, Sensitive};
use jiff::SignedDuration;
use serde_json::{Value, json};

fn es256() -> Value {
    json!({"dpop": {"algorithm": "ES256"}})
}

fn eddsa() -> Value {
    json!({"dpop": {"algorithm": "EdDSA"}})
}

/// The key of the login that is held.
fn key(world: &World) -> Option<Sensitive> {
    world.state.as_ref()?.1.credential.as_ref()?.dpop_key.clone()
}

/// One key of the token Secret.
fn published(world: &World, name: &str) -> Option<String> {
    world.secret.as_ref().unwrap().1.data.get(name).map(|value| value.expose().to_owned())
}

/// Whether what is published can be used, and status tells of its key.
fn is_bound(world: &World, algorithm: DPoPAlgorithm) {
    let pem = published(world, "dpop_key").expect("no key");
    let key = DPoPKey::read(&Sensitive::new(pem)).unwrap();
    let told = world.status.token.as_ref().unwrap().dpop.clone().expect("not told");
    assert_eq!((key.algorithm(), key.thumbprint()), (algorithm, told.thumbprint));
    assert_eq!((told.algorithm, published(world, "token_type").as_deref()), (algorithm, Some("DPoP")));
    assert_eq!(world.ready(), yes("TokenPublished"));
}

fn message(world: &World) -> &str {
    &world.status.conditions[0].message
}

#[test]
fn a_login_has_one_key_for_its_life_written_down_before_anything_is_sent() {
    let mut world = rotating(es256());
    world.reconcile();
    let before = world.steps.iter().position(|step| *step == "make key").unwrap();
    assert_eq!(world.steps[before..before + 3], ["make key", "arm", "spend"], "{:?}", world.steps);
    is_bound(&world, DPoPAlgorithm::ES256);
    let first = key(&world).unwrap();
    assert_eq!(published(&world, "dpop_key").as_deref(), Some(first.expose()));
    assert!(!message(&world).contains("key"), "{}", message(&world));
    world.run_until(20_000);
    assert!(world.login.seen.len() > 5 && !world.steps.contains(&"make key"), "{:?}", world.login.seen);
    assert_eq!((key(&world), world.login.unproven, held(&world)), (Some(first), 0, world.login.live.as_deref()));
    is_bound(&world, DPoPAlgorithm::ES256);
}

#[test]
fn a_crash_at_any_step_loses_no_key() {
    for turn in 0..16 {
        for crash in [Crash::Before(turn), Crash::After(turn)] {
            for begun in [false, true] {
                let mut world = rotating(eddsa());
                if begun {
                    world.reconcile();
                    world.now = at(3000);
                }
                world.crash = Some(crash);
                world.reconcile();
                world.run_until(10_000);
                assert_eq!(world.login.unproven, 0, "{crash:?} {begun}");
                // Where the reply was lost with the process, the login is, key or no key.
                if world.login.reused == 0 {
                    assert_eq!(held(&world), world.login.live.as_deref(), "{crash:?} {begun} {:?}", world.status.history);
                    is_bound(&world, DPoPAlgorithm::EdDSA);
                }
            }
        }
    }
}

#[test]
fn a_login_that_a_bad_seed_displaced_has_its_own_key_when_it_returns() {
    let mut world = rotating(es256());
    world.reconcile();
    let first = key(&world).unwrap();
    world.refresh_token = Ok("mistyped".into());
    world.login.fate = Fate::NotConnected;
    world.now = at(3000);
    world.reconcile();
    let (_, state) = world.state.as_ref().unwrap();
    assert_eq!(state.displaced.as_ref().unwrap().dpop_key, Some(first.clone()));
    assert_ne!(key(&world), Some(first.clone()), "another login has another key");
    world.login.fate = Fate::Answered;
    world.run_until(3300);
    assert_eq!((key(&world), world.login.unproven, world.ready()), (Some(first), 0, yes("TokenPublished")));
}

#[test]
fn what_the_spec_says_later_counts_from_the_next_login_on() {
    let mut world = rotating(es256());
    world.reconcile();
    let first = key(&world).unwrap();
    for (number, patch) in [eddsa(), json!({})].into_iter().enumerate() {
        edit(&mut world, patch);
        world.reconcile();
        assert_eq!(world.login.seen.len(), number + 2, "a changed spec asks at once, and once");
        assert_eq!((key(&world).as_ref(), world.login.unproven), (Some(&first), 0), "the refresh token is bound to it");
        is_bound(&world, DPoPAlgorithm::ES256);
        assert!(message(&world).contains("bound to the key that its login began with"), "{}", message(&world));
    }
    edit(&mut world, eddsa());
    world.refresh_token = Ok(world.login.log_in());
    world.reconcile();
    assert_ne!(key(&world), Some(first));
    is_bound(&world, DPoPAlgorithm::EdDSA);
    assert!(!message(&world).contains("key"), "{}", message(&world));
}

#[test]
fn a_login_without_a_key_is_bound_to_one_at_its_next_refresh() {
    let mut world = rotating(json!({}));
    world.reconcile();
    assert_eq!((key(&world), published(&world, "dpop_key")), (None, None));
    edit(&mut world, es256());
    world.reconcile();
    is_bound(&world, DPoPAlgorithm::ES256);
    world.run_until(9000);
    assert_eq!((world.login.unproven, world.ready()), (0, yes("TokenPublished")));
}

#[test]
fn a_namesake_adopts_the_key_with_the_login() {
    let mut world = rotating(es256());
    world.reconcile();
    let mut heir = rotating(es256());
    (heir.state, heir.versions, heir.now, heir.passes) = (world.state.clone(), world.versions, at(10), 1000);
    heir.account.metadata.uid = Some("another".into());
    let theirs = &world.login;
    (heir.login.live, heir.login.bound, heir.login.seen) = (theirs.live.clone(), theirs.bound.clone(), theirs.seen.clone());
    heir.reconcile();
    assert_eq!((heir.login.seen.len(), heir.login.unproven, key(&heir)), (2, 0, key(&world)));
    is_bound(&heir, DPoPAlgorithm::ES256);
}

#[test]
fn what_spends_nothing_has_a_new_key_for_each_token_published_with_it() {
    let mut world = World::new(&es256());
    world.reconcile();
    assert_eq!((world.requests, world.writes, world.status_writes, world.state_writes), (1, 1, 1, 0), "two writes, as without");
    is_bound(&world, DPoPAlgorithm::ES256);
    let first = published(&world, "dpop_key");
    world.run_until(3000);
    assert_eq!(world.requests, 2);
    is_bound(&world, DPoPAlgorithm::ES256);
    assert_ne!(published(&world, "dpop_key"), first);
    world.edit(&eddsa());
    world.reconcile();
    assert_eq!(world.requests, 3, "a changed spec asks at once");
    is_bound(&world, DPoPAlgorithm::EdDSA);
    world.edit(&json!({}));
    world.reconcile();
    assert_eq!((published(&world, "dpop_key"), published(&world, "token_type").as_deref()), (None, Some("Bearer")));
    assert_eq!((world.requests, world.status.token.clone().unwrap().dpop), (4, None));
}

#[test]
fn a_token_that_could_not_be_written_is_written_with_its_key_later() {
    let mut world = World::new(&es256());
    world.write_refused = Some(fault(FaultKind::ApiRefused));
    world.reconcile();
    world.write_refused = None;
    world.run_until(30);
    assert_eq!(world.requests, 1);
    is_bound(&world, DPoPAlgorithm::ES256);
}

#[test]
fn a_provider_that_binds_nothing_is_believed_and_that_is_said() {
    let mut client = World::new(&es256());
    let mut login = rotating(es256());
    for world in [&mut client, &mut login] {
        world.login.binds = false;
        world.reconcile();
        assert_eq!((published(world, "dpop_key"), published(world, "token_type").as_deref()), (None, Some("Bearer")));
        assert_eq!((world.ready(), world.requests), (yes("TokenPublished"), 1));
        assert!(message(world).contains("issued it as a bearer token; spec.dpop asks for"), "{}", message(world));
        let writes = (world.status_writes, world.writes);
        for _ in 0..3 {
            world.reconcile();
        }
        assert_eq!((world.status_writes, world.writes), writes, "and said once");
    }
    login.login.binds = true;
    login.run_until(3000);
    is_bound(&login, DPoPAlgorithm::ES256);
    assert!(!message(&login).contains("bearer"), "{}", message(&login));
}

#[test]
fn a_damaged_key_is_put_back_as_a_damaged_token_is() {
    for damage in [Some("scribbled"), None] {
        for (mut world, asked) in [(World::new(&es256()), 2), (rotating(es256()), 1)] {
            world.reconcile();
            if let Some((version, contents)) = &mut world.secret {
                *version += 1000;
                contents.data.remove("dpop_key");
                contents.data.extend(damage.map(|text| ("dpop_key".to_owned(), Sensitive::new(text))));
            }
            world.versions += 2000;
            world.now += SignedDuration::from_secs(5);
            world.reconcile();
            is_bound(&world, DPoPAlgorithm::ES256);
            assert_eq!(world.requests, asked, "{damage:?}");
        }
    }
}

fn consented(grant: &str) -> World {
    World::new(&json!({
        "grant": {"clientCredentials": null, grant: {}}, "client": {"secretRef": null}, "expectedSubject": "alice",
        "dpop": {"algorithm": "ES256"},
    }))
}

#[test]
fn a_device_polls_with_the_key_of_the_login_to_come_whatever_process_polls() {
    let mut world = consented("deviceCode");
    world.reconcile();
    let first = key(&world).expect("made with the code");
    assert_eq!(world.steps.iter().filter(|step| ["make key", "record"].contains(step)).count(), 2, "{:?}", world.steps);
    world.run_until(20);
    // Another instance goes on.
    (world.identity, world.person.polled) = ("operator-2".into(), None);
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.person.answer = Answer::Yes;
    world.run_until(40);
    is_bound(&world, DPoPAlgorithm::ES256);
    world.run_until(9000);
    assert_eq!((key(&world), world.login.unproven, world.ready()), (Some(first), 0, yes("TokenPublished")));
}

#[test]
fn a_device_s_code_that_was_asked_for_before_the_spec_wanted_a_key_is_bound_before_the_next_poll() {
    let mut world = consented("deviceCode");
    let bound = world.account.spec.dpop.take();
    world.reconcile();
    assert_eq!(key(&world), None);
    world.account.spec.dpop = bound;
    world.account.metadata.generation = Some(2);
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.person.answer = Answer::Yes;
    world.run_until(30);
    is_bound(&world, DPoPAlgorithm::ES256);
    assert_eq!(world.person.begun, 1);
}

#[test]
fn each_consent_in_a_browser_begins_a_login_with_a_key_of_its_own() {
    let mut world = consented("authorizationCode");
    world.person.pages = Some("https://connect.example.com");
    world.login.reply = json!({"id_token": super::login::id_token("alice")});
    world.reconcile();
    let mut keys = vec![];
    for code in ["code-1", "code-2"] {
        (world.login.live, world.login.bound) = (Some(code.into()), None);
        world.person.consent(code, 300);
        world.reconcile();
        is_bound(&world, DPoPAlgorithm::ES256);
        keys.push(key(&world).unwrap());
    }
    assert_ne!(keys[0], keys[1]);
    // One that comes to nothing leaves the login its key.
    world.person.consent("code-x", 300);
    world.reconcile();
    assert_eq!((key(&world).as_ref(), world.ready()), (Some(&keys[1]), yes("TokenPublished")));
    world.run_until(9000);
    assert_eq!(world.login.unproven, 0);
}

#[test]
fn whoever_is_asked_about_the_token_is_asked_with_its_key() {
    // The world compares the key with the published one.
    let overrides = json!({
        "rotation": {"killsOldAccessToken": true}, "probe": {"method": "GET", "url": "https://api.example.com/me"},
    });
    let check = json!({"url": "https://api.example.com/me", "intervalSeconds": 600});
    let mut world = rotating(json!({"provider": {"overrides": overrides}, "dpop": {"algorithm": "ES256"}, "healthCheck": check}));
    world.run_until(2000);
    assert!(world.health_checks > 2, "{}", world.health_checks);
    world.login.fate = Fate::RequestLost;
    (world.account.metadata.annotations, world.now) = (Some(requested_at(2100)), at(2100));
    world.reconcile();
    world.login.fate = Fate::Answered;
    world.run_until(2300);
    assert_eq!((world.probes, world.login.unproven, world.ready()), (1, 0, yes("TokenPublished")));
}

#[test]
fn no_key_is_shown_by_what_is_printed() {
    let mut world = rotating(es256());
    let mut seen = world.observe();
    seen.turn = true;
    let mut printed = String::new();
    for _ in 0..20 {
        let next = decide(&seen, world.now);
        printed += &format!("{next:?} {seen:?}");
        if matches!(next, Next::Rest(_)) {
            break;
        }
        let outcome = world.act(next);
        printed += &format!("{outcome:?}");
        if let Outcome::Said(status) = &outcome {
            printed += &serde_json::to_string(status).unwrap();
        }
        seen = seen.after(outcome);
    }
    let key = key(&world).unwrap();
    assert!(printed.contains("dpop_key") && printed.contains("KeyMade"), "it was printed");
    for line in key.expose().lines().filter(|line| !line.starts_with('-')) {
        assert!(!printed.contains(line), "a line of the key is shown");
    }
    assert!(world.state.is_some_and(|(_, state)| serde_json::to_string(&state).unwrap().contains("dpopKey")));
}
