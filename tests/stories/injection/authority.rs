//! Whom the API server trusts for the webhook, whatever becomes of the operator's CA, of its replicas and of the webhook's object.

use super::{SOON, Scene, has_sidecar, pod};
use crate::testbed::Result;
use crate::testbed::process::free_port;
use crate::testbed::story::eventually;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::world::certificate::make_ca;
use serde_json::json;
use std::time::Duration;

/// Longer than the operator leaves the webhook and its CA unlooked at.
const LATER: Duration = Duration::from_secs(75);

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_trusts_the_webhook_whatever_becomes_of_its_ca() -> Result<()> {
    let scene = Scene::begin("injection-ca").await?;
    let kubectl = scene.story.cluster.kubectl().namespaced(&scene.story.system);
    // A CA whose successor is due.
    let ago = |hours| Timestamp::now() - SignedDuration::from_hours(hours);
    let old = make_ca(ago(9 * 30 * 24))?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "oauth-operator.dev/ca", "metadata": {"name": "oauth-operator-ca"},
        "stringData": {"ca.crt": old.root.certificate, "ca.key": old.key.expose()},
    });
    kubectl.apply(&secret.to_string())?;
    assert_eq!(scene.trusted()?, None, "the chart's has none");
    let operator = scene.operator("operator-1", scene.port).await?;
    scene.until_injecting().await?;
    let both = scene.published()?.ok_or("no CA is published")?;
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2, "{both}");
    assert_eq!(scene.trusted()?, Some(both.clone()), "the successor is trusted before it signs");

    // The successor signs, and is trusted: no Pod misses its sidecar.
    let told = json!({"stringData": {"next.announced": ago(25).to_string()}}).to_string();
    kubectl.run(&["patch", "secret", "oauth-operator-ca", "--type", "merge", "-p", &told])?;
    let turned = || {
        let (pod, _) = scene.rehearse(&pod("meanwhile", &json!({})))?;
        assert!(has_sidecar(&pod), "a Pod without it during the rotation");
        Ok(scene.trusted()?.filter(|now| *now != both))
    };
    let turned = eventually(LATER, turned).await?.ok_or("the caBundle does not follow")?;
    assert_eq!(scene.published()?, Some(turned.clone()));
    assert!(!turned.starts_with(&old.root.certificate) && turned.contains(old.root.certificate.trim()), "{turned}");
    scene.until_injecting().await?;

    // Somebody else's, written by hand.
    let foreign = make_ca(Timestamp::now())?.root.certificate;
    let damaged = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(foreign)
    };
    let place = "/webhooks/0/clientConfig/caBundle";
    scene.patch(&json!({"op": "replace", "path": place, "value": damaged}))?;
    eventually(LATER, || Ok(scene.trusted()?.filter(|now| *now == turned))).await?.ok_or("it is not healed")?;
    scene.until_injecting().await?;
    let patches = || {
        let writes = scene.story.writes_by_operator()?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(writes.iter().filter(|write| write.contains("mutatingwebhook")).count())
    };
    assert_eq!(patches()?, 3, "at the start, at the rotation, and over the foreign one");

    // Another replica serves as well, and goes on when the leader has ended.
    let port = free_port()?;
    let second = scene.operator("operator-2", port).await?;
    scene.patch(
        &json!({"op": "replace", "path": "/webhooks/0/clientConfig/url", "value": format!("https://127.0.0.1:{port}/inject")}),
    )?;
    let by_second = || Ok(Some(scene.rehearse(&pod("second", &json!({})))?.0).filter(has_sidecar));
    let injected = "oauth_operator_injections_total{result=\"injected\"}";
    eventually(SOON, by_second).await?.ok_or("the second replica does not inject")?;
    for _ in 0..50 {
        if second.metric(injected).await?.is_some_and(|count| count > 0.0) {
            break;
        }
        by_second()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(second.metric(injected).await?.is_some_and(|count| count > 0.0), "the API server has not asked it");
    drop(operator);
    assert!(has_sidecar(&scene.rehearse(&pod("alone", &json!({})))?.0));

    // The webhook goes, which is said once, and comes back.
    second.process.until("leading", SOON, async || second.leads().await).await?;
    scene.kubectl(&["delete", "mutatingwebhookconfiguration", &scene.hook])?;
    let missing = format!("MutatingWebhookConfiguration {} is not there", scene.hook);
    let said = || second.log().iter().filter(|line| line["msg"].as_str().is_some_and(|said| said.contains(&missing))).count();
    eventually(LATER, || Ok((said() > 0).then_some(()))).await?.ok_or("it is not said that the webhook is missing")?;
    let (status, health) = second.get("/healthz?verbose").await?;
    assert!(status == 200 && health.contains("injection: degraded (") && health.contains(&missing), "{health}");
    // Another look at what is still missing.
    tokio::time::sleep(Duration::from_secs(34)).await;
    let scene = Scene { port, ..scene };
    scene.install()?;
    eventually(LATER, || Ok(scene.trusted()?.filter(|now| *now == turned))).await?.ok_or("a new one has no caBundle")?;
    assert_eq!(said(), 1, "once");
    scene.until_injecting().await?;

    // Nobody answers: Pods are made all the same.
    drop(second);
    let (pod, _) = scene.rehearse(&pod("without", &json!({})))?;
    assert!(!has_sidecar(&pod), "{pod}");
    Ok(())
}
