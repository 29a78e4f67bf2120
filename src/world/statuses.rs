//! The status of accounts.

use super::{ApiError, call};
use crate::api::{OAuthAccount, OAuthAccountStatus, vocabulary::MANAGER};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

/// Writes status by server-side apply. The UID goes with it, so that an account of the same name made meanwhile does not
/// inherit what was true of its predecessor.
///
/// # Errors
/// Whatever the API server answers; a conflict of UIDs and an account that is gone are none: there is nobody to tell.
pub async fn say(client: &Client, account: &OAuthAccount, status: &OAuthAccountStatus) -> Result<(), ApiError> {
    let api: Api<OAuthAccount> = Api::namespaced(client.clone(), &account.namespace().unwrap_or_default());
    let patch = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1",
        "kind": "OAuthAccount",
        "metadata": {"name": account.name_any(), "uid": account.uid()},
        "status": status,
    });
    let params = PatchParams::apply(MANAGER).force();
    match call(api.patch_status(&account.name_any(), &params, &Patch::Apply(patch))).await {
        Ok(_) => Ok(()),
        Err(error) if error.status().is_some_and(|status| status.is_not_found() || status.is_conflict()) => Ok(()),
        Err(error) => Err(error),
    }
}
