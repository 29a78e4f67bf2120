//! Tokens from the API server: each token Secret is watched by its name, which a Role can permit by `resourceNames`.

use super::account::Account;
use super::clock::now;
use super::credential::{Credential, Unusable};
use super::volume::note;
use crate::telemetry::proxy_metrics::ProxyMetrics;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Config};
use kube_runtime::WatchStreamExt;
use kube_runtime::watcher::{self, watch_object};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A Secret that is watched.
#[derive(Clone)]
pub struct Watched {
    /// Its namespace; none: the Pod's own.
    pub namespace: Option<String>,
    /// Its name.
    pub secret: String,
    /// Whose token it holds.
    pub account: Arc<Account>,
}

/// Watches the Secrets.
///
/// # Errors
/// Where there is no API server that can be talked to.
pub async fn run(mut secrets: watch::Receiver<Vec<Watched>>, metrics: ProxyMetrics) -> Result<(), String> {
    while secrets.borrow_and_update().is_empty() {
        if secrets.changed().await.is_err() {
            return Ok(());
        }
    }
    let mut config = Config::infer().await.map_err(|error| format!("accounts with `secret` need the API server: {error}"))?;
    // Proxy variables of the environment are nobody's configuration.
    config.proxy_url = None;
    let client = Client::try_from(config).map_err(|error| format!("accounts with `secret` need the API server: {error}"))?;
    loop {
        let current = secrets.borrow_and_update().clone();
        // Those of before end with their set.
        let mut following = JoinSet::new();
        for one in current {
            following.spawn(follow(client.clone(), one, metrics.clone()));
        }
        if secrets.changed().await.is_err() {
            return Ok(());
        }
    }
}

async fn follow(client: Client, watched: Watched, metrics: ProxyMetrics) {
    let Watched { namespace, secret, account } = watched;
    let api: Api<Secret> = match &namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::default_namespaced(client),
    };
    let mut seen = std::pin::pin!(watch_object(api, &secret).default_backoff());
    while let Some(event) = seen.next().await {
        match event {
            Ok(object) => {
                let data = object.and_then(|object| object.data);
                let read = data.map_or(Err(Unusable::Absent), |data| {
                    Credential::read(&data.into_iter().map(|(key, bytes)| (key, bytes.0)).collect())
                });
                note(account.read(read, now()), &account, &metrics);
            }
            // What is held stays: the API server's trouble is not the token's.
            Err(error) => {
                metrics.reloads.with_label_values(&[&account.name, "failed"]).inc();
                let error = words(&error);
                tracing::warn!(account = account.name, namespace, secret, error, "the Secret cannot be watched");
            }
        }
    }
}

/// What keeps it from being watched, in the API server's own words where it has some.
fn words(error: &watcher::Error) -> String {
    let status = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        error => return error.to_string(),
    };
    let advice = if status.is_forbidden() { "; a Role must allow get, list and watch of it by resourceNames" } else { "" };
    format!("{}{advice}", status.message)
}
