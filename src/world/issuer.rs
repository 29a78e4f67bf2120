//! Who signs tokens of ServiceAccounts in this cluster, and with which keys: what every ServiceAccount may read of the API
//! server (OpenID Connect Discovery). Kept for a while.

use super::clock::uptime;
use super::{ApiError, call};
use http::Request;
use jsonwebtoken::jwk::JwkSet;
use kube::Client;
use serde::Deserialize;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex;

/// How long keys are believed. The API server publishes a new one long before it signs with it.
const KEPT: Duration = Duration::from_secs(600);
/// How soon keys are read again for a token by a key that is not among them.
const AGAIN: Duration = Duration::from_secs(30);

/// The issuer and its keys.
#[derive(Debug)]
pub struct Keys {
    /// Claim `iss` of its tokens.
    pub issuer: String,
    /// Its public keys.
    pub set: JwkSet,
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
}

/// The keys of this cluster's issuer, as they were read last.
#[derive(Default)]
pub struct Issuer {
    // One reads, and others wait for what it finds.
    read: Mutex<Option<(Duration, Arc<Keys>)>>,
    /// When they were last read only to be at hand, by the boot clock.
    fetched: std::sync::Mutex<Option<Duration>>,
}

impl Issuer {
    /// The keys as they were read a while ago, where one of them has this id: nothing is asked or waited for.
    pub fn at_hand(&self, id: Option<&str>) -> Option<Arc<Keys>> {
        let read = self.read.try_lock().ok()?;
        let (at, keys) = read.as_ref()?;
        let known = id.is_none_or(|id| keys.set.find(id).is_some());
        (known && uptime().saturating_sub(*at) < KEPT).then(|| keys.clone())
    }

    /// Reads the keys, to have them at hand the next time; now and then, whoever wants that, and whether or not it can be done.
    pub async fn fetch(&self, client: &Client) {
        let now = uptime();
        let before = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if before.is_none_or(|before| now.saturating_sub(before) >= AGAIN) {
            // Whoever cannot do without them says what is the matter.
            let _ = self.keys(client, None).await;
        }
    }

    /// The keys, among them one of this id if there is one.
    ///
    /// # Errors
    /// Where the API server does not answer, or does not let the operator read them.
    pub async fn keys(&self, client: &Client, id: Option<&str>) -> Result<Arc<Keys>, ApiError> {
        let mut read = self.read.lock().await;
        let now = uptime();
        if let Some((at, keys)) = &*read {
            let age = now.saturating_sub(*at);
            let known = id.is_none_or(|id| keys.set.find(id).is_some());
            if age < AGAIN || (age < KEPT && known) {
                return Ok(keys.clone());
            }
        }
        let Discovered { issuer } = document(client, "/.well-known/openid-configuration").await?;
        let set = document(client, "/openid/v1/jwks").await?;
        let keys = Arc::new(Keys { issuer, set });
        *read = Some((now, keys.clone()));
        Ok(keys)
    }
}

async fn document<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, ApiError> {
    let request = Request::get(path).body(vec![]).map_err(kube::Error::HttpError)?;
    call(client.request(request)).await
}
