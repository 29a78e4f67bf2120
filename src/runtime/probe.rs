//! `oauth-operator probe`: asks a page of probes until it says yes, as `helm test` does. The image has no shell and no curl.

use clap::Args;
use std::time::Duration;
use url::Url;

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long to wait before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks a page of probes until it answers 200.
#[derive(Clone, Debug, Args)]
pub struct Probe {
    /// The page, such as `http://oauth-operator-metrics.oauth-operator-system.svc:8080/readyz`.
    #[arg(long, value_parser = page)]
    pub url: Url,

    /// Seconds until it is given up.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=3600))]
    pub timeout_seconds: u64,
}

/// Why the page did not say yes in time: what was wrong the last time.
#[derive(Debug, thiserror::Error)]
#[error("{url} did not say that it is ready within {seconds} s; the last time: {last}")]
pub struct NotReady {
    url: Url,
    seconds: u64,
    last: String,
}

/// Asks until the page answers 200, and gives what it says.
///
/// # Errors
/// [`NotReady`] after `timeout_seconds`.
pub async fn probe(probe: Probe) -> Result<String, NotReady> {
    let Probe { url, timeout_seconds: seconds } = probe;
    let mut last = "there was no time to ask".to_owned();
    let asking = async {
        loop {
            match ask(&url).await {
                Ok(said) => return said,
                Err(reason) => {
                    tracing::debug!(%url, reason, "not ready yet");
                    last = reason;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(seconds), asking).await;
    answer.map_err(|_| NotReady { url, seconds, last })
}

async fn ask(url: &Url) -> Result<String, String> {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(REQUEST).build();
    let answer = client.map_err(whole)?.get(url.clone()).send().await.map_err(whole)?;
    let status = answer.status();
    let said = answer.text().await.map_err(whole)?;
    if status == reqwest::StatusCode::OK { Ok(said) } else { Err(format!("{status}: {}", said.trim())) }
}

/// An error with its causes: reqwest's own says where, and they say why.
#[allow(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn whole(error: reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Plain http: probes are served without TLS.
fn page(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if url.scheme() == "http" { Ok(url) } else { Err("it must be an http address: probes are served without TLS".into()) }
}
