//! Holds requests between their effect and their answer: in that moment a test kills who waits for the answer.

use super::Result;
use std::time::Duration;
use tokio::sync::watch;

/// A server's requests on their way to their answers.
#[derive(Default)]
pub struct Gate {
    /// Paths that begin with one of these wait.
    held: watch::Sender<Vec<String>>,
    /// Paths of all requests so far.
    arrived: watch::Sender<Vec<String>>,
}

impl Gate {
    /// From now on requests to such paths take effect, but are not answered.
    pub fn hold(&self, prefix: &str) {
        self.held.send_modify(|held| held.push(prefix.to_owned()));
    }

    /// All that wait are answered, and those that come are too.
    pub fn release(&self) {
        self.held.send_modify(Vec::clear);
    }

    /// All that wait for this prefix are answered.
    pub fn release_only(&self, prefix: &str) {
        self.held.send_modify(|held| held.retain(|there| there != prefix));
    }

    /// Requests to such paths so far, answered or not.
    pub fn arrived(&self, prefix: &str) -> usize {
        count(&self.arrived.borrow(), prefix)
    }

    /// Waits for so many.
    pub async fn until_arrived(&self, prefix: &str, times: usize) -> Result<()> {
        let mut arrived = self.arrived.subscribe();
        let enough = arrived.wait_for(|paths| count(paths, prefix) >= times);
        let in_time = tokio::time::timeout(Duration::from_secs(60), enough).await.is_ok();
        let so_far = self.arrived(prefix);
        if in_time { Ok(()) } else { Err(format!("{so_far} requests to {prefix} in place of {times}").into()) }
    }

    /// By the server, when a request has taken effect.
    pub async fn pass(&self, path: &str) {
        self.arrived.send_modify(|paths| paths.push(path.to_owned()));
        let mut held = self.held.subscribe();
        // The sender is ours: it cannot be gone.
        let _ = held.wait_for(|held| !held.iter().any(|prefix| path.starts_with(prefix))).await;
    }
}

fn count(paths: &[String], prefix: &str) -> usize {
    paths.iter().filter(|path| path.starts_with(prefix)).count()
}
