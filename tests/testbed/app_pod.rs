//! An app's Pod as the API server knows it: it mounts token Secrets, and has a ServiceAccount whose token the kubelet would
//! project into it. Nobody schedules it; what runs in it runs here.

use super::Result;
use super::process::folder;
use super::story::{Story, eventually};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

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
        let items = json!([
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "app"}, "spec": {
                "serviceAccountName": "app", "containers": [{"name": "app", "image": "app"}],
                "volumes": accounts.iter().map(volume).collect::<Vec<Value>>(),
            }},
        ]);
        story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
        let bundle = || {
            let map = ["get", "configmap", "oauth-operator-ca", "-o", r"jsonpath={.data.ca\.crt}", "--ignore-not-found"];
            Ok(Some(story.kubectl().run(&map)?).filter(|text| !text.is_empty()))
        };
        let bundle = eventually(Duration::from_secs(20), bundle).await?.ok_or("no ConfigMap with the operator's CA")?;
        let bound = ["--bound-object-kind", "Pod", "--bound-object-name", "app", "--audience", "oauth-operator"];
        let token = story.kubectl().run(&[&["create", "token", "app"][..], &bound].concat())?;
        let folder = folder(&format!("{}/app", story.apps))?;
        let pod = Self { ca: folder.join("ca.crt"), token: folder.join("token") };
        std::fs::write(&pod.ca, bundle)?;
        std::fs::write(&pod.token, token)?;
        Ok(pod)
    }
}
