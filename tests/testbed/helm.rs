//! The real Helm.

use super::process::folder;
use super::{Result, root};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Helm with one kubeconfig, in one namespace.
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Helm {
    /// Helm of a major version, 3 or 4.
    pub fn new(major: u8, kubeconfig: &Path, namespace: &str) -> Result<Self> {
        let program = root().join(format!("target/tools/helm{major}"));
        if !program.exists() {
            return Err(format!("{} is not there: run `tools/install.sh helm`", program.display()).into());
        }
        Ok(Self { program, kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned() })
    }

    /// Its standard output; a failure is an error that repeats the command.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(["--namespace", &self.namespace]).args(arguments);
        // Nothing of whoever runs the tests: neither plugins nor registries.
        for (variable, name) in [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")] {
            command.env(variable, folder("helm")?.join(name));
        }
        let output = command.output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        Err(format!("helm {}: {}{}", arguments.join(" "), text(&output.stdout), text(&output.stderr)).into())
    }
}
