//! Who somebody is and what they may do, as the API server knows it.

use super::{ApiError, call};
use crate::api::vocabulary::GROUP;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;

/// Under which extra fields the API server tells of the Pod that a token is bound to.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// What the name of a ServiceAccount begins with, before its namespace.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Somebody whom the API server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their name.
    pub name: String,
    uid: Option<String>,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// The Pod that a token was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReference {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID: another Pod of this name is another Pod.
    pub uid: String,
    /// The ServiceAccount that it runs as.
    pub service_account: String,
}

impl Person {
    /// The ServiceAccount of a token that was verified without the API server's help, as the API server would know it.
    pub fn service_account(namespace: &str, name: &str, uid: &str, pod: Option<(&str, &str)>) -> Self {
        let groups =
            ["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()];
        let pod =
            pod.map(|(name, uid)| [(POD_NAME.to_owned(), vec![name.to_owned()]), (POD_UID.to_owned(), vec![uid.to_owned()])]);
        Self {
            name: format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            uid: Some(uid.to_owned()),
            groups: Some(groups.into()),
            extra: pod.map(BTreeMap::from),
        }
    }

    /// The namespace of a ServiceAccount, and its name; none of anybody else.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')
    }

    /// The Pod that the token was made for, where it was made for one.
    pub fn pod(&self) -> Option<PodReference> {
        let (namespace, service_account) = self.as_service_account()?;
        let extra = |key: &str| match self.extra.as_ref()?.get(key)?.as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        };
        Some(PodReference {
            namespace: namespace.to_owned(),
            name: extra(POD_NAME)?,
            uid: extra(POD_UID)?,
            service_account: service_account.to_owned(),
        })
    }
}

/// Whose bearer token this is; `None` where it is nobody's, or not meant for this audience: one that opens the whole API server
/// must not be sent here.
///
/// # Errors
/// Where the API server does not answer, or does not let the operator ask.
pub async fn authenticate(client: &Client, token: &str, audience: &str) -> Result<Option<Person>, ApiError> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let review = call(Api::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review)).await?;
    let status = review.status.unwrap_or_default();
    let meant = status.audiences.unwrap_or_default().iter().any(|one| one == audience);
    let user = status.user.filter(|_| meant && status.authenticated == Some(true));
    Ok(user.and_then(|user| Some(Person { name: user.username?, uid: user.uid, groups: user.groups, extra: user.extra })))
}

/// Something in a namespace that somebody may do something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// Its API group; empty for the core.
    pub group: &'a str,
    /// Its resource, in plural.
    pub resource: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Target<'a> {
    /// An account.
    pub fn account(namespace: &'a str, name: &'a str) -> Self {
        Self { group: GROUP, resource: "oauthaccounts", namespace, name }
    }

    /// A Secret.
    pub fn secret(namespace: &'a str, name: &'a str) -> Self {
        Self { group: "", resource: "secrets", namespace, name }
    }
}

/// Whether somebody may do this, asked in the target's namespace: that needs a right there only.
///
/// # Errors
/// As [`authenticate`].
pub async fn may(client: &Client, person: &Person, verb: &str, target: Target<'_>) -> Result<bool, ApiError> {
    let metadata = ObjectMeta { namespace: Some(target.namespace.to_owned()), ..ObjectMeta::default() };
    let spec = asked(person, verb, target);
    let review = LocalSubjectAccessReview { metadata, spec, ..LocalSubjectAccessReview::default() };
    let api: Api<LocalSubjectAccessReview> = Api::namespaced(client.clone(), target.namespace);
    let review = call(api.create(&PostParams::default(), &review)).await?;
    Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}

fn asked(person: &Person, verb: &str, target: Target<'_>) -> SubjectAccessReviewSpec {
    let text = |text: &str| Some(text.to_owned());
    let attributes = ResourceAttributes {
        group: text(target.group),
        resource: text(target.resource),
        verb: text(verb),
        namespace: text(target.namespace),
        name: text(target.name),
        ..ResourceAttributes::default()
    };
    SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(person.name.clone()),
        uid: person.uid.clone(),
        groups: person.groups.clone(),
        extra: person.extra.clone(),
        ..SubjectAccessReviewSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_of_by_a_service_account_s_token_and_by_no_other() {
        let bound = Person::service_account("apps", "web", "u", Some(("web-1", "p")));
        let pod = bound.pod().unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("apps", "web-1", "p"));
        assert_eq!(pod.service_account, "web");
        assert_eq!(Person::service_account("apps", "web", "u", None).pod(), None);
        let pretender = Person { name: "mallory".into(), ..bound.clone() };
        assert_eq!(pretender.pod(), None, "whoever is no ServiceAccount runs in no Pod");
        let mut twice = bound;
        twice.extra.as_mut().unwrap().get_mut(POD_NAME).unwrap().push("web-2".into());
        assert_eq!(twice.pod(), None);
    }
}
