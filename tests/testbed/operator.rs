//! The operator's own binary, as its own ServiceAccount.

use super::canary::Canary;
use super::pages;
use super::process::Process;
use super::{Result, root};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A running operator.
pub struct Operator {
    /// Its process.
    pub process: Process,
    /// Address of probes and metrics.
    pub address: String,
    /// Address of what it serves under TLS.
    pub tls_address: SocketAddr,
    /// Its identity in the Lease.
    pub identity: String,
    _canary: Canary,
}

/// The binary that was built beside us.
pub fn executable() -> PathBuf {
    option_env!("CARGO_BIN_EXE_oauth-operator").map_or_else(
        || {
            let ourselves = std::env::current_exe().expect("we run from a file");
            ourselves.ancestors().nth(2).expect("target/<profile>/examples/<us>").join("oauth-operator")
        },
        PathBuf::from,
    )
}

/// The binary that users run: the image's own, where `make test` or `tools/images.sh binaries` has built it.
///
/// # Errors
/// Where it is missing, or older than what it is made of: a crash test of another program proves nothing.
pub fn released() -> Result<PathBuf> {
    let binary = root().join("target/images/binaries/oauth-operator");
    let built = std::fs::metadata(&binary).and_then(|metadata| metadata.modified());
    let built = built.map_err(|_| format!("{} is missing: run `make test`, or `tools/images.sh binaries`", binary.display()))?;
    let mut folders = vec![root().join("src")];
    let mut newest = std::fs::metadata(root().join("Cargo.lock"))?.modified()?;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)?.flatten() {
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                newest = newest.max(metadata.modified()?);
            }
        }
    }
    if built < newest {
        Err(format!("{} is older than src: run `make test`, or `tools/images.sh binaries`", binary.display()).into())
    } else {
        Ok(binary)
    }
}

impl Operator {
    /// Starts it and waits until it is ready.
    pub async fn start(binary: &Path, folder: &Path, identity: &str, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        // As in a Pod: the journal outlives the process, and goes with the identity.
        let journal = folder.join(format!("{identity}.journal")).display().to_string();
        let mut all: Vec<String> =
            ["--listen", "127.0.0.1:0", "--identity", identity, "--journal-dir", &journal].map(Into::into).into();
        if !arguments.contains(&"--listen-tls") {
            all.extend(["--listen-tls", "127.0.0.1:0"].map(Into::into));
        }
        all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let environment = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("OAUTH_OPERATOR_LOG_FORMAT", "json".to_owned()),
            ("OAUTH_OPERATOR_LOG_LEVEL", "info,oauth_operator=debug".to_owned()),
        ];
        // A log of its own for each process, also of one identity.
        let earlier = (1..).take_while(|number| folder.join(log_name(identity, *number)).exists()).count();
        let name = log_name(identity, earlier + 1).trim_end_matches(".log").to_owned();
        let process = Process::start(&name, folder, binary, &all, &environment)?;
        let both = || Some((address(&process, "listening")?, address(&process, "listening for TLS")?));
        process.until("listening", Duration::from_secs(20), async || both().is_some()).await?;
        let (address, tls_address) = both().ok_or("no address")?;
        let tls_address = tls_address.parse()?;
        let canary = Canary { log: process.log.clone() };
        let operator = Self { process, address, tls_address, identity: identity.to_owned(), _canary: canary };
        operator.process.until("ready", Duration::from_secs(20), async || operator.is_ready().await).await?;
        Ok(operator)
    }

    async fn is_ready(&self) -> bool {
        self.get("/readyz").await.is_ok_and(|(status, _)| status == 200)
    }

    /// Asks one of its pages.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        pages::get(&self.address, path).await
    }

    /// One sample of its metrics, by the start of its line.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        pages::metric(&self.address, series).await
    }

    /// Its log, line by line; a line that is no JSON is a failure.
    pub fn log(&self) -> Vec<Value> {
        pages::log(&self.process)
    }

    /// Whether it leads.
    pub async fn leads(&self) -> bool {
        matches!(self.metric("leader_election_master_status{name=\"oauth-operator\"}").await, Ok(Some(1.0)))
    }
}

fn log_name(identity: &str, number: usize) -> String {
    if number == 1 { format!("{identity}.log") } else { format!("{identity}-start-{number}.log") }
}

fn address(process: &Process, what: &str) -> Option<String> {
    let output = process.output();
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.find(|line| line["msg"] == what)?["address"].as_str().map(str::to_owned)
}
