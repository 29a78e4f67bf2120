//! The work queue as client-go's metrics describe it: what waits, for how long, and what is being worked on.

use crate::api::OAuthAccount;
use crate::telemetry::metrics::{ACCOUNT_CONTROLLER, Metrics};
use kube_runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

#[derive(Default)]
struct State {
    waiting: HashMap<ObjectRef<OAuthAccount>, Instant>,
    working: HashMap<ObjectRef<OAuthAccount>, Instant>,
}

/// Moments at which accounts were woken and taken up.
#[derive(Default)]
pub struct Workqueue {
    state: Mutex<State>,
}

impl Workqueue {
    /// An account was woken.
    pub fn woken(&self, account: &ObjectRef<OAuthAccount>) {
        self.lock().waiting.entry(account.clone()).or_insert_with(Instant::now);
    }

    /// An account waits no more: its turn has come, or it is gone. Since when it did.
    pub fn left(&self, account: &ObjectRef<OAuthAccount>) -> Option<Instant> {
        self.lock().waiting.remove(account)
    }

    /// Work on an account begins, which had waited since then.
    pub fn begun(&self, account: &ObjectRef<OAuthAccount>, waited: Option<Instant>, metrics: &Metrics) {
        if let Some(since) = waited {
            metrics.queue_duration.with_label_values(&[ACCOUNT_CONTROLLER]).observe(since.elapsed().as_secs_f64());
        }
        self.lock().working.insert(account.clone(), Instant::now());
    }

    /// Work on an account has ended.
    pub fn done(&self, account: &ObjectRef<OAuthAccount>, metrics: &Metrics) {
        if let Some(since) = self.lock().working.remove(account) {
            metrics.work_duration.with_label_values(&[ACCOUNT_CONTROLLER]).observe(since.elapsed().as_secs_f64());
        }
    }

    /// How many wait, the seconds of unfinished work, and the longest of them.
    pub fn now(&self) -> (usize, f64, f64) {
        let state = self.lock();
        let working = state.working.values().map(|since| since.elapsed().as_secs_f64());
        let (sum, longest) = working.fold((0.0, 0.0_f64), |(sum, longest), seconds| (sum + seconds, longest.max(seconds)));
        (state.waiting.len(), sum, longest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before its lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
