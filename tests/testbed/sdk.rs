//! The official SDKs of the APIs that the proxy is put in front of.

use super::{Result, root};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

/// The interpreter that knows them: `make tools` puts it there.
pub fn python() -> PathBuf {
    root().join("target/tools/sdk/bin/python")
}

/// Whether to go without them, as told.
pub fn skip() -> bool {
    let skip = !python().exists() && std::env::var("WITHOUT_DEBIAN").is_ok_and(|value| value == "1");
    if skip {
        eprintln!("SKIPPED, as told by WITHOUT_DEBIAN=1: this test needs Python, which is not installed");
    }
    skip
}

/// What came of calls (see tests/sdk/converse.py), in order.
pub async fn converse(calls: &[Value]) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&run("converse.py", &[Value::from(calls).to_string()]).await?)?)
}

/// What a script of tests/sdk prints.
pub async fn run(script: &str, arguments: &[String]) -> Result<String> {
    let python = python();
    assert!(python.exists(), "{} is not there: run `make tools`", python.display());
    let mut command = Command::new(python);
    command.arg(root().join("tests/sdk").join(script)).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
