//! The real curl.

use super::Result;
use super::process::folder;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What curl has seen.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its exit code: 0, or why the transfer failed (`man curl`, EXIT CODES).
    pub exit: i32,
    /// Every head and every trailer, as they came.
    pub heads: String,
    pub body: Vec<u8>,
    /// Version of the last answer: `1.1`, `2`.
    pub version: String,
    /// Status code of the last answer.
    pub status: u16,
}

impl Fetched {
    /// The last value of a header or trailer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.heads.lines().filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next_back()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Whether to go without it, as told; else its absence is a failure.
pub fn skip() -> bool {
    let here = ["curl", "h2load"].iter().all(|program| Command::new(program).arg("--version").output().is_ok());
    let skip = !here && std::env::var("WITHOUT_DEBIAN").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, as told by WITHOUT_DEBIAN=1: this test needs curl and h2load, which are not installed");
    }
    skip
}

/// Runs it; 20 seconds at most.
pub async fn curl(arguments: &[&str]) -> Result<Fetched> {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    let (heads, body) = (folder("curl")?.join(format!("{run}.heads")), folder("curl")?.join(format!("{run}.body")));
    let mut command = Command::new("curl");
    command.args(["--disable", "--silent", "--show-error", "--noproxy", "*", "--max-time", "20"]);
    command.arg("--dump-header").arg(&heads).arg("--output").arg(&body);
    command.args(["--write-out", "\n%{http_version} %{http_code}"]).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let seen = String::from_utf8_lossy(&output.stdout).into_owned();
    // Bodies of further addresses are printed too: what was written last is the last answer's.
    let last = seen.rsplit('\n').next().unwrap_or_default();
    let (version, status) = last.split_once(' ').ok_or_else(|| format!("curl: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(Fetched {
        exit: output.status.code().ok_or("curl was killed")?,
        heads: std::fs::read_to_string(heads).unwrap_or_default(),
        body: std::fs::read(body).unwrap_or_default(),
        version: version.to_owned(),
        status: status.parse()?,
    })
}
