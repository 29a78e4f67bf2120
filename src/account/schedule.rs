//! When a token is refreshed.

use crate::api::{ProviderOverrides, RefreshSchedule, TokenStatus};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// From this lifetime on a token is refreshed at 70–80 % of it and at least five minutes before its end; a shorter one
/// at 50–60 %, so that a leader's death (15 s) and an orphaned intent (45 s) fit before the end of a 5-minute token.
const LONG_LIFETIME: SignedDuration = SignedDuration::from_mins(20);
const LEAST_LEAD: SignedDuration = SignedDuration::from_mins(5);

/// A refresh token that dies when it is not used is used at least so often, and after a third of its idle time.
const LONGEST_IDLE: SignedDuration = SignedDuration::from_hours(24);
/// And not more often than this, however short-lived it is.
const SHORTEST_IDLE: SignedDuration = SignedDuration::from_secs(10);

/// What the user and the provider say about when to refresh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// `spec.refresh`.
    pub refresh: Option<RefreshSchedule>,
    /// A refresh is accepted only so long before expiry.
    pub window: Option<SignedDuration>,
    /// A refresh token that is not used for so long dies.
    pub idle: Option<SignedDuration>,
}

impl Schedule {
    /// What the spec says.
    pub fn of(refresh: Option<RefreshSchedule>, overrides: Option<&ProviderOverrides>) -> Self {
        let seconds = |seconds: Option<i32>| seconds.map(|seconds| SignedDuration::from_secs(seconds.into()));
        Self {
            refresh,
            window: seconds(
                overrides.and_then(|all| all.refresh_window.as_ref()).and_then(|window| window.earliest_seconds_before_expiry),
            ),
            idle: seconds(overrides.and_then(|all| all.refresh_token.as_ref()).and_then(|lifetimes| lifetimes.idle_seconds)),
        }
    }
}

/// When a token is to be refreshed: as the user says, else as its provider wishes, else by its lifetime; early enough to
/// keep its refresh token alive; not before the provider accepts it; and not after its end. The same for the same
/// account, and spread over a tenth of the lifetime for accounts made together.
pub fn renewal(token: &TokenStatus, schedule: &Schedule, refresh_token_expires: Option<Timestamp>, uid: &str) -> Timestamp {
    let (issued, expires) = (token.issued_time.0, token.expiration_time.0);
    let lifetime = expires.duration_since(issued).max(SignedDuration::ZERO);
    let lead = match &schedule.refresh {
        Some(RefreshSchedule { before_expiry_seconds: Some(seconds), .. }) => Some(SignedDuration::from_secs((*seconds).into())),
        Some(RefreshSchedule { before_expiry_percent: Some(percent), .. }) => Some(lifetime.mul_f64(f64::from(*percent) / 100.0)),
        _ => None,
    };
    let wished = token.refresh_time.as_ref().filter(|_| lead.is_none()).map(|time| time.0.max(issued));
    let moment = wished.unwrap_or_else(|| expires - lead.unwrap_or_else(|| default_lead(lifetime, uid)).min(lifetime / 2));
    let idle = [schedule.idle, refresh_token_expires.map(|end| end.duration_since(issued))].into_iter().flatten().min();
    let kept_alive = idle.map(|idle| issued + (idle / 3).clamp(SHORTEST_IDLE, LONGEST_IDLE));
    let accepted = [token.earliest_refresh_time.as_ref().map(|time| time.0), schedule.window.map(|window| expires - window)];
    let moment = kept_alive.map_or(moment, |kept_alive| moment.min(kept_alive));
    accepted.into_iter().flatten().fold(moment, Timestamp::max).min(expires)
}

fn default_lead(lifetime: SignedDuration, uid: &str) -> SignedDuration {
    let latest = if lifetime >= LONG_LIFETIME { 0.8 } else { 0.6 };
    let lead = lifetime.mul_f64(1.0 - latest + 0.1 * fraction(uid, "renewal"));
    if lifetime >= LONG_LIFETIME { lead.max(LEAST_LEAD) } else { lead }
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
    use crate::account::seen::tests::{at, record};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn share(lifetime: i64, refresh: Option<&RefreshSchedule>, uid: &str) -> f64 {
        let schedule = Schedule { refresh: refresh.cloned(), ..Schedule::default() };
        let moment = renewal(&record(1, lifetime).public, &schedule, None, uid);
        moment.duration_since(at(0)).as_secs_f64() / SignedDuration::from_secs(lifetime).as_secs_f64()
    }

    /// Seconds after its issue at which a token of an hour is refreshed.
    fn second(schedule: &Schedule, refresh_token_expires: Option<i64>, hints: impl FnOnce(&mut TokenStatus)) -> i64 {
        let mut token = record(1, 3600).public;
        hints(&mut token);
        renewal(&token, schedule, refresh_token_expires.map(at), "a").duration_since(at(0)).as_secs()
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

    #[test]
    fn the_provider_s_hints_count_unless_the_user_decides() {
        let user = Schedule {
            refresh: Some(RefreshSchedule { before_expiry_seconds: Some(100), before_expiry_percent: None }),
            ..Schedule::default()
        };
        let wishes = |token: &mut TokenStatus| token.refresh_time = Some(Time(at(1800)));
        assert_eq!(second(&Schedule::default(), None, wishes), 1800);
        assert_eq!(second(&user, None, wishes), 3500);
        let forbids = |token: &mut TokenStatus| token.earliest_refresh_time = Some(Time(at(3550)));
        assert_eq!(second(&user, None, forbids), 3550, "what the provider does not accept, nobody can decide");
        let never = |token: &mut TokenStatus| token.earliest_refresh_time = Some(Time(at(9999)));
        assert_eq!(second(&user, None, never), 3600, "at its end at the latest");
    }

    #[test]
    fn a_window_moves_the_refresh_to_the_end() {
        let schedule = Schedule { window: Some(SignedDuration::from_secs(30)), ..Schedule::default() };
        assert_eq!(second(&schedule, None, |_| {}), 3570);
    }

    #[test]
    fn a_refresh_token_that_dies_idle_is_kept_alive() {
        let idle = |seconds| Schedule { idle: Some(SignedDuration::from_secs(seconds)), ..Schedule::default() };
        assert_eq!(second(&idle(1800), None, |_| {}), 600);
        assert_eq!(second(&Schedule::default(), Some(1800), |_| {}), 600, "also where the reply says when it ends");
        assert_eq!(second(&idle(15), None, |_| {}), 10);
        let week = |token: &mut TokenStatus| token.expiration_time = Time(at(7 * 86_400));
        assert_eq!(second(&idle(30 * 86_400), None, week), 86_400);
    }
}
