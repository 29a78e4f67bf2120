//! h2load through the proxy: many streams on few connections, none of which fails.

use super::routed;
use crate::testbed::Result;
use crate::testbed::curl::skip;
use crate::testbed::raw_upstream::RawUpstream;
use serde_json::json;
use std::process::Command;

#[tokio::test]
async fn thousands_of_streams_are_all_answered() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = RawUpstream::start()?;
    let routed = routed("h2load", &upstream.url(), json!({})).await?;
    for (flags, count) in [(vec!["-n", "4000", "-c", "4", "-m", "50"], 4000), (vec!["-n", "1000", "-c", "8", "--h1"], 1000)] {
        let before = upstream.seen().len();
        let url = format!("{}/load", routed.proxy.url());
        let arguments: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).chain([url]).collect();
        let output = tokio::task::spawn_blocking(move || Command::new("h2load").args(arguments).output()).await??;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = |start: &str| report.lines().find(|line| line.starts_with(start)).unwrap_or(start).to_owned();
        let requests =
            format!("requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout");
        assert_eq!(line("requests:"), requests, "{report}");
        assert_eq!(line("status codes:"), format!("status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx"), "{report}");
        assert_eq!(upstream.seen().len() - before, count);
    }
    // Connections to the upstream are kept, and there are no more than were needed at once.
    assert!(upstream.connections() <= 208, "{} connections", upstream.connections());
    let bearer = format!("Bearer {}", routed.token);
    assert!(upstream.seen().iter().all(|seen| seen.all("authorization") == [bearer.as_str()]));
    assert_eq!(upstream.faults(), [""; 0]);
    Ok(())
}
