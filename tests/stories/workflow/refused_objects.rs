//! What the API server refuses by itself, with no operator there.

use crate::story;
use crate::testbed::Result;
use serde_json::{Value, json};

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

fn step(patch: &Value) -> Value {
    let mut step = json!({"name": "a", "http": {"url": "https://api.example.com/x"}});
    crate::testbed::story::merge(&mut step, patch);
    step
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_makes_no_sense_is_refused_with_a_sentence() -> Result<()> {
    let (story, _) = story("wf-objects").await?;
    let kubectl = story.kubectl();
    let of = |patch: Value| json!({"steps": [step(&patch)]});
    let header = |name: &str| of(json!({"http": {"headers": [{"name": name, "value": "x"}]}}));
    let steps = |count: usize| -> Vec<_> { (0..count).map(|number| step(&json!({"name": format!("s{number}")}))).collect() };
    let refused: Vec<(Value, &str)> = vec![
        (of(json!({"coze": {"workflowID": "1"}})), "must set exactly one of `http` and `coze`"),
        (of(json!({"http": null})), "must set exactly one of `http` and `coze`"),
        (of(json!({"verify": {"url": "https://api.example.com/x"}})), "must set `verify` with `delivery: Verify`, and only then"),
        (of(json!({"delivery": "Verify"})), "must set `verify` with `delivery: Verify`, and only then"),
        (of(json!({"delivery": "ExactlyOnce"})), "supported values"),
        (of(json!({"name": "Upper"})), "spec.steps[0].name"),
        (of(json!({"name": "a".repeat(64)})), "may not be more than 63"),
        (of(json!({"http": {"url": "http://api.example.com/"}})), "spec.steps[0].http.url"),
        (of(json!({"http": {"url": "https://user:word@api.example.com/"}})), "spec.steps[0].http.url"),
        (of(json!({"http": {"url": "https://${input.host}/"}})), "spec.steps[0].http.url"),
        (of(json!({"http": {"url": "https://api.example.com${input.more}/"}})), "spec.steps[0].http.url"),
        (of(json!({"http": {"method": "TRACE"}})), "supported values"),
        (of(json!({"http": {"timeoutSeconds": 0}})), "timeoutSeconds"),
        (of(json!({"http": {"maxResponseBytes": 8388609}})), "maxResponseBytes"),
        (header("Authorization"), "may not set Authorization"),
        (header("content-LENGTH"), "may not set Authorization"),
        (header("Idempotency-Key"), "may not set Authorization"),
        (header("x y"), "headers[0].name"),
        (of(json!({"retry": {"limit": 21}})), "limit"),
        (json!({"steps": []}), "steps"),
        (json!({"steps": steps(65)}), "must have at most 64 items"),
        (json!({"steps": [step(&json!({})), step(&json!({}))]}), "Duplicate value"),
        (json!({"steps": [step(&json!({}))], "parallelism": 0}), "parallelism"),
        (json!({"steps": [step(&json!({}))], "concurrencyPolicy": "Queue"}), "supported values"),
    ];
    for (spec, words) in &refused {
        let said = kubectl.feed(&["create", "-f", "-"], &object("Workflow", "refused", spec));
        let said = said.expect_err(&format!("{spec} is taken"));
        assert!(said.to_lowercase().contains(&words.to_lowercase()), "{spec}: {said}");
    }
    let long = kubectl.feed(&["create", "-f", "-"], &object("Workflow", &"w".repeat(53), &of(json!({})))).expect_err("too long");
    assert!(long.contains("at most 52 characters"), "{long}");
    kubectl.feed(&["create", "-f", "-"], &object("Workflow", &"w".repeat(52), &json!({"steps": steps(64)})))?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_of_one_workflow_and_is_never_changed() -> Result<()> {
    let (story, _) = story("wf-immutable").await?;
    let kubectl = story.kubectl();
    let inline = json!({"steps": [step(&json!({}))]});
    let from = |source: Value| json!({"workflowRef": {"name": "w"}, "inputFrom": source});
    let refused: Vec<(Value, &str)> = vec![
        (json!({}), "must set exactly one of `workflowRef` and `workflowSpec`"),
        (
            json!({"workflowRef": {"name": "w"}, "workflowSpec": inline}),
            "must set exactly one of `workflowRef` and `workflowSpec`",
        ),
        (
            json!({"workflowRef": {"name": "w"}, "input": {}, "inputFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
            "may not set both `input` and `inputFrom`",
        ),
        (from(json!({})), "must set exactly one of `secretKeyRef` and `configMapKeyRef`"),
        (json!({"workflowSpec": {"schedule": {"cron": "* * * * *"}, "steps": [step(&json!({}))]}}), "may not have a schedule"),
        (json!({"workflowRef": {"name": "w".repeat(254)}}), "workflowRef.name"),
        (json!({"workflowRef": {"name": "w"}, "input": [1]}), "spec.input"),
    ];
    for (spec, words) in &refused {
        let said =
            kubectl.feed(&["create", "-f", "-"], &object("WorkflowRun", "refused", spec)).expect_err(&format!("{spec} is taken"));
        assert!(said.contains(words), "{spec}: {said}");
    }
    kubectl.feed(
        &["create", "-f", "-"],
        &object("WorkflowRun", "run", &json!({"workflowRef": {"name": "w"}, "input": {"a": {"b": 1}}})),
    )?;
    kubectl.feed(&["create", "-f", "-"], &object("WorkflowRun", "inline", &json!({"workflowSpec": inline})))?;
    let patch = |name: &str, patch: Value| {
        kubectl.try_run(&["patch", "workflowrun", name, "--type=merge", "-p", &json!({"spec": patch}).to_string()])
    };
    let changes = [
        ("run", json!({"workflowRef": {"name": "other"}})),
        ("run", json!({"workflowRef": null, "workflowSpec": inline})),
        ("run", json!({"input": {"a": {"b": 2}}})),
        ("run", json!({"input": {"c": 1}})),
        ("run", json!({"input": null})),
        ("run", json!({"scheduledTime": "2030-01-01T00:00:00Z"})),
        ("inline", json!({"workflowSpec": {"failFast": false}})),
        ("inline", json!({"input": {"late": true}})),
    ];
    for (name, change) in changes {
        let said = patch(name, change.clone());
        assert!(
            said.as_ref().is_err_and(|said| said.contains("a run may not be changed but for `cancel`")),
            "{change}: {said:?}"
        );
    }
    assert!(patch("run", json!({"cancel": true})).is_ok());
    let said = patch("run", json!({"cancel": false}));
    assert!(said.as_ref().is_err_and(|said| said.contains("`cancel` may not be taken back")), "{said:?}");
    let said = patch("run", json!({"cancel": null}));
    assert!(said.is_err(), "{said:?}");
    let long =
        kubectl.feed(&["create", "-f", "-"], &object("WorkflowRun", &"r".repeat(181), &json!({"workflowRef": {"name": "w"}})));
    assert!(long.is_err_and(|said| said.contains("at most 180 characters")));

    for (path, words) in [
        ("workflow.spec.steps", "One step of a workflow"),
        ("workflow.spec.steps.retry.retryWhen", "worth another attempt"),
        ("workflow.spec.concurrencyPolicy", "while another one of the same workflow is under way"),
        ("workflowrun.spec.cancel", "Whether the run is to end now"),
        ("workflowrun.status.steps.nextAttemptTime", "Before when it is not tried again"),
    ] {
        let explained = kubectl.run(&["explain", path])?;
        let text = explained.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words), "{path}: {explained}");
    }
    Ok(())
}
