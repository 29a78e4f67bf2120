//! `helm install`, and the first account is Ready.

use crate::scene::{SYSTEM, Scene, VALUES};
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::story::Story;
use std::time::{Duration, Instant};

/// From `helm install` to the first Ready account.
const FIRST_ACCOUNT: Duration = Duration::from_secs(5 * 60);

/// The tenant `apps` with its account `bot`.
pub async fn run(scene: &Scene) -> Result<(Story<'_>, Client)> {
    scene.restricted(SYSTEM)?;
    let helm = scene.helm(SYSTEM)?;
    let began = Instant::now();
    helm.run(&[&["install", "oauth-operator", &scene.chart], &VALUES[..], &["--set", "injection.enabled=true"]].concat())?;
    let story = scene.tenant("apps", SYSTEM)?;
    let client = scene.account(&story, "bot").await?;
    scene
        .until("the first account is Ready", SYSTEM, FIRST_ACCOUNT, || {
            Ok(story.condition("bot", "Ready")?.is_some_and(|(status, ..)| status == "True"))
        })
        .await?;
    let took = began.elapsed();
    println!(
        "  from `helm install` to the first Ready account: {:.1} s (at most {} s)",
        took.as_secs_f32(),
        FIRST_ACCOUNT.as_secs()
    );
    assert!(took < FIRST_ACCOUNT);
    scene.node.rolled_out(SYSTEM, "deployment/oauth-operator", Duration::from_secs(60))?;
    helm.run(&["test", "oauth-operator"]).map_err(|error| format!("{error}\n{}", scene.node.state(SYSTEM)))?;
    let webhook = || {
        let ca = "jsonpath={.webhooks[0].clientConfig.caBundle}";
        let webhook = ["get", "mutatingwebhookconfiguration", "oauth-operator-injection", "-o", ca];
        Ok(!scene.node.cluster.kubectl().run(&webhook)?.is_empty())
    };
    scene.until("the operator has told the API server its CA", SYSTEM, Duration::from_secs(60), webhook).await?;
    Ok((story, client))
}
