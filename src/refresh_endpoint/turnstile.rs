//! How many may ask at once: those who knock, of whom nobody knows who they are, some of each address; those who were let in,
//! some of each namespace, so that no tenant keeps the others out.

use super::crowd::{Crowd, Limit, Place};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Who are being asked who they are, at once: each asks the API server two or three times.
const KNOCKING: usize = 8;
/// Who wait for that, and are asked.
const BEFORE: Limit = Limit { all: 512, of_one: 32 };
/// How long anybody waits to be asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// Who wait for a token. Each holds a connection, of which there are more.
const INSIDE: Limit = Limit { all: 256, of_one: 64 };

/// The turnstile of one replica.
pub struct Turnstile {
    before: Arc<Crowd<IpAddr>>,
    knocking: Semaphore,
    inside: Arc<Crowd<String>>,
}

impl Default for Turnstile {
    fn default() -> Self {
        Self { before: Crowd::new(BEFORE), knocking: Semaphore::new(KNOCKING), inside: Crowd::new(INSIDE) }
    }
}

/// The turn of somebody who is being asked who they are, until it is dropped.
pub struct Turn<'a> {
    _place: Place<IpAddr>,
    _permit: SemaphorePermit<'a>,
}

impl Turnstile {
    /// Waits to be asked, first come first served; `None` where too many of this address do, or it takes too long.
    pub async fn knock(&self, from: IpAddr) -> Option<Turn<'_>> {
        let place = self.before.enter(from)?;
        // The semaphore is never closed.
        let permit = tokio::time::timeout(PATIENCE, self.knocking.acquire()).await.ok()?.ok()?;
        Some(Turn { _place: place, _permit: permit })
    }

    /// A place for somebody who wants the token of an account in this namespace, and may; `None` where there is none.
    pub fn enter(&self, namespace: &str) -> Option<Place<String>> {
        self.inside.enter(namespace.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_does_not_keep_the_others_from_being_asked() {
        let turnstile = Arc::new(Turnstile::default());
        let (greedy, modest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut asked = vec![];
        for _ in 0..KNOCKING {
            asked.push(turnstile.knock(greedy).await.unwrap());
        }
        let mut queue = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let turnstile = turnstile.clone();
            queue.spawn(async move { turnstile.knock(greedy).await.is_some() });
        }
        let mut turned_away = 0;
        while turned_away < 100 - (BEFORE.of_one - KNOCKING) {
            turned_away += usize::from(!queue.join_next().await.unwrap().unwrap());
        }
        let waiting = turnstile.clone();
        let modest = tokio::spawn(async move { waiting.knock(modest).await.is_some() });
        drop(asked);
        assert!(modest.await.unwrap(), "whoever comes from elsewhere has a turn");
        while let Some(turn) = queue.join_next().await {
            assert!(turn.unwrap());
        }
    }
}
