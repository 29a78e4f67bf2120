//! The clocks: the one place where the proxy asks what time it is. The coarse ones: a request asks a dozen times, and some
//! milliseconds make no difference to it.

use jiff::Timestamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds since the machine was started: never goes back.
pub type Moment = u64;

/// The moment that is now.
pub fn moment() -> Moment {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::MonotonicCoarse);
    u64::try_from(tv_sec).unwrap_or_default() * 1000 + u64::try_from(tv_nsec).unwrap_or_default() / 1_000_000
}

/// The time of day.
pub fn now() -> Timestamp {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::RealtimeCoarse);
    Timestamp::new(tv_sec, i32::try_from(tv_nsec).unwrap_or_default()).unwrap_or(Timestamp::MAX)
}
