//! ControllerRevisions: workflows as they were when runs of them began. What is in one never changes (apps/v1), and its name
//! says what is in it.

use super::secrets::Deleted;
use super::{ApiError, call};
use crate::api::vocabulary as v;
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::{ObjectMeta, PartialObjectMeta};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// What came of making one.
#[derive(Debug)]
pub enum Made {
    /// It is there.
    There,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// Reads what one holds; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn read(client: &Client, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
    let found = call(Api::<ControllerRevision>::namespaced(client.clone(), namespace).get_opt(name)).await?;
    Ok(found.map(|revision| revision.data.map(|data| data.0).unwrap_or_default()))
}

/// Makes one, unless it is there.
///
/// # Errors
/// Whatever the API server answers beside refusal.
pub async fn make(
    client: &Client,
    namespace: &str,
    name: &str,
    workflow: &str,
    generation: i64,
    data: &Value,
) -> Result<Made, ApiError> {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let labels = [
        label(v::MANAGED_BY_LABEL, v::MANAGER),
        label(v::COMPONENT_LABEL, v::REVISION_COMPONENT),
        label(v::WORKFLOW_LABEL, workflow),
    ];
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        revision: generation,
        data: Some(k8s_openapi::apimachinery::pkg::runtime::RawExtension(data.clone())),
    };
    let params = PostParams { field_manager: Some(v::MANAGER.to_owned()), ..PostParams::default() };
    match call(Api::namespaced(client.clone(), namespace).create(&params, &revision)).await {
        Ok(_) => Ok(Made::There),
        Err(error) if error.status().is_some_and(|status| status.is_already_exists()) => Ok(Made::There),
        Err(error) => error.refusal_of_write().map(Made::Refused).ok_or(error),
    }
}

/// All of ours in one namespace, or in all, without what they hold.
///
/// # Errors
/// Whatever the API server answers.
pub async fn all(client: &Client, namespace: Option<&str>) -> Result<Vec<PartialObjectMeta<ControllerRevision>>, ApiError> {
    let api: Api<ControllerRevision> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let ours = format!("{}={}", v::COMPONENT_LABEL, v::REVISION_COMPONENT);
    Ok(call(api.list_metadata(&ListParams::default().labels(&ours))).await?.items)
}

/// Deletes one as it was seen.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn delete(client: &Client, revision: &PartialObjectMeta<ControllerRevision>) -> Result<Deleted, ApiError> {
    let preconditions = Preconditions { uid: revision.uid(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), &revision.namespace().unwrap_or_default());
    match call(api.delete(&revision.name_any(), &params)).await {
        Ok(_) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_not_found()) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_conflict()) => Ok(Deleted::Changed),
        Err(error) => error.refusal_of_write().map(Deleted::Refused).ok_or(error),
    }
}
