//! Runs of one workflow beside each other, and what kubectl shows of them.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::{Workflows, said, step};
use oauth_operator::api::{Notice, Phase};
use serde_json::json;

/// A workflow `name` of one held request, and runs of it in this order.
async fn begun(workflows: &Workflows<'_>, name: &str, policy: &str, runs: &[&str]) -> Result<()> {
    let held = workflows.step(
        "held",
        &format!("/open/held/{name}/${{run.name}}"),
        &json!({"http": {"method": "POST", "timeoutSeconds": 600}}),
    );
    workflows.workflow(name, &json!({"concurrencyPolicy": policy, "steps": [held]}))?;
    for (index, run) in runs.iter().enumerate() {
        if index > 0 {
            // Which is older shows in seconds.
            tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        }
        workflows.run(run, &json!({"workflowRef": {"name": name}}))?;
        if index == 0 {
            workflows.api.until_arrived(&format!("/open/held/{name}/{run}"), 1).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_one_workflow_run_together_or_wait_or_take_each_others_place() -> Result<()> {
    let (workflows, _operator) = scene("wf-policy").await?;
    workflows.api.hold("/open/held");
    begun(&workflows, "allow", "Allow", &["allow-1", "allow-2"]).await?;
    workflows.api.until_arrived("/open/held/allow", 2).await?;

    begun(&workflows, "forbid", "Forbid", &["forbid-1", "forbid-2", "forbid-3"]).await?;
    for waiting in ["forbid-2", "forbid-3"] {
        let status =
            workflows.until(waiting, |status| said(status).1.contains("The run forbid-1 of this workflow is under way")).await?;
        assert_eq!((status.phase, said(&status).0.as_str()), (Phase::Pending, "Pending"));
        assert!(said(&status).1.contains("concurrencyPolicy is Forbid"), "{}", said(&status).1);
    }

    begun(&workflows, "replace", "Replace", &["replace-1", "replace-2"]).await?;
    let status = workflows.until_ended("replace-1", Phase::Cancelled).await?;
    let message = "The run replace-2 has taken its place: concurrencyPolicy is Replace.";
    assert_eq!(said(&status), ("Replaced".to_owned(), message.to_owned()));
    assert_eq!(step(&status, "held").cancellation, Some(Notice::NotSupported));
    workflows.until_abandoned("/open/held/replace/replace-1", 1).await?;
    workflows.api.until_arrived("/open/held/replace/replace-2", 1).await?;

    workflows.api.release();
    for run in ["allow-1", "allow-2", "forbid-1", "forbid-2", "forbid-3", "replace-2"] {
        workflows.until_ended(run, Phase::Completed).await?;
    }
    let forbidden = workflows.api.requests_to("/open/held/forbid").into_iter().map(|request| request.path);
    let expected = ["forbid-1", "forbid-2", "forbid-3"].map(|run| format!("/open/held/forbid/{run}"));
    assert_eq!(forbidden.collect::<Vec<_>>(), expected, "the older one goes first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_takes_anothers_place_waits_until_the_remote_side_of_that_one_was_told() -> Result<()> {
    let (workflows, _operator) = scene("wf-replace-told").await?;
    workflows.api.hold("/open/held");
    workflows.api.hold("/open/told");
    let hook = workflows.step("", "/open/told", &json!({"http": {"method": "POST", "timeoutSeconds": 600}}))["http"].clone();
    let held = workflows.step(
        "held",
        "/open/held/${run.name}",
        &json!({"http": {"method": "POST", "timeoutSeconds": 600}, "onCancel": hook}),
    );
    workflows.workflow("one", &json!({"concurrencyPolicy": "Replace", "steps": [held]}))?;
    workflows.run("older", &json!({"workflowRef": {"name": "one"}}))?;
    workflows.api.until_arrived("/open/held/older", 1).await?;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    workflows.run("newer", &json!({"workflowRef": {"name": "one"}}))?;
    workflows.api.until_arrived("/open/told", 1).await?;
    let waiting = workflows.until("newer", |status| said(status).1.contains("older")).await?;
    assert_eq!(said(&waiting).1, "The run older of this workflow is being ended: concurrencyPolicy is Replace.");
    // The newer one goes before the older one has ended: that one ends all the same.
    workflows.story.kubectl().run(&["delete", "workflowrun", "newer"])?;
    workflows.api.release();
    let status = workflows.until("older", |status| status.phase.is_final()).await?;
    assert_eq!((status.phase, said(&status).0.as_str()), (Phase::Cancelled, "Replaced"));
    assert_eq!(step(&status, "held").cancellation, Some(Notice::Delivered));
    assert_eq!(workflows.api.requests_to("/open/held").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_lists_selects_and_waits_for_runs() -> Result<()> {
    let (workflows, _operator) = scene("wf-kubectl").await?;
    let kubectl = workflows.story.kubectl();
    workflows.api.hold("/open/held");
    begun(&workflows, "one", "Allow", &["busy"]).await?;
    begun(&workflows, "two", "Allow", &["other"]).await?;
    workflows.workflow("bad", &json!({"steps": [workflows.step("a", "/status/404", &json!({}))]}))?;
    workflows.run("bad", &json!({"workflowRef": {"name": "bad"}}))?;
    workflows.until_ended("bad", Phase::Failed).await?;
    let select = |selector: &str| -> Result<Vec<String>> {
        let found = kubectl.run(&["get", "owr", "--field-selector", selector, "-o", "name"])?;
        Ok(found.lines().filter_map(|line| line.rsplit('/').next().map(str::to_owned)).collect())
    };
    workflows.until("busy", |status| status.phase == Phase::Running).await?;
    assert_eq!(select("status.phase=Running,spec.workflowRef.name=one")?, ["busy"]);
    assert_eq!(select("status.phase=Running")?, ["busy", "other"]);
    assert_eq!(select("status.phase=Failed,spec.workflowRef.name=bad")?, ["bad"]);
    let table = kubectl.run(&["get", "workflowruns", "-o", "wide"])?;
    let heads: Vec<_> = table.lines().next().ok_or("a head")?.split_whitespace().collect();
    assert_eq!(heads, ["NAME", "WORKFLOW", "PHASE", "REASON", "STEPS", "STARTED", "ENDED", "MESSAGE", "AGE"]);
    let row =
        |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row("busy")[1..5], ["one", "Running", "Running", "0/1"], "{table}");
    assert_eq!(row("bad")[1..5], ["bad", "Failed", "StepFailed", "1/1"], "{table}");
    assert!(row("bad").join(" ").contains("Step a: The server answered HTTP 404."), "{table}");

    let waiting = kubectl.try_run(&["wait", "--for=condition=Succeeded", "owr/busy", "--timeout=1s"]);
    assert!(waiting.is_err_and(|error| error.contains("timed out")));
    workflows.api.release();
    let waited = kubectl.run(&["wait", "--for=condition=Succeeded", "owr/busy", "owr/other", "--timeout=30s"])?;
    assert_eq!(waited.matches("condition met").count(), 2, "{waited}");
    kubectl.run(&["wait", "--for=condition=Succeeded=False", "owr/bad", "--timeout=5s"])?;
    let table = kubectl.run(&["get", "workflows"])?;
    let heads: Vec<_> = table.lines().next().ok_or("a head")?.split_whitespace().collect();
    assert_eq!(heads[..4], ["NAME", "READY", "SCHEDULE", "TIME"], "{table}");
    assert!(table.lines().skip(1).all(|line| line.contains("True")), "{table}");
    Ok(())
}
