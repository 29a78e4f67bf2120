//! One search for all who want the same: the newest token of an account, a demand for one where there is none, and the wait
//! for what the leader makes of it.

use crate::account::demand::{self, Because, Obstacle, Verdict};
use crate::account::{
    Plan, Policy, Record, State, StateView, TokenSecretView, Version, state_manifest, state_secret_name, state_view,
    token_secret_name, view,
};
use crate::api::OAuthAccount;
use crate::world::secrets::{self, Written};
use crate::world::{ApiError, World, clock};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long anybody waits for a newer token: longer than the next leader needs to take over (15 s).
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the caches are looked at meanwhile. They are in memory.
const LOOK: Duration = Duration::from_millis(25);
/// How often it is read although the caches show no change.
const READ: Duration = Duration::from_secs(2);
/// Searches that read or write at once.
const AT_ONCE: usize = 16;

/// Finds an account in the caches.
pub type Find = dyn Fn(&str, &str) -> Option<Arc<OAuthAccount>> + Send + Sync;
/// The version of an account's token Secret, as the caches have it.
pub type Mark = dyn Fn(&OAuthAccount, &str) -> Option<String> + Send + Sync;

/// What a search ended with.
#[derive(Clone, Debug)]
pub enum Ending {
    /// A token, and whether it had to be waited for.
    Token(Box<Record>, bool),
    /// None, and when to ask again.
    Refused(Obstacle, Option<Timestamp>),
    /// None came in time.
    TookTooLong,
    /// The account is gone.
    Gone,
    /// The API server does not answer.
    Unreachable,
}

/// What somebody wants: namespace, name, and the fingerprint of the token that was refused.
type Wish = (String, String, Option<String>);
type Flight = Shared<BoxFuture<'static, Ending>>;

/// The searches of one replica.
pub struct Flights {
    /// Everything outside.
    pub world: Arc<World>,
    /// What the configuration says of all accounts.
    pub policy: Policy,
    /// Finds an account.
    pub find: Box<Find>,
    /// Knows the version of a token Secret.
    pub mark: Box<Mark>,
    under_way: Mutex<HashMap<Wish, Flight>>,
    places: Semaphore,
}

impl Flights {
    /// None yet.
    pub fn new(world: Arc<World>, policy: Policy, find: Box<Find>, mark: Box<Mark>) -> Self {
        Self { world, policy, find, mark, under_way: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }

    /// The published token, where it is not the refused one: read anew, whoever else does. Asks nobody for another one.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn at_hand(&self, found: &OAuthAccount, rejected: Option<&str>) -> Result<Option<Record>, ApiError> {
        let published = self.published(found).await?;
        Ok(published.filter(|record| demand::is_news(record, rejected, clock::now())))
    }

    /// A token of this account that is not the refused one, or why there is none. Whoever wants the same at the same time
    /// shares what comes of it; whoever goes away ends nothing.
    pub async fn search(self: &Arc<Self>, namespace: &str, name: &str, rejected: Option<&str>) -> Ending {
        let wish = (namespace.to_owned(), name.to_owned(), rejected.map(str::to_owned));
        let flight = self.flight(wish);
        tokio::time::timeout(PATIENCE, flight).await.unwrap_or(Ending::TookTooLong)
    }

    fn flight(self: &Arc<Self>, wish: Wish) -> Flight {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = under_way.get(&wish) {
            return flight.clone();
        }
        let (flights, key) = (self.clone(), wish.clone());
        let flight = async move {
            let ending = tokio::time::timeout(PATIENCE, flights.drive(&key)).await.unwrap_or(Ending::TookTooLong);
            flights.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            ending
        };
        let flight = flight.boxed().shared();
        under_way.insert(wish, flight.clone());
        tokio::spawn(flight.clone());
        flight
    }

    async fn drive(&self, (namespace, name, rejected): &Wish) -> Ending {
        let mut waited = false;
        loop {
            let Some(found) = (self.find)(namespace, name) else { return Ending::Gone };
            let before = self.told(&found);
            match self.look(&found, rejected.as_deref(), waited).await {
                Ok(Some(ending)) => return ending,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(namespace, name, %error, "a newer token could not be looked for");
                    return Ending::Unreachable;
                }
            }
            waited = true;
            let began = clock::uptime();
            while clock::uptime().saturating_sub(began) < READ {
                tokio::time::sleep(LOOK).await;
                let now = (self.find)(namespace, name).map(|found| self.told(&found));
                if now.as_ref() != Some(&before) {
                    break;
                }
            }
        }
    }

    /// What the caches tell of an account: version of the account and of its token Secret, and whether a demand waits.
    fn told(&self, found: &OAuthAccount) -> (Option<String>, Option<String>, Option<Timestamp>) {
        let metadata = &found.metadata;
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        let demanded = self.world.logins.demanded(&state_secret_name(namespace, name));
        (metadata.resource_version.clone(), (self.mark)(found, &token_secret_name(found)), demanded)
    }

    /// One look; `None` where there is something to wait for.
    async fn look(&self, found: &OAuthAccount, rejected: Option<&str>, waited: bool) -> Result<Option<Ending>, ApiError> {
        // The semaphore is never closed.
        let _place = self.places.acquire().await;
        let metadata = &found.metadata;
        let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        let client = &self.world.cluster.objects;
        let is_news = |record: &&Record| demand::is_news(record, rejected, clock::now());
        // Whoever refuses none need not have the very newest.
        if rejected.is_none()
            && !waited
            && let Some(record) = self.recently(found).await?.filter(|record| is_news(&record))
        {
            return Ok(Some(Ending::Token(Box::new(record), waited)));
        }
        let published = self.published(found).await?;
        if let Some(record) = published.as_ref().filter(is_news) {
            return Ok(Some(Ending::Token(Box::new(record.clone()), waited)));
        }
        let plan = Plan::of(found).and_then(|plan| plan.permitted(&self.policy));
        let stored = secrets::secret(client, &self.world.namespace, &state_secret_name(namespace, name)).await?;
        let stored = state_view(stored, &self.world.keyring.current());
        match demand::judge(found, &plan, published.as_ref(), &stored, clock::now()) {
            Verdict::Wait => Ok(None),
            Verdict::Refuse(obstacle, again) => {
                // The record may tell of a token that was published after the Secret was read: it is no obstacle then.
                let news = self.published(found).await?.filter(|record| is_news(&record));
                let ending = news.map_or(Ending::Refused(obstacle, again), |record| Ending::Token(Box::new(record), waited));
                Ok(Some(ending))
            }
            Verdict::Demand(state) => self.demand(&state, &stored).await,
        }
    }

    /// The token that is published now.
    async fn published(&self, found: &OAuthAccount) -> Result<Option<Record>, ApiError> {
        let namespace = found.metadata.namespace.as_deref().unwrap_or_default();
        Ok(record(secrets::secret(&self.world.cluster.objects, namespace, &token_secret_name(found)).await?, found))
    }

    /// The token that was published a moment ago: the watch tells when there is another one.
    async fn recently(&self, found: &OAuthAccount) -> Result<Option<Record>, ApiError> {
        let namespace = found.metadata.namespace.as_deref().unwrap_or_default();
        let recent = self.world.recent.secret(&self.world.cluster.objects, namespace, &token_secret_name(found)).await?;
        Ok(record(recent.map(|secret| (*secret).clone()), found))
    }

    /// Writes the demand in place of the record that was read.
    async fn demand(&self, state: &State, over: &StateView) -> Result<Option<Ending>, ApiError> {
        let over: Option<&Version> = match over {
            StateView::Stored { version, .. } => Some(version),
            StateView::Absent | StateView::Unreadable { .. } => None,
        };
        let sealing = self.world.keyring.sealing();
        let (client, secret) = (&self.world.cluster.objects, state_manifest(&self.world.namespace, state, over, &sealing));
        let written = match over {
            Some(_) => secrets::replace(client, &secret).await?,
            None => secrets::create(client, &secret).await?,
        };
        let count = |result: &str| self.world.metrics.state_writes.with_label_values(&[result]).inc();
        match written {
            Written::Stored { .. } => {
                count("success");
                Ok(None)
            }
            // Somebody else was faster, perhaps with the same.
            Written::Conflict => {
                count("conflict");
                Ok(None)
            }
            Written::NamespaceGone => Ok(Some(Ending::Unreachable)),
            Written::Refused(words) => {
                count("refused");
                let (namespace, name) = (&state.account.namespace, &state.account.name);
                tracing::warn!(namespace, name, "the wish for a newer token could not be written down: {words}");
                let sentence = "The operator may not write down that a newer token is wanted; ask whoever runs it.";
                Ok(Some(Ending::Refused(Obstacle::new(Because::RecordUnusable, sentence), None)))
            }
        }
    }
}

/// The token in a Secret, where that is the account's.
fn record(secret: Option<Secret>, found: &OAuthAccount) -> Option<Record> {
    let reported = found.status.as_ref().and_then(|status| status.token.as_ref());
    match view(secret, found, reported) {
        TokenSecretView::Ours { record, .. } => record,
        TokenSecretView::Absent | TokenSecretView::Foreign(_) | TokenSecretView::Departing(_) => None,
    }
}
