//! The Secrets and the CA bundle that a plan names, read live.

use super::{ClientIDFrom, Credentials, GrantPlan, Inputs, Plan, readable, references_digest};
use crate::api::{CABundleKind, CABundleReference, KeyReference, vocabulary::TOKEN_HOSTS_ANNOTATION};
use crate::oauth::{Fault, FaultKind, Sensitive};
use crate::world::{ApiError, World, secrets};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use std::collections::BTreeMap;

/// Reads what the plan names.
///
/// # Errors
/// Only where the API server does not answer; what it says or holds is part of the inputs.
pub async fn read(world: &World, namespace: &str, plan: &Plan) -> Result<Inputs, ApiError> {
    let mut reader = Reader { world, namespace, secrets: BTreeMap::new(), versions: BTreeMap::new() };
    let credentials = match reader.credentials(plan).await {
        Ok(credentials) => Ok(credentials),
        Err(Unread::Fault(fault)) => Err(fault),
        Err(Unread::Api(error)) => return Err(error),
    };
    let references = references_digest(reader.versions.iter().map(|(name, version)| (name.as_str(), version.clone())));
    Ok(Inputs { references, credentials })
}

enum Unread {
    Fault(Fault),
    Api(ApiError),
}

struct Reader<'a> {
    world: &'a World,
    namespace: &'a str,
    secrets: BTreeMap<String, Option<Secret>>,
    /// What was read, at which version.
    versions: BTreeMap<String, Option<String>>,
}

impl Reader<'_> {
    async fn credentials(&mut self, plan: &Plan) -> Result<Credentials, Unread> {
        // All references are read before any is judged, so that a change of each is noticed.
        let secret = match &plan.client_secret {
            None => Ok(None),
            Some(reference) => self.key(reference).await?.map(|(secret, hosts)| Some((secret, reference.name.clone(), hosts))),
        };
        let seed = match &plan.grant {
            GrantPlan::ClientCredentials => None,
            GrantPlan::RefreshToken(reference) => {
                Some(self.key(reference).await?.map(|(seed, hosts)| (seed, reference.name.clone(), hosts)))
            }
        };
        let id = match &plan.client_id {
            ClientIDFrom::Literal(id) => Ok((id.clone(), None)),
            ClientIDFrom::Secret(reference) => {
                self.key(reference).await?.map(|(id, hosts)| (id, Some((reference.name.clone(), hosts))))
            }
        };
        let ca_bundle = match &plan.ca_bundle {
            None => Ok(None),
            Some(reference) => self.ca_bundle(reference).await?.map(Some),
        };
        let secret = secret.map_err(Unread::Fault)?;
        let (client_id, hosts_of_id) = id.map_err(Unread::Fault)?;
        let hosts_of_seed =
            seed.as_ref().and_then(|seed| seed.as_ref().ok()).map(|(_, name, hosts)| (name.clone(), hosts.clone()));
        let hosts_of_secret = secret.as_ref().map(|(_, name, hosts)| (name.clone(), hosts.clone()));
        // One Secret may hold all of them.
        let token_hosts: BTreeMap<_, _> = [hosts_of_secret, hosts_of_id, hosts_of_seed].into_iter().flatten().collect();
        Ok(Credentials {
            client_id,
            client_secret: secret.map(|(secret, ..)| Sensitive::new(secret)),
            seed: seed.map(|seed| seed.map(|(seed, ..)| Sensitive::new(seed))),
            ca_bundle: ca_bundle.map_err(Unread::Fault)?,
            token_hosts: token_hosts.into_iter().collect(),
        })
    }

    /// One key of a Secret as text, with the hosts it may go to.
    async fn key(&mut self, reference: &KeyReference) -> Result<Result<(String, Option<String>), Fault>, Unread> {
        let KeyReference { name, key } = reference;
        let secret = match self.secret(name).await? {
            Ok(secret) => secret,
            Err(fault) => return Ok(Err(fault)),
        };
        let hosts = secret.metadata.annotations.as_ref().and_then(|all| all.get(TOKEN_HOSTS_ANNOTATION)).cloned();
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let Some(ByteString(bytes)) = value else { return Ok(Err(missing_key("Secret", name, key))) };
        Ok(readable(bytes, &format!("Key {key} of Secret {name}")).map(|text| (text, hosts)))
    }

    async fn ca_bundle(&mut self, reference: &CABundleReference) -> Result<Result<Vec<u8>, Fault>, Unread> {
        let CABundleReference { kind, name, key } = reference;
        let bundle = match kind {
            CABundleKind::Secret => match self.secret(name).await? {
                Ok(secret) => secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()),
                Err(fault) => return Ok(Err(fault)),
            },
            CABundleKind::ConfigMap => {
                let read = secrets::config_map(&self.world.cluster.objects, self.namespace, name).await;
                let map = match self.found("ConfigMap", name, read)? {
                    Ok(map) => map,
                    Err(fault) => return Ok(Err(fault)),
                };
                self.versions
                    .insert(format!("ConfigMap/{name}"), map.as_ref().and_then(|map| map.metadata.resource_version.clone()));
                let Some(map) = map else { return Ok(Err(self.missing("ConfigMap", name))) };
                let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
                text.or_else(|| map.binary_data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone()))
            }
        };
        let kind = if *kind == CABundleKind::Secret { "Secret" } else { "ConfigMap" };
        let Some(bundle) = bundle else { return Ok(Err(missing_key(kind, name, key))) };
        if !self.world.outbound.accepts(&bundle) {
            let message = format!(
                "Key {key} of {kind} {name} holds no PEM certificate that can be read; put the certificate of the CA there."
            );
            return Ok(Err(Fault::new(FaultKind::ReferenceInvalid, message)));
        }
        Ok(Ok(bundle))
    }

    /// A Secret, read once a pass.
    async fn secret(&mut self, name: &str) -> Result<Result<&Secret, Fault>, Unread> {
        if !self.secrets.contains_key(name) {
            let read = secrets::secret(&self.world.cluster.objects, self.namespace, name).await;
            let secret = match self.found("Secret", name, read)? {
                Ok(secret) => secret,
                Err(fault) => return Ok(Err(fault)),
            };
            let version = secret.as_ref().and_then(|secret| secret.metadata.resource_version.clone());
            self.versions.insert(format!("Secret/{name}"), version);
            self.secrets.insert(name.to_owned(), secret);
        }
        let missing = self.missing("Secret", name);
        Ok(self.secrets.get(name).and_then(Option::as_ref).ok_or(missing))
    }

    fn found<T>(&self, kind: &str, name: &str, read: Result<Option<T>, ApiError>) -> Result<Result<Option<T>, Fault>, Unread> {
        match read {
            Ok(found) => Ok(Ok(found)),
            Err(error) => match error.refusal() {
                Some(words) => {
                    let message = format!("The operator may not read {kind} {name} in namespace {}: {words}", self.namespace);
                    Ok(Err(Fault::new(FaultKind::ApiRefused, message)))
                }
                None => Err(Unread::Api(error)),
            },
        }
    }

    fn missing(&self, kind: &str, name: &str) -> Fault {
        Fault::new(
            FaultKind::ReferenceMissing,
            format!("{kind} {name} does not exist in namespace {}; create it.", self.namespace),
        )
    }
}

fn missing_key(kind: &str, name: &str, key: &str) -> Fault {
    Fault::new(FaultKind::ReferenceMissing, format!("{kind} {name} has no key {key}; add it, or name another key."))
}
