//! Schedules of workflows, as the operator keeps them.

use super::runs::scene;
use crate::story;
use crate::testbed::Result;
use crate::testbed::relay::Point;
use crate::testbed::story::eventually;
use crate::testbed::workflows::Workflows;
use jiff::{SignedDuration, Timestamp};
use oauth_operator::api::{Phase, Workflow, WorkflowRun};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::Duration;

/// What is scheduled.
fn spec(workflows: &Workflows<'_>, schedule: &Value) -> Value {
    let step = workflows.step("a", "/open/${input.topic}", &json!({}));
    json!({"schedule": schedule, "steps": [step], "outputs": {"path": "${steps.a.output.path}"}})
}

/// Waits until something holds of a workflow.
async fn until(workflows: &Workflows<'_>, name: &str, seconds: u64, what: impl Fn(&Workflow) -> bool) -> Result<Workflow> {
    let reached = || Ok(Some(workflows.get(name)?).filter(|workflow| what(workflow)));
    let reached = eventually(Duration::from_secs(seconds), reached).await?;
    reached.ok_or_else(|| format!("{name}: {:?}", workflows.get(name).map(|workflow| workflow.status)).into())
}

/// Waits until the operator has looked at a workflow as it is now.
async fn until_looked_at(workflows: &Workflows<'_>, name: &str) -> Result<Workflow> {
    let looked = |workflow: &Workflow| {
        let observed = workflow.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some() && observed == workflow.metadata.generation
    };
    until(workflows, name, 45, looked).await
}

fn ready(workflow: &Workflow) -> (String, String, String) {
    let condition = workflow.status.as_ref().and_then(|status| status.conditions.first());
    condition.map(|ready| (ready.status.clone(), ready.reason.clone(), ready.message.clone())).unwrap_or_default()
}

fn next(workflow: &Workflow) -> Option<Timestamp> {
    workflow.status.as_ref()?.next_schedule_time.as_ref().map(|next| next.0)
}

/// Names of the runs that the API server was asked to make by the operator.
fn asked_for(workflows: &Workflows<'_>) -> Result<Vec<String>> {
    let writes = workflows.story.writes_by_operator()?;
    Ok(writes.iter().filter_map(|write| write.strip_prefix("create workflowruns ")).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_says_when_it_runs_next_by_the_clock_of_its_time_zone() -> Result<()> {
    let (workflows, _operator) = scene("wf-next").await?;
    workflows.workflow("nightly", &spec(&workflows, &json!({"cron": "30 2 * * *", "timeZone": "Asia/Shanghai"})))?;
    let nightly = until_looked_at(&workflows, "nightly").await?;
    assert_eq!(ready(&nightly), ("True".into(), "Accepted".into(), "It can be run.".into()));
    let next_ = next(&nightly).ok_or("no next moment")?;
    assert_eq!(next_.strftime("%H:%M:%S").to_string(), "18:30:00", "half past two in Shanghai");
    let now = Timestamp::now();
    assert!(next_ > now && next_.duration_since(now) <= SignedDuration::from_hours(24), "{next_}");
    let wide = workflows.story.kubectl().run(&["get", "workflow", "nightly"])?;
    for words in ["SCHEDULE", "TIME ZONE", "NEXT", "LAST", "30 2 * * *", "Asia/Shanghai", &next_.to_string()] {
        assert!(wide.contains(words), "{words}: {wide}");
    }
    let kubectl = workflows.story.kubectl();
    // That changes nothing that its status speaks of.
    kubectl.run(&["label", "workflow", "nightly", "team=sales"])?;
    let patch = |patch: &Value| kubectl.run(&["patch", "workflow", "nightly", "--type=merge", "-p", &patch.to_string()]);
    patch(&json!({"spec": {"suspend": true}}))?;
    let suspended = until_looked_at(&workflows, "nightly").await?;
    assert_eq!((next(&suspended), ready(&suspended).0), (None, "True".into()));
    assert_eq!(kubectl.run(&["get", "workflow", "nightly", "-o", "jsonpath={.status.schedule}"])?, "");
    patch(&json!({"spec": {"suspend": false, "schedule": {"timeZone": "Asia/Kolkata"}}}))?;
    let moved = until_looked_at(&workflows, "nightly").await?;
    assert_eq!(next(&moved).map(|next| next.strftime("%H:%M").to_string()).as_deref(), Some("21:00"), "half past two in Kolkata");

    for (broken, words) in [
        (json!({"cron": "61 2 * * *"}), "spec.schedule: the minute `61` cannot be read"),
        (json!({"cron": "30 2 * * *", "timeZone": "Asia/Shangri-La"}), "`Asia/Shangri-La` is no time zone of the IANA database"),
        (json!({"cron": "0 0 30 2 *", "timeZone": "UTC"}), "never fires"),
    ] {
        patch(&json!({"spec": {"schedule": broken}}))?;
        let refused = until_looked_at(&workflows, "nightly").await?;
        let (status, reason, message) = ready(&refused);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "InvalidDefinition"), "{message}");
        assert!(message.contains(words), "{message}");
        assert_eq!(next(&refused), None);
    }
    assert_eq!(asked_for(&workflows)?, Vec::<String>::new());
    // Once when it was made, and once for each edit.
    let statuses = workflows.story.writes_by_operator()?.into_iter().filter(|write| write == "patch workflows/status nightly");
    assert_eq!(statuses.count(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_makes_one_run_though_the_leader_dies_as_it_makes_it_and_the_run_is_deleted() -> Result<()> {
    let (story, provider) = story("wf-tick").await?;
    let relay = story.cluster.relay().await?;
    let first = story.operator_behind("operator-1", &relay).await?;
    first.process.until("leading", Duration::from_secs(20), async || first.leads().await).await?;
    let second = story.operator("operator-2").await?;
    let workflows = Workflows::begin(story, provider).await?;
    let (before, schedule) =
        (Timestamp::now(), json!({"cron": "* * * * *", "startingDeadlineSeconds": 50, "input": {"topic": "sales"}}));
    let making = |path: &str| path.contains("/workflowruns") && !path.contains("/workflowruns/");
    let made = relay.hold(Point::Reply, move |passing| passing.method == "POST" && making(&passing.path));
    workflows.workflow("minutely", &spec(&workflows, &schedule))?;
    // At the next minute.
    made.hit(Duration::from_secs(75)).await?;
    first.process.signal(Signal::KILL);
    let after = Timestamp::now();
    let minutely = workflows.get("minutely")?;
    let status = minutely.status.clone().unwrap_or_default();
    let tick = status.last_schedule_time.ok_or("nothing was seen to")?.0;
    assert!(before < tick && tick <= after && tick.as_second() % 60 == 0, "{before} {tick} {after}");
    let name = format!("minutely-{}", tick.strftime("%Y%m%d%H%M"));
    assert_eq!(status.last_run_name.as_deref(), Some(name.as_str()));
    let run: WorkflowRun = workflows.find(&name)?.ok_or("no run")?;
    assert_eq!(run.spec.scheduled_time.map(|at| at.0), Some(tick));
    assert_eq!(run.spec.input, Some(json!({"topic": "sales"})));
    let owner = &run.metadata.owner_references.unwrap_or_default()[0];
    assert_eq!(
        (owner.kind.as_str(), &owner.name, Some(&owner.uid)),
        ("Workflow", &"minutely".to_owned(), minutely.metadata.uid.as_ref())
    );

    // It is gone before anybody else leads, who knows of it by the workflow's status alone.
    workflows.story.kubectl().run(&["delete", "workflowrun", &name])?;
    drop(made);
    second.process.until("leading", Duration::from_secs(30), async || second.leads().await).await?;
    // The next leader has looked when it says what is suspended now; a minute may have passed meanwhile.
    let suspend = json!({"spec": {"suspend": true}}).to_string();
    workflows.story.kubectl().run(&["patch", "workflow", "minutely", "--type=merge", "-p", &suspend])?;
    let suspended = until_looked_at(&workflows, "minutely").await?;
    assert_eq!(next(&suspended), None);
    let asked = asked_for(&workflows)?;
    assert_eq!(asked.iter().filter(|asked| **asked == name).count(), 1, "{asked:?}");
    assert!(asked.len() <= 2, "{asked:?}");
    assert!(workflows.find(&name)?.is_none(), "what was deleted stays so");

    // What a person makes is run though the schedule is suspended.
    workflows.run("by-hand", &json!({"workflowRef": {"name": "minutely"}, "input": {"topic": "returns"}}))?;
    let status = workflows.until_ended("by-hand", Phase::Completed).await?;
    assert_eq!(status.outputs, Some(json!({"path": "/open/returns"})));
    assert_eq!(status.scheduled_time, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_whose_run_the_api_server_does_not_take_is_told() -> Result<()> {
    let (workflows, _operator) = scene("wf-quota").await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"count/workflowruns.oauth-operator.dev": "0"}},
    });
    workflows.story.kubectl().apply(&quota.to_string())?;
    let counted = || -> Result<Option<()>> {
        let used = workflows.story.kubectl().run(&["get", "resourcequota", "none", "-o", "jsonpath={.status.used}"])?;
        Ok(used.contains("workflowruns").then_some(()))
    };
    eventually(Duration::from_secs(60), counted).await?.ok_or("the quota does not count")?;
    workflows.workflow("minutely", &spec(&workflows, &json!({"cron": "* * * * *"})))?;
    let told = || -> Result<Option<String>> {
        let events = workflows.story.kubectl().run(&[
            "get",
            "events",
            "-o",
            "jsonpath={range .items[*]}{.reason} {.regarding.name}{.involvedObject.name}: {.message}{.note}{'\\n'}{end}",
        ])?;
        Ok(events.lines().find(|line| line.starts_with("RunSkipped minutely")).map(str::to_owned))
    };
    let told = eventually(Duration::from_secs(75), told).await?.ok_or("nobody was told")?;
    assert!(told.contains("No run is made for") && told.contains("exceeded quota"), "{told}");
    assert!(workflows.get("minutely")?.status.unwrap_or_default().last_schedule_time.is_some());
    Ok(())
}
