//! Runs at Coze: what was begun there is not begun twice.

use super::{SOON, Scene, steps};
use crate::issuer;
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, CozePlatform, Ending};
use crate::testbed::relay::{Passing, Point};
use crate::testbed::workflows::step;
use oauth_operator::api::{Phase, RunReason};
use serde_json::json;

async fn scene(name: &str, mode: &str, behaviour: Behaviour) -> Result<(Scene, CozePlatform)> {
    let (scene, provider) = (Scene::begin(name).await?, crate::provider().await?);
    let platform = CozePlatform::start(provider).await?;
    platform.behave("w", behaviour);
    let (story, client) = (&scene.workflows.story, provider.register(3600, "client_secret_basic").await?);
    story.ca("coze-ca", &platform.ca)?;
    let host = platform.url.trim_start_matches("https://");
    story.account("coze", &issuer(provider), &client, &json!({"allowedHosts": [host]}))?;
    story.until_ready("coze").await?;
    let coze = json!({
        "workflowID": "w", "baseURL": platform.url, "mode": mode, "parameters": {"topic": "sales"}, "poll": {"intervalSeconds": 1},
        "accountRef": {"name": "coze"}, "caBundleRef": {"name": "coze-ca"},
    });
    if mode == "Sync" {
        platform.gate.hold("/v1/workflow/run");
    }
    scene.workflows.run("run", &json!({"workflowSpec": {"steps": [{"name": "a", "coze": coze}]}}))?;
    Ok((scene, platform))
}

fn patience() -> Behaviour {
    Behaviour::Async { running_polls: 1000, ending: Ending::Success(json!({"n": 1})) }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_a_run_goes_on_at_coze_it_asks_on_and_begins_no_other() -> Result<()> {
    let (mut scene, platform) = scene("wf-kill-coze", "Async", patience()).await?;
    let begun = |step: &oauth_operator::api::StepStatus| step.remote.as_ref().and_then(|remote| remote.execute_id.clone());
    let status = scene.workflows.until("run", |status| status.steps.iter().any(|step| begun(step).is_some())).await?;
    let execution = platform.executions().pop().ok_or("no execution")?;
    assert_eq!(begun(step(&status, "a")), Some(execution.id.clone()));
    scene.kill().await?;
    let polls = platform.executions()[0].polls;
    scene.restart().await?;
    platform.gate.until_arrived(&format!("/v1/workflows/w/run_histories/{}", execution.id), polls + 1).await?;
    platform.finish(&execution.id, Ending::Success(json!({"n": 2})));
    let status = scene.workflows.until_ended("run", Phase::Completed).await?;
    assert_eq!(step(&status, "a").output, Some(json!({"n": 2})));
    assert_eq!((platform.executions().len(), step(&status, "a").attempts), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_the_id_of_a_run_at_coze_is_stored_it_begins_no_other() -> Result<()> {
    let (mut scene, platform) = {
        let (scene, platform) = scene("wf-kill-coze-id", "Sync", Behaviour::Echo).await?;
        (scene, platform)
    };
    // Sync: the answer never came.
    platform.gate.until_arrived("/v1/workflow/run", 1).await?;
    scene.kill().await?;
    platform.gate.release();
    scene.restart().await?;
    let status = scene.workflows.until_ended("run", Phase::Failed).await?;
    assert_eq!(step(&status, "a").reason, Some(RunReason::OutcomeUnknown));
    // Async: it came, and its id was not stored.
    let with_id = |passing: &Passing| {
        steps(passing).iter().any(|step| step.remote.as_ref().is_some_and(|remote| remote.execute_id.is_some()))
    };
    platform.behave("w", patience());
    let held = scene.relay.hold(Point::Request, with_id);
    let mut spec = scene.workflows.find("run")?.ok_or("no run")?.spec.workflow_spec.ok_or("no workflow")?;
    spec.steps[0].coze.as_mut().ok_or("no coze")?.mode = oauth_operator::api::CozeMode::Async;
    scene.workflows.run("another", &json!({"workflowSpec": spec}))?;
    held.hit(SOON).await?;
    scene.kill().await?;
    held.abandon();
    scene.restart().await?;
    let status = scene.workflows.until_ended("another", Phase::Failed).await?;
    assert_eq!(step(&status, "a").reason, Some(RunReason::OutcomeUnknown));
    assert_eq!(platform.executions().len(), 2, "one of each run");
    Ok(())
}
