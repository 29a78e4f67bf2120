//! What the pages read of an account and write of its consent, and whom they ask.

use super::flow::Refusal;
use super::pages::Subject;
use crate::account::{
    Account, Consent, Credentials, Login, Plan, Policy, State as LoginRecord, StateView, Version, consent_id, consent_manifest,
    consent_of, endpoints, read_inputs, state_secret_name, state_view, version_of,
};
use crate::api::OAuthAccount;
use crate::oauth::{Endpoint, Endpoints, Fault, GrantRequest, read_pushed};
use crate::world::secrets::Written;
use crate::world::{ApiError, World, clock, secrets, token_endpoint};
use std::sync::Arc;

/// Finds an account in the caches.
pub type Find = dyn Fn(&str, &str) -> Option<Arc<OAuthAccount>> + Send + Sync;

/// What the pages are made of.
pub struct Desk {
    /// Everything outside.
    pub world: Arc<World>,
    /// What the configuration says of all accounts.
    pub policy: Policy,
    /// Finds an account.
    pub find: Box<Find>,
}

/// An account, and everything that its pages need of it.
pub(super) struct Visit {
    pub(super) account: Account,
    pub(super) plan: Plan,
    pub(super) provider: String,
    pub(super) login: Option<LoginRecord>,
    pub(super) consent: Option<(Version, Option<Consent>)>,
}

impl Visit {
    /// Whom a code is asked of, as which client.
    pub(super) fn asked(&self, credentials: &Credentials, endpoints: &Endpoints) -> Result<Login, Obstacle> {
        Ok(Login::of(endpoints.token(false)?, &credentials.client_id))
    }

    pub(super) fn consent(&self) -> Option<&Consent> {
        self.consent.as_ref().and_then(|(_, consent)| consent.as_ref())
    }

    /// What the pages say of it; who must log in only to those who were let in.
    pub(super) fn subject(&self, host: String, admitted: bool) -> Subject {
        Subject {
            namespace: self.account.namespace.clone(),
            name: self.account.name.clone(),
            provider: self.provider.clone(),
            host,
            scopes: self.plan.scopes.clone(),
            expected: self.plan.expected_subject.clone().filter(|_| admitted),
        }
    }
}

impl Desk {
    pub(super) async fn visit(&self, namespace: &str, name: &str) -> Result<Option<Visit>, Obstacle> {
        let Some(found) = (self.find)(namespace, name) else { return Ok(None) };
        let refused = |sentence: &str| Obstacle::Unavailable("This account cannot be connected", sentence.to_owned());
        let plan = Plan::of(&found).and_then(|plan| plan.permitted(&self.policy));
        let plan = plan.map_err(|refusal| refused(refusal.sentence()))?;
        if !plan.is_interactive() {
            return Err(refused("Its grant needs nobody to log in."));
        }
        let client = &self.world.cluster.objects;
        let state = secrets::secret(client, &self.world.namespace, &state_secret_name(namespace, name)).await?;
        let login = match state_view(state, &self.world.keyring.current()) {
            StateView::Stored { state, .. } => Some(state),
            StateView::Absent | StateView::Unreadable { .. } => None,
        };
        let uid = found.metadata.uid.clone().unwrap_or_default();
        let provider = found.spec.provider.preset.clone().or(found.spec.provider.issuer.clone());
        Ok(Some(Visit {
            account: Account { namespace: namespace.to_owned(), name: name.to_owned(), uid },
            plan,
            provider: provider.unwrap_or_else(|| "its own".into()),
            login,
            consent: self.consent(&consent_id(namespace, name)).await?,
        }))
    }

    /// Whether it is known who must log in: then anybody may begin. A login that another account, client or provider had pins
    /// nobody: what is redeemed now would not be of it.
    pub(super) async fn is_open(&self, visit: &Visit) -> bool {
        if visit.plan.expected_subject.is_some() {
            return true;
        }
        let pinned = visit.login.as_ref().filter(|login| login.subject.is_some() && login.account.uid == visit.account.uid);
        let Some(pinned) = pinned else { return false };
        let Ok((credentials, endpoints)) = self.client(visit).await else { return false };
        visit.asked(&credentials, &endpoints).is_ok_and(|login| login == pinned.login)
    }

    /// A consent by the end of its Secret's name.
    pub(super) async fn consent(&self, id: &str) -> Result<Option<(Version, Option<Consent>)>, Obstacle> {
        let secret = secrets::secret(&self.world.cluster.objects, &self.world.namespace, &format!("consent-{id}")).await?;
        Ok(secret.map(|secret| (version_of(&secret), consent_of(&secret))))
    }

    /// Writes a consent in place of the one that was read.
    pub(super) async fn write(&self, consent: &Consent, over: Option<&Version>) -> Result<(), Obstacle> {
        let secret = consent_manifest(&self.world.namespace, consent, over);
        let client = &self.world.cluster.objects;
        let written = match over {
            Some(_) => secrets::replace(client, &secret).await?,
            None => secrets::create(client, &secret).await?,
        };
        match written {
            Written::Stored { .. } => Ok(()),
            // Somebody else uses the same link.
            Written::Conflict => Err(Refusal::TicketInvalid.into()),
            refused @ (Written::NamespaceGone | Written::Refused(_)) => {
                let why = if let Written::Refused(words) = refused { words } else { "the namespace is being deleted".into() };
                tracing::warn!(
                    namespace = consent.account.namespace,
                    name = consent.account.name,
                    "a consent could not be written down: {why}"
                );
                Err(Obstacle::Unavailable("The cluster does not answer", "Try again in a moment.".into()))
            }
        }
    }

    /// What the provider is asked with.
    pub(super) async fn client(&self, visit: &Visit) -> Result<(Credentials, Endpoints), Obstacle> {
        let Visit { plan, account, login, .. } = visit;
        let inputs = read_inputs(&self.world, &account.namespace, plan).await?;
        let mut credentials = inputs.credentials?;
        let endpoints = endpoints(&self.world, plan, &credentials.tls()).await?;
        if plan.registers {
            let registration = login.as_ref().and_then(|login| login.registration.as_ref());
            let registration = registration.ok_or_else(|| {
                let why = "The operator has not registered itself with the provider yet; try again in a moment.";
                Obstacle::Unavailable("Not yet", why.into())
            })?;
            credentials.client_id.clone_from(&registration.client_id);
            credentials.client_secret.clone_from(&registration.client_secret);
        }
        Ok((credentials, endpoints))
    }

    /// Pushes the request (RFC 9126), where the provider or the account wants it: the reference to it.
    pub(super) async fn push(
        &self,
        visit: &Visit,
        credentials: &Credentials,
        endpoints: &Endpoints,
        parameters: &[(String, String)],
    ) -> Result<Option<String>, Obstacle> {
        if !visit.plan.par.unwrap_or(endpoints.requires_pushed) {
            return Ok(None);
        }
        let endpoint = endpoints.require(Endpoint::PushedAuthorizationRequest)?;
        credentials.permit(&[], endpoint, self.policy.token_hosts_required)?;
        let request = visit.plan.request(endpoint.clone(), credentials, GrantRequest::PushedAuthorization(parameters.to_vec()));
        let exchange = token_endpoint::converse(&self.world, &request, &credentials.tls()).await;
        let pushed = exchange.result.and_then(|reply| read_pushed(&reply, &request.dialect, &request.secrets(), clock::now()))?;
        Ok(Some(pushed))
    }

    pub(super) fn base(&self) -> &str {
        self.policy.consent_url.as_deref().unwrap_or_default().trim_end_matches('/')
    }
}

/// Why there is no page to go on with.
pub(super) enum Obstacle {
    Refused(Refusal),
    Unavailable(&'static str, String),
}

impl From<ApiError> for Obstacle {
    fn from(error: ApiError) -> Self {
        tracing::warn!(%error, "a consent page could not be served");
        Self::Unavailable("The cluster does not answer", "Try again in a moment.".into())
    }
}

impl From<Refusal> for Obstacle {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::Unavailable("This account cannot be connected now", fault.message)
    }
}
