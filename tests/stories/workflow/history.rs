//! Runs that have ended go when their workflow says so, and none that has not.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::story::eventually;
use crate::testbed::workflows::Workflows;
use oauth_operator::api::Phase;
use serde_json::json;
use std::time::Duration;

/// Runs that are there, sorted.
fn runs(workflows: &Workflows<'_>) -> Result<Vec<String>> {
    let found = workflows.story.kubectl().run(&["get", "workflowruns", "-o", "name"])?;
    Ok(found.lines().filter_map(|line| line.rsplit('/').next().map(str::to_owned)).collect())
}

async fn until_left(workflows: &Workflows<'_>, left: &[&str]) -> Result<()> {
    let reached = eventually(Duration::from_secs(30), || Ok((runs(workflows)? == left).then_some(()))).await?;
    reached.ok_or_else(|| format!("{:?}", runs(workflows)).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_runs_stay_and_those_that_have_not_ended() -> Result<()> {
    let (workflows, _operator) = scene("wf-history").await?;
    workflows.api.hold("/open/held");
    let of = |name: &str, path: &str| json!({"workflowRef": {"name": name}, "input": {"path": path}});
    let step = workflows.step("a", "/${input.path}", &json!({"when": "input.path != 'skip'"}));
    let held = workflows.step("held", "/open/held", &json!({"when": "input.path == 'skip'"}));
    workflows.workflow("kept", &json!({"history": {"completed": 2, "failed": 1}, "steps": [step, held]}))?;
    for name in ["a-held-1", "a-held-2", "a-held-3", "a-held-4"] {
        workflows.run(name, &of("kept", "skip"))?;
    }
    workflows.api.until_arrived("/open/held", 4).await?;
    for (name, path, phase) in [
        ("good-1", "items", Phase::Failed),
        ("good-2", "text", Phase::Completed),
        ("good-3", "text", Phase::Completed),
        ("good-4", "text", Phase::Completed),
        ("nope-2", "none", Phase::Failed),
    ] {
        workflows.run(name, &of("kept", path))?;
        let ended = workflows.until_ended(name, phase).await;
        // One that is kept no longer may be gone before it was looked at.
        assert!(ended.is_ok(), "{ended:?}");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    until_left(&workflows, &["a-held-1", "a-held-2", "a-held-3", "a-held-4", "good-3", "good-4", "nope-2"]).await?;
    workflows.api.release();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_when_its_time_is_over() -> Result<()> {
    let (workflows, _operator) = scene("wf-ttl").await?;
    workflows.api.hold("/open/held");
    let spec = |path: &str, ttl: i32| json!({"history": {"ttlSecondsAfterFinished": ttl}, "steps": [workflows.step("a", path, &json!({}))]});
    workflows.workflow("short", &spec("/text", 3))?;
    workflows.run("by-name", &json!({"workflowRef": {"name": "short"}}))?;
    workflows.run("inline", &json!({"workflowSpec": spec("/text", 3)}))?;
    workflows.run("long", &json!({"workflowSpec": spec("/text", 600)}))?;
    workflows.run("under-way", &json!({"workflowSpec": spec("/open/held", 0)}))?;
    workflows.api.until_arrived("/open/held", 1).await?;
    for name in ["by-name", "inline", "long"] {
        workflows.until_ended(name, Phase::Completed).await?;
    }
    until_left(&workflows, &["long", "under-way"]).await?;
    workflows.api.release();
    until_left(&workflows, &["long"]).await
}
