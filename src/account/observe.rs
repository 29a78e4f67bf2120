//! What caches and memory tell of an account, before anybody is asked.

use super::health::Checked;
use super::memory::{Memory, Untold};
use super::{Instance, LoginSeen, Plan, Policy, SecretMark, Seen, Stray, fraction, state_secret_name, token_secret_name};
use crate::api::{ConditionType, NamespacedName, OAuthAccount};
use crate::world::marks::Marks;
use crate::world::{World, entropy};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// The first look; `turn`: whether the account's turn at the provider's gate has come.
pub fn observe(account: Arc<OAuthAccount>, world: &World, marks: &Marks, memory: &Memory, policy: &Policy, turn: bool) -> Seen {
    let metadata = &account.metadata;
    let (uid, version) = (metadata.uid.as_deref().unwrap_or_default(), metadata.resource_version.as_deref().unwrap_or_default());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let secret = NamespacedName::new(namespace, &token_secret_name(&account));
    let mark = marks.of(uid, &secret);
    let others = marks.others(uid, &secret);
    let record = state_secret_name(namespace, account.metadata.name.as_deref().unwrap_or_default());
    let seen = Seen {
        plan: Plan::of(&account).and_then(|plan| plan.permitted(policy)),
        status: memory.newer_status(uid, version).or_else(|| account.status.clone()).unwrap_or_default(),
        mark: mark.map(|mark| SecretMark { resource_version: mark.resource_version.into_string() }),
        strays: others
            .into_iter()
            .map(|(name, mark)| Stray { name, uid: mark.uid.into(), resource_version: mark.resource_version.into() })
            .collect(),
        policy: policy.clone(),
        deposited: world.consents.has_deposit(namespace, account.metadata.name.as_deref().unwrap_or_default()),
        demanded: world.logins.demanded(&record),
        heals: memory.heals(uid),
        introspected: None,
        checked: memory.checked(uid).or_else(|| checked_before(&account, world.started)),
        polled: memory.polled(uid),
        instance: Instance {
            identity: world.identity.clone(),
            entropy: entropy::bytes(),
            unposted: memory.unposted(uid),
            unsteady_until: world.cluster.unsteady_until(),
            armed: world.logins.armed(&record),
        },
        login: LoginSeen::default(),
        turn,
        heeded: false,
        token_secret: None,
        inputs: None,
        endpoints: None,
        subject_token: None,
        dpop_key: None,
        attempt: None,
        answering: None,
        attempted: false,
        gone: memory.is_gone(uid),
        unpublished: memory.take(uid),
        publish_refused: false,
        restarted: None,
        account: account.clone(),
    };
    match memory.take_attempt(uid) {
        Some(untold) => resumed(seen, untold),
        None => seen,
    }
}

/// With an attempt of a pass that broke off, or could not tell of it. If nothing else was asked for since, it is this pass's attempt; whoever has
/// been refused since may have been refused with the very token that came of it.
pub(super) fn resumed(seen: Seen, Untold { attempt, generation, request }: Untold) -> Seen {
    let refused_since = attempt.issued && attempt.fault.is_none() && seen.demanded.is_some();
    let attempted = generation == Some(seen.generation()) && request == seen.requested() && !refused_since;
    Seen { attempt: Some(attempt), answering: request, attempted, ..seen }
}

/// A check that an earlier process has told of: the next ones are spread over their interval, and not made all at once.
fn checked_before(account: &OAuthAccount, started: Timestamp) -> Option<Checked> {
    let status = account.status.as_ref()?;
    let interval = SignedDuration::from_secs(account.spec.health_check.as_ref()?.interval_seconds.into());
    status.conditions.iter().find(|condition| condition.type_ == ConditionType::Healthy.as_str())?;
    let spread = interval.mul_f64(fraction(account.metadata.uid.as_deref().unwrap_or_default(), "health check"));
    let generation = status.token.as_ref().map_or(0, |token| token.generation);
    Some(Checked { at: started - interval + spread, generation, said: None })
}

#[cfg(test)]
mod tests {
    use super::super::AttemptOutcome;
    use super::super::report::unobserved;
    use super::super::seen::tests::{account, at, unseen};
    use super::*;
    use crate::api::Trigger;
    use crate::oauth::{Fault, FaultKind};
    use serde_json::json;

    /// An attempt that nobody was told of, which answered this request, of an account that asks by this one.
    fn broken_off(answered: Option<i64>, asks: Option<i64>) -> Seen {
        let mut account = account(&json!({}));
        let annotation = |moment| ("oauth-operator.dev/refresh-requested-at".to_owned(), at(moment).to_string());
        account.metadata.annotations = asks.map(|moment| [annotation(moment)].into());
        let fault = Some(Fault::new(FaultKind::Unavailable, "away"));
        let attempt = AttemptOutcome { trigger: Trigger::Requested, started: at(1), finished: at(2), fault, issued: false };
        resumed(unseen(account), Untold { attempt, generation: Some(1), request: answered.map(at) })
    }

    #[test]
    fn what_was_attempted_for_the_same_is_not_attempted_again() {
        assert!(broken_off(None, None).attempted);
        assert!(broken_off(Some(5), Some(5)).attempted);
        let mut edited = broken_off(None, None);
        edited.attempted = false;
        let other = Untold { attempt: edited.attempt.take().unwrap(), generation: Some(0), request: None };
        assert!(!resumed(edited, other).attempted, "another spec is another attempt");
    }

    #[test]
    fn a_request_that_came_after_it_is_not_taken_for_answered() {
        let handled = |seen: &Seen| unobserved(seen, at(3)).last_handled_refresh_time.map(|time| time.0);
        let later = broken_off(Some(5), Some(6));
        assert!(!later.attempted, "it is tried for its own sake");
        assert_eq!(handled(&later), Some(at(5)), "and that of before is told");
        assert_eq!(handled(&broken_off(None, Some(6))), None);
    }
}
