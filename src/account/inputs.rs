//! The Secrets and the CA bundle that a plan names, read all at once, and live or a moment ago.

use super::{ClientIDFrom, Credentials, EndpointSource, GrantPlan, GrantSecret, Inputs, Plan, readable, references_digest};
use crate::api::{CABundleKind, CABundleReference, JWTAlgorithm, KeyReference, vocabulary::TOKEN_HOSTS_ANNOTATION};
use crate::oauth::{ClientAuthentication, Endpoints, Fault, FaultKind, Sensitive, SigningKey, TlsSettings};
use crate::world::{ApiError, World};
use futures::future::{join_all, try_join};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Reads what the plan names.
///
/// # Errors
/// Only where the API server does not answer; what it says or holds is part of the inputs.
pub async fn read(world: &World, namespace: &str, plan: &Plan) -> Result<Inputs, ApiError> {
    let found = Found::read(world, namespace, plan).await?;
    let references = references_digest(found.versions().iter().map(|(name, version)| (name.as_str(), version.clone())));
    Ok(Inputs { references, credentials: found.credentials(plan) })
}

/// Where the provider that a plan names is asked what.
///
/// # Errors
/// Why that could not be found out.
pub async fn endpoints(world: &World, plan: &Plan, tls: &TlsSettings) -> Result<Endpoints, Fault> {
    match &plan.endpoint {
        EndpointSource::Known => Ok(plan.known.clone()),
        EndpointSource::Issuer(issuer) => {
            let discovered = world.discovery.endpoints(&world.outbound, issuer, tls.ca_bundle.as_deref()).await;
            discovered.map(|discovered| plan.known.clone().or(discovered))
        }
    }
}

/// An object, where there is one; a fault where the operator may not see it.
type Visible<K> = Result<Option<Arc<K>>, Fault>;

/// What the references point to.
struct Found<'a> {
    world: &'a World,
    namespace: &'a str,
    secrets: BTreeMap<&'a str, Visible<Secret>>,
    config_map: Option<(&'a str, Visible<ConfigMap>)>,
}

impl<'a> Found<'a> {
    async fn read(world: &'a World, namespace: &'a str, plan: &'a Plan) -> Result<Self, ApiError> {
        let client = &world.cluster.objects;
        let bundle = plan.ca_bundle.as_ref();
        let of_kind = |kind| bundle.filter(|bundle| bundle.kind == kind).map(|bundle| bundle.name.as_str());
        let id = if let Some(ClientIDFrom::Secret(id)) = &plan.client_id { Some(id.name.as_str()) } else { None };
        let seed = plan.grant.secret().map(|(_, key)| key.name.as_str());
        let secret = plan.client_secret.as_ref().map(|secret| secret.name.as_str());
        // One Secret may hold all of them.
        let names: BTreeSet<&str> = [secret, id, seed, of_kind(CABundleKind::Secret)].into_iter().flatten().collect();
        let secrets = async {
            let read = async |name| (name, world.recent.secret(client, namespace, name).await);
            let all = join_all(names.into_iter().map(read)).await;
            all.into_iter()
                .map(|(name, read)| Ok((name, visible("Secret", name, namespace, read)?)))
                .collect::<Result<_, ApiError>>()
        };
        let config_map = async {
            let Some(name) = of_kind(CABundleKind::ConfigMap) else { return Ok(None) };
            let read = world.recent.config_map(client, namespace, name).await;
            Ok(Some((name, visible("ConfigMap", name, namespace, read)?)))
        };
        let (secrets, config_map) = try_join(secrets, config_map).await?;
        Ok(Self { world, namespace, secrets, config_map })
    }

    /// What was read, at which version.
    fn versions(&self) -> BTreeMap<String, Option<String>> {
        let version = |secret: &Arc<Secret>| secret.metadata.resource_version.clone();
        let secrets = self.secrets.iter().filter_map(|(name, read)| Some((name, read.as_ref().ok()?)));
        let secrets = secrets.map(|(name, secret)| (format!("Secret/{name}"), secret.as_ref().and_then(version)));
        let map = self.config_map.iter().filter_map(|(name, read)| Some((name, read.as_ref().ok()?)));
        let map = map
            .map(|(name, map)| (format!("ConfigMap/{name}"), map.as_ref().and_then(|map| map.metadata.resource_version.clone())));
        secrets.chain(map).collect()
    }

    fn credentials(&self, plan: &Plan) -> Result<Credentials, Fault> {
        let hosts = |reference: &KeyReference| (reference.name.clone(), self.hosts(&reference.name));
        let signs = matches!(plan.authentication, ClientAuthentication::PrivateKeyJWT { .. });
        let client_secret = match &plan.client_secret {
            Some(reference) if signs => Some(self.private_key(reference, None)?),
            Some(_) if plan.authentication == ClientAuthentication::Tls => None,
            Some(reference) => Some(Sensitive::new(self.key(reference)?)),
            None => None,
        };
        let client_id = match &plan.client_id {
            None => String::new(),
            Some(ClientIDFrom::Literal(id)) => id.clone(),
            Some(ClientIDFrom::Secret(reference)) => self.key(reference)?,
        };
        let ca_bundle = plan.ca_bundle.as_ref().map(|reference| self.ca_bundle(reference)).transpose()?;
        let identity = match &plan.client_secret {
            Some(reference) if plan.authentication == ClientAuthentication::Tls => Some(self.identity(reference)?),
            _ => None,
        };
        let seed = match &plan.grant {
            GrantPlan::RefreshToken(reference) => Some(self.key(reference).map(Sensitive::new)),
            _ => None,
        };
        let id_from = if let Some(ClientIDFrom::Secret(reference)) = &plan.client_id { Some(reference) } else { None };
        let sources = [plan.client_secret.as_ref(), id_from, plan.grant.secret().map(|(_, reference)| reference)];
        // A seed that is gone says nothing now; what it said is in the record.
        let there = |reference: &&KeyReference| self.secret(&reference.name).is_ok();
        let token_hosts: BTreeMap<_, _> = sources.into_iter().flatten().filter(there).map(hosts).collect();
        Ok(Credentials {
            client_id,
            client_secret,
            identity,
            grant: self.grant_secret(plan)?,
            seed,
            ca_bundle,
            token_hosts: token_hosts.into_iter().collect(),
        })
    }

    /// What a grant that spends nothing is made with.
    fn grant_secret(&self, plan: &Plan) -> Result<Option<GrantSecret>, Fault> {
        Ok(match &plan.grant {
            GrantPlan::ClientCredentials
            | GrantPlan::RefreshToken(_)
            | GrantPlan::AuthorizationCode(_)
            | GrantPlan::DeviceCode => None,
            GrantPlan::JWTBearer(grant) => Some(GrantSecret::Key(self.private_key(&grant.key_ref, grant.algorithm)?)),
            GrantPlan::GitHubApp(grant) => Some(GrantSecret::Key(self.private_key(&grant.key_ref, None)?)),
            GrantPlan::TokenExchange(grant) => match &grant.subject_token.secret_ref {
                Some(reference) => Some(GrantSecret::SubjectToken(Sensitive::new(self.key(reference)?))),
                None => None,
            },
            GrantPlan::Password(reference) => {
                let username = KeyReference { name: reference.name.clone(), key: "username".into() };
                let (username, password) = (self.key(&username)?, Sensitive::new(self.key(reference)?));
                Some(GrantSecret::Password { username, password })
            }
        })
    }

    /// One key of a Secret that holds a private key.
    fn private_key(&self, reference: &KeyReference, algorithm: Option<JWTAlgorithm>) -> Result<Sensitive, Fault> {
        let KeyReference { name, key } = reference;
        let invalid = |why: &str| Fault::new(FaultKind::ReferenceInvalid, format!("Key {key} of Secret {name} {why}."));
        let pem = self.text(reference)?;
        SigningKey::read(&pem, algorithm).map_err(invalid)?;
        Ok(pem)
    }

    /// A private key with its certificate, which stands beside it or in the key tls.crt.
    fn identity(&self, reference: &KeyReference) -> Result<Sensitive, Fault> {
        let KeyReference { name, key } = reference;
        let pem = self.text(reference)?;
        let chain = KeyReference { name: name.clone(), key: "tls.crt".into() };
        let pem = match pem.expose().contains("BEGIN CERTIFICATE") {
            true => pem,
            false => Sensitive::new(format!("{}\n{}", self.text(&chain)?.expose(), pem.expose())),
        };
        let settings = TlsSettings { ca_bundle: None, identity: Some(pem.clone()) };
        if !self.world.outbound.accepts(&settings) {
            let message = format!(
                "Key {key} of Secret {name} holds no private key as PEM whose certificate stands beside it or in the key tls.crt."
            );
            return Err(Fault::new(FaultKind::ReferenceInvalid, message));
        }
        Ok(pem)
    }

    /// One key of a Secret as it is.
    fn text(&self, reference: &KeyReference) -> Result<Sensitive, Fault> {
        let KeyReference { name, key } = reference;
        let value = self.secret(name)?.data.as_ref().and_then(|data| data.get(key));
        let ByteString(bytes) = value.ok_or_else(|| missing_key("Secret", name, key))?;
        let text = std::str::from_utf8(bytes).map(Sensitive::new);
        text.map_err(|_| {
            Fault::new(FaultKind::ReferenceInvalid, format!("Key {key} of Secret {name} is no text; PEM is expected."))
        })
    }

    /// One key of a Secret as text.
    fn key(&self, reference: &KeyReference) -> Result<String, Fault> {
        let KeyReference { name, key } = reference;
        let value = self.secret(name)?.data.as_ref().and_then(|data| data.get(key));
        let ByteString(bytes) = value.ok_or_else(|| missing_key("Secret", name, key))?;
        readable(bytes, &format!("Key {key} of Secret {name}"))
    }

    /// Hosts that the keys of a Secret may go to.
    fn hosts(&self, name: &str) -> Option<String> {
        let annotations = self.secret(name).ok()?.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(TOKEN_HOSTS_ANNOTATION)).cloned()
    }

    fn secret(&self, name: &str) -> Result<&Secret, Fault> {
        match self.secrets.get(name) {
            Some(Ok(Some(secret))) => Ok(secret),
            Some(Err(fault)) => Err(fault.clone()),
            Some(Ok(None)) | None => Err(self.missing("Secret", name)),
        }
    }

    fn ca_bundle(&self, reference: &CABundleReference) -> Result<Vec<u8>, Fault> {
        let CABundleReference { kind, name, key } = reference;
        let (kind, bundle) = match kind {
            CABundleKind::Secret => {
                let data = self.secret(name)?.data.as_ref();
                ("Secret", data.and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()))
            }
            CABundleKind::ConfigMap => {
                let map = match &self.config_map {
                    Some((_, Ok(Some(map)))) => map,
                    Some((_, Err(fault))) => return Err(fault.clone()),
                    Some((_, Ok(None))) | None => return Err(self.missing("ConfigMap", name)),
                };
                let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
                let bytes = || map.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
                ("ConfigMap", text.or_else(bytes))
            }
        };
        let bundle = bundle.ok_or_else(|| missing_key(kind, name, key))?;
        if !self.world.outbound.accepts(&TlsSettings { ca_bundle: Some(bundle.clone()), identity: None }) {
            let message = format!(
                "Key {key} of {kind} {name} holds no PEM certificate that can be read; put the certificate of the CA there."
            );
            return Err(Fault::new(FaultKind::ReferenceInvalid, message));
        }
        Ok(bundle)
    }

    fn missing(&self, kind: &str, name: &str) -> Fault {
        let message = format!("{kind} {name} does not exist in namespace {}; create it.", self.namespace);
        Fault::new(FaultKind::ReferenceMissing, message)
    }
}

/// What a read found; a fault where the API server does not let us see it.
fn visible<T>(
    kind: &str,
    name: &str,
    namespace: &str,
    read: Result<Option<T>, ApiError>,
) -> Result<Result<Option<T>, Fault>, ApiError> {
    match read {
        Ok(found) => Ok(Ok(found)),
        Err(error) => {
            let words = error.refusal().ok_or(error)?;
            let message = format!("The operator may not read {kind} {name} in namespace {namespace}: {words}");
            Ok(Err(Fault::new(FaultKind::ApiRefused, message)))
        }
    }
}

fn missing_key(kind: &str, name: &str, key: &str) -> Fault {
    Fault::new(FaultKind::ReferenceMissing, format!("{kind} {name} has no key {key}; add it, or name another key."))
}
