//! Workflows, and the platforms that they run on.

mod bad_input;
mod cancel;
mod concurrency;
mod coze_platform;
mod coze_steps;
mod coze_studio;
mod crash;
mod failures;
mod history;
mod hooks;
mod http_steps;
mod limits;
mod outputs;
mod refused_objects;
mod runs;
mod samples;
mod schedule;
mod snapshots;
mod thousand_ticks;
mod timeouts;

use crate::testbed::Result;
use crate::testbed::coze_platform::CozePlatform;
use serde_json::Value;
use std::time::Duration;

/// A platform that takes any token.
async fn open() -> Result<CozePlatform> {
    // Certificates are signed by the process's TLS provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    CozePlatform::open().await
}

/// An answer to a request with a token: its status, and its JSON.
async fn ask(ca: &str, request: impl FnOnce(&reqwest::Client) -> reqwest::RequestBuilder, token: &str) -> Result<(u16, Value)> {
    let ca = reqwest::Certificate::from_pem(ca.as_bytes())?;
    let http = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().timeout(Duration::from_secs(10)).build()?;
    let answer = request(&http).bearer_auth(token).header("content-type", "application/json").send().await?;
    Ok((answer.status().as_u16(), serde_json::from_str(&answer.text().await?)?))
}
