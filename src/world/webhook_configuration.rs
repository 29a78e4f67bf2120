//! The MutatingWebhookConfiguration by which new Pods are shown to the operator: whom the API server trusts for it.

use super::{ApiError, call};
use crate::api::vocabulary::MANAGER;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was right.
    Right,
    /// It is right now.
    Written,
    /// There is none.
    Missing,
    /// Somebody changed it meanwhile: it is looked at again.
    Again,
    /// The API server does not permit or accept it; its words.
    Refused(String),
}

/// Sees to it that the API server trusts this bundle, PEM, and no other at each webhook of the object.
///
/// # Errors
/// Where the API server does not answer.
pub async fn keep(client: &Client, name: &str, bundle: &[u8]) -> Result<Kept, ApiError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let found = match call(api.get_opt(name)).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(Kept::Missing),
        Err(error) => return error.refusal().map(Kept::Refused).ok_or(error),
    };
    let changes = changes(found.webhooks.as_deref().unwrap_or_default(), bundle);
    if changes.is_empty() {
        return Ok(Kept::Right);
    }
    let version = found.metadata.resource_version.unwrap_or_default();
    // The places of the webhooks are those of this version: of another one it is a conflict.
    let fence = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": version});
    let patch: Vec<Value> = [fence].into_iter().chain(changes).collect();
    let Ok(patch) = serde_json::from_value::<json_patch::Patch>(Value::Array(patch)) else {
        return Ok(Kept::Refused("the patch is none".to_owned()));
    };
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match call(api.patch(name, &params, &Patch::<()>::Json(patch))).await {
        Ok(_) => Ok(Kept::Written),
        Err(error) => match error.status() {
            Some(status) if status.is_not_found() => Ok(Kept::Missing),
            Some(status) if status.is_conflict() => Ok(Kept::Again),
            _ => error.refusal_of_write().map(Kept::Refused).ok_or(error),
        },
    }
}

/// What is to be changed, as operations of a JSON patch (RFC 6902).
fn changes(webhooks: &[MutatingWebhook], bundle: &[u8]) -> Vec<Value> {
    let other = |hook: &MutatingWebhook| hook.client_config.ca_bundle.as_ref().is_none_or(|there| there.0 != bundle);
    let wrong = webhooks.iter().enumerate().filter(|(_, hook)| other(hook));
    let bundle = json!(ByteString(bundle.to_vec()));
    let path = |index: usize| format!("/webhooks/{index}/clientConfig/caBundle");
    // "add" replaces what is there.
    wrong.map(|(index, _)| json!({"op": "add", "path": path(index), "value": bundle})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_different_is_written() {
        let hook = |bundle: Option<&str>| -> MutatingWebhook {
            let config = json!({"url": "https://127.0.0.1", "caBundle": bundle.map(|text| ByteString(text.into()))});
            serde_json::from_value(
                json!({"name": "a.b.c", "admissionReviewVersions": [], "sideEffects": "None", "clientConfig": config}),
            )
            .unwrap()
        };
        assert_eq!(changes(&[hook(Some("new")), hook(Some("new"))], b"new"), Vec::<Value>::new());
        assert_eq!(changes(&[], b"new"), Vec::<Value>::new());
        let add = |index| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": "bmV3"});
        assert_eq!(changes(&[hook(None), hook(Some("new")), hook(Some("old"))], b"new"), [add(0), add(2)]);
    }
}
