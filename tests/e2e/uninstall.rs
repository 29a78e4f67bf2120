//! The operator goes first, then the tenants: kinds and accounts stay until somebody deletes them, and nothing waits for an operator
//! that is gone.

use crate::scene::{SYSTEM, Scene};
use crate::testbed::Result;
use crate::testbed::story::Story;
use std::time::{Duration, Instant};

/// `helm uninstall`: no Pod is left; kinds, accounts, tokens and apps are.
pub async fn release(scene: &Scene, story: &Story<'_>) -> Result<()> {
    scene.helm(SYSTEM)?.run(&["uninstall", "oauth-operator", "--wait", "--timeout", "90s"])?;
    let kubectl = scene.node.cluster.kubectl();
    let left = || {
        let left = kubectl.run(&["get", "deployments,services,serviceaccounts,pods", "-n", SYSTEM, "-o", "name"])?;
        Ok(!left.contains("oauth-operator"))
    };
    scene.until("nothing of the release is left", SYSTEM, Duration::from_secs(60), left).await?;
    let kinds = kubectl.run(&["get", "crds", "-o", "name"])?;
    for kind in ["oauthaccounts", "workflows", "workflowruns"] {
        assert!(kinds.contains(&format!("{kind}.oauth-operator.dev")), "{kind} is kept: {kinds}");
    }
    assert!(story.get("bot").is_ok() && story.read_secret("bot-token")?.is_some());
    story.kubectl().run(&["wait", "--for=condition=Available", "deployment/app", "--timeout=10s"]).map(drop)
}

/// Namespaces with accounts, apps and records of logins, and the kinds, are deleted with no operator anywhere.
pub async fn namespaces(scene: &Scene) -> Result<()> {
    let kubectl = scene.node.cluster.kubectl();
    for namespace in ["apps", "team", SYSTEM, "team-system"] {
        let began = Instant::now();
        let deleted = kubectl.run(&["delete", "namespace", namespace, "--timeout=60s"]);
        deleted.map_err(|error| format!("{error}\n{}", scene.node.state(namespace)))?;
        println!("  namespace {namespace} was deleted in {:.1} s", began.elapsed().as_secs_f32());
    }
    kubectl.run(&[
        "delete",
        "crd",
        "--timeout=60s",
        "oauthaccounts.oauth-operator.dev",
        "workflows.oauth-operator.dev",
        "workflowruns.oauth-operator.dev",
    ])?;
    Ok(())
}
