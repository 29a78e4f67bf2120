//! `helm upgrade` to another image and other values, and `helm rollback`: accounts and apps do not notice.

use crate::scene::{SYSTEM, Scene};
use crate::testbed::story::Story;
use crate::testbed::{Result, node_images};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From `helm rollback` until the operator of before works.
const BACK: Duration = Duration::from_secs(2 * 60);
const SOON: Duration = Duration::from_secs(120);

pub async fn run(scene: &Scene, story: &Story<'_>) -> Result<()> {
    let before = image(scene)?;
    let repository = before.rsplit_once(':').ok_or("an image with a tag")?.0;
    node_images::tag(&before, &format!("{repository}:next"))?;
    let helm = scene.helm(SYSTEM)?;
    let values = ["--reuse-values", "--set", "image.tag=next", "--set", "log.level=debug"];
    helm.run(&[&["upgrade", "oauth-operator", &scene.chart], &values[..]].concat())?;
    scene.node.rolled_out(SYSTEM, "deployment/oauth-operator", SOON)?;
    assert_eq!(image(scene)?, format!("{repository}:next"));
    works(scene, story, 1).await?;

    let began = Instant::now();
    helm.run(&["rollback", "oauth-operator"])?;
    scene.node.rolled_out(SYSTEM, "deployment/oauth-operator", BACK)?;
    works(scene, story, 2).await?;
    let took = began.elapsed();
    println!(
        "  from `helm rollback` to a token by the operator of before: {:.1} s (at most {} s)",
        took.as_secs_f32(),
        BACK.as_secs()
    );
    assert!(took < BACK);
    assert_eq!(image(scene)?, before);
    Ok(())
}

/// Image of all the operator's Pods that are not on their way out.
fn image(scene: &Scene) -> Result<String> {
    let system = scene.node.cluster.kubectl().namespaced(SYSTEM);
    system.run(&["get", "deployment", "oauth-operator", "-o", "jsonpath={.spec.template.spec.containers[0].image}"])
}

/// Pods that ask for the sidecar would get it: the API server trusts the webhook of whoever runs now.
fn injects(story: &Story<'_>) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "asks", "annotations": {
            "oauth-operator.dev/inject": "bot", "oauth-operator.dev/proxy-upstream": "https://api.example.com",
        }},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "localhost/busybox:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    let made = story.kubectl().feed(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &pod.to_string())?;
    let made: Value = serde_json::from_str(&made)?;
    assert_eq!(made["spec"]["initContainers"][0]["name"], json!("oauth-proxy"), "{made}");
    Ok(())
}

/// It obtains a token when a person asks for one, and puts sidecars into Pods.
async fn works(scene: &Scene, story: &Story<'_>, minute: u8) -> Result<()> {
    let generation = || -> Result<i64> {
        let token = story.get("bot")?.status.unwrap_or_default().token;
        Ok(token.map_or(0, |token| token.generation))
    };
    let before = generation()?;
    let annotation = format!("oauth-operator.dev/refresh-requested-at=2026-02-01T00:0{minute}:00Z");
    story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "bot", &annotation])?;
    scene.until("a token on request", SYSTEM, SOON, || Ok(generation()? > before)).await?;
    injects(story)
}
