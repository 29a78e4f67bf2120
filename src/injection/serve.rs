//! The webhook, served by every replica: new Pods that ask for the sidecar are shown here.

use super::Sidecar;
use super::review::{Reviewed, review};
use crate::telemetry::metrics::Metrics;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of a review: Pods have some thousands.
const LARGEST: usize = 1024 * 1024;
/// Reviews that are read at once; others wait, so that memory is bounded and a crowd of Pods is not turned away.
const READ_AT_ONCE: usize = 32;
/// Reviews that are judged at once: one may take sixteen times the bytes that it has.
const JUDGED_AT_ONCE: usize = 2;
/// How long a body may take to come: the API server has it whole, and sends it from nearby. Whoever takes longer keeps a place from others.
const BODY_DEADLINE: Duration = Duration::from_secs(1);
/// How long a review waits for its turn: by then the API server has gone on without us.
const PATIENCE: Duration = Duration::from_secs(4);

/// Finds the token Secret of an account by namespace and name.
pub type SecretOf = Box<dyn Fn(&str, &str) -> Option<String> + Send + Sync>;

/// What the webhook is made of.
pub struct Webhook {
    sidecar: Sidecar,
    secret_of: SecretOf,
    metrics: Metrics,
    reading: Semaphore,
    judging: Semaphore,
}

impl Webhook {
    /// A webhook that adds this sidecar.
    pub fn new(sidecar: Sidecar, secret_of: SecretOf, metrics: Metrics) -> Arc<Self> {
        // An increase is seen only from one scrape to the next.
        for result in ["injected", "left", "refused", "failed"] {
            metrics.injections.with_label_values(&[result]);
        }
        Arc::new(Self {
            sidecar,
            secret_of,
            metrics,
            reading: Semaphore::new(READ_AT_ONCE),
            judging: Semaphore::new(JUDGED_AT_ONCE),
        })
    }
}

/// The webhook of one replica.
pub fn routes(webhook: Arc<Webhook>) -> Router {
    Router::new().route("/inject", post(answer)).with_state(webhook)
}

async fn answer(State(webhook): State<Arc<Webhook>>, body: Body) -> Response {
    let (result, response) = match webhook.judge(body).await {
        Ok(reviewed) => {
            told(&reviewed);
            (reviewed.result, Json(reviewed.answer).into_response())
        }
        Err((status, why)) => {
            // The API server makes the Pod without the sidecar then.
            tracing::warn!("a review of a new Pod could not be answered: {why}");
            ("failed", (status, format!("{why}\n")).into_response())
        }
    };
    webhook.metrics.injections.with_label_values(&[result]).inc();
    response
}

impl Webhook {
    async fn judge(&self, body: Body) -> Result<Reviewed, (StatusCode, String)> {
        let failed = |status, why: &str| (status, why.to_owned());
        let place = tokio::time::timeout(PATIENCE, self.reading.acquire()).await;
        let _reading = place.map_err(|_| failed(StatusCode::SERVICE_UNAVAILABLE, "too many came at once"))?;
        let body = tokio::time::timeout(BODY_DEADLINE, to_bytes(body, LARGEST)).await;
        let body = body.map_err(|_| failed(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"))?;
        let body = body.map_err(|_| failed(StatusCode::PAYLOAD_TOO_LARGE, "the body is cut off, or larger than 1 MiB"))?;
        // Neither semaphore is ever closed.
        let _judging = self.judging.acquire().await;
        review(&body, &self.sidecar, &self.secret_of).map_err(|why| (StatusCode::BAD_REQUEST, why))
    }
}

/// Whose Pod was given which accounts, for the audit.
fn told(reviewed: &Reviewed) {
    let Reviewed { result, who, namespace, name, uid, dry_run, accounts, why, .. } = reviewed;
    if *result == "left" {
        return;
    }
    let (accounts, why) = (accounts.join(","), why.as_deref().unwrap_or_default());
    let (what, result) = if *result == "injected" { ("sidecar injected", "success") } else { ("sidecar refused", *result) };
    tracing::info!(
        target: "audit", who, what, namespace, name, accounts, dry_run, result, why, requestID = uid, "{what}"
    );
}
