//! Whoever is to be told of a run's end is told once, however it ended, and changes nothing about it.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::{Workflows, said};
use oauth_operator::api::{Notice, Phase};
use serde_json::{Value, json};

fn told(workflows: &Workflows<'_>, path: &str) -> Value {
    let body = json!({
        "run": "${run.name}", "phase": "${run.phase}", "reason": "${run.reason}", "message": "${run.message}",
        "outputs": "${outputs}", "step": "${steps.a.phase}",
    });
    workflows.step("", path, &json!({"http": {"method": "POST", "body": body, "accountRef": {"name": "api"}}}))["http"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_end_is_told_phase_and_outputs_once() -> Result<()> {
    let (workflows, _operator) = scene("wf-told").await?;
    workflows.api.hold("/open/held");
    let spec = |step: Value, outputs: Value| json!({"workflowSpec": {"steps": [step], "outputs": outputs, "onComplete": told(&workflows, "/echo/told")}});
    workflows.run(
        "good",
        &spec(
            workflows.step("a", "/large?bytes=30000", &json!({})),
            json!({"n": "${size(steps.a.output)}", "all": "${steps.a.output}"}),
        ),
    )?;
    workflows.run("bad", &spec(workflows.step("a", "/status/404", &json!({})), json!({"n": 1})))?;
    workflows.run("cancelled", &spec(workflows.step("a", "/open/held", &json!({})), json!({"n": 1})))?;
    workflows.api.until_arrived("/open/held", 1).await?;
    workflows.cancel("cancelled")?;
    let cases = [
        ("good", Phase::Completed, "Completed", "Completed"),
        ("bad", Phase::Failed, "StepFailed", "Failed"),
        ("cancelled", Phase::Cancelled, "CancelledByUser", "Cancelled"),
    ];
    for (name, phase, reason, step) in cases {
        let status = workflows.until(name, |status| status.completion == Some(Notice::Delivered)).await?;
        assert_eq!((status.phase, said(&status).0.as_str()), (phase, reason));
        let requests = workflows.api.requests_to("/echo/told");
        let mine: Vec<_> = requests.iter().filter(|request| request.body["run"] == name).collect();
        assert_eq!(mine.len(), 1, "{name}");
        let body = &mine[0].body;
        assert_eq!((&body["phase"], &body["reason"], &body["step"]), (&json!(phase.as_str()), &json!(reason), &json!(step)));
        assert_eq!(body["message"], said(&status).1);
        assert!(mine[0].client.is_some() && mine[0].header("idempotency-key").is_some_and(|key| key.len() == 32));
        match phase {
            Phase::Completed => {
                assert_eq!((&body["outputs"]["n"], body["outputs"]["all"].as_str().map(str::len)), (&json!(29998), Some(29998)))
            }
            _ => assert_eq!(body["outputs"], Value::Null),
        }
    }
    workflows.api.release();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_could_be_told_changes_nothing_but_one_word() -> Result<()> {
    let (workflows, operator) = scene("wf-untold").await?;
    let run = |hook: Value| json!({"workflowSpec": {"steps": [workflows.step("a", "/open/a", &json!({}))], "onComplete": hook}});
    let mut absent = told(&workflows, "/open/never");
    absent["accountRef"]["name"] = json!("none");
    let mut senseless = told(&workflows, "/open/never");
    senseless["body"] = json!("${steps.a.output.nothing}");
    workflows.run("refused", &run(told(&workflows, "/status/500")))?;
    workflows.run("absent", &run(absent))?;
    workflows.run("senseless", &run(senseless))?;
    for name in ["refused", "absent", "senseless"] {
        let status = workflows.until(name, |status| status.completion == Some(Notice::Failed)).await?;
        assert_eq!((status.phase, said(&status).1.as_str()), (Phase::Completed, "Every step has ended."), "{name}");
        let logged =
            operator.log().into_iter().find(|line| line["msg"] == "onComplete was not delivered" && line["name"] == name);
        assert!(logged.is_some_and(|line| line["why"].as_str().is_some_and(|why| !why.is_empty())), "{name}");
    }
    assert_eq!(workflows.api.requests_to("/status/500").len(), 1);
    assert!(workflows.api.requests_to("/open/never").is_empty());
    Ok(())
}
