//! Input and definitions that nobody should write: each ends in a sentence, and none keeps the operator from its work.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::{Workflows, said, step, why};
use crate::{provider, story};
use oauth_operator::api::{Phase, RunReason};
use serde_json::{Value, json};

fn alone(step: &Value) -> Value {
    json!({"workflowSpec": {"steps": [step]}})
}

async fn refused(workflows: &Workflows<'_>, name: &str, words: &str) -> Result<()> {
    let status = workflows.until_ended(name, Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!(reason, "InvalidDefinition", "{name}: {message}");
    assert!(message.contains(words), "{name}: {message}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_does_not_fit_is_refused_and_not_repeated() -> Result<()> {
    let (workflows, _operator) = scene("wf-input").await?;
    let kubectl = workflows.story.kubectl();
    let schema = json!({"type": "object", "required": ["topic"], "properties": {"topic": {"type": "string", "maxLength": 5}, "pin": {"type": "integer"}}});
    let get = workflows.step("a", "/open/x", &json!({}));
    let history = json!({"failed": 9});
    workflows.workflow("strict", &json!({"history": history, "inputs": {"schema": schema}, "steps": [get]}))?;
    workflows.workflow("any", &json!({"history": history, "steps": [get]}))?;
    let of = |workflow: &str, input: Value| json!({"workflowRef": {"name": workflow}, "input": input});
    workflows.run("misfit", &of("strict", json!({"topic": "hunter2secret", "pin": "4711word"})))?;
    workflows.run("lacking", &of("strict", json!({})))?;
    workflows.run("absent", &json!({"workflowRef": {"name": "strict"}}))?;
    let deep = (0..10).fold(json!(1), |inner, _| json!({"a": inner}));
    workflows.run("deep", &of("any", json!({"a": deep})))?;
    workflows.run("large", &of("any", json!({"text": "x".repeat(262_144)})))?;
    workflows
        .input("json", &[("word", "hunter2 is no JSON"), ("deep", "[[[[[[[[[[[]]]]]]]]]]]"), ("good", "{\"topic\":\"x\"}")])?;
    let from = |workflow: &str, key: &str| json!({"workflowRef": {"name": workflow}, "inputFrom": {"secretKeyRef": {"name": "json", "key": key}}});
    workflows.run("no-json", &from("any", "word"))?;
    workflows.run("deep-secret", &from("any", "deep"))?;
    workflows.run("good-secret", &from("strict", "good"))?;
    let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"a": format!("\"{}\"", "x".repeat(1_000_001)), "b": format!("\"{}\"", "x".repeat(40_000))}});
    kubectl.feed(&["create", "-f", "-"], &big.to_string())?;
    let map = |key: &str| json!({"workflowRef": {"name": "any"}, "inputFrom": {"configMapKeyRef": {"name": "big", "key": key}}});
    workflows.run("big-map", &map("a"))?;
    workflows.run("medium-map", &map("b"))?;

    refused(&workflows, "misfit", "at /topic").await?;
    let words = said(&workflows.status("misfit")?).1;
    assert!(!words.contains("hunter2") && !words.contains("4711"), "{words}");
    refused(&workflows, "lacking", "topic").await?;
    refused(&workflows, "absent", "topic").await?;
    refused(&workflows, "deep", "11 levels deep; at most 10").await?;
    refused(&workflows, "deep-secret", "11 levels deep; at most 10").await?;
    refused(
        &workflows,
        "large",
        "at most 262144 are taken there: put it into a Secret or a ConfigMap, and name that in inputFrom",
    )
    .await?;
    refused(&workflows, "no-json", "Key word of Secret json, which inputFrom names, is no JSON: line 1, column 1").await?;
    assert!(!said(&workflows.status("no-json")?).1.contains("hunter2"));
    refused(&workflows, "big-map", "1000003 bytes of JSON; at most 1000000").await?;
    for name in ["good-secret", "medium-map"] {
        workflows.until_ended(name, Phase::Completed).await?;
    }
    assert_eq!(workflows.api.requests().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_is_not_there_yet_is_waited_for_and_one_that_changes_ends_the_run() -> Result<()> {
    let (workflows, operator) = scene("wf-input-late").await?;
    let from = json!({"secretKeyRef": {"name": "late", "key": "input"}});
    let spec = |path: &str| json!({"workflowSpec": {"steps": [workflows.step("a", path, &json!({}))]}, "inputFrom": from});
    workflows.run("waits", &spec("/open/waits/${input.word}"))?;
    let status = workflows.until("waits", |status| said(status).1.contains("which inputFrom names")).await?;
    let message = format!(
        "Secret late with the key input, which inputFrom names, does not exist in namespace {}; create it.",
        workflows.story.apps
    );
    assert_eq!((status.phase, said(&status)), (Phase::Pending, ("Pending".to_owned(), message)));
    // Whoever may make runs need not be one who may read Secrets.
    workflows.story.secret("late", &[("other", "{}")])?;
    workflows.until("waits", |status| said(status).1.contains("whoever owns it can permit that")).await?;
    workflows.input("late", &[("other", "{}")])?;
    workflows.input("late", &[("input", "{\"word\":\"one\"}")])?;
    workflows.until_ended("waits", Phase::Completed).await?;
    assert_eq!(workflows.api.requests_to("/open/waits/one").len(), 1);

    workflows.api.hold("/open/held");
    workflows.run("changed", &spec("/open/held/${input.word}"))?;
    workflows.api.until_arrived("/open/held/one", 1).await?;
    workflows.input("late", &[("input", "{\"word\":\"two\"}")])?;
    drop(operator);
    let _next = workflows.story.operator("operator-2").await?;
    refused(&workflows, "changed", "the input has changed since the run began").await?;
    workflows.api.release();
    assert!(workflows.api.requests_to("/open/held/two").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_would_not_fit_its_own_object_is_refused() -> Result<()> {
    let (workflows, _operator) = scene("wf-heavy").await?;
    let step = |number: i32| {
        workflows.step(
            &format!("s{number}"),
            "/open/x",
            &json!({"http": {"method": "POST", "body": {"text": "x".repeat(20_000)}}}),
        )
    };
    let steps: Vec<_> = (0..60).map(step).collect();
    workflows.run("heavy", &json!({"workflowSpec": {"steps": steps}}))?;
    refused(&workflows, "heavy", "make a Workflow of it, and name that in workflowRef").await?;
    let workflow = json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "heavy"}, "spec": {"steps": steps}});
    // What `kubectl apply` remembers of an object must fit an annotation.
    workflows.story.kubectl().feed(&["create", "-f", "-"], &workflow.to_string())?;
    workflows.run("named", &json!({"workflowRef": {"name": "heavy"}}))?;
    workflows.until_ended("named", Phase::Completed).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_that_explode_are_refused_while_others_go_on() -> Result<()> {
    let (workflows, operator) = scene("wf-explode").await?;
    let list = json!({"http": {"maxResponseBytes": 8388608}, "output": "${[response.body, response.body]}"});
    let numbers: Vec<i32> = (0..2000).collect();
    let input = json!({"n": numbers});
    let bomb = "input.n.map(a, input.n.map(b, input.n.map(c, a * b * c)))";
    let spec = |step: Value| json!({"workflowSpec": {"steps": [step]}, "input": input});
    for (name, patch) in [
        ("when", json!({"when": format!("size({bomb}) > 1")})),
        ("body", json!({"http": {"method": "POST", "body": {"a": format!("${{{bomb}}}")}}})),
        ("output", json!({"output": format!("${{{bomb}}}")})),
        ("success", json!({"http": {"successWhen": format!("size({bomb}) > 1")}})),
    ] {
        workflows.run(name, &spec(workflows.step("a", "/open/x", &patch)))?;
    }
    workflows.run("outputs", &json!({"workflowSpec": {"steps": [workflows.step("a", "/open/x", &json!({}))], "outputs": {"a": format!("${{{bomb}}}")}}, "input": input}))?;
    workflows.run("doubled", &alone(&workflows.step("a", "/large?bytes=4000000", &list)))?;
    workflows.run("other", &alone(&workflows.step("a", "/open/other", &json!({}))))?;
    workflows.until_ended("other", Phase::Completed).await?;
    for name in ["when", "body", "output", "success", "outputs"] {
        let status = workflows.until_ended(name, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!(reason, "InvalidDefinition", "{name}: {message}");
        assert!(message.contains("could cost too much") || message.contains("too much work"), "{name}: {message}");
        assert!(!message.contains("1999"), "{name}: {message}");
    }
    let status = workflows.until("doubled", |status| status.phase.is_final()).await?;
    assert_eq!(status.phase, Phase::Completed, "{}", said(&status).1);
    assert_eq!(operator.get("/healthz").await?.0, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_input_makes_of_an_address_a_header_or_a_body_stays_in_its_place() -> Result<()> {
    let (workflows, _operator) = scene("wf-inject").await?;
    let with = |step: Value, input: Value| json!({"workflowSpec": {"steps": [step]}, "input": input});
    let header = workflows.step("a", "/open/header", &json!({"http": {"headers": [{"name": "x-topic", "value": "${input.v}"}]}}));
    workflows.run("crlf", &with(header.clone(), json!({"v": "a\r\nx-evil: 1"})))?;
    workflows.run("object", &with(header.clone(), json!({"v": {"a": 1}})))?;
    workflows.run("number", &with(header, json!({"v": 7})))?;
    let path = workflows.step("a", "/open/${input.v}/end?q=${input.v}", &json!({}));
    workflows.run("path", &with(path.clone(), json!({"v": "a/b?c=d&e#f %"})))?;
    workflows.run("climbs", &with(path.clone(), json!({"v": ".."})))?;
    workflows.run("empty", &with(path, json!({"v": ""})))?;
    let body = workflows.step("a", "/open/body", &json!({"http": {"method": "POST", "body": "count: ${input.v}"}}));
    workflows.run("mixed", &with(body, json!({"v": [1]})))?;
    let missing =
        workflows.step("a", "/open/body", &json!({"http": {"method": "POST", "body": {"a": "${input.nothing.at.all}"}}}));
    workflows.run("missing", &with(missing, json!({"v": 1})))?;
    refused(&workflows, "crlf", "The header x-topic would hold what no header may").await?;
    refused(&workflows, "object", "x-topic").await?;
    refused(&workflows, "climbs", "url").await?;
    refused(&workflows, "empty", "url").await?;
    refused(&workflows, "mixed", "body").await?;
    refused(&workflows, "missing", "body").await?;
    for name in ["number", "path"] {
        workflows.until_ended(name, Phase::Completed).await?;
    }
    let requests = workflows.api.requests();
    assert_eq!(requests.len(), 2, "{requests:#?}");
    let path = requests.iter().find(|request| request.path != "/open/header").ok_or("the path")?;
    assert_eq!((path.path.as_str(), path.query["q"].as_str()), ("/open/a%2Fb%3Fc%3Dd%26e%23f%20%25/end", "a/b?c=d&e#f %"));
    assert_eq!(requests.iter().find_map(|request| request.header("x-topic")), Some("7"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_reaches_an_address_that_is_not_public() -> Result<()> {
    let (story, _) = story("wf-private").await?;
    let _operator = story.operator_with("operator-1", &[]).await?;
    let workflows = Workflows::begin(story, provider().await?).await?;
    let port = workflows.api.url.rsplit(':').next().unwrap_or_default().to_owned();
    let local = [
        ("loopback", workflows.api.url.clone()),
        // A name that resolves to what is not public.
        ("name", format!("https://localhost:{port}")),
        ("private", "https://10.0.0.1".to_owned()),
        ("metadata", "https://169.254.169.254".to_owned()),
        ("decimal", "https://2130706433".to_owned()),
        ("mapped", "https://[::ffff:127.0.0.1]".to_owned()),
    ];
    for (name, url) in &local {
        let retry = json!({"limit": 3, "backoff": {"initialSeconds": 1}});
        let step = workflows.step("a", "", &json!({"http": {"url": format!("{url}/open/x")}, "retry": retry}));
        workflows.run(name, &alone(&step))?;
    }
    for (name, _) in &local {
        let status = workflows.until_ended(name, Phase::Failed).await?;
        assert_eq!(
            (why(&status, "a").0, step(&status, "a").attempts),
            (Some(RunReason::PermissionDenied), 1),
            "{name}: {status:?}"
        );
        assert!(said(&status).1.contains("its address is not a public one"), "{name}: {}", said(&status).1);
    }
    assert!(workflows.api.requests().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_used_says_where_and_its_workflow_is_not_ready() -> Result<()> {
    let (workflows, _operator) = scene("wf-definition").await?;
    let get = |patch: Value| workflows.step("a", "/open/x", &patch);
    let cases = [
        ("schema", json!({"inputs": {"schema": {"type": "no-such-type"}}, "steps": [get(json!({}))]}), "spec.inputs.schema"),
        ("self", json!({"steps": [get(json!({"dependsOn": ["a"]}))]}), "spec.steps"),
        ("when", json!({"steps": [get(json!({"when": "'text'"}))]}), ""),
        (
            "outputs",
            json!({"steps": [get(json!({}))], "outputs": {"a": "${steps.b.output}"}}),
            "spec.outputs: there is no step b",
        ),
        ("whole", json!({"steps": [get(json!({}))], "outputs": {"a": "${steps}"}}), "steps is used as a whole"),
        ("response", json!({"steps": [get(json!({"when": "response.status == 200"}))]}), "response is not known here"),
        (
            "coze",
            json!({"steps": [{"name": "a", "coze": {"workflowID": "1"}}]}),
            "spec.steps[a].coze.accountRef: Coze wants a token",
        ),
        ("host", json!({"steps": [get(json!({"http": {"url": "https://api.example.com/?a=1#${input.x}"}}))]}), ""),
    ];
    for (name, spec, _) in &cases {
        workflows.workflow(name, spec)?;
        workflows.run(name, &json!({"workflowRef": {"name": name}}))?;
    }
    for (name, _, words) in cases.iter().filter(|(_, _, words)| !words.is_empty()) {
        refused(&workflows, name, words).await?;
        let wait = ["wait", "--for=condition=Ready=False", &format!("workflow/{name}"), "--timeout=20s"];
        workflows.story.kubectl().run(&wait)?;
        let condition = workflows.get(name)?.status.unwrap_or_default().conditions.into_iter().next().ok_or("said")?;
        assert_eq!(condition.reason, "InvalidDefinition");
        assert!(condition.message.contains(words), "{name}: {}", condition.message);
    }
    // What shows only when it is evaluated ends the step.
    let status = workflows.until_ended("when", Phase::Failed).await?;
    assert_eq!(why(&status, "a").0, Some(RunReason::InvalidDefinition), "{}", said(&status).1);
    assert!(workflows.api.requests().is_empty());
    Ok(())
}
