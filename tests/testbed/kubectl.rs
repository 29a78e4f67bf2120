//! The real kubectl.

use super::Result;
use super::cluster::binary;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// kubectl with one kubeconfig.
#[derive(Clone)]
pub struct Kubectl {
    kubeconfig: PathBuf,
    namespace: Option<String>,
}

impl Kubectl {
    pub fn new(kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), namespace: None }
    }

    /// The same in a namespace.
    pub fn namespaced(&self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self.clone() }
    }

    /// What it prints and how it ends, with something on standard input.
    pub fn output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = Command::new(binary("kubectl")?);
        command.env("KUBECONFIG", &self.kubeconfig).arg("--cache-dir").arg(super::process::folder("kubectl-cache")?);
        command.args(self.namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
        let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Its standard output, or its standard error as an error.
    pub fn try_run(&self, arguments: &[&str]) -> std::result::Result<String, String> {
        self.feed(arguments, "")
    }

    /// The same with something on standard input.
    pub fn feed(&self, arguments: &[&str], input: &str) -> std::result::Result<String, String> {
        let output = self.output(arguments, input).map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Its standard output; a failure is an error that repeats the command.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.try_run(arguments).map_err(|error| format!("kubectl {}: {error}", arguments.join(" ")).into())
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<String> {
        self.feed(&["apply", "-f", "-"], manifests).map_err(|error| format!("kubectl apply: {error}\n{manifests}").into())
    }
}
