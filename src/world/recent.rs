//! What was read a moment ago: ten thousand accounts that name one CA bundle read it once, and not ten thousand times in a
//! row. A watch that tells of a change makes it be read anew.

use super::{ApiError, secrets};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

/// How long a read is good for others.
const MOMENT: Duration = Duration::from_secs(1);
/// Objects of one kind that are remembered, and the bytes of each: a CA bundle or a seed has a few thousand.
const KEPT: usize = 128;
const LARGEST: usize = 16 * 1024;

/// Namespace and name.
type Place = (Box<str>, Box<str>);
type Read<K> = Arc<OnceCell<Option<Arc<K>>>>;

struct Reads<K>(Mutex<HashMap<Place, (Instant, Read<K>)>>);

impl<K> Default for Reads<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K> Reads<K> {
    /// The read under way or just made, or a place for a new one.
    fn cell(&self, namespace: &str, name: &str) -> Read<K> {
        let (mut reads, now) = (self.lock(), Instant::now());
        let place = (namespace.into(), name.into());
        if let Some((began, cell)) = reads.get(&place)
            && now.duration_since(*began) < MOMENT
        {
            return cell.clone();
        }
        reads.retain(|_, (began, _)| now.duration_since(*began) < MOMENT);
        let cell = Read::default();
        if reads.len() < KEPT {
            reads.insert(place, (now, cell.clone()));
        }
        cell
    }

    fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.into(), name.into()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, (Instant, Read<K>)>> {
        // Each change is whole before its lock is let go.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Secrets and ConfigMaps that were read a moment ago.
#[derive(Default)]
pub struct Recent {
    secrets: Reads<Secret>,
    config_maps: Reads<ConfigMap>,
}

impl Recent {
    /// Reads one Secret, unless that was done a moment ago; `None` where there is none.
    ///
    /// # Errors
    /// Whatever else the API server answers; that is not remembered.
    pub async fn secret(&self, client: &Client, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, ApiError> {
        let cell = self.secrets.cell(namespace, name);
        let read = async || -> Result<_, ApiError> { Ok(secrets::secret(client, namespace, name).await?.map(Arc::new)) };
        let found = cell.get_or_try_init(read).await.cloned()?;
        let size = |secret: &Arc<Secret>| secret.data.iter().flatten().map(|(_, value)| value.0.len()).sum::<usize>();
        if found.as_ref().is_some_and(|secret| size(secret) > LARGEST) {
            self.secrets.forget(namespace, name);
        }
        Ok(found)
    }

    /// The same of a ConfigMap.
    ///
    /// # Errors
    /// Whatever else the API server answers; that is not remembered.
    pub async fn config_map(&self, client: &Client, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>, ApiError> {
        let cell = self.config_maps.cell(namespace, name);
        let read = async || -> Result<_, ApiError> { Ok(secrets::config_map(client, namespace, name).await?.map(Arc::new)) };
        let found = cell.get_or_try_init(read).await.cloned()?;
        let text = |map: &Arc<ConfigMap>| map.data.iter().flatten().map(|(_, value)| value.len()).sum::<usize>();
        let bytes = |map: &Arc<ConfigMap>| map.binary_data.iter().flatten().map(|(_, value)| value.0.len()).sum::<usize>();
        if found.as_ref().is_some_and(|map| text(map) + bytes(map) > LARGEST) {
            self.config_maps.forget(namespace, name);
        }
        Ok(found)
    }

    /// A Secret has changed: whoever asks from now on reads it anew.
    pub fn secret_changed(&self, namespace: &str, name: &str) {
        self.secrets.forget(namespace, name);
    }

    /// A ConfigMap has changed.
    pub fn config_map_changed(&self, namespace: &str, name: &str) {
        self.config_maps.forget(namespace, name);
    }

    /// Nobody knows what has changed.
    pub fn clear(&self) {
        self.secrets.lock().clear();
        self.config_maps.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_is_shared_for_a_moment_and_until_something_changes() {
        let reads = Reads::<Secret>::default();
        let first = reads.cell("apps", "seed");
        assert!(Arc::ptr_eq(&first, &reads.cell("apps", "seed")));
        assert!(!Arc::ptr_eq(&first, &reads.cell("other", "seed")));
        reads.forget("apps", "seed");
        let second = reads.cell("apps", "seed");
        assert!(!Arc::ptr_eq(&first, &second), "a read that began before the change is no answer to who asks after it");
        reads.lock().get_mut(&("apps".into(), "seed".into())).unwrap().0 -= MOMENT;
        assert!(!Arc::ptr_eq(&second, &reads.cell("apps", "seed")), "a moment has an end");
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let reads = Reads::<Secret>::default();
        (0..1000).for_each(|number| drop(reads.cell("apps", &number.to_string())));
        assert_eq!(reads.lock().len(), KEPT);
    }
}
