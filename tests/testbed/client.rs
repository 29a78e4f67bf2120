//! A client of the API server in this process.

use super::Result;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use oauth_operator::telemetry::metrics::Metrics;
use oauth_operator::world::cluster::Cluster;
use std::path::Path;

/// With the credentials of a kubeconfig. As prompt as kubectl, which does not wait for acknowledgements either.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &Default::default()).await?;
    Ok(Cluster::of(&config, &Metrics::new(1)?)?.watches)
}
