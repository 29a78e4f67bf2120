//! The loop of one scope: see, decide, act, until there is nothing to do.

use super::CONCURRENT_RECONCILES;
use super::leadership::Leadership;
use super::watches::Scope;
use crate::account::act::{Hands, act};
use crate::account::observe::observe;
use crate::account::{Next, Seen, decide, fraction};
use crate::api::OAuthAccount;
use crate::telemetry::metrics::ACCOUNT_CONTROLLER;
use crate::world::{ApiError, World, clock};
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt};
use kube_runtime::controller::{Action, Config, Error as ControllerError, applier};
use kube_runtime::reflector::ObjectRef;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Steps of one pass, at most: the longest way to a token has eight. More is a defect of ours, and is said.
const MOST_TURNS: usize = 24;

/// What a pass needs.
pub struct Controller {
    /// Everything outside.
    pub world: Arc<World>,
    /// Caches of the scope.
    pub scope: Arc<Scope>,
    /// Whether we lead.
    pub leadership: Leadership,
    /// Whether seed Secrets must name their hosts.
    pub token_hosts_required: bool,
    /// Set when no new work is to be taken.
    pub stop: CancellationToken,
    /// Passes under way, which nothing cancels.
    pub passes: TaskTracker,
}

/// Why a pass did not come to rest.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The API server.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A defect of ours.
    #[error("the pass did not come to rest within {MOST_TURNS} steps")]
    Restless,
    /// A defect of ours.
    #[error("the pass broke off: {0}")]
    Panicked(String),
}

/// Reconciles what is woken, until `stop`; passes under way are finished.
pub async fn run(controller: Arc<Controller>, woken: UnboundedReceiver<ObjectRef<OAuthAccount>>) {
    controller.scope.until_synced().await;
    let adds = controller.world.metrics.queue_adds.with_label_values(&[ACCOUNT_CONTROLLER]);
    let queue = woken.take_until(controller.stop.clone().cancelled_owned()).map(move |account| {
        adds.inc();
        Ok::<_, Infallible>(account)
    });
    let store = controller.scope.accounts.clone();
    let config = Config::default().concurrency(CONCURRENT_RECONCILES);
    let reconcile = |account: Arc<OAuthAccount>, controller: Arc<Controller>| reconcile(account, controller).boxed();
    applier(reconcile, on_error, controller, store, queue, config)
        .for_each(|ended| async move {
            match ended {
                // An account that went between its wake-up and its turn is no error.
                Ok(_) | Err(ControllerError::ObjectNotFound(_)) => {}
                Err(error) => tracing::warn!(%error, "reconcile failed"),
            }
        })
        .await;
}

async fn reconcile(account: Arc<OAuthAccount>, controller: Arc<Controller>) -> Result<Action, PassError> {
    if !controller.leadership.is_held() || controller.stop.is_cancelled() {
        return Ok(Action::await_change());
    }
    let began = Instant::now();
    let metrics = controller.world.metrics.clone();
    let workers = metrics.active_workers.with_label_values(&[ACCOUNT_CONTROLLER]);
    workers.inc();
    let id = reconcile_id();
    let metadata = &account.metadata;
    let span = tracing::info_span!(
        parent: None,
        "reconcile",
        controller = ACCOUNT_CONTROLLER,
        namespace = metadata.namespace.as_deref().unwrap_or_default(),
        name = metadata.name.as_deref().unwrap_or_default(),
        reconcileID = id,
    );
    // Detached: whatever becomes of the loop, a request that is on its way is brought to its end.
    let passes = controller.passes.clone();
    let pass = passes.spawn(async move { pass(account, &controller, &id).await }.instrument(span));
    let result = pass.await.unwrap_or_else(|error| Err(PassError::Panicked(error.to_string())));
    workers.dec();
    let label = match &result {
        Ok(action) if *action == Action::await_change() => "success",
        Ok(_) => "requeue_after",
        Err(_) => "error",
    };
    metrics.reconciled(label, began.elapsed());
    result
}

async fn pass(account: Arc<OAuthAccount>, controller: &Controller, id: &str) -> Result<Action, PassError> {
    let Scope { marks, memory, .. } = &*controller.scope;
    let hands = Hands { world: &controller.world, marks, memory, reconcile_id: id };
    let mut seen = observe(account, marks, memory, controller.token_hosts_required);
    for _ in 0..MOST_TURNS {
        let now = clock::now();
        match decide(&seen, now) {
            Next::Rest(until) => {
                remember(seen, controller);
                return Ok(until.map_or_else(Action::await_change, |until| {
                    Action::requeue(Duration::try_from(until.duration_since(now)).unwrap_or_default())
                }));
            }
            Next::Redeem { .. } if controller.stop.is_cancelled() || !controller.leadership.is_held() => {
                remember(seen, controller);
                return Ok(Action::await_change());
            }
            next => match act(next, &seen, &hands).await {
                Ok(outcome) => seen = seen.after(outcome),
                Err(error) => {
                    remember(seen, controller);
                    return Err(error.into());
                }
            },
        }
    }
    remember(seen, controller);
    Err(PassError::Restless)
}

/// A token that is in no Secret yet is kept for the next pass.
fn remember(mut seen: Seen, controller: &Controller) {
    if let Some(record) = seen.unpublished.take() {
        controller.scope.memory.keep(seen.uid(), record);
    }
}

/// The API server did not answer: soon again, not all at once.
fn on_error(account: Arc<OAuthAccount>, _: &PassError, _: Arc<Controller>) -> Action {
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    Action::requeue(Duration::from_secs_f64(1.0 + 4.0 * fraction(uid, "api error")))
}

fn reconcile_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    format!("{:x}-{:x}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
