//! Stories of one account in a world made of values: a Secret, a status, a provider and a clock that the test sets.

use super::*;
use crate::account::seen::tests::{account, at, unseen};
use crate::account::{AttemptOutcome, Credentials, Inputs, Outcome, SecretMark, notices};
use crate::api::{ConditionType, ExpirySource, OAuthAccount};
use crate::oauth::{Expiry, FaultKind, Sensitive, Token};
use serde_json::json;
use std::sync::Arc;

/// More turns than any pass may take.
const TURNS: usize = 16;

struct World {
    account: OAuthAccount,
    status: OAuthAccountStatus,
    secret: Option<(u64, Contents)>,
    foreign: bool,
    stray: Option<String>,
    unpublished: Option<Record>,
    /// What the provider answers, and for how many seconds its tokens live.
    provider: Result<i64, Fault>,
    /// Seconds that an answer takes.
    latency: i64,
    seed_version: u64,
    seed: Result<(), Fault>,
    token_hosts: Option<String>,
    write_refused: Option<Fault>,
    conflicts: u32,
    /// Writes of the Secret that were tried.
    offered: u64,
    writes: u64,
    requests: u64,
    status_writes: u64,
    told: Vec<String>,
    now: Timestamp,
}

impl World {
    fn new(patch: &serde_json::Value) -> Self {
        Self {
            account: account(patch),
            status: OAuthAccountStatus::default(),
            secret: None,
            foreign: false,
            stray: None,
            unpublished: None,
            provider: Ok(3600),
            latency: 0,
            seed_version: 1,
            seed: Ok(()),
            token_hosts: None,
            write_refused: None,
            conflicts: 0,
            offered: 0,
            writes: 0,
            requests: 0,
            status_writes: 0,
            told: vec![],
            now: at(0),
        }
    }

    /// Reconciles until it rests; the moment until which it does.
    fn reconcile(&mut self) -> Option<Timestamp> {
        let mut seen = unseen(self.account.clone());
        seen.status = self.status.clone();
        // The index knows our own Secrets only.
        let ours = self.secret.as_ref().filter(|_| !self.foreign);
        seen.mark = ours.map(|(version, _)| SecretMark { resource_version: version.to_string() });
        seen.strays = self
            .stray
            .iter()
            .map(|name| Stray { name: name.clone(), uid: String::new(), resource_version: String::new() })
            .collect();
        seen.unpublished = self.unpublished.take();
        for _ in 0..TURNS {
            let next = decide(&seen, self.now);
            if let Next::Rest(until) = next {
                self.unpublished = seen.unpublished;
                return until;
            }
            let outcome = self.act(next);
            seen = seen.after(outcome);
        }
        panic!("no rest within {TURNS} turns");
    }

    /// Lets the clock run to `seconds`, waking as often as the decisions ask for.
    fn run_until(&mut self, seconds: i64) {
        loop {
            let until = self.reconcile().unwrap_or(at(seconds));
            if until > at(seconds) {
                self.now = at(seconds);
                self.reconcile();
                return;
            }
            self.now = until;
        }
    }

    fn act(&mut self, next: Next) -> Outcome {
        match next {
            Next::ReadTokenSecret(_) => Outcome::TokenSecretRead(match &self.secret {
                _ if self.foreign => TokenSecretView::Foreign("belongs to someone else".into()),
                None => TokenSecretView::Absent,
                Some((version, contents)) => TokenSecretView::Ours {
                    held: held(*version),
                    contents: contents.clone(),
                    record: Record::read(contents, self.status.token.as_ref()),
                },
            }),
            Next::ReadInputs(_) => Outcome::InputsRead(Inputs {
                references: self.seed_version.to_string(),
                credentials: self.seed.clone().map(|()| Credentials {
                    client_id: "app".into(),
                    client_secret: Sensitive::new("secret"),
                    ca_bundle: None,
                    token_hosts: vec![("app".into(), self.token_hosts.clone())],
                }),
            }),
            Next::FindEndpoint { .. } => Outcome::EndpointFound(Ok("https://login.example.com/token".parse().unwrap())),
            Next::Fail { trigger, fault } => Outcome::Failed(AttemptOutcome {
                trigger,
                started: self.now,
                finished: self.now,
                fault: Some(fault),
                issued: false,
            }),
            Next::Redeem { trigger, .. } => {
                self.requests += 1;
                let sent = self.now;
                self.now += SignedDuration::from_secs(self.latency);
                let result = self.provider.clone().map(|lifetime| Token {
                    access_token: Sensitive::new(format!("token-{}", self.requests)),
                    token_type: "Bearer".into(),
                    scopes: None,
                    expiry: Expiry { at: sent + SignedDuration::from_secs(lifetime), source: ExpirySource::Field },
                });
                Outcome::Redeemed { trigger, sent, finished: self.now, result }
            }
            Next::Publish { record, contents, over, .. } => {
                self.offered += 1;
                if let Some(fault) = &self.write_refused {
                    return Outcome::PublishRefused { at: self.now, fault: fault.clone() };
                }
                if self.conflicts > 0 {
                    self.conflicts -= 1;
                    return Outcome::PublishConflicted;
                }
                if over != self.secret.as_ref().map(|(version, _)| held(*version)) {
                    return Outcome::PublishConflicted;
                }
                self.writes += 1;
                let version = self.secret.as_ref().map_or(1, |(version, _)| version + 1);
                self.secret = Some((version, contents));
                Outcome::Published { record, held: held(version) }
            }
            Next::Prune(stray) => {
                self.writes += 1;
                self.stray = None;
                Outcome::Pruned(stray)
            }
            Next::Say(status) => {
                self.status_writes += 1;
                self.told.extend(notices(&self.status, &status).into_iter().map(|notice| notice.reason));
                self.status = status.clone();
                Outcome::Said(status)
            }
            Next::Rest(_) => unreachable!("rest is no step"),
        }
    }

    fn condition(&self, type_: ConditionType) -> Option<(String, String)> {
        let found = self.status.conditions.iter().find(|condition| condition.type_ == type_.as_str());
        found.map(|condition| (condition.status.clone(), condition.reason.clone()))
    }

    fn ready(&self) -> (String, String) {
        self.condition(ConditionType::Ready).unwrap()
    }

    fn edit(&mut self, patch: &serde_json::Value) {
        let generation = self.account.metadata.generation.map(|generation| generation + 1);
        self.account = account(patch);
        self.account.metadata.generation = generation;
    }

    fn token(&self) -> &str {
        self.secret.as_ref().unwrap().1.data["access_token"].expose()
    }
}

fn held(version: u64) -> Held {
    Held { uid: "s".into(), resource_version: version.to_string(), unalterable: false, disowned: false }
}

fn yes(reason: &str) -> (String, String) {
    ("True".into(), reason.into())
}

fn no(reason: &str) -> (String, String) {
    ("False".into(), reason.into())
}

fn fault(kind: FaultKind) -> Fault {
    Fault::new(kind, "something is wrong")
}

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
fn an_unsupported_field_stalls_with_its_name_and_leaves_the_token_alone() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.edit(&json!({"dpop": {"algorithm": "ES256"}}));
    world.run_until(3599);
    assert_eq!((world.requests, world.ready()), (1, yes("TokenPublished")), "the token is as valid as it was");
    assert_eq!(world.condition(ConditionType::Stalled), Some(yes("Unsupported")));
    assert_eq!(world.token(), "token-1");
    world.run_until(3600);
    assert_eq!((world.requests, world.ready()), (1, no("TokenExpired")));
    assert_eq!(world.told, ["Unsupported", "TokenExpired"]);
    let mut fresh = World::new(&json!({"dpop": {"algorithm": "ES256"}}));
    fresh.reconcile();
    assert_eq!((fresh.requests, fresh.ready()), (0, no("Unsupported")));
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
fn a_race_for_the_secret_is_looked_at_again_and_costs_no_second_request() {
    let mut world = World::new(&json!({}));
    world.conflicts = 2;
    world.reconcile();
    assert_eq!((world.requests, world.writes, world.ready()), (1, 1, yes("TokenPublished")));
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
fn a_deleted_account_is_left_alone() {
    let mut world = World::new(&json!({}));
    world.account.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(0)));
    assert_eq!(world.reconcile(), None);
    assert_eq!((world.requests, world.writes, world.status_writes), (0, 0, 0));
}

#[test]
fn nothing_is_asked_for_before_the_token_secret_was_read_live() {
    let mut seen = unseen(account(&json!({})));
    assert_eq!(decide(&seen, at(0)), Next::ReadTokenSecret("demo-token".into()));
    seen.status.observed_generation = Some(1);
    seen.account = Arc::new(account(&json!({})));
    assert_eq!(decide(&seen, at(0)), Next::ReadTokenSecret("demo-token".into()));
}

/// Histories drawn from a seed: whatever the provider, the Secret, the seed and the clock do, every pass rests within
/// its turns, nothing is asked for before its time, and status tells whether a valid token stands in the Secret.
#[test]
fn random_histories_keep_the_promises() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for history in 0..300 {
        let mut world = World::new(&json!({}));
        for step in 0..60 {
            match draw(14) {
                0 => world.provider = Ok(i64::try_from(draw(7200)).unwrap() + 5),
                1 => world.provider = Err(fault(FaultKind::Unavailable)),
                2 => world.provider = Err(fault(FaultKind::InvalidClient)),
                3 => world.secret = None,
                4 => world.seed_version += 1,
                5 => world.seed = if draw(2) == 0 { Ok(()) } else { Err(fault(FaultKind::ReferenceMissing)) },
                6 => world.foreign = draw(2) == 0,
                7 => world.edit(&json!({"scopes": [format!("scope-{}", draw(3))]})),
                8 => world.write_refused = (draw(2) == 0).then(|| fault(FaultKind::ApiRefused)),
                9 => {
                    if let Some((version, contents)) = &mut world.secret {
                        *version += 1;
                        contents.data.insert("access_token".into(), Sensitive::new("forged"));
                    }
                }
                10 => world.edit(&json!({"suspend": draw(2) == 0})),
                11 => world.edit(&json!({"par": if draw(2) == 0 { json!(true) } else { json!(null) }})),
                _ => world.now += SignedDuration::from_secs(i64::try_from(draw(1800)).unwrap()),
            }
            let waiting = world.status.next_attempt_time.clone().filter(|next| next.0 > world.now);
            let (requests, status) = (world.requests, world.status.clone());
            let until = world.reconcile();
            let place = format!("history {history}, step {step}");
            assert!(until.is_none_or(|until| until > world.now), "{place}: rests into the past");
            assert!(world.requests <= requests + 1, "{place}: more than one request in a pass");
            if waiting.is_some() && world.requests > requests {
                let changed = status.observed_generation != world.account.metadata.generation
                    || status.observed_references != Some(world.seed_version.to_string());
                assert!(changed, "{place}: asked before nextAttemptTime without a reason");
            }
            let stands = !world.foreign
                && world.secret.as_ref().is_some_and(|(_, contents)| {
                    Record::read(contents, world.status.token.as_ref()).is_some_and(|r| r.public.expiration_time.0 > world.now)
                });
            assert_eq!(
                world.ready().0 == "True",
                stands,
                "{place}: Ready must tell whether a valid token stands: {:?}",
                world.ready()
            );
            let (state, writes) = (world.status.clone(), world.writes);
            world.reconcile();
            assert_eq!((&state, writes), (&world.status, world.writes), "{place}: a second look must change nothing");
        }
    }
}
