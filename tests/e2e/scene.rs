//! What all the scenarios share: the node, the provider and a protected API beside it, and the chart of a clean checkout.

use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::helm::Helm;
use crate::testbed::node::Node;
use crate::testbed::process::folder;
use crate::testbed::relay::Relay;
use crate::testbed::resource_server::{ResourceServer, Seen};
use crate::testbed::story::{Story, eventually};
use crate::testbed::{Result, node_images, root};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The operator's namespace, as the documentation has it.
pub const SYSTEM: &str = "oauth-operator-system";

/// Seconds that tokens live: renewed after half of that at the earliest, and in Pods ten seconds later.
pub const LIFETIME: u32 = 60;

/// Values that a cluster of this network needs.
pub const VALUES: [&str; 2] = ["--set", "allowedCIDRs={192.0.2.0/24}"];

pub struct Scene {
    pub node: Node,
    pub provider: AuthorizationServer,
    pub api: ResourceServer,
    /// In front of `api`, under TLS.
    pub front: Relay,
    /// Folder of the chart.
    pub chart: String,
}

impl Scene {
    pub async fn begin() -> Result<Self> {
        let node = Node::start().await?;
        for name in ["oauth-operator", "oauth-proxy"] {
            node_images::import(&root().join(format!("target/images/{name}.tar")))?;
        }
        let provider = AuthorizationServer::start("provider").await?;
        let api = ResourceServer::start(&provider).await?;
        let front = Relay::before(&api.url(), &provider.ca).await?;
        Ok(Self { node, provider, api, front, chart: clean_checkout()?.display().to_string() })
    }

    /// Helm in a namespace.
    pub fn helm(&self, namespace: &str) -> Result<Helm> {
        Helm::new(4, &self.node.cluster.kubeconfig, namespace)
    }

    /// A namespace in which Pods must be `restricted`.
    pub fn restricted(&self, namespace: &str) -> Result<()> {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
        self.node.cluster.kubectl().apply(&namespace.to_string()).map(drop)
    }

    /// A tenant of an operator that is installed, with the CAs of provider and API.
    pub fn tenant(&self, apps: &str, system: &str) -> Result<Story<'_>> {
        let story = Story::beside(&self.node.cluster, apps, system)?;
        story.ca("provider-ca", &self.provider.ca)?;
        story.ca("api-ca", &self.front.ca)?;
        Ok(story)
    }

    /// `spec.provider` of accounts.
    pub fn issuer(&self) -> Value {
        json!({"issuer": self.provider.issuer, "caBundleRef": {"name": "provider-ca"}})
    }

    /// An account that obtains tokens of [`LIFETIME`] with client credentials.
    pub async fn account(&self, story: &Story<'_>, name: &str) -> Result<Client> {
        let client = self.provider.register(LIFETIME, "client_secret_basic").await?;
        story.account(name, &self.issuer(), &client, &json!({}))?;
        Ok(client)
    }

    /// Requests with tokens of a client that the API has answered.
    pub fn seen(&self, client: &Client) -> Vec<Seen> {
        self.api.seen().into_iter().filter(|seen| seen.client.as_ref() == Some(&client.id)).collect()
    }

    /// Waits for something; where it does not come, with what the cluster says of a namespace.
    pub async fn until(&self, what: &str, namespace: &str, limit: Duration, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
        let found = eventually(limit, || Ok(is()?.then_some(()))).await?;
        found.ok_or_else(|| format!("{what}: not within {limit:?}\n{}", self.node.state(namespace)).into())
    }
}

/// What is committed, and nothing that lies beside it.
fn clean_checkout() -> Result<PathBuf> {
    let folder = folder("checkout")?;
    let mut archive =
        Command::new("git").current_dir(root()).args(["archive", "HEAD", "charts"]).stdout(Stdio::piped()).spawn()?;
    let contents = archive.stdout.take().ok_or("no stdout")?;
    let unpacked = Command::new("tar").arg("-x").current_dir(&folder).stdin(contents).status()?;
    if !archive.wait()?.success() || !unpacked.success() {
        return Err("`git archive HEAD charts` has failed: the chart is taken from what is committed".into());
    }
    Ok(folder.join("charts/oauth-operator"))
}
