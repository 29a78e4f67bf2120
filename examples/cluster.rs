//! The place for trying things by hand: control plane, authorization server and operator, until a signal ends them.
//! `make cluster` runs it: `cluster FOLDER` writes FOLDER/settings.env when everything is there. `cluster FOLDER control-plane`
//! starts that alone, for the tests of the chart, which install the operator themselves. `cluster FOLDER node` starts a control plane
//! and a node, in namespaces of their own, with the images that were built.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program for a terminal")]

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testbed::authorization_server::AuthorizationServer;
use testbed::cluster::{Cluster, binary};
use testbed::node::Node;
use testbed::story::{Reach, Story, account};
use testbed::{Result, namespaces, node_images, root};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: cluster FOLDER [control-plane | node]")?);
    let what = std::env::args().nth(2).unwrap_or_default();
    if what == "node" && namespaces::group().is_none() {
        return namespaces::run(&[&folder.display().to_string(), "node"], Duration::MAX).await;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    if what == "node" {
        let node = Node::start().await?;
        for name in ["oauth-operator", "oauth-proxy"] {
            node_images::import(&root().join(format!("target/images/{name}.tar")))?;
        }
        return settled(&folder, &[("KUBECONFIG", node.cluster.kubeconfig.display().to_string())], terminate.recv()).await;
    }
    if what == "control-plane" {
        let cluster = Cluster::start("control-plane").await?;
        return settled(&folder, &[("KUBECONFIG", cluster.kubeconfig.display().to_string())], terminate.recv()).await;
    }
    let cluster = Cluster::start("cluster").await?;
    let provider = AuthorizationServer::start("provider").await?;
    let story = Story::begin(&cluster, "try", Reach::All).await?;
    let operator = story.operator("oauth-operator").await?;

    let client = provider.register(60, "client_secret_basic").await?;
    story.ca("provider-ca", &provider.ca)?;
    story.secret("example-client", &[("client_secret", &client.secret)])?;
    cluster.kubectl().run(&["config", "set-context", "--current", "--namespace", &story.apps])?;
    let issuer = json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}});
    let manifest = serde_saphyr::to_string(&account("example", &issuer, &client, &json!({"scopes": ["read"]})))?;
    std::fs::write(folder.join("account.yaml"), manifest)?;
    std::fs::write(folder.join("provider-ca.crt"), &provider.ca)?;
    let at = |file: &str| folder.canonicalize().map(|folder| folder.join(file).display().to_string());
    let kubectl = binary("kubectl")?;
    let settings = [
        ("KUBECONFIG", cluster.kubeconfig.display().to_string()),
        ("PROVIDER_ISSUER", provider.issuer.clone()),
        ("PROVIDER_CA", at("provider-ca.crt")?),
        ("OPERATOR", format!("http://{}", operator.address)),
        ("OPERATOR_LOG", operator.process.log.display().to_string()),
        ("ACCOUNT", at("account.yaml")?),
        ("PATH", format!("{}:$PATH", kubectl.parent().ok_or("a folder")?.display())),
    ];
    settled(&folder, &settings, async {
        tokio::select! {
            _ = terminate.recv() => println!("asked to end"),
            ended = died(&operator.process) => println!("the operator ended: {ended}"),
        }
    })
    .await
}

/// Writes down where everything is, and waits for the end.
async fn settled(folder: &Path, settings: &[(&str, String)], end: impl Future) -> Result<()> {
    let lines: Vec<String> = settings.iter().map(|(key, value)| format!("export {key}=\"{value}\"\n")).collect();
    // Renamed, so that whoever waits for it finds it whole.
    std::fs::write(folder.join("settings.partial"), lines.concat())?;
    std::fs::rename(folder.join("settings.partial"), folder.join("settings.env"))?;
    println!("running");
    end.await;
    Ok(())
}

async fn died(process: &testbed::process::Process) -> std::process::ExitStatus {
    loop {
        if let Some(status) = process.ended() {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
