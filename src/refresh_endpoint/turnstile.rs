//! How many may ask at once: those who knock, of whom nobody knows who they are, a few for a moment; those who were let in, a
//! share for each namespace, so that no tenant keeps the others out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Who are being asked who they are, at once: each asks the API server two or three times.
const KNOCKING: usize = 16;
/// How long anybody waits to be asked.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who wait for a token, at once. Each holds a connection, of which there are more.
const INSIDE: usize = 256;
/// Of one namespace.
const OF_ONE: usize = 64;

/// Who is inside.
#[derive(Default)]
struct Inside {
    all: usize,
    by_namespace: HashMap<String, usize>,
}

/// The turnstile of one replica.
pub struct Turnstile {
    knocking: Semaphore,
    inside: Arc<Mutex<Inside>>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { knocking: Semaphore::new(KNOCKING), inside: Arc::default() }
    }
}

/// A place inside, until it is dropped.
pub struct Place {
    namespace: String,
    inside: Arc<Mutex<Inside>>,
}

impl Turnstile {
    /// Waits for a moment to be asked; `None` where too many are.
    pub async fn knock(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        tokio::time::timeout(PATIENCE, self.knocking.acquire()).await.ok()?.ok()
    }

    /// A place for somebody who wants the token of an account in this namespace, and may; `None` where there is none.
    pub fn enter(&self, namespace: &str) -> Option<Place> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = inside.by_namespace.get(namespace).copied().unwrap_or_default();
        if inside.all >= INSIDE || theirs >= OF_ONE {
            return None;
        }
        inside.all += 1;
        inside.by_namespace.insert(namespace.to_owned(), theirs + 1);
        Some(Place { namespace: namespace.to_owned(), inside: self.inside.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all -= 1;
        if let Some(theirs) = inside.by_namespace.get_mut(&self.namespace) {
            *theirs -= 1;
            if *theirs == 0 {
                inside.by_namespace.remove(&self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_namespace_does_not_keep_the_others_out() {
        let turnstile = Turnstile::default();
        let greedy: Vec<_> = (0..1000).filter_map(|_| turnstile.enter("greedy")).collect();
        assert_eq!(greedy.len(), OF_ONE);
        let modest = turnstile.enter("modest");
        assert!(modest.is_some());
        let rest: Vec<_> = (0..1000).filter_map(|number| turnstile.enter(&format!("n{number}"))).collect();
        assert_eq!(rest.len(), INSIDE - OF_ONE - 1, "there is an end");
        drop((greedy, modest, rest));
        assert!(turnstile.enter("greedy").is_some());
        let inside = turnstile.inside.lock().unwrap();
        assert_eq!((inside.all, inside.by_namespace.len()), (0, 0), "nothing is left of who has gone");
    }
}
