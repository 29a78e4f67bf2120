//! An operator with Roles in its own and its tenant's namespace, and no right in the cluster: installed beside kinds that are there
//! already, it serves accounts and renews a token that was taken back.

use crate::apps;
use crate::scene::{Scene, VALUES};
use crate::testbed::Result;
use serde_json::{Value, json};
use std::time::Duration;

const SYSTEM: &str = "team-system";
const TEAM: &str = "team";

pub async fn run(scene: &Scene) -> Result<()> {
    scene.restricted(SYSTEM)?;
    scene.restricted(TEAM)?;
    let helm = scene.helm(SYSTEM)?;
    let values = ["--set", "rbac.scope=Namespaced", "--set", "watchNamespaces={team}", "--set", "crds.enabled=false"];
    helm.run(&[&["install", "oauth-operator", &scene.chart], &VALUES[..], &values].concat())?;
    scene.node.rolled_out(SYSTEM, "deployment/oauth-operator", Duration::from_secs(90))?;
    assert_eq!(rights_in_the_cluster(scene)?, Vec::<String>::new());
    let elsewhere = scene.tenant("apps", SYSTEM)?;
    scene.account(&elsewhere, "unseen").await?;
    let story = scene.tenant(TEAM, SYSTEM)?;
    let client = scene.account(&story, "bot").await?;
    story.until_ready("bot").await.map_err(|error| format!("{error}\n{}", scene.node.state(SYSTEM)))?;
    apps::run(scene, &story, &client, apps::Injection::Command).await?;
    apps::rotation(scene, &story, &client).await?;
    // Accounts elsewhere are none of its business: this one was applied first, and nobody has looked at it.
    let unseen = elsewhere.get("unseen")?;
    assert!(
        unseen.status.is_none_or(|status| status.observed_generation.is_none()),
        "an account that it does not serve was looked at"
    );
    let account = format!("--as=system:serviceaccount:{SYSTEM}:oauth-operator");
    for (verb, what, namespace) in
        [("list", "oauthaccounts.oauth-operator.dev", "apps"), ("get", "secrets", "apps"), ("list", "secrets", "kube-system")]
    {
        let answer = scene.node.cluster.kubectl().try_run(&["auth", "can-i", verb, what, "--namespace", namespace, &account]);
        assert!(answer.is_err(), "it may {verb} {what} in {namespace}");
    }
    let own = ["auth", "can-i", "list", "oauthaccounts.oauth-operator.dev", "--namespace", TEAM, &account];
    scene.node.cluster.kubectl().run(&own)?;
    helm.run(&["uninstall", "oauth-operator", "--wait"]).map(drop)
}

/// Bindings in the cluster that name a ServiceAccount of the operator's namespace.
fn rights_in_the_cluster(scene: &Scene) -> Result<Vec<String>> {
    let bindings = scene.node.cluster.kubectl().run(&["get", "clusterrolebindings", "-o", "json"])?;
    let bindings: Value = serde_json::from_str(&bindings)?;
    let theirs = |binding: &&Value| {
        binding["subjects"].as_array().into_iter().flatten().any(|subject| subject["namespace"] == json!(SYSTEM))
    };
    let found = bindings["items"].as_array().into_iter().flatten().filter(theirs);
    Ok(found.map(|binding| binding["metadata"]["name"].to_string()).collect())
}
