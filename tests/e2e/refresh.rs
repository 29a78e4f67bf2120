//! The Pod of the leader is deleted while a refresh token is being redeemed: the reply is waited for and kept, another Pod goes on.

use crate::scene::Scene;
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::relay::{Point, Relay};
use crate::testbed::story::Story;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

pub async fn run(scene: &Scene, story: &Story<'_>) -> Result<()> {
    let token_endpoint = Relay::before(&scene.provider.issuer, &scene.provider.ca).await?;
    story.ca("relay-ca", &token_endpoint.ca)?;
    let (client, refresh_token) = scene.provider.log_in(3600, "alice").await?;
    let custom = json!({"custom": {"tokenURL": format!("{}/token", token_endpoint.url)}, "caBundleRef": {"name": "relay-ca"}});
    story.login("login", &custom, &client, &refresh_token, &json!({}))?;
    story.until_ready("login").await?;

    let leader = leader(story)?;
    let held = token_endpoint.hold(Point::Reply, |passing| passing.path == "/token");
    ask(story, "login", 1)?;
    held.hit(SOON).await?;
    let system = scene.node.cluster.kubectl().namespaced(&story.system);
    system.run(&["delete", "pod", &leader, "--wait=false"])?;
    // The kubelet has told it to end; it waits for the reply, for which its container lives.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let ending = system.run(&["get", "pod", &leader, "-o", "jsonpath={.metadata.deletionTimestamp} {.status.phase}"])?;
    assert!(ending.contains('T') && ending.ends_with("Running"), "it is being deleted, and lives: {ending}");
    held.release();
    system.run(&["wait", "--for=delete", &format!("pod/{leader}"), "--timeout=40s"])?;
    story.until_generation("login", 2).await.map_err(|error| format!("{error}\n{}", scene.node.state(&story.system)))?;
    assert_eq!(redemptions(scene, &client).await?, [200, 200], "each refresh token was redeemed once");
    let another = || Ok(self::leader(story).is_ok_and(|another| another != leader));
    scene.until("another Pod leads", &story.system, SOON, another).await?;
    // And it goes on from what the one that is gone has kept.
    ask(story, "login", 2)?;
    story.until_generation("login", 3).await?;
    assert_eq!(redemptions(scene, &client).await?, [200, 200, 200]);
    assert_eq!(story.condition("login", "RefreshOutcomeUnknown")?, None);
    Ok(())
}

/// The Pod that leads.
pub fn leader(story: &Story<'_>) -> Result<String> {
    let system = story.cluster.kubectl().namespaced(&story.system);
    let holder = system.run(&["get", "lease", "oauth-operator", "-o", "jsonpath={.spec.holderIdentity}"])?;
    let pods: Value = serde_json::from_str(&system.run(&["get", "pods", "-o", "json"])?)?;
    let pod = pods["items"].as_array().into_iter().flatten().find(|pod| pod["metadata"]["uid"] == json!(holder));
    let name = pod.and_then(|pod| pod["metadata"]["name"].as_str());
    Ok(name.ok_or_else(|| format!("no Pod has the uid {holder:?}, which holds the Lease"))?.to_owned())
}

/// Asks for a refresh of an account.
pub fn ask(story: &Story<'_>, name: &str, minute: u8) -> Result<()> {
    let annotation = format!("oauth-operator.dev/refresh-requested-at=2026-01-01T00:0{minute}:00Z");
    story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", name, &annotation]).map(drop)
}

/// What the provider has answered to the client's refresh tokens, each of which came once.
pub async fn redemptions(scene: &Scene, client: &Client) -> Result<Vec<u64>> {
    let (mut tokens, answers): (Vec<String>, Vec<u64>) = scene.provider.redemptions(client).await?.into_iter().unzip();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), answers.len(), "no refresh token has come twice");
    Ok(answers)
}
