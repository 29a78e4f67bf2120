//! Workflows and their runs: read live, written by compare-and-swap, made once and deleted as they were seen.

use super::secrets::Deleted;
use super::{ApiError, call};
use crate::api::vocabulary::MANAGER;
use crate::api::{Workflow, WorkflowRun};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::time::Duration;

/// A kind of workflows: one with a status that is written here.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl Kind for Workflow {}
impl Kind for WorkflowRun {}

/// An object at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// resourceVersion.
    pub resource_version: String,
}

impl Version {
    /// The version of an object as it was read.
    pub fn of<K: Kind>(object: &K) -> Self {
        Self {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            uid: object.uid().unwrap_or_default(),
            resource_version: object.resource_version().unwrap_or_default(),
        }
    }
}

/// What came of a write.
#[derive(Debug)]
pub enum Said {
    /// It is stored, at this resourceVersion.
    Stored(String),
    /// The object has changed, or is gone: look again.
    Conflict,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// Reads one object; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn read<K: Kind>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, ApiError> {
    call(Api::<K>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Puts a status in place of the one that stands at this version, and of no other (JSON patch, RFC 6902).
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn say<K: Kind>(client: &Client, at: &Version, status: &impl Serialize) -> Result<Said, ApiError> {
    let api: Api<K> = Api::namespaced(client.clone(), &at.namespace);
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": at.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": at.resource_version},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|error| ApiError::Answered(kube::Error::SerdeError(error)))?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match call(api.patch_status(&at.name, &params, &Patch::Json::<()>(patch))).await {
        Ok(written) => Ok(Said::Stored(written.resource_version().unwrap_or_default())),
        Err(error) => {
            let Some(status) = error.status() else { return Err(error) };
            if status.is_not_found() || status.is_conflict() {
                return Ok(Said::Conflict);
            }
            // A failed test reads like a value that the schema refuses: only another look tells them apart.
            if status.is_invalid() {
                return match call(api.get_opt(&at.name)).await? {
                    Some(there) if Version::of(&there) == *at => error.refusal_of_write().map(Said::Refused).ok_or(error),
                    _ => Ok(Said::Conflict),
                };
            }
            error.refusal_of_write().map(Said::Refused).ok_or(error)
        }
    }
}

/// What came of making a run.
#[derive(Debug)]
pub enum Made {
    /// It is made.
    Stored,
    /// One of this name is there already.
    There,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// Makes a run. An API server that says it is too busy has not made it, and is offered it again after a moment.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn create(client: &Client, run: &WorkflowRun) -> Result<Made, ApiError> {
    let api: Api<WorkflowRun> = Api::namespaced(client.clone(), &run.namespace().unwrap_or_default());
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let mut pauses = [1, 2, 4].map(Duration::from_secs).into_iter();
    loop {
        let error = match call(api.create(&params, run)).await {
            Ok(_) => return Ok(Made::Stored),
            Err(error) => error,
        };
        let answered = |code| error.status().is_some_and(|status| status.code == code);
        match pauses.next().filter(|_| answered(429)) {
            Some(pause) => tokio::time::sleep(pause).await,
            None if error.status().is_some_and(|status| status.is_already_exists()) => return Ok(Made::There),
            None => return error.refusal_of_write().map(Made::Refused).ok_or(error),
        }
    }
}

/// Deletes a run as it was seen, and no other.
///
/// # Errors
/// Whatever the API server answers beside conflict and refusal.
pub async fn delete(client: &Client, run: &Version) -> Result<Deleted, ApiError> {
    let preconditions = Preconditions { uid: Some(run.uid.clone()), resource_version: Some(run.resource_version.clone()) };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    match call(Api::<WorkflowRun>::namespaced(client.clone(), &run.namespace).delete(&run.name, &params)).await {
        Ok(_) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_not_found()) => Ok(Deleted::Gone),
        Err(error) if error.status().is_some_and(|status| status.is_conflict()) => Ok(Deleted::Changed),
        Err(error) => error.refusal_of_write().map(Deleted::Refused).ok_or(error),
    }
}
