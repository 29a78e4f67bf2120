//! Who leads: one process at a time asks for tokens.

use crate::world::clock::uptime;
use crate::world::lease::{DURATION, Judgement, LeaseStore, PERIOD, evaluate};
use k8s_openapi::api::coordination::v1::Lease;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Name of the Lease.
pub const LEASE: &str = "oauth-operator";
/// A leader stops working this long before others may take over.
const MARGIN: Duration = Duration::from_secs(2);

/// Whether this process leads, at this moment.
#[derive(Clone)]
pub struct Leadership {
    until: std::sync::Arc<Mutex<Option<Duration>>>,
    elected: watch::Sender<bool>,
}

impl Default for Leadership {
    fn default() -> Self {
        Self { until: std::sync::Arc::default(), elected: watch::Sender::new(false) }
    }
}

impl Leadership {
    /// Whether it leads. False as soon as the Lease could be anyone's, however late its loss is noticed.
    pub fn is_held(&self) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| uptime() < until)
    }

    /// Waits until it leads.
    pub async fn elected(&self) {
        // The sender lives as long as we do.
        let _ = self.elected.subscribe().wait_for(|elected| *elected).await;
    }

    /// Whether it led, and does not any more.
    fn has_lapsed(&self) -> bool {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| uptime() >= until)
    }

    fn hold(&self, until: Option<Duration>) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.elected.send_if_modified(|elected| std::mem::replace(elected, until.is_some()) != until.is_some());
    }
}

/// The Lease was lost: this process must not go on.
#[derive(Debug, thiserror::Error)]
#[error("the Lease is lost: it could not be renewed within {} s, or another instance took it", (DURATION - MARGIN).as_secs())]
pub struct Lost;

/// Strives for the Lease and keeps it, until it is lost or `stop` asks to give it up.
///
/// # Errors
/// [`Lost`].
pub async fn strive(store: LeaseStore, me: String, leadership: Leadership, stop: CancellationToken) -> Result<(), Lost> {
    let mut seen: Option<Lease> = None;
    let mut since = uptime();
    let mut waiting_for = None;
    loop {
        let began = uptime();
        let read = store.read().await;
        // Renewing a Lease that could have been anyone's meanwhile would hide that work was left undone.
        if leadership.has_lapsed() {
            return Err(Lost);
        }
        match read {
            Ok(lease) => {
                let version = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
                if version(&lease) != version(&seen) {
                    // From the answer on, not from the question: the holder may have renewed in between.
                    since = uptime();
                }
                seen = lease;
                step(&store, &mut seen, uptime() - since, &me, began, &mut waiting_for, &leadership).await?;
            }
            Err(error) => tracing::warn!(%error, "the Lease could not be read"),
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(PERIOD.saturating_sub(uptime() - began)) => {}
        }
    }
    if leadership.is_held() {
        match store.write(seen.as_ref(), None).await {
            Ok(Some(_)) => tracing::info!("the Lease is given up"),
            Ok(None) => tracing::warn!("another instance has the Lease already"),
            Err(error) => tracing::warn!(%error, "the Lease could not be given up; it runs out"),
        }
        leadership.hold(None);
    }
    Ok(())
}

async fn step(
    store: &LeaseStore,
    seen: &mut Option<Lease>,
    unchanged: Duration,
    me: &str,
    began: Duration,
    waiting_for: &mut Option<String>,
    leadership: &Leadership,
) -> Result<(), Lost> {
    let judgement = evaluate(seen.as_ref().and_then(|lease| lease.spec.as_ref()), me, unchanged);
    let leads = leadership.is_held();
    match judgement {
        Judgement::Wait if leads => return Err(Lost),
        Judgement::Wait => {
            let holder = seen.as_ref().and_then(|lease| lease.spec.as_ref()?.holder_identity.clone());
            if let Some(holder) = holder.filter(|holder| Some(holder) != waiting_for.as_ref()) {
                tracing::info!(identity = me, leader = holder, "another instance leads; this one waits");
                *waiting_for = Some(holder);
            }
            return Ok(());
        }
        Judgement::Acquire | Judgement::Renew => {}
    }
    match store.write(seen.as_ref(), Some(me)).await {
        // For a moment it could have been anyone's, also where it is ours again now.
        _ if leadership.has_lapsed() => return Err(Lost),
        Ok(Some(lease)) => {
            *seen = Some(lease);
            leadership.hold(Some(began + DURATION - MARGIN));
            *waiting_for = None;
            if !leads {
                tracing::info!(identity = me, "elected leader");
            }
        }
        Ok(None) => tracing::debug!("another instance was faster"),
        Err(error) => tracing::warn!(%error, "the Lease could not be written"),
    }
    Ok(())
}
