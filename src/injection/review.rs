//! What the API server asks of the webhook, and what it is told (admission.k8s.io/v1).

use super::pod::inject_seen;
use super::seen::Seen;
use super::{Outcome, Sidecar};
use base64::Engine;
use serde::Deserialize;
use serde_json::{Value, json};

/// The version that is spoken.
const VERSION: &str = "admission.k8s.io/v1";

/// How a review ended, and whose Pod it is about.
#[derive(Debug)]
pub struct Reviewed {
    /// `injected`, `left` or `refused`.
    pub result: &'static str,
    /// Who makes the Pod.
    pub who: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name, or how it begins.
    pub name: String,
    /// The API server's name for this review.
    pub uid: String,
    /// Whether the Pod is not to be made in earnest.
    pub dry_run: bool,
    /// Accounts of the sidecar.
    pub accounts: Vec<String>,
    /// Why it was refused.
    pub why: Option<String>,
    /// What the API server is told: an AdmissionReview.
    pub answer: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    kind: GroupKind,
    sub_resource: Option<String>,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    user_info: User,
    #[serde(default)]
    dry_run: bool,
    object: Option<Seen>,
}

#[derive(Deserialize)]
struct GroupKind {
    #[serde(default)]
    group: String,
    kind: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

/// Judges a review. `secret_of` is asked with a namespace and the name of an account.
///
/// # Errors
/// A sentence, where the text is no review of that version.
pub fn review(text: &[u8], sidecar: &Sidecar, secret_of: impl Fn(&str, &str) -> Option<String>) -> Result<Reviewed, String> {
    let review: Review = serde_json::from_slice(text).map_err(|_| "the body is no AdmissionReview of a Pod as JSON")?;
    if review.api_version != VERSION {
        return Err(format!("the review is not one of {VERSION}"));
    }
    let request = review.request.ok_or("the review has no request")?;
    let of_pod = request.kind.group.is_empty() && request.kind.kind == "Pod" && request.sub_resource.is_none();
    let seen = request.object.filter(|_| of_pod && request.operation == "CREATE").unwrap_or_default();
    let metadata = seen.metadata.as_ref();
    let names =
        [metadata.and_then(|metadata| metadata.name.clone()), metadata.and_then(|metadata| metadata.generate_name.clone())];
    let names = std::iter::once(request.name).chain(names.into_iter().flatten());
    let mut reviewed = Reviewed {
        result: "left",
        who: request.user_info.username,
        namespace: request.namespace,
        name: names.into_iter().find(|name| !name.is_empty()).unwrap_or_default(),
        uid: request.uid,
        dry_run: request.dry_run,
        accounts: vec![],
        why: None,
        answer: Value::Null,
    };
    let mut response = json!({"uid": reviewed.uid, "allowed": true});
    match inject_seen(&seen, sidecar, |account| secret_of(&reviewed.namespace, account)) {
        Ok(Outcome::Left) => {}
        Ok(Outcome::Injected(mut injection)) => {
            (reviewed.result, reviewed.accounts) = ("injected", std::mem::take(&mut injection.accounts));
            let warnings = injection.presumed.iter().map(|(account, secret)| {
                format!("no OAuthAccount {account} is here yet; its token is expected in Secret {secret}")
            });
            response["warnings"] = warnings.collect();
            let patch = injection.into_patch(&seen).to_string();
            response["patch"] = json!(base64::engine::general_purpose::STANDARD.encode(patch));
            response["patchType"] = json!("JSONPatch");
        }
        Err(refusal) => {
            let message = refusal.to_string();
            response["allowed"] = json!(false);
            response["status"] = json!({"status": "Failure", "code": 400, "reason": "BadRequest", "message": message});
            (reviewed.result, reviewed.why) = ("refused", Some(message));
        }
    }
    reviewed.answer = json!({"apiVersion": VERSION, "kind": "AdmissionReview", "response": response});
    Ok(reviewed)
}

#[cfg(test)]
#[path = "review_tests.rs"]
mod tests;
