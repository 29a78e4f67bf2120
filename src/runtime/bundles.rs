//! In each namespace that holds accounts the leader keeps a ConfigMap that says whom to trust for the operator's own CA: a Pod
//! can mount nothing of another namespace. It stays when the last account goes, for Pods that mount it may still start; it is
//! public, and goes with its namespace.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::world::World;
use crate::world::authority::Authority;
use crate::world::bundles::{Put, put};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often is looked. All that is looked at is in memory, unless something has changed.
const PERIOD: Duration = Duration::from_secs(2);
/// How long what was refused is left.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of one namespace.
enum Known {
    /// Its ConfigMap of this version says this, or is somebody else's.
    Settled(String, Arc<str>),
    /// It could not be written; when it is tried again.
    Later(Instant),
}

/// Keeps them right while this instance leads.
pub async fn run(world: Arc<World>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership, authority: Arc<Authority>) {
    let mut known: HashMap<String, Known> = HashMap::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let Ok(bundle) = String::from_utf8(authority.bundle()) else { continue };
        let bundle: Arc<str> = bundle.into();
        if bundle.is_empty() || !leadership.is_held() || !scopes.iter().all(|scope| scope.is_synced()) {
            continue;
        }
        let namespaces = namespaces(&world, &scopes);
        known.retain(|namespace, _| namespaces.contains(namespace));
        for namespace in namespaces {
            let at_rest = match known.get(&namespace) {
                Some(Known::Settled(version, said)) => {
                    *said == bundle && world.bundles.version(&namespace).as_ref() == Some(version)
                }
                Some(Known::Later(then)) => *then > Instant::now(),
                None => false,
            };
            if !at_rest && leadership.is_held() {
                let now = look(&world, &namespace, &bundle, known.get(&namespace)).await;
                known.insert(namespace, now);
            }
        }
    }
}

/// Namespaces that hold accounts. The operator's own has the CA's first ConfigMap already.
fn namespaces(world: &World, scopes: &[Arc<Scope>]) -> HashSet<String> {
    let accounts = scopes.iter().flat_map(|scope| scope.accounts.names());
    accounts.filter(|account| *account.namespace != *world.namespace).map(|account| account.namespace.to_string()).collect()
}

async fn look(world: &World, namespace: &str, bundle: &Arc<str>, before: Option<&Known>) -> Known {
    let again = || Known::Later(Instant::now() + PERIOD);
    match put(&world.cluster.objects, namespace, bundle, &world.metrics).await {
        Ok(Put::Right(version)) => Known::Settled(version, bundle.clone()),
        Ok(Put::Foreign(version)) => {
            let told = matches!(before, Some(Known::Settled(there, _)) if *there == version);
            if !told {
                tracing::warn!(
                    namespace,
                    "ConfigMap oauth-operator-ca is somebody else's (it lacks the operator's labels) and left alone: proxies there cannot trust the refresh endpoint by it; delete it or move it away"
                );
            }
            Known::Settled(version, bundle.clone())
        }
        Ok(Put::Again) => again(),
        Ok(Put::Refused(words)) => {
            tracing::warn!(namespace, "ConfigMap oauth-operator-ca could not be written: {words}");
            Known::Later(Instant::now() + PATIENCE)
        }
        Err(error) => {
            tracing::warn!(namespace, %error, "ConfigMap oauth-operator-ca could not be looked after; it is tried again");
            again()
        }
    }
}
