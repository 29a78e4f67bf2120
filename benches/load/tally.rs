//! What has happened so far, written by all who send.

use super::failure::Failure;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The counts of one load while it runs. Its sums can be read at any moment: a benchmark takes them together with the
/// processor time of what it measures.
pub struct Tally {
    ended: AtomicU64,
    kept: Mutex<Kept>,
}

/// What is kept apart from the sums.
pub struct Kept {
    /// Nanoseconds, three digits exact.
    pub latencies: Histogram<u64>,
    pub failures: BTreeMap<Failure, u64>,
    /// Of the bodies of all that counts.
    pub bytes: u64,
    /// Requests or events that count, past the warm-up.
    pub counted: u64,
    /// Events without a number, whose order nobody can check.
    pub unnumbered: u64,
}

impl Tally {
    pub fn new() -> Self {
        let latencies = Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are between zero and five"));
        let kept = Kept { latencies, failures: BTreeMap::new(), bytes: 0, counted: 0, unnumbered: 0 };
        Self { ended: AtomicU64::new(0), kept: Mutex::new(kept) }
    }

    /// Requests or events that have come to their end so far, warm-up and all; failures are not among them.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Forgets what was counted so far. What failed, failed.
    pub fn restart(&self) {
        let mut kept = self.kept();
        kept.latencies.reset();
        (kept.bytes, kept.counted, kept.unnumbered) = (0, 0, 0);
    }

    /// One that ended well. `counts` is false during the warm-up.
    pub fn success(&self, latency: Option<Duration>, bytes: u64, counts: bool) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        if counts {
            let mut kept = self.kept();
            kept.counted += 1;
            kept.bytes += bytes;
            if let Some(latency) = latency {
                let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                // Fails for no value: a histogram made without bounds grows.
                let _ = kept.latencies.record(nanoseconds);
            }
        }
    }

    /// One that did not: warm-up or not, it is told.
    pub fn failure(&self, failure: Failure, times: u64) {
        *self.kept().failures.entry(failure).or_default() += times;
    }

    /// An event without a number.
    pub fn unnumbered(&self) {
        self.kept().unnumbered += 1;
    }

    pub fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
