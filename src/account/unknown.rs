//! What to do when a refresh token was posted and no answer came: it may have been spent, and its successor lost.

use super::plan::Rotation;
use crate::api::{RotationMode, TokenStatus, UnknownOutcome};
use jiff::{SignedDuration, Timestamp};

/// An exchange may take so long: what is posted must arrive while it is still accepted.
const EXCHANGE: SignedDuration = SignedDuration::from_secs(20);

/// When the same refresh token may be posted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Now: it is safe, or there is nothing to lose.
    Post,
    /// After it is known whether the access token still lives.
    Probe,
    /// Not before this moment, when there is little left to lose.
    Wait(Timestamp),
}

/// What the provider's rotation allows since the `doubt` began, while this access token is published.
///
/// A provider that rotates strictly takes a second post of a spent refresh token for theft and ends the whole login. So
/// it is posted again only where it cannot have been spent, is still accepted though it was, or nothing is lost by it.
pub fn resolve(rotation: &Rotation, doubt: Timestamp, published: Option<&TokenStatus>, now: Timestamp) -> Resolution {
    let alive = published.filter(|token| token.expiration_time.0 > now);
    if alive.is_none() {
        return Resolution::Post;
    }
    if rotation.mode == RotationMode::Never {
        return Resolution::Post;
    }
    match rotation.on_unknown {
        UnknownOutcome::Retry => Resolution::Post,
        UnknownOutcome::Probe => Resolution::Probe,
        UnknownOutcome::Grace if now + EXCHANGE.min(rotation.grace / 4) < doubt + rotation.grace => Resolution::Post,
        UnknownOutcome::Grace | UnknownOutcome::Postpone => postponed(published, now),
    }
}

/// When the access token is nearly spent, and there is little left to lose.
pub fn postponed(published: Option<&TokenStatus>, now: Timestamp) -> Resolution {
    match published.map(nearly_spent) {
        Some(nearly_spent) if now < nearly_spent => Resolution::Wait(nearly_spent),
        _ => Resolution::Post,
    }
}

/// The last moment at which a new token can still come before the old one ends, with a little to spare.
fn nearly_spent(token: &TokenStatus) -> Timestamp {
    let lifetime = token.expiration_time.0.duration_since(token.issued_time.0).max(SignedDuration::ZERO);
    let lead = (lifetime / 20).clamp(SignedDuration::from_secs(30), SignedDuration::from_mins(5));
    token.expiration_time.0 - lead.min(lifetime / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::{at, record};

    fn resolved(on_unknown: UnknownOutcome, now: i64) -> Resolution {
        let rotation = Rotation { mode: RotationMode::Always, grace: SignedDuration::from_secs(60), on_unknown };
        resolve(&rotation, at(1000), Some(&record(1, 3600).public), at(now))
    }

    #[test]
    fn what_cannot_be_spent_is_posted_again() {
        assert_eq!(resolved(UnknownOutcome::Retry, 1001), Resolution::Post);
        let rotation = Rotation { mode: RotationMode::Never, grace: SignedDuration::ZERO, on_unknown: UnknownOutcome::Postpone };
        assert_eq!(resolve(&rotation, at(0), Some(&record(1, 3600).public), at(1)), Resolution::Post);
    }

    #[test]
    fn within_its_grace_it_is_posted_again_and_afterwards_not() {
        assert_eq!(resolved(UnknownOutcome::Grace, 1044), Resolution::Post);
        assert_eq!(resolved(UnknownOutcome::Grace, 1045), Resolution::Wait(at(3420)), "it must arrive within the grace");
    }

    #[test]
    fn what_may_end_the_login_waits_until_the_token_is_nearly_spent() {
        assert_eq!(resolved(UnknownOutcome::Postpone, 1001), Resolution::Wait(at(3420)));
        assert_eq!(resolved(UnknownOutcome::Postpone, 3420), Resolution::Post);
        let rotation = Rotation { mode: RotationMode::Maybe, grace: SignedDuration::ZERO, on_unknown: UnknownOutcome::Postpone };
        assert_eq!(resolve(&rotation, at(0), Some(&record(1, 40).public), at(1)), Resolution::Wait(at(20)));
        assert_eq!(resolve(&rotation, at(0), None, at(1)), Resolution::Post, "without a token there is nothing to lose");
    }

    #[test]
    fn where_a_refresh_kills_the_old_token_its_life_tells() {
        assert_eq!(resolved(UnknownOutcome::Probe, 1001), Resolution::Probe);
        assert_eq!(resolved(UnknownOutcome::Probe, 3600), Resolution::Post, "what has expired tells nothing");
    }
}
