//! Histories drawn at random.

use super::login::{rotating, spec};
use super::provider::Fate;
use super::world::{Crash, World, fault};
use crate::account::Record;
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION as REQUESTED;
use crate::api::{ConditionType, OAuthAccountStatus};
use crate::oauth::{FaultKind, Sensitive};
use jiff::SignedDuration;
use serde_json::{Value, json};

/// Numbers drawn from a seed (xorshift).
struct Draw(u64);

impl Draw {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn seconds(&mut self, below: u64) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.below(below)).unwrap())
    }
}

/// Histories drawn from a seed: whatever the provider, the Secret, the seed and the clock do, every pass rests within
/// its turns, nothing is asked for before its time, and status tells whether a valid token stands in the Secret.
#[test]
fn random_histories_keep_the_promises() {
    let (mut at_once, mut later) = (Draw(0x9e37_79b9_7f4a_7c15), Draw(0x9e37_79b9_7f4a_7c15));
    for history in 0..300 {
        let told = play(history, false, &mut at_once);
        assert_eq!(told, play(history, true, &mut later), "history {history}: what is told later is told otherwise");
    }
}

/// Plays one of them; what status said after each step.
fn play(history: u64, tells_later: bool, random: &mut Draw) -> Vec<OAuthAccountStatus> {
    let mut draw = |below: u64| random.below(below);
    let mut world = World { tells_later, ..World::new(&json!({})) };
    let mut told = vec![];
    for step in 0..60 {
        match draw(16) {
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
            12 | 13 => drop(world.ask()),
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
        told.push(state);
    }
    told
}

/// Whether a valid token stands in the Secret.
fn stands(world: &World) -> bool {
    let record = world.secret.as_ref().and_then(|(_, contents)| Record::read(contents, world.status.token.as_ref()));
    !world.foreign && record.is_some_and(|record| record.public.expiration_time.0 > world.now)
}

/// The order of the steps of a refresh that spends: the first thing written after the POST is what it means.
fn in_order(steps: &[&str]) -> bool {
    let writes = ["arm", "keep", "publish", "prune", "say"];
    let Some(spent) = steps.iter().position(|step| *step == "spend") else { return true };
    let armed = steps[..spent].iter().rposition(|step| writes.contains(step)).is_some_and(|at| steps[at] == "arm");
    armed && steps[spent..].iter().find(|step| writes.contains(step)).is_none_or(|step| *step == "keep")
}

/// What a history may hold beside time, crashes, edits and changes of leader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nothing is lost under way, and the process ends only where the journal has what is in hand.
    None,
    /// Requests and replies are lost, and the process ends anywhere.
    Lost,
}

fn history(number: u64, trouble: Trouble) {
    let mut draw = Draw(0x2545_f491_4f6c_dd1d_u64.wrapping_mul(number + 1) | 1);
    // Every other login is bound to a key, by a spec that comes and goes.
    let mut dpop = (number % 2 == 1).then_some("ES256");
    let of = |patch: Value, dpop: Option<&str>| match (patch, dpop) {
        (Value::Object(mut patch), Some(algorithm)) => {
            patch.insert("dpop".into(), json!({"algorithm": algorithm}));
            Value::Object(patch)
        }
        (patch, _) => patch,
    };
    let mut world = rotating(of(json!({}), dpop));
    world.tells_later = number % 4 >= 2;
    world.login.lifetime = [300, 3600, 36_000][usize::try_from(draw.below(3)).unwrap()];
    let mut requests = 0;
    for step in 0..80 {
        let place = format!("history {number}, step {step}");
        match draw.below(20) {
            0 => world.login.fate = Fate::NotConnected,
            1 => world.login.fate = Fate::Status([429, 503, 401][usize::try_from(draw.below(3)).unwrap()]),
            2 if trouble == Trouble::Lost => {
                world.login.fate =
                    [Fate::RequestLost, Fate::ReplyLost, Fate::Status(502)][usize::try_from(draw.below(3)).unwrap()];
            }
            3 => world.secret = None,
            4 => {
                world.refresh_token = Ok(world.login.log_in());
                world.seed_version += 1;
            }
            5 => world.refresh_token = Err(fault(FaultKind::ReferenceMissing)),
            6 => world.write_refused = (draw.below(2) == 0).then(|| fault(FaultKind::ApiRefused)),
            7 => world.edit(&spec(of(json!({"suspend": draw.below(2) == 0}), dpop))),
            8 => {
                if number % 2 == 1 {
                    dpop = [Some("ES256"), Some("EdDSA"), None][usize::try_from(draw.below(3)).unwrap()];
                }
                world.edit(&spec(of(json!({"scopes": [format!("scope-{}", draw.below(3))]}), dpop)));
            }
            9 => {
                requests += 1;
                let moment = super::login::requested_at(requests);
                world.account.metadata.annotations = Some(moment);
            }
            10 => world.state_unreadable = draw.below(2) == 0 && world.state.is_some(),
            11 if trouble == Trouble::Lost => world.identity = format!("operator-{}", draw.below(2)),
            // A clock that was set back, a little.
            12 => world.now -= draw.seconds(30),
            13 | 14 => world.login.fate = Fate::Answered,
            15 | 16 => drop(world.ask()),
            _ => world.now += draw.seconds(2000),
        }
        if trouble == Trouble::Lost || draw.below(4) == 0 {
            let turn = usize::try_from(draw.below(14)).unwrap();
            let crash = if draw.below(2) == 0 { Crash::Before(turn) } else { Crash::After(turn) };
            if trouble == Trouble::Lost && draw.below(3) == 0 {
                world.crash = Some(crash);
            }
        }
        let before = (world.status.clone(), world.requests, world.refresh_token.clone(), world.account.metadata.generation);
        let mut crashed = world.pass().is_err();
        assert!(in_order(&world.steps), "{place}: {:?}", world.steps);
        while crashed {
            crashed = world.pass().is_err();
            assert!(in_order(&world.steps), "{place}: {:?}", world.steps);
        }
        if world.requests > before.1 {
            let status = &before.0;
            let waiting = status.failed_attempts > 0 && status.next_attempt_time.as_ref().is_some_and(|next| next.0 > world.now);
            let handled = status.last_handled_refresh_time.as_ref().map(|time| time.0.to_string());
            let reason = status.observed_generation != before.3
                || status.observed_references != Some(world.seed_version.to_string())
                || world.account.metadata.annotations.as_ref().is_some_and(|asked| Some(&asked[REQUESTED]) != handled.as_ref());
            assert!(!waiting || reason, "{place}: asked before nextAttemptTime without a reason");
            assert!(world.requests <= before.1 + 2, "{place}: {} requests in one turn of events", world.requests - before.1);
        }
        world.crash = None;
        // An edit of the Secret by others is told by the watch: here it is looked at again.
        world.reconcile();
        assert_eq!(world.ready().0 == "True", stands(&world), "{place}: {:?}", world.ready());
        let (status, state, writes) = (world.status.clone(), world.state.clone(), world.writes);
        world.reconcile();
        assert_eq!(
            (&status, &state, writes),
            (&world.status, &world.state, world.writes),
            "{place}: a second look changes nothing"
        );
        assert_eq!(world.login.unproven, 0, "{place}: a refresh token came without the key that it is bound to");
        if trouble == Trouble::None {
            assert_eq!(world.login.reused, 0, "{place}: a spent refresh token came to the provider");
        }
        let held = world.state.as_ref().and_then(|(_, state)| state.credential.as_ref());
        let doubted = held.is_some_and(|credential| credential.doubt.is_some());
        if let Some(unknown) = world.condition(ConditionType::RefreshOutcomeUnknown) {
            assert!(
                doubted,
                "{place}: {unknown:?} is told, and nothing is in doubt: {:?} {:?} {:?} {:?}",
                world.steps, held, world.login.fate, world.status.history
            );
        }
    }
    if trouble == Trouble::None {
        // The login that the person made last is alive, and held or still in the seed.
        assert!(world.login.live.is_some(), "history {number}: the login was lost");
    }
}

#[test]
fn random_histories_without_loss_redeem_each_refresh_token_once() {
    (0..400).for_each(|number| history(number, Trouble::None));
}

#[test]
fn random_histories_with_losses_gamble_only_with_a_reason() {
    (0..400).for_each(|number| history(number, Trouble::Lost));
}
