//! When a token expires: always known, never believed blindly.

use super::{Fault, FaultKind};
use crate::api::{ExpiryOverrides, ExpirySource, ExpiryUnit};
use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Longest lifetime in seconds that is taken for a lifetime; beyond it the number is an epoch. Thirty years: ten-year
/// tokens were really issued (linear/linear#251).
pub const LONGEST_LIFETIME: i64 = 30 * 365 * 86400;

/// Lifetime where neither the reply nor the token names one.
const DEFAULT_LIFETIME: SignedDuration = SignedDuration::from_hours(1);

/// A token must live so long when it comes. Asked again and again, a provider that hands out one token until it expires
/// would otherwise be asked without end in its last seconds.
const LEAST_LIFE: SignedDuration = SignedDuration::from_secs(3);

/// When a token expires and who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The moment, in whole seconds, rounded down.
    pub at: Timestamp,
    /// Who said so.
    pub source: ExpirySource,
}

impl Expiry {
    /// Reads the expiry of a reply to a request that was sent at `sent`: the lifetime runs from the moment of issue,
    /// which is not before it. The claim `exp` of a JWT shortens what the field says, for resource servers go by it.
    /// `field` is the reply's, read as `knobs` say.
    ///
    /// # Errors
    /// [`FaultKind::Malformed`] for a field that is no number, or an expiry that is over, or nearly, when the reply comes.
    pub fn of(
        field: Option<&Value>,
        access_token: &str,
        knobs: &ExpiryOverrides,
        sent: Timestamp,
        now: Timestamp,
    ) -> Result<Self, Fault> {
        let believed = |source: ExpirySource| knobs.source.is_none_or(|only| only == source);
        let field = field.filter(|value| !value.is_null() && believed(ExpirySource::Field));
        let field = field.map(|value| in_unit(value, knobs.unit, sent)).transpose()?;
        let claim = jwt_expiry(access_token).filter(|_| knobs.source != Some(ExpirySource::Default));
        let default = knobs.default_seconds.map_or(DEFAULT_LIFETIME, |seconds| SignedDuration::from_secs(seconds.into()));
        let (at, source) = match (field, claim) {
            (Some(field), Some(claim)) if claim < field => (claim, ExpirySource::JWT),
            (Some(field), _) => (field, ExpirySource::Field),
            (None, Some(claim)) => (claim, ExpirySource::JWT),
            (None, None) => (sent + default, ExpirySource::Default),
        };
        if at <= now {
            let ago = now.duration_since(at).as_secs();
            let message =
                format!("The provider issued a token that had already expired {ago} s ago; compare its clock and ours.");
            return Err(Fault::new(FaultKind::Malformed, message));
        }
        let left = at.duration_since(now);
        if left < LEAST_LIFE {
            let message =
                format!("The provider issued a token that lives for {} s only: it would expire under way.", left.as_secs());
            return Err(Fault::new(FaultKind::Malformed, message));
        }
        Ok(Self { at: Timestamp::from_second(at.as_second()).unwrap_or(at), source })
    }
}

/// A positive number of seconds, also as a string or with a fraction.
pub(super) fn lifetime(value: &Value) -> Option<SignedDuration> {
    #[expect(clippy::cast_possible_truncation, reason = "fractions of a second are dropped on purpose")]
    let seconds = number(value)? as i64;
    (1..=LONGEST_LIFETIME).contains(&seconds).then(|| SignedDuration::from_secs(seconds))
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok())).filter(|n: &f64| n.is_finite())
}

/// A value in the unit that the provider is known to use; without one as [`moment`] reads it.
fn in_unit(value: &Value, unit: Option<ExpiryUnit>, sent: Timestamp) -> Result<Timestamp, Fault> {
    let unreadable =
        || Fault::new(FaultKind::Malformed, "The provider's reply has an expiry that is not in the unit expected of it.");
    #[expect(clippy::cast_possible_truncation, reason = "fractions are dropped on purpose")]
    let whole = || number(value).map(|number| number as i64).ok_or_else(unreadable);
    match unit {
        None => value.as_str().and_then(|text| text.parse().ok()).map_or_else(|| moment(value, sent), Ok),
        Some(ExpiryUnit::Seconds) => moment(value, sent),
        Some(ExpiryUnit::Milliseconds) => {
            let milliseconds = whole()?;
            if milliseconds <= 0 {
                return moment(value, sent);
            }
            sent.checked_add(SignedDuration::from_millis(milliseconds)).map_err(|_| unreadable())
        }
        Some(ExpiryUnit::EpochSeconds) => Timestamp::from_second(whole()?).map_err(|_| unreadable()),
        Some(ExpiryUnit::EpochMilliseconds) => Timestamp::from_millisecond(whole()?).map_err(|_| unreadable()),
        Some(ExpiryUnit::ISO8601) => value.as_str().and_then(|text| text.parse().ok()).ok_or_else(unreadable),
    }
}

/// A lifetime in seconds, also as a string or with a fraction; above thirty years an epoch, above 10^11 in milliseconds.
pub(super) fn moment(value: &Value, sent: Timestamp) -> Result<Timestamp, Fault> {
    let unreadable = || Fault::new(FaultKind::Malformed, "The provider's reply has an expires_in that is no number of seconds.");
    let number = number(value).ok_or_else(unreadable)?;
    if number <= 0.0 {
        let message = format!("The provider issued a token with a lifetime of {number} s: one that is of no use.");
        return Err(Fault::new(FaultKind::Malformed, message));
    }
    // Saturates: what does not fit is refused by the calendar below.
    #[expect(clippy::cast_possible_truncation, reason = "fractions of a second are dropped on purpose")]
    let seconds = number as i64;
    let moment = if seconds <= LONGEST_LIFETIME {
        sent.checked_add(SignedDuration::from_secs(seconds))
    } else if seconds > 100_000_000_000 {
        Timestamp::from_millisecond(seconds)
    } else {
        Timestamp::from_second(seconds)
    };
    moment.map_err(|_| unreadable())
}

/// The claim `exp` (RFC 7519 §4.1.4) of a token that looks like a signed JWT. A hint: the signature is the resource
/// server's business.
fn jwt_expiry(access_token: &str) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "NumericDate may carry a fraction")]
    let second = claims(access_token)?.get("exp")?.as_f64()? as i64;
    Timestamp::from_second(second).ok()
}

/// The claims of what looks like a signed JWT (RFC 7519 §3), its signature unseen.
pub(crate) fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).ok()?;
    serde_json::from_slice(&claims).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn jwt(claims: &Value) -> String {
        let part = |value: &Value| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims))
    }

    fn expiry(expires_in: &Value, token: &str) -> Result<(i64, ExpirySource), FaultKind> {
        let read = Expiry::of(Some(expires_in), token, &ExpiryOverrides::default(), now(), now());
        read.map(|expiry| (expiry.at.duration_since(now()).as_secs(), expiry.source)).map_err(|fault| fault.kind)
    }

    #[test]
    fn a_lifetime_runs_from_the_request_also_as_text_or_fraction() {
        assert_eq!(expiry(&json!(3600), "opaque"), Ok((3600, ExpirySource::Field)));
        assert_eq!(expiry(&json!("3600"), "opaque"), Ok((3600, ExpirySource::Field)));
        assert_eq!(expiry(&json!(3599.9), "opaque"), Ok((3599, ExpirySource::Field)));
        assert_eq!(expiry(&json!(315_360_000), "opaque"), Ok((315_360_000, ExpirySource::Field)));
    }

    #[test]
    fn above_thirty_years_the_number_is_an_epoch() {
        let epoch = now().as_second() + 900;
        assert_eq!(expiry(&json!(epoch), "opaque"), Ok((900, ExpirySource::Field)));
        assert_eq!(expiry(&json!(epoch * 1000), "opaque"), Ok((900, ExpirySource::Field)));
        assert_eq!(expiry(&json!(epoch - 1000), "opaque"), Err(FaultKind::Malformed));
    }

    #[test]
    fn what_is_over_and_what_is_nearly_over_are_told_apart() {
        let words = |epoch: i64| {
            Expiry::of(Some(&json!(epoch)), "opaque", &ExpiryOverrides::default(), now(), now()).unwrap_err().message
        };
        assert!(words(now().as_second() - 90).contains("already expired 90 s ago"));
        assert!(words(now().as_second() + 2).contains("lives for 2 s only"));
    }

    #[test]
    fn nonsense_is_a_fault_of_the_provider() {
        for value in [json!(0), json!(-1), json!(1), json!(2), json!("soon"), json!(1e300), json!(true), json!([])] {
            assert_eq!(expiry(&value, "opaque"), Err(FaultKind::Malformed), "{value}");
        }
    }

    #[test]
    fn a_jwt_fills_the_gap_and_shortens_a_field_that_promises_too_much() {
        let token = jwt(&json!({"exp": now().as_second() + 60}));
        assert_eq!(expiry(&Value::Null, &token), Ok((60, ExpirySource::JWT)));
        assert_eq!(expiry(&json!(3600), &token), Ok((60, ExpirySource::JWT)));
        assert_eq!(expiry(&json!(30), &token), Ok((30, ExpirySource::Field)));
        assert_eq!(expiry(&json!(3600), &jwt(&json!({"exp": now().as_second() - 1}))), Err(FaultKind::Malformed));
    }

    #[test]
    fn without_any_word_it_is_an_hour() {
        assert_eq!(expiry(&Value::Null, "opaque"), Ok((3600, ExpirySource::Default)));
        assert_eq!(expiry(&Value::Null, "not.a.jwt"), Ok((3600, ExpirySource::Default)));
    }

    #[test]
    fn a_known_unit_is_believed_and_nothing_else() {
        let unit = |unit, value: &Value| {
            let knobs = ExpiryOverrides { unit: Some(unit), ..ExpiryOverrides::default() };
            Expiry::of(Some(value), "opaque", &knobs, now(), now()).map(|expiry| expiry.at.duration_since(now()).as_secs()).ok()
        };
        let epoch = now().as_second() + 900;
        assert_eq!(unit(ExpiryUnit::Milliseconds, &json!(900_000)), Some(900));
        assert_eq!(unit(ExpiryUnit::EpochSeconds, &json!(epoch.to_string())), Some(900));
        assert_eq!(unit(ExpiryUnit::EpochMilliseconds, &json!(epoch * 1000)), Some(900));
        assert_eq!(unit(ExpiryUnit::ISO8601, &json!("2026-01-01T01:15:00+01:00")), Some(900));
        for (wrong, value) in [
            (ExpiryUnit::EpochSeconds, json!(3600)),
            (ExpiryUnit::ISO8601, json!(3600)),
            (ExpiryUnit::Milliseconds, json!(-5)),
            (ExpiryUnit::Milliseconds, json!("soon")),
        ] {
            assert_eq!(unit(wrong, &value), None, "{wrong:?} {value}");
        }
    }

    #[test]
    fn a_preset_may_say_where_to_look_and_what_to_assume() {
        let knobs = |source, default_seconds| ExpiryOverrides { source, default_seconds, unit: None };
        let read = |value: &Value, token: &str, knobs: &ExpiryOverrides| {
            let expiry = Expiry::of(Some(value), token, knobs, now(), now()).unwrap();
            (expiry.at.duration_since(now()).as_secs(), expiry.source)
        };
        let token = jwt(&json!({"exp": now().as_second() + 600}));
        assert_eq!(read(&json!(60), &token, &knobs(Some(ExpirySource::JWT), None)), (600, ExpirySource::JWT));
        assert_eq!(read(&json!(60), &token, &knobs(Some(ExpirySource::Default), Some(7200))), (7200, ExpirySource::Default));
        assert_eq!(read(&Value::Null, "opaque", &knobs(None, Some(7200))), (7200, ExpirySource::Default));
    }
}
