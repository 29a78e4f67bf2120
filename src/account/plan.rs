//! The spec as the operator understands it: parsed once, refused with a sentence where this version lacks the effect.

use super::publication::Extra;
use super::schedule::Schedule;
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use crate::api::{
    AuthMethod, CABundleKind, CABundleReference, KeyReference, OAuthAccount, Probe, ProviderOverrides, Reason, RestartTarget,
    RevocationPolicy, RotationMode, RotationOverrides, StatePolicy, UnknownOutcome,
};
use crate::oauth::{ClientAuthentication, GrantRequest, Sensitive, TokenRequest, hex, host_and_port};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

/// Where the token endpoint is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointSource {
    /// By discovery from the issuer, spelled as the user spells it.
    Issuer(String),
    /// Written out.
    Custom(Url),
}

/// Where the client id is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIDFrom {
    /// In the spec.
    Literal(String),
    /// In a Secret.
    Secret(KeyReference),
}

/// By what right a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantPlan {
    /// The client's own: asking spends nothing.
    ClientCredentials,
    /// A refresh token, which asking may spend; where the first one is read.
    RefreshToken(KeyReference),
}

/// What a refresh does to the refresh token, and what to do when nobody knows whether it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Whether a refresh replaces it.
    pub mode: RotationMode,
    /// How long one that is spent is still accepted.
    pub grace: SignedDuration,
    /// What to do when the outcome of a refresh is unknown.
    pub on_unknown: UnknownOutcome,
}

impl Rotation {
    /// What the overrides say; else what is safe with any provider: it may rotate, with no grace, and a refresh leaves the
    /// old access token alone.
    fn of(overrides: Option<&ProviderOverrides>) -> Self {
        let unsaid = RotationOverrides::default();
        let said = overrides.and_then(|overrides| overrides.rotation.as_ref()).unwrap_or(&unsaid);
        let mode = said.mode.unwrap_or(RotationMode::Maybe);
        let grace = SignedDuration::from_secs(said.grace_seconds.unwrap_or(0).into());
        let probed = said.kills_old_access_token == Some(true) && overrides.is_some_and(|overrides| overrides.probe.is_some());
        let on_unknown = said.on_unknown.unwrap_or(match mode {
            RotationMode::Never => UnknownOutcome::Retry,
            _ if grace.is_positive() => UnknownOutcome::Grace,
            _ if probed => UnknownOutcome::Probe,
            _ => UnknownOutcome::Postpone,
        });
        Self { mode, grace, on_unknown }
    }
}

/// Why an account's spec is not acted on, in a sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A field is set whose effect this version does not have.
    Unsupported(String),
    /// A field holds what the schema could not check.
    Invalid(String),
}

impl Refusal {
    /// The sentence.
    pub fn sentence(&self) -> &str {
        let (Self::Unsupported(sentence) | Self::Invalid(sentence)) = self;
        sentence
    }

    /// Reason that conditions and Events give.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Unsupported(_) => Reason::Unsupported,
            Self::Invalid(_) => Reason::Configuration,
        }
    }
}

/// What an account asks the operator to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the token endpoint is learned.
    pub endpoint: EndpointSource,
    /// Certificates trusted in place of the public ones.
    pub ca_bundle: Option<CABundleReference>,
    /// Where the client id is read.
    pub client_id: ClientIDFrom,
    /// Where the client secret is read; a public client has none.
    pub client_secret: Option<KeyReference>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// By what right.
    pub grant: GrantPlan,
    /// What a refresh does to a refresh token.
    pub rotation: Rotation,
    /// A cheap request that tells whether an access token lives.
    pub probe: Option<Probe>,
    /// Whose login it must be.
    pub expected_subject: Option<String>,
    /// What becomes of the operator's own record when the account is gone.
    pub state_policy: StatePolicy,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// Audience asked for.
    pub audience: Option<String>,
    /// Resources asked for.
    pub resources: Vec<String>,
    /// When to refresh.
    pub schedule: Schedule,
    /// Name of the Secret to publish in.
    pub token_secret_name: String,
    /// Further keys of it.
    pub extra: Extra,
    /// Workloads to restart when the token changes.
    pub restart_targets: Vec<RestartTarget>,
    /// Least time between two restarts.
    pub restart_interval: SignedDuration,
    /// Whether token requests pause.
    pub suspended: bool,
    /// When a person last asked for a new token.
    pub requested: Option<Timestamp>,
    /// What of the account is ignored, in a sentence.
    pub ignored: Option<String>,
}

impl Plan {
    /// Understands an account.
    ///
    /// # Errors
    /// For a field whose effect this version lacks, and for what the schema could not check.
    pub fn of(account: &OAuthAccount) -> Result<Self, Refusal> {
        if let Some(field) = unsupported(account) {
            return Err(Refusal::Unsupported(format!(
                "{field} is not supported by this version of the operator; remove it, or install a version that supports it."
            )));
        }
        Self::supported(account).map_err(Refusal::Invalid)
    }

    fn supported(account: &OAuthAccount) -> Result<Self, String> {
        let spec = &account.spec;
        let endpoint = match (&spec.provider.issuer, &spec.provider.custom) {
            (Some(issuer), _) => {
                https(issuer).map_err(|why| format!("spec.provider.issuer is not usable: {why}."))?;
                if let Some((before, _)) = issuer.split_once("/.well-known/") {
                    return Err(format!("spec.provider.issuer must be the issuer, without /.well-known/: {before}."));
                }
                EndpointSource::Issuer(issuer.clone())
            }
            (None, Some(custom)) => EndpointSource::Custom(
                https(&custom.token_url).map_err(|why| format!("spec.provider.custom.tokenURL is not usable: {why}."))?,
            ),
            (None, None) => return Err("spec.provider must set one of issuer and custom.".into()),
        };
        let client = spec.client.as_ref().ok_or("spec.client must be set for this grant.")?;
        let client_id = match (&client.id, &client.id_from) {
            (Some(id), _) => ClientIDFrom::Literal(id.clone()),
            (None, Some(from)) => ClientIDFrom::Secret(from.secret_key_ref.clone()),
            (None, None) => return Err("spec.client must set one of id and idFrom.".into()),
        };
        let grant = match &spec.grant.refresh_token {
            Some(refresh_token) => GrantPlan::RefreshToken(refresh_token.secret_ref.clone()),
            None => GrantPlan::ClientCredentials,
        };
        let client_secret = client.secret_ref.clone();
        let authentication = match (client.auth_method, &client_secret) {
            (None, None) if grant != GrantPlan::ClientCredentials => ClientAuthentication::None,
            (Some(AuthMethod::None), None) => ClientAuthentication::None,
            (Some(AuthMethod::None), Some(_)) => {
                return Err("spec.client.secretRef has no use with authMethod None; remove one of the two.".into());
            }
            (_, None) => return Err("spec.client.secretRef must be set for this grant.".into()),
            (Some(AuthMethod::ClientSecretPost), Some(_)) => ClientAuthentication::Post,
            (_, Some(_)) => ClientAuthentication::Basic,
        };
        if spec.expected_subject.is_some() && grant == GrantPlan::ClientCredentials {
            return Err(
                "spec.expectedSubject speaks of a person's login, and grant.clientCredentials has none; remove it.".into()
            );
        }
        let overrides = spec.provider.overrides.as_deref();
        let rotation = Rotation::of(overrides);
        let probe = overrides.and_then(|overrides| overrides.probe.clone());
        if rotation.on_unknown == UnknownOutcome::Probe && probe.is_none() {
            return Err("spec.provider.overrides.rotation.onUnknown is Probe and needs spec.provider.overrides.probe.".into());
        }
        if let Some(probe) = &probe {
            https(&probe.url).map_err(|why| format!("spec.provider.overrides.probe.url is not usable: {why}."))?;
        }
        if rotation.on_unknown == UnknownOutcome::Grace && !rotation.grace.is_positive() {
            let field = "spec.provider.overrides.rotation";
            return Err(format!("{field}.onUnknown is Grace and needs {field}.graceSeconds."));
        }
        let token_secret_name = token_secret_name(account);
        let read = [
            ("spec.client.secretRef", client_secret.as_ref().map(|reference| &reference.name)),
            ("spec.client.idFrom", if let ClientIDFrom::Secret(id) = &client_id { Some(&id.name) } else { None }),
            (
                "spec.grant.refreshToken.secretRef",
                if let GrantPlan::RefreshToken(seed) = &grant { Some(&seed.name) } else { None },
            ),
            (
                "spec.provider.caBundleRef",
                spec.provider
                    .ca_bundle_ref
                    .as_ref()
                    .filter(|bundle| bundle.kind == CABundleKind::Secret)
                    .map(|bundle| &bundle.name),
            ),
        ];
        if let Some((field, _)) = read.into_iter().find(|(_, name)| *name == Some(&token_secret_name)) {
            return Err(format!(
                "{field} names Secret {token_secret_name}, in which the token is to be published; set spec.tokenSecret.name to another name."
            ));
        }
        let (requested, ignored) = requested(account);
        let extra = Extra::of(account)?;
        Ok(Self {
            endpoint,
            ca_bundle: spec.provider.ca_bundle_ref.clone(),
            client_id,
            client_secret,
            authentication,
            grant,
            rotation,
            probe,
            expected_subject: spec.expected_subject.clone(),
            state_policy: spec.state_policy,
            scopes: spec.scopes.clone(),
            audience: spec.audience.clone(),
            resources: spec.resources.clone(),
            schedule: Schedule::of(spec.refresh.clone(), overrides),
            token_secret_name,
            extra,
            restart_targets: spec.restart_targets.clone(),
            restart_interval: SignedDuration::from_secs(spec.restart_interval_seconds.unwrap_or(3600).into()),
            suspended: spec.suspend,
            requested,
            ignored,
        })
    }

    /// The gate that its passes wait at: the host that is asked first, by which the provider is known before it is asked.
    pub fn gate(&self) -> String {
        match &self.endpoint {
            EndpointSource::Custom(url) => host_and_port(url),
            EndpointSource::Issuer(issuer) => Url::parse(issuer).map_or_else(|_| issuer.clone(), |url| host_and_port(&url)),
        }
    }

    /// Whether asking for a token may spend what entitles us to it.
    pub fn spends(&self) -> bool {
        matches!(self.grant, GrantPlan::RefreshToken(_))
    }

    /// The request that this plan makes of an endpoint with credentials.
    pub fn request(
        &self,
        endpoint: Url,
        client_id: String,
        client_secret: Option<Sensitive>,
        grant: GrantRequest,
    ) -> TokenRequest {
        TokenRequest {
            grant,
            endpoint,
            client_id,
            client_id_is_secret: matches!(self.client_id, ClientIDFrom::Secret(_)),
            client_secret,
            authentication: self.authentication.clone(),
            scopes: self.scopes.clone(),
            audience: self.audience.clone(),
            resources: self.resources.clone(),
        }
    }

    /// Digest of what is asked for, of whom, as whom and by which proof. A published token with another digest is not the one
    /// asked for, or was not asked for in the way that is to be relied on from now on.
    pub fn request_digest(&self) -> String {
        // Written out, so that neither a library nor a renamed variant changes it: every account would ask for a new token.
        let provider = match &self.endpoint {
            EndpointSource::Issuer(issuer) => json!({"issuer": issuer}),
            EndpointSource::Custom(url) => json!({"tokenURL": url.as_str()}),
        };
        let client = match &self.client_id {
            ClientIDFrom::Literal(id) => json!({"id": id}),
            ClientIDFrom::Secret(reference) => json!({"secret": reference.name, "key": reference.key}),
        };
        let method = match self.authentication {
            ClientAuthentication::Basic => "ClientSecretBasic",
            ClientAuthentication::Post => "ClientSecretPost",
            ClientAuthentication::None => "None",
        };
        let grant = match self.grant {
            GrantPlan::ClientCredentials => "ClientCredentials",
            // Not where the first one was read: another seed is another refresh token, and not another request.
            GrantPlan::RefreshToken(_) => "RefreshToken",
        };
        let proof = json!([method, self.client_secret, self.ca_bundle]);
        let text = json!([provider, client, proof, grant, self.scopes, self.audience, self.resources]).to_string();
        hex(&Sha256::digest(text.as_bytes())[..16])
    }
}

/// The annotation by which a person asks for a new token; whole seconds, as its echo in status. A value that is no moment
/// is ignored, and said to be: a slip of the finger must not end the renewals of every account it hits.
fn requested(account: &OAuthAccount) -> (Option<Timestamp>, Option<String>) {
    let Some(value) = account.metadata.annotations.as_ref().and_then(|all| all.get(REFRESH_REQUESTED_ANNOTATION)) else {
        return (None, None);
    };
    match value.parse::<Timestamp>().ok().and_then(|moment| Timestamp::from_second(moment.as_second()).ok()) {
        Some(moment) => (Some(moment), None),
        None => {
            let words = "is ignored: it must be a moment such as 2026-01-31T09:30:00Z.";
            (None, Some(format!("The annotation {REFRESH_REQUESTED_ANNOTATION} {words}")))
        }
    }
}

/// Name of the Secret an account publishes in.
pub fn token_secret_name(account: &OAuthAccount) -> String {
    let name = account.metadata.name.as_deref().unwrap_or_default();
    account.spec.token_secret.name.clone().unwrap_or_else(|| format!("{name}-token"))
}

fn https(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}"))?;
    if url.scheme() != "https" || url.host_str().is_none() {
        return Err("it must be an https URL".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it may not carry a user or password".into());
    }
    Ok(url)
}

/// The first field that is set and has no effect yet.
fn unsupported(account: &OAuthAccount) -> Option<&'static str> {
    let spec = &account.spec;
    let provider = &spec.provider;
    let grant = &spec.grant;
    let custom = provider.custom.as_ref();
    let client = spec.client.as_ref();
    let method = client.and_then(|client| client.auth_method);
    [
        (provider.preset.is_some(), "spec.provider.preset"),
        (!provider.parameters.is_empty(), "spec.provider.parameters"),
        (custom.is_some_and(|c| c.authorization_url.is_some()), "spec.provider.custom.authorizationURL"),
        (custom.is_some_and(|c| c.device_authorization_url.is_some()), "spec.provider.custom.deviceAuthorizationURL"),
        (custom.is_some_and(|c| c.revocation_url.is_some()), "spec.provider.custom.revocationURL"),
        (custom.is_some_and(|c| c.introspection_url.is_some()), "spec.provider.custom.introspectionURL"),
        (grant.authorization_code.is_some(), "spec.grant.authorizationCode"),
        (grant.device_code.is_some(), "spec.grant.deviceCode"),
        (grant.jwt_bearer.is_some(), "spec.grant.jwtBearer"),
        (grant.token_exchange.is_some(), "spec.grant.tokenExchange"),
        (grant.github_app.is_some(), "spec.grant.githubApp"),
        (grant.password.is_some(), "spec.grant.password"),
        (method == Some(AuthMethod::ClientSecretBearer), "spec.client.authMethod ClientSecretBearer"),
        (method == Some(AuthMethod::PrivateKeyJWT), "spec.client.authMethod PrivateKeyJWT"),
        (method == Some(AuthMethod::ClientSecretJWT), "spec.client.authMethod ClientSecretJWT"),
        (method == Some(AuthMethod::TLSClientAuth), "spec.client.authMethod TLSClientAuth"),
        (spec.par.is_some(), "spec.par"),
        (spec.dpop.is_some(), "spec.dpop"),
        (spec.health_check.is_some(), "spec.healthCheck"),
        (spec.revocation_policy != RevocationPolicy::Never, "spec.revocationPolicy other than Never"),
    ]
    .into_iter()
    .find_map(|(set, field)| set.then_some(field))
    .or_else(|| provider.overrides.as_deref().and_then(unsupported_override))
}

/// The same of a provider's knobs.
fn unsupported_override(overrides: &ProviderOverrides) -> Option<&'static str> {
    let absolute = overrides.refresh_token.as_ref().is_some_and(|lifetimes| lifetimes.absolute_seconds.is_some());
    [
        (overrides.issuer.is_some(), "spec.provider.overrides.issuer"),
        (overrides.authorization_url.is_some(), "spec.provider.overrides.authorizationURL"),
        (overrides.token_url.is_some(), "spec.provider.overrides.tokenURL"),
        (overrides.refresh_url.is_some(), "spec.provider.overrides.refreshURL"),
        (overrides.device_authorization_url.is_some(), "spec.provider.overrides.deviceAuthorizationURL"),
        (overrides.revocation_url.is_some(), "spec.provider.overrides.revocationURL"),
        (overrides.introspection_url.is_some(), "spec.provider.overrides.introspectionURL"),
        (overrides.client_auth.is_some(), "spec.provider.overrides.clientAuth"),
        (overrides.body.is_some(), "spec.provider.overrides.body"),
        (overrides.field_case.is_some(), "spec.provider.overrides.case"),
        (overrides.accept.is_some(), "spec.provider.overrides.accept"),
        (overrides.parameters.is_some(), "spec.provider.overrides.parameters"),
        (overrides.scope_delimiter.is_some(), "spec.provider.overrides.scopeDelimiter"),
        (overrides.response.is_some(), "spec.provider.overrides.response"),
        (overrides.expiry.is_some(), "spec.provider.overrides.expiry"),
        (overrides.errors.is_some(), "spec.provider.overrides.errors"),
        (absolute, "spec.provider.overrides.refreshToken.absoluteSeconds"),
        (overrides.registration.is_some(), "spec.provider.overrides.registration"),
        (!overrides.api_hosts.is_empty(), "spec.provider.overrides.apiHosts"),
    ]
    .into_iter()
    .find_map(|(set, field)| set.then_some(field))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
