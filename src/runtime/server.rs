//! Probes and metrics: `/livez /readyz /healthz?verbose /metrics`.

use super::leadership::{LEASE, Leadership};
use super::watches::Scope;
use crate::api::OAuthAccount;
use crate::telemetry::metrics::{ACCOUNT_CONTROLLER, AtScrape};
use crate::world::health::Condition;
use crate::world::{World, clock};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
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
    let _alone = board.scrape.lock().unwrap_or_else(PoisonError::into_inner);
    metrics.leader.with_label_values(&[LEASE]).set(i64::from(board.leadership.is_held()));
    metrics.at_scrape.fill(&board, clock::now());
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl AtScrape {
    /// Sets the gauges from the caches. Only the leader speaks of accounts, or each would be counted once per replica.
    fn fill(&self, board: &Board, now: Timestamp) {
        self.ready.reset();
        [&self.issued, &self.expiration, &self.renewal, &self.last_success].into_iter().for_each(prometheus::GaugeVec::reset);
        let mut overdue = 0.0_f64;
        if board.leadership.is_held() {
            for account in board.scopes.iter().flat_map(|scope| scope.accounts.state()) {
                overdue = overdue.max(self.add(&account, now));
            }
        }
        self.overdue.set(overdue);
        let queues = board.scopes.iter().map(|scope| scope.queue.now());
        let (depth, sum, longest) =
            queues.fold((0, 0.0, 0.0_f64), |(d, s, l), (depth, sum, longest)| (d + depth, s + sum, l.max(longest)));
        self.queue_depth.with_label_values(&[ACCOUNT_CONTROLLER]).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.unfinished_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(sum);
        self.longest_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(longest);
    }

    /// Adds an account's series; how long its refresh has been due, in seconds.
    fn add(&self, account: &OAuthAccount, now: Timestamp) -> f64 {
        let Some(status) = &account.status else { return 0.0 };
        let labels =
            [account.metadata.namespace.as_deref().unwrap_or_default(), account.metadata.name.as_deref().unwrap_or_default()];
        let ready =
            status.conditions.iter().find(|condition| condition.type_ == "Ready").map_or("Unknown", |c| c.status.as_str());
        for state in ["True", "False", "Unknown"] {
            self.ready.with_label_values(&[labels[0], labels[1], state]).set(i64::from(state == ready));
        }
        let seconds = |moment: Timestamp| moment.as_duration().as_secs_f64();
        let token = status.token.as_ref();
        for (gauge, moment) in [
            (&self.issued, token.map(|token| token.issued_time.0)),
            (&self.expiration, token.map(|token| token.expiration_time.0)),
            (&self.renewal, status.next_refresh_time.as_ref().map(|time| time.0)),
            (&self.last_success, status.last_success_time.as_ref().map(|time| time.0)),
        ] {
            if let Some(moment) = moment {
                gauge.with_label_values(&labels).set(seconds(moment));
            }
        }
        status.next_refresh_time.as_ref().map_or(0.0, |due| now.duration_since(due.0).as_secs_f64().max(0.0))
    }
}
