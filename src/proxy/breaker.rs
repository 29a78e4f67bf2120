//! The breaker of one account at one upstream: when it is spared because it fails, and how well it does. Pure; moments are
//! given.

use super::clock::Moment;

/// Failures in a row that open it.
const IN_A_ROW: u32 = 5;
/// Seconds that are looked back at.
const WINDOW: usize = 10;
/// Requests in the window from which a share says something.
const ENOUGH: u32 = 10;
/// Milliseconds that it is open the first time, doubled each time that the probe fails.
const FIRST: Moment = 5_000;
/// The most.
const LONGEST: Moment = 60_000;
/// A probe of which nothing was heard for this long is taken for lost.
const PROBE: Moment = 60_000;
/// Weight of the newest request in the moving average.
const NEWEST: f64 = 0.1;
/// The least that health counts: who has failed is tried now and then.
const FLOOR: f64 = 0.1;

/// How a request ended, as far as the account and its upstream are to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was answered.
    Success,
    /// It was not, or with 5xx, or the answer was cut.
    Failure,
    /// The app went away: nobody is to blame.
    Neither,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Moment },
    Probing { since: Moment },
}

/// As metrics show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// All requests pass.
    Closed,
    /// One does.
    HalfOpen,
    /// None does.
    Open,
}

/// The breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Times that it opened without a success since.
    trips: u32,
    /// Successes and failures of the last seconds, each with its second.
    window: [(u64, u32, u32); WINDOW],
    health: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, trips: 0, window: [(0, 0, 0); WINDOW], health: 1.0 }
    }
}

impl Breaker {
    /// Whether a request may be sent.
    pub fn permits(&self, now: Moment) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::Probing { since } => now >= since + PROBE,
        }
    }

    /// A request is sent: where the breaker was open, it is the probe.
    pub fn begin(&mut self, now: Moment) {
        if self.state != State::Closed {
            self.state = State::Probing { since: now };
        }
    }

    /// A request has ended. `jitter` is a random number from 0 to 1.
    pub fn end(&mut self, ending: Ending, now: Moment, jitter: f64) {
        let success = match ending {
            Ending::Success => true,
            Ending::Failure => false,
            // The probe has told nothing: the next request is one.
            Ending::Neither => {
                if matches!(self.state, State::Probing { .. }) {
                    self.state = State::Open { until: now };
                }
                return;
            }
        };
        self.health = self.health * (1.0 - NEWEST) + if success { NEWEST } else { 0.0 };
        let second = now / 1000;
        let slot = &mut self.window[usize::try_from(second).unwrap_or_default() % WINDOW];
        if slot.0 != second {
            *slot = (second, 0, 0);
        }
        if success {
            slot.1 += 1;
            self.failures = 0;
            if matches!(self.state, State::Probing { .. }) {
                *self = Self { health: self.health, ..Self::default() };
            }
            return;
        }
        slot.2 += 1;
        self.failures += 1;
        match self.state {
            State::Probing { .. } => self.open(now, jitter),
            State::Closed if self.failures >= IN_A_ROW || self.mostly_fails(second) => self.open(now, jitter),
            // What was under way when it opened says nothing new.
            State::Closed | State::Open { .. } => {}
        }
    }

    fn mostly_fails(&self, second: u64) -> bool {
        let recent = self.window.iter().filter(|slot| slot.0 + WINDOW as u64 > second);
        let (good, bad) = recent.fold((0, 0), |(good, bad), slot| (good + slot.1, bad + slot.2));
        good + bad >= ENOUGH && good < bad
    }

    fn open(&mut self, now: Moment, jitter: f64) {
        let whole = FIRST.saturating_mul(1 << self.trips.min(10)).min(LONGEST);
        // Up to a fifth less, so that replicas do not probe together.
        let less = (whole as f64 * 0.2 * jitter.clamp(0.0, 1.0)) as Moment;
        self.trips += 1;
        self.state = State::Open { until: now + whole - less };
    }

    /// Share of requests that succeed, the recent ones weighing most; never below a floor.
    pub fn health(&self) -> f64 {
        self.health.max(FLOOR)
    }

    /// As metrics show it.
    pub fn position(&self, now: Moment) -> Position {
        match self.state {
            State::Closed => Position::Closed,
            State::Open { until } if now < until => Position::Open,
            State::Open { .. } | State::Probing { .. } => Position::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(times: u32, now: Moment) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..times {
            breaker.end(Ending::Failure, now, 0.0);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_between_them_does_not() {
        assert!(failing(4, 1_000).permits(1_000));
        assert!(!failing(5, 1_000).permits(1_000));
        let mut breaker = failing(4, 1_000);
        breaker.end(Ending::Success, 1_000, 0.0);
        for _ in 0..4 {
            breaker.end(Ending::Failure, 1_000, 0.0);
        }
        assert!(breaker.permits(1_000));
    }

    #[test]
    fn a_share_below_half_opens_it_within_the_window_only() {
        let mix = |apart: Moment| {
            let mut breaker = Breaker::default();
            for turn in 0..10 {
                // Never five failures in a row: F F S F F S ...
                let ending = if turn % 3 == 2 { Ending::Success } else { Ending::Failure };
                breaker.end(ending, 1_000 + turn * apart, 0.0);
            }
            breaker.permits(1_000 + 9 * apart)
        };
        assert!(!mix(100));
        assert!(mix(3_000), "ten requests in half a minute are not ten in a window");
    }

    #[test]
    fn it_opens_longer_each_time_the_probe_fails_and_closes_when_it_succeeds() {
        let mut breaker = failing(5, 0);
        let mut now = 0;
        for open in [5_000, 10_000, 20_000, 40_000, 60_000, 60_000] {
            assert!(!breaker.permits(now + open - 1) && breaker.permits(now + open), "{open}");
            now += open;
            breaker.begin(now);
            assert!(!breaker.permits(now), "one probe at a time");
            assert_eq!(breaker.position(now), Position::HalfOpen);
            breaker.end(Ending::Failure, now, 0.0);
        }
        now += 60_000;
        breaker.begin(now);
        breaker.end(Ending::Success, now, 0.0);
        assert_eq!((breaker.permits(now), breaker.position(now)), (true, Position::Closed));
        assert!(failing(5, now).permits(now + 5_000), "it begins with the shortest again");
    }

    #[test]
    fn jitter_makes_it_open_a_little_less_long() {
        let mut breaker = failing(4, 0);
        breaker.end(Ending::Failure, 0, 1.0);
        assert!(!breaker.permits(3_999) && breaker.permits(4_000));
    }

    #[test]
    fn a_probe_that_tells_nothing_gives_its_place_to_the_next() {
        let mut breaker = failing(5, 0);
        breaker.begin(5_000);
        breaker.end(Ending::Neither, 5_100, 0.0);
        assert!(breaker.permits(5_100));
        breaker.begin(5_100);
        assert!(!breaker.permits(65_099) && breaker.permits(65_100), "one that is lost does so after a minute");
    }

    #[test]
    fn health_sinks_with_failures_to_a_floor_and_recovers() {
        let mut breaker = failing(100, 0);
        assert_eq!(breaker.health(), FLOOR);
        for _ in 0..100 {
            breaker.end(Ending::Success, 0, 0.0);
        }
        assert!(breaker.health() > 0.99);
    }
}
