//! Runs that go on at Coze by themselves, whatever happens to whoever asks for them.

use super::{Scene, only};
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, Dialect, Ending, Failure};
use crate::testbed::workflows::said;
use oauth_operator::api::{Notice, Phase, RunReason, WorkflowRunStatus};
use rustix::process::Signal;
use serde_json::json;
use std::time::Duration;

fn forever() -> Behaviour {
    Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel }
}

fn accepted(status: &WorkflowRunStatus) -> bool {
    only(status).remote.as_ref().is_some_and(|remote| remote.execute_id.is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_here_as_it_ends_there() -> Result<()> {
    let scene = Scene::begin("wf-coze-ends").await?;
    let ends = |ending| Behaviour::Async { running_polls: 1, ending };
    let failed = || Ending::Fail { code: 720_701_013, message: "node Code failed".into() };
    scene.ask("failed", "7001", ends(failed()), "Async", &json!({}))?;
    scene.ask("impatient", "7002", forever(), "Async", &json!({"coze": {"poll": {"timeoutSeconds": 3}}}))?;
    let status = scene.workflows.until_ended("failed", Phase::Failed).await?;
    let expected = "Step ask: The run failed at Coze, with code 720701013, \"node Code failed\".";
    assert_eq!(said(&status), ("StepFailed".into(), expected.into()));
    let remote = only(&status).remote.clone().unwrap_or_default();
    assert_eq!((remote.state.as_deref(), remote.execute_id.as_ref()), (Some("Fail"), Some(&scene.begun("7001")[0].id)));

    let status = scene.workflows.until_ended("impatient", Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!((reason.as_str(), only(&status).cancellation), ("Timeout", Some(Notice::NotSupported)));
    assert!(message.contains("poll.timeoutSeconds"), "{message}");

    scene.platform.speak(Dialect::CozeStudio);
    let studio = json!({"coze": {"dialect": "CozeStudio"}});
    scene.ask("studio-failed", "7003", ends(failed()), "Async", &studio)?;
    scene.ask("studio-cancelled", "7004", ends(Ending::Cancel), "Async", &studio)?;
    let status = scene.workflows.until_ended("studio-failed", Phase::Failed).await?;
    assert_eq!(said(&status), ("StepFailed".into(), expected.into()));
    let status = scene.workflows.until_ended("studio-cancelled", Phase::Failed).await?;
    assert_eq!(said(&status), ("StepFailed".into(), "Step ask: The run was cancelled at Coze.".into()));
    for workflow in ["7001", "7002", "7003", "7004"] {
        assert_eq!(scene.begun(workflow).len(), 1, "{workflow}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_cannot_be_read_for_a_while_ends_no_run() -> Result<()> {
    let scene = Scene::begin("wf-coze-history").await?;
    for failure in
        [Failure::server(), Failure::rate_limit(), Failure::new(200, 720_701_013, "busy"), Failure::server().with_http(200)]
    {
        scene.platform.fail_polls(1, &failure);
    }
    let ending = Ending::Success(json!({"n": 1}));
    scene.ask("patient", "7001", Behaviour::Async { running_polls: 1, ending }, "Async", &json!({}))?;
    let status = scene.workflows.until_ended("patient", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), only(&status).attempts), (Some(json!({"n": 1})), 1));
    assert_eq!((scene.requests("7001").len(), scene.begun("7001").len()), (7, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_operator_goes_on_asking_for_what_the_last_one_began() -> Result<()> {
    let mut scene = Scene::begin("wf-coze-restart").await?;
    scene.ask("asked", "7001", forever(), "Async", &json!({}))?;
    let asks = Behaviour::Interrupt {
        event_id: "1/2".into(),
        kind: 2,
        then: vec![crate::testbed::coze_platform::Frame::output(&json!({"n": 2})), crate::testbed::coze_platform::Frame::Done],
    };
    scene.ask("asks", "7002", asks, "Stream", &json!({}))?;
    scene.workflows.until("asked", accepted).await?;
    scene.workflows.until("asks", |status| said(status).0 == "Interrupted").await?;
    scene.until_asked("7001", |requests| requests.len() > 1).await?;
    scene.operator.process.signal(Signal::KILL);
    scene.operator.process.end_within(Duration::from_secs(20)).await.ok_or("it did not end")?;
    let (before, executor) = (scene.requests("7001").len(), scene.workflows.status("asked")?.executor);

    scene.operator = scene.workflows.story.operator("operator-2").await?;
    scene.until_asked("7001", |requests| requests.len() > before + 1).await?;
    scene.platform.finish(&scene.begun("7001")[0].id, Ending::Success(json!({"n": 1})));
    let status = scene.workflows.until_ended("asked", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), only(&status).attempts), (Some(json!({"n": 1})), 1));
    assert_ne!(status.executor, executor, "another process has worked on it");
    scene.answer("asks", Some("here"))?;
    let status = scene.workflows.until_ended("asks", Phase::Completed).await?;
    assert_eq!(only(&status).output, Some(json!({"n": 2})));
    assert_eq!((scene.begun("7001").len(), scene.begun("7002").len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_goes_keeps_a_run_waiting_and_may_come_back() -> Result<()> {
    let mut scene = Scene::begin("wf-coze-gone").await?;
    scene.ask("asked", "7001", forever(), "Async", &json!({}))?;
    scene.until_asked("7001", |requests| requests.len() > 1).await?;
    scene.workflows.until("asked", accepted).await?;
    scene.operator.process.signal(Signal::TERM);
    scene.operator.process.end_within(Duration::from_secs(30)).await.ok_or("it did not end")?;
    scene.workflows.story.kubectl().run(&[
        "patch",
        "oauthaccount",
        "coze",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ])?;
    scene.workflows.story.kubectl().run(&["delete", "oauthaccount", "coze", "--wait=false"])?;
    scene.operator = scene.workflows.story.operator("operator-2").await?;
    let waits = |status: &WorkflowRunStatus| said(status).0 == "AccountNotReady";
    let status = scene.workflows.until("asked", waits).await?;
    assert_eq!((only(&status).phase, only(&status).reason), (Phase::Running, Some(RunReason::AccountNotReady)));
    assert!(said(&status).1.contains("There is no OAuthAccount coze"), "{:?}", said(&status));
    let generation = scene.workflows.find("asked")?.and_then(|run| run.metadata.resource_version);

    scene.account()?;
    let before = scene.requests("7001").len();
    scene.until_asked("7001", |requests| requests.len() > before).await?;
    assert_ne!(scene.workflows.find("asked")?.and_then(|run| run.metadata.resource_version), generation);
    scene.platform.finish(&scene.begun("7001")[0].id, Ending::Success(json!("done")));
    let status = scene.workflows.until_ended("asked", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), scene.begun("7001").len()), (Some(json!("done")), 1));
    Ok(())
}
