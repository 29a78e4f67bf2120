//! Between our contents and a Kubernetes Secret; pure.

use super::{Contents, Held, Record, TokenSecretView};
use crate::api::{OAuthAccount, TokenStatus, vocabulary::GROUP};
use crate::oauth::Sensitive;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// What a Secret of the name we publish in is to this account.
pub fn view(secret: Option<Secret>, account: &OAuthAccount, reported: Option<&TokenStatus>) -> TokenSecretView {
    let Some(secret) = secret else { return TokenSecretView::Absent };
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    if let Some(why) = foreign(&secret.metadata, uid) {
        return TokenSecretView::Foreign(why);
    }
    let held = Held {
        uid: secret.metadata.uid.clone().unwrap_or_default(),
        resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        unalterable: secret.type_.as_deref() != Some("Opaque") || secret.immutable == Some(true),
    };
    let contents = contents(secret);
    let record = if held.unalterable { None } else { Record::read(&contents, reported) };
    TokenSecretView::Ours { held, contents, record }
}

/// Whose a Secret is, when it is not the account's with this UID.
fn foreign(metadata: &ObjectMeta, uid: &str) -> Option<String> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) if owner.uid == uid => None,
        Some(owner) if owner.kind == "OAuthAccount" && owner.api_version.starts_with(GROUP) => {
            Some(format!("belongs to the OAuthAccount {}", owner.name))
        }
        Some(owner) => Some(format!("belongs to the {} {}", owner.kind, owner.name)),
        None => Some("exists and was not made by the operator for this account".to_owned()),
    }
}

fn contents(secret: Secret) -> Contents {
    let data = secret.data.unwrap_or_default().into_iter();
    Contents {
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        // What is no text is none of ours.
        data: data.filter_map(|(key, ByteString(bytes))| Some((key, Sensitive::new(String::from_utf8(bytes).ok()?)))).collect(),
    }
}

/// The Secret to write over what is `held`, or anew: owned by the account, so that it goes when the account goes.
pub fn manifest(account: &OAuthAccount, name: &str, contents: &Contents, over: Option<&Held>) -> Secret {
    let owner = OwnerReference {
        api_version: OAuthAccount::api_version(&()).into_owned(),
        kind: OAuthAccount::kind(&()).into_owned(),
        name: account.metadata.name.clone().unwrap_or_default(),
        uid: account.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    let bytes = |(key, value): (&String, &Sensitive)| (key.clone(), ByteString(value.expose().as_bytes().to_vec()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: account.metadata.namespace.clone(),
            labels: Some(contents.labels.clone()),
            annotations: Some(contents.annotations.clone()),
            owner_references: Some(vec![owner]),
            uid: over.map(|held| held.uid.clone()),
            resource_version: over.map(|held| held.resource_version.clone()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(contents.data.iter().map(bytes).collect()),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::{account, record};
    use serde_json::json;

    fn published() -> Secret {
        let account = account(&json!({}));
        let mut secret = manifest(&account, "demo-token", &record(1, 3600).contents(&account), None);
        secret.metadata.resource_version = Some("7".into());
        secret
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let account = account(&json!({}));
        let record = record(1, 3600);
        let contents = record.contents(&account);
        let held = Held { uid: String::new(), resource_version: "7".into(), unalterable: false };
        let expected = TokenSecretView::Ours { held, contents, record: Some(record) };
        assert_eq!(view(Some(published()), &account, None), expected);
    }

    #[test]
    fn a_secret_without_our_owner_reference_is_foreign_whatever_its_labels_say() {
        let account = account(&json!({}));
        for (owner, words) in [
            (json!([]), "was not made by the operator"),
            (
                json!([{"apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount", "name": "b", "uid": "x", "controller": true}]),
                "OAuthAccount b",
            ),
            (
                json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "7d0c", "controller": false}]),
                "was not made",
            ),
            (json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "y", "controller": true}]), "ConfigMap c"),
        ] {
            let mut secret = published();
            secret.metadata.owner_references = serde_json::from_value(owner).unwrap();
            match view(Some(secret), &account, None) {
                TokenSecretView::Foreign(why) => assert!(why.contains(words), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn an_immutable_secret_holds_no_record() {
        let mut secret = published();
        secret.immutable = Some(true);
        assert!(matches!(view(Some(secret), &account(&json!({})), None), TokenSecretView::Ours { record: None, .. }));
    }
}
