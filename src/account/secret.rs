//! Between our contents and a Kubernetes Secret; pure.

use super::{Contents, Held, Record, Template, TokenSecretView};
use crate::api::vocabulary as v;
use crate::api::vocabulary::{ACCESS_TOKEN_KEY, ACCOUNT_UID_LABEL, GROUP};
use crate::api::{CreationPolicy, DeletionPolicy, OAuthAccount, SecretType, TokenStatus};
use crate::oauth::Sensitive;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::{Value, json};

/// What a Secret of the name we publish in is to this account.
pub fn view(secret: Option<Secret>, account: &OAuthAccount, reported: Option<&TokenStatus>) -> TokenSecretView {
    if account.spec.token_secret.creation_policy == CreationPolicy::Merge {
        return merge_target(secret, account, reported);
    }
    let Some(secret) = secret else { return TokenSecretView::Absent };
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    if let Some(why) = departing(&secret.metadata, account) {
        return TokenSecretView::Departing(why);
    }
    let why = foreign(&secret.metadata, uid);
    let kept = !is_controlled(account) && is_kept_for(&secret.metadata, account);
    let ours = why.is_none() || kept || was_ours(&secret, uid, reported);
    if let Some(why) = why.as_ref().filter(|_| !ours) {
        return TokenSecretView::Foreign(why.clone());
    }
    let disowned = why.is_none() != is_controlled(account);
    let held = Held {
        uid: secret.metadata.uid.clone().unwrap_or_default(),
        resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        unalterable: secret.type_.as_deref() != Some(type_name(account)) || secret.immutable == Some(true),
        disowned,
    };
    let contents = contents(secret);
    let record = if held.unalterable { None } else { Record::read(&contents, reported) };
    TokenSecretView::Ours { held, contents, record }
}

/// Somebody else's Secret, into which our keys are merged where it permits that itself.
fn merge_target(secret: Option<Secret>, account: &OAuthAccount, reported: Option<&TokenStatus>) -> TokenSecretView {
    let name = account.metadata.name.as_deref().unwrap_or_default();
    let foreign = |why: &str| TokenSecretView::Foreign(why.to_owned());
    let Some(secret) = secret else { return foreign("does not exist, and creationPolicy Merge makes none") };
    let metadata = &secret.metadata;
    let permitted = metadata.annotations.as_ref().and_then(|all| all.get(v::MERGE_FROM_ANNOTATION));
    if metadata.deletion_timestamp.is_some() {
        return TokenSecretView::Departing("is being deleted".to_owned());
    }
    let owners = metadata.owner_references.iter().flatten();
    if let Some(owner) = owners.into_iter().find(|owner| owner.kind == "OAuthAccount" && owner.api_version.starts_with(GROUP)) {
        return foreign(&format!("is published by the OAuthAccount {}", owner.name));
    }
    if permitted.map(String::as_str) != Some(name) {
        return foreign(&format!(
            "does not permit this account to merge its keys into it; whoever owns it can permit that by the annotation {}: {name}",
            v::MERGE_FROM_ANNOTATION
        ));
    }
    if secret.immutable == Some(true) {
        return foreign("is immutable");
    }
    let merged_before =
        metadata.annotations.as_ref().and_then(|all| all.get(v::ACCOUNT_ANNOTATION)).map(String::as_str) == Some(name);
    let own = v::OWN_KEYS.into_iter().filter(|key| *key != v::DPOP_KEY || account.spec.dpop.is_some());
    let mut wanted = own.chain(account.spec.token_secret.data.keys().map(String::as_str));
    let theirs = wanted.find(|key| secret.data.as_ref().is_some_and(|data| data.contains_key(*key)));
    if let Some(key) = theirs.filter(|_| !merged_before) {
        return foreign(&format!("has the key {key} already, which would be overwritten; remove it there, or merge elsewhere"));
    }
    let held = Held {
        uid: metadata.uid.clone().unwrap_or_default(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        unalterable: false,
        disowned: false,
    };
    let contents = contents(secret);
    let record = Record::read(&contents, reported);
    TokenSecretView::Ours { held, contents, record }
}

/// Whether the account owns its Secret, so that it goes when the account goes.
pub fn is_controlled(account: &OAuthAccount) -> bool {
    let secret = &account.spec.token_secret;
    secret.creation_policy == CreationPolicy::Owner && secret.deletion_policy == DeletionPolicy::Delete
}

/// A Secret without any controller that an account of this name was to leave behind: the next one of this name, with the
/// same policies, takes it up again.
fn is_kept_for(metadata: &ObjectMeta, account: &OAuthAccount) -> bool {
    let controlled = metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
    let label = |key: &str| metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let made_here = label(v::MANAGED_BY_LABEL) == Some(v::MANAGER) && label(v::COMPONENT_LABEL) == Some(v::TOKEN_COMPONENT);
    let named = metadata.annotations.as_ref().and_then(|all| all.get(v::ACCOUNT_ANNOTATION));
    !controlled && made_here && named == account.metadata.name.as_ref()
}

/// Type of the Secret as Kubernetes calls it.
fn type_name(account: &OAuthAccount) -> &'static str {
    match account.spec.token_secret.type_ {
        SecretType::Opaque => "Opaque",
        SecretType::DockerConfigJSON => "kubernetes.io/dockerconfigjson",
        SecretType::BasicAuth => "kubernetes.io/basic-auth",
    }
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

/// The Secret to make: owned by the account, so that it goes when the account goes, unless it is to stay.
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
            owner_references: is_controlled(account).then(|| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some(type_name(account).to_owned()),
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
    let merged = account.spec.token_secret.creation_policy == CreationPolicy::Merge;
    if let Some(fields) = patch.as_object_mut().filter(|_| merged) {
        fields.remove("type");
    }
    if held.disowned && !is_controlled(account) {
        patch["metadata"]["ownerReferences"] = Value::Null;
    }
    for key in &obsolete.data {
        patch["data"][key] = Value::Null;
    }
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

    fn of(policy: &Value) -> OAuthAccount {
        account(&json!({"tokenSecret": policy}))
    }

    fn made_by(account: &OAuthAccount) -> Secret {
        manifest(account, "demo-token", &record(1, 3600).contents(account))
    }

    #[test]
    fn what_is_to_stay_has_no_owner_and_is_taken_up_again_by_a_namesake() {
        for policy in [json!({"creationPolicy": "Orphan"}), json!({"deletionPolicy": "Retain"})] {
            let left = made_by(&of(&policy));
            assert_eq!(left.metadata.owner_references, None);
            let mut heir = of(&policy);
            heir.metadata.uid = Some("another".into());
            let seen = view(Some(left.clone()), &heir, None);
            assert!(
                matches!(seen, TokenSecretView::Ours { held: Held { disowned: false, .. }, record: Some(_), .. }),
                "{seen:?}"
            );
            heir.metadata.name = Some("other".into());
            assert!(matches!(view(Some(left.clone()), &heir, None), TokenSecretView::Foreign(_)), "of another name");
            assert!(matches!(view(Some(left), &of(&json!({})), None), TokenSecretView::Foreign(_)), "by a policy that owns");
        }
    }

    #[test]
    fn a_changed_policy_gives_or_takes_the_owner() {
        let (owning, keeping) = (of(&json!({})), of(&json!({"deletionPolicy": "Retain"})));
        let public = record(1, 3600).public;
        let TokenSecretView::Ours { held, contents, .. } = view(Some(made_by(&owning)), &keeping, Some(&public)) else {
            panic!("ours")
        };
        assert!(held.disowned);
        let patched = patch(&keeping, "demo-token", &contents, &held, &Template::default());
        assert_eq!(patched["metadata"]["ownerReferences"], Value::Null);
        assert!(patched["metadata"].as_object().unwrap().contains_key("ownerReferences"));
        let TokenSecretView::Ours { held, contents, .. } = view(Some(made_by(&keeping)), &owning, Some(&public)) else {
            panic!("known by its token")
        };
        let patched = patch(&owning, "demo-token", &contents, &held, &Template::default());
        assert_eq!(patched["metadata"]["ownerReferences"][0]["uid"], json!("7d0c"));
    }

    #[test]
    fn keys_are_merged_where_the_target_permits_it_and_nowhere_else() {
        let merging = of(&json!({"creationPolicy": "Merge"}));
        let target = |annotations: Value, rest: Value| -> Secret {
            let mut secret =
                json!({"metadata": {"uid": "s", "resourceVersion": "7", "annotations": annotations}, "data": {"own": "eA=="}});
            secret.as_object_mut().unwrap().extend(rest.as_object().cloned().unwrap());
            serde_json::from_value(secret).unwrap()
        };
        let permit = || json!({"oauth-operator.dev/merge-from": "demo"});
        let TokenSecretView::Ours { held, contents, record: None } = view(Some(target(permit(), json!({}))), &merging, None)
        else {
            panic!("permitted")
        };
        let wanted = record(1, 3600).contents(&merging);
        let patched = patch(&merging, "app", &wanted, &held, &Template::obsolete(&contents, &wanted));
        assert!(patched.get("type").is_none() && patched["metadata"].get("ownerReferences").is_none(), "{patched}");
        assert!(patched["data"].get("own").is_none() && patched["data"].get("access_token").is_some());
        assert!(!patched["metadata"]["labels"].as_object().unwrap().keys().any(|key| key.starts_with("app.kubernetes.io/")));
        for (secret, words) in [
            (None, "does not exist"),
            (Some(target(json!({}), json!({}))), "does not permit this account"),
            (Some(target(json!({"oauth-operator.dev/merge-from": "other"}), json!({}))), "does not permit this account"),
            (Some(target(permit(), json!({"immutable": true}))), "is immutable"),
            (Some(target(permit(), json!({"data": {"scope": "eA=="}}))), "has the key scope already"),
            (
                Some(Secret {
                    metadata: ObjectMeta {
                        annotations: target(permit(), json!({})).metadata.annotations,
                        ..made_by(&of(&json!({}))).metadata
                    },
                    ..Secret::default()
                }),
                "is published by the OAuthAccount demo",
            ),
        ] {
            match view(secret, &merging, None) {
                TokenSecretView::Foreign(why) => assert!(why.contains(words), "{why}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_type_is_made_anew_and_a_key_that_is_not_asked_for_goes() {
        let docker = of(&json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "{}"}}));
        assert_eq!(made_by(&docker).type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
        let seen = view(Some(made_by(&of(&json!({})))), &docker, None);
        assert!(matches!(seen, TokenSecretView::Ours { held: Held { unalterable: true, .. }, record: None, .. }), "{seen:?}");
        let (before, after) = (of(&json!({"data": {"header": "x", "kept": "y"}})), of(&json!({"data": {"kept": "y"}})));
        let published = |account: &OAuthAccount| {
            let extra = crate::account::Extra::of(account, &[], &[]).unwrap();
            record(1, 3600).published(account, &extra).unwrap()
        };
        let (there, wanted) = (published(&before), published(&after));
        let held = Held { uid: "s".into(), resource_version: "7".into(), unalterable: false, disowned: false };
        let patched = patch(&after, "demo-token", &wanted, &held, &Template::obsolete(&there, &wanted));
        assert_eq!((patched["data"].get("header"), &patched["data"]["kept"]), (Some(&Value::Null), &json!("eQ==")));
        assert!(patched["data"]["access_token"].is_string());
    }

    #[test]
    fn an_immutable_secret_holds_no_record() {
        let mut secret = published();
        secret.immutable = Some(true);
        assert!(matches!(view(Some(secret), &account(&json!({})), None), TokenSecretView::Ours { record: None, .. }));
    }
}
