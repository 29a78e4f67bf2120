//! What a workflow gives, and what is known of it, whichever way it is run.

use super::{Scene, only};
use crate::testbed::Result;
use crate::testbed::coze_platform::{Behaviour, Dialect, Ending, Frame, usage};
use crate::testbed::workflows::step;
use oauth_operator::api::{Phase, Usage};
use serde_json::{Value, json};

/// A stream of this output in fragments, one of them cut in the middle of a character on its way.
fn fragments(output: &str, dialect: Dialect) -> Vec<Frame> {
    let end =
        |seq: u64, content: &str, last: bool| Frame::Message { content: content.into(), node_title: "End".into(), seq, last };
    let cut = |at: usize| {
        let frame = end(0, &output[..at], false);
        let wire = frame.wire(2, dialect, "");
        (!wire.is_char_boundary(wire.len() / 2)).then_some((frame, at))
    };
    let (first, at) =
        output.char_indices().filter_map(|(at, _)| cut(at)).next().expect("the output has characters of many bytes");
    let mut frames = vec![Frame::message("Message", 0, "not the end's"), Frame::Ping, first, Frame::Ping];
    frames.extend([end(1, &output[at..], true), Frame::Ping, Frame::Done]);
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_gives_the_same_in_every_mode_and_dialect() -> Result<()> {
    let scene = Scene::begin("wf-coze-modes").await?;
    for (dialect, name) in [(Dialect::Coze, "Coze"), (Dialect::CozeStudio, "CozeStudio")] {
        scene.platform.speak(dialect);
        let outputs = [
            ("object", json!({"report": "坐不下！🌍".repeat(12), "n": [1, 2.5, null]})),
            ("text", json!("坐不下，为什么？🌍 Words. ".repeat(8))),
        ];
        let (mut steps, mut expected) = (vec![], vec![]);
        for (kind, output) in &outputs {
            for mode in ["Sync", "Stream", "Async"] {
                let (step, workflow) = (format!("{kind}-{}", mode.to_lowercase()), format!("{name}-{kind}-{mode}"));
                scene.platform.behave(
                    &workflow,
                    match mode {
                        "Sync" => Behaviour::Output(output.clone()),
                        "Stream" => Behaviour::Stream(fragments(&Ending::text(output), dialect)),
                        _ => Behaviour::Async { running_polls: 1, ending: Ending::Success(output.clone()) },
                    },
                );
                steps.push(scene.step(&step, &workflow, mode, &json!({"coze": {"dialect": name}})));
                expected.push((step, workflow, mode, output.clone()));
            }
        }
        let run = format!("run-{}", name.to_lowercase());
        scene.run(&run, &json!({"steps": steps, "parallelism": 6}))?;
        let status = scene.workflows.until_ended(&run, Phase::Completed).await?;
        for (name, workflow, mode, output) in expected {
            let step = step(&status, &name);
            assert_eq!((step.output.as_ref(), step.http_status, step.attempts), (Some(&output), Some(200), 1), "{workflow}");
            let executions = scene.begun(&workflow);
            let [execution] = executions.as_slice() else {
                return Err(format!("{workflow} was begun {} times", executions.len()).into());
            };
            let remote = step.remote.clone().unwrap_or_default();
            assert_eq!(
                (remote.log_id.as_ref(), remote.debug_url.as_ref()),
                (Some(&execution.logid), Some(&execution.debug_url)),
                "{workflow}"
            );
            if mode == "Async" {
                assert_eq!((remote.execute_id.as_ref(), remote.state.as_deref()), (Some(&execution.id), Some("Success")));
                assert_eq!(execution.polls, 2, "{workflow}");
            }
            let keys: Vec<_> =
                scene.requests(&workflow).iter().map(|request| request.header("idempotency-key").map(str::to_owned)).collect();
            assert!(keys.iter().all(|key| key.is_some() && *key == step.idempotency_key), "{workflow}: {keys:?}");
        }
        let count = |name: &str| usage()[name].as_i64().unwrap_or_default() * 6;
        let (input_count, output_count) =
            if dialect == Dialect::Coze { (count("input_count"), count("output_count")) } else { (0, 0) };
        // Coze Studio tells the sum alone, and not of a run that it has accepted: its history has it.
        assert_eq!(status.usage, Some(Usage { input_count, output_count, token_count: count("token_count") }), "{name}");
    }
    assert_eq!(scene.tokens().await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_given_with_their_types_and_a_step_after_it_sees_the_output() -> Result<()> {
    let scene = Scene::begin("wf-coze-given").await?;
    let given = json!({
        "output": "${response.body.output.ids.map(i, i * 2)}",
        "coze": {
            "botID": "7100", "appID": "7200", "ext": {"user_id": "${input.user}"},
            "parameters": {"ids": "${input.ids}", "deep": {"n": "${input.n}", "yes": "${input.n > 2}"}, "text": "${input.user} has ${input.n}"},
        },
    });
    let then = scene.step(
        "then",
        "7002",
        "Stream",
        &json!({"dependsOn": ["first"], "coze": {"parameters": {"ids": "${steps.first.output}"}}}),
    );
    let spec = json!({
        "steps": [scene.step("first", "7001", "Sync", &given), then],
        "outputs": {"ids": "${steps.then.output.output.ids}", "http": "${steps.first.status}"},
    });
    scene.workflows.run("given", &json!({"workflowSpec": spec, "input": {"ids": [1, 2, 3], "n": 3, "user": "ann é"}}))?;
    let status = scene.workflows.until_ended("given", Phase::Completed).await?;
    assert_eq!(status.outputs, Some(json!({"ids": [2, 4, 6], "http": 200})));
    let expected = json!({
        "workflow_id": "7001", "bot_id": "7100", "app_id": "7200", "ext": {"user_id": "ann é"},
        "parameters": {"ids": [1, 2, 3], "deep": {"n": 3, "yes": true}, "text": "ann é has 3"},
    });
    assert_eq!(scene.requests("7001").iter().map(|request| request.body.clone()).collect::<Vec<_>>(), [expected]);
    assert_eq!(scene.requests("7002")[0].body, json!({"workflow_id": "7002", "parameters": {"ids": [2, 4, 6]}}));
    assert!(scene.platform.requests().iter().all(|request| request.client.as_ref() == Some(&scene.client.id)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_run_is_known_by_its_id_while_it_goes_on() -> Result<()> {
    let scene = Scene::begin("wf-coze-accepted").await?;
    let forever = Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel };
    scene.ask("accepted", "7001", forever, "Async", &json!({}))?;
    let known = |step: &oauth_operator::api::StepStatus| step.remote.as_ref().is_some_and(|remote| remote.execute_id.is_some());
    let status = scene.workflows.until("accepted", |status| status.steps.first().is_some_and(known)).await?;
    let execution = scene.begun("7001").remove(0);
    let remote = only(&status).remote.clone().unwrap_or_default();
    assert_eq!((remote.execute_id, remote.state.as_deref()), (Some(execution.id.clone()), Some("Running")));
    assert_eq!((remote.log_id, remote.debug_url), (Some(execution.logid), Some(execution.debug_url)));
    assert_eq!((only(&status).phase, status.phase), (Phase::Running, Phase::Running));
    scene.until_asked("7001", |requests| requests.len() >= 4).await?;
    scene.platform.finish(&execution.id, Ending::Success(json!({"at": "last"})));
    let status = scene.workflows.until_ended("accepted", Phase::Completed).await?;
    assert_eq!(only(&status).output, Some(json!({"at": "last"})));
    let bodies: Vec<Value> = scene.requests("7001").iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies[0], json!({"workflow_id": "7001", "is_async": true}));
    assert!(bodies[1..].iter().all(Value::is_null), "{bodies:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_a_workflow_gives_back_is_masked_in_whole_and_in_fragments() -> Result<()> {
    let scene = Scene::begin("wf-coze-echo").await?;
    let token = scene.workflows.story.key("coze-token", "access_token")?;
    let (first, second) = token.split_at(token.len() / 2);
    let end = |seq, content: String| Frame::Message { content, node_title: "End".into(), seq, last: seq == 1 };
    let fragments = vec![end(0, format!(r#"{{"said": "Bearer {first}"#)), end(1, format!(r#"{second}"}}"#)), Frame::Done];
    scene.ask("fragments", "7001", Behaviour::Stream(fragments), "Stream", &json!({}))?;
    scene.ask("whole", "7002", Behaviour::Output(json!({"said": format!("Bearer {token}")})), "Sync", &json!({}))?;
    for run in ["fragments", "whole"] {
        let status = scene.workflows.until_ended(run, Phase::Completed).await?;
        assert_eq!(only(&status).output, Some(json!({"said": "Bearer ***"})), "{run}");
    }
    assert!(scene.platform.requests().iter().all(|request| request.token() == Some(&token)));
    Ok(())
}
