//! Apps with the sidecar: a Deployment that goes on calling a protected API while its token is renewed and even taken back, and a Job
//! that ends although its sidecar would not, which ask for the sidecar by annotation; and a Job that has it by hand.

use crate::scene::Scene;
use crate::testbed::authorization_server::Client;
use crate::testbed::operator::executable;
use crate::testbed::story::Story;
use crate::testbed::{Result, root};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// Image of the sidecar, as the chart names it too.
const PROXY: &str = concat!("ghcr.io/oauth-operator/oauth-proxy:", env!("CARGO_PKG_VERSION"));

/// Asks the API for ever; the first answer, and then a line for each request that fails.
const ASKS: &str = "trap 'exit 0' TERM
busybox wget -q -O - http://127.0.0.1:15080/items; echo
while true; do busybox timeout 20 busybox wget -q -O - http://127.0.0.1:15080/items >/dev/null || echo FAILED; busybox sleep 0.2; done";

/// Who puts the sidecar into Pods that ask for it.
#[derive(Clone, Copy)]
pub enum Injection {
    /// The operator, when the API server shows it a Pod.
    Webhook,
    /// `oauth-operator inject`, before the manifest is applied.
    Command,
}

/// Starts all; returns when all are answered and the Jobs have ended.
pub async fn run(scene: &Scene, story: &Story<'_>, client: &Client, injection: Injection) -> Result<()> {
    let deployment = asks_for_sidecar(scene);
    let asks = job("once", deployment["spec"]["template"].clone());
    let has = job("once-by-hand", sidecar_by_hand(scene, story)?["spec"]["template"].clone());
    for manifest in [deployment, asks] {
        story.kubectl().apply(&match injection {
            Injection::Webhook => manifest.to_string(),
            Injection::Command => injected(&manifest.to_string(), &story.system)?,
        })?;
    }
    story.kubectl().apply(&has.to_string())?;
    scene.node.rolled_out(&story.apps, "deployment/app", SOON)?;
    let answered = format!("\"client\":\"{}\"", client.id);
    for workload in ["deployment/app", "job/once", "job/once-by-hand"] {
        let logs = || Ok(story.kubectl().try_run(&["logs", workload, "-c", "app"]).is_ok_and(|said| said.contains(&answered)));
        scene.until(&format!("{workload} has an answer of the API"), &story.apps, SOON, logs).await?;
    }
    let ended = || {
        let status =
            story.kubectl().run(&["get", "jobs", "once", "once-by-hand", "-o", "jsonpath={.items[*].status.succeeded}"])?;
        Ok(status == "1 1")
    };
    scene.until("the Jobs have ended, and their sidecars with them", &story.apps, SOON, ended).await
}

/// A Job that asks the API once, of the template of Pods that ask for ever.
fn job(name: &str, mut template: Value) -> Value {
    template["spec"]["restartPolicy"] = json!("Never");
    // The Deployment's Pods are told by it.
    template["metadata"]["labels"] = Value::Null;
    let command = ["/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:15080/items"];
    template["spec"]["containers"][0]["command"] = json!(command);
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": template}})
}

/// The API sees another token from the same Pod, and then a third one, as the second was taken back by the provider.
pub async fn rotation(scene: &Scene, story: &Story<'_>, client: &Client) -> Result<()> {
    let tokens = || scene.seen(client).into_iter().filter_map(|seen| seen.token).collect::<BTreeSet<_>>();
    let before = tokens();
    let another = || Ok(tokens().difference(&before).next().is_some());
    scene.until("the Pod sends the renewed token", &story.apps, SOON, another).await?;

    let published = story.key("bot-token", "access_token")?;
    let known = tokens();
    scene.provider.revoke(client, &published).await?;
    let refused = |seen: &crate::testbed::resource_server::Seen| seen.client.is_none() && seen.token.is_some();
    let renewed = || Ok(scene.api.seen().iter().any(refused) && tokens().difference(&known).next().is_some());
    scene.until("a token that was taken back is renewed by the refresh endpoint", &story.apps, SOON, renewed).await?;
    undisturbed(story)
}

/// The app has had no failure, and has never been started again.
pub fn undisturbed(story: &Story<'_>) -> Result<()> {
    let said = story.kubectl().run(&["logs", "deployment/app", "-c", "app"])?;
    assert!(!said.contains("FAILED"), "requests of the app have failed:\n{said}");
    let restarts = "jsonpath={.items[*].status['containerStatuses','initContainerStatuses'][*].restartCount}";
    let restarts = story.kubectl().run(&["get", "pods", "-l", "app.kubernetes.io/name=app", "-o", restarts])?;
    assert_eq!(restarts.split_whitespace().collect::<Vec<_>>(), ["0", "0"], "app and sidecar have run all the time");
    Ok(())
}

/// A Deployment that calls the API and asks for the sidecar.
fn asks_for_sidecar(scene: &Scene) -> Value {
    let labels = json!({"app.kubernetes.io/name": "app"});
    let annotations = json!({
        "oauth-operator.dev/inject": "bot",
        "oauth-operator.dev/proxy-upstream": scene.front.url,
        "oauth-operator.dev/proxy-upstream-ca": "api-ca",
    });
    let app = json!({
        "name": "app", "image": "localhost/busybox:1", "command": ["/bin/busybox", "sh", "-c", ASKS],
        "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
    });
    let security = json!({"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels, "annotations": annotations},
            "spec": {"securityContext": security, "containers": [app]},
        }},
    })
}

/// What `oauth-operator inject` makes of a manifest, for an operator in this namespace.
fn injected(manifest: &str, system: &str) -> Result<String> {
    let mut inject = Command::new(executable());
    inject.args(["inject", "--filename", "-", "--operator-namespace", system, "--proxy-image", PROXY]);
    let mut inject = inject.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    inject.stdin.take().ok_or("no stdin")?.write_all(manifest.as_bytes())?;
    let output = inject.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr).into()) }
}

/// deploy/proxy.yaml with its places filled in, as its first line asks for; the app's command is missing.
fn sidecar_by_hand(scene: &Scene, story: &Story<'_>) -> Result<Value> {
    let manifest = std::fs::read_to_string(root().join("deploy/proxy.yaml"))?;
    let places = [
        ("coze-prod", "bot"),
        ("https://api.coze.com", &scene.front.url),
        ("docker.io/library/your-app:1.0.0", "localhost/busybox:1"),
        ("oauth-operator-system", &story.system),
    ];
    let filled = places.into_iter().fold(manifest, |manifest, (place, value)| manifest.replace(place, value));
    let mut deployment: Value = serde_saphyr::from_str(&filled)?;
    let pod = &mut deployment["spec"]["template"]["spec"];
    let mut add = |pointer: &str, value: Value| {
        pod.pointer_mut(pointer).and_then(Value::as_array_mut).expect("deploy/proxy.yaml has it").push(value);
    };
    // The API's CA is private.
    add("/volumes", json!({"name": "api-ca", "configMap": {"name": "api-ca"}}));
    add("/initContainers/0/volumeMounts", json!({"name": "api-ca", "mountPath": "/var/run/api-ca", "readOnly": true}));
    add("/initContainers/0/args", json!("--upstream-ca=/var/run/api-ca/ca.crt"));
    Ok(deployment)
}
