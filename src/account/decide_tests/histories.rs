//! Histories drawn at random.

use super::world::{World, fault};
use crate::account::Record;
use crate::oauth::{FaultKind, Sensitive};
use jiff::SignedDuration;
use serde_json::json;

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
