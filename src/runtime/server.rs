//! Probes and metrics: `/livez /readyz /healthz?verbose /metrics`.

use super::account_gauges::{self, Told};
use super::leadership::{LEASE, Leadership};
use super::watches::Scope;
use crate::api::Phase;
use crate::telemetry::metrics::{ACCOUNT_CONTROLLER, AtScrape};
use crate::world::health::Condition;
use crate::world::{World, clock};
use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What the answers are made of.
#[derive(Clone)]
pub struct Board {
    /// Everything outside.
    pub world: Arc<World>,
    /// The caches.
    pub scopes: Arc<Vec<Arc<Scope>>>,
    /// Whether we lead.
    pub leadership: Leadership,
    /// One scrape at a time: gauges are emptied and filled anew.
    pub scrape: Arc<Mutex<()>>,
}

/// Serves until `stop`.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(listener: TcpListener, board: Board, stop: CancellationToken) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(board);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn readyz(State(board): State<Board>) -> Response {
    if board.scopes.iter().all(|scope| scope.is_synced()) {
        (StatusCode::OK, "ok\n").into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "caches are not synced yet\n").into_response()
    }
}

async fn healthz(State(board): State<Board>, RawQuery(query): RawQuery) -> Response {
    let role = if board.leadership.is_held() { "leading" } else { "standing by" };
    board.world.health.set("leader-election", Condition::Healthy, role);
    let (worst, text) = board.world.health.report(clock::now());
    let status = if worst == Condition::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let verbose = query.is_some_and(|query| query.split('&').any(|part| part == "verbose" || part.starts_with("verbose=")));
    let body = if verbose { format!("{text}overall: {}\n", worst.as_str()) } else { format!("{}\n", worst.as_str()) };
    (status, body).into_response()
}

async fn metrics(State(board): State<Board>) -> Response {
    let metrics = &board.world.metrics;
    // Only the leader speaks of accounts, or each would be counted once per replica.
    let leads = board.leadership.is_held();
    let accounts = if leads { Told::of(&board.scopes) } else { vec![] };
    let text = {
        let _alone = board.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.leader.with_label_values(&[LEASE]).set(i64::from(leads));
        let phases = board.world.runs.phases();
        for phase in Phase::ALL.iter().filter(|_| leads) {
            let count = phases.get(phase).copied().unwrap_or_default();
            metrics.at_scrape.workflow_runs.with_label_values(&[phase.as_str()]).set(count);
        }
        metrics.at_scrape.fill(&board, account_gauges::most_overdue(&accounts, clock::now()));
        metrics.text()
    };
    match text {
        Ok(text) => {
            let chunks = std::iter::once(text).chain(account_gauges::chunks(accounts)).map(Ok::<_, Infallible>);
            let body = Body::from_stream(futures::stream::iter(chunks));
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], body).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl AtScrape {
    /// Sets the gauges of the caches and queues.
    fn fill(&self, board: &Board, overdue: f64) {
        self.overdue.set(overdue);
        let queues = board.scopes.iter().map(|scope| scope.queue.told());
        let (depth, sum, longest) = queues.fold((0, 0.0, 0.0_f64), |(depth, sum, longest), told| {
            (depth + told.depth, sum + told.unfinished, longest.max(told.longest))
        });
        self.queue_depth.with_label_values(&[ACCOUNT_CONTROLLER]).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.unfinished_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(sum);
        self.longest_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(longest);
    }
}
