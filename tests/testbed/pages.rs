//! What programs of ours tell of themselves: their pages, metrics and log.

use super::Result;
use super::process::Process;
use serde_json::Value;
use std::fmt::Display;

/// Asks one page.
pub async fn get(address: impl Display, path: &str) -> Result<(u16, String)> {
    let answer = reqwest::Client::builder().no_proxy().build()?.get(format!("http://{address}{path}")).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// One sample of the metrics, by the start of its line.
pub async fn metric(address: impl Display, series: &str) -> Result<Option<f64>> {
    let (_, text) = get(address, "/metrics").await?;
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    Ok(line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()))
}

/// The log, line by line; a line that is no JSON is a failure.
pub fn log(process: &Process) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("a log line that is no JSON: {line}"));
    process.output().lines().map(parse).collect()
}
