//! How one account does at one upstream: requests under way, health, and whether it is asked for patience.

use super::breaker::{Breaker, Ending, Position};
use super::clock::{Moment, moment};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The longest that an account is spared after 429, in seconds: a mistake of the upstream's must not cost a day.
const LONGEST_PATIENCE: u64 = 300;

/// Shared by all routes that lead to the same upstream with the same account.
#[derive(Default)]
pub struct Standing {
    in_flight: AtomicUsize,
    cooling_until: AtomicU64,
    breaker: Mutex<Breaker>,
}

impl Standing {
    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Whether the upstream has asked for patience that is not over.
    pub fn is_cooling(&self, now: Moment) -> bool {
        now < self.cooling_until.load(Ordering::Relaxed)
    }

    /// The upstream has asked for so many seconds of patience.
    pub fn cool(&self, seconds: u64) {
        let until = moment() + seconds.min(LONGEST_PATIENCE) * 1000;
        self.cooling_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether the breaker is open, and how healthy it is.
    pub fn state(&self, now: Moment) -> (bool, f64) {
        let breaker = self.breaker();
        (!breaker.permits(now), breaker.health())
    }

    /// As metrics show the breaker.
    pub fn position(&self, now: Moment) -> Position {
        self.breaker().position(now)
    }

    /// A request is sent.
    pub fn begin(&self, now: Moment) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.breaker().begin(now);
    }

    /// It has ended.
    pub fn end(&self, ending: Ending, now: Moment) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.breaker().end(ending, now, if ending == Ending::Failure { fastrand::f64() } else { 0.0 });
    }

    /// The breaker stays whole whatever its holder did.
    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
