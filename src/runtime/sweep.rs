//! Records of logins whose account is gone: deleted when two live looks, a grace apart, both find no such account. A record
//! is the only copy of a login: a cache, a failed list or a missing kind is no proof of absence.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::api::OAuthAccount;
use crate::world::logins::LoginEntry;
use crate::world::secrets::Deleted;
use crate::world::{ApiError, World, accounts, clock, secrets};
use kube_runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked, at most.
const PERIOD: Duration = Duration::from_secs(60);

/// When accounts were first found gone, by UID of the record.
type Sightings = HashMap<Box<str>, Duration>;

/// Sweeps while we lead. Never ends.
pub async fn run(world: Arc<World>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership, grace: Duration) {
    let mut sightings = Sightings::new();
    loop {
        tokio::time::sleep(PERIOD.min(grace / 4).max(Duration::from_secs(1))).await;
        let synced = scopes.iter().all(|scope| scope.is_synced());
        if !leadership.is_held() || !synced {
            sightings.clear();
            continue;
        }
        let orphans: Vec<LoginEntry> = world.logins.all().into_iter().filter(|login| is_orphan(login, &scopes)).collect();
        sightings.retain(|uid, _| orphans.iter().any(|orphan| orphan.uid == *uid));
        for orphan in orphans {
            look(&orphan, &world, &mut sightings, grace).await;
        }
    }
}

/// Whether the caches say so: reason enough to look.
fn is_orphan(login: &LoginEntry, scopes: &[Arc<Scope>]) -> bool {
    let account = ObjectRef::<OAuthAccount>::new(&login.name).within(&login.namespace);
    let served = scopes.iter().find(|scope| scope.covers(&login.namespace));
    login.deletable && served.is_some_and(|scope| scope.accounts.get(&account).is_none())
}

async fn look(orphan: &LoginEntry, world: &World, sightings: &mut Sightings, grace: Duration) {
    match accounts::is_absent(&world.cluster.objects, &orphan.namespace, &orphan.name).await {
        Ok(true) => {}
        Ok(false) => {
            sightings.remove(&orphan.uid);
            return;
        }
        Err(error) => {
            tracing::debug!(%error, "it is not known whether an account is gone; its login is left alone");
            return;
        }
    }
    let now = clock::uptime();
    let first = *sightings.entry(orphan.uid.clone()).or_insert(now);
    if now.saturating_sub(first) < grace {
        return;
    }
    let (namespace, name) = (&*orphan.namespace, &*orphan.name);
    match delete(orphan, world).await {
        Ok(Deleted::Gone) => {
            sightings.remove(&orphan.uid);
            world.logins.set(&orphan.secret, None);
            tracing::info!(
                namespace,
                name,
                secret = &*orphan.secret,
                "the account is gone, and the record of its login was deleted"
            );
        }
        Ok(Deleted::Changed) => {}
        Ok(Deleted::Refused(words)) => tracing::warn!(namespace, name, "the record of a login was not deleted: {words}"),
        Err(error) => tracing::warn!(namespace, name, %error, "the record of a login was not deleted"),
    }
}

/// Deletes a record as it was before the last look at its account: one that an account of the same name has adopted since
/// is another version.
async fn delete(orphan: &LoginEntry, world: &World) -> Result<Deleted, ApiError> {
    let client = &world.cluster.objects;
    let record = secrets::secret(client, &world.namespace, &orphan.secret).await?;
    let version = record.and_then(|record| record.metadata.resource_version);
    if version.is_none() || !accounts::is_absent(client, &orphan.namespace, &orphan.name).await? {
        return Ok(Deleted::Changed);
    }
    secrets::delete(client, &world.namespace, &orphan.secret, &orphan.uid, version.as_deref()).await
}
