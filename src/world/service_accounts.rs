//! Tokens of ServiceAccounts, made to be exchanged for a provider's (workload identity federation).

use super::{ApiError, call};
use crate::api::vocabulary::TOKEN_AUDIENCES_ANNOTATION;
use crate::oauth::{Fault, FaultKind, Sensitive, claims};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Client;
use kube::api::{Api, PostParams};
use serde_json::Value;

/// Seconds that such a token lives: the least that Kubernetes gives out.
const LIFETIME: i64 = 600;

/// A token of a ServiceAccount for an audience that it permits by its annotation, and that is none of the API server's own:
/// whoever may create an account must not become that ServiceAccount.
///
/// # Errors
/// Where the API server does not answer; what it refuses, and what the ServiceAccount does not permit, is the fault inside.
pub async fn token(client: &Client, namespace: &str, name: &str, audience: &str) -> Result<Result<Sensitive, Fault>, ApiError> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let found = match call(api.get_opt(name)).await {
        Ok(found) => found,
        Err(error) => return refused(error, &format!("may not read ServiceAccount {name} in namespace {namespace}")),
    };
    let Some(account) = found else {
        let message = format!("ServiceAccount {name} does not exist in namespace {namespace}; create it.");
        return Ok(Err(Fault::new(FaultKind::ReferenceMissing, message)));
    };
    let permitted = account.metadata.annotations.as_ref().and_then(|all| all.get(TOKEN_AUDIENCES_ANNOTATION));
    if !permitted.is_some_and(|audiences| audiences.split(',').any(|one| one.trim() == audience)) {
        let message = format!(
            "ServiceAccount {name} does not permit tokens for the audience {audience}; whoever owns it can permit that by listing the audience in its annotation {TOKEN_AUDIENCES_ANNOTATION}."
        );
        return Ok(Err(Fault::new(FaultKind::HostNotPermitted, message)));
    }
    let may_not = format!("may not have tokens made for ServiceAccount {name} in namespace {namespace}");
    // Without audiences the API server gives its own: that is how they are known.
    let own = match make(&api, name, vec![]).await {
        Ok(token) => audiences(token.expose()),
        Err(error) => return refused(error, &may_not),
    };
    if own.is_empty() || own.iter().any(|one| one == audience) {
        let message = format!(
            "The audience {audience} is the API server's own: such a token would be as good as being ServiceAccount {name}; ask for the audience that the provider expects."
        );
        return Ok(Err(Fault::new(FaultKind::HostNotPermitted, message)));
    }
    match make(&api, name, vec![audience.to_owned()]).await {
        Ok(token) => Ok(Ok(token)),
        Err(error) => refused(error, &may_not),
    }
}

async fn make(api: &Api<ServiceAccount>, name: &str, audiences: Vec<String>) -> Result<Sensitive, ApiError> {
    let spec = TokenRequestSpec { audiences, expiration_seconds: Some(LIFETIME), bound_object_ref: None };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let made = call(api.create_token_request(name, &PostParams::default(), &request)).await?;
    Ok(Sensitive::new(made.status.map(|status| status.token).unwrap_or_default()))
}

fn refused(error: ApiError, what: &str) -> Result<Result<Sensitive, Fault>, ApiError> {
    let words = error.refusal().ok_or(error)?;
    Ok(Err(Fault::new(FaultKind::ApiRefused, format!("The operator {what}: {words}"))))
}

/// Claim `aud` of a token: one text, or a list of them (RFC 7519 §4.1.3).
fn audiences(token: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match claims(token).as_ref().and_then(|claims| claims.get("aud")) {
        Some(Value::Array(all)) => all.iter().filter_map(text).collect(),
        Some(one) => text(one).into_iter().collect(),
        None => vec![],
    }
}
