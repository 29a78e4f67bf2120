//! One gate per token-endpoint host: a slow provider holds up nobody else's accounts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests that may be under way to one host.
const WIDTH: usize = 32;
/// Gates that are kept while nobody stands at them.
const KEPT: usize = 1024;

/// The gates.
#[derive(Default)]
pub struct Gates {
    hosts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Gates {
    /// Waits until a request to this host may be made; the permit is held until it is dropped.
    pub async fn enter(&self, host: &str) -> Option<OwnedSemaphorePermit> {
        let gate = {
            // The map stays whole whatever its holder did.
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            // Tenants choose the hosts: what is kept for them must have an end.
            if hosts.len() >= KEPT {
                hosts.retain(|_, gate| Arc::strong_count(gate) > 1);
            }
            hosts.entry(host.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(WIDTH))).clone()
        };
        // A gate is never closed.
        gate.acquire_owned().await.ok()
    }
}
