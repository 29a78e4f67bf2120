//! What is measured: a proxy that takes the client's Authorization off every request and puts an account's on, on one core with
//! one worker.

mod haproxy;
mod nginx;
mod oauth_proxy;

use crate::client::Client;
use crate::cost::Meter;
use crate::machine::Cores;
use crate::testbed::Result;
use crate::testbed::process::{Process, folder};
use crate::tokens::{self, Accounts, Known};
use crate::upstream::Upstream;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The subjects. `path` is under `/tls` where the upstream is to be spoken to under TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    OauthProxy,
    /// nginx with its own sizes of buffers.
    Nginx,
    /// nginx with buffers for large bodies.
    NginxTuned,
    Haproxy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::OauthProxy => "oauth-proxy",
            Self::Nginx => "nginx",
            Self::NginxTuned => "tuned nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// What subjects stand on.
pub struct Ground<'a> {
    pub upstream: &'a Upstream,
    pub known: &'a Arc<Known>,
    pub client: &'a Client,
    pub cores: Cores,
    /// The proxy's binary.
    pub binary: &'a Path,
}

/// A proxy that runs.
pub struct Subject {
    pub kind: Kind,
    pub address: SocketAddr,
    pub meter: Meter,
    process: Process,
    /// Its tokens, which change while it lives; the others have one for ever.
    accounts: Option<Accounts>,
}

impl Subject {
    /// Starts it, and waits until it has brought both an upstream's answers.
    pub async fn start(kind: Kind, ground: &Ground<'_>) -> Result<Self> {
        let folder = folder(&kind.name().replace(' ', "-"))?;
        let mut subject = match kind {
            Kind::OauthProxy => oauth_proxy::begin(ground, &folder).await?,
            Kind::Nginx | Kind::NginxTuned => nginx::begin(kind, ground, &folder)?,
            Kind::Haproxy => haproxy::begin(ground, &folder)?,
        };
        let address = subject.address;
        for path in ["/bytes/0", "/tls/bytes/0"] {
            let answers = async || ground.client.gets(address, path).await;
            subject.process.until("forwarding", Duration::from_secs(15), answers).await?;
        }
        subject.meter = Meter::new(subject.process.id());
        Ok(subject)
    }

    fn new(kind: Kind, address: SocketAddr, process: Process) -> Self {
        Self { kind, address, meter: Meter::new(process.id()), process, accounts: None }
    }

    /// Fails when it has ended, or where its tokens change, when it has not used the new ones.
    pub fn check(&self, known: &Known) -> Result<()> {
        if let Some(status) = self.process.ended() {
            return Err(format!("{} has ended: {status}\n{}", self.kind.name(), self.process.output()).into());
        }
        for folder in self.accounts.iter().flat_map(|accounts| &accounts.folders) {
            let account = folder.file_name().unwrap_or_default().to_string_lossy();
            let shown = known.shown(&account);
            if shown < 3 {
                return Err(
                    format!("{}: only {shown} tokens of {account} were used, while they changed", self.kind.name()).into()
                );
            }
        }
        Ok(())
    }
}

/// Starts a program on the subject's core, and nowhere else.
fn start(name: &str, ground: &Ground<'_>, folder: &Path, program: &Path, arguments: &[String]) -> Result<Process> {
    let mut all = vec!["--cpu-list".to_owned(), ground.cores.subject.to_string(), program.display().to_string()];
    all.extend_from_slice(arguments);
    Process::start(name, folder, &PathBuf::from("taskset"), &all, &[])
}

/// The one token of a subject that knows no accounts.
fn fixed_token(kind: Kind, ground: &Ground<'_>) -> Result<String> {
    tokens::publish(ground.known, kind.name())
}
