//! A Pod with the sidecar, or why not.

use super::asked::{Asked, Destination};
use super::seen::{Seen, Spec};
use super::{ADMIN_PORT, CONTAINER, CONTROL_PORT, Sidecar};
use crate::api::reference::is_object_name;
use crate::api::vocabulary as v;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Annotation by which the kubelet tells of a Pod that it runs from a file: nothing can be added to it.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What becomes of a Pod.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// It stays as it is: it does not ask for a sidecar, asks not to have one, has it already, or cannot be changed.
    Left,
    /// It gets the sidecar.
    Injected(Box<Injection>),
}

/// What is added to a Pod, or Pod template.
#[derive(Debug, PartialEq)]
pub struct Injection {
    container: Value,
    volumes: Vec<Value>,
    /// Names of its accounts.
    pub accounts: Vec<String>,
    /// Accounts that nobody knows yet, each with the name of the Secret that is mounted for it.
    pub presumed: Vec<(String, String)>,
}

/// Why a Pod that asks for a sidecar cannot have it: a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sidecar {CONTAINER} cannot be added: {0}")]
pub struct Refusal(pub String);

/// What a Pod or Pod template as JSON gets that asks for the sidecar.
///
/// # Errors
/// Where it asks for what cannot be, or is no Pod.
pub fn inject(pod: &Value, sidecar: &Sidecar, secret_of: impl Fn(&str) -> Option<String>) -> Result<Outcome, Refusal> {
    if !asks(pod) {
        return Ok(Outcome::Left);
    }
    let seen = Seen::deserialize(pod).map_err(|error| Refusal(format!("it cannot be read as a Pod: {error}")))?;
    inject_seen(&seen, sidecar, secret_of)
}

/// What a Pod or Pod template gets that asks for the sidecar. `secret_of` says in which Secret the token of an account is, where
/// that is known; `<account>-token` is presumed else.
///
/// # Errors
/// Where it asks for what cannot be.
pub fn inject_seen(seen: &Seen, sidecar: &Sidecar, secret_of: impl Fn(&str) -> Option<String>) -> Result<Outcome, Refusal> {
    let Some(accounts) = seen.annotation(v::INJECT) else { return Ok(Outcome::Left) };
    if seen.label(v::INJECT) == Some(v::INJECT_DISABLED) || seen.annotation(MIRROR).is_some() {
        return Ok(Outcome::Left);
    }
    let Some(spec) = &seen.spec else { return Err(Refusal("it has no spec".into())) };
    // Also of a Pod that has the sidecar: another webhook may have changed it since.
    permit_host(spec).map_err(Refusal)?;
    let has_it = spec.all_containers().any(|container| container.name == CONTAINER);
    if has_it && seen.annotation(v::INJECTED_ANNOTATION).is_some() {
        return Ok(Outcome::Left);
    }
    let annotations = seen.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let asked = Asked::read(accounts, annotations.into_iter().flatten()).map_err(Refusal)?;
    permit(spec, &asked).map_err(Refusal)?;
    let (mut secrets, mut presumed) = (vec![], vec![]);
    for account in &asked.accounts {
        let known = account.secret.clone().or_else(|| secret_of(&account.name));
        let secret = known.clone().unwrap_or_else(|| format!("{}-token", account.name));
        if !is_object_name(&secret) {
            return Err(Refusal(format!("the account {} has a name too long for the Secret {secret}", account.name)));
        }
        if known.is_none() {
            presumed.push((account.name.clone(), secret.clone()));
        }
        secrets.push(secret);
    }
    let user_is_said = spec.security_context.as_ref().is_some_and(|pod| pod.run_as_user.is_some() || pod.run_as_group.is_some());
    let (container, volumes) = sidecar.build(&asked, &secrets, user_is_said);
    let names = || volumes.iter().filter_map(|volume| volume["name"].as_str());
    let there = spec.volumes.iter().flatten().map(|volume| volume.name.as_str());
    if let Some(taken) = there.into_iter().find(|there| names().any(|name| name == *there)) {
        return Err(Refusal(format!("it has a volume {taken} already; give that another name")));
    }
    let accounts = asked.accounts.into_iter().map(|account| account.name).collect();
    Ok(Outcome::Injected(Box::new(Injection { container, volumes, accounts, presumed })))
}

/// Whether a Pod or Pod template carries the annotation.
pub(super) fn asks(pod: &Value) -> bool {
    pod.get("metadata").and_then(|metadata| metadata.get("annotations")).and_then(|there| there.get(v::INJECT)).is_some()
}

/// What keeps any Pod from having the sidecar.
fn permit_host(spec: &Spec) -> Result<(), String> {
    if spec.host_network == Some(true) {
        return Err(format!(
            "hostNetwork is set, so that its loopback address is the node's and every process there could use the accounts; take hostNetwork away, or the annotation {}",
            v::INJECT
        ));
    }
    if spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        return Err(format!("it is a Windows Pod, and the sidecar's image is for Linux; take the annotation {} away", v::INJECT));
    }
    Ok(())
}

/// What keeps this one from having the sidecar.
fn permit(spec: &Spec, asked: &Asked) -> Result<(), String> {
    if spec.all_containers().any(|container| container.name == CONTAINER) {
        return Err(format!(
            "it has a container {CONTAINER} that was not injected; take that container away, or the annotation {}",
            v::INJECT
        ));
    }
    let port = match &asked.destination {
        Destination::Upstream { port, .. } => Some(*port),
        // The file says which.
        Destination::Routes(_) => None,
    };
    for container in spec.all_containers() {
        let ports = container.ports.iter().flatten().filter(|port| port.protocol.as_deref().is_none_or(|one| one == "TCP"));
        for taken in ports.filter_map(|port| u16::try_from(port.container_port).ok()) {
            if Some(taken) == port {
                let other = format!("{}port", v::PROXY_ANNOTATION_PREFIX);
                return Err(format!(
                    "its container {} has the port {taken}, which is the sidecar's; set {other}",
                    container.name
                ));
            }
            if taken == ADMIN_PORT || taken == CONTROL_PORT {
                return Err(format!(
                    "its container {} has the port {taken}, which is the sidecar's; give the app another",
                    container.name
                ));
            }
        }
    }
    Ok(())
}

impl Injection {
    /// The Pod with the sidecar before all init containers, so that they may use it too, and with its volumes. Whatever else stands
    /// in it, known to us or not, stays. `None` where it is no Pod.
    pub fn into_pod(self, mut pod: Value) -> Option<Value> {
        let metadata = object(pod.as_object_mut()?, "metadata")?;
        object(metadata, "annotations")?.insert(v::INJECTED_ANNOTATION.to_owned(), json!(env!("CARGO_PKG_VERSION")));
        let spec = object(pod.as_object_mut()?, "spec")?;
        list(spec, "initContainers")?.insert(0, self.container);
        list(spec, "volumes")?.extend(self.volumes);
        Some(pod)
    }

    /// The same as a JSON patch (RFC 6902) of the Pod that was seen.
    pub fn into_patch(self, seen: &Seen) -> Value {
        let add = |path: &str, value: Value| json!({"op": "add", "path": path, "value": value});
        let annotation = format!("/metadata/annotations/{}", v::INJECTED_ANNOTATION.replace('~', "~0").replace('/', "~1"));
        let mut patch = vec![add(&annotation, json!(env!("CARGO_PKG_VERSION")))];
        let spec = seen.spec.as_ref();
        patch.push(match spec.and_then(|spec| spec.init_containers.as_ref()) {
            Some(_) => add("/spec/initContainers/0", self.container),
            None => add("/spec/initContainers", json!([self.container])),
        });
        match spec.and_then(|spec| spec.volumes.as_ref()) {
            Some(_) => patch.extend(self.volumes.into_iter().map(|volume| add("/spec/volumes/-", volume))),
            None => patch.push(add("/spec/volumes", json!(self.volumes))),
        }
        json!(patch)
    }
}

/// A field that holds an object, made where it is absent.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    let field = parent.entry(key).or_insert_with(|| json!({}));
    if field.is_null() {
        *field = json!({});
    }
    field.as_object_mut()
}

/// A field that holds a list, made where it is absent.
fn list<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Vec<Value>> {
    let field = parent.entry(key).or_insert_with(|| json!([]));
    if field.is_null() {
        *field = json!([]);
    }
    field.as_array_mut()
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
