//! Stories about the operator on a real control plane, with a real authorization server. Each has namespaces of its own,
//! and an operator limited to them.

#![allow(clippy::disallowed_methods, reason = "tests read the clock to compare it with what they are told")]
#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod api;
mod at_rest;
mod authority;
mod bad_input;
mod chaos;
mod consent;
mod crash;
mod disaster;
mod dpop;
mod encryption;
mod fairness;
mod grants;
mod histories;
mod injection;
mod leadership;
mod lifecycle;
mod login;
mod lost_writes;
mod main_job;
mod monitoring;
mod probe;
mod proxy;
mod refresh_endpoint;
mod sidecar;
mod soak;
mod token_secret;
mod trust;
mod workflow;

use serde_json::{Value, json};
use testbed::Result;
use testbed::authorization_server::AuthorizationServer;
use testbed::cluster::Cluster;
use testbed::story::{Reach, Story};
use tokio::sync::OnceCell;

/// The control plane that the stories share.
async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_try_init(|| Cluster::start("cluster")).await
}

/// The authorization server that the stories share; each has clients of its own.
async fn provider() -> Result<&'static AuthorizationServer> {
    static PROVIDER: OnceCell<AuthorizationServer> = OnceCell::const_new();
    // reqwest asks for the process's TLS provider when its first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    PROVIDER.get_or_try_init(|| AuthorizationServer::start("provider")).await
}

/// A story with namespaces of its own, the provider's CA in the ConfigMap `provider-ca`, and that provider.
async fn story(name: &str) -> Result<(Story<'static>, &'static AuthorizationServer)> {
    let (provider, cluster) = (provider().await?, cluster().await?);
    let story = Story::begin(cluster, name, Reach::Tenant).await?;
    story.ca("provider-ca", &provider.ca)?;
    Ok((story, provider))
}

/// `spec.provider` for an issuer with its CA in a ConfigMap.
fn issuer(provider: &AuthorizationServer) -> Value {
    json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}})
}
