//! The webhook of this replica, and whom the API server trusts for it, which the leader keeps.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::world::World;
use crate::world::authority::Authority;
use crate::world::health::Condition;
use crate::world::webhook_configuration::{Kept, keep};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked whether the CA has changed, in memory, and whether we lead.
const PERIOD: Duration = Duration::from_secs(2);
/// How often the object is read: there is no right to watch it, and somebody may edit it.
const LOOK: Duration = Duration::from_secs(30);
/// Name of it on the health board.
const COMPONENT: &str = "injection";

/// Waits until every cache is there: before that an account's token Secret would be presumed though it is known.
pub async fn until_synced(scopes: &[Arc<Scope>]) {
    for scope in scopes {
        scope.until_synced().await;
    }
}

/// Keeps the caBundle of the webhook right while this instance leads.
pub async fn run(world: Arc<World>, leadership: Leadership, authority: Arc<Authority>, name: String) {
    let (mut said, mut looked): (Vec<u8>, Option<Instant>) = (vec![], None);
    let mut trouble = None;
    loop {
        tokio::time::sleep(PERIOD).await;
        let bundle = authority.bundle();
        if bundle.is_empty() || !leadership.is_held() {
            world.health.set(COMPONENT, Condition::Healthy, "the leader keeps the webhook's caBundle");
            (looked, trouble) = (None, None);
            continue;
        }
        if said == bundle && looked.is_some_and(|then| then.elapsed() < LOOK) {
            continue;
        }
        let kept = keep(&world.cluster.objects, &name, &bundle).await;
        let now = match &kept {
            Ok(Kept::Right) => None,
            Ok(Kept::Written) => {
                tracing::info!(name, "the webhook's caBundle is the operator's own CA now");
                None
            }
            Ok(Kept::Again) => continue,
            Ok(Kept::Missing) => Some(format!(
                "MutatingWebhookConfiguration {name} is not there: no Pod is shown to the operator; install it, or start the operator without --injection-webhook"
            )),
            Ok(Kept::Refused(words)) => {
                Some(format!("the caBundle of MutatingWebhookConfiguration {name} could not be written: {words}"))
            }
            Err(error) => Some(format!("MutatingWebhookConfiguration {name} could not be looked after: {error}")),
        };
        (said, looked) = (bundle, Some(Instant::now()));
        match &now {
            None => world.health.set(COMPONENT, Condition::Healthy, "the API server trusts the webhook"),
            Some(words) => world.health.set(COMPONENT, Condition::Degraded, words.as_str()),
        }
        // Said once, not at every look.
        if let Some(words) = now.as_ref().filter(|_| now != trouble) {
            tracing::warn!("{words}");
        }
        trouble = now;
    }
}
