//! How many requests of workflows are under way at once: of one account, and of all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests of one account that are under way at once, where it does not say otherwise.
const OF_ONE: usize = 16;

/// Turns to send.
pub struct Limits {
    all: Arc<Semaphore>,
    accounts: Mutex<HashMap<(String, String, usize), Arc<Semaphore>>>,
}

/// A turn to send; it ends when it is dropped.
#[derive(Debug)]
pub struct Permit {
    _account: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Limits {
    /// So many at once of all accounts.
    pub fn new(all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all.max(1))), accounts: Mutex::default() }
    }

    /// Waits for a turn, of an account where there is one.
    pub async fn turn(&self, account: Option<(&str, &str, Option<i32>)>) -> Permit {
        let account = match account {
            None => None,
            Some((namespace, name, limit)) => self.of(namespace, name, limit).acquire_owned().await.ok(),
        };
        // Semaphores are never closed. The account's turn comes first: whoever waits for it keeps nobody else waiting.
        Permit { _account: account, _all: self.all.clone().acquire_owned().await.ok() }
    }

    fn of(&self, namespace: &str, name: &str, limit: Option<i32>) -> Arc<Semaphore> {
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(OF_ONE).max(1);
        // Each change is whole before its lock is let go.
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let key = (namespace.to_owned(), name.to_owned(), limit);
        accounts.entry(key).or_insert_with(|| Arc::new(Semaphore::new(limit))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn an_account_that_is_busy_keeps_no_other_waiting() {
        let limits = Limits::new(3);
        let _first = limits.turn(Some(("apps", "a", Some(1)))).await;
        assert!(limits.turn(Some(("apps", "a", Some(1)))).now_or_never().is_none());
        let second = limits.turn(Some(("apps", "b", Some(1)))).now_or_never();
        let _third = limits.turn(None).now_or_never().expect("the third of three");
        assert!(second.is_some() && limits.turn(None).now_or_never().is_none(), "all three are taken");
        drop(second);
        assert!(limits.turn(None).now_or_never().is_some());
    }
}
