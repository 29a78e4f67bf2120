//! A watch that breaks off is begun again, with patience; and health board and log tell how it is.

use crate::world::health::Condition;
use crate::world::{World, clock, entropy, words, words_of};
use futures::{Stream, StreamExt};
use kube_runtime::watcher::{self, Event};
use std::fmt::Debug;
use std::time::Duration;

/// A watch that resumes tells nothing until something changes: it is taken for well when it was quiet for so long.
/// Longer than a request that hangs and the patience after it.
const INTERRUPTED_FOR: Duration = Duration::from_secs(360);

/// Why a watch was interrupted, in the API server's own words where it has some.
fn interrupted_by(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => words_of(status),
        watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// A watch that is begun again after an error, with patience, and tells the health board how it is.
pub(super) fn told<'a, K: Clone + Debug + Send + 'static>(
    stream: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'a,
    component: String,
    synced: impl Fn() -> bool + Send + 'a,
    world: &'a World,
) -> impl Stream<Item = Event<K>> + Send + 'a {
    world.health.set(&component, Condition::Unhealthy, "not listed yet");
    let (mut well, mut patience) = (false, Patience::default());
    stream
        .then(move |event| {
            let pause = match &event {
                // That a list has begun says nothing of whether it comes whole.
                Ok(Event::Init | Event::InitApply(_)) => None,
                Ok(Event::InitDone | Event::Apply(_) | Event::Delete(_)) => {
                    if !std::mem::replace(&mut well, true) {
                        world.health.set(&component, Condition::Healthy, "watching");
                        if patience.failures > 0 {
                            tracing::info!(watch = component, failures = patience.failures, "the watch works again");
                        }
                    }
                    None
                }
                Err(error) => {
                    well = false;
                    let pause = patience.after_failure(clock::uptime());
                    let failures = patience.failures;
                    // An outage is told ever more seldom.
                    if failures.is_power_of_two() {
                        let error = interrupted_by(error);
                        tracing::warn!(watch = component, failures, error, "watch interrupted; it is begun again");
                    }
                    if synced() {
                        world.health.set_for(&component, Condition::Degraded, "interrupted", INTERRUPTED_FOR);
                    }
                    // Replicas and watches do not come all at once.
                    Some(pause.mul_f64(1.0 - f64::from(entropy::bytes::<1>()[0]) / 1024.0))
                }
            };
            async move {
                if let Some(pause) = pause {
                    tokio::time::sleep(pause).await;
                }
                event.ok()
            }
        })
        .filter_map(std::future::ready)
}

/// How long is waited before a watch is begun again: doubled from failure to failure, whatever came in between, until it was calm for a
/// minute. Tokens may have to be renewed as soon as the API server is back, so that it is never long.
#[derive(Default)]
struct Patience {
    /// In a row.
    failures: u32,
    /// When the last one was, by the boot clock.
    last: Duration,
}

impl Patience {
    const SHORTEST: Duration = Duration::from_millis(800);
    const LONGEST: Duration = Duration::from_secs(10);
    const CALM: Duration = Duration::from_secs(60);

    fn after_failure(&mut self, now: Duration) -> Duration {
        let calm = now.saturating_sub(std::mem::replace(&mut self.last, now)) > Self::CALM;
        self.failures = if calm { 1 } else { self.failures.saturating_add(1) };
        (Self::SHORTEST * (1 << (self.failures - 1).min(6))).min(Self::LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_begun_again_ever_more_seldom_and_within_ten_seconds() {
        let mut patience = Patience::default();
        let (mut now, mut wanted) = (Duration::from_secs(1000), Patience::SHORTEST);
        for failures in 1..40 {
            let pause = patience.after_failure(now);
            assert_eq!((pause, patience.failures), (wanted, failures));
            now += pause;
            wanted = (wanted * 2).min(Duration::from_secs(10));
        }
        now += Patience::CALM + Duration::from_secs(1);
        assert_eq!((patience.after_failure(now), patience.failures), (Patience::SHORTEST, 1));
    }
}
