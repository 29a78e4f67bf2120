//! When workloads that read their token only at their start are restarted: once for each new token, and not more often than
//! their owner allows.

use super::{Plan, Seen};
use crate::api::{RestartStatus, vocabulary::RESTART_ANNOTATION_PREFIX};
use crate::oauth::hex;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

/// A restart that failed is tried again after this time, or after the interval where that is shorter.
const RETRY: SignedDuration = SignedDuration::from_mins(5);

/// What came of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restarted {
    /// When.
    pub at: Timestamp,
    /// Generation of the token it was for.
    pub generation: i64,
    /// Why some workload was not restarted.
    pub failure: Option<String>,
}

/// Since or from when a restart is due, where the published token is newer than the one the workloads have.
pub fn due(seen: &Seen, plan: &Plan) -> Option<Timestamp> {
    let restarted = seen.status.restart.as_ref()?;
    let token = seen.status.token.as_ref()?;
    let published = seen.standing().map_or(token.generation, |standing| standing.generation);
    if plan.restart_targets.is_empty() || plan.suspended || published <= restarted.generation {
        return None;
    }
    // What failed is tried again soon.
    let pause = if restarted.message.is_some() { plan.restart_interval.min(RETRY) } else { plan.restart_interval };
    let earliest = restarted.last_time.as_ref().map(|last| last.0 + pause);
    Some(earliest.unwrap_or(token.issued_time.0))
}

/// What status tells of restarts. The workloads have the first token when they start: it is waited for by them, or by nobody.
pub fn told(seen: &Seen, plan: &Plan) -> Option<RestartStatus> {
    if plan.restart_targets.is_empty() {
        return None;
    }
    let before = seen.status.restart.clone();
    match (&seen.restarted, before) {
        (Some(restarted), before) => Some(RestartStatus {
            // What was not done is tried again.
            generation: match (&restarted.failure, before) {
                (Some(_), Some(before)) => before.generation,
                _ => restarted.generation,
            },
            last_time: Some(Time(Timestamp::from_second(restarted.at.as_second()).unwrap_or(restarted.at))),
            message: restarted.failure.clone(),
        }),
        (None, Some(before)) => Some(before),
        (None, None) => {
            // Who was there before a token that came with this edit has the one before it.
            let had = |generation: i64| seen.status.token.as_ref().map_or(generation, |before| generation.min(before.generation));
            seen.standing().map(|token| RestartStatus { generation: had(token.generation), last_time: None, message: None })
        }
    }
}

/// The annotation that makes a workload roll: one for each account, so that two of them do not undo each other.
pub fn annotation(account: &str) -> String {
    // A name in an annotation has 63 characters at most.
    let short = account.len() <= 63;
    let name = if short { account.to_owned() } else { hex(&Sha256::digest(account)[..16]) };
    format!("{RESTART_ANNOTATION_PREFIX}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotation_s_name_is_short_enough_and_of_its_account() {
        let long = "a".repeat(200);
        assert_eq!(annotation("coze"), "restart.oauth-operator.dev/coze");
        assert_eq!(annotation(&long).len(), "restart.oauth-operator.dev/".len() + 32);
        assert_ne!(annotation(&long), annotation(&"a".repeat(199)));
    }
}
