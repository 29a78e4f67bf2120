//! Definitions: what steps have that do not say, and what cannot be used, with its place.

use super::decide_tests::play::{definition, step};
use super::definition::{CallPlan, Definition};
use crate::api::{Delivery, WorkflowSpec};
use serde_json::{Value, json};

fn refusal(spec: &Value) -> String {
    let parsed: WorkflowSpec = serde_json::from_value(spec.clone()).unwrap();
    Definition::of(&parsed).map(drop).expect_err(&format!("{spec} is understood")).to_string()
}

fn with(patch: &Value) -> Value {
    json!({"steps": [step("a", &[], patch.clone())]})
}

#[test]
fn a_step_that_does_not_say_has_what_its_workflow_and_its_method_say() {
    let request = |method: &str| json!({"method": method, "url": "https://api.example.com/x"});
    for (method, delivery) in [
        ("GET", Delivery::AtLeastOnce),
        ("HEAD", Delivery::AtLeastOnce),
        ("OPTIONS", Delivery::AtLeastOnce),
        ("PUT", Delivery::AtLeastOnce),
        ("DELETE", Delivery::AtLeastOnce),
        ("POST", Delivery::AtMostOnce),
        ("PATCH", Delivery::AtMostOnce),
    ] {
        assert_eq!(definition(&with(&json!({"http": request(method)}))).steps[0].delivery, delivery, "{method}");
        let said = json!({"http": request(method), "delivery": "AtMostOnce"});
        assert_eq!(definition(&with(&said)).steps[0].delivery, Delivery::AtMostOnce, "{method}");
    }
    let coze = json!({"name": "c", "coze": {"workflowID": "1", "accountRef": {"name": "own"}}});
    let spec = json!({
        "defaults": {"accountRef": {"name": "common"}, "retry": {"limit": 4}},
        "steps": [step("a", &[], json!({})), step("b", &[], json!({"retry": {"limit": 1}})), coze],
        "onComplete": {"url": "https://api.example.com/told"},
    });
    let understood = definition(&spec);
    assert_eq!(understood.steps.iter().map(|step| step.retries).collect::<Vec<_>>(), [4, 1, 4]);
    let accounts: Vec<_> = understood.steps.iter().map(|step| step.call.account()).collect();
    assert_eq!(accounts, [Some("common"), Some("common"), Some("own")]);
    let told = understood.on_complete.as_ref().expect("there is one");
    assert_eq!(told.account, None, "whoever is told of the end is seldom whom the steps ask");
    assert_eq!(understood.steps[2].delivery, Delivery::AtMostOnce);
    assert!(matches!(&understood.steps[2].call, CallPlan::Coze(_)) && !understood.steps[2].call.is_safe());
    let mut named: Vec<_> = understood.accounts().collect();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named, ["common", "own"]);
    assert_eq!((understood.parallelism, understood.fail_fast, understood.timeout.as_secs()), (5, true, 3600));
}

#[test]
fn what_cannot_be_used_is_told_with_its_place() {
    let get = |patch: Value| {
        let mut http = json!({"url": "https://api.example.com/x"});
        http.as_object_mut().unwrap().extend(patch.as_object().cloned().unwrap_or_default());
        with(&json!({"http": http}))
    };
    let hook = |member: &str, body: &str| {
        with(
            &json!({member: {"url": "https://api.example.com/x", "body": body}, "delivery": if member == "verify" { json!("Verify") } else { Value::Null }}),
        )
    };
    for (spec, words) in [
        (with(&json!({"when": "1 +"})), "spec.steps[a].when: "),
        (
            with(&json!({"when": "token == 1"})),
            "spec.steps[a].when: token is not known here; there are input, steps, run, workflow",
        ),
        (with(&json!({"when": "response.status == 200"})), "spec.steps[a].when: response is not known here"),
        (with(&json!({"output": {"a": ["${secrets.x}"]}})), "spec.steps[a].output: secrets is not known here"),
        (with(&json!({"retry": {"retryWhen": "outputs.x"}})), "spec.steps[a].retry.retryWhen: outputs is not known here"),
        (get(json!({"url": "https://${input.host}/x"})), "spec.steps[a].http.url: "),
        (get(json!({"url": "https://api.example.com${input.more}"})), "spec.steps[a].http.url: "),
        (get(json!({"url": "https://api.example.com/${response.status}"})), "spec.steps[a].http.url: response is not known here"),
        (get(json!({"body": "${"})), "spec.steps[a].http.body: "),
        (get(json!({"headers": [{"name": "x-a", "value": "${b}"}]})), "spec.steps[a].http.headers[x-a]: b is not known here"),
        (get(json!({"successWhen": "steps.b.output == 1"})), "spec.steps[a].http.successWhen: there is no step b"),
        (get(json!({"body": "${steps}"})), "spec.steps[a].http.body: steps is used as a whole; name each step"),
        (get(json!({"body": "${steps.a.output}"})), "spec.steps[a].http.body: the step a may not have ended by then"),
        (hook("verify", "${remote}"), "spec.steps[a].verify.body: remote is not known here"),
        (hook("onCancel", "${outputs}"), "spec.steps[a].onCancel.body: outputs is not known here"),
        (
            json!({"steps": [step("a", &[], json!({}))], "outputs": {"x": "${steps.b.output}"}}),
            "spec.outputs: there is no step b",
        ),
        (
            json!({"steps": [step("a", &[], json!({}))], "outputs": {"x": "${response.body}"}}),
            "spec.outputs: response is not known here",
        ),
        (json!({"steps": [step("a", &["a"], json!({}))]}), "spec.steps: "),
        (json!({"steps": [step("a", &["b"], json!({}))]}), "spec.steps: "),
        (json!({"steps": [step("a", &[], json!({}))], "inputs": {"schema": {"type": 7}}}), "spec.inputs.schema: "),
        (json!({"steps": [step("a", &[], json!({}))], "schedule": {"cron": "every day"}}), "spec.schedule: "),
        (
            json!({"steps": [step("a", &[], json!({}))], "schedule": {"cron": "* * * * *", "timeZone": "Mars/Olympus"}}),
            "spec.schedule: ",
        ),
        (json!({"steps": [{"name": "a", "coze": {"workflowID": "1"}}]}), "spec.steps[a].coze.accountRef: Coze wants a token"),
        (
            json!({"steps": [{"name": "a", "coze": {"workflowID": "1", "dialect": "CozeStudio", "accountRef": {"name": "x"}}}]}),
            "spec.steps[a].coze.baseURL: ",
        ),
        (json!({"steps": [{"name": "a"}]}), "spec.steps[a]: must have exactly one of http and coze"),
    ] {
        let said = refusal(&spec);
        assert!(said.starts_with(words), "{spec}: {said}");
        assert!(said.len() > words.len() || !words.ends_with(": "), "{said}");
    }
}

#[test]
fn an_expression_may_refer_to_what_has_ended_by_then() {
    let referring = json!({"when": "steps.a.output == 1", "output": "${steps['b'].phase} ${response.status}"});
    definition(&json!({
        "steps": [
            step("a", &[], json!({})),
            step("b", &["a"], json!({"onCancel": {"url": "https://api.example.com/x", "body": "${remote.executeID}"}})),
            step("c", &["b"], referring),
        ],
        "outputs": {"x": "${steps.c.output}", "y": "${run.name} ${workflow.name} ${input.z}"},
        "onComplete": {"url": "https://api.example.com/x", "body": {"a": "${outputs}", "b": "${steps.a.status}", "c": "${run.phase}"}},
    }));
    let sideways = json!({"steps": [step("a", &[], json!({})), step("b", &[], json!({"when": "steps.a.output == 1"}))]});
    let said = refusal(&sideways);
    assert_eq!(
        said,
        "spec.steps[b].when: the step a may not have ended by then; add it to dependsOn, directly or through another step"
    );
}
