//! The sidecar's own binary.

use super::Result;
use super::canary::Canary;
use super::pages;
use super::process::{Process, folder};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running proxy.
pub struct Proxy {
    /// Its process.
    pub process: Process,
    /// Where it takes requests, in the order of its log.
    pub data: Vec<SocketAddr>,
    /// Address of probes and metrics.
    pub admin: SocketAddr,
    /// Address of log level and drain.
    pub control: SocketAddr,
    _canary: Canary,
}

/// The binary that was built beside us.
fn executable() -> PathBuf {
    option_env!("CARGO_BIN_EXE_oauth-proxy").map_or_else(
        || {
            let ourselves = std::env::current_exe().expect("we run from a file");
            ourselves.ancestors().nth(2).expect("target/<profile>/examples/<us>").join("oauth-proxy")
        },
        PathBuf::from,
    )
}

impl Proxy {
    /// With flags alone, on a port of the kernel's choice.
    pub async fn start(name: &str, flags: &[&str]) -> Result<Self> {
        let listen = ["--listen", "127.0.0.1:0"];
        Self::run(name, &[&listen, flags].concat(), 1, None).await
    }

    /// With a routes file, and waits until each of its addresses listens.
    pub async fn routed(name: &str, routes: &Value) -> Result<Self> {
        Self::routed_with(name, routes, None).await
    }

    /// The same, with an API server to watch Secrets at.
    pub async fn routed_with(name: &str, routes: &Value, kubeconfig: Option<&Path>) -> Result<Self> {
        let file = folder(name)?.join("routes.yaml");
        std::fs::write(&file, routes.to_string())?;
        let listeners = routes["listeners"].as_array().into_iter().flatten();
        let sockets = listeners.map(|listener| listener["addresses"].as_array().map_or(0, Vec::len)).sum();
        Self::run(name, &["--routes", &file.display().to_string()], sockets, kubeconfig).await
    }

    async fn run(name: &str, flags: &[&str], sockets: usize, kubeconfig: Option<&Path>) -> Result<Self> {
        // reqwest asks for the process's TLS provider when its first client is made.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let common =
            ["--admin-listen", "127.0.0.1:0", "--control-listen", "127.0.0.1:0", "--threads", "1", "--log-format", "json"];
        let arguments: Vec<String> = common.iter().chain(flags).map(|argument| (*argument).to_owned()).collect();
        let environment: Vec<_> = kubeconfig.map(|file| ("KUBECONFIG", file.display().to_string())).into_iter().collect();
        let process = Process::start("oauth-proxy", &folder(name)?, &executable(), &arguments, &environment)?;
        let all = async || {
            let count = |listener| listening(&process, listener).len();
            count("data") == sockets && count("admin") == 1 && count("control") == 1
        };
        process.until("listening", Duration::from_secs(20), all).await?;
        let (data, admin, control) =
            (listening(&process, "data"), listening(&process, "admin")[0], listening(&process, "control")[0]);
        let canary = Canary { log: process.log.clone() };
        Ok(Self { process, data, admin, control, _canary: canary })
    }

    /// Where it takes requests, as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.data[0])
    }

    /// Waits until it has a token that it can send.
    pub async fn until_ready(&self) -> Result<()> {
        let ready = async || self.get("/readyz").await.is_ok_and(|(status, _)| status == 200);
        self.process.until("ready", Duration::from_secs(20), ready).await
    }

    /// Asks one of its own pages.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        pages::get(self.admin, path).await
    }

    /// One sample of its metrics, by the start of its line.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        pages::metric(self.admin, series).await
    }

    /// Its log, line by line; a line that is no JSON is a failure.
    pub fn log(&self) -> Vec<Value> {
        pages::log(&self.process)
    }

    /// Bytes of memory that it has at the moment.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }
}

/// Addresses of the listeners of a kind, as its log names them.
fn listening(process: &Process, listener: &str) -> Vec<SocketAddr> {
    let output = process.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = lines.filter(|line| line["msg"] == "listening" && line["listener"] == *listener);
    ours.filter_map(|line| line["address"].as_str()?.parse().ok()).collect()
}
