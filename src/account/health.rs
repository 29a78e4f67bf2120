//! Whether the resource server that the user names accepts the published token: a word for people, and one fresh token where
//! it does not. Never a storm: a server that refuses that one too refuses them all.

use super::{Plan, Record, Seen};
use crate::api::{HealthStatus, OAuthAccountStatus, Reason};
use jiff::{SignedDuration, Timestamp};
use url::Url;

/// What is asked, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What answers 2xx to a token that it accepts.
    pub url: Url,
    /// Time between two checks.
    pub interval: SignedDuration,
}

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx.
    Accepted,
    /// 401 (RFC 6750 §3.1).
    Rejected,
    /// Anything else, in a sentence.
    Unclear(String),
}

/// The last check, as long as the process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// When it was made.
    pub at: Timestamp,
    /// Generation of the token that it was made with.
    pub generation: i64,
    /// Who was asked, and what came of it; none where status knows it from an earlier process.
    pub said: Option<(Url, Verdict)>,
}

/// When the token is to be checked.
pub fn due(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let check = plan.health_check.as_ref()?;
    let token = seen.standing().filter(|token| token.expiration_time.0 > now)?;
    let doubted = seen.status.health.is_some();
    Some(match &seen.checked {
        None => now,
        // The fresh one that was asked for tells whether the token or the server is at fault.
        Some(checked) if doubted && checked.generation != token.generation => now,
        // Somebody else's word says nothing.
        Some(Checked { said: Some((asked, _)), .. }) if *asked != check.url => now,
        Some(checked) => checked.at + check.interval,
    })
}

/// Whether one fresh token is to be tried: this one, and none before it, was refused.
pub fn wants_fresh(seen: &Seen, record: Option<&Record>) -> bool {
    let told = record.map(|record| record.public.generation).or(seen.status.token.as_ref().map(|token| token.generation));
    seen.plan.as_ref().is_ok_and(|plan| plan.health_check.is_some())
        && seen.status.health.as_ref().is_some_and(|health| health.rejected_tokens == 1 && Some(health.generation) == told)
}

/// What status says of it: tokens refused in a row, and the condition `Healthy`.
pub fn told(seen: &Seen, old: &OAuthAccountStatus) -> (Option<HealthStatus>, Option<(&'static str, Reason, String)>) {
    let Ok(plan) = &seen.plan else { return (old.health.clone(), None) };
    let Some(check) = &plan.health_check else { return (None, None) };
    let host = check.url.host_str().unwrap_or_default();
    let Some(Checked { generation, said: Some((asked, verdict)), .. }) = &seen.checked else { return (old.health.clone(), None) };
    if *asked != check.url {
        return (None, None);
    }
    match verdict {
        Verdict::Accepted => (None, Some(("True", Reason::TokenAccepted, format!("{host} accepts the token.")))),
        Verdict::Unclear(why) => {
            let words = format!("{host} does not tell whether it accepts the token: {why}");
            (old.health.clone(), Some(("Unknown", Reason::ProviderError, words)))
        }
        Verdict::Rejected => {
            let before = old.health.as_ref();
            let rejected_tokens = match before {
                Some(before) if before.generation == *generation => before.rejected_tokens,
                Some(before) => before.rejected_tokens.saturating_add(1),
                None => 1,
            };
            let words = if rejected_tokens > 1 {
                format!(
                    "{host} refuses the token with HTTP 401, and a fresh one too: check what the client and its scopes may do there."
                )
            } else {
                format!("{host} refuses the token with HTTP 401; a fresh one is tried once.")
            };
            (Some(HealthStatus { generation: *generation, rejected_tokens }), Some(("False", Reason::TokenRejected, words)))
        }
    }
}
