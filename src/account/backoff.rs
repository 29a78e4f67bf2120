//! How long to wait after a failed attempt.

use super::schedule::fraction;
use crate::oauth::{Fault, FaultKind};
use jiff::{SignedDuration, Timestamp};

/// When the attempt after the `failures`-th failure in a row (1 for the first) is made. Transient faults: full jitter,
/// 1 s to 5 min, and while a token still lives never longer than half its rest, so that a provider that is back in
/// time is asked in time. Faults that need a person: 1 min to 1 h; a changed spec or Secret does not wait for it.
pub fn next_attempt(fault: &Fault, failures: i32, uid: &str, now: Timestamp, expires: Option<Timestamp>) -> Timestamp {
    let jitter = fraction(uid, &format!("backoff {failures}"));
    let doublings = u32::try_from(failures.clamp(1, 12) - 1).unwrap_or(0);
    // Some servers answer invalid_request to a lost race: it is transient three times.
    let patient = fault.kind.needs_a_person() || (fault.kind == FaultKind::InvalidRequest && failures > 3);
    let wait = if patient {
        let most = (SignedDuration::from_mins(1) * (1 << doublings)).min(SignedDuration::from_hours(1));
        most.mul_f64(0.5 + 0.5 * jitter)
    } else {
        let most = (SignedDuration::from_secs(2) * (1 << doublings)).min(SignedDuration::from_mins(5));
        let wait = most.mul_f64(jitter);
        let rest = expires.map(|at| at.duration_since(now)).filter(SignedDuration::is_positive);
        rest.map_or(wait, |rest| wait.min(rest / 2))
    };
    now + wait.max(SignedDuration::from_secs(1)).max(fault.retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(kind: FaultKind, failures: i32, uid: &str, rest: Option<i64>) -> f64 {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let expires = rest.map(|rest| now + SignedDuration::from_secs(rest));
        next_attempt(&Fault::new(kind, ""), failures, uid, now, expires).duration_since(now).as_secs_f64()
    }

    #[test]
    fn transient_faults_wait_one_second_to_five_minutes() {
        let waits: Vec<f64> = (0..200).map(|n| wait(FaultKind::Unavailable, 20, &format!("{n}"), None)).collect();
        assert!(waits.iter().all(|wait| (1.0..=300.0).contains(wait)));
        assert!(waits.iter().any(|wait| *wait > 200.0) && waits.iter().any(|wait| *wait < 100.0));
        assert!((0..200).all(|n| wait(FaultKind::Unavailable, 1, &format!("{n}"), None) <= 2.0));
    }

    #[test]
    fn a_living_token_shortens_the_wait() {
        assert!((0..200).all(|n| wait(FaultKind::TimedOut, 20, &format!("{n}"), Some(60)) <= 30.0));
    }

    #[test]
    fn faults_for_a_person_wait_a_minute_to_an_hour() {
        assert!((0..200).all(|n| (30.0..=60.0).contains(&wait(FaultKind::InvalidClient, 1, &format!("{n}"), Some(60)))));
        assert!((0..200).all(|n| (1800.0..=3600.0).contains(&wait(FaultKind::InvalidClient, 30, &format!("{n}"), None))));
    }

    #[test]
    fn the_provider_s_wish_is_the_least() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let fault = Fault { retry_after: Some(SignedDuration::from_secs(30)), ..Fault::new(FaultKind::RateLimited, "") };
        assert!(
            next_attempt(&fault, 1, "a", now, Some(now + SignedDuration::from_secs(10))) >= now + SignedDuration::from_secs(30)
        );
    }
}
