//! A real Chromium, driven by a script, and pages asked without one.

use super::{Result, root};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// Where screenshots are kept: artefacts of the build, for people to look at.
pub fn screenshots() -> PathBuf {
    root().join("target/screenshots")
}

/// Whether there is a browser; where the machine was told to go without, that is said loudly.
pub fn is_here() -> bool {
    let here = std::path::Path::new("/usr/bin/chromium").exists() || std::env::var_os("CHROMIUM").is_some();
    if !here {
        eprintln!("SKIPPED, for there is no Chromium on this machine (tools/install.sh debian): a story about pages");
    }
    here
}

/// Goes through pages (see tests/browser/drive.mjs); what is seen at the end.
pub async fn drive(steps: Value) -> Result<Value> {
    let settings = json!({"steps": steps, "screenshots": screenshots(), "javaScript": false});
    let script = root().join("tests/browser/drive.mjs");
    let run = tokio::task::spawn_blocking(move || Command::new("node").arg(script).arg(settings.to_string()).output());
    let output = run.await??;
    if !output.status.success() {
        return Err(format!("the browser stopped: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
