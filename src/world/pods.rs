//! Pods, read live.

use super::{ApiError, call};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;

/// Reads one Pod; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn pod(client: &Client, namespace: &str, name: &str) -> Result<Option<Pod>, ApiError> {
    call(Api::<Pod>::namespaced(client.clone(), namespace).get_opt(name)).await
}
