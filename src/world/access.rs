//! Who somebody is and what they may do, as the API server knows it.

use super::{ApiError, call};
use crate::api::vocabulary::GROUP;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;

/// Somebody whom the API server knows.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their name.
    pub name: String,
    uid: Option<String>,
    groups: Option<Vec<String>>,
    extra: Option<BTreeMap<String, Vec<String>>>,
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

/// Whether somebody may do this to an account.
///
/// # Errors
/// As [`authenticate`].
pub async fn may(client: &Client, person: &Person, verb: &str, namespace: &str, name: &str) -> Result<bool, ApiError> {
    let text = |text: &str| Some(text.to_owned());
    let attributes = ResourceAttributes {
        group: text(GROUP),
        resource: text("oauthaccounts"),
        verb: text(verb),
        namespace: text(namespace),
        name: text(name),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        user: Some(person.name.clone()),
        uid: person.uid.clone(),
        groups: person.groups.clone(),
        extra: person.extra.clone(),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let review = call(Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review)).await?;
    Ok(review.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
}
