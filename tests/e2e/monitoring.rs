//! Debian's Prometheus scrapes operator and sidecar as docs/monitoring.md says, with the chart's rules; an alert fires and ends.

use crate::scene::Scene;
use crate::testbed::prometheus::Prometheus;
use crate::testbed::story::Story;
use crate::testbed::{Result, root};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ALERT: &str = "ALERTS{alertname=\"OAuthRenewalOverdue\",alertstate=\"firing\",namespace=\"apps\",name=\"fails\"}";
/// A token's life, and some scrapes.
const SOON: Duration = Duration::from_secs(120);

pub async fn run(scene: &Scene, story: &Story<'_>) -> Result<()> {
    // Two replicas of the operator, and the app's sidecar; the Job's has ended with its Pod.
    story.kubectl().run(&["delete", "job", "once", "--cascade=foreground", "--timeout=60s"])?;
    let prometheus = Prometheus::configured("prometheus", &configuration(scene)?, 3).await?;
    until(&prometheus, "oauth_operator_build_info{namespace=\"oauth-operator-system\"}", 2).await?;
    until(&prometheus, "oauth_operator_account_ready_status{namespace=\"apps\",name=\"bot\",condition=\"True\"} == 1", 1).await?;
    until(&prometheus, "sum by (namespace) (oauth_proxy_requests_total{namespace=\"apps\",code=\"200\"}) > 0", 1).await?;
    until(&prometheus, ALERT, 0).await?;

    let client = scene.account(story, "fails").await?;
    story.until_ready("fails").await?;
    let other = crate::testbed::authorization_server::random();
    scene.provider.change(&client, &json!({"client_secret": other})).await?;
    until(&prometheus, ALERT, 1).await?;
    // Somebody does what the runbook says.
    story.secret("fails-client", &[("client_secret", &other)])?;
    until(&prometheus, ALERT, 0).await?;
    story.kubectl().run(&["delete", "oauthaccount", "fails"]).map(drop)
}

async fn until(prometheus: &Prometheus, query: &str, samples: usize) -> Result<()> {
    let began = Instant::now();
    while prometheus.query(query).await?.len() != samples {
        if began.elapsed() > SOON {
            let alerts = prometheus.get("/api/v1/alerts").await?;
            return Err(format!("not {samples} of {query} within {SOON:?}: {alerts}").into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The configuration that docs/monitoring.md shows. Debian builds Prometheus without the client that finds Pods by itself: they are
/// named here, each with the labels that it would give them.
fn configuration(scene: &Scene) -> Result<Value> {
    let page = std::fs::read_to_string(root().join("docs/monitoring.md"))?;
    let mut blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block =
        blocks.find(|block| block.contains("kubernetes_sd_configs")).ok_or("docs/monitoring.md shows no scrape_configs")?;
    let mut configuration: Value = serde_saphyr::from_str(block)?;
    let job = configuration["scrape_configs"][0].as_object_mut().ok_or("a job")?;
    assert_eq!(job.remove("kubernetes_sd_configs"), Some(json!([{"role": "pod"}])));
    let pods: Value = serde_json::from_str(&scene.node.cluster.kubectl().run(&["get", "pods", "-A", "-o", "json"])?)?;
    job.insert("static_configs".into(), pods["items"].as_array().into_iter().flatten().flat_map(targets).collect());
    configuration["rule_files"] = json!([format!("{}/files/rules.yaml", scene.chart)]);
    configuration["global"] = json!({"scrape_interval": "1s", "evaluation_interval": "1s"});
    Ok(configuration)
}

/// Ports of a Pod, as Prometheus would find them.
fn targets(pod: &Value) -> Vec<Value> {
    let containers = ["containers", "initContainers"].into_iter().filter_map(|kind| pod["spec"][kind].as_array()).flatten();
    let ports = containers.filter_map(|container| container["ports"].as_array()).flatten();
    let target = |port: &Value| {
        let address = format!("{}:{}", pod["status"]["podIP"].as_str()?, port["containerPort"]);
        let labels = json!({
            "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
            "__meta_kubernetes_pod_name": pod["metadata"]["name"],
            "__meta_kubernetes_pod_container_port_name": port["name"].as_str().unwrap_or_default(),
            "__meta_kubernetes_pod_label_app_kubernetes_io_name":
                pod["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap_or_default(),
        });
        Some(json!({"targets": [address], "labels": labels}))
    };
    ports.filter_map(target).collect()
}
