//! What caches and memory tell of an account, before anybody is asked.

use super::health::Checked;
use super::memory::Memory;
use super::{Instance, LoginSeen, Plan, Policy, SecretMark, Seen, Stray, fraction, state_secret_name, token_secret_name};
use crate::api::{ConditionType, OAuthAccount};
use crate::world::marks::Marks;
use crate::world::{World, entropy};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// The first look; `turn`: whether the account's turn at the provider's gate has come.
pub fn observe(account: Arc<OAuthAccount>, world: &World, marks: &Marks, memory: &Memory, policy: &Policy, turn: bool) -> Seen {
    let metadata = &account.metadata;
    let (uid, version) = (metadata.uid.as_deref().unwrap_or_default(), metadata.resource_version.as_deref().unwrap_or_default());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = token_secret_name(&account);
    let mark = marks.of(uid, namespace, &name);
    let others = marks.others(uid, namespace, &name);
    Seen {
        plan: Plan::of(&account).and_then(|plan| plan.permitted(policy)),
        status: memory.newer_status(uid, version).or_else(|| account.status.clone()).unwrap_or_default(),
        mark: mark.map(|mark| SecretMark { resource_version: mark.resource_version.into_string() }),
        strays: others
            .into_iter()
            .map(|(name, mark)| Stray { name, uid: mark.uid.into(), resource_version: mark.resource_version.into() })
            .collect(),
        policy: policy.clone(),
        deposited: world.consents.has_deposit(namespace, account.metadata.name.as_deref().unwrap_or_default()),
        demanded: world.logins.demanded(&state_secret_name(namespace, account.metadata.name.as_deref().unwrap_or_default())),
        heals: memory.heals(uid),
        introspected: None,
        checked: memory.checked(uid).or_else(|| checked_before(&account, world.started)),
        polled: memory.polled(uid),
        instance: Instance {
            identity: world.identity.clone(),
            entropy: entropy::bytes(),
            unposted: memory.unposted(uid),
            unsteady_until: world.cluster.unsteady_until(),
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
        attempted: false,
        gone: memory.is_gone(uid),
        unpublished: memory.take(uid),
        publish_refused: false,
        restarted: None,
        account,
    }
}

/// A check that an earlier process has told of: the next ones are spread over their interval, and not made all at once.
fn checked_before(account: &OAuthAccount, started: Timestamp) -> Option<Checked> {
    let status = account.status.as_ref()?;
    let interval = SignedDuration::from_secs(account.spec.health_check.as_ref()?.interval_seconds.into());
    status.conditions.iter().find(|condition| condition.type_ == ConditionType::Healthy.as_str())?;
    let spread = interval.mul_f64(fraction(account.metadata.uid.as_deref().unwrap_or_default(), "health check"));
    let generation = status.token.as_ref().map_or(0, |token| token.generation);
    Some(Checked { at: started - interval + spread, generation, verdict: None })
}
