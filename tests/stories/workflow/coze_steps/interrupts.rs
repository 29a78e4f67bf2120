//! Workflows that stop and ask a person.

use super::{Scene, only};
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, Failure, Frame};
use crate::testbed::workflows::{said, step};
use oauth_operator::api::{Phase, WorkflowRunStatus};
use serde_json::{Value, json};

const FIRST: &str = "7404830425073352713/2769808280134765896";
const SECOND: &str = "7404831988202520614/6302059919516746633";
/// What the platform's workflow asks in a stream.
const QUESTION: &str = "Which city, and which day?";

fn asks(event_id: &str, kind: u64, then: Vec<Frame>) -> Behaviour {
    Behaviour::Interrupt { event_id: event_id.into(), kind, then }
}

/// The end of a workflow that gives this.
fn gives(output: &Value) -> Vec<Frame> {
    vec![Frame::output(output), Frame::Done]
}

fn waits(status: &WorkflowRunStatus) -> bool {
    said(status).0 == "Interrupted"
}

impl Scene {
    /// Bodies of the answers that a workflow was given.
    fn answers(&self, workflow: &str) -> Vec<(String, Value)> {
        let answers = self.requests(workflow).into_iter().filter(|request| request.path.ends_with("resume"));
        answers.map(|request| (request.path.clone(), request.body.clone())).collect()
    }
}

fn answer_to(workflow: &str, event_id: &str, kind: u64, data: &str) -> Value {
    json!({"workflow_id": workflow, "event_id": event_id, "resume_data": data, "interrupt_type": kind})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_told_and_its_answer_goes_where_it_belongs() -> Result<()> {
    let scene = Scene::begin("wf-coze-asks").await?;
    let output = json!({"output": "坐不下"});
    scene.ask("stream", "7001", asks(FIRST, 2, gives(&output)), "Stream", &json!({}))?;
    scene.ask("sync", "7002", asks(SECOND, 5, gives(&output)), "Sync", &json!({"coze": {"poll": {"timeoutSeconds": 2}}}))?;
    for (run, workflow, path, event, kind) in
        [("stream", "7001", "/v1/workflow/stream_resume", FIRST, 2), ("sync", "7002", "/v1/workflows/resume", SECOND, 5)]
    {
        let status = scene.workflows.until(run, waits).await?;
        let condition = &status.conditions[0];
        assert_eq!((condition.type_.as_str(), condition.status.as_str()), ("Succeeded", "Unknown"));
        let expected = if run == "stream" { QUESTION } else { "waits for an answer." };
        assert!(condition.message.contains(expected), "{}", condition.message);
        assert!(condition.message.contains("annotation oauth-operator.dev/resume-data of this run"), "{}", condition.message);
        let interrupt =
            only(&status).remote.clone().and_then(|remote| remote.interrupt).unwrap_or_else(|| panic!("{run} is asked"));
        assert_eq!((interrupt.event_id.as_str(), interrupt.kind, interrupt.answered), (event, i64::try_from(kind)?, false));
        scene.answer(run, Some("杭州, \"today\""))?;
        let status = scene.workflows.until_ended(run, Phase::Completed).await?;
        assert_eq!((only(&status).output.as_ref(), only(&status).attempts), (Some(&output), 1), "{run}");
        assert_eq!(scene.answers(workflow), [(path.to_owned(), answer_to(workflow, event, kind, "杭州, \"today\""))]);
        let keys: Vec<_> =
            scene.requests(workflow).iter().map(|request| request.header("idempotency-key").map(str::to_owned)).collect();
        assert!(keys.iter().all(|key| *key == only(&status).idempotency_key), "{keys:?}");
        assert_eq!(scene.begun(workflow).len(), 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_given_to_one_question_only() -> Result<()> {
    let scene = Scene::begin("wf-coze-asks-again").await?;
    let again = |event_id: &str, kind| Frame::Interrupt { event_id: event_id.into(), kind, node_title: "Question".into() };
    let then = vec![Frame::message("Question", 0, "Are you sure?"), again(SECOND, 5)];
    scene.ask("twice", "7001", asks(FIRST, 2, then), "Stream", &json!({}))?;
    scene.workflows.until("twice", waits).await?;
    scene.answer("twice", Some("yes"))?;
    let asked_again = |status: &WorkflowRunStatus| waits(status) && said(status).1.contains("Are you sure?");
    let status = scene.workflows.until("twice", asked_again).await?;
    assert!(said(&status).1.contains("to give the same again, remove it first"), "{:?}", said(&status));
    // The same words, given again on purpose.
    scene.platform.behave("7001", asks(SECOND, 5, gives(&json!({"sure": true}))));
    scene.answer("twice", None)?;
    let forgotten =
        |status: &WorkflowRunStatus| only(status).remote.as_ref().is_some_and(|remote| remote.answer_digest.is_none());
    scene.workflows.until("twice", forgotten).await?;
    scene.answer("twice", Some("yes"))?;
    let status = scene.workflows.until_ended("twice", Phase::Completed).await?;
    assert_eq!(only(&status).output, Some(json!({"sure": true})));
    let data: Vec<_> = scene.answers("7001").into_iter().map(|(_, body)| body).collect();
    assert_eq!(data, [answer_to("7001", FIRST, 2, "yes"), answer_to("7001", SECOND, 5, "yes")]);

    // Two steps that ask at once are answered one after the other.
    let behaviour = |n| asks(FIRST, 2, gives(&json!({ "n": n })));
    scene.platform.behave("8001", behaviour(1));
    scene.platform.behave("8002", behaviour(2));
    let steps = [scene.step("a", "8001", "Stream", &json!({})), scene.step("b", "8002", "Stream", &json!({}))];
    scene.run("both", &json!({"steps": steps}))?;
    let both = |status: &WorkflowRunStatus| status.steps.iter().filter(|step| step.remote.is_some()).count() == 2;
    scene.workflows.until("both", both).await?;
    scene.answer("both", Some("for a"))?;
    let status = scene.workflows.until("both", |status| status.steps[0].phase == Phase::Completed && waits(status)).await?;
    assert!(said(&status).1.starts_with("Step b: "), "{:?}", said(&status));
    scene.answer("both", Some("for b"))?;
    let status = scene.workflows.until_ended("both", Phase::Completed).await?;
    assert_eq!(
        [step(&status, "a").output.clone(), step(&status, "b").output.clone()],
        [Some(json!({"n": 1})), Some(json!({"n": 2}))]
    );
    assert_eq!(scene.answers("8001")[0].1["resume_data"], "for a");
    let of_b: Vec<_> = scene.answers("8002").into_iter().map(|(_, body)| body).collect();
    assert_eq!(of_b, [answer_to("8002", FIRST, 2, "for b")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_coze_puts_off_is_given_again_and_the_workflow_is_not_begun_again() -> Result<()> {
    let scene = Scene::begin("wf-coze-put-off").await?;
    let patch = json!({"retry": {"limit": 2, "backoff": {"initialSeconds": 1}}});
    scene.ask("put-off", "7001", asks(FIRST, 2, gives(&json!({"n": 1}))), "Stream", &patch)?;
    scene.workflows.until("put-off", waits).await?;
    scene.platform.fail_answers(1, &Failure::rate_limit());
    scene.answer("put-off", Some("now"))?;
    let status = scene.workflows.until_ended("put-off", Phase::Completed).await?;
    assert_eq!((only(&status).output.clone(), only(&status).attempts), (Some(json!({"n": 1})), 2));
    let data: Vec<_> = scene.answers("7001").into_iter().map(|(_, body)| body).collect();
    assert_eq!(data, [answer_to("7001", FIRST, 2, "now"), answer_to("7001", FIRST, 2, "now")]);
    assert_eq!(scene.begun("7001").len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_waits_as_long_as_the_run_may_take_and_ends_with_it() -> Result<()> {
    let scene = Scene::begin("wf-coze-unanswered").await?;
    for (run, workflow, timeout) in [("late", "7001", 4), ("cancelled", "7002", 3600)] {
        scene.platform.behave(workflow, asks(FIRST, 2, gives(&json!({}))));
        scene.run(run, &json!({"steps": [scene.step("ask", workflow, "Stream", &json!({}))], "timeoutSeconds": timeout}))?;
    }
    let status = scene.workflows.until_ended("late", Phase::Failed).await?;
    let (reason, message) = said(&status);
    assert_eq!(reason, "Interrupted", "{message}");
    assert!(message.contains("within timeoutSeconds (4)") && message.contains(QUESTION), "{message}");
    assert_eq!(only(&status).phase, Phase::Cancelled);

    scene.workflows.until("cancelled", waits).await?;
    let cancel = ["patch", "workflowrun", "cancelled", "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#];
    scene.workflows.story.kubectl().run(&cancel)?;
    let status = scene.workflows.until_ended("cancelled", Phase::Cancelled).await?;
    assert_eq!(said(&status).0, "CancelledByUser");
    assert!(
        only(&status).message.as_deref().is_some_and(|message| message.contains("is not known")),
        "{:?}",
        only(&status).message
    );
    // Whoever answers now answers nobody.
    scene.answer("cancelled", Some("too late"))?;
    scene.answer("late", Some("too late"))?;
    scene.ask("after", "7003", Behaviour::Echo, "Sync", &json!({}))?;
    scene.workflows.until_ended("after", Phase::Completed).await?;
    assert!(scene.answers("7001").is_empty() && scene.answers("7002").is_empty());
    Ok(())
}
