//! The real Prometheus and its promtool.

use super::Result;
use super::process::{Process, folder, free_port};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A Prometheus that scrapes every second.
pub struct Prometheus {
    address: String,
    process: Process,
}

/// What it scrapes: with the labels that a ServiceMonitor or PodMonitor adds, where those of the metrics themselves go before.
pub struct Target<'a> {
    pub job: &'a str,
    pub address: String,
    pub namespace: &'a str,
    pub pod: &'a str,
}

impl Prometheus {
    /// One that scrapes an operator.
    pub async fn start(name: &str, target: &str) -> Result<Self> {
        let target = Target { job: "oauth-operator", address: target.to_owned(), namespace: "", pod: "" };
        Self::with_rules(name, &[target], &[]).await
    }

    /// One that scrapes several, and evaluates rules.
    pub async fn with_rules(name: &str, targets: &[Target<'_>], rules: &[&Path]) -> Result<Self> {
        let folder = folder(name)?;
        let jobs = targets.iter().map(|target| {
            let labels = json!({"namespace": target.namespace, "pod": target.pod});
            let endpoints = json!([{"targets": [target.address], "labels": labels}]);
            json!({"job_name": target.job, "honor_labels": true, "static_configs": endpoints})
        });
        // JSON is YAML.
        let configuration = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": rules,
            "scrape_configs": jobs.collect::<Vec<_>>(),
        });
        Self::run(&folder, &configuration, targets.len()).await
    }

    /// One with a configuration of its own, which has so many targets.
    pub async fn configured(name: &str, configuration: &Value, targets: usize) -> Result<Self> {
        Self::run(&folder(name)?, configuration, targets).await
    }

    async fn run(folder: &Path, configuration: &Value, targets: usize) -> Result<Self> {
        std::fs::write(folder.join("prometheus.yml"), configuration.to_string())?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let arguments = [
            format!("--config.file={}", folder.join("prometheus.yml").display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let process = Process::start("prometheus", folder, Path::new("prometheus"), &arguments, &[])?;
        let prometheus = Self { address, process };
        let up = async || prometheus.query("up == 1").await.is_ok_and(|samples| samples.len() == targets);
        prometheus.process.until("scraping", Duration::from_secs(30), up).await?;
        Ok(prometheus)
    }

    /// What one of its own pages says, such as `/api/v1/rules`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("http://{}{path}", self.address);
        Ok(serde_json::from_str(&reqwest::Client::builder().no_proxy().build()?.get(url).send().await?.text().await?)?)
    }

    /// Samples of an instant query.
    pub async fn query(&self, query: &str) -> Result<Vec<Value>> {
        let encoded: String = url::form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).await?;
        Ok(answer["data"]["result"].as_array().cloned().ok_or_else(|| format!("{answer}"))?)
    }
}

/// Whether Prometheus is not there and the run was told to go without it; says so loudly. Else its absence is a failure.
pub fn told_to_go_without() -> bool {
    let there = Command::new("promtool").arg("--version").output().is_ok();
    let skip = !there && std::env::var("WITHOUT_DEBIAN").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, as told by WITHOUT_DEBIAN=1: this test needs Prometheus, which is not installed");
    }
    skip
}

/// What promtool has to say against a scrape; empty when it is content.
pub fn promtool_check_metrics(scrape: &str) -> Result<String> {
    let mut child = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(scrape.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
