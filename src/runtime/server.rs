//! Probes and metrics: `/livez /readyz /healthz?verbose /metrics`.

use super::leadership::{LEASE, Leadership};
use super::watches::Scope;
use crate::api::{OAuthAccount, OAuthAccountStatus, Phase};
use crate::oauth::preset;
use crate::telemetry::metrics::{
    ACCOUNT_CONTROLLER, AccountGauge, AtScrape, CONDITION, EXPIRATION, INFO, ISSUED, LAST_SUCCESS, READY,
    REFRESH_TOKEN_EXPIRATION, RENEWAL, SUSPENDED,
};
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
    // Only the leader speaks of accounts, or each would be counted once per replica.
    let leads = board.leadership.is_held();
    let accounts: Vec<_> = board.scopes.iter().filter(|_| leads).flat_map(|scope| scope.accounts.state()).collect();
    let phases = board.world.runs.phases();
    for phase in Phase::ALL.iter().filter(|_| leads) {
        let count = phases.get(phase).copied().unwrap_or_default();
        metrics.at_scrape.workflow_runs.with_label_values(&[phase.as_str()]).set(count);
    }
    metrics.at_scrape.fill(&board, &accounts, clock::now());
    let text = metrics.text().map(|mut text| {
        gauges(&accounts, &mut text);
        text
    });
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl AtScrape {
    /// Sets the gauges from the caches.
    fn fill(&self, board: &Board, accounts: &[Arc<OAuthAccount>], now: Timestamp) {
        let late = |account: &Arc<OAuthAccount>| {
            let due = account.status.as_ref().and_then(|status| status.next_refresh_time.as_ref());
            due.map_or(0.0, |due| now.duration_since(due.0).as_secs_f64())
        };
        self.overdue.set(accounts.iter().map(late).fold(0.0, f64::max));
        let queues = board.scopes.iter().map(|scope| scope.queue.now());
        let (depth, sum, longest) =
            queues.fold((0, 0.0, 0.0_f64), |(d, s, l), (depth, sum, longest)| (d + depth, s + sum, l.max(longest)));
        self.queue_depth.with_label_values(&[ACCOUNT_CONTROLLER]).set(i64::try_from(depth).unwrap_or(i64::MAX));
        self.unfinished_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(sum);
        self.longest_work.with_label_values(&[ACCOUNT_CONTROLLER]).set(longest);
    }
}

/// Writes what is known of each account.
fn gauges(accounts: &[Arc<OAuthAccount>], text: &mut Vec<u8>) {
    let known = || accounts.iter().filter_map(|account| Some((account, account.status.as_ref()?)));
    let labels = |account: &OAuthAccount| -> (String, String) {
        let metadata = &account.metadata;
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    };
    let head = |gauge: &AccountGauge, text: &mut Vec<u8>| {
        if !accounts.is_empty() {
            gauge.head(text);
        }
    };
    head(&INFO, text);
    for (account, status) in known() {
        let (namespace, name) = labels(account);
        let grant = status.grant.as_deref().unwrap_or("Unknown");
        INFO.sample(text, (&namespace, &name), &format!("provider=\"{}\",grant=\"{grant}\",", provider(status)), 1);
    }
    head(&READY, text);
    for (account, status) in known() {
        let (namespace, name) = labels(account);
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
        let ready = ready.map_or("Unknown", |condition| condition.status.as_str());
        for state in ["True", "False", "Unknown"] {
            READY.sample(text, (&namespace, &name), &format!("condition=\"{state}\","), i64::from(state == ready));
        }
    }
    head(&CONDITION, text);
    for (account, status) in known() {
        let (namespace, name) = labels(account);
        for condition in &status.conditions {
            let (type_, state, reason) = (&condition.type_, &condition.status, &condition.reason);
            let more = format!("type=\"{type_}\",status=\"{state}\",reason=\"{reason}\",");
            CONDITION.sample(text, (&namespace, &name), &more, 1);
        }
    }
    head(&SUSPENDED, text);
    for account in accounts {
        let (namespace, name) = labels(account);
        SUSPENDED.sample(text, (&namespace, &name), "", i64::from(account.spec.suspend));
    }
    type Moment = fn(&OAuthAccountStatus) -> Option<Timestamp>;
    let families: [(AccountGauge, Moment); 5] = [
        (ISSUED, |status| status.token.as_ref().map(|token| token.issued_time.0)),
        (EXPIRATION, |status| status.token.as_ref().map(|token| token.expiration_time.0)),
        (RENEWAL, |status| status.next_refresh_time.as_ref().map(|time| time.0)),
        (REFRESH_TOKEN_EXPIRATION, |status| status.refresh_token_expiration_time.as_ref().map(|time| time.0)),
        (LAST_SUCCESS, |status| status.last_success_time.as_ref().map(|time| time.0)),
    ];
    for (gauge, moment) in families {
        head(&gauge, text);
        for (account, at) in known().filter_map(|(account, status)| Some((account, moment(status)?))) {
            let (namespace, name) = labels(account);
            gauge.sample(text, (&namespace, &name), "", at.as_second());
        }
    }
}

/// One of a closed set: the name of a preset that an account asks for may be any.
fn provider(status: &OAuthAccountStatus) -> &str {
    let named = status.provider.as_deref().filter(|name| ["Issuer", "Custom"].contains(name) || preset(name).is_some());
    named.unwrap_or("Unknown")
}
