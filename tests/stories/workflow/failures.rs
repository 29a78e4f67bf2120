//! Attempts that fail: when another one is made, and what a failure means for the rest of the run.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::{said, step, why};
use oauth_operator::api::{Phase, RunReason};
use serde_json::{Value, json};

fn alone(step: Value) -> Value {
    json!({"workflowSpec": {"steps": [step]}})
}

fn retry(limit: i32, seconds: i32) -> Value {
    json!({"retry": {"limit": limit, "backoff": {"initialSeconds": seconds, "maxSeconds": seconds}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_is_made_where_that_may_help_and_no_more_than_allowed() -> Result<()> {
    let (workflows, _operator) = scene("wf-retry").await?;
    let post = |limit: i32, when: Option<&str>| {
        let mut patch = retry(limit, 1);
        patch["http"]["method"] = json!("POST");
        patch["retry"]["retryWhen"] = json!(when);
        patch
    };
    // Name, path, patch, reason of its end, attempts.
    let cases = [
        ("flaky", "/flaky/a?fail=2&code=503", retry(3, 1), "Completed", 3),
        ("limit", "/flaky/b?fail=9&code=503", retry(2, 1), "StepFailed", 3),
        ("rate", "/flaky/c?fail=9&code=429", post(1, None), "RateLimited", 2),
        ("none", "/flaky/d?fail=9&code=503", json!({}), "StepFailed", 1),
        ("wrong", "/flaky/e?fail=9&code=400", retry(3, 1), "StepFailed", 1),
        ("broken", "/flaky/f?fail=1&code=502", retry(3, 1), "Completed", 2),
        ("posted", "/flaky/g?fail=9&code=502", post(3, None), "StepFailed", 1),
        ("never", "/flaky/h?fail=9&code=503", post(3, Some("false")), "StepFailed", 1),
        (
            "always",
            "/flaky/i?fail=1&code=400",
            post(3, Some("response.status == 400 && response.body.attempt < 3")),
            "Completed",
            2,
        ),
        ("awry", "/flaky/j?fail=9&code=400", post(3, Some("response.body.nothing == 1")), "InvalidDefinition", 1),
    ];
    for (name, path, patch, ..) in &cases {
        workflows.run(name, &alone(workflows.step("a", path, patch)))?;
    }
    for (name, path, _, reason, attempts) in &cases {
        let status = workflows.until(name, |status| status.phase.is_final()).await?;
        let path = path.split('?').next().unwrap_or_default();
        let requests = workflows.api.requests_to(path);
        assert_eq!((said(&status).0.as_str(), step(&status, "a").attempts), (*reason, *attempts), "{name}: {status:#?}");
        assert_eq!(i32::try_from(requests.len())?, *attempts, "{name}");
        assert!(requests.iter().all(|request| request.header("idempotency-key") == requests[0].header("idempotency-key")));
    }
    let message = said(&workflows.status("limit")?).1;
    assert!(message.contains("HTTP 503") && message.contains("That was attempt 3"), "{message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_asks_for_is_waited_for_also_by_the_next_operator() -> Result<()> {
    let (workflows, operator) = scene("wf-retry-after").await?;
    let patch = json!({"retry": {"limit": 1, "backoff": {"initialSeconds": 1}}});
    workflows.run("patient", &alone(workflows.step("a", "/status/429?retry-after=12", &patch)))?;
    let waiting = workflows.until("patient", |status| status.steps.iter().any(|step| step.next_attempt_time.is_some())).await?;
    let (first, next) = (step(&waiting, "a").start_time.clone(), step(&waiting, "a").next_attempt_time.clone());
    let (first, next) = (first.ok_or("it was tried")?.0, next.ok_or("it is tried again")?.0);
    assert!(next.duration_since(first).as_secs() >= 12, "{first} {next}");
    assert_eq!((step(&waiting, "a").phase, step(&waiting, "a").attempts), (Phase::Pending, 1));
    assert_eq!(why(&waiting, "a").0, Some(RunReason::RateLimited));
    assert!(said(&waiting).1.contains("Attempt 1 failed, and is repeated: The server answered HTTP 429"), "{}", said(&waiting).1);
    drop(operator);
    let _next = workflows.story.operator("operator-2").await?;
    let ended = workflows.until_ended("patient", Phase::Failed).await?;
    assert_eq!((said(&ended).0.as_str(), step(&ended, "a").attempts), ("RateLimited", 2));
    let second = step(&ended, "a").start_time.clone().ok_or("it was tried again")?.0;
    assert!(second >= next, "{second} is before {next}");
    assert_eq!(workflows.api.requests_to("/status/429").len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_ends_the_run_or_the_rest_goes_on_as_the_workflow_says() -> Result<()> {
    let (workflows, _operator) = scene("wf-fail-fast").await?;
    workflows.api.hold("/open/held/");
    workflows.api.hold("/open/held-start/");
    let graph = |name: &str| {
        let bad = workflows.step("bad", &format!("/status/500?run={name}"), &json!({"dependsOn": ["start"]}));
        let after = workflows.step("after", &format!("/open/after/{name}"), &json!({"dependsOn": ["bad"]}));
        let held = workflows.step("held", &format!("/open/held/{name}"), &json!({"http": {"timeoutSeconds": 600}}));
        let last = workflows.step("last", &format!("/open/last/{name}"), &json!({"dependsOn": ["held"]}));
        let start = workflows.step("start", &format!("/open/held-start/{name}"), &json!({}));
        json!([start, bad, after, held, last])
    };
    for (name, fail_fast) in [("fast", true), ("slow", false)] {
        workflows.run(
            name,
            &json!({"workflowSpec": {"failFast": fail_fast, "steps": graph(name), "outputs": {"a": "${steps.last.output}"}}}),
        )?;
    }
    workflows.api.until_arrived("/open/held/", 2).await?;
    workflows.api.until_arrived("/open/held-start/", 2).await?;
    workflows.api.release_only("/open/held-start/");

    let fast = workflows.until_ended("fast", Phase::Failed).await?;
    assert_eq!(said(&fast).0, "StepFailed");
    assert!(said(&fast).1.starts_with("Step bad: The server answered HTTP 500"), "{}", said(&fast).1);
    let phases: Vec<_> = fast.steps.iter().map(|step| step.phase).collect();
    assert_eq!(phases, [Phase::Completed, Phase::Failed, Phase::Cancelled, Phase::Cancelled, Phase::Cancelled]);
    workflows.until_abandoned("/open/held/fast", 1).await?;

    let slow = workflows.until("slow", |status| step(status, "after").phase == Phase::Cancelled).await?;
    assert_eq!((slow.phase, step(&slow, "held").phase), (Phase::Running, Phase::Running));
    assert_eq!(why(&slow, "after").0, Some(RunReason::DependencyFailed));
    workflows.api.release();
    let slow = workflows.until_ended("slow", Phase::Failed).await?;
    assert_eq!((said(&slow).0.as_str(), step(&slow, "last").phase), ("StepFailed", Phase::Completed));
    assert!(said(&slow).1.starts_with("Step bad:"), "{}", said(&slow).1);
    assert!(workflows.api.requests_to("/open/after/").is_empty());
    assert!(workflows.api.requests_to("/open/last/fast").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_may_fail_gives_null_and_one_that_need_not_run_is_skipped() -> Result<()> {
    let (workflows, _operator) = scene("wf-continue").await?;
    let may = workflows.step("may", "/status/500", &json!({"onError": "Continue"}));
    let skipped =
        workflows.step("skipped", "/open/skipped", &json!({"dependsOn": ["may"], "when": "steps.may.phase == 'Completed'"}));
    let body = json!({"may": "${steps.may.output}", "status": "${steps.may.status}", "phase": "${steps.may.phase}", "skipped": "${steps.skipped.output}"});
    let last = workflows.step("last", "/open/last", &json!({"dependsOn": ["skipped"], "http": {"method": "POST", "body": body}}));
    let judged = workflows.step(
        "judged",
        "/open/judged",
        &json!({"http": {"successWhen": "response.body.path == '/nowhere'"}, "onError": "Continue"}),
    );
    workflows.run(
        "run",
        &json!({"workflowSpec": {"steps": [may, skipped, last, judged], "outputs": {"sent": "${steps.last.output.body}"}}}),
    )?;
    let status = workflows.until_ended("run", Phase::Completed).await?;
    assert_eq!(status.outputs, Some(json!({"sent": {"may": null, "status": 500, "phase": "Failed", "skipped": null}})));
    assert_eq!((step(&status, "may").phase, step(&status, "skipped").phase), (Phase::Failed, Phase::Completed));
    assert_eq!(why(&status, "skipped").0, Some(RunReason::Skipped));
    assert!(why(&status, "judged").1.contains("successWhen is false for the answer, HTTP 200"), "{:?}", why(&status, "judged"));
    assert!(workflows.api.requests_to("/open/skipped").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_cut_or_no_json_or_text_are_told_apart() -> Result<()> {
    let (workflows, _operator) = scene("wf-answers").await?;
    let post = json!({"http": {"method": "POST"}});
    workflows.run("cut-get", &alone(workflows.step("a", "/cut", &retry(1, 1))))?;
    workflows.run("cut-post", &alone(workflows.step("a", "/cut", &post)))?;
    workflows.run(
        "text",
        &json!({"workflowSpec": {"steps": [workflows.step("a", "/text", &json!({}))], "outputs": {"a": "${steps.a.output}"}}}),
    )?;
    workflows.run("lying", &alone(workflows.step("a", "/lying/200", &post)))?;
    workflows.run("busy", &alone(workflows.step("a", "/lying/503", &retry(1, 1))))?;
    workflows.run("forbidden", &alone(workflows.step("a", "/lying/403", &post)))?;

    assert_eq!(workflows.until_ended("text", Phase::Completed).await?.outputs, Some(json!({"a": "three words here"})));
    let status = workflows.until_ended("cut-post", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "a").attempts), ("OutcomeUnknown", 1));
    assert!(said(&status).1.contains("It may have been carried out all the same"), "{}", said(&status).1);
    let status = workflows.until_ended("cut-get", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "a").attempts), ("StepFailed", 2), "{}", said(&status).1);
    let status = workflows.until_ended("lying", Phase::Failed).await?;
    assert_eq!(said(&status).0, "StepFailed");
    assert!(said(&status).1.contains("says that it is JSON and is none, in line 1 column"), "{}", said(&status).1);
    // Whatever stands in the body of an answer that is none: its status says what to do.
    let status = workflows.until_ended("busy", Phase::Failed).await?;
    assert_eq!(step(&status, "a").attempts, 2, "{}", said(&status).1);
    let status = workflows.until_ended("forbidden", Phase::Failed).await?;
    assert_eq!(said(&status).0, "PermissionDenied");
    Ok(())
}
