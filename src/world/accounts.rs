//! Accounts, read live.

use super::{ApiError, call};
use crate::api::OAuthAccount;
use kube::Client;
use kube::api::Api;

/// An account as it is now; `None` where there is none.
///
/// # Errors
/// Whatever else the API server answers.
pub async fn account(client: &Client, namespace: &str, name: &str) -> Result<Option<OAuthAccount>, ApiError> {
    call(Api::<OAuthAccount>::namespaced(client.clone(), namespace).get_opt(name)).await
}

/// Whether there is surely no account of this name: the API server says so of the object, and not of its kind.
///
/// # Errors
/// Whatever else it answers.
pub async fn is_absent(client: &Client, namespace: &str, name: &str) -> Result<bool, ApiError> {
    match call(Api::<OAuthAccount>::namespaced(client.clone(), namespace).get_metadata(name)).await {
        Ok(_) => Ok(false),
        Err(error) => match error.status() {
            // Of a kind that is not defined the API server says 404 too, and names no object.
            Some(status) if status.is_not_found() => {
                let named = status.details.as_ref().is_some_and(|details| details.name == name);
                if named { Ok(true) } else { Err(error) }
            }
            _ => Err(error),
        },
    }
}
