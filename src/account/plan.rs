//! The spec as the operator understands it: parsed once, refused with a sentence where this version lacks the effect.

use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use crate::api::{
    AuthMethod, CABundleKind, CABundleReference, CreationPolicy, DeletionPolicy, KeyReference, OAuthAccount, Reason,
    RefreshSchedule, RevocationPolicy, SecretType, StatePolicy,
};
use crate::oauth::{ClientAuthentication, Sensitive, TokenRequest, hex};
use jiff::Timestamp;
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
    /// Where the client secret is read.
    pub client_secret: KeyReference,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// Audience asked for.
    pub audience: Option<String>,
    /// Resources asked for.
    pub resources: Vec<String>,
    /// When to refresh, where the user says.
    pub refresh: Option<RefreshSchedule>,
    /// Name of the Secret to publish in.
    pub token_secret_name: String,
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
        let client_secret = client.secret_ref.clone().ok_or("spec.client.secretRef must be set for this grant.")?;
        let token_secret_name = token_secret_name(account);
        if let Some(field) =
            reads_what_it_writes(&token_secret_name, &client_secret, &client_id, spec.provider.ca_bundle_ref.as_ref())
        {
            return Err(format!(
                "{field} names Secret {token_secret_name}, in which the token is to be published; set spec.tokenSecret.name to another name."
            ));
        }
        let (requested, ignored) = requested(account);
        let authentication = match client.auth_method {
            Some(AuthMethod::ClientSecretPost) => ClientAuthentication::Post,
            _ => ClientAuthentication::Basic,
        };
        Ok(Self {
            endpoint,
            ca_bundle: spec.provider.ca_bundle_ref.clone(),
            client_id,
            client_secret,
            authentication,
            scopes: spec.scopes.clone(),
            audience: spec.audience.clone(),
            resources: spec.resources.clone(),
            refresh: spec.refresh.clone(),
            token_secret_name,
            suspended: spec.suspend,
            requested,
            ignored,
        })
    }

    /// The request that this plan makes of an endpoint with credentials.
    pub fn request(&self, endpoint: Url, client_id: String, client_secret: Sensitive) -> TokenRequest {
        TokenRequest {
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
        };
        let proof = json!([method, self.client_secret, self.ca_bundle]);
        let text = json!([provider, client, proof, "ClientCredentials", self.scopes, self.audience, self.resources]).to_string();
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

/// The field that names the Secret to publish in as one to read from.
fn reads_what_it_writes(
    name: &str,
    secret: &KeyReference,
    id: &ClientIDFrom,
    ca_bundle: Option<&CABundleReference>,
) -> Option<&'static str> {
    let bundle = ca_bundle.filter(|bundle| bundle.kind == CABundleKind::Secret);
    [
        (secret.name == name, "spec.client.secretRef"),
        (matches!(id, ClientIDFrom::Secret(id) if id.name == name), "spec.client.idFrom"),
        (bundle.is_some_and(|bundle| bundle.name == name), "spec.provider.caBundleRef"),
    ]
    .into_iter()
    .find_map(|(same, field)| same.then_some(field))
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
    let secret = &spec.token_secret;
    [
        (provider.preset.is_some(), "spec.provider.preset"),
        (!provider.parameters.is_empty(), "spec.provider.parameters"),
        (provider.overrides.is_some(), "spec.provider.overrides"),
        (custom.is_some_and(|c| c.authorization_url.is_some()), "spec.provider.custom.authorizationURL"),
        (custom.is_some_and(|c| c.device_authorization_url.is_some()), "spec.provider.custom.deviceAuthorizationURL"),
        (custom.is_some_and(|c| c.revocation_url.is_some()), "spec.provider.custom.revocationURL"),
        (custom.is_some_and(|c| c.introspection_url.is_some()), "spec.provider.custom.introspectionURL"),
        (grant.refresh_token.is_some(), "spec.grant.refreshToken"),
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
        (method == Some(AuthMethod::None), "spec.client.authMethod None"),
        (spec.par.is_some(), "spec.par"),
        (spec.dpop.is_some(), "spec.dpop"),
        (spec.expected_subject.is_some(), "spec.expectedSubject"),
        (spec.health_check.is_some(), "spec.healthCheck"),
        (secret.type_ != SecretType::Opaque, "spec.tokenSecret.type other than Opaque"),
        (!secret.data.is_empty(), "spec.tokenSecret.data"),
        (secret.creation_policy != CreationPolicy::Owner, "spec.tokenSecret.creationPolicy other than Owner"),
        (secret.deletion_policy != DeletionPolicy::Delete, "spec.tokenSecret.deletionPolicy other than Delete"),
        (spec.revocation_policy != RevocationPolicy::Never, "spec.revocationPolicy other than Never"),
        (spec.state_policy != StatePolicy::Delete, "spec.statePolicy other than Delete"),
        (!spec.restart_targets.is_empty(), "spec.restartTargets"),
        (spec.restart_interval_seconds.is_some(), "spec.restartIntervalSeconds"),
    ]
    .into_iter()
    .find_map(|(set, field)| set.then_some(field))
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
