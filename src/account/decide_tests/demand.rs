//! An API refuses a token, and somebody wants another one: one token request, one answer, a floor, and no loop.

use super::login::{held, rotating};
use super::provider::Fate;
use super::world::{WAITS_TO_BE_TOLD_OF, World, fault, no, yes};
use crate::account::demand::{Because, Verdict, judge};
use crate::account::seen::tests::at;
use crate::account::{Plan, Record, StateView, Version};
use crate::api::{ConditionType, Trigger};
use crate::oauth::{Endpoint, Endpoints, FaultKind};
use jiff::SignedDuration;
use serde_json::json;

impl World {
    fn published(&self) -> Option<Record> {
        self.secret.as_ref().and_then(|(_, contents)| Record::read(contents, self.status.token.as_ref()))
    }

    /// What a replica does for whoever was refused with the published token.
    pub fn ask(&mut self) -> Verdict {
        let mut found = self.account.clone();
        found.status = Some(self.status.clone());
        let version = |version: &u64| Version { uid: "s".into(), resource_version: version.to_string() };
        let view = match &self.state {
            None => StateView::Absent,
            Some((at, _)) if self.state_unreadable => {
                StateView::Unreadable { fault: fault(FaultKind::StateUnreadable), version: Some(version(at)) }
            }
            Some((at, state)) => StateView::Stored { version: version(at), state: state.clone() },
        };
        let verdict = judge(&found, &Plan::of(&found), self.published().as_ref(), &view, self.now);
        if let Verdict::Demand(state) = &verdict {
            self.versions += 1;
            self.state = Some((self.versions, (**state).clone()));
        }
        verdict
    }

    fn demands(&mut self) {
        assert!(matches!(self.ask(), Verdict::Demand(_)));
    }

    fn refused(&mut self) -> (Because, String, Option<i64>) {
        match self.ask() {
            Verdict::Refuse(obstacle, again) => {
                (obstacle.because, obstacle.sentence, again.map(|again| again.duration_since(at(0)).as_secs()))
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_pending(&self) -> bool {
        self.state.as_ref().and_then(|(_, state)| state.demand.as_ref()).is_some_and(|demand| demand.pending)
    }
}

#[test]
fn a_refused_token_is_replaced_once_and_then_all_is_at_rest() {
    for mut world in [World::new(&json!({})), rotating(json!({}))] {
        world.reconcile();
        world.now = at(100);
        let (first, requests) = (world.published().unwrap(), world.requests);
        world.demands();
        assert_eq!(world.ask(), Verdict::Wait, "one demand, however many ask");
        world.reconcile();
        let newer = world.published().unwrap();
        assert_ne!(newer.public.fingerprint, first.public.fingerprint);
        assert_eq!((newer.public.generation, world.requests), (2, requests + 1));
        assert_eq!(world.status.history[0].trigger, Trigger::Demanded);
        assert!(!world.is_pending(), "{:?}", world.steps);
        let writes = (world.state_writes, world.writes, world.status_writes);
        world.run_until(1000);
        assert_eq!((world.state_writes, world.writes, world.status_writes), writes, "at rest nothing is written");
        assert_eq!(world.requests, requests + 1);
    }
}

#[test]
fn for_a_login_a_token_is_the_answer_when_it_is_published_and_a_failure_when_it_is_kept() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(100);
    world.demands();
    world.reconcile();
    assert_eq!(held(&world), Some("r3"));
    let end = world.steps.iter().rev().take(4).copied().collect::<Vec<_>>();
    assert_eq!(end, ["say", "answer demand", "publish", "keep"]);
    world.now = at(200);
    world.login.fate = Fate::Status(503);
    world.demands();
    world.reconcile();
    assert!(!world.steps.contains(&"answer demand") && !world.is_pending(), "{:?}", world.steps);
    assert_eq!(world.refused().0, Because::ProviderFailed, "why is told by what was kept");
}

#[test]
fn between_two_forced_refreshes_lies_a_floor_that_doubles_while_what_comes_is_refused_again() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    let mut now = 100;
    for floor in [30, 60, 120, 240, 480, 960, 1920] {
        world.now = at(now);
        world.demands();
        world.reconcile();
        world.now = at(now + floor - 1);
        let (because, words, again) = world.refused();
        assert_eq!((because, again), (Because::TooSoon, Some(now + floor)));
        assert!(words.contains("this one is refused as well"), "{words}");
        now += floor;
        if world.published().unwrap().public.expiration_time.0 < at(now + 1000) {
            break;
        }
    }
    assert!(now > 900, "{now}");
    // A token that the schedule brought has another story.
    let requests = world.requests;
    world.run_until(now + 3000);
    assert!(world.requests > requests);
    world.demands();
    assert_eq!(world.state.as_ref().unwrap().1.demand.as_ref().unwrap().rejections, 0);
}

#[test]
fn what_fails_is_told_to_whoever_waits_and_leaves_the_account_as_it_was() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.now = at(100);
    world.provider = Err(fault(FaultKind::Unavailable));
    world.told.clear();
    world.demands();
    world.reconcile();
    assert!(!world.is_pending());
    assert_eq!(world.told, Vec::<String>::new(), "no Event for a program's word");
    assert_eq!(world.refused(), (Because::ProviderFailed, "something is wrong".into(), Some(130)));
    assert_eq!((world.ready(), world.status.failed_attempts), (yes("TokenPublished"), 0));
    assert_eq!(world.requests, 2);
    world.run_until(1000);
    assert_eq!(world.requests, 2, "it is not tried again by itself");
    world.provider = Ok(3600);
    world.demands();
    assert_eq!(world.state.as_ref().unwrap().1.demand.as_ref().unwrap().rejections, 0, "that says nothing of the API");
    world.reconcile();
    assert_eq!(world.token(), "token-3");
}

#[test]
fn a_login_that_is_over_is_said_to_be() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(100);
    world.login.live = None;
    world.demands();
    world.reconcile();
    assert!(!world.is_pending());
    assert!(world.condition(ConditionType::ReauthorizationRequired).is_some());
    assert_eq!(world.refused().0, Because::ReauthorizationRequired);
    assert_eq!(world.ready(), yes("TokenPublished"), "a working token is not taken away");
}

#[test]
fn an_outcome_that_nobody_knows_is_said_and_not_gambled_with() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.now = at(100);
    world.login.fate = Fate::ReplyLost;
    world.demands();
    world.reconcile();
    let requests = world.requests;
    assert_eq!(world.refused().0, Because::OutcomeUnknown);
    world.now = at(140);
    assert_eq!(world.refused().0, Because::OutcomeUnknown, "also after the floor");
    world.run_until(600);
    assert_eq!(world.requests, requests, "what may be spent is not posted for a third party's word");
}

#[test]
fn a_suspended_account_is_not_refreshed() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.demands();
    world.edit(&json!({"suspend": true}));
    world.reconcile();
    assert!(!world.is_pending(), "{:?}", world.steps);
    assert_eq!((world.refused().0, world.requests), (Because::Suspended, 1));
}

#[test]
fn a_demand_that_nobody_served_in_time_is_put_aside_and_no_reason_to_refresh() {
    let mut world = World::new(&json!({}));
    world.reconcile();
    world.now = at(100);
    world.demands();
    world.now = at(170);
    world.reconcile();
    assert_eq!((world.requests, world.is_pending()), (1, false), "{:?}", world.steps);
    assert_eq!(world.steps, ["read token Secret", "read state", "answer demand"]);
    world.demands();
    world.reconcile();
    assert_eq!(world.requests, 2, "whoever asks anew is served");
}

#[test]
fn a_demand_survives_the_process_that_was_to_answer_it() {
    for begin in [|| World::new(&json!({})), || rotating(json!({}))] {
        for step in 0..14 {
            let mut world = begin();
            world.reconcile();
            let (first, requests) = (world.token().to_owned(), world.requests);
            world.now = at(100);
            world.demands();
            world.crash = Some(super::world::Crash::Before(step));
            world.reconcile();
            world.crash = None;
            world.now += SignedDuration::from_secs(1);
            world.reconcile();
            assert!(!world.is_pending(), "crash before step {step}");
            // A reply that nobody has written down is a matter of the login, and told.
            let lost = world.condition(ConditionType::RefreshOutcomeUnknown).is_some();
            assert!(world.token() != first || lost, "crash before step {step}");
            assert!(world.requests <= requests + 2, "crash before step {step}: {}", world.requests);
        }
    }
}

#[test]
fn while_there_is_no_token_that_lives_the_operator_is_at_it_already() {
    let mut world = World::new(&json!({}));
    assert_eq!(world.ask(), Verdict::Wait, "the first one is on its way");
    world.reconcile();
    world.now = at(3595);
    assert_eq!(world.ask(), Verdict::Wait, "it is as good as expired");
    world.provider = Err(fault(FaultKind::InvalidClient));
    world.run_until(3700);
    assert_eq!(world.ready(), no("TokenExpired"));
    let (because, words, again) = world.refused();
    assert_eq!((because, words.as_str()), (Because::ProviderFailed, "something is wrong"));
    assert!(again.is_some_and(|again| again > 3700), "{again:?}");
}

#[test]
fn a_record_of_a_login_is_not_made_for_a_demand() {
    let mut world = rotating(json!({}));
    world.reconcile();
    world.state = None;
    assert_eq!(world.refused().0, Because::RecordUnusable, "an empty record would hide that the login's is lost");
}

#[test]
fn a_token_that_the_record_remembers_does_not_displace_a_newer_one() {
    // Of a grant that spends nothing, the record holds what is to be revoked, and not what is published.
    let mut world = World::new(&json!({"revocationPolicy": "OnDelete"}));
    let revocation = "https://login.example.com/revoke".parse().unwrap();
    world.discovered = Endpoints::default().with(Endpoint::Revocation, revocation);
    world.reconcile();
    let remembered = world.state.as_ref().unwrap().1.record.as_ref().unwrap();
    assert_eq!(remembered.access_token.expose(), world.token());
    world.edit(&json!({}));
    world.run_until(2900);
    assert_eq!(world.token(), "token-2");
    world.demands();
    world.reconcile();
    assert_eq!((world.token(), world.requests), ("token-3", 3), "{:?}", world.steps);
}

#[test]
fn who_is_refused_with_a_token_that_is_not_told_of_yet_is_given_another_one() {
    for mut world in [World::new(&json!({})), rotating(json!({}))] {
        world.reconcile();
        (world.tells_later, world.now) = (true, at(2900));
        let mut waited = 0;
        let others = |world: &mut World, step| {
            if step == WAITS_TO_BE_TOLD_OF {
                waited += 1;
                world.demands();
            }
        };
        world.pass_beside(others).unwrap();
        world.reconcile();
        let generation = world.status.token.as_ref().map(|token| token.generation);
        assert_eq!((waited, generation, world.is_pending()), (1, Some(3), false), "{:?}", world.steps);
        assert_eq!(world.ready(), yes("TokenPublished"));
    }
}
