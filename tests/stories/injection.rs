//! The sidecar is put into Pods: by the webhook, shown to the operator by the real API server as the chart has it, and by
//! `oauth-operator inject`.

mod authority;
mod command_line;

use super::cluster;
use super::sidecar::AT_LOOPBACK;
use crate::testbed::operator::Operator;
use crate::testbed::process::free_port;
use crate::testbed::story::{Reach, Story, eventually, merge};
use crate::testbed::{Result, root};
use command_line::run;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// The webhook of a story, with the rights that go with it.
struct Scene {
    story: Story<'static>,
    /// Name of its object.
    hook: String,
    /// Where the API server asks.
    port: u16,
}

impl Scene {
    async fn begin(name: &str) -> Result<Self> {
        let story = Story::begin(cluster().await?, name, Reach::Tenant).await?;
        let scene = Self { hook: format!("{name}-injection"), port: free_port()?, story };
        scene.install()?;
        // Without it no Pod is made at all; a controller brings it.
        let account = || Ok(scene.story.kubectl().try_run(&["get", "serviceaccount", "default"]).ok());
        eventually(SOON, account).await?.ok_or("the namespace has no ServiceAccount")?;
        Ok(scene)
    }

    /// What deploy/injection.yaml has, of this story's names, the API server being no neighbour of Services.
    fn install(&self) -> Result<()> {
        let text = std::fs::read_to_string(root().join("deploy/injection.yaml"))?;
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
        for object in &mut objects {
            object["metadata"]["name"] = json!(self.hook);
            match object["kind"].as_str() {
                Some("MutatingWebhookConfiguration") => {
                    let hook = &mut object["webhooks"][0];
                    let path = hook["clientConfig"]["service"]["path"].as_str().ok_or("no path")?;
                    hook["clientConfig"] = json!({"url": format!("https://127.0.0.1:{}{path}", self.port)});
                    hook["namespaceSelector"]["matchLabels"] = json!({"kubernetes.io/metadata.name": self.story.apps});
                }
                Some("ClusterRole") => object["rules"][0]["resourceNames"] = json!([self.hook]),
                _ => {
                    object["roleRef"]["name"] = json!(self.hook);
                    object["subjects"][0]["namespace"] = json!(self.story.system);
                }
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        self.story.cluster.kubectl().apply(&list).map(drop)
    }

    async fn operator(&self, identity: &str, port: u16) -> Result<Operator> {
        let listen = format!("127.0.0.1:{port}");
        let image =
            ["--injection-webhook", &self.hook, "--listen-webhook", &listen, "--proxy-image", "registry.test/oauth-proxy:1"];
        self.story.operator_with(identity, &[&AT_LOOPBACK[..], &image].concat()).await
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.story.kubectl().run(arguments)
    }

    /// The webhook's object.
    fn configuration(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&["get", "mutatingwebhookconfiguration", &self.hook, "-o", "json"])?)?)
    }

    /// Whom the API server trusts there, PEM.
    fn trusted(&self) -> Result<Option<String>> {
        use base64::Engine;
        let found = self.configuration()?["webhooks"][0]["clientConfig"]["caBundle"].clone();
        let Some(text) = found.as_str() else { return Ok(None) };
        Ok(Some(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?))
    }

    fn patch(&self, operation: &Value) -> Result<()> {
        let patch = json!([operation]).to_string();
        self.kubectl(&["patch", "mutatingwebhookconfiguration", &self.hook, "--type", "json", "-p", &patch]).map(drop)
    }

    /// The operator's CA as it is published.
    fn published(&self) -> Result<Option<String>> {
        let kubectl = self.story.cluster.kubectl().namespaced(&self.story.system);
        let text =
            kubectl.run(&["get", "configmap", "oauth-operator-ca", "-o", r"jsonpath={.data.ca\.crt}", "--ignore-not-found"])?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The Pod as the API server would make it, and what it warns of. Nothing is made.
    fn rehearse(&self, pod: &Value) -> Result<(Value, String)> {
        let output = self.story.kubectl().output(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &pod.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok((serde_json::from_slice(&output.stdout)?, said)) } else { Err(said.into()) }
    }

    /// Waits until the API server, which hears of the webhook a little later, has Pods injected; a Pod as it is then.
    async fn until_injecting(&self) -> Result<Value> {
        let ask = || Ok(Some(self.rehearse(&pod("rehearsal", &json!({})))?.0).filter(has_sidecar));
        eventually(SOON, ask).await?.ok_or_else(|| "no Pod gets the sidecar".into())
    }

    /// What is refused.
    fn refusal(&self, patch: &Value) -> Result<String> {
        match self.rehearse(&pod("refused", patch)) {
            Ok((pod, _)) => Err(format!("it is not refused: {pod}").into()),
            Err(error) => Ok(error.to_string()),
        }
    }
}

/// A Pod that asks for the sidecar and is within the Pod Security Standard *restricted*, with `patch` merged into it.
fn pod(name: &str, patch: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "annotations": {
            "oauth-operator.dev/inject": "reports", "oauth-operator.dev/proxy-upstream": "https://api.example.com",
        }},
        "spec": {
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "initContainers": [restricted("migrate")],
            "containers": [restricted("app")],
        },
    });
    merge(&mut pod, patch);
    pod
}

fn restricted(name: &str) -> Value {
    json!({"name": name, "image": "app", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsUser": 10001,
    }})
}

fn has_sidecar(pod: &Value) -> bool {
    pod["spec"]["initContainers"][0]["name"] == "oauth-proxy"
}

/// Reviews that were answered.
async fn reviews(operator: &Operator) -> Result<f64> {
    let mut sum = 0.0;
    for result in ["injected", "left", "refused", "failed"] {
        let series = format!("oauth_operator_injections_total{{result=\"{result}\"}}");
        sum += operator.metric(&series).await?.ok_or("no such metric")?;
    }
    Ok(sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_ask_get_the_sidecar_and_others_cost_nothing() -> Result<()> {
    let scene = Scene::begin("injection").await?;
    let operator = scene.operator("operator-1", scene.port).await?;
    scene.until_injecting().await?;
    let label = format!("namespace/{}", scene.story.apps);
    scene.kubectl(&["label", &label, "pod-security.kubernetes.io/enforce=restricted"])?;

    // A Pod, in a namespace that takes restricted ones only; who makes it is told that its account is not there yet.
    let kubectl = scene.story.kubectl();
    let made = kubectl.output(&["create", "-f", "-"], &pod("by-hand", &json!({})).to_string())?;
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    assert!(
        said.contains("Warning: no OAuthAccount reports is here yet; its token is expected in Secret reports-token"),
        "{said}"
    );
    let stored: Value = serde_json::from_str(&scene.kubectl(&["get", "pod", "by-hand", "-o", "json"])?)?;
    assert!(has_sidecar(&stored), "{stored}");
    assert_eq!(stored["spec"]["initContainers"][0]["image"], "registry.test/oauth-proxy:1");
    assert_eq!(stored["spec"]["initContainers"][1]["name"], "migrate");
    let audited = |what: &str, result: &str| {
        operator.log().into_iter().any(|line| {
            let done = if result == "success" { "sidecar injected" } else { "sidecar refused" };
            line["target"] == "audit" && line["what"] == done && line["name"] == what && line["result"] == result
        })
    };
    assert!(audited("by-hand", "success"));

    // The same by the command line, which the webhook leaves as it is.
    let system = scene.story.system.as_str();
    let inject = ["inject", "-f", "-", "--operator-namespace", system, "--proxy-image", "registry.test/oauth-proxy:1"];
    let manifest = run(&inject, &pod("by-command", &json!({})).to_string())??;
    kubectl.apply(&manifest)?;
    let command: Value = serde_json::from_str(&scene.kubectl(&["get", "pod", "by-command", "-o", "json"])?)?;
    assert_eq!(command["spec"], stored["spec"], "one code");
    let annotation = |pod: &Value| pod["metadata"]["annotations"]["oauth-operator.dev/injected"].clone();
    assert_eq!(annotation(&command), annotation(&stored));

    // Pods of a Deployment.
    let template = pod("unnamed", &json!({"metadata": {"name": null, "labels": {"app": "web"}}}));
    let deployment = |name: &str, template: &Value| {
        let template = json!({"metadata": template["metadata"], "spec": template["spec"]});
        let spec = json!({"selector": {"matchLabels": {"app": "web"}}, "template": template});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}).to_string()
    };
    kubectl.apply(&deployment("web", &template))?;
    let pods = || {
        let pods: Value = serde_json::from_str(&scene.kubectl(&["get", "pods", "-l", "app=web", "-o", "json"])?)?;
        Ok(pods["items"].get(0).cloned())
    };
    let made = eventually(SOON, pods).await?.ok_or("the Deployment has no Pod")?;
    assert!(has_sidecar(&made), "{made}");

    // An account whose token is elsewhere.
    let account = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount", "metadata": {"name": "reports"},
        "spec": {
            "provider": {"issuer": "https://127.0.0.1:9"}, "client": {"id": "c", "secretRef": {"name": "c", "key": "c"}},
            "grant": {"clientCredentials": {}}, "tokenSecret": {"name": "elsewhere"},
        },
    });
    kubectl.apply(&account.to_string())?;
    let known = || {
        let (pod, said) = scene.rehearse(&pod("known", &json!({})))?;
        let secret = &pod["spec"]["volumes"][0]["secret"]["secretName"];
        Ok((secret == "elsewhere" && !said.contains("Warning")).then_some(()))
    };
    eventually(SOON, known).await?.ok_or("the account's own name for its Secret is not used")?;

    // What is refused is told to whoever makes it, a person or a controller.
    for (patch, why) in [
        (json!({"spec": {"hostNetwork": true}}), "hostNetwork is set"),
        (
            json!({"metadata": {"annotations": {"oauth-operator.dev/proxy-upstrem": "x"}}}),
            "oauth-operator.dev/proxy-upstrem is no",
        ),
        (json!({"spec": {"containers": [{"name": "oauth-proxy", "image": "x"}]}}), "container oauth-proxy that was not injected"),
    ] {
        let said = scene.refusal(&patch)?;
        assert!(said.contains("inject.oauth-operator.dev") && said.contains(why), "{said}");
    }
    assert!(audited("refused", "refused"));
    let mut wrong = template.clone();
    merge(&mut wrong, &json!({"metadata": {"annotations": {"oauth-operator.dev/proxy-port": "80"}}}));
    kubectl.apply(&deployment("wrong", &wrong))?;
    let failure = || {
        let path = "jsonpath={.status.conditions[?(@.type=='ReplicaFailure')].message}";
        let said = scene.kubectl(&["get", "deployment", "wrong", "-o", path])?;
        Ok(Some(said).filter(|said| !said.is_empty()))
    };
    let said = eventually(SOON, failure).await?.ok_or("the Deployment does not say why it has no Pods")?;
    assert!(said.contains("oauth-operator.dev/proxy-port"), "{said}");
    scene.kubectl(&["delete", "deployment", "wrong", "web"])?;

    // Pods that do not ask, or ask not to have it, are not shown.
    let before = reviews(&operator).await?;
    let silent = json!({"metadata": {"annotations": {"oauth-operator.dev/inject": null}}});
    let without = json!({"metadata": {"labels": {"oauth-operator.dev/inject": "disabled"}}});
    for patch in [silent, without] {
        let (pod, _) = scene.rehearse(&pod("left", &patch))?;
        assert!(!has_sidecar(&pod), "{pod}");
    }
    assert_eq!(reviews(&operator).await?, before);
    scene.rehearse(&pod("seen", &json!({})))?;
    assert_eq!(reviews(&operator).await?, before + 1.0, "the one that asks is");

    // By the name that a Service gives it, and from somebody who is no API server.
    let name = format!("oauth-operator.{}.svc", scene.story.system);
    let ca = reqwest::Certificate::from_pem(scene.published()?.ok_or("no CA")?.as_bytes())?;
    // reqwest asks for the process's TLS provider when its first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let there = ([127, 0, 0, 1], scene.port).into();
    let client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().resolve(&name, there).build()?;
    let url = format!("https://{name}:{}/inject", scene.port);
    let large = vec![b' '; 3 * 1024 * 1024 + 1];
    for (body, status) in [(b"{}".to_vec(), 400), (b"\xff".to_vec(), 400), (large, 413)] {
        assert_eq!(client.post(&url).body(body).send().await?.status().as_u16(), status);
    }
    assert_eq!(client.get(&url).send().await?.status().as_u16(), 405);
    assert_eq!(operator.metric("oauth_operator_injections_total{result=\"failed\"}").await?, Some(3.0));
    assert!(has_sidecar(&scene.rehearse(&pod("after", &json!({})))?.0));
    Ok(())
}
