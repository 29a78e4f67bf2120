//! A run is of its workflow as it was when the run began, whatever becomes of that.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::operator::Operator;
use crate::testbed::workflows::{Workflows, said, step};
use oauth_operator::api::{Notice, Phase};
use serde_json::{Value, json};

fn of(workflow: &str) -> Value {
    json!({"workflowRef": {"name": workflow}})
}

/// A workflow whose second step tells which version it is, and who is told of its end.
fn version(workflows: &Workflows<'_>, version: u32) -> Result<()> {
    let first = workflows.step("first", "/open/held/${run.name}", &json!({}));
    let second = workflows.step("second", &format!("/open/version/{version}/${{run.name}}"), &json!({"dependsOn": ["first"]}));
    let told = workflows.step("", "/open/told", &json!({"http": {"method": "POST"}}))["http"].clone();
    workflows.workflow("one", &json!({"steps": [first, second], "onComplete": told}))
}

fn revisions(workflows: &Workflows<'_>) -> Result<Vec<String>> {
    let found = workflows.story.kubectl().run(&["get", "controllerrevisions", "-o", "name"])?;
    Ok(found.lines().filter_map(|line| line.rsplit('/').next().map(str::to_owned)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn editing_or_deleting_a_workflow_changes_no_run_in_progress() -> Result<()> {
    let (workflows, operator) = scene("wf-snapshot").await?;
    workflows.api.hold("/open/held");
    version(&workflows, 1)?;
    for run in ["a", "b"] {
        workflows.run(run, &of("one"))?;
    }
    workflows.api.until_arrived("/open/held", 2).await?;
    let first = revisions(&workflows)?;
    assert_eq!(first.len(), 1, "runs of one generation share it: {first:?}");
    version(&workflows, 2)?;
    workflows.run("c", &of("one"))?;
    workflows.api.until_arrived("/open/held", 3).await?;
    assert_eq!(revisions(&workflows)?.len(), 2);
    workflows.story.kubectl().run(&["delete", "workflow", "one"])?;
    // Also for an operator that has not seen what it was.
    drop(operator);
    let _next = workflows.story.operator("operator-2").await?;
    workflows.api.release();
    for (run, version, generation) in [("a", 1, 1), ("b", 1, 1), ("c", 2, 2)] {
        let status = workflows.until_ended(run, Phase::Completed).await?;
        assert_eq!(status.workflow_generation, Some(generation), "{run}");
        assert_eq!(workflows.api.requests_to(&format!("/open/version/{version}/{run}")).len(), 1, "{run}");
        assert_eq!(status.revision_name.as_ref() == Some(&first[0]), version == 1, "{run}");
    }
    assert_eq!(workflows.api.requests_to("/open/version").len(), 3);
    Ok(())
}

async fn restarted(workflows: &Workflows<'_>, operator: Operator) -> Result<Operator> {
    drop(operator);
    workflows.story.operator("operator-2").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_gone_or_another_one_ends_the_run_with_a_sentence() -> Result<()> {
    let (workflows, operator) = scene("wf-no-snapshot").await?;
    let kubectl = workflows.story.kubectl();
    workflows.api.hold("/open/held");
    workflows.api.hold("/open/told");
    version(&workflows, 1)?;
    workflows.run("deleted", &of("one"))?;
    workflows.run("ended", &of("one"))?;
    workflows.api.until_arrived("/open/held", 2).await?;
    version(&workflows, 2)?;
    workflows.run("altered", &of("one"))?;
    workflows.api.until_arrived("/open/held/altered", 1).await?;
    workflows.cancel("ended")?;
    // Whoever is to be told of its end is being told.
    workflows.api.until_arrived("/open/told", 1).await?;
    let revision = |run: &str| -> Result<String> { Ok(workflows.status(run)?.revision_name.ok_or("it is pinned")?) };
    let (deleted, altered) = (revision("deleted")?, revision("altered")?);
    let mut other: Value = serde_json::from_str(&kubectl.run(&["get", "controllerrevision", &altered, "-o", "json"])?)?;
    other["data"]["steps"][1]["http"]["url"] = json!(format!("{}/open/evil", workflows.api.url));
    other["metadata"] = json!({"name": altered, "labels": other["metadata"]["labels"]});
    let changed = kubectl.feed(&["replace", "-f", "-"], &other.to_string()).expect_err("what is in one never changes");
    assert!(changed.contains("immutable"), "{changed}");
    kubectl.run(&["delete", "controllerrevision", &deleted, &altered])?;
    kubectl.feed(&["create", "-f", "-"], &other.to_string())?;

    let _next = restarted(&workflows, operator).await?;
    for (run, words) in [("deleted", "is gone"), ("altered", "holds something else than its name says")] {
        let status = workflows.until_ended(run, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!(reason, "InvalidDefinition", "{message}");
        assert!(message.contains("ControllerRevision one-") && message.contains(words), "{message}");
        assert_eq!(step(&status, "first").phase, Phase::Cancelled);
    }
    // Nobody knows any more whom to tell: that is said, and it is over.
    let status = workflows.until("ended", |status| status.completion == Some(Notice::Failed)).await?;
    assert_eq!((status.phase, said(&status).0.as_str()), (Phase::Cancelled, "CancelledByUser"));
    workflows.api.release();
    assert!(workflows.api.requests_to("/open/evil").is_empty() && workflows.api.requests_to("/open/version").is_empty());
    Ok(())
}
