//! Replies in the journal that the process before this one could not store any more: they are stored at the start, also while another
//! instance leads. Nothing is posted for that: the intent that a reply answers is this instance's own, and the record is written
//! over by compare-and-swap as it stands with that intent, or not at all. The leader publishes what is kept.

use super::controller::Controller;
use crate::account::act::{Hands, act};
use crate::account::observe::observe;
use crate::account::{INTENT_LIFETIME, Next, Outcome, ReplyInHand, unfinished};
use crate::api::NamespacedName;
use crate::world::{ApiError, clock};
use std::sync::Arc;
use std::time::Duration;
use tracing::Instrument;

/// Steps until a reply is kept, at most: read the record, read the journal, keep, and again where somebody else wrote.
const MOST_STEPS: usize = 12;
/// In place of the id of a pass, in the log.
const RECOVERY: &str = "recovery";
/// How long is waited before the API server is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks once, as soon as the caches are full.
pub async fn run(controllers: Vec<Arc<Controller>>) {
    for controller in &controllers {
        let world = &controller.world;
        let left = world.journal.entries();
        if left.is_empty() {
            return;
        }
        tokio::select! {
            () = controller.scope.until_synced() => {}
            () = controller.stop.cancelled() => return,
        }
        for id in left {
            let Some(account) = world.logins.armed_with(&id).filter(|account| controller.scope.covers(&account.namespace)) else {
                continue;
            };
            // After that, whoever leads calls the outcome unknown.
            let (namespace, name) = (&*account.namespace, &*account.name);
            let span = tracing::info_span!(parent: None, "recovery", namespace, name, reconcileID = RECOVERY);
            let kept = tokio::time::timeout(INTENT_LIFETIME.unsigned_abs(), keep(&account, controller).instrument(span.clone()));
            if kept.await.is_err() {
                span.in_scope(|| {
                    tracing::error!(
                        "a reply in the journal could not be stored in time; RefreshOutcomeUnknown tells what follows"
                    );
                });
            }
        }
    }
}

/// Keeps the reply to an intent of ours, if the journal has one, for as long as that takes.
async fn keep(name: &NamespacedName, controller: &Controller) {
    let _in_hand = ReplyInHand::new(&*controller.world);
    while let Err(error) = try_to_keep(name, controller).await {
        tracing::warn!(%error, "a reply in the journal could not be stored yet; it is tried again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_to_keep(name: &NamespacedName, controller: &Controller) -> Result<(), ApiError> {
    let Some(account) = controller.scope.accounts.get(name) else { return Ok(()) };
    let (marks, memory, world) = (&controller.scope.marks, &controller.scope.memory, &*controller.world);
    let hands = Hands { world, marks, memory, reconcile_id: RECOVERY, may_ask: &|| false, turn: None };
    let mut seen = observe(account, world, marks, memory, &controller.policy, false);
    for _ in 0..MOST_STEPS {
        let Ok(plan) = seen.plan.clone() else { return Ok(()) };
        let next = match unfinished(&seen, &plan, clock::now()) {
            Some(next @ (Next::ReadState | Next::ReadJournal { .. })) => next,
            // What is not known is the leader's to judge.
            Some(next @ Next::Keep { .. }) if seen.login.has_reply() => next,
            _ => return Ok(()),
        };
        let outcome = act(next, &seen, &hands).await?;
        let done = matches!(outcome, Outcome::Kept { .. });
        seen = seen.after(outcome);
        if done {
            return Ok(());
        }
    }
    Ok(())
}
