//! The provider and the client of an account, as the operator understands them: where it is asked, and how we prove ourselves.

use super::GrantPlan;
use crate::api::{AuthMethod, Client, OAuthAccount, ProviderOverrides};
use crate::oauth::{ClientAuthentication, Dialect, Endpoint, Endpoints};
use serde_json::{Value, json};
use url::Url;

/// Where the endpoints are learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// By discovery from the issuer, spelled as the user spells it; what is known otherwise goes before it.
    Issuer(String),
    /// Written out, by the user or the preset.
    Known,
}

/// What the account says of the provider that changes what is asked for: not how replies are read or when is asked.
pub fn spelled(account: &OAuthAccount) -> Option<Value> {
    const INDIFFERENT: [&str; 11] = [
        "rotation",
        "refreshToken",
        "refreshWindow",
        "probe",
        "apiHosts",
        "errors",
        "expiry",
        "response",
        "revocationURL",
        "introspectionURL",
        "accept",
    ];
    let provider = &account.spec.provider;
    let mut overrides = json!(provider.overrides);
    if let Some(object) = overrides.as_object_mut() {
        object.retain(|name, _| !INDIFFERENT.contains(&name.as_str()));
    }
    let key_id = account.spec.client.as_ref().and_then(|client| client.key_id.as_ref());
    let empty = |value: &Value| value.as_object().is_none_or(serde_json::Map::is_empty);
    let plain = empty(&overrides) && provider.parameters.is_empty() && key_id.is_none();
    (!plain).then(|| json!([provider.parameters, overrides, key_id]))
}

/// Where the endpoints are learned, and what is known of them.
pub fn endpoints(
    account: &OAuthAccount,
    knobs: &ProviderOverrides,
    grant: &GrantPlan,
) -> Result<(EndpointSource, Endpoints), String> {
    let provider = &account.spec.provider;
    let custom = provider.custom.as_deref();
    let own = provider.overrides.as_deref();
    let place = |field: &str, own: bool| match (own, custom) {
        (false, Some(_)) => format!("spec.provider.custom.{field}"),
        _ => format!("spec.provider.overrides.{field}"),
    };
    let installation = match grant {
        GrantPlan::GitHubApp(grant) => grant.installation_id.to_string(),
        _ => String::new(),
    };
    let urls = [
        (
            Endpoint::Token,
            &knobs.token_url,
            custom.map(|custom| &custom.token_url),
            own.is_some_and(|own| own.token_url.is_some()),
        ),
        (Endpoint::Refresh, &knobs.refresh_url, None, true),
        (
            Endpoint::Authorization,
            &knobs.authorization_url,
            custom.and_then(|custom| custom.authorization_url.as_ref()),
            own.is_some_and(|own| own.authorization_url.is_some()),
        ),
        (
            Endpoint::DeviceAuthorization,
            &knobs.device_authorization_url,
            custom.and_then(|custom| custom.device_authorization_url.as_ref()),
            own.is_some_and(|own| own.device_authorization_url.is_some()),
        ),
        (
            Endpoint::Revocation,
            &knobs.revocation_url,
            custom.and_then(|custom| custom.revocation_url.as_ref()),
            own.is_some_and(|own| own.revocation_url.is_some()),
        ),
        (
            Endpoint::Introspection,
            &knobs.introspection_url,
            custom.and_then(|custom| custom.introspection_url.as_ref()),
            own.is_some_and(|own| own.introspection_url.is_some()),
        ),
        (Endpoint::Registration, &knobs.registration_url, None, true),
        (Endpoint::PushedAuthorizationRequest, &knobs.pushed_authorization_request_url, None, true),
    ];
    let mut known = Endpoints::default();
    for (endpoint, knob, custom, own) in urls {
        let Some(text) = knob.as_ref().or(custom) else { continue };
        let text = text.replace("{installationID}", &installation);
        let url = https(&text).map_err(|why| format!("{} is not usable: {why}.", place(endpoint.field(), own)))?;
        known = known.with(endpoint, url);
    }
    // An issuer in the overrides of a preset replaces what the preset knows of the endpoints.
    let overridden = own.and_then(|own| own.issuer.as_ref()).map(|issuer| ("spec.provider.overrides.issuer", issuer));
    let issuer = overridden.or(provider.issuer.as_ref().map(|issuer| ("spec.provider.issuer", issuer)));
    if let Some((field, issuer)) = issuer {
        https(issuer).map_err(|why| format!("{field} is not usable: {why}."))?;
        if let Some((before, _)) = issuer.split_once("/.well-known/") {
            return Err(format!("{field} must be the issuer, without /.well-known/: {before}."));
        }
        return Ok((EndpointSource::Issuer(issuer.clone()), known));
    }
    if known.get(Endpoint::Token).is_none() {
        return Err(
            "spec.provider names no token endpoint: set spec.provider.overrides.tokenURL or spec.provider.overrides.issuer."
                .into(),
        );
    }
    Ok((EndpointSource::Known, known))
}

/// How the client proves itself: as the account says, else as the provider is known to want it.
pub fn authentication(
    client: Option<&Client>,
    dialect: &Dialect,
    grant: &GrantPlan,
    registers: bool,
) -> Result<ClientAuthentication, String> {
    let chosen = client.and_then(|client| client.auth_method);
    // A registration brings the secret.
    let secret = registers || client.is_some_and(|client| client.secret_ref.is_some());
    let key_id = client.and_then(|client| client.key_id.clone());
    if key_id.is_some() && chosen.or(dialect.method) != Some(AuthMethod::PrivateKeyJWT) {
        return Err("spec.client.keyID has a use with authMethod PrivateKeyJWT only; remove it.".into());
    }
    let asserts = matches!(grant, GrantPlan::JWTBearer(_) | GrantPlan::GitHubApp(_));
    Ok(match (chosen.or(dialect.method), secret) {
        // Its assertion stands in the header, and nothing else says who asks.
        _ if matches!(grant, GrantPlan::GitHubApp(_)) => ClientAuthentication::None,
        (Some(AuthMethod::ClientSecretBearer), _) if asserts => ClientAuthentication::Bearer,
        (Some(AuthMethod::None), true) => {
            return Err("spec.client.secretRef has no use with authMethod None; remove one of the two.".into());
        }
        (Some(AuthMethod::None), false) => ClientAuthentication::None,
        // A public client of a provider that also has others.
        (_, false) if chosen.is_none() && *grant != GrantPlan::ClientCredentials => ClientAuthentication::None,
        (_, false) => return Err("spec.client.secretRef must be set for this grant and authMethod.".into()),
        (Some(AuthMethod::ClientSecretPost), true) => ClientAuthentication::Post,
        (Some(AuthMethod::ClientSecretBearer), true) => ClientAuthentication::Bearer,
        (Some(AuthMethod::PrivateKeyJWT), true) => ClientAuthentication::PrivateKeyJWT { key_id },
        (Some(AuthMethod::ClientSecretJWT), true) => ClientAuthentication::SecretJWT,
        (Some(AuthMethod::TLSClientAuth), true) => ClientAuthentication::Tls,
        (Some(AuthMethod::ClientSecretBasic) | None, true) => ClientAuthentication::Basic,
    })
}

/// A URL that may be asked.
pub fn https(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}"))?;
    if url.scheme() != "https" || url.host_str().is_none() {
        return Err("it must be an https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it may not carry a user or password".into());
    }
    Ok(url)
}
