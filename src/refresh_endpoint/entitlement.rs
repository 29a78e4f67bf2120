//! Whether a Pod has the token anyway: then it may ask for a newer one, and nobody has to be given a right for that. Pure.

use crate::api::vocabulary::ACCESS_TOKEN_KEY;
use crate::world::access::PodReference;
use k8s_openapi::api::core::v1::{KeyToPath, Pod};

/// Whether this is the Pod that a token was made for, and not another one of its name.
pub fn is_of(pod: &Pod, told: &PodReference) -> bool {
    let runs_as = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
    pod.metadata.uid.as_deref() == Some(&told.uid) && runs_as == Some(&told.service_account)
}

/// Whether the Pod is given the access token in this Secret of its namespace, as a volume of its own or as a part of one.
/// Volumes of a Pod do not change: whoever made it was free to name the Secret.
pub fn mounts(pod: &Pod, secret: &str) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.into_iter().any(|volume| {
        let whole = volume.secret.iter().any(|source| source.secret_name.as_deref() == Some(secret) && has_token(&source.items));
        let parts = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
        let mut parts = parts.filter_map(|part| part.secret.as_ref());
        whole || parts.any(|source| source.name == secret && has_token(&source.items))
    })
}

/// Whether the token is among the keys that are mounted: all, where none is named.
fn has_token(items: &Option<Vec<KeyToPath>>) -> bool {
    let items = items.as_deref().unwrap_or_default();
    items.is_empty() || items.iter().any(|item| item.key == ACCESS_TOKEN_KEY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(volumes: Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-1", "namespace": "apps", "uid": "p"},
            "spec": {"serviceAccountName": "web", "containers": [], "volumes": volumes},
        }))
        .unwrap()
    }

    #[test]
    fn a_pod_that_mounts_the_token_has_it() {
        for (volumes, has) in [
            (json!([{"name": "a", "secret": {"secretName": "coze-token"}}]), true),
            (json!([{"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"secretName": "coze-token", "items": []}}]), true),
            (
                json!([{"name": "a", "secret": {"secretName": "coze-token", "items": [{"key": "access_token", "path": "t"}]}}]),
                true,
            ),
            (
                json!([{"name": "a", "secret": {"secretName": "coze-token", "items": [{"key": "expires_at", "path": "e"}]}}]),
                false,
            ),
            (
                json!([{"name": "a", "projected": {"sources": [{"configMap": {"name": "ca"}}, {"secret": {"name": "coze-token"}}]}}]),
                true,
            ),
            (
                json!([{"name": "a", "projected": {"sources": [{"secret": {"name": "coze-token", "items": [{"key": "scope", "path": "s"}]}}]}}]),
                false,
            ),
            (json!([{"name": "coze-token", "secret": {"secretName": "other"}}]), false),
            (json!([{"name": "a", "configMap": {"name": "coze-token"}}]), false),
            (json!([{"name": "a", "projected": {"sources": [{"configMap": {"name": "coze-token"}}]}}]), false),
            (json!([]), false),
        ] {
            assert_eq!(mounts(&pod(volumes.clone()), "coze-token"), has, "{volumes}");
        }
        assert!(!mounts(&Pod::default(), "coze-token"));
    }

    #[test]
    fn another_pod_of_the_name_is_another_pod() {
        let told = |uid: &str, service_account: &str| PodReference {
            namespace: "apps".into(),
            name: "web-1".into(),
            uid: uid.into(),
            service_account: service_account.into(),
        };
        let pod = pod(json!([]));
        assert!(is_of(&pod, &told("p", "web")));
        assert!(!is_of(&pod, &told("q", "web")) && !is_of(&pod, &told("p", "admin")));
        assert!(!is_of(&Pod::default(), &told("", "")));
    }
}
