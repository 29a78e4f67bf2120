//! The clocks: the only place that reads them.
#![allow(clippy::disallowed_methods, reason = "this is the one file that the ban points to")]

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The wall clock.
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Time since the machine was started, its sleep included: unlike the monotonic clock, it also runs while a virtual machine
/// is paused by a suspend, so that a Lease is not believed in afterwards.
pub fn uptime() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
