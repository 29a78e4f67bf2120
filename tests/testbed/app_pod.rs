//! An app's Pod as the API server knows it: it mounts token Secrets, and has a ServiceAccount whose token the kubelet would
//! project into it. Nobody schedules it; what runs in it runs here.

use super::Result;
use super::process::folder;
use super::story::{Story, eventually};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// The ConfigMap that says whom to trust for the operator's own CA.
pub const CA: &str = "oauth-operator-ca";

/// The Pod, with what a sidecar in it is given to ask the operator with.
pub struct AppPod {
    /// File with the operator's CA, as the ConfigMap of the namespace has it.
    pub ca: PathBuf,
    /// File with a token for the audience `oauth-operator`, bound to the Pod.
    pub token: PathBuf,
}

impl AppPod {
    /// Makes the Pod `app` with the token Secrets of these accounts.
    pub async fn begin(story: &Story<'_>, accounts: &[&str]) -> Result<Self> {
        let volume = |account: &&str| json!({"name": account, "secret": {"secretName": format!("{account}-token")}});
        pod(story, "app", accounts.iter().map(volume).collect())?;
        let (bundle, token) = (bundle(story).await?, projected(story, "app")?);
        let folder = folder(&format!("{}/app", story.apps))?;
        let pod = Self { ca: folder.join("ca.crt"), token: folder.join("token") };
        std::fs::write(&pod.ca, bundle)?;
        std::fs::write(&pod.token, token)?;
        Ok(pod)
    }
}

/// The bundle in the tenant's namespace, once it is there.
pub async fn bundle(story: &Story<'_>) -> Result<String> {
    let read = || {
        let text = story.kubectl().run(&["get", "configmap", CA, "-o", r"jsonpath={.data.ca\.crt}", "--ignore-not-found"])?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    };
    Ok(eventually(Duration::from_secs(20), read).await?.ok_or("no ConfigMap with the CA in the account's namespace")?)
}

/// A Pod of the tenant's that runs as a ServiceAccount of its own, with these volumes. Nobody schedules it.
pub fn pod(story: &Story<'_>, name: &str, volumes: Value) -> Result<()> {
    let items = json!([
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "serviceAccountName": name, "containers": [{"name": "app", "image": "app"}], "volumes": volumes,
        }},
    ]);
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).map(drop)
}

/// Volumes of a Pod that mounts the token Secret of an account.
pub fn mounting(account: &str) -> Value {
    json!([{"name": "token", "secret": {"secretName": format!("{account}-token")}}])
}

/// A token as the kubelet projects it into this Pod.
pub fn projected(story: &Story<'_>, pod: &str) -> Result<String> {
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", pod, "--audience", "oauth-operator"];
    Ok(story.kubectl().run(&[&["create", "token", pod][..], &bound].concat())?.trim().to_owned())
}
