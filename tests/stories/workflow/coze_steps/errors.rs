//! Whatever Coze, and whoever stands before it, may answer in place of an output.

use super::{Scene, only};
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, Failure, Frame};
use crate::testbed::workflows::said;
use oauth_operator::api::{Phase, RunReason};
use serde_json::{Value, json};
use std::time::Duration;

/// A run of one step and how it fails: the mode, what the workflow does, the reason, words of the sentence, and how often the
/// workflow was asked for and begun.
struct Case(&'static str, &'static str, Behaviour, Value, RunReason, &'static str, usize, usize);

impl Scene {
    /// Runs all of them at once; each with as many attempts as it may have.
    async fn fails(&self, cases: Vec<Case>) -> Result<()> {
        let workflow = |name: &str| format!("7-{name}");
        for Case(name, mode, behaviour, patch, ..) in &cases {
            let mut step = json!({"retry": {"limit": 3, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}});
            crate::testbed::story::merge(&mut step, patch);
            self.ask(name, &workflow(name), behaviour.clone(), mode, &step)?;
        }
        for Case(name, _, _, _, reason, words, requests, begun) in cases {
            let status = self.workflows.until_ended(name, Phase::Failed).await?;
            let (told, message) = said(&status);
            assert_eq!(told, reason.as_str(), "{name}: {message}");
            assert_eq!(only(&status).reason, Some(reason), "{name}");
            assert!(message.contains(words), "{name}: {message}");
            let counted = (self.requests(&workflow(name)).len(), self.begun(&workflow(name)).len());
            assert_eq!(counted, (requests, begun), "{name}: {message}");
            assert_eq!(only(&status).attempts, i32::try_from(requests)?, "{name}");
        }
        Ok(())
    }
}

fn gateway(http: u16, media: &'static str, body: &str) -> Behaviour {
    Behaviour::Gateway { http, media, body: body.into() }
}

const HTML: &str = "<html><head><title>Bad Gateway</title></head></html>";

#[tokio::test(flavor = "multi_thread")]
async fn what_coze_refuses_fails_at_once_with_cozes_own_words() -> Result<()> {
    let scene = Scene::begin("wf-coze-refused").await?;
    let fail = Behaviour::Fail;
    let (none, more) = (|| json!({}), || json!({"delivery": "AtLeastOnce"}));
    let error = Frame::Error { code: 4000, message: "Request parameter error".into() };
    let node = Frame::Error { code: 5000, message: "node Code failed".into() };
    use RunReason::{PermissionDenied, RateLimited, StepFailed};
    scene
        .fails(vec![
            Case(
                "input",
                "Sync",
                fail(Failure::bad_input()),
                more(),
                StepFailed,
                "code 4000, \"Request parameter error\": the parameters",
                1,
                0,
            ),
            Case("permission", "Sync", fail(Failure::permission()), more(), PermissionDenied, "of the same region", 1, 0),
            Case("region", "Stream", fail(Failure::permission().with_http(401)), more(), PermissionDenied, "code 4101", 1, 0),
            Case("forbidden", "Async", fail(Failure::permission().with_http(403)), more(), PermissionDenied, "code 4101", 1, 0),
            Case("unpublished", "Async", fail(Failure::not_published()), more(), StepFailed, "is not published", 1, 0),
            Case("server", "Sync", fail(Failure::server()), none(), StepFailed, "code 5000", 1, 0),
            Case("node", "Stream", fail(Failure::new(200, 720_701_013, "node")), none(), StepFailed, "code 720701013", 1, 0),
            Case(
                "event",
                "Stream",
                Behaviour::Stream(vec![Frame::message("Message", 0, "so far"), error]),
                more(),
                StepFailed,
                "code 4000",
                1,
                1,
            ),
            Case(
                "late",
                "Stream",
                Behaviour::Stream(vec![Frame::message("Message", 0, "so far"), node]),
                none(),
                StepFailed,
                "node Code failed",
                1,
                1,
            ),
            Case("limit", "Sync", fail(Failure::rate_limit()), json!({"retry": {"limit": 0}}), RateLimited, "code 4013", 1, 0),
            Case(
                "limits",
                "Stream",
                fail(Failure::rate_limit().with_http(200)),
                json!({"retry": {"limit": 1}}),
                RateLimited,
                "attempt 2",
                2,
                0,
            ),
        ])
        .await?;
    assert_eq!(scene.tokens().await?, 1, "nothing of it is a matter of the token");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_cozes_answer_is_bounded_and_never_an_output() -> Result<()> {
    let scene = Scene::begin("wf-coze-foreign").await?;
    let none = || json!({});
    let small = || json!({"coze": {"maxResponseBytes": 4096}});
    let endless = |millis| Behaviour::StreamEndless { every: Duration::from_millis(millis) };
    use RunReason::{OutcomeUnknown, OutputTooLarge, StepFailed};
    scene
        .fails(vec![
            Case("page", "Sync", gateway(200, "text/html", HTML), none(), StepFailed, "is baseURL right", 1, 0),
            Case(
                "page-stream",
                "Stream",
                gateway(404, "text/html", HTML),
                none(),
                StepFailed,
                "HTTP 404 without its envelope",
                1,
                0,
            ),
            Case(
                "bad-gateway",
                "Sync",
                gateway(502, "text/html", HTML),
                none(),
                OutcomeUnknown,
                "HTTP 502 without its envelope",
                1,
                0,
            ),
            Case(
                "json",
                "Sync",
                gateway(200, "application/json", r#"{"data": "{\"ok\": true}"}"#),
                none(),
                StepFailed,
                "envelope",
                1,
                0,
            ),
            Case("no-json", "Async", gateway(200, "application/json", "{"), none(), StepFailed, "envelope", 1, 0),
            Case("large", "Sync", Behaviour::Large(200_000), small(), OutputTooLarge, "maxResponseBytes (4096)", 1, 1),
            Case("large-stream", "Stream", endless(1), small(), OutputTooLarge, "maxResponseBytes (4096)", 1, 1),
            Case(
                "endless",
                "Stream",
                endless(200),
                json!({"coze": {"timeoutSeconds": 2}}),
                OutcomeUnknown,
                "timeoutSeconds (2)",
                1,
                1,
            ),
            Case(
                "silent",
                "Sync",
                Behaviour::Slow(Duration::from_secs(3600)),
                json!({"coze": {"timeoutSeconds": 2}}),
                OutcomeUnknown,
                "timeoutSeconds (2)",
                1,
                1,
            ),
            Case("lost", "Sync", Behaviour::Lost, none(), OutcomeUnknown, "delivery is AtMostOnce", 1, 1),
            Case("lost-async", "Async", Behaviour::Lost, none(), OutcomeUnknown, "delivery is AtMostOnce", 1, 1),
            Case(
                "cut",
                "Stream",
                Behaviour::StreamCut(vec![Frame::message("End", 0, "so far")]),
                none(),
                OutcomeUnknown,
                "delivery is AtMostOnce",
                1,
                1,
            ),
            // Whole as far as HTTP goes, but it has not said that it is done.
            Case(
                "short",
                "Stream",
                Behaviour::Stream(vec![Frame::message("End", 0, "so far")]),
                none(),
                OutcomeUnknown,
                "before it said Done",
                1,
                1,
            ),
        ])
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_end_better_is_tried_again_and_keeps_its_key() -> Result<()> {
    let scene = Scene::begin("wf-coze-again").await?;
    let patch =
        |delivery: &str| json!({"delivery": delivery, "retry": {"limit": 5, "backoff": {"initialSeconds": 1, "maxSeconds": 1}}});
    let patient = Failure::rate_limit().with_retry_after(3);
    let node = Failure::new(200, 720_701_013, "node");
    // How often each is asked for, where that can be said beforehand.
    let cases = [
        ("limit", "Sync", Behaviour::FailTimes(2, Failure::rate_limit().with_http(200)), "AtMostOnce", Some(3)),
        ("patient", "Async", Behaviour::FailTimes(1, patient), "AtMostOnce", Some(2)),
        ("server", "Stream", Behaviour::FailTimes(2, Failure::server()), "AtLeastOnce", Some(3)),
        ("node", "Sync", Behaviour::FailTimes(1, node), "AtLeastOnce", Some(2)),
        ("busy", "Sync", gateway(503, "text/html", HTML), "AtMostOnce", None),
        ("gateway", "Sync", gateway(502, "text/html", HTML), "AtLeastOnce", None),
        ("cut", "Stream", Behaviour::StreamCut(vec![Frame::message("End", 0, "so far")]), "AtLeastOnce", None),
        ("lost", "Async", Behaviour::Lost, "AtLeastOnce", None),
    ];
    for (name, mode, behaviour, delivery, _) in &cases {
        scene.ask(name, name, behaviour.clone(), mode, &patch(delivery))?;
    }
    for (name, _, _, _, times) in &cases {
        if times.is_none() {
            scene.until_asked(name, |requests| !requests.is_empty()).await?;
            scene.platform.behave(name, Behaviour::Echo);
        }
    }
    for (name, _, _, _, times) in &cases {
        let status = scene.workflows.until_ended(name, Phase::Completed).await?;
        let begins: Vec<_> = scene.requests(name).into_iter().filter(|request| request.method == "POST").collect();
        assert!(times.map_or(begins.len() > 1, |times| begins.len() == times), "{name}: {}", begins.len());
        assert_eq!(only(&status).attempts, i32::try_from(begins.len())?, "{name}");
        assert_eq!(only(&status).output, Some(json!({"output": null})), "{name}");
        let same = |header: &str| {
            begins.iter().all(|request| request.header(header).is_some() && request.header(header) == begins[0].header(header))
        };
        assert!(same("idempotency-key") && same("authorization"), "{name}");
    }
    let patient = scene.requests("patient");
    assert!(patient[1].when.duration_since(patient[0].when) >= Duration::from_secs(3), "it is asked for when it wants to be");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_says_itself_which_answers_of_cozes_are_worth_another_attempt() -> Result<()> {
    let scene = Scene::begin("wf-coze-when").await?;
    let retry = |when: &str| json!({"retry": {"limit": 2, "backoff": {"initialSeconds": 1}, "retryWhen": when}});
    scene.ask("yes", "7001", Behaviour::FailTimes(1, Failure::bad_input()), "Sync", &retry("response.body.code == 4000"))?;
    scene.ask("no", "7002", Behaviour::Fail(Failure::rate_limit()), "Sync", &retry("response.status != 429"))?;
    scene.workflows.until_ended("yes", Phase::Completed).await?;
    scene.workflows.until_ended("no", Phase::Failed).await?;
    assert_eq!((scene.requests("7001").len(), scene.requests("7002").len()), (2, 1));
    Ok(())
}
