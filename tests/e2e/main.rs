//! The product on a real single-node cluster, as its users install it: the chart of a clean checkout, the images, Pods.
//! `make e2e` runs it; root only. The scenarios stand on each other and come in this order.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "it reads the clock and speaks to whoever runs it")]
#![allow(clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../testbed/mod.rs"]
mod testbed;

mod apps;
mod install;
mod monitoring;
mod namespaced;
mod outage;
mod refresh;
mod scene;
mod smoke;
mod uninstall;
mod upgrade;

use scene::Scene;
use std::time::{Duration, Instant};
use testbed::{Result, namespaces};

/// All of it, on a machine that has other things to do as well.
const LIMIT: Duration = Duration::from_secs(20 * 60);

#[test]
fn from_install_to_uninstall() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    if namespaces::group().is_none() {
        return runtime.block_on(namespaces::run(&["--exact", "from_install_to_uninstall", "--nocapture"], LIMIT));
    }
    // reqwest asks for the process's TLS provider when its first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(scenarios()).map_err(|error| {
        // As it is, for it has lines.
        eprintln!("\n{error}");
        "a scenario has failed, as told above".into()
    })
}

async fn scenarios() -> Result<()> {
    let scene = step("a cluster of one node", Scene::begin()).await?;
    step("Pods, names, logs", smoke::run(&scene.node)).await?;
    let (story, client) = step("helm install, and an account", install::run(&scene)).await?;
    step("a Deployment and a Job with the sidecar", apps::run(&scene, &story, &client, apps::Injection::Webhook)).await?;
    step("tokens are renewed under the running Pod", apps::rotation(&scene, &story, &client)).await?;
    step("the leader's Pod is deleted in mid-refresh", refresh::run(&scene, &story)).await?;
    step("Prometheus scrapes, and an alert fires", monitoring::run(&scene, &story)).await?;
    step("helm upgrade and helm rollback", upgrade::run(&scene, &story)).await?;
    apps::undisturbed(&story)?;
    step("the control plane is gone, and the leader dies with a reply", outage::run(&scene, &story)).await?;
    step("helm uninstall", uninstall::release(&scene, &story)).await?;
    step("an operator without any right in the cluster", namespaced::run(&scene)).await?;
    step("namespaces are deleted, with the operator gone", uninstall::namespaces(&scene)).await
}

/// Says what is tried, and how long it took.
async fn step<T>(what: &str, scenario: impl Future<Output = Result<T>>) -> Result<T> {
    println!("{what} ...");
    let began = Instant::now();
    let done = scenario.await.map_err(|error| format!("{what}: {error}"))?;
    println!("  {what}: {:.1} s", began.elapsed().as_secs_f32());
    Ok(done)
}
