//! Runs that somebody ends: from wherever they are, and with a word on what becomes of it elsewhere.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::story::{eventually, merge};
use crate::testbed::workflows::{Workflows, said, step, why};
use oauth_operator::api::{Notice, Phase, RunReason};
use serde_json::{Value, json};
use std::time::Duration;

fn alone(step: &Value) -> Value {
    json!({"workflowSpec": {"steps": [step]}})
}

fn hook(workflows: &Workflows<'_>, path: &str, body: &Value) -> Value {
    workflows.step("", path, &json!({"http": {"method": "POST", "body": body}}))["http"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_is_cancelled_before_anything_was_sent() -> Result<()> {
    let (workflows, _operator) = scene("wf-cancel-waiting").await?;
    workflows.api.hold("/open/held");
    workflows
        .workflow("one", &json!({"concurrencyPolicy": "Forbid", "steps": [workflows.step("a", "/open/held", &json!({}))]}))?;
    workflows.run("first", &json!({"workflowRef": {"name": "one"}}))?;
    workflows.api.until_arrived("/open/held", 1).await?;
    workflows.run("turn", &json!({"workflowRef": {"name": "one"}}))?;
    workflows.run("account", &alone(&workflows.step("a", "/open/x", &json!({"http": {"accountRef": {"name": "none"}}}))))?;
    workflows.run("workflow", &json!({"workflowRef": {"name": "none"}}))?;
    let retry = json!({"retry": {"limit": 9, "backoff": {"initialSeconds": 600, "maxSeconds": 600}}, "http": {"method": "POST"}});
    workflows.run("retry", &alone(&workflows.step("a", "/status/503", &retry)))?;

    workflows.until("turn", |status| said(status).1.contains("The run first of this workflow is under way")).await?;
    workflows.until("account", |status| said(status).0 == "AccountNotReady").await?;
    let missing = workflows.until("workflow", |status| said(status).1.contains("Workflow none does not exist")).await?;
    assert_eq!((missing.phase, said(&missing).0.as_str()), (Phase::Pending, "Pending"));
    workflows.until("retry", |status| status.steps.iter().any(|step| step.next_attempt_time.is_some())).await?;
    for name in ["turn", "account", "workflow", "retry"] {
        workflows.cancel(name)?;
        let status = workflows.until_ended(name, Phase::Cancelled).await?;
        assert_eq!(said(&status), ("CancelledByUser".to_owned(), "The run was cancelled.".to_owned()), "{name}");
        let ended = |step: &oauth_operator::api::StepStatus| {
            step.phase == Phase::Cancelled && step.cancellation.is_none() && step.next_attempt_time.is_none()
        };
        assert!(status.steps.iter().all(ended), "{name}: {status:?}");
    }
    assert_eq!(workflows.status("first")?.phase, Phase::Running);
    workflows.api.release();
    workflows.until_ended("first", Phase::Completed).await?;
    assert_eq!(workflows.api.requests_to("/open").len(), 1);
    assert_eq!(workflows.api.requests_to("/status").len(), 1);
    let back = ["patch", "workflowrun", "turn", "--type=merge", "-p", r#"{"spec":{"cancel":false}}"#];
    let refused = workflows.story.kubectl().try_run(&back).expect_err("it may not be taken back");
    assert!(refused.contains("`cancel` may not be taken back"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_dropped_and_status_says_whether_the_remote_side_knows() -> Result<()> {
    let (workflows, _operator) = scene("wf-cancel-running").await?;
    workflows.api.hold("/open/held");
    let held = |name: &str, patch: &Value| {
        let mut all = json!({"http": {"method": "POST", "timeoutSeconds": 600}});
        merge(&mut all, patch);
        let after = workflows.step("after", &format!("/open/after/{name}"), &json!({"dependsOn": ["held"]}));
        json!({"workflowSpec": {"steps": [workflows.step("held", &format!("/open/held/{name}"), &all), after]}})
    };
    let body = json!({"run": "${run.name}", "remote": "${remote}", "input": "${input}"});
    let cases = [
        ("silent", json!({"http": {"method": "GET"}}), None),
        ("unknown", json!({}), Some(Notice::NotSupported)),
        ("put", json!({"http": {"method": "PUT"}}), Some(Notice::NotSupported)),
        ("delivered", json!({"onCancel": hook(&workflows, "/open/told", &body)}), Some(Notice::Delivered)),
        ("failed", json!({"onCancel": hook(&workflows, "/status/500", &body)}), Some(Notice::Failed)),
    ];
    for (name, patch, _) in &cases {
        workflows.run(name, &held(name, patch))?;
    }
    workflows.api.until_arrived("/open/held", cases.len()).await?;
    for (name, _, cancellation) in &cases {
        workflows.cancel(name)?;
        let status = workflows.until_ended(name, Phase::Cancelled).await?;
        assert_eq!(said(&status).0, "CancelledByUser", "{name}");
        assert_eq!(
            (step(&status, "held").phase, step(&status, "held").cancellation),
            (Phase::Cancelled, *cancellation),
            "{name}"
        );
        assert_eq!(why(&status, "held").0, Some(RunReason::CancelledByUser), "{name}");
        assert_eq!((step(&status, "after").phase, step(&status, "after").cancellation), (Phase::Cancelled, None), "{name}");
        workflows.until_abandoned(&format!("/open/held/{name}"), 1).await?;
    }
    let told = workflows.api.requests_to("/open/told");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].body, json!({"run": "delivered", "remote": {"executeID": null, "logID": null}, "input": {}}));
    assert_eq!(workflows.api.requests_to("/status/500").len(), 1);
    assert_eq!(why(&workflows.status("failed")?, "held").1, "It was ended here; onCancel did not reach the remote side.");
    assert!(workflows.api.requests_to("/open/after").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_run_drops_its_request_and_sends_no_other() -> Result<()> {
    let (workflows, _operator) = scene("wf-delete").await?;
    workflows.api.hold("/open/held");
    // Left alone, it would be asked for ten minutes and then again.
    let patient = json!({"http": {"method": "POST", "timeoutSeconds": 600}, "retry": {"limit": 5}, "delivery": "AtLeastOnce"});
    let held = workflows.step("held", "/open/held", &patient);
    let after = workflows.step("after", "/open/after", &json!({"dependsOn": ["held"]}));
    workflows.run("gone", &json!({"workflowSpec": {"steps": [held, after]}}))?;
    workflows.api.until_arrived("/open/held", 1).await?;
    workflows.story.kubectl().run(&["delete", "workflowrun", "gone", "--timeout=20s"])?;
    assert!(workflows.find("gone")?.is_none());
    workflows.until_abandoned("/open/held", 1).await?;
    workflows.api.release();
    // Another one of that name is another run.
    workflows.run("gone", &alone(&workflows.step("b", "/open/b", &json!({}))))?;
    workflows.until_ended("gone", Phase::Completed).await?;
    let paths: Vec<_> = workflows.api.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/open/held", "/open/b"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_though_runs_are_under_way_in_it() -> Result<()> {
    let (workflows, operator) = scene("wf-namespace").await?;
    workflows.api.hold("/open/held");
    let spec = json!({"steps": [workflows.step("a", "/open/held", &json!({"http": {"method": "POST", "timeoutSeconds": 600}}))], "onComplete": hook(&workflows, "/open/told", &json!({}))});
    workflows.workflow("one", &spec)?;
    for name in ["first", "second"] {
        workflows.run(name, &json!({"workflowRef": {"name": "one"}}))?;
    }
    workflows.api.until_arrived("/open/held", 2).await?;
    let (kubectl, apps) = (workflows.story.cluster.kubectl(), workflows.story.apps.clone());
    kubectl.run(&["delete", "namespace", &apps, "--wait=false"])?;
    let gone = || Ok(kubectl.run(&["get", "namespace", &apps, "--ignore-not-found", "-o", "name"])?.is_empty().then_some(()));
    eventually(Duration::from_secs(60), gone).await?.ok_or("the namespace is still there")?;
    workflows.until_abandoned("/open/held", 2).await?;
    assert!(workflows.api.requests_to("/open/told").is_empty());
    let workers = operator.metric("controller_runtime_active_workers{controller=\"workflowrun\"}").await?;
    assert_eq!(workers, Some(0.0));
    Ok(())
}
