//! Secrets and ConfigMaps, read live and written with the identity of what they replace.

use super::{ApiError, call};
use crate::api::vocabulary::MANAGER;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{NamespaceResourceScope, Status};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Debug;

/// What is written whole: a Secret or a ConfigMap.
pub trait Stored:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl Stored for Secret {}
impl Stored for ConfigMap {}

/// What came of a write.
#[derive(Debug)]
pub enum Written {
    /// Stored.
    Stored {
        /// Its UID.
        uid: String,
        /// Its resourceVersion.
        resource_version: String,
    },
    /// Somebody was faster: it exists, is gone, or has changed.
    Conflict,
    /// The namespace is being deleted.
    NamespaceGone,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// What came of a deletion.
#[derive(Debug)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// It is another one, or has changed.
    Changed,
    /// The API server does not permit it; its words.
    Refused(String),
}

/// Reads one Secret; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn secret(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
    call(Api::<Secret>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Reads one ConfigMap; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn config_map(client: &Client, namespace: &str, name: &str) -> Result<Option<ConfigMap>, ApiError> {
    call(Api::<ConfigMap>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Creates a Secret or a ConfigMap.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn create<K: Stored>(client: &Client, object: &K) -> Result<Written, ApiError> {
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    written(call(api.create(&params, object)).await)
}

/// Whether the API server would take a Secret in place of one of the same name, which is about to be deleted for it: `None`, or
/// its words. Asked before, for afterwards it would be too late.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn refusal_of(client: &Client, secret: &Secret) -> Result<Option<String>, ApiError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), dry_run: true };
    match written(call(api.create(&params, secret)).await)? {
        // That it exists is found out last.
        Written::Stored { .. } | Written::Conflict | Written::NamespaceGone => Ok(None),
        Written::Refused(words) => Ok(Some(words)),
    }
}

/// Puts a Secret or a ConfigMap in place of the one with the UID and resourceVersion in it, and of no other.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn replace<K: Stored>(client: &Client, object: &K) -> Result<Written, ApiError> {
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    written(call(api.replace(&object.name_any(), &params, object)).await)
}

/// Merges a patch (RFC 7396) into the Secret with the UID and resourceVersion in the patch, and into no other.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn patch(client: &Client, namespace: &str, name: &str, patch: &Value) -> Result<Written, ApiError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    written(call(api.patch(name, &params, &Patch::Merge(patch))).await)
}

/// Deletes the Secret with this UID (and version) and no other.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn delete(client: &Client, namespace: &str, name: &str, uid: &str, version: Option<&str>) -> Result<Deleted, ApiError> {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(str::to_owned) };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match call(Api::<Secret>::namespaced(client.clone(), namespace).delete(name, &params)).await {
        Ok(_) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_not_found()) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_conflict()) => Ok(Deleted::Changed),
        Err(error) => error.refusal_of_write().map(Deleted::Refused).ok_or(error),
    }
}

fn namespace_is_going(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn written(answer: Result<impl Stored, ApiError>) -> Result<Written, ApiError> {
    match answer {
        Ok(object) => Ok(Written::Stored {
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        }),
        Err(error) => match (error.status(), error.refusal_of_write()) {
            (Some(status), _) if namespace_is_going(status) => Ok(Written::NamespaceGone),
            // A write over what is gone is a race and no refusal.
            (Some(status), _) if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {
                Ok(Written::Conflict)
            }
            (_, Some(words)) => Ok(Written::Refused(words)),
            _ => Err(error),
        },
    }
}
