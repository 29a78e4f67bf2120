//! The operator is asked for a fresh token: only it refreshes. One question per account at a time, and none that was answered
//! just now.

use super::account::{Account, Asked};
use super::clock::{moment, now};
use super::credential::Credential;
use super::routes::Refresh;
use super::tape::RequestBody;
use super::upstream::{Upstream, UpstreamTls};
use crate::telemetry::proxy_metrics::ProxyMetrics;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Seconds that the operator may take: as long as its own token requests, and what comes around them.
const ANSWER: Duration = Duration::from_secs(25);
/// Bytes of its answer.
const LARGEST: usize = 256 * 1024;
/// Seconds after which it is asked again, where it has not said.
const AGAIN: u64 = 5;
/// The most that a hold may last where the operator asks for more.
const LONGEST_AGAIN: u64 = 60;

/// What the operator answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    generation: i64,
}

#[derive(Deserialize)]
struct Refusal {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    message: String,
}

/// Why there is no fresh token: a result for metrics, a sentence, and when to ask again.
#[derive(Debug)]
struct NoToken {
    result: &'static str,
    why: String,
    again: u64,
}

impl NoToken {
    fn new(result: &'static str, why: impl Into<String>) -> Self {
        Self { result, why: why.into(), again: AGAIN }
    }
}

/// Asks the operator.
pub struct Refresher {
    settings: Refresh,
    metrics: ProxyMetrics,
    /// Where it is asked: a question outlives the request that brought it up.
    runtime: Handle,
    /// Kept connections, made anew when the operator's CA has changed.
    upstream: tokio::sync::Mutex<Option<(Vec<u8>, Arc<Upstream>)>>,
}

impl Refresher {
    /// One that asks on this runtime.
    pub fn new(settings: Refresh, metrics: ProxyMetrics, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { settings, metrics, runtime, upstream: tokio::sync::Mutex::default() })
    }

    /// Whom it asks, and as whom.
    pub fn settings(&self) -> &Refresh {
        &self.settings
    }

    /// A credential other than the one that was refused, or a first one. Whoever asks while another does waits for the same
    /// answer; who goes away ends nothing.
    pub fn renew(
        self: &Arc<Self>,
        account: &Arc<Account>,
        rejected: Option<&Arc<Credential>>,
    ) -> tokio::task::JoinHandle<Option<Arc<Credential>>> {
        let (this, account, rejected) = (self.clone(), account.clone(), rejected.cloned());
        self.runtime.spawn(async move {
            let mut asked = account.asking.clone().lock_owned().await;
            let fingerprint = rejected.as_ref().map(|credential| credential.fingerprint().to_owned());
            let newer =
                || account.credential().filter(|held| Some(held.fingerprint()) != fingerprint.as_deref() && held.is_live(now()));
            if let Some(newer) = newer() {
                return Some(newer);
            }
            if asked.refused.as_ref().is_some_and(|(of, until)| *of == fingerprint && moment() < *until) {
                return None;
            }
            match this.ask(&account, fingerprint.as_deref()).await {
                Ok(credential) => {
                    this.metrics.refreshes.with_label_values(&["renewed"]).inc();
                    tracing::info!(
                        account = account.name,
                        fingerprint = credential.fingerprint(),
                        "the operator gave a fresh token"
                    );
                    *asked = Asked::default();
                    account.told(credential, now());
                    newer()
                }
                Err(none) => {
                    this.metrics.refreshes.with_label_values(&[none.result]).inc();
                    tracing::warn!(
                        account = account.name,
                        result = none.result,
                        again_seconds = none.again,
                        "no fresh token: {}",
                        none.why
                    );
                    *asked = Asked { refused: Some((fingerprint.clone(), moment() + none.again * 1000)) };
                    account.not_renewed(none.why);
                    None
                }
            }
        })
    }

    async fn ask(&self, account: &Account, fingerprint: Option<&str>) -> Result<Credential, NoToken> {
        let asking = async {
            let namespace = account.namespace.as_deref().unwrap_or(&self.settings.namespace);
            let path = format!("/v1/namespaces/{namespace}/accounts/{}/refresh", account.name);
            let token = std::fs::read_to_string(&self.settings.token_file).map_err(|error| {
                NoToken::new(
                    "unauthenticated",
                    format!(
                        "{}: {error}; mount a ServiceAccount token with the audience oauth-operator",
                        self.settings.token_file.display()
                    ),
                )
            })?;
            let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| NoToken::new("unauthenticated", format!("{} holds no token", self.settings.token_file.display())))?;
            bearer.set_sensitive(true);
            let question = json!({"rejectedFingerprint": fingerprint}).to_string();
            let request = Request::post(path)
                .header(AUTHORIZATION, bearer)
                .header(CONTENT_TYPE, "application/json")
                .body(RequestBody::Short(Some(question.into())))
                .map_err(|error| NoToken::new("misconfigured", format!("the account's name makes no path: {error}")))?;
            let upstream = self.upstream().await?;
            let (answer, held) = upstream
                .send(0, request, false)
                .await
                .map_err(|error| NoToken::new("unreachable", format!("the operator does not answer: {error}")))?;
            let (head, mut body) = answer.into_parts();
            let whole = Limited::new(&mut body, LARGEST).collect().await;
            let whole =
                whole.map_err(|error| NoToken::new("unreachable", format!("the operator's answer broke off: {error}")))?;
            held.give_back(&mut body);
            let body = whole.to_bytes();
            if head.status == StatusCode::OK {
                return read(&body, account);
            }
            let again = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
            let said = serde_json::from_slice::<Refusal>(&body).map(|refusal| refusal.error);
            let said = said.map_or_else(|_| String::new(), |reason| format!(" {}: {}", reason.code, reason.message));
            let result = match head.status {
                StatusCode::UNAUTHORIZED => "unauthenticated",
                StatusCode::FORBIDDEN => "forbidden",
                StatusCode::TOO_MANY_REQUESTS => "floor",
                StatusCode::BAD_GATEWAY => "provider",
                _ => "failed",
            };
            let none = NoToken::new(result, format!("the operator answers {}{said}", head.status.as_u16()));
            Err(NoToken { again: again.unwrap_or(AGAIN).min(LONGEST_AGAIN), ..none })
        };
        let late = |_| NoToken::new("late", format!("the operator did not answer within {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, asking).await.map_err(late)?
    }

    /// The operator, trusted by the CA as it stands in its file now: the file is replaced when the CA is.
    async fn upstream(&self) -> Result<Arc<Upstream>, NoToken> {
        let bundle = match &self.settings.ca_file {
            None => vec![],
            Some(file) => std::fs::read(file).map_err(|error| {
                NoToken::new("misconfigured", format!("{}: {error}; mount the ConfigMap oauth-operator-ca", file.display()))
            })?,
        };
        let mut known = self.upstream.lock().await;
        if let Some((_, upstream)) = known.as_ref().filter(|(of, _)| *of == bundle) {
            return Ok(upstream.clone());
        }
        let tls = UpstreamTls::alone(self.settings.ca_file.is_some().then_some(bundle.as_slice()));
        let tls = tls.map_err(|why| NoToken::new("misconfigured", format!("refresh.caFile: {why}")))?;
        let upstream = Upstream::new(&self.settings.url, Some(Arc::new(tls)), false, 5, 1);
        let upstream = Arc::new(upstream.ok_or_else(|| NoToken::new("misconfigured", "refresh.url names no host"))?);
        *known = Some((bundle, upstream.clone()));
        Ok(upstream)
    }
}

fn read(body: &[u8], account: &Account) -> Result<Credential, NoToken> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|_| NoToken::new("failed", "the operator's answer is not what it should be"))?;
    let data: BTreeMap<String, Vec<u8>> = [
        ("access_token", answer.access_token),
        ("token_type", answer.token_type),
        ("expires_at", answer.expires_at.unwrap_or_default()),
        ("generation", answer.generation.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.into_bytes()))
    .collect();
    let older = account.credential();
    Credential::renewed(data, older.as_deref()).map_err(|why| NoToken::new("failed", format!("the operator's answer: {why}")))
}
