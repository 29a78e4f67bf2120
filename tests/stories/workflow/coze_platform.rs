//! The platform, judged by Coze's own SDK: what it is told to say is what the SDK understands.

use super::{ask, open};
use crate::provider;
use crate::testbed::authorization_server::{AuthorizationServer, random};
use crate::testbed::coze_platform::{Behaviour, CozePlatform, Ending, Execution, Failure, Frame, usage};
use crate::testbed::step_server::StepServer;
use crate::testbed::story::merge;
use crate::testbed::{Result, coze};
use serde_json::{Value, json};
use std::time::Duration;

/// A call, as tests/coze/workflows.py takes it.
fn call(call: &str, arguments: Value) -> Value {
    json!({"call": call, "token": random(), "arguments": arguments})
}

fn retrieve(execution: &Execution) -> Value {
    call("retrieve", json!({"workflow_id": execution.workflow_id, "execute_id": execution.id}))
}

/// What the SDK gave, where it gave something; under the id that the platform has given to that answer.
fn given<'a>(platform: &CozePlatform, outcome: &'a Value, request: usize, part: &str) -> &'a Value {
    assert_eq!((&outcome["status"], &outcome["raised"]), (&json!(200), &Value::Null), "{outcome}");
    assert_eq!(outcome["logid"], json!(platform.requests()[request].logid), "{outcome}");
    &outcome[part]
}

/// An event, as the SDK gives it: of its parts it has one.
fn event(id: usize, kind: &str, part: &str, value: Value) -> Value {
    let mut event = json!({"id": id, "event": kind, "message": null, "interrupt": null, "error": null, "unknown": null});
    event[part] = value;
    event
}

fn message(id: usize, content: &str, node_title: &str, last: bool) -> Value {
    let usage = if last { usage() } else { Value::Null };
    let message = json!({
        "content": content, "node_title": node_title, "node_seq_id": "0", "node_is_finish": last, "ext": null, "usage": usage,
    });
    event(id, "Message", "message", message)
}

#[tokio::test]
async fn the_sdk_reads_the_answer_to_a_run() -> Result<()> {
    if coze::skip() {
        return Ok(());
    }
    let platform = open().await?;
    platform.behave("7001", Behaviour::Output("words, and no JSON".into()));
    platform.behave("7002", Behaviour::Slow(Duration::from_millis(10)));
    platform.behave("7003", Behaviour::Large(100_000));
    let everything = json!({
        "workflow_id": "7000", "parameters": {"city": "杭州 🌧", "days": [1, 2.5, null]}, "bot_id": "7100", "app_id": "7200",
        "ext": {"user_id": "ann"},
    });
    let outcomes = coze::call(
        &platform,
        &[
            call("create", everything.clone()),
            call("create", json!({"workflow_id": "7001"})),
            call("create", json!({"workflow_id": "7002", "parameters": {"a": 1}})),
            call("create", json!({"workflow_id": "7003"})),
        ],
    )
    .await?;
    let outputs = [
        json!({"output": everything["parameters"]}).to_string(),
        "words, and no JSON".to_owned(),
        json!({"output": {"a": 1}}).to_string(),
        "x".repeat(100_000),
    ];
    for (index, (outcome, output)) in outcomes.iter().zip(outputs).enumerate() {
        let execution = &platform.executions()[index];
        let expected = json!({"data": output, "debug_url": execution.debug_url, "execute_id": null, "usage": usage()});
        assert_eq!(given(&platform, outcome, index, "answer"), &expected);
    }
    let mut sent = everything;
    sent["is_async"] = false.into();
    let requests = platform.requests();
    assert_eq!((requests[0].path.as_str(), &requests[0].body), ("/v1/workflow/run", &sent));
    Ok(())
}

#[tokio::test]
async fn the_sdk_reads_every_event_of_a_stream() -> Result<()> {
    if coze::skip() {
        return Ok(());
    }
    let platform = open().await?;
    let output = json!({"output": "坐不下！🌍"});
    let told = vec![Frame::message("Message", 0, "为"), Frame::Ping, Frame::output(&output), Frame::Done];
    platform.behave("7001", Behaviour::Stream(told));
    let error = Frame::Error { code: 4000, message: "Request parameter error".into() };
    platform.behave("7002", Behaviour::Stream(vec![Frame::message("Message", 0, "so far"), error]));
    let (event_id, then) = ("7404830425073352713/2769808280134765896".to_owned(), vec![Frame::output(&output), Frame::Done]);
    platform.behave("7003", Behaviour::Interrupt { event_id: event_id.clone(), kind: 2, then });
    platform.behave("7004", Behaviour::StreamCut(vec![Frame::message("Message", 0, "so far")]));
    let answer = json!({"workflow_id": "7003", "event_id": event_id, "resume_data": "杭州, today", "interrupt_type": 2});
    let mut to_another = answer.clone();
    to_another["interrupt_type"] = 5.into();
    let stream = |workflow: &str| call("stream", json!({"workflow_id": workflow, "parameters": {"a": "b"}}));
    let calls = [
        stream("7000"),
        stream("7001"),
        stream("7002"),
        stream("7003"),
        call("resume", answer.clone()),
        call("resume", to_another),
        stream("7004"),
    ];
    let outcomes = coze::call(&platform, &calls).await?;

    let end = |id, output: &Value| message(id, &output.to_string(), "End", true);
    let so_far = message(0, "so far", "Message", false);
    let failed = json!({"error_code": 4000, "error_message": "Request parameter error"});
    let interrupt = json!({"interrupt_data": {"event_id": event_id, "type": 2}, "node_title": "Question"});
    let expected = [
        json!([end(0, &json!({"output": {"a": "b"}}))]),
        json!([
            message(0, "为", "Message", false),
            // What it does not know, it gives as it came; of what is done it says nothing.
            event(1, "unknown", "unknown", json!({"id": "1", "event": "PING", "data": "{}"})),
            end(2, &output),
        ]),
        json!([so_far, event(1, "Error", "error", failed)]),
        json!([message(0, "Which city, and which day?", "Question", false), event(1, "Interrupt", "interrupt", interrupt),]),
        json!([end(0, &output)]),
    ];
    for (index, expected) in expected.iter().enumerate() {
        assert_eq!(given(&platform, &outcomes[index], index, "events"), expected);
    }
    assert_eq!((platform.requests()[4].path.as_str(), &platform.requests()[4].body), ("/v1/workflow/stream_resume", &answer));
    assert_refused(&platform, &outcomes[5], 5, &Failure::bad_input());
    let cut = &outcomes[6];
    assert_eq!((&cut["events"], &cut["raised"]["class"]), (&json!([so_far]), &json!("RemoteProtocolError")), "{cut}");
    Ok(())
}

#[tokio::test]
async fn the_sdk_follows_an_asynchronous_run_to_its_end() -> Result<()> {
    if coze::skip() {
        return Ok(());
    }
    let platform = open().await?;
    let output = json!({"report": [1, 2]});
    platform.behave("7001", Behaviour::Async { running_polls: 1, ending: Ending::Success(output.clone()) });
    let failed = Ending::Fail { code: 5000, message: "node Code failed".into() };
    platform.behave("7002", Behaviour::Async { running_polls: 0, ending: failed });
    platform.behave("7003", Behaviour::Async { running_polls: usize::MAX, ending: Ending::Cancel });
    let run = |workflow: &str, rest: Value| {
        let mut arguments = json!({"workflow_id": workflow, "is_async": true});
        merge(&mut arguments, &rest);
        call("create", arguments)
    };
    let runs = [
        run("7001", json!({"bot_id": "7100", "ext": {"user_id": "ann"}})),
        run("7002", json!({})),
        run("7003", json!({})),
        run("7000", json!({"parameters": {"a": "b"}})),
    ];
    let accepted = coze::call(&platform, &runs).await?;
    for (index, outcome) in accepted.iter().enumerate() {
        let Execution { id, debug_url, .. } = &platform.executions()[index];
        let expected = json!({"data": null, "debug_url": debug_url, "execute_id": id, "usage": null});
        assert_eq!(given(&platform, outcome, index, "answer"), &expected);
    }

    let executions = platform.executions();
    let [first, second, third, fourth] = executions.as_slice() else { return Err("not four".into()) };
    platform.finish(&third.id, Ending::Success("at last".into()));
    let polls = [retrieve(first), retrieve(first), retrieve(second), retrieve(third), retrieve(fourth)];
    let outcomes = coze::call(&platform, &polls).await?;
    // The end node's output is text, in an object, as text.
    let success = |output: &str| json!({"execute_status": "Success", "output": json!({"Output": output}).to_string()});
    let expected = [
        (first, json!({"execute_status": "Running", "output": ""})),
        (first, success(&output.to_string())),
        (second, json!({"execute_status": "Fail", "output": "", "error_code": 5000, "error_message": "node Code failed"})),
        (third, success("at last")),
        (fourth, success(r#"{"output":{"a":"b"}}"#)),
    ];
    for (index, (outcome, (execution, patch))) in outcomes.iter().zip(expected).enumerate() {
        let mut expected = json!({
            "execute_id": execution.id, "bot_id": "0", "connector_id": "1024", "connector_uid": "2236870734640001",
            "run_mode": 2, "logid": execution.logid, "create_time": execution.created, "update_time": execution.created,
            "error_code": 0, "error_message": "", "debug_url": execution.debug_url, "usage": usage(),
            "is_output_trimmed": false,
        });
        if execution.id == first.id {
            merge(&mut expected, &json!({"bot_id": "7100", "connector_uid": "ann"}));
        }
        merge(&mut expected, &patch);
        expected["node_execute_status"] = Value::Null;
        assert_eq!(given(&platform, outcome, 4 + index, "answer"), &expected);
    }
    assert_eq!(platform.executions().iter().map(|execution| execution.polls).collect::<Vec<_>>(), [2, 1, 1, 1]);
    Ok(())
}

/// What the SDK raises for a failure, in all that it tells its caller.
fn assert_refused(platform: &CozePlatform, outcome: &Value, request: usize, failure: &Failure) {
    let raised = json!({
        "class": "CozeAPIError", "code": failure.code, "message": failure.msg, "debug_url": null,
        "logid": platform.requests()[request].logid,
    });
    assert_eq!((&outcome["status"], &outcome["raised"]), (&json!(failure.http), &raised), "{outcome}");
}

#[tokio::test]
async fn the_sdk_raises_every_error_with_its_code_and_id() -> Result<()> {
    if coze::skip() {
        return Ok(());
    }
    let platform = open().await?;
    let failures = [
        Failure::bad_input(),
        Failure::authentication(),
        Failure::authentication().with_http(200),
        Failure::permission(),
        Failure::permission().with_http(403),
        Failure::rate_limit(),
        Failure::rate_limit().with_http(200).with_retry_after(1),
        Failure::not_published(),
        Failure::server(),
        Failure::server().with_http(200),
        Failure::wrong_session(),
        Failure::wrong_session().with_http(401),
    ];
    let mut calls = vec![];
    for (index, failure) in failures.iter().enumerate() {
        let workflow = format!("70{index:02}");
        platform.behave(&workflow, Behaviour::Fail(failure.clone()));
        calls.push(call("create", json!({"workflow_id": workflow})));
        calls.push(call("stream", json!({"workflow_id": workflow})));
    }
    let outcomes = coze::call(&platform, &calls).await?;
    for (index, outcome) in outcomes.iter().enumerate() {
        assert_refused(&platform, outcome, index, &failures[index / 2]);
    }

    // What comes and goes; what fails only when it is asked for; what fails while it runs; what nobody knows.
    let before = platform.requests().len();
    platform.behave("8001", Behaviour::FailTimes(1, Failure::server()));
    let broken = Ending::Fail { code: 720_701_013, message: "node Code failed".into() };
    platform.behave("8002", Behaviour::Async { running_polls: 0, ending: broken });
    platform.fail_polls(1, &Failure::rate_limit());
    let create = |workflow: &str| call("create", json!({"workflow_id": workflow}));
    let unknown = call("retrieve", json!({"workflow_id": "8001", "execute_id": "1"}));
    let outcomes =
        coze::call(&platform, &[create("8001"), create("8001"), unknown.clone(), unknown, create("8002"), create("")]).await?;
    assert_refused(&platform, &outcomes[0], before, &Failure::server());
    assert_eq!(given(&platform, &outcomes[1], before + 1, "answer")["data"], json!(r#"{"output":null}"#));
    assert_refused(&platform, &outcomes[2], before + 2, &Failure::rate_limit());
    assert_refused(&platform, &outcomes[3], before + 3, &Failure::not_published());
    let raised = &outcomes[4]["raised"];
    let debug_url = platform.executions().last().map(|execution| execution.debug_url.clone());
    assert_eq!((&raised["code"], &raised["debug_url"]), (&json!(720_701_013), &json!(debug_url)), "{raised}");
    assert_refused(&platform, &outcomes[5], before + 5, &Failure::bad_input());
    Ok(())
}

/// A token of client credentials, and the client that it was issued to.
async fn token(provider: &AuthorizationServer) -> Result<(String, String)> {
    let client = provider.register(60, "client_secret_basic").await?;
    let request = provider.http()?.post(format!("{}/token", provider.issuer)).basic_auth(&client.id, Some(&client.secret));
    let request = request.header("content-type", "application/x-www-form-urlencoded").body("grant_type=client_credentials");
    let answer: Value = serde_json::from_str(&request.send().await?.text().await?)?;
    Ok((answer["access_token"].as_str().ok_or_else(|| answer.to_string())?.to_owned(), client.id))
}

#[tokio::test]
async fn a_made_up_token_is_refused_and_a_real_one_is_taken() -> Result<()> {
    let provider = provider().await?;
    let (platform, steps) = (CozePlatform::start(provider).await?, StepServer::start(provider).await?);
    let ((real, client), made_up) = (token(provider).await?, random());
    let body = json!({"workflow_id": "7001", "parameters": {"a": 1}}).to_string();
    let run = |http: &reqwest::Client| http.post(format!("{}/v1/workflow/run", platform.url)).body(body.clone());
    let items = |http: &reqwest::Client| http.get(format!("{}/items?topic=a%20b", steps.url));

    let (status, refused) = ask(&platform.ca, run, &made_up).await?;
    let logid = platform.requests()[0].logid.clone();
    let expected = json!({"code": 4100, "msg": "authentication is invalid", "detail": {"logid": logid}});
    assert_eq!((status, refused), (401, expected));
    let (status, answer) = ask(&platform.ca, run, &real).await?;
    assert_eq!((status, &answer["data"]), (200, &json!(r#"{"output":{"a":1}}"#)), "{answer}");
    let clients: Vec<_> = platform.requests().iter().map(|request| request.client.clone()).collect();
    assert_eq!(clients, [None, Some(client.clone())]);
    assert_eq!(platform.executions().len(), 1, "who is refused runs nothing");

    assert_eq!(ask(&steps.ca, items, &made_up).await?, (401, json!({"error": "invalid_token"})));
    let expected = json!({"items": [{"id": 1}, {"id": 2}, {"id": 3}], "client": client});
    assert_eq!(ask(&steps.ca, items, &real).await?, (200, expected));
    let clients: Vec<_> = steps.requests_to("/items").iter().map(|request| request.client.clone()).collect();
    assert_eq!(clients, [None, Some(client)]);
    assert_eq!(steps.requests()[0].query["topic"], "a b");
    Ok(())
}
