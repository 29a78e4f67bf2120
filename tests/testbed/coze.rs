//! Coze's official SDK, and what it sends.

use super::coze_platform::CozePlatform;
use super::keys::Key;
use super::process::folder;
use super::{Result, root};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The interpreter that knows the SDK: `make tools` puts it there.
fn python() -> PathBuf {
    root().join("target/tools/coze/bin/python")
}

/// Whether to go without it, as told.
pub fn skip() -> bool {
    let skip = !python().exists() && std::env::var("WITHOUT_DEBIAN").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, as told by WITHOUT_DEBIAN=1: this test needs Python, which is not installed");
    }
    skip
}

/// The document of tests/coze/record.py.
pub fn record(key: &Key, inputs: &Value) -> Result<Value> {
    let python = python();
    assert!(python.exists(), "{} is not there: run `make tools`", python.display());
    let file = folder("coze")?.join("key.pem");
    std::fs::write(&file, &key.pem)?;
    let mut command = Command::new(python);
    command.arg(root().join("tests/coze/record.py")).arg("--key").arg(file).args(["--inputs", &inputs.to_string()]);
    let output = command.output()?;
    let document = serde_json::from_slice(&output.stdout);
    Ok(document.map_err(|_| format!("record.py: {}", String::from_utf8_lossy(&output.stderr)))?)
}

/// What the SDK makes of calls to the platform (see tests/coze/workflows.py), in order.
pub async fn call(platform: &CozePlatform, calls: &[Value]) -> Result<Vec<Value>> {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let python = python();
    assert!(python.exists(), "{} is not there: run `make tools`", python.display());
    let ca = folder("coze")?.join(format!("{}.crt", CALLS.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&ca, &platform.ca)?;
    let mut command = Command::new(python);
    command.arg(root().join("tests/coze/workflows.py")).args(["--base-url", &platform.url, "--ca"]).arg(ca);
    command.arg(Value::from(calls).to_string());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let outcomes = serde_json::from_slice(&output.stdout);
    Ok(outcomes.map_err(|_| format!("workflows.py: {}", String::from_utf8_lossy(&output.stderr)))?)
}
