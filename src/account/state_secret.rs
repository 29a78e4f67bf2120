//! Between the record of a login and the Kubernetes Secret it lives in, in the operator's own namespace; pure.

use super::state::State;
use crate::api::vocabulary as v;
use crate::oauth::{Fault, FaultKind, hex};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Version of the JSON in [`v::STATE_KEY`].
const VERSION: u32 = 1;

/// A state Secret, as it must still be when it is written over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its UID.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

/// The state Secret of an account as a live read found it.
#[derive(Clone, Debug, PartialEq)]
pub enum StateView {
    /// There is none.
    Absent,
    /// There is one that nobody can read.
    Unreadable {
        /// Why.
        fault: Fault,
        /// Which one it is; none where it may not even be read.
        version: Option<Version>,
    },
    /// There is one.
    Stored {
        /// Which one it is.
        version: Version,
        /// What it says.
        state: State,
    },
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    #[serde(flatten)]
    state: State,
}

/// Name of the state Secret of an account: of one length, whatever the account is called.
pub fn state_secret_name(namespace: &str, name: &str) -> String {
    format!("login-{}", hex(&Sha256::digest(format!("{namespace}/{name}"))[..16]))
}

/// The Secret that holds a state, in place of the one that is `over`. It has no ownerReference: they do not reach across
/// namespaces, and garbage collection must never take the only copy of a login.
pub fn state_manifest(namespace: &str, state: &State, over: Option<&Version>) -> Secret {
    let (account, text) = (&state.account, |text: &str| text.to_owned());
    let labels = [
        (v::NAME_LABEL, text(v::MANAGER)),
        (v::MANAGED_BY_LABEL, text(v::MANAGER)),
        (v::COMPONENT_LABEL, text(v::STATE_COMPONENT)),
        (v::ACCOUNT_UID_LABEL, account.uid.clone()),
    ];
    let demanded = state.demand.as_ref().filter(|demand| demand.pending);
    let annotations = [
        (v::ACCOUNT_ANNOTATION, Some(format!("{}/{}", account.namespace, account.name))),
        (v::REFRESH_TOKEN_DIGEST_ANNOTATION, state.digest()),
        (v::SEED_DIGEST_ANNOTATION, Some(state.seed_digest.clone())),
        (v::REVOCATION_POLICY_ANNOTATION, state.revocation.as_ref().map(|_| "OnDelete".to_owned())),
        (v::STATE_POLICY_ANNOTATION, Some(format!("{:?}", state.policy))),
        (v::REFRESH_DEMANDED_ANNOTATION, demanded.map(|demand| demand.at.to_string())),
    ];
    let document = Document { version: VERSION, state: state.clone() };
    let json = serde_json::to_vec(&document).unwrap_or_default();
    let said = annotations.into_iter().filter_map(|(key, value)| Some((text(key), value?)));
    Secret {
        metadata: ObjectMeta {
            name: Some(state_secret_name(&account.namespace, &account.name)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (text(key), value)).collect()),
            annotations: Some(said.collect()),
            uid: over.map(|version| version.uid.clone()),
            resource_version: over.map(|version| version.resource_version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(text(v::STATE_SECRET_TYPE)),
        data: Some(BTreeMap::from([(text(v::STATE_KEY), ByteString(json))])),
        ..Secret::default()
    }
}

/// What a Secret of that name says.
pub fn state_view(secret: Option<Secret>) -> StateView {
    let Some(secret) = secret else { return StateView::Absent };
    let metadata = secret.metadata;
    let version = Version {
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    };
    match read(secret.data.as_ref(), metadata.annotations.as_ref()) {
        Ok(state) => StateView::Stored { version, state },
        Err(what) => {
            let message = format!(
                "The operator's record of this login, Secret {} in its own namespace, {what}; restore it from a backup, or delete it and put a new refresh token into the seed.",
                metadata.name.unwrap_or_default()
            );
            StateView::Unreadable { fault: Fault::new(FaultKind::StateUnreadable, message), version: Some(version) }
        }
    }
}

fn read(data: Option<&BTreeMap<String, ByteString>>, annotations: Option<&BTreeMap<String, String>>) -> Result<State, String> {
    let json = data.and_then(|data| data.get(v::STATE_KEY)).ok_or_else(|| format!("has no key {}", v::STATE_KEY))?;
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let head: Head = serde_json::from_slice(&json.0).map_err(|_| "is not what the operator wrote".to_owned())?;
    if head.version != VERSION {
        return Err(format!("was written by another version of the operator (format {}, not {VERSION})", head.version));
    }
    let document: Document = serde_json::from_slice(&json.0).map_err(|_| "is not what the operator wrote".to_owned())?;
    let told = annotations.and_then(|all| all.get(v::REFRESH_TOKEN_DIGEST_ANNOTATION));
    if told != document.state.digest().as_ref() {
        return Err("was changed by hand: it holds another refresh token than its annotation tells of".to_owned());
    }
    Ok(document.state)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::imported;
    use super::*;

    fn stored() -> Secret {
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        state_manifest("system", &imported(None), Some(&version))
    }

    fn why(secret: Secret) -> String {
        match state_view(Some(secret)) {
            StateView::Unreadable { fault, .. } => fault.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        assert_eq!(state_view(Some(stored())), StateView::Stored { version, state: imported(None) });
        assert_eq!(state_view(None), StateView::Absent);
    }

    #[test]
    fn what_was_changed_by_hand_is_not_believed() {
        let mut secret = stored();
        secret.metadata.annotations.as_mut().unwrap().remove(v::REFRESH_TOKEN_DIGEST_ANNOTATION);
        assert!(why(secret).contains("changed by hand"));
        for json in ["", "{}", "nonsense", r#"{"version":1}"#] {
            let mut secret = stored();
            secret.data.as_mut().unwrap().insert(v::STATE_KEY.into(), ByteString(json.into()));
            assert!(why(secret).contains("is not what the operator wrote"), "{json}");
        }
        let mut secret = stored();
        secret.data = None;
        assert!(why(secret).contains("has no key state"));
    }

    #[test]
    fn what_a_newer_operator_wrote_is_left_alone() {
        let mut secret = stored();
        secret.data.as_mut().unwrap().insert(v::STATE_KEY.into(), ByteString(r#"{"version":2,"new":"world"}"#.into()));
        assert!(why(secret).contains("another version of the operator (format 2, not 1)"));
    }

    #[test]
    fn names_differ_and_nothing_secret_stands_in_metadata() {
        assert_ne!(state_secret_name("a", "b-c"), state_secret_name("a", "b"));
        let secret = stored();
        assert!(!format!("{:?}", secret.metadata).contains("r1"));
        assert_eq!(secret.metadata.owner_references, None);
    }
}
