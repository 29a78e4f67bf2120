//! When a login ends, whatever its use: a person must be told in good time.

use super::{Plan, State};
use crate::api::LoginStatus;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A person is told so long before the end, or in the last fifth of a login that is shorter.
const LEAD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The end of the login that a record is of: by the provider's word on how old a login may be, or with the client that was
/// registered for it.
pub fn end(state: &State, plan: &Plan) -> Option<Timestamp> {
    state.credential.as_ref().filter(|credential| credential.is_refresh_token())?;
    let by_age = state.since.zip(plan.absolute).and_then(|(since, absolute)| since.checked_add(absolute).ok());
    let by_client = state.registration.as_ref().filter(|_| plan.registers).and_then(|registration| registration.expires);
    [by_age, by_client].into_iter().flatten().min()
}

/// When a person is told, of a login that status tells of.
pub fn told_from(login: &LoginStatus) -> Option<Timestamp> {
    let end = login.expiration_time.as_ref()?.0;
    let whole = login.start_time.as_ref().map(|Time(start)| end.duration_since(*start));
    Some(end - whole.map_or(LEAD, |whole| (whole / 5).min(LEAD)))
}

/// The end that is near.
pub fn due(login: &LoginStatus, now: Timestamp) -> Option<Timestamp> {
    let end = login.expiration_time.as_ref()?.0;
    told_from(login).filter(|from| *from <= now).map(|_| end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::at;

    fn login(start: Option<i64>, end: i64) -> LoginStatus {
        LoginStatus {
            refresh_token_fingerprint: None,
            seed_fingerprint: String::new(),
            start_time: start.map(|start| Time(at(start))),
            expiration_time: Some(Time(at(end))),
        }
    }

    #[test]
    fn a_person_is_told_in_good_time_and_not_before() {
        const DAY: i64 = 86_400;
        let year = login(Some(0), 365 * DAY);
        assert_eq!(due(&year, at(351 * DAY - 1)), None);
        assert_eq!(due(&year, at(351 * DAY)), Some(at(365 * DAY)));
        let week = login(Some(0), 7 * DAY);
        assert_eq!(due(&week, at(5 * DAY)), None, "a login of a week is not nearly over from its first day on");
        assert_eq!(due(&week, at(6 * DAY)), Some(at(7 * DAY)));
        assert_eq!(due(&login(None, 20 * DAY), at(7 * DAY)), Some(at(20 * DAY)));
    }
}
