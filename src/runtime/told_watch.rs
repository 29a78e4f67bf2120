//! A watch that breaks off is begun again, with patience; and health board and log tell how it is.

use crate::world::health::Condition;
use crate::world::{World, clock, entropy, words, words_of};
use futures::{Stream, StreamExt, TryStreamExt};
use kube_runtime::WatchStreamExt;
use kube_runtime::utils::Backoff;
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
    // That a list is begun says nothing of whether it comes: it must not end the patience. It is told with what it brings.
    let stream = stream.try_filter(|event| std::future::ready(!matches!(event, Event::Init))).backoff(Patience::default());
    let (mut well, mut listing, mut failures, mut last) = (false, false, 0_u32, Duration::ZERO);
    stream
        .flat_map(move |event| {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    // One that is quiet does not tell when it works again.
                    let recent = clock::uptime().saturating_sub(std::mem::replace(&mut last, clock::uptime())) < INTERRUPTED_FOR;
                    failures = if recent { failures.saturating_add(1) } else { 1 };
                    (well, listing) = (false, false);
                    // An outage is told again ever more seldom.
                    if failures.is_power_of_two() {
                        let error = interrupted_by(&error);
                        tracing::warn!(watch = component, failures, error, "watch interrupted; it is begun again");
                    }
                    if synced() {
                        world.health.set_for(&component, Condition::Degraded, "interrupted", INTERRUPTED_FOR);
                    }
                    return futures::stream::iter([None, None]);
                }
            };
            let of_list = matches!(event, Event::InitApply(_) | Event::InitDone);
            let begins = of_list && !std::mem::replace(&mut listing, of_list);
            if matches!(event, Event::InitDone) {
                listing = false;
            }
            if !matches!(event, Event::InitApply(_)) && !std::mem::replace(&mut well, true) {
                world.health.set(&component, Condition::Healthy, "watching");
                if failures > 0 {
                    tracing::info!(watch = component, failures = std::mem::take(&mut failures), "the watch works again");
                }
            }
            futures::stream::iter([begins.then_some(Event::Init), Some(event)])
        })
        .filter_map(std::future::ready)
}

/// How long is waited before a watch is begun again: doubled from failure to failure. Tokens may have to be renewed as soon as the API
/// server is back, so that it is never long.
#[derive(Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    const SHORTEST: Duration = Duration::from_millis(800);
    const LONGEST: Duration = Duration::from_secs(10);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = (Self::SHORTEST * (1 << self.failures.min(6))).min(Self::LONGEST);
        self.failures = self.failures.saturating_add(1);
        // Replicas and watches do not come all at once.
        let jitter = f64::from(entropy::bytes::<1>()[0]) / 256.0;
        Some(pause.mul_f64(1.0 - jitter / 4.0))
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_begun_again_ever_more_seldom_and_within_ten_seconds() {
        let mut patience = Patience::default();
        let mut full = Patience::SHORTEST;
        for pause in patience.by_ref().take(40) {
            assert!(pause <= full && pause >= full.mul_f64(0.75), "{pause:?}");
            full = (full * 2).min(Duration::from_secs(10));
        }
        patience.reset();
        assert!(patience.next().is_some_and(|pause| pause <= Patience::SHORTEST));
    }
}
