//! What takes too long: a request, and a run.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::{said, step, why};
use oauth_operator::api::{Notice, Phase, RunReason};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_lasts_too_long_is_repeated_only_where_that_does_no_harm() -> Result<()> {
    let (workflows, _operator) = scene("wf-timeout").await?;
    let retry = json!({"limit": 1, "backoff": {"initialSeconds": 1}});
    let alone = |path: &str, method: &str, delivery: Option<&str>| {
        let step = workflows.step(
            "a",
            path,
            &json!({"http": {"method": method, "timeoutSeconds": 1}, "retry": retry, "delivery": delivery}),
        );
        json!({"workflowSpec": {"steps": [step]}})
    };
    // Name, path, method, delivery, reason of its end, attempts.
    let cases = [
        ("get", "/slow?ms=30000", "GET", None, "Timeout", 2),
        ("endless", "/endless", "GET", None, "Timeout", 2),
        ("post", "/slow?ms=30000", "POST", None, "OutcomeUnknown", 1),
        ("post-endless", "/endless", "POST", None, "OutcomeUnknown", 1),
        ("at-least-once", "/slow?ms=30000", "POST", Some("AtLeastOnce"), "OutcomeUnknown", 2),
        ("put", "/slow?ms=30000", "PUT", None, "OutcomeUnknown", 2),
        ("once", "/slow?ms=30000", "GET", Some("AtMostOnce"), "Timeout", 1),
    ];
    for (name, path, method, delivery, ..) in cases {
        workflows.run(name, &alone(path, method, delivery))?;
    }
    for (name, _, _, delivery, reason, attempts) in cases {
        let status = workflows.until_ended(name, Phase::Failed).await?;
        assert_eq!((said(&status).0.as_str(), step(&status, "a").attempts), (reason, attempts), "{name}: {}", said(&status).1);
        assert!(said(&status).1.contains("did not answer within timeoutSeconds (1)"), "{name}: {}", said(&status).1);
        let doubt = said(&status).1.contains("It may have been carried out all the same");
        assert_eq!(doubt, reason == "OutcomeUnknown", "{name} {delivery:?}: {}", said(&status).1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_lasts_too_long_fails_wherever_it_is() -> Result<()> {
    let (workflows, _operator) = scene("wf-deadline").await?;
    workflows.api.hold("/open/held");
    let held = |name: &str, patch: serde_json::Value| {
        let mut all = json!({"http": {"method": "POST", "timeoutSeconds": 600}});
        crate::testbed::story::merge(&mut all, &patch);
        workflows.step("held", &format!("/open/held/{name}"), &all)
    };
    let after = workflows.step("after", "/open/after", &json!({"dependsOn": ["held"]}));
    let spec = |held: serde_json::Value| json!({"workflowSpec": {"timeoutSeconds": 3, "steps": [held, after]}});
    workflows.run("plain", &spec(held("plain", json!({}))))?;
    let hook = workflows.step("", "/open/told", &json!({"http": {"method": "POST"}}))["http"].clone();
    workflows.run("told", &spec(held("told", json!({ "onCancel": hook }))))?;
    let waits = workflows.step(
        "held",
        "/status/503",
        &json!({"retry": {"limit": 9, "backoff": {"initialSeconds": 600, "maxSeconds": 600}}}),
    );
    workflows.run("waits", &spec(waits))?;

    let status = workflows.until_ended("plain", Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!(reason, "Timeout", "{message}");
    assert!(message.contains("timeoutSeconds (3)") && message.contains("held, after"), "{message}");
    assert_eq!((step(&status, "held").phase, step(&status, "after").phase), (Phase::Cancelled, Phase::Cancelled));
    assert_eq!(step(&status, "held").cancellation, Some(Notice::NotSupported));
    assert_eq!((step(&status, "after").cancellation, step(&status, "after").attempts), (None, 0));
    workflows.until_abandoned("/open/held/plain", 1).await?;

    let status = workflows.until_ended("told", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), step(&status, "held").cancellation), ("Timeout", Some(Notice::Delivered)));
    assert!(said(&status).1.contains("timeoutSeconds (3)"), "{}", said(&status).1);
    assert_eq!(workflows.api.requests_to("/open/told").len(), 1);

    // It would not be tried again before the run's end: it has failed now.
    let status = workflows.until_ended("waits", Phase::Failed).await?;
    assert_eq!((said(&status).0.as_str(), why(&status, "held").0), ("StepFailed", Some(RunReason::StepFailed)));
    assert!(workflows.api.requests_to("/open/after").is_empty());
    Ok(())
}
