//! Which runs go after their end. Pure.

use crate::api::{History, Phase};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashSet;
use std::hash::Hash;

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<K> {
    /// Which run.
    pub run: K,
    /// How it ended.
    pub phase: Phase,
    /// When.
    pub at: Timestamp,
}

/// Runs that are to go now, and when the next one is.
pub fn surplus<K: Clone + Ord>(mut runs: Vec<Ended<K>>, history: &History, now: Timestamp) -> (Vec<K>, Option<Timestamp>) {
    runs.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| b.run.cmp(&a.run)));
    let (mut completed, mut failed) = (0, 0);
    let (mut going, mut next) = (vec![], None);
    for ended in runs {
        let (count, most) = match ended.phase {
            Phase::Completed => (&mut completed, history.completed),
            _ => (&mut failed, history.failed),
        };
        *count += 1;
        let old = history.ttl_seconds_after_finished.map(|ttl| expiry(ended.at, i64::from(ttl)));
        if *count > most || old.is_some_and(|old| old <= now) {
            going.push(ended.run);
        } else {
            next = [next, old].into_iter().flatten().min();
        }
    }
    (going, next)
}

/// How old a revision must be that goes: a run may be about to name it.
pub const UNNAMED_FOR: SignedDuration = SignedDuration::from_mins(10);

/// Whether a revision that was made then goes: `needed` are those that a run names, or that a workflow is now.
pub fn is_outdated<K: Eq + Hash>(revision: &K, made: Timestamp, needed: &HashSet<K>, now: Timestamp) -> bool {
    now.duration_since(made) > UNNAMED_FOR && !needed.contains(revision)
}

/// When a run that ended then is to go.
pub fn expiry(ended: Timestamp, ttl: i64) -> Timestamp {
    ended.checked_add(SignedDuration::from_secs(ttl)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(run: u32, phase: Phase, second: i64) -> Ended<u32> {
        Ended { run, phase, at: Timestamp::from_second(second).unwrap() }
    }

    #[test]
    fn a_revision_goes_when_nobody_needs_it_and_nobody_may_be_about_to() {
        let made = Timestamp::from_second(1000).unwrap();
        let needed = HashSet::from(["named", "current"]);
        for (revision, second, goes) in [
            ("old", 1601, true),
            ("old", 1600, false),
            ("old", 1000, false),
            // Clocks step.
            ("old", 0, false),
            ("named", 9_000_000, false),
            ("current", 9_000_000, false),
        ] {
            assert_eq!(
                is_outdated(&revision, made, &needed, Timestamp::from_second(second).unwrap()),
                goes,
                "{revision} {second}"
            );
        }
    }

    #[test]
    fn the_newest_of_each_kind_stay_and_none_beyond_its_time() {
        let runs = vec![
            ended(1, Phase::Completed, 10),
            ended(2, Phase::Completed, 20),
            ended(3, Phase::Completed, 30),
            ended(4, Phase::Failed, 5),
            ended(5, Phase::Cancelled, 15),
        ];
        let now = Timestamp::from_second(31).unwrap();
        let history = |completed, failed, ttl| History { completed, failed, ttl_seconds_after_finished: ttl };
        assert_eq!(surplus(runs.clone(), &history(2, 1, None), now), (vec![1, 4], None));
        assert_eq!(surplus(runs.clone(), &history(9, 9, None), now), (vec![], None));
        assert_eq!(surplus(runs.clone(), &history(0, 0, None), now).0.len(), 5);
        let (mut going, next) = surplus(runs, &history(9, 9, Some(15)), Timestamp::from_second(25).unwrap());
        going.sort_unstable();
        assert_eq!((going, next), (vec![1, 4], Some(Timestamp::from_second(30).unwrap())));
    }
}
