//! When a token is refreshed.

use crate::api::RefreshSchedule;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// From this lifetime on a token is refreshed at 70–80 % of it and at least five minutes before its end; a shorter one
/// at 50–60 %, so that a leader's death (15 s) and an orphaned intent (45 s) fit before the end of a 5-minute token.
const LONG_LIFETIME: SignedDuration = SignedDuration::from_mins(20);
const LEAST_LEAD: SignedDuration = SignedDuration::from_mins(5);

/// When a token that was issued and expires at these moments is to be refreshed. The same for the same account, and
/// spread over a tenth of the lifetime for accounts made together.
pub fn renewal(issued: Timestamp, expires: Timestamp, schedule: Option<&RefreshSchedule>, uid: &str) -> Timestamp {
    let lifetime = expires.duration_since(issued).max(SignedDuration::ZERO);
    let lead = match schedule {
        Some(RefreshSchedule { before_expiry_seconds: Some(seconds), .. }) => SignedDuration::from_secs(i64::from(*seconds)),
        Some(RefreshSchedule { before_expiry_percent: Some(percent), .. }) => lifetime.mul_f64(f64::from(*percent) / 100.0),
        _ => {
            let latest = if lifetime >= LONG_LIFETIME { 0.8 } else { 0.6 };
            let lead = lifetime.mul_f64(1.0 - latest + 0.1 * fraction(uid, "renewal"));
            if lifetime >= LONG_LIFETIME { lead.max(LEAST_LEAD) } else { lead }
        }
    };
    expires - lead.min(lifetime / 2)
}

/// A number in [0, 1) that depends on nothing but its arguments: jitter that a test, a restart and the next leader
/// compute alike.
pub fn fraction(uid: &str, purpose: &str) -> f64 {
    let digest = Sha256::new().chain_update(uid).chain_update([0]).chain_update(purpose).finalize();
    let head = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    f64::from(head) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(lifetime: i64, schedule: Option<&RefreshSchedule>, uid: &str) -> f64 {
        let issued: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let expires = issued + SignedDuration::from_secs(lifetime);
        renewal(issued, expires, schedule, uid).duration_since(issued).as_secs_f64()
            / SignedDuration::from_secs(lifetime).as_secs_f64()
    }

    #[test]
    fn a_long_token_is_refreshed_at_70_to_80_percent_spread_by_uid() {
        let shares: Vec<f64> = (0..1000).map(|n| share(3600, None, &format!("uid-{n}"))).collect();
        assert!(shares.iter().all(|share| (0.7..=0.8).contains(share)));
        let early = shares.iter().filter(|share| **share < 0.75).count();
        assert!((400..600).contains(&early), "the fleet must spread out: {early} of 1000 in the first half");
    }

    #[test]
    fn a_short_token_is_refreshed_at_50_to_60_percent() {
        assert!((0..100).map(|n| share(300, None, &format!("uid-{n}"))).all(|share| (0.5..=0.6).contains(&share)));
    }

    #[test]
    fn from_twenty_minutes_on_the_lead_is_five_minutes_at_least() {
        assert!((0..100).all(|n| 1200.0 * (1.0 - share(1200, None, &format!("uid-{n}"))) >= 300.0));
    }

    #[test]
    fn the_user_decides_up_to_half_the_lifetime() {
        let seconds = |lead| RefreshSchedule { before_expiry_seconds: Some(lead), before_expiry_percent: None };
        let percent = |lead| RefreshSchedule { before_expiry_seconds: None, before_expiry_percent: Some(lead) };
        assert!((share(1000, Some(&seconds(100)), "a") - 0.9).abs() < 1e-6);
        assert!((share(1000, Some(&percent(30)), "a") - 0.7).abs() < 1e-6);
        assert!((share(1000, Some(&seconds(5000)), "a") - 0.5).abs() < 1e-6);
    }
}
