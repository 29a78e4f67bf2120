//! The spec as the operator understands it: parsed once, refused with a sentence where it cannot be used.

use super::health::HealthCheck;
use super::provider_plan::{authentication, endpoints, https, spelled};
use super::publication::Extra;
use super::schedule::Schedule;
use super::{Credentials, EndpointSource, GrantPlan, Policy, Seen};
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use crate::api::{
    CABundleKind, CABundleReference, DPoPAlgorithm, KeyReference, OAuthAccount, Probe, ProviderOverrides, RestartTarget,
    RevocationPolicy, RotationMode, RotationOverrides, ServiceAccountToken, StatePolicy, UnknownOutcome,
};
use crate::oauth::{
    ClientAuthentication, Dialect, Endpoint, Endpoints, GrantRequest, TokenRequest, hex, host_and_port, host_matches, knobs,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use url::Url;

/// Where the client id is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientIDFrom {
    /// In the spec.
    Literal(String),
    /// In a Secret.
    Secret(KeyReference),
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
    /// What the knobs say; else what is safe with any provider: it may rotate, with no grace, and a refresh leaves the
    /// old access token alone.
    fn of(knobs: &ProviderOverrides) -> Self {
        let unsaid = RotationOverrides::default();
        let said = knobs.rotation.as_ref().unwrap_or(&unsaid);
        let mode = said.mode.unwrap_or(RotationMode::Maybe);
        let grace = SignedDuration::from_secs(said.grace_seconds.unwrap_or(0).into());
        let asked = knobs.probe.is_some() || knobs.introspection_url.is_some();
        let probed = said.kills_old_access_token == Some(true) && asked;
        let on_unknown = said.on_unknown.unwrap_or(match mode {
            RotationMode::Never => UnknownOutcome::Retry,
            _ if grace.is_positive() => UnknownOutcome::Grace,
            _ if probed => UnknownOutcome::Probe,
            _ => UnknownOutcome::Postpone,
        });
        Self { mode, grace, on_unknown }
    }
}

/// Why an account's spec is not acted on: what the schema could not check, in a sentence that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// The sentence.
    pub fn sentence(&self) -> &str {
        &self.0
    }
}

/// What an account asks the operator to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where the endpoints are learned.
    pub endpoint: EndpointSource,
    /// What is known of them without being asked for.
    pub known: Endpoints,
    /// The preset, and what the account says in its place.
    pub preset: Option<String>,
    /// How the provider speaks.
    pub dialect: Arc<Dialect>,
    /// Certificates trusted in place of the public ones.
    pub ca_bundle: Option<CABundleReference>,
    /// Where the client id is read; some grants need none.
    pub client_id: Option<ClientIDFrom>,
    /// Where the client secret is read, or the private key that stands for it; a public client has none.
    pub client_secret: Option<KeyReference>,
    /// How the client proves itself.
    pub authentication: ClientAuthentication,
    /// By what right.
    pub grant: GrantPlan,
    /// Whether the token is accepted, asked now and then.
    pub health_check: Option<HealthCheck>,
    /// How old a login may become, whatever its use.
    pub absolute: Option<SignedDuration>,
    /// What a refresh does to a refresh token.
    pub rotation: Rotation,
    /// A cheap request that tells whether an access token lives.
    pub probe: Option<Probe>,
    /// Whose login it must be.
    pub expected_subject: Option<String>,
    /// Whether the provider is told when the account is gone.
    pub revokes: bool,
    /// What becomes of the operator's own record when the account is gone.
    pub state_policy: StatePolicy,
    /// Scopes asked for.
    pub scopes: Vec<String>,
    /// Audience asked for.
    pub audience: Option<String>,
    /// Resources asked for.
    pub resources: Vec<String>,
    /// What tokens are to be bound to: a key for proofs of this algorithm.
    pub dpop: Option<DPoPAlgorithm>,
    /// When to refresh.
    pub schedule: Schedule,
    /// Name of the Secret to publish in.
    pub token_secret_name: String,
    /// Further keys of it.
    pub extra: Extra,
    /// Whether the provider registers the client for us.
    pub registers: bool,
    /// How long a registration lives where the provider does not say.
    pub registration_lifetime: Option<SignedDuration>,
    scope_list: Option<String>,
    /// Whether authorization requests are pushed; none: as the provider wants it.
    pub par: Option<bool>,
    /// Workloads to restart when the token changes.
    pub restart_targets: Vec<RestartTarget>,
    /// Least time between two restarts.
    pub restart_interval: SignedDuration,
    /// Whether token requests pause.
    pub suspended: bool,
    /// When a person last asked for a new token.
    pub requested: Option<Timestamp>,
    /// What of the account is ignored, or not to be relied on, in a sentence.
    pub ignored: Option<String>,
    /// What another token would be asked for with, beside what stands above.
    spelled: Option<Value>,
}

impl Plan {
    /// Understands an account.
    ///
    /// # Errors
    /// For what the schema could not check.
    pub fn of(account: &OAuthAccount) -> Result<Self, Refusal> {
        Self::understood(account).map_err(Refusal)
    }

    /// Whether the operator's configuration allows it.
    ///
    /// # Errors
    /// For the password grant, which is refused unless it is allowed.
    pub fn permitted(self, policy: &Policy) -> Result<Self, Refusal> {
        if matches!(self.grant, GrantPlan::AuthorizationCode(_)) && policy.consent_url.is_none() {
            let message = "spec.grant.authorizationCode needs the operator's consent pages, which are off; have whoever runs the operator set --consent-url, or use another grant.";
            return Err(Refusal(message.into()));
        }
        if matches!(self.grant, GrantPlan::Password(_)) && !policy.password_grant {
            let message = "spec.grant.password is refused: it hands a person's password to a machine (RFC 9700 section 2.4 forbids it). Use another grant, or have whoever runs the operator allow it with --allow-password-grant.";
            return Err(Refusal(message.into()));
        }
        Ok(self)
    }

    fn understood(account: &OAuthAccount) -> Result<Self, String> {
        let spec = &account.spec;
        let provider = &spec.provider;
        let knobs = knobs(provider)?;
        let grant = GrantPlan::of(&spec.grant).ok_or("spec.grant must set one grant.")?;
        let (endpoint, known) = endpoints(account, &knobs, &grant)?;
        let dialect = Arc::new(Dialect::of(&knobs));
        let client_id = match spec.client.as_ref().map(|client| (&client.id, &client.id_from)) {
            Some((Some(id), _)) => Some(ClientIDFrom::Literal(id.clone())),
            Some((None, Some(from))) => Some(ClientIDFrom::Secret(from.secret_key_ref.clone())),
            Some((None, None)) | None => None,
        };
        let client_secret = spec.client.as_ref().and_then(|client| client.secret_ref.clone());
        let registration = knobs.registration.clone().unwrap_or_default();
        // A client that the account names needs no registration.
        let registers = registration.dynamic == Some(true) && client_id.is_none();
        if registers && client_secret.is_some() {
            return Err(
                "spec.client.secretRef has no use where the provider registers the client; remove it, or set spec.client.id."
                    .into(),
            );
        }
        if registers && !matches!(grant, GrantPlan::AuthorizationCode(_) | GrantPlan::DeviceCode) {
            return Err(format!("Grant {} needs a client that you have registered: set spec.client.id.", grant.name()));
        }
        let authentication = authentication(spec.client.as_ref(), &dialect, &grant, registers)?;
        let logs_in = matches!(grant, GrantPlan::AuthorizationCode(_) | GrantPlan::DeviceCode);
        let needed = logs_in
            || matches!(grant, GrantPlan::ClientCredentials | GrantPlan::RefreshToken(_))
            || !matches!(authentication, ClientAuthentication::None | ClientAuthentication::Bearer);
        let needed = needed && !registers;
        if client_id.is_none() && needed {
            return Err("spec.client must set one of id and idFrom for this grant and authMethod.".into());
        }
        if let (GrantPlan::JWTBearer(grant), None) = (&grant, &client_id)
            && grant.issuer.is_none()
        {
            return Err("spec.grant.jwtBearer.issuer must be set where there is no spec.client.id.".into());
        }
        if spec.expected_subject.is_some() && !logs_in && !matches!(grant, GrantPlan::RefreshToken(_)) {
            return Err(format!(
                "spec.expectedSubject speaks of a person's login, and grant {} has none; remove it.",
                grant.name()
            ));
        }
        let revokes = spec.revocation_policy == RevocationPolicy::OnDelete;
        if revokes && endpoint == EndpointSource::Known && known.get(Endpoint::Revocation).is_none() {
            return Err("spec.revocationPolicy OnDelete needs an endpoint of RFC 7009: set spec.provider.overrides.revocationURL, or Never.".into());
        }
        let reserved =
            ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method", "request_uri"];
        let set = knobs
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.authorize.keys().find(|name| reserved.contains(&name.as_str())));
        if let Some(name) = set {
            return Err(format!(
                "spec.provider.overrides.parameters.authorize may not set {name}, which the operator sets itself."
            ));
        }
        let rotation = Rotation::of(&knobs);
        let probe = knobs.probe.clone();
        // An issuer may have an introspection endpoint to ask.
        let asked = probe.is_some() || known.get(Endpoint::Introspection).is_some() || endpoint != EndpointSource::Known;
        if rotation.on_unknown == UnknownOutcome::Probe && !asked {
            return Err("spec.provider.overrides.rotation.onUnknown is Probe and needs spec.provider.overrides.probe or introspectionURL.".into());
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
            ("spec.client.idFrom", if let Some(ClientIDFrom::Secret(id)) = &client_id { Some(&id.name) } else { None }),
            (grant.secret().map_or("spec.grant", |(field, _)| field), grant.secret().map(|(_, key)| &key.name)),
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
        let experimental =
            provider.preset.as_deref().and_then(crate::oauth::preset).and_then(|preset| preset.experimental.as_ref());
        let experimental = experimental.map(|why| format!("The preset is experimental: {why}"));
        let ignored = [ignored, experimental].into_iter().flatten().reduce(|one, other| format!("{one} {other}"));
        let extra = Extra::of(account, &dialect.response.extra, &knobs.api_hosts)?;
        Ok(Self {
            par: spec.par,
            health_check: health_check(account, &extra)?,
            absolute: knobs
                .refresh_token
                .as_ref()
                .and_then(|lifetimes| lifetimes.absolute_seconds)
                .map(|seconds| SignedDuration::from_secs(seconds.into())),
            registers,
            registration_lifetime: registration.lifetime_seconds.map(|seconds| SignedDuration::from_secs(seconds.into())),
            scope_list: registration.scope_list,
            preset: provider.preset.clone(),
            spelled: spelled(account),
            known,
            dialect,
            endpoint,
            ca_bundle: spec.provider.ca_bundle_ref.clone(),
            client_id,
            client_secret,
            authentication,
            grant,
            rotation,
            probe,
            expected_subject: spec.expected_subject.clone(),
            revokes,
            state_policy: spec.state_policy,
            scopes: spec.scopes.clone(),
            audience: spec.audience.clone(),
            resources: spec.resources.clone(),
            dpop: spec.dpop.as_ref().map(|dpop| dpop.algorithm),
            schedule: Schedule::of(spec.refresh.clone(), Some(&knobs)),
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
        let known = self.known.token(self.spends()).ok().map(host_and_port);
        match &self.endpoint {
            EndpointSource::Known => known.unwrap_or_default(),
            EndpointSource::Issuer(issuer) => Url::parse(issuer).map_or_else(|_| issuer.clone(), |url| host_and_port(&url)),
        }
    }

    /// Whether asking for a token may spend what entitles us to it.
    pub fn spends(&self) -> bool {
        matches!(self.grant, GrantPlan::RefreshToken(_)) || self.is_interactive()
    }

    /// Whether a person's consent begins it.
    pub fn is_interactive(&self) -> bool {
        matches!(self.grant, GrantPlan::AuthorizationCode(_) | GrantPlan::DeviceCode)
    }

    /// What a client is registered with (RFC 7591 §2).
    pub fn registration(&self, seen: &Seen) -> GrantRequest {
        let metadata = &seen.account.metadata;
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        GrantRequest::Registration {
            name: format!("oauth-operator {namespace}/{name}"),
            scope_list: self.scope_list.clone(),
            redirect_uris: seen
                .policy
                .callback(namespace, name)
                .filter(|_| self.grant != GrantPlan::DeviceCode)
                .into_iter()
                .collect(),
        }
    }

    /// The ServiceAccount whose token is exchanged.
    pub fn service_account(&self) -> Option<&ServiceAccountToken> {
        match &self.grant {
            GrantPlan::TokenExchange(grant) => grant.subject_token.service_account_token.as_ref(),
            _ => None,
        }
    }

    /// The request that this plan makes of an endpoint with credentials. A token request also proves a key, which its
    /// caller has.
    pub fn request(&self, endpoint: Url, credentials: &Credentials, grant: GrantRequest) -> TokenRequest {
        TokenRequest {
            grant,
            endpoint,
            client_id: Some(credentials.client_id.clone()).filter(|id| !id.is_empty()),
            client_id_is_secret: matches!(self.client_id, Some(ClientIDFrom::Secret(_))),
            client_secret: credentials.client_secret.clone(),
            authentication: self.authentication.clone(),
            scopes: self.scopes.clone(),
            audience: self.audience.clone(),
            resources: self.resources.clone(),
            dialect: self.dialect.clone(),
            dpop_key: None,
        }
    }

    /// Digest of what is asked for, of whom, as whom and by which proof. A published token with another digest is not the one
    /// asked for, or was not asked for in the way that is to be relied on from now on.
    pub fn request_digest(&self) -> String {
        // Written out, so that neither a library nor a renamed variant changes it: every account would ask for a new token.
        // By the name of the preset, not by what this version knows of it.
        let provider = match (&self.preset, &self.endpoint, self.known.get(Endpoint::Token)) {
            (Some(preset), ..) => json!({"preset": preset}),
            (None, EndpointSource::Issuer(issuer), _) => json!({"issuer": issuer}),
            (None, EndpointSource::Known, url) => json!({"tokenURL": url.map(Url::as_str)}),
        };
        let client = match &self.client_id {
            Some(ClientIDFrom::Literal(id)) => json!({"id": id}),
            Some(ClientIDFrom::Secret(reference)) => json!({"secret": reference.name, "key": reference.key}),
            None => Value::Null,
        };
        let method = match self.authentication {
            ClientAuthentication::Basic => "ClientSecretBasic",
            ClientAuthentication::Post => "ClientSecretPost",
            ClientAuthentication::Bearer => "ClientSecretBearer",
            ClientAuthentication::PrivateKeyJWT { .. } => "PrivateKeyJWT",
            ClientAuthentication::SecretJWT => "ClientSecretJWT",
            ClientAuthentication::Tls => "TLSClientAuth",
            ClientAuthentication::None => "None",
        };
        let proof = json!([method, self.client_secret, self.ca_bundle]);
        let mut parts = json!([provider, client, proof, self.grant.digested(), self.scopes, self.audience, self.resources]);
        if let (Some(spelled), Some(parts)) = (&self.spelled, parts.as_array_mut()) {
            parts.push(spelled.clone());
        }
        if let (Some(algorithm), Some(parts)) = (self.dpop, parts.as_array_mut()) {
            parts.push(json!({"dpop": match algorithm {
                DPoPAlgorithm::ES256 => "ES256",
                DPoPAlgorithm::EdDSA => "EdDSA",
            }}));
        }
        hex(&Sha256::digest(parts.to_string().as_bytes())[..16])
    }
}

/// The check, where there is one: a token goes only where its account lets it go.
fn health_check(account: &OAuthAccount, extra: &Extra) -> Result<Option<HealthCheck>, String> {
    let Some(check) = &account.spec.health_check else { return Ok(None) };
    let url = https(&check.url).map_err(|why| format!("spec.healthCheck.url is not usable: {why}."))?;
    let host = host_and_port(&url);
    let hosts = extra.allowed_hosts();
    if !hosts.is_empty() && !hosts.iter().any(|pattern| host_matches(pattern, &host)) {
        return Err(format!(
            "spec.healthCheck.url is at {host}, where this token may not go; add it to spec.allowedHosts, which names {}.",
            hosts.join(", ")
        ));
    }
    Ok(Some(HealthCheck { url, interval: SignedDuration::from_secs(check.interval_seconds.into()) }))
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
