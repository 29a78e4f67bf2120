//! Runs of workflows, as whoever applies them sees them.

use crate::testbed::Result;
use crate::testbed::workflows::{Workflows, said, step};
use crate::{issuer, story};
use oauth_operator::api::{Phase, RunReason};
use serde_json::{Value, json};

pub(super) async fn scene(name: &str) -> Result<(Workflows<'static>, crate::testbed::operator::Operator)> {
    let (story, provider) = story(name).await?;
    let operator = story.operator("operator-1").await?;
    let workflows = Workflows::begin(story, provider).await?;
    workflows.account("api", provider, &issuer(provider)).await?;
    Ok((workflows, operator))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_runs_with_an_accounts_token_and_gives_what_its_steps_gave() -> Result<()> {
    let (workflows, _operator) = scene("wf-graph").await?;
    let first = workflows.step("fetch", "/items?topic=${input.topic}", &json!({"output": "${response.body.items.map(i, i.id)}"}));
    let each = json!({"dependsOn": ["fetch"], "http": {"method": "POST", "body": {"ids": "${steps.fetch.output}", "note": "for ${run.name}"}}});
    let second = workflows.step("post", "/echo/post", &each);
    let never = workflows.step("never", "/items", &json!({"dependsOn": ["fetch"], "when": "size(steps.fetch.output) > 3"}));
    let last = workflows.step(
        "last",
        "/open/${steps.post.output.body.note}",
        &json!({"dependsOn": ["post", "never"], "http": {"accountRef": null}}),
    );
    let spec = json!({
        "inputs": {"schema": {"type": "object", "required": ["topic"], "properties": {"topic": {"type": "string"}}}},
        "defaults": {"accountRef": {"name": "api"}},
        "steps": [first, second, never, last],
        "outputs": {"ids": "${steps.fetch.output}", "sent": "${steps.post.output.body}", "path": "${steps.last.output.path}"},
    });
    workflows.workflow("report", &spec)?;
    workflows.run("first", &json!({"workflowRef": {"name": "report"}, "input": {"topic": "a&b=c/d e"}}))?;
    let status = workflows.until_ended("first", Phase::Completed).await?;
    let outputs = status.outputs.clone().unwrap_or_default();
    assert_eq!(outputs["ids"], json!([1, 2, 3]));
    assert_eq!(outputs["sent"], json!({"ids": [1, 2, 3], "note": "for first"}));
    assert_eq!(outputs["path"], "/open/for%20first");
    assert_eq!(step(&status, "never").reason, Some(RunReason::Skipped));
    assert_eq!(said(&status).0, "Completed");
    let requests = workflows.api.requests();
    assert_eq!(requests.len(), 3, "{requests:#?}");
    assert_eq!(requests[0].query["topic"], "a&b=c/d e");
    assert!(requests.iter().take(2).all(|request| request.client.is_some()));
    let keys: Vec<_> = requests.iter().map(|request| request.header("idempotency-key").unwrap_or_default()).collect();
    assert_eq!(keys.iter().map(|key| key.len()).collect::<Vec<_>>(), [32, 32, 32]);
    assert_eq!(step(&status, "fetch").idempotency_key.as_deref(), Some(keys[0]));
    // An echo of the token is masked, here and in the Secret of an output.
    assert_eq!(
        step(&status, "post").output.as_ref().map(|output| output["headers"]["authorization"].clone()),
        Some(json!("Bearer ***"))
    );
    let wait = workflows.story.kubectl().run(&["wait", "--for=condition=Succeeded", "workflowrun/first", "--timeout=5s"])?;
    assert!(wait.contains("condition met"), "{wait}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_run_is_refused_with_a_sentence_before_a_request_is_sent() -> Result<()> {
    let (workflows, _operator) = scene("wf-refused").await?;
    let get = |name: &str, patch: Value| workflows.step(name, "/open/x", &patch);
    let cases: Vec<(&str, Value, &str)> = vec![
        (
            "cycle",
            json!([
                get("a", json!({"dependsOn": ["c"]})),
                get("b", json!({"dependsOn": ["a"]})),
                get("c", json!({"dependsOn": ["b"]}))
            ]),
            "a → c → b → a",
        ),
        ("unknown", json!([get("a", json!({"dependsOn": ["bee"]}))]), "bee"),
        ("forward", json!([get("a", json!({"when": "steps.b.output == 1"})), get("b", json!({}))]), "add it to dependsOn"),
        ("syntax", json!([get("a", json!({"when": "1 +"}))]), "steps[a].when"),
        ("token", json!([get("a", json!({"output": "${token}"}))]), "token is not known here"),
    ];
    for (name, steps, words) in cases {
        workflows.run(name, &json!({"workflowSpec": {"steps": steps}}))?;
        let status = workflows.until_ended(name, Phase::Failed).await?;
        let (reason, message) = said(&status);
        assert_eq!(reason, "InvalidDefinition", "{name}: {message}");
        assert!(message.contains(words), "{name}: {message}");
    }
    assert!(workflows.api.requests().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_bound_to_a_key_is_sent_with_a_proof() -> Result<()> {
    let (story, provider) = story("wf-dpop").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register_with(&json!({"dpop_bound_access_tokens": true})).await?;
    let host = provider.issuer.trim_start_matches("https://").to_owned();
    story.account("bound", &issuer(provider), &client, &json!({"dpop": {}, "allowedHosts": [host]}))?;
    story.until_ready("bound").await?;
    let workflows = Workflows::begin(story, provider).await?;
    let url = format!("{}/testbed/resource", provider.issuer);
    let step = json!({"name": "ask", "http": {"url": url, "accountRef": {"name": "bound"}}});
    workflows.run("proved", &json!({"workflowSpec": {"steps": [step], "outputs": {"who": "${steps.ask.output.client_id}"}}}))?;
    let status = workflows.until_ended("proved", Phase::Completed).await?;
    assert_eq!(status.outputs, Some(json!({"who": client.id})));
    Ok(())
}
