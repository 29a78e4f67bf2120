//! How the operator is: its components, healthy, degraded or unhealthy.

use jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a component is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It works.
    Healthy,
    /// It works for some.
    Degraded,
    /// It does not work.
    Unhealthy,
}

/// Seconds of one window of token requests; the last two count.
const WINDOW: i64 = 150;

#[derive(Default)]
struct Window {
    began: i64,
    asked: u32,
    failed: u32,
}

struct Component {
    condition: Condition,
    words: String,
    /// When it is well again without a word.
    until: Option<Instant>,
}

struct State {
    components: BTreeMap<String, Component>,
    requests: [Window; 2],
}

/// The health board.
pub struct Health {
    started: Instant,
    state: Mutex<State>,
}

impl Default for Health {
    fn default() -> Self {
        let state = State { components: BTreeMap::new(), requests: Default::default() };
        Self { started: Instant::now(), state: Mutex::new(state) }
    }
}

impl Health {
    /// A component tells how it is.
    pub fn set(&self, component: &str, condition: Condition, words: impl Into<String>) {
        self.put(component, Component { condition, words: words.into(), until: None });
    }

    /// A component tells how it is; unless it tells so again, it is well after this time.
    pub fn set_for(&self, component: &str, condition: Condition, words: impl Into<String>, time: Duration) {
        self.put(component, Component { condition, words: words.into(), until: Some(Instant::now() + time) });
    }

    fn put(&self, name: &str, component: Component) {
        self.lock().components.insert(name.to_owned(), component);
    }

    /// A token request has ended.
    pub fn token_request(&self, succeeded: bool, now: Timestamp) {
        let window = now.as_second() / WINDOW;
        let mut state = self.lock();
        if state.requests[0].began != window {
            state.requests.swap(0, 1);
            state.requests[0] = Window { began: window, ..Window::default() };
        }
        state.requests[0].asked += 1;
        state.requests[0].failed += u32::from(!succeeded);
    }

    /// Every component in a line, and how the worst of our own is. Token requests are degraded from 5 % of failures on and
    /// unhealthy from 20 % on, over the last five minutes; they are told, and do not make us ill: tenants choose whom we ask.
    pub fn report(&self, now: Timestamp) -> (Condition, String) {
        let state = self.lock();
        let told = |component: &Component| match component.until {
            Some(until) if until <= Instant::now() => (Condition::Healthy, "no trouble since".to_owned()),
            _ => (component.condition, component.words.clone()),
        };
        let mut components: BTreeMap<_, _> = state.components.iter().map(|(name, one)| (name.clone(), told(one))).collect();
        let worst = components.values().map(|(condition, _)| *condition).max().unwrap_or(Condition::Healthy);
        components.insert("token-requests".into(), requests(&state.requests, now));
        let mut text = String::new();
        for (name, (condition, words)) in &components {
            // A String takes whatever is written.
            let _ = writeln!(text, "{name}: {} ({words})", condition.as_str());
        }
        let _ = writeln!(text, "version: {}\nuptime: {} s", env!("CARGO_PKG_VERSION"), self.started.elapsed().as_secs());
        (worst, text)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is whole before its lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// As the report spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

fn requests(windows: &[Window; 2], now: Timestamp) -> (Condition, String) {
    let current = now.as_second() / WINDOW;
    let recent = windows.iter().filter(|window| window.began + 1 >= current);
    let (asked, failed) = recent.fold((0, 0), |(asked, failed), window| (asked + window.asked, failed + window.failed));
    let condition = match (asked, failed) {
        (0, _) => Condition::Healthy,
        _ if failed * 5 >= asked => Condition::Unhealthy,
        _ if failed * 20 >= asked => Condition::Degraded,
        _ => Condition::Healthy,
    };
    (condition, format!("{failed} of {asked} failed in the last five minutes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(failures: u32, successes: u32, seconds_later: i64) -> Condition {
        let health = Health::default();
        let now = Timestamp::from_second(1_000_000).unwrap();
        (0..failures).for_each(|_| health.token_request(false, now));
        (0..successes).for_each(|_| health.token_request(true, now));
        let (worst, text) = health.report(Timestamp::from_second(1_000_000 + seconds_later).unwrap());
        assert_eq!(worst, Condition::Healthy, "providers do not make us ill");
        let all = [Condition::Healthy, Condition::Degraded, Condition::Unhealthy];
        all.into_iter().find(|one| text.contains(&format!("token-requests: {} ", one.as_str()))).unwrap()
    }

    #[test]
    fn five_percent_of_failures_degrade_and_twenty_are_unhealthy() {
        assert_eq!(after(0, 0, 0), Condition::Healthy);
        assert_eq!(after(4, 96, 0), Condition::Healthy);
        assert_eq!(after(5, 95, 0), Condition::Degraded);
        assert_eq!(after(20, 80, 0), Condition::Unhealthy);
        assert_eq!(after(20, 80, 600), Condition::Healthy, "what is long ago does not count");
    }

    #[test]
    fn what_was_interrupted_is_well_again_when_it_stays_quiet() {
        let health = Health::default();
        health.set_for("watch", Condition::Degraded, "interrupted", Duration::from_secs(60));
        assert_eq!(health.report(Timestamp::UNIX_EPOCH).0, Condition::Degraded);
        health.set_for("watch", Condition::Degraded, "interrupted", Duration::ZERO);
        assert_eq!(health.report(Timestamp::UNIX_EPOCH).0, Condition::Healthy);
    }

    #[test]
    fn the_worst_component_counts() {
        let health = Health::default();
        health.set("cache", Condition::Healthy, "synced");
        health.set("leader", Condition::Unhealthy, "lost");
        let (worst, text) = health.report(Timestamp::UNIX_EPOCH);
        assert_eq!(worst, Condition::Unhealthy);
        assert!(text.contains("leader: unhealthy (lost)") && text.contains("version: "), "{text}");
    }
}
