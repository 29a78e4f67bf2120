//! Workloads that are restarted.

use super::{ApiError, call};
use crate::api::vocabulary::MANAGER;
use crate::api::{RestartKind, RestartTarget};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// Sets an annotation on a workload's Pods, which makes it replace them as `kubectl rollout restart` does. The same value
/// once more changes nothing.
///
/// # Errors
/// In words, whatever the API server says.
pub async fn restart(client: &Client, namespace: &str, target: &RestartTarget, key: &str, value: &str) -> Result<(), String> {
    let result = match target.kind {
        RestartKind::Deployment => annotate::<Deployment>(client, namespace, &target.name, key, value).await,
        RestartKind::StatefulSet => annotate::<StatefulSet>(client, namespace, &target.name, key, value).await,
        RestartKind::DaemonSet => annotate::<DaemonSet>(client, namespace, &target.name, key, value).await,
    };
    result.map_err(|error| error.status().map_or_else(|| error.to_string(), |status| status.message.clone()))
}

async fn annotate<K>(client: &Client, namespace: &str, name: &str, key: &str, value: &str) -> Result<(), ApiError>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {key: value}}}}});
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    call(Api::<K>::namespaced(client.clone(), namespace).patch(name, &params, &Patch::Merge(&patch))).await.map(drop)
}
