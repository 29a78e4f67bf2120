//! Between our contents and a Kubernetes Secret; pure.

use super::{Contents, Held, Record, Template, TokenSecretView};
use crate::api::vocabulary::{ACCESS_TOKEN_KEY, ACCOUNT_UID_LABEL, GROUP};
use crate::api::{OAuthAccount, TokenStatus};
use crate::oauth::Sensitive;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Value, json};

/// What a Secret of the name we publish in is to this account.
pub fn view(secret: Option<Secret>, account: &OAuthAccount, reported: Option<&TokenStatus>) -> TokenSecretView {
    let Some(secret) = secret else { return TokenSecretView::Absent };
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    if let Some(why) = departing(&secret.metadata, account) {
        return TokenSecretView::Departing(why);
    }
    let why = foreign(&secret.metadata, uid);
    let disowned = why.is_some() && was_ours(&secret, uid, reported);
    if let Some(why) = why.filter(|_| !disowned) {
        return TokenSecretView::Foreign(why);
    }
    let held = Held {
        uid: secret.metadata.uid.clone().unwrap_or_default(),
        resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        unalterable: secret.type_.as_deref() != Some("Opaque") || secret.immutable == Some(true),
        disowned,
    };
    let contents = contents(secret);
    let record = if held.unalterable { None } else { Record::read(&contents, reported) };
    TokenSecretView::Ours { held, contents, record }
}

/// Why a Secret is about to go: it is being deleted, or an account of this name that is no more had made it.
fn departing(metadata: &ObjectMeta, account: &OAuthAccount) -> Option<String> {
    if metadata.deletion_timestamp.is_some() {
        return Some("is being deleted".to_owned());
    }
    let owner = metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    let predecessor = owner.kind == "OAuthAccount"
        && owner.api_version.starts_with(GROUP)
        && Some(&owner.name) == account.metadata.name.as_ref()
        && Some(&owner.uid) != account.metadata.uid.as_ref();
    predecessor.then(|| "belongs to this account's predecessor and is to be garbage-collected".to_owned())
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

/// A Secret without any controller that says it is this account's and holds the very token that was published last: only
/// its ownerReference was taken away.
fn was_ours(secret: &Secret, uid: &str, reported: Option<&TokenStatus>) -> bool {
    let controlled = secret.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    let says_so =
        secret.metadata.labels.as_ref().and_then(|labels| labels.get(ACCOUNT_UID_LABEL)).is_some_and(|label| label == uid);
    let token = secret
        .data
        .as_ref()
        .and_then(|data| data.get(ACCESS_TOKEN_KEY))
        .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
    let token = token.map(|token| Sensitive::new(token).fingerprint());
    !controlled && says_so && token.is_some() && token.as_ref() == reported.map(|reported| &reported.fingerprint)
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

/// The Secret to make: owned by the account, so that it goes when the account goes.
pub fn manifest(account: &OAuthAccount, name: &str, contents: &Contents) -> Secret {
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
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(contents.data.iter().map(bytes).collect()),
        ..Secret::default()
    }
}

/// The merge patch (RFC 7396) that makes the Secret that is `held`, and no other version of it, hold the contents. Keys
/// that others have added stay; what the template no longer asks for goes.
pub fn patch(account: &OAuthAccount, name: &str, contents: &Contents, held: &Held, obsolete: &Template) -> Value {
    let mut patch = json!(manifest(account, name, contents));
    patch["metadata"]["uid"] = json!(held.uid);
    patch["metadata"]["resourceVersion"] = json!(held.resource_version);
    for (field, names) in [("labels", &obsolete.labels), ("annotations", &obsolete.annotations)] {
        for name in names {
            patch["metadata"][field][name] = Value::Null;
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::seen::tests::{account, record};

    fn published() -> Secret {
        let account = account(&json!({}));
        let mut secret = manifest(&account, "demo-token", &record(1, 3600).contents(&account));
        secret.metadata.resource_version = Some("7".into());
        secret
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let account = account(&json!({}));
        let record = record(1, 3600);
        let contents = record.contents(&account);
        let held = Held { uid: String::new(), resource_version: "7".into(), unalterable: false, disowned: false };
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
    fn a_patch_takes_out_what_the_template_no_longer_asks_for_and_nothing_of_others() {
        let before = account(&json!({"tokenSecret": {"labels": {"team": "a", "kept": "b"}, "annotations": {"note": "c"}}}));
        let after = account(&json!({"tokenSecret": {"labels": {"kept": "b"}}}));
        let mut there = record(1, 3600).contents(&before);
        there.labels.insert("of-others".into(), "d".into());
        let wanted = record(1, 3600).contents(&after);
        let held = Held { uid: "s".into(), resource_version: "7".into(), unalterable: false, disowned: false };
        let patch = patch(&after, "demo-token", &wanted, &held, &Template::obsolete(&there, &wanted));
        let labels = patch["metadata"]["labels"].as_object().unwrap();
        assert_eq!((labels.get("team"), labels.get("kept")), (Some(&Value::Null), Some(&json!("b"))));
        assert!(!labels.contains_key("of-others"));
        assert_eq!(patch["metadata"]["annotations"].as_object().unwrap().get("note"), Some(&Value::Null));
        assert_eq!((&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]), (&json!("s"), &json!("7")));
    }

    #[test]
    fn a_forged_template_cannot_take_out_what_is_ours() {
        let account = account(&json!({}));
        let wanted = record(1, 3600).contents(&account);
        let mut there = wanted.clone();
        let forged = r#"{"labels": ["app.kubernetes.io/managed-by", "oauth-operator.dev/account-uid"], "annotations": ["oauth-operator.dev/account"]}"#;
        there.annotations.insert(crate::api::vocabulary::TEMPLATE_ANNOTATION.into(), forged.into());
        assert_eq!(Template::obsolete(&there, &wanted), Template::default());
    }

    #[test]
    fn a_secret_whose_owner_was_taken_away_is_known_by_its_token() {
        let account = account(&json!({}));
        let public = record(1, 3600).public;
        let disowned = || Secret { metadata: ObjectMeta { owner_references: None, ..published().metadata }, ..published() };
        let seen = view(Some(disowned()), &account, Some(&public));
        assert!(matches!(seen, TokenSecretView::Ours { held: Held { disowned: true, .. }, record: Some(_), .. }), "{seen:?}");
        for (secret, reported) in [
            (disowned(), None),
            (disowned(), Some(record(2, 3600).public)),
            (Secret { metadata: ObjectMeta { labels: None, ..disowned().metadata }, ..disowned() }, Some(public)),
        ] {
            assert!(matches!(view(Some(secret), &account, reported.as_ref()), TokenSecretView::Foreign(_)));
        }
    }

    #[test]
    fn what_the_predecessor_left_is_waited_for() {
        let mut secret = published();
        secret.metadata.owner_references.as_mut().unwrap()[0].uid = "before".into();
        assert!(matches!(view(Some(secret), &account(&json!({})), None), TokenSecretView::Departing(_)));
        let mut secret = published();
        secret.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(crate::account::seen::tests::at(0)));
        assert!(matches!(view(Some(secret), &account(&json!({})), None), TokenSecretView::Departing(_)));
    }

    #[test]
    fn an_immutable_secret_holds_no_record() {
        let mut secret = published();
        secret.immutable = Some(true);
        assert!(matches!(view(Some(secret), &account(&json!({})), None), TokenSecretView::Ours { record: None, .. }));
    }
}
