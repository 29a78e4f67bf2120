//! Outputs: in status where they are small, in Secrets of the run where they are large, and refused beyond that.

use super::runs::scene;
use crate::story;
use crate::testbed::Result;
use crate::testbed::relay::Point;
use crate::testbed::story::{Story, eventually};
use crate::testbed::workflows::{Workflows, said, step, why};
use base64::Engine;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use oauth_operator::api::{OutputReference, Phase, RunReason};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::time::Duration;

/// The JSON that a Secret of an output holds, checked against what status says of it.
pub(super) fn unpacked(story: &Story<'_>, reference: &OutputReference) -> Result<String> {
    let secret = story.read_secret(&reference.secret_name)?.ok_or("the output is in a Secret")?;
    let packed = secret.data.and_then(|mut data| data.remove(&reference.key)).ok_or("it has that key")?;
    let mut text = String::new();
    GzDecoder::new(packed.0.as_slice()).read_to_string(&mut text)?;
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((i64::try_from(text.len())?, digest), (reference.bytes, reference.sha256.clone()));
    Ok(text)
}

/// A JSON text as such a Secret holds it.
fn packed(text: &str) -> Result<String> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(text.as_bytes())?;
    Ok(base64::engine::general_purpose::STANDARD.encode(encoder.finish()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_goes_to_a_secret_of_the_run_that_later_steps_read() -> Result<()> {
    let (workflows, _operator) = scene("wf-large").await?;
    let inline = workflows.step("inline", "/large?bytes=16384", &json!({}));
    let large = workflows.step("large", "/large?bytes=16385", &json!({}));
    let size = json!({"dependsOn": ["large", "inline"], "http": {"method": "POST", "body": {"all": "${size(steps.large.output) + size(steps.inline.output)}"}}});
    let reader = workflows.step("reader", "/open/reader", &size);
    let spec = json!({"steps": [inline, large, reader], "outputs": {"text": "${steps.large.output}", "sum": "${steps.reader.output.body.all}"}});
    workflows.run("big", &json!({ "workflowSpec": spec }))?;
    let status = workflows.until_ended("big", Phase::Completed).await?;
    assert_eq!((step(&status, "inline").output_bytes, step(&status, "inline").output_ref.as_ref()), (Some(16384), None));
    let large = step(&status, "large");
    assert_eq!((large.output_bytes, large.output.as_ref()), (Some(16385), None));
    let reference = large.output_ref.as_ref().ok_or("in a Secret")?;
    assert_eq!(unpacked(&workflows.story, reference)?, format!("\"{}\"", "x".repeat(16383)));
    let secret = workflows.story.read_secret(&reference.secret_name)?.ok_or("there")?;
    let run = workflows.find("big")?.ok_or("there")?;
    let owner = &secret.metadata.owner_references.as_ref().ok_or("owned")?[0];
    assert_eq!((owner.kind.as_str(), Some(&owner.uid), owner.controller), ("WorkflowRun", run.metadata.uid.as_ref(), Some(true)));
    let outputs: Value = serde_json::from_str(&unpacked(&workflows.story, status.outputs_ref.as_ref().ok_or("large as well")?)?)?;
    assert_eq!((outputs["text"].as_str().map(str::len), &outputs["sum"]), (Some(16383), &json!(16383 + 16382)));
    assert_eq!(status.outputs, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_medium_outputs_leave_room_in_the_runs_object() -> Result<()> {
    let (workflows, _operator) = scene("wf-medium").await?;
    let names: Vec<String> = (0..60).map(|number| format!("s{number}")).collect();
    let steps: Vec<_> = names.iter().map(|name| workflows.step(name, "/large?bytes=15000", &json!({}))).collect();
    let outputs: Value = names.iter().map(|name| (name.clone(), json!(format!("${{size(steps.{name}.output)}}")))).collect();
    workflows.run("medium", &json!({"workflowSpec": {"parallelism": 20, "steps": steps, "outputs": outputs}}))?;
    let status = workflows.until_ended("medium", Phase::Completed).await?;
    let inline: i64 = status.steps.iter().filter(|step| step.output.is_some()).filter_map(|step| step.output_bytes).sum();
    assert!((240 * 1024..=256 * 1024).contains(&inline), "{inline}");
    assert!(status.steps.iter().all(|step| step.output.is_some() != step.output_ref.is_some()));
    assert!(serde_json::to_string(&status)?.len() < 500_000);
    let outputs = status.outputs.ok_or("small ones")?;
    assert!(names.iter().all(|name| outputs[name] == json!(14998)), "{outputs}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_kept_is_said_and_no_secret_of_others_is_overwritten() -> Result<()> {
    let (workflows, _operator) = scene("wf-too-large").await?;
    let run = |steps: Value| json!({"workflowSpec": {"steps": steps}});
    workflows.run("answer", &run(json!([workflows.step("a", "/large?bytes=100000000", &json!({}))])))?;
    let most = json!({"http": {"maxResponseBytes": 8388608}});
    workflows.run("output", &run(json!([workflows.step("a", "/noise?bytes=2000000", &most)])))?;
    let nested = |levels: usize| json!({"output": (0..levels).fold(json!(1), |inner, _| json!([inner]))});
    workflows.run("nested", &run(json!([workflows.step("a", "/large?bytes=10", &nested(64))])))?;
    workflows.run("too-nested", &run(json!([workflows.step("a", "/large?bytes=10", &nested(65))])))?;
    workflows.story.secret("foreign.a", &[("mine", "untouched")])?;
    workflows.run("foreign", &run(json!([workflows.step("a", "/large?bytes=20000", &json!({}))])))?;

    let status = workflows.until_ended("answer", Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!(reason, "OutputTooLarge", "{message}");
    assert!(message.contains("maxResponseBytes (1048576)"), "{message}");
    let status = workflows.until_ended("output", Phase::Failed).await?;
    let (reason, message) = why(&status, "a");
    assert_eq!(reason, Some(RunReason::OutputTooLarge), "{message}");
    assert!(
        message.contains("compressed 15") && message.contains("a Secret holds 1048576; keep less of it with output"),
        "{message}"
    );
    workflows.until_ended("nested", Phase::Completed).await?;
    let status = workflows.until_ended("too-nested", Phase::Failed).await?;
    let (reason, message) = why(&status, "a");
    assert_eq!(reason, Some(RunReason::OutputTooLarge), "{message}");
    assert!(message.contains("nested 65 levels deep, and at most 64 are kept"), "{message}");
    let status = workflows.until_ended("foreign", Phase::Failed).await?;
    let (reason, message) = why(&status, "a");
    assert_eq!(reason, Some(RunReason::StepFailed));
    assert!(message.contains("Secret foreign.a is there already, and is not of this run"), "{message}");
    assert_eq!(workflows.story.key("foreign.a", "mine")?, "untouched");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_outlasts_an_api_server_that_is_away_for_a_moment() -> Result<()> {
    let (story, provider) = story("wf-away").await?;
    let relay = story.cluster.relay().await?;
    let _operator = story.operator_behind("operator-1", &relay).await?;
    let workflows = Workflows::begin(story, provider).await?;
    let writes = relay.lose(Point::Request, |passing| passing.method == "POST" && passing.path.contains("/secrets"));
    let large = workflows.step("large", "/large?bytes=20000", &json!({"http": {"method": "POST"}}));
    let reader = workflows.step("reader", "/open/reader/${size(steps.large.output)}", &json!({"dependsOn": ["large"]}));
    let spec = json!({"steps": [large, reader], "outputs": {"text": "${steps.large.output}"}});
    workflows.run("away", &json!({ "workflowSpec": spec }))?;
    let twice = eventually(Duration::from_secs(30), || Ok((writes.hits() >= 3).then_some(()))).await?;
    twice.ok_or("the output is offered again")?;
    writes.release();
    workflows.until_ended("away", Phase::Completed).await?;
    assert_eq!(workflows.api.requests_to("/large").len(), 1);
    assert_eq!(workflows.api.requests_to("/open/reader/19998").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_somebody_has_changed_or_deleted_is_told() -> Result<()> {
    let (workflows, _operator) = scene("wf-tampered").await?;
    workflows.api.hold("/open/hold");
    let spec = |name: &str| {
        let large = workflows.step("large", "/large?bytes=20000", &json!({}));
        let hold = workflows.step("hold", &format!("/open/hold/{name}"), &json!({"dependsOn": ["large"]}));
        let reader = workflows.step("reader", "/open/reader/${size(steps.large.output)}", &json!({"dependsOn": ["hold"]}));
        json!({"workflowSpec": {"steps": [large, hold, reader]}})
    };
    for name in ["deleted", "changed"] {
        workflows.run(name, &spec(name))?;
    }
    workflows.api.until_arrived("/open/hold", 2).await?;
    let kubectl = workflows.story.kubectl();
    kubectl.run(&["delete", "secret", "deleted.large"])?;
    let reference = step(&workflows.status("changed")?, "large").output_ref.clone().ok_or("in a Secret")?;
    let patch = json!({"data": {reference.key: packed("\"something else\"")?}}).to_string();
    kubectl.run(&["patch", "secret", "changed.large", "--type=merge", "-p", &patch])?;
    workflows.api.release();
    for (name, words) in [("deleted", "Secret deleted.large is gone"), ("changed", "somebody has changed it")] {
        let status = workflows.until_ended(name, Phase::Failed).await?;
        assert_eq!(said(&status).0, "StepFailed");
        assert!(said(&status).1.contains(words), "{}", said(&status).1);
    }
    assert!(workflows.api.requests_to("/open/reader").is_empty());
    Ok(())
}
