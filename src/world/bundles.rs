//! The ConfigMaps that say whom to trust for the operator's own CA, in the namespaces of accounts: which there are, as the watch
//! has told without their content, and how one is put right.

use super::authority::labels;
use super::secrets::{self, Written};
use super::{ApiError, Metrics};
use crate::api::vocabulary as v;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Their resourceVersions by namespace.
#[derive(Default)]
pub struct Bundles {
    versions: Mutex<HashMap<Box<str>, Box<str>>>,
}

impl Bundles {
    /// A ConfigMap is there or has changed; `None`: it is gone. Those of other names leave nothing here.
    pub fn set(&self, namespace: &str, name: &str, version: Option<&str>) {
        if name != v::CA_NAME {
            return;
        }
        match version {
            Some(version) => self.lock().insert(namespace.into(), version.into()),
            None => self.lock().remove(namespace),
        };
    }

    /// These and no others are there, in the namespaces that a watch covers: namespace and version.
    pub fn replace(&self, covers: impl Fn(&str) -> bool, all: Vec<(Box<str>, Box<str>)>) {
        let mut versions = self.lock();
        versions.retain(|namespace, _| !covers(namespace));
        versions.extend(all);
    }

    /// Which one there is in a namespace.
    pub fn version(&self, namespace: &str) -> Option<String> {
        self.lock().get(namespace).map(ToString::to_string)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Box<str>>> {
        // Each change is whole before its lock is let go.
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It says whom to trust, as this version.
    Right(String),
    /// It is somebody else's, and left alone, as this version.
    Foreign(String),
    /// Somebody changed it meanwhile, or the namespace goes: it is looked at again.
    Again,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// Puts the ConfigMap of one namespace right, unless it is somebody else's.
///
/// # Errors
/// Where the API server does not answer.
pub async fn put(client: &Client, namespace: &str, bundle: &str, metrics: &Metrics) -> Result<Put, ApiError> {
    let found = match secrets::config_map(client, namespace, v::CA_NAME).await {
        Ok(found) => found,
        Err(error) => return error.refusal().map(Put::Refused).ok_or(error),
    };
    let version = |map: &ConfigMap| map.metadata.resource_version.clone().unwrap_or_default();
    let written = match found {
        Some(map) if !is_ours(&map) => return Ok(Put::Foreign(version(&map))),
        Some(map) if says(&map, bundle) => return Ok(Put::Right(version(&map))),
        Some(map) => secrets::replace(client, &saying(map, bundle)).await?,
        None => {
            let metadata = ObjectMeta {
                name: Some(v::CA_NAME.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(labels()),
                ..ObjectMeta::default()
            };
            secrets::create(client, &saying(ConfigMap { metadata, ..ConfigMap::default() }, bundle)).await?
        }
    };
    let count = |result: &str| metrics.bundle_writes.with_label_values(&[result]).inc();
    Ok(match written {
        Written::Stored { resource_version, .. } => {
            count("success");
            Put::Right(resource_version)
        }
        Written::Conflict | Written::NamespaceGone => {
            count("conflict");
            Put::Again
        }
        Written::Refused(words) => {
            count("refused");
            Put::Refused(words)
        }
    })
}

/// Whether the operator made it, as its labels say. Whoever may edit them may write what is in it.
fn is_ours(map: &ConfigMap) -> bool {
    let there = map.metadata.labels.as_ref();
    [v::MANAGED_BY_LABEL, v::COMPONENT_LABEL].iter().all(|key| there.and_then(|there| there.get(*key)) == labels().get(*key))
}

fn says(map: &ConfigMap, bundle: &str) -> bool {
    map.data.as_ref().and_then(|data| data.get(v::CA_CERTIFICATE_KEY)).is_some_and(|there| there == bundle)
}

fn saying(mut map: ConfigMap, bundle: &str) -> ConfigMap {
    map.data.get_or_insert_default().insert(v::CA_CERTIFICATE_KEY.to_owned(), bundle.to_owned());
    // A key stands in one of the two.
    map.binary_data.get_or_insert_default().remove(v::CA_CERTIFICATE_KEY);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_the_operator_made_is_its_own() {
        let map = |labels: serde_json::Value| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"name": "oauth-operator-ca", "labels": labels}})).unwrap()
        };
        let ours = json!({"app.kubernetes.io/managed-by": "oauth-operator", "app.kubernetes.io/component": "ca"});
        assert!(is_ours(&map(ours)));
        for foreign in [
            json!({}),
            json!({"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/component": "ca"}),
            json!({"app.kubernetes.io/managed-by": "oauth-operator"}),
        ] {
            assert!(!is_ours(&map(foreign.clone())), "{foreign}");
        }
        let said = saying(ConfigMap::default(), "new");
        assert!(says(&said, "new") && !says(&said, "old") && !says(&ConfigMap::default(), ""));
    }

    #[test]
    fn what_one_watch_lists_says_nothing_of_another_s_namespaces() {
        let bundles = Bundles::default();
        bundles.set("a", v::CA_NAME, Some("1"));
        bundles.set("b", v::CA_NAME, Some("2"));
        bundles.set("a", "other", Some("3"));
        bundles.replace(|namespace| namespace == "b", vec![]);
        assert_eq!((bundles.version("a").as_deref(), bundles.version("b")), (Some("1"), None));
        bundles.set("a", v::CA_NAME, None);
        assert_eq!(bundles.version("a"), None);
    }
}
