//! The clocks: the one place where the proxy asks what time it is.

use jiff::Timestamp;
use std::sync::LazyLock;
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the process began: never goes back.
pub type Moment = u64;

/// The moment that is now.
pub fn moment() -> Moment {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(Moment::MAX)
}

/// The time of day.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now() -> Timestamp {
    Timestamp::now()
}
