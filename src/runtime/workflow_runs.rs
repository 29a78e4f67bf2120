//! Sees to it that somebody works on every run that has not ended, while we lead.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::telemetry::metrics::RUN_CONTROLLER;
use crate::workflow::driver::{Tools, drive};
use crate::world::runs::{Place, Worker};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// How long a run whose work broke off is left alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// Works on runs until there is to be no new work.
pub async fn run(tools: Arc<Tools>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership, passes: TaskTracker) {
    let stop = tools.stop.clone();
    let begin = async {
        leadership.elected().await;
        for scope in scopes.iter() {
            scope.until_synced().await;
        }
    };
    tokio::select! {
        () = begin => {}
        () = stop.cancelled() => return,
    }
    let mut changed = tools.world().runs.subscribe();
    loop {
        changed.mark_unchanged();
        if leadership.is_held() {
            for (place, worker) in tools.world().runs.take() {
                passes.spawn(work(tools.clone(), place, worker));
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = stop.cancelled() => return,
            () = tokio::time::sleep(Duration::from_secs(30)) => {}
        }
    }
}

async fn work(tools: Arc<Tools>, place: Place, worker: Worker) {
    let metrics = tools.world().metrics.clone();
    let workers = metrics.active_workers.with_label_values(&[RUN_CONTROLLER]);
    workers.inc();
    let began = Instant::now();
    let me = executor(&tools.world().identity);
    let span = tracing::error_span!(parent: None, "run", controller = RUN_CONTROLLER, namespace = place.0, name = place.1, reconcileID = me);
    // Detached from this loop, and a panic is one run's alone.
    let (driven, whose) = (tools.clone(), place.clone());
    let ended = tokio::spawn(async move { drive(driven, &whose, worker, me).await }.instrument(span)).await;
    workers.dec();
    let result = match ended {
        Ok(Ok(())) => "success",
        Ok(Err(error)) => {
            tracing::warn!(namespace = place.0, name = place.1, %error, "a run could not be read; it is tried again");
            "error"
        }
        Err(error) => {
            tracing::error!(namespace = place.0, name = place.1, %error, "the work on a run broke off; it is taken up again");
            "error"
        }
    };
    metrics.reconcile_total.with_label_values(&[RUN_CONTROLLER, result]).inc();
    metrics.reconcile_time.with_label_values(&[RUN_CONTROLLER]).observe(began.elapsed().as_secs_f64());
    if result == "error" {
        metrics.reconcile_errors.with_label_values(&[RUN_CONTROLLER]).inc();
        tokio::time::sleep(PATIENCE).await;
    }
    tools.world().runs.leave(&place);
}

/// Who works on a run: unlike any other, of this start and of others.
fn executor(identity: &str) -> String {
    static START: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{}/{:x}-{:x}", identity.chars().take(200).collect::<String>(), *START, COUNT.fetch_add(1, Ordering::Relaxed))
}
