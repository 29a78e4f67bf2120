//! The delaying work queue, as client-go describes its own: an account waits once however often it is added, is worked on by
//! one at a time, and whoever is added meanwhile has its turn afterwards. What is due first is taken first, and every other turn is for what
//! has become due last: an account that was made a moment ago does not wait for the thousands that a start, or a new list of a watch, wakes.

use crate::api::NamespacedName;
use prometheus::IntCounter;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// An account by its name.
pub type Key = Arc<NamespacedName>;

/// One account in the queue.
#[derive(Default)]
struct Entry {
    /// When its turn is.
    due: Option<Instant>,
    /// Since when it is worked on.
    working: Option<Instant>,
}

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// Those that wait for their turn and are not worked on.
    waiting: BTreeSet<(Instant, Key)>,
    /// Whether the next turn is for what has become due last.
    last_first: bool,
}

/// What there is to tell of a queue.
#[derive(Debug, PartialEq)]
pub struct Told {
    /// How many wait whose turn has come.
    pub depth: usize,
    /// Seconds of work that is not finished.
    pub unfinished: f64,
    /// Seconds of the longest of it.
    pub longest: f64,
}

/// The queue of one scope. One task takes from it.
pub struct Workqueue {
    state: Mutex<State>,
    changed: Notify,
    adds: IntCounter,
}

impl Workqueue {
    /// An empty queue, which counts here what is added.
    pub fn new(adds: IntCounter) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), adds }
    }

    /// Its turn is now, or, where it is worked on, after that.
    pub fn add(&self, account: Key) {
        self.adds.inc();
        self.lock().add(account, Instant::now());
        self.changed.notify_one();
    }

    /// It is gone: nobody waits for its turn.
    pub fn forget(&self, account: &NamespacedName) {
        self.lock().forget(account);
    }

    /// Waits for a turn: whose it is, and how long it has waited since it was due. To be followed by `done`.
    pub async fn get(&self) -> (Key, Duration) {
        loop {
            let next = match self.lock().get(Instant::now()) {
                Ok(taken) => return taken,
                Err(next) => next,
            };
            let changed = self.changed.notified();
            match next {
                Some(next) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(next.into()) => {}
                },
                None => changed.await,
            }
        }
    }

    /// The work on it has ended; its next turn, unless it is added sooner. How long it took.
    pub fn done(&self, account: &Key, again: Option<Duration>) -> Duration {
        let took = self.lock().done(account, again, Instant::now());
        self.changed.notify_one();
        took
    }

    /// How it is with the queue.
    pub fn told(&self) -> Told {
        self.lock().told(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before its lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, account: Key, now: Instant) {
        let entry = self.entries.entry(account.clone()).or_default();
        if entry.due.is_some_and(|due| due <= now) {
            return;
        }
        let later = entry.due.replace(now);
        if entry.working.is_none() {
            if let Some(later) = later {
                self.waiting.remove(&(later, account.clone()));
            }
            self.waiting.insert((now, account));
        }
    }

    fn forget(&mut self, account: &NamespacedName) {
        let Some((key, entry)) = self.entries.remove_entry(account) else { return };
        if entry.working.is_some() {
            self.entries.insert(key, Entry { due: None, ..entry });
        } else if let Some(due) = entry.due {
            self.waiting.remove(&(due, key));
        }
    }

    /// What is due, or when something will be.
    fn get(&mut self, now: Instant) -> Result<(Key, Duration), Option<Instant>> {
        let first = self.waiting.first().map(|(due, _)| *due);
        if first.is_none_or(|due| due > now) {
            return Err(first);
        }
        let last = self.last_first.then(|| self.last_due(now)).flatten();
        let Some((due, account)) = last.and_then(|last| self.waiting.take(&last)).or_else(|| self.waiting.pop_first()) else {
            return Err(None);
        };
        self.last_first ^= true;
        self.entries.insert(account.clone(), Entry { due: None, working: Some(now) });
        Ok((account, now.duration_since(due)))
    }

    fn last_due(&self, now: Instant) -> Option<(Instant, Key)> {
        let after = (now + Duration::from_nanos(1), Arc::new(NamespacedName::new("", "")));
        self.waiting.range(..after).next_back().cloned()
    }

    fn done(&mut self, account: &Key, again: Option<Duration>, now: Instant) -> Duration {
        let Some(entry) = self.entries.remove(account) else { return Duration::ZERO };
        let again = again.map(|again| now + again);
        // Added meanwhile: sooner than whatever was planned.
        if let Some(due) = entry.due.or(again) {
            self.entries.insert(account.clone(), Entry { due: Some(due), working: None });
            self.waiting.insert((due, account.clone()));
        }
        entry.working.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    fn told(&self, now: Instant) -> Told {
        let working = self.entries.values().filter_map(|entry| Some(now.duration_since(entry.working?).as_secs_f64()));
        let (unfinished, longest) = working.fold((0.0, 0.0_f64), |(sum, longest), took| (sum + took, longest.max(took)));
        Told { depth: self.waiting.iter().take_while(|(due, _)| *due <= now).count(), unfinished, longest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(name: &str) -> Key {
        Arc::new(NamespacedName::new("apps", name))
    }

    #[test]
    fn whoever_is_added_often_waits_once_and_since_the_first_time() {
        let (mut queue, now) = (State::default(), Instant::now());
        queue.add(key("a"), now);
        queue.add(key("a"), now + SECOND);
        assert_eq!(queue.told(now + SECOND).depth, 1);
        assert_eq!(queue.get(now + SECOND), Ok((key("a"), SECOND)));
        assert_eq!(queue.get(now + SECOND), Err(None));
    }

    #[test]
    fn one_at_a_time_works_on_an_account_and_what_came_meanwhile_has_its_turn_afterwards() {
        let (mut queue, now) = (State::default(), Instant::now());
        queue.add(key("a"), now);
        queue.get(now).unwrap();
        queue.add(key("a"), now + SECOND);
        assert_eq!(queue.get(now + SECOND), Err(None));
        assert_eq!(queue.told(now + 2 * SECOND), Told { depth: 0, unfinished: 2.0, longest: 2.0 });
        assert_eq!(queue.done(&key("a"), Some(60 * SECOND), now + 2 * SECOND), 2 * SECOND);
        assert_eq!(queue.get(now + 2 * SECOND), Ok((key("a"), SECOND)), "added is sooner than planned");
        queue.done(&key("a"), None, now + 3 * SECOND);
        assert!(queue.entries.is_empty() && queue.waiting.is_empty());
    }

    #[test]
    fn a_planned_turn_comes_at_its_time_or_sooner_and_then_once() {
        let (mut queue, now) = (State::default(), Instant::now());
        for name in ["a", "b"] {
            queue.add(key(name), now);
            queue.get(now).unwrap();
        }
        queue.done(&key("a"), Some(10 * SECOND), now);
        queue.done(&key("b"), Some(5 * SECOND), now);
        assert_eq!(queue.told(now).depth, 0);
        assert_eq!(queue.get(now), Err(Some(now + 5 * SECOND)), "the soonest of all");
        queue.add(key("a"), now + SECOND);
        assert_eq!(queue.get(now + SECOND), Ok((key("a"), Duration::ZERO)));
        queue.done(&key("a"), None, now + SECOND);
        assert_eq!(queue.get(now + 6 * SECOND), Ok((key("b"), SECOND)));
        assert_eq!(queue.get(now + 60 * SECOND), Err(None), "the turn that was planned for later is not another one");
    }

    #[test]
    fn who_becomes_due_last_does_not_wait_for_all_who_were_before() {
        let (mut queue, now) = (State::default(), Instant::now());
        for (second, name) in (0..).zip(["a", "b", "c", "d"]) {
            queue.add(key(name), now + second * SECOND);
        }
        queue.add(key("later"), now);
        queue.get(now).unwrap();
        queue.done(&key("a"), Some(60 * SECOND), now);
        let order: Vec<_> =
            std::iter::from_fn(|| queue.get(now + 9 * SECOND).ok()).map(|(key, _)| key.name.to_string()).collect();
        assert_eq!(order, ["d", "later", "c", "b"], "and who is not due has no turn");
    }

    #[test]
    fn whoever_is_gone_has_no_turn() {
        let (mut queue, now) = (State::default(), Instant::now());
        queue.add(key("a"), now);
        queue.add(key("b"), now);
        queue.get(now).unwrap();
        queue.add(key("a"), now);
        queue.forget(&key("a"));
        queue.forget(&key("b"));
        assert_eq!(queue.get(now), Err(None));
        queue.done(&key("a"), None, now);
        assert!(queue.entries.is_empty() && queue.waiting.is_empty());
    }

    #[tokio::test]
    async fn whoever_takes_is_woken_by_an_addition_and_by_time() {
        let queue = Arc::new(Workqueue::new(IntCounter::new("adds", "Adds.").unwrap()));
        let taker = queue.clone();
        let taken = tokio::spawn(async move { taker.get().await.0 });
        tokio::task::yield_now().await;
        queue.add(key("a"));
        assert_eq!(taken.await.unwrap(), key("a"));
        queue.done(&key("a"), Some(Duration::from_millis(20)));
        assert_eq!(queue.get().await.0, key("a"));
        assert_eq!(queue.adds.get(), 1);
    }
}
