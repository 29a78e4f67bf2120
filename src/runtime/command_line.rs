//! The command line: without a subcommand the operator runs; a subcommand is a program of its own that needs none of its flags.

use super::probe::Probe;
use super::settings::{ProxyImage, Settings};
use crate::injection::manifests::inject_manifests;
use clap::{Args, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What the program is asked to do.
#[derive(Debug)]
pub enum CommandLine {
    /// To be the operator.
    Run(Box<Settings>),
    /// To put the sidecar into manifests.
    Inject(Inject),
    /// To ask whether an operator is ready.
    Probe(Probe),
}

/// Puts the sidecar into manifests, as the webhook does into Pods: into Pods and Pod templates with the annotation
/// oauth-operator.dev/inject. Everything else passes as it stands.
#[derive(Clone, Debug, Args)]
pub struct Inject {
    /// Manifests, YAML or JSON; `-` is standard input. Repeated for several files.
    #[arg(short = 'f', long = "filename", required = true)]
    pub files: Vec<PathBuf>,

    /// Namespace of the operator, whose refresh endpoint the sidecar asks.
    #[arg(long, env = "OAUTH_OPERATOR_NAMESPACE", default_value = "oauth-operator-system")]
    pub operator_namespace: String,

    #[command(flatten)]
    pub proxy_image: ProxyImage,
}

impl CommandLine {
    /// What these arguments ask for, the program's name being the first.
    ///
    /// # Errors
    /// Help, the version, or what is wrong with them, as clap says it.
    pub fn read<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Self, clap::Error> {
        let inject = Inject::augment_args(clap::Command::new("inject"));
        let probe = Probe::augment_args(clap::Command::new("probe"));
        let command = Settings::command().args_conflicts_with_subcommands(true).disable_help_subcommand(true);
        let matches = command.subcommand(inject).subcommand(probe).try_get_matches_from(arguments)?;
        match matches.subcommand() {
            Some(("inject", inject)) => Inject::from_arg_matches(inject).map(Self::Inject),
            Some((_, probe)) => Probe::from_arg_matches(probe).map(Self::Probe),
            None => Settings::from_arg_matches(&matches).map(|settings| Self::Run(Box::new(settings))),
        }
    }
}

impl Inject {
    /// Writes the manifests with the sidecar to standard output: all of them, or none where one cannot have it.
    ///
    /// # Errors
    /// In words, a line for each object.
    pub fn run(self) -> Result<(), String> {
        let mut injected = String::new();
        let sidecar = self.proxy_image.sidecar(self.operator_namespace);
        let mut faults = vec![];
        for file in &self.files {
            let text = read(file).map_err(|error| format!("{}: {error}", file.display()))?;
            match inject_manifests(&text, &sidecar) {
                Ok(text) => join(&mut injected, &text),
                Err(all) => faults.extend(all.iter().map(|fault| format!("{}: {fault}", file.display()))),
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let mut out = std::io::stdout();
        out.write_all(injected.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("standard output: {error}"))
    }
}

fn read(file: &Path) -> std::io::Result<String> {
    if file != Path::new("-") {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map(|_| text)
}

/// One stream after another.
fn join(stream: &mut String, text: &str) {
    if !stream.is_empty() {
        let end = if stream.ends_with('\n') { "" } else { "\n" };
        stream.push_str(end);
        if !text.starts_with("---") {
            stream.push_str("---\n");
        }
    }
    stream.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<CommandLine, String> {
        CommandLine::read([&["oauth-operator"], arguments].concat()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_subcommand_the_operator_runs_and_needs_its_namespace() {
        let line = read(&["--namespace", "system", "--injection-webhook", "hook"]).unwrap();
        let CommandLine::Run(settings) = line else { panic!("{line:?}") };
        assert_eq!((settings.namespace.as_str(), settings.injection_webhook.as_deref()), ("system", Some("hook")));
        assert_eq!(settings.listen_webhook.to_string(), "0.0.0.0:9443");
        assert!(read(&[]).unwrap_err().contains("--namespace"));
        assert!(read(&["--namespace", "system", "--injection-webhook", ""]).is_err());
    }

    #[test]
    fn a_subcommand_needs_nothing_of_the_operator_s() {
        let line = read(&["inject", "-f", "-", "-f", "pod.yaml", "--proxy-image", "here/proxy:1"]).unwrap();
        let CommandLine::Inject(inject) = line else { panic!("{line:?}") };
        assert_eq!(inject.files, ["-", "pod.yaml"].map(PathBuf::from));
        let sidecar = inject.proxy_image.sidecar(inject.operator_namespace);
        assert_eq!((sidecar.image.as_str(), sidecar.image_pull_policy.as_str()), ("here/proxy:1", "IfNotPresent"));
        assert_eq!(sidecar.operator_namespace, "oauth-operator-system");
        assert!(read(&["inject"]).unwrap_err().contains("--filename"));
        assert!(read(&["inject", "-f", "-", "--proxy-image-pull-policy", "Sometimes"]).is_err());
        assert!(read(&["--namespace", "system", "inject", "-f", "-"]).is_err());
    }

    #[test]
    fn streams_stay_apart() {
        let joined = |texts: &[&str]| {
            let mut stream = String::new();
            texts.iter().for_each(|text| join(&mut stream, text));
            stream
        };
        assert_eq!(joined(&["a: 1\n", "b: 1\n"]), "a: 1\n---\nb: 1\n");
        assert_eq!(joined(&["a: 1", "---\nb: 1\n"]), "a: 1\n---\nb: 1\n");
        assert_eq!(joined(&["a: 1"]), "a: 1");
    }
}
