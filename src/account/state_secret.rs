//! Between the record of a login and the Kubernetes Secret it lives in, in the operator's own namespace; pure.

use super::state::State;
use crate::api::vocabulary as v;
use crate::keyring::{ENCRYPTED, Keyring, Sealing};
use crate::oauth::{Fault, FaultKind, hex};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Version of the JSON in [`v::STATE_KEY`], where it is plain.
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

impl StateView {
    /// Whether it is a copy of what was written in another Secret.
    pub fn is_copy(&self) -> bool {
        let Self::Stored { version, state } = self else { return false };
        state.home.as_ref().is_some_and(|home| *home != version.uid)
    }
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
pub fn state_manifest(namespace: &str, state: &State, over: Option<&Version>, sealing: &Sealing) -> Secret {
    let (account, text) = (&state.account, |text: &str| text.to_owned());
    let name = state_secret_name(&account.namespace, &account.name);
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
        (v::INTENT_ANNOTATION, state.intent.as_ref().map(|intent| intent.id.clone())),
        (v::ENCRYPTION_KEY_ANNOTATION, sealing.keyring.encrypts_with().map(text)),
    ];
    let home = state.home.clone().or_else(|| over.map(|version| version.uid.clone()));
    let document = Document { version: VERSION, state: State { home, ..state.clone() } };
    let json = serde_json::to_vec(&document).unwrap_or_default();
    let stored = sealing.keyring.seal(json, &name, &sealing.randomness);
    let said = annotations.into_iter().filter_map(|(key, value)| Some((text(key), value?)));
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (text(key), value)).collect()),
            annotations: Some(said.collect()),
            uid: over.map(|version| version.uid.clone()),
            resource_version: over.map(|version| version.resource_version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(text(v::STATE_SECRET_TYPE)),
        data: Some(BTreeMap::from([(text(v::STATE_KEY), ByteString(stored))])),
        ..Secret::default()
    }
}

/// What a Secret of that name says, to whom has this keyring.
pub fn state_view(secret: Option<Secret>, keyring: &Keyring) -> StateView {
    let Some(secret) = secret else { return StateView::Absent };
    let metadata = secret.metadata;
    let version = Version {
        uid: metadata.uid.unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
    };
    let name = metadata.name.unwrap_or_default();
    match read(&name, secret.data.as_ref(), metadata.annotations.as_ref(), keyring) {
        Ok(state) => StateView::Stored { version, state },
        Err(what) => {
            let message = format!(
                "The operator's record of this login, Secret {name} in its own namespace, {what}; restore it from a backup, or delete it and put a new refresh token into the seed."
            );
            StateView::Unreadable { fault: Fault::new(FaultKind::StateUnreadable, message), version: Some(version) }
        }
    }
}

fn read(
    name: &str,
    data: Option<&BTreeMap<String, ByteString>>,
    annotations: Option<&BTreeMap<String, String>>,
    keyring: &Keyring,
) -> Result<State, String> {
    let stored = data.and_then(|data| data.get(v::STATE_KEY)).ok_or_else(|| format!("has no key {}", v::STATE_KEY))?;
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let version = |json: &[u8]| serde_json::from_slice(json).map(|head: Head| head.version);
    let not_ours = |_| "is not what the operator wrote".to_owned();
    let json = match version(&stored.0).map_err(not_ours)? {
        ENCRYPTED => &keyring.open(&stored.0, name)?,
        _ => &stored.0,
    };
    let version = version(json).map_err(not_ours)?;
    if version != VERSION {
        return Err(format!("was written by another version of the operator (format {version}, not {VERSION})"));
    }
    let document: Document = serde_json::from_slice(json).map_err(not_ours)?;
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
    use crate::keyring::tests::keyring;
    use std::sync::Arc;

    fn sealing(keyring: Keyring) -> Sealing {
        Sealing { keyring: Arc::new(keyring), randomness: [3; 56] }
    }

    fn stored() -> Secret {
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        state_manifest("system", &imported(None), Some(&version), &sealing(Keyring::default()))
    }

    fn why(secret: Secret) -> String {
        match state_view(Some(secret), &Keyring::default()) {
            StateView::Unreadable { fault, .. } => fault.message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        let view = state_view(Some(stored()), &Keyring::default());
        let state = State { home: Some("u".into()), ..imported(None) };
        assert_eq!(view, StateView::Stored { version, state: state.clone() });
        assert!(!view.is_copy());
        let mut copy = stored();
        copy.metadata.uid = Some("another".into());
        let copy = state_view(Some(copy), &Keyring::default());
        assert!(copy.is_copy());
        // It stays one when it is written over, until a refresh token has come of it.
        let over = Version { uid: "another".into(), resource_version: "9".into() };
        let again = |state: &State| {
            state_view(Some(state_manifest("system", state, Some(&over), &sealing(Keyring::default()))), &Keyring::default())
        };
        assert!(again(&state).is_copy() && !again(&state.spent(None, None)).is_copy());
        assert_eq!(state_view(None, &Keyring::default()), StateView::Absent);
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
        secret.data.as_mut().unwrap().insert(v::STATE_KEY.into(), ByteString(r#"{"version":3,"new":"world"}"#.into()));
        assert!(why(secret).contains("another version of the operator (format 3, not 1)"));
    }

    #[test]
    fn what_is_encrypted_is_read_with_its_key_and_nothing_secret_stands_in_it() {
        let version = Version { uid: "u".into(), resource_version: "7".into() };
        let secret = state_manifest("system", &imported(None), Some(&version), &sealing(keyring(&["one"], "")));
        assert!(!String::from_utf8_lossy(&secret.data.as_ref().unwrap()[v::STATE_KEY].0).contains("r1"));
        assert_eq!(secret.metadata.annotations.as_ref().unwrap()[v::ENCRYPTION_KEY_ANNOTATION], "one");
        let view = state_view(Some(secret.clone()), &keyring(&["two", "one"], ""));
        assert_eq!(view, StateView::Stored { version, state: State { home: Some("u".into()), ..imported(None) } });
        let fault = why(secret.clone());
        assert!(fault.contains("is encrypted with the key one, which is not in the keyring (there is none)"), "{fault}");
        let mut moved = secret;
        moved.metadata.name = Some("login-of-another".into());
        let StateView::Unreadable { fault, .. } = state_view(Some(moved), &keyring(&["one"], "")) else { panic!("believed") };
        assert!(fault.message.contains("was changed by hand"), "{}", fault.message);
    }

    #[test]
    fn names_differ_and_nothing_secret_stands_in_metadata() {
        assert_ne!(state_secret_name("a", "b-c"), state_secret_name("a", "b"));
        let secret = stored();
        assert!(!format!("{:?}", secret.metadata).contains("r1"));
        assert_eq!(secret.metadata.owner_references, None);
    }
}
