//! The status of accounts.

use super::{ApiError, call};
use crate::api::{OAuthAccount, OAuthAccountStatus, vocabulary::MANAGER};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

/// Puts a status in place of the one that is there, whatever it is (JSON patch, RFC 6902). Server-side apply would not:
/// the conditions that the schema gives a new account belong to nobody, and would stay. The UID is tested in the same
/// step, so that an account of the same name made meanwhile does not inherit what was true of its predecessor.
///
/// `None`: the account is gone, or another one has its name; there is nobody to tell. Else its new resourceVersion.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn say(client: &Client, account: &OAuthAccount, status: &OAuthAccountStatus) -> Result<Option<String>, ApiError> {
    let api: Api<OAuthAccount> = Api::namespaced(client.clone(), &account.namespace().unwrap_or_default());
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": account.uid()},
        {"op": "add", "path": "/status", "value": status},
    ]);
    let patch: json_patch::Patch =
        serde_json::from_value(patch).map_err(|error| ApiError::Answered(kube::Error::SerdeError(error)))?;
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match call(api.patch_status(&account.name_any(), &params, &Patch::Json::<()>(patch))).await {
        Ok(written) => Ok(Some(written.resource_version().unwrap_or_default())),
        Err(error) if error.status().is_some_and(|status| status.is_not_found()) => Ok(None),
        // The tested UID is another one, or the status is not what the schema allows: a defect that must not be lost.
        Err(error) if error.status().is_some_and(|status| status.is_invalid()) => {
            match call(api.get_opt(&account.name_any())).await? {
                Some(there) if there.uid() == account.uid() => Err(error),
                _ => Ok(None),
            }
        }
        Err(error) => Err(error),
    }
}
