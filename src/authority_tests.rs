//! Every branch as a table, and two years in hourly steps.

use super::*;
use std::collections::VecDeque;

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Hours after the start.
fn at(hours: i64) -> Timestamp {
    start() + SignedDuration::from_hours(hours)
}

/// A CA that was made at that hour.
fn signer(name: &str, made: i64) -> Signer {
    Signer { root: Root { certificate: name.into(), life: Life::of_ca(at(made)) }, key: Sensitive::new("key") }
}

fn stored(successor: Option<(i64, Option<i64>)>, predecessor: Option<(i64, i64)>) -> Stored {
    Stored {
        current: signer("current", 0),
        successor: successor
            .map(|(made, announced)| Successor { signer: signer("successor", made), announced: announced.map(at) }),
        predecessor: predecessor.map(|(made, since)| Predecessor { root: signer("predecessor", made).root, since: at(since) }),
    }
}

#[test]
fn each_step_comes_in_its_hour() {
    const YEAR: i64 = 365 * 24;
    const DUE: i64 = YEAR / 3 * 2;
    for (case, stored, hour, next) in [
        ("young", stored(None, None), 0, Next::Keep),
        ("not yet two thirds", stored(None, None), DUE - 1, Next::Keep),
        ("two thirds", stored(None, None), DUE, Next::AddSuccessor),
        ("nobody looked for months", stored(None, None), YEAR - 1, Next::AddSuccessor),
        ("ended", stored(None, None), YEAR, Next::Make),
        ("the bundle may not tell of it yet", stored(Some((DUE, None)), None), DUE, Next::Announce),
        ("told of", stored(Some((DUE, Some(DUE))), None), DUE, Next::Keep),
        ("told of for 23 h", stored(Some((DUE, Some(DUE))), None), DUE + 23, Next::Keep),
        ("told of for 24 h", stored(Some((DUE, Some(DUE))), None), DUE + 24, Next::Switch),
        ("told of late", stored(Some((DUE, Some(DUE + 500))), None), DUE + 523, Next::Keep),
        ("found late", stored(Some((YEAR - 9, Some(YEAR - 9))), None), YEAR - 2, Next::Keep),
        ("the last hour", stored(Some((YEAR - 9, Some(YEAR - 9))), None), YEAR - 1, Next::Switch),
        ("ended, never told of", stored(Some((DUE, None)), None), YEAR, Next::Switch),
        ("switched", stored(None, Some((-DUE, 0))), 0, Next::Keep),
        ("switched for nearly a week", stored(None, Some((-DUE, 0))), 7 * 24 - 1, Next::Keep),
        ("switched for a week", stored(None, Some((-DUE, 0))), 7 * 24, Next::Retire),
        ("a predecessor that has ended", stored(None, Some((-YEAR, 0))), 0, Next::Retire),
        ("a predecessor goes before a successor comes", stored(None, Some((0, 0))), DUE, Next::Retire),
        // The clock was set forward, and back; or that of the instance which wrote was.
        ("a CA of the next hour", stored(None, None), -1, Next::Keep),
        ("a CA of a time to come", stored(None, None), -2, Next::Make),
        ("both of a time to come", stored(Some((DUE, Some(DUE))), None), -2, Next::Make),
        ("a successor that is valid", stored(Some((-9, Some(-9))), None), -2, Next::Switch),
        ("a successor of a time to come", stored(Some((DUE, Some(DUE))), None), 9, Next::Keep),
        ("the same when one is due", stored(Some((YEAR, Some(YEAR))), None), DUE, Next::AddSuccessor),
        ("told of in a time to come", stored(Some((DUE, Some(YEAR))), None), DUE + 1, Next::Announce),
        ("told of within the hour to come", stored(Some((DUE, Some(DUE + 1))), None), DUE, Next::Keep),
        ("ended by a clock set forward", stored(None, None), 9 * YEAR, Next::Make),
        ("switched in a time to come", stored(None, Some((0, YEAR))), 9, Next::Keep),
    ] {
        assert_eq!(decide(Some(&stored), at(hour)), next, "{case}");
    }
    assert_eq!(decide(None, start()), Next::Make);
}

#[test]
fn a_step_changes_what_it_says() {
    let step = |stored, next| after(Some(stored), next, at(5), || Ok::<_, ()>(signer("new", 5))).unwrap();
    let both = stored(Some((1, Some(2))), Some((-9, 0)));
    assert_eq!(both.bundle(), "current\nsuccessor\npredecessor\n");
    assert_eq!(step(both.clone(), Next::Keep), both);
    assert_eq!(step(both.clone(), Next::Make).bundle(), "new\n");
    assert_eq!(step(both.clone(), Next::AddSuccessor).bundle(), "current\nnew\npredecessor\n");
    assert_eq!(step(both.clone(), Next::AddSuccessor).successor.unwrap().announced, None);
    assert_eq!(step(both.clone(), Next::Announce).successor.unwrap().announced, Some(at(5)));
    assert_eq!(step(both.clone(), Next::Retire).bundle(), "current\nsuccessor\n");
    let switched = step(both, Next::Switch);
    assert_eq!(switched.bundle(), "successor\ncurrent\n");
    assert_eq!(switched.predecessor.unwrap().since, at(5));
    assert_eq!(after(None, Next::Make, at(5), || Ok::<_, ()>(signer("new", 5))).unwrap().bundle(), "new\n");
}

#[test]
fn a_leaf_is_renewed_at_half_its_life_and_with_its_signer() {
    let current = signer("current", 0).root;
    let leaf = Leaf { issuer: "current".into(), life: Life::of_leaf(current.life, at(10)) };
    assert_eq!(leaf.life.until, at(10 + 7 * 24) - SKEW, "a predecessor is trusted for longer");
    for (hour, due) in [(9, true), (10, false), (93, false), (94, true), (9999, true)] {
        assert_eq!(leaf.is_due(&current, at(hour)), due, "{hour}");
    }
    assert!(leaf.is_due(&signer("successor", 0).root, at(10)));
    let last = at(365 * 24 - 3);
    assert_eq!(Life::of_leaf(current.life, last).until, current.life.until, "no leaf outlives its CA");
}

/// Replicas, the Secret and the ConfigMap that they share, and what clients have read there.
#[derive(Default)]
struct World {
    stored: Option<Stored>,
    published: Option<String>,
    leaves: [Option<Leaf>; 2],
    /// Of the last 23 hours.
    read: VecDeque<Option<String>>,
    made: u32,
    steps: Vec<(Next, Timestamp)>,
}

impl World {
    /// What a replica does when it looks.
    fn pass(&mut self, replica: usize, publishes: bool, now: Timestamp) {
        for _ in 0..16 {
            if let Some(stored) = &self.stored {
                let root = &stored.current.root;
                if root.life.usable(now) && self.leaves[replica].as_ref().is_none_or(|leaf| leaf.is_due(root, now)) {
                    let life = Life::of_leaf(root.life, now);
                    self.leaves[replica] = Some(Leaf { issuer: root.certificate.clone(), life });
                }
                if publishes {
                    self.published = Some(stored.bundle());
                }
            }
            let next = decide(self.stored.as_ref(), now);
            if next == Next::Keep || next == Next::Announce && !publishes {
                return;
            }
            self.steps.push((next, now));
            self.made += 1;
            let root = Root { certificate: format!("ca-{}", self.made), life: Life::of_ca(now) };
            let made = || Ok::<_, ()>(Signer { root, key: Sensitive::new("key") });
            self.stored = Some(after(self.stored.take(), next, now, made).unwrap());
        }
        panic!("no rest at {now}: {:?}", self.steps);
    }

    fn is_trusted(&self, now: Timestamp) {
        for leaf in self.leaves.iter().flatten() {
            assert!(leaf.life.from <= now && now < leaf.life.until, "a leaf has ended at {now}");
            for bundle in self.read.iter().flatten() {
                assert!(bundle.lines().any(|ca| ca == leaf.issuer), "at {now}, {} signs; a client trusts {bundle}", leaf.issuer);
            }
        }
    }
}

/// At every hour of two years, a client that read the bundle at any time of the last 23 hours trusts every leaf that is served,
/// though each replica looks only now and then, and for weeks nobody may write the ConfigMap.
#[test]
fn whoever_read_the_bundle_within_23_hours_trusts_what_is_served() {
    for outage in [0..0, 5800..7000, 5835..5860, 11_600..11_700] {
        let (mut world, mut draw) = (World::default(), 0x9e37_79b9_7f4a_7c15_u64);
        for hour in 0..2 * 365 * 24 {
            for replica in 0..2 {
                draw ^= draw << 13;
                draw ^= draw >> 7;
                draw ^= draw << 17;
                if hour == 0 || draw % 8 == 0 {
                    world.pass(replica, !outage.contains(&hour), at(hour));
                }
                world.is_trusted(at(hour));
            }
            world.read.push_back(world.published.clone());
            world.read.drain(..world.read.len().saturating_sub(24));
            world.is_trusted(at(hour) + HOUR - SignedDuration::from_secs(1));
        }
        let steps: Vec<Next> = world.steps.iter().map(|(next, _)| *next).collect();
        let rotation = [Next::AddSuccessor, Next::Announce, Next::Switch, Next::Retire];
        let expected: Vec<Next> = [Next::Make].into_iter().chain(rotation).chain(rotation).collect();
        assert_eq!(steps, expected, "{outage:?}: {:?}", world.steps);
    }
}
