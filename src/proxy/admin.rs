//! Probes and metrics, and what may be changed from within the Pod.

use super::account::Account;
use super::breaker::Position;
use super::clock::{moment, now};
use super::table::Gate;
use crate::telemetry::logs::LogLevel;
use crate::telemetry::proxy_metrics::ProxyMetrics;
use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What answers are made of.
#[derive(Clone)]
pub struct Board {
    /// Metrics.
    pub metrics: ProxyMetrics,
    /// Accounts that are served now.
    pub accounts: Arc<ArcSwap<Vec<Arc<Account>>>>,
    /// What is served now.
    pub gates: Arc<ArcSwap<Vec<Arc<Gate>>>>,
    /// Asked to end.
    pub draining: CancellationToken,
    /// The log's level.
    pub level: LogLevel,
}

/// Read only: for kubelet and Prometheus.
pub fn probes(board: Board) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/startupz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(board)
}

/// For loopback only.
pub fn control(board: Board) -> Router {
    Router::new().route("/log-level", put(level)).route("/drain", post(drain)).with_state(board)
}

async fn ready(State(board): State<Board>) -> Response {
    if board.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    let accounts = board.accounts.load();
    if accounts.iter().any(|account| account.is_usable(now())) {
        return "ok\n".into_response();
    }
    let why = accounts.iter().map(|account| format!("{}: {}\n", account.name, account.problem(now())));
    (StatusCode::SERVICE_UNAVAILABLE, format!("no account has a token that can be sent\n{}", why.collect::<String>()))
        .into_response()
}

async fn metrics(State(board): State<Board>) -> Response {
    board.metrics.expiration.reset();
    for account in board.accounts.load().iter() {
        if let Some(expires) = account.credential().and_then(|credential| credential.expires()) {
            board.metrics.expiration.with_label_values(&[&account.name]).set(expires.as_second());
        }
    }
    board.metrics.breaker.reset();
    for way in board.gates.load().iter().flat_map(|gate| gate.ways()) {
        for member in &way.members {
            let state = match member.standing.position(moment()) {
                Position::Closed => 0,
                Position::HalfOpen => 1,
                Position::Open => 2,
            };
            board.metrics.breaker.with_label_values(&[member.account.name.as_str(), &way.upstream.place]).set(state);
        }
    }
    match board.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn level(State(board): State<Board>, level: String) -> Response {
    match board.level.set(level.trim()) {
        Ok(()) => {
            tracing::info!(level = level.trim(), "log level set");
            "ok\n".into_response()
        }
        Err(why) => (StatusCode::BAD_REQUEST, format!("{why}\n")).into_response(),
    }
}

async fn drain(State(board): State<Board>) -> &'static str {
    board.draining.cancel();
    "draining\n"
}
