//! Whose token goes where.

use super::{Scene, only};
use crate::issuer;
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, Ending};
use crate::testbed::workflows::said;
use oauth_operator::api::{Phase, WorkflowRunStatus};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_goes_nowhere_that_its_account_does_not_name() -> Result<()> {
    let scene = Scene::begin("wf-coze-where").await?;
    // Another provider's account does not say where Coze is.
    scene.ask("placeless", "7001", Behaviour::Echo, "Sync", &json!({"coze": {"baseURL": null}}))?;
    let status = scene.workflows.until_ended("placeless", Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!(reason, "InvalidDefinition", "{message}");
    assert!(message.contains("neither the preset Coze nor CozeCN") && message.contains("coze.baseURL"), "{message}");

    let hosts = json!({"allowedHosts": ["api.coze.cn"]});
    scene.workflows.story.account("strict", &issuer(scene.provider), &scene.client, &hosts)?;
    scene.workflows.story.until_ready("strict").await?;
    for mode in ["Sync", "Stream", "Async"] {
        let run = format!("elsewhere-{}", mode.to_lowercase());
        scene.ask(&run, "7002", Behaviour::Echo, mode, &json!({"coze": {"accountRef": {"name": "strict"}}}))?;
        let status = scene.workflows.until_ended(&run, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!((reason.as_str(), only(&status).attempts), ("PermissionDenied", 0), "{message}");
        assert!(message.contains(scene.host()) && message.contains("spec.allowedHosts"), "{message}");
    }
    assert!(scene.platform.requests().is_empty());

    // A host may be taken back while a run is asked for.
    let forever = Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel };
    scene.ask("taken-back", "7003", forever, "Async", &json!({}))?;
    scene.until_asked("7003", |requests| requests.len() > 1).await?;
    let patch = r#"{"spec":{"allowedHosts":["api.coze.cn"]}}"#;
    scene.workflows.story.kubectl().run(&["patch", "oauthaccount", "coze", "--type=merge", "-p", patch])?;
    let status = scene.workflows.until_ended("taken-back", Phase::Failed).await?;
    assert_eq!(said(&status).0, "PermissionDenied", "{:?}", said(&status));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_waits_for_its_account_says_so_and_goes_on_when_it_is_ready() -> Result<()> {
    let scene = Scene::begin("wf-coze-waits").await?;
    let late = json!({"coze": {"accountRef": {"name": "late"}}});
    scene.ask("waits", "7001", Behaviour::Echo, "Stream", &late)?;
    let says = |words: &'static str| {
        move |status: &WorkflowRunStatus| said(status).0 == "AccountNotReady" && said(status).1.contains(words)
    };
    let status = scene.workflows.until("waits", says("There is no OAuthAccount late in this namespace; create it.")).await?;
    assert_eq!((status.phase, status.conditions[0].status.as_str()), (Phase::Pending, "Unknown"));
    let client = scene.provider.register(3600, "client_secret_basic").await?;
    let hosts = json!({"allowedHosts": [scene.host()]});
    scene.workflows.story.account_alone("late", &issuer(scene.provider), &client, &hosts)?;
    let status = scene.workflows.until("waits", says("OAuthAccount late is not Ready: ")).await?;
    assert_eq!(status.phase, Phase::Pending);
    assert!(scene.platform.requests().is_empty());
    scene.workflows.story.secret("late-client", &[("client_secret", &client.secret)])?;
    let status = scene.workflows.until_ended("waits", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), only(&status).attempts), (Some(json!({"output": null})), 1));
    assert_eq!(scene.requests("7001").iter().map(|request| request.client.clone()).collect::<Vec<_>>(), [Some(client.id)]);
    Ok(())
}
