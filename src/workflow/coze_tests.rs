use super::*;
use crate::api::Workflow;
use crate::workflow::definition::{CallPlan, Definition};

/// A step as a user writes it, `coze` merged into what every one has.
fn plan(coze: Value) -> Box<CozePlan> {
    let mut step = json!({"name": "run", "coze": {"workflowID": "7001", "accountRef": {"name": "coze"}}});
    step["coze"].as_object_mut().unwrap().extend(coze.as_object().unwrap().clone());
    let workflow = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": "w"}, "spec": {"steps": [step]},
    });
    let workflow: Workflow = serde_json::from_value(workflow).unwrap();
    match Definition::of(&workflow.spec).unwrap().steps.remove(0).call {
        CallPlan::Coze(plan) => plan,
        CallPlan::Http(_) => panic!("it is a run at Coze"),
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, headers: vec![("x-tt-logid".into(), "log-1".into())], body: body.into() }
}

fn progress_of(id: &str) -> Question {
    Question::Progress { execute_id: id.into() }
}

fn resume() -> Question {
    Question::Resume { event_id: "1/2".into(), kind: 5, data: "杭州".into() }
}

/// What came of it, in a word: refused tokens apart from failures, and of those the reason, `retry` and `doubt`.
fn verdict(judged: &Judged) -> String {
    match judged {
        Judged::Completed(done) => format!("completed {}", done.output),
        Judged::Accepted(remote) => format!("accepted {}", remote.execute_id.as_deref().unwrap_or("?")),
        Judged::Running(_) => "running".into(),
        Judged::Interrupted(remote) => {
            let interrupt = remote.interrupt.as_ref().unwrap();
            format!("asked {} {} {:?}", interrupt.event_id, interrupt.kind, interrupt.question.as_deref().unwrap_or_default())
        }
        Judged::Unauthorized(_) => "unauthorized".into(),
        Judged::Withheld => "withheld".into(),
        Judged::Failed(Failure { reason, retry, doubt, .. }) => {
            let marks = [(*retry, " retry"), (*doubt, " doubt")].map(|(is, word)| if is { word } else { "" });
            format!("{}{}", reason.as_str(), marks.concat())
        }
    }
}

#[test]
fn a_run_that_is_begun_is_judged_by_code_before_status() {
    // Status, code, and what it means where the run may not be begun twice, and where it may.
    let cases: [(u16, i64, &str, &str); 17] = [
        (200, 4000, "StepFailed", "StepFailed"),
        (200, 4100, "unauthorized", "unauthorized"),
        (401, 4100, "unauthorized", "unauthorized"),
        (200, 4101, "PermissionDenied", "PermissionDenied"),
        (401, 4101, "PermissionDenied", "PermissionDenied"),
        (403, 4101, "PermissionDenied", "PermissionDenied"),
        (200, 4013, "RateLimited retry", "RateLimited retry"),
        (429, 4013, "RateLimited retry", "RateLimited retry"),
        (429, 702_092_029, "RateLimited retry", "RateLimited retry"),
        (200, 4200, "StepFailed", "StepFailed"),
        (200, 6031, "StepFailed", "StepFailed"),
        (200, 5000, "StepFailed", "StepFailed retry"),
        (500, 5000, "StepFailed", "StepFailed retry"),
        (200, 720_701_013, "StepFailed", "StepFailed retry"),
        (200, 700_012_006, "unauthorized", "unauthorized"),
        (401, 700_012_005, "unauthorized", "unauthorized"),
        (200, 1, "StepFailed", "StepFailed"),
    ];
    for (status, code, once, again) in cases {
        let said = json!({"code": code, "msg": "The token you entered is incorrect.", "detail": {"logid": "x"}}).to_string();
        for mode in ["Sync", "Stream", "Async"] {
            let plan = plan(json!({"mode": mode}));
            let judge = |idempotent| verdict(&plan.judge(&Question::Begin, &answer(status, &said), idempotent));
            assert_eq!((judge(false).as_str(), judge(true).as_str()), (once, again), "{mode}: HTTP {status}, code {code}");
        }
    }
}

#[test]
fn what_is_refused_is_said_with_code_words_and_id() {
    let said = json!({"code": 4101, "msg": "é".repeat(2000)}).to_string();
    let Judged::Failed(failure) = plan(json!({})).judge(&Question::Begin, &answer(403, &said), false) else { panic!() };
    assert!(
        failure.message.starts_with("Coze answered code 4101, \"ééé") && failure.message.len() <= 1024,
        "{}",
        failure.message
    );
    assert!(failure.message.contains("same region"), "{}", failure.message);
    assert_eq!((failure.http_status, failure.remote.unwrap().log_id.as_deref()), (Some(403), Some("log-1")));
    let mut limited = answer(200, r#"{"code": 4013, "msg": ""}"#);
    limited.headers = vec![("retry-after".into(), "7".into())];
    let Judged::Failed(failure) = plan(json!({})).judge(&Question::Begin, &limited, false) else { panic!() };
    assert_eq!(failure.retry_after, Some(jiff::SignedDuration::from_secs(7)));
}

#[test]
fn what_is_not_cozes_is_no_success_and_ends_no_run_that_was_begun() {
    let html = "<html><body>502 Bad Gateway</body></html>";
    // Status, body; when it is begun (once, and where it may be repeated), and when it is asked for.
    let cases = [
        (200, html, "StepFailed", "StepFailed", "StepFailed retry"),
        (200, "", "StepFailed", "StepFailed", "StepFailed retry"),
        (200, "[1]", "StepFailed", "StepFailed", "StepFailed retry"),
        (200, r#"{"data": "{}"}"#, "StepFailed", "StepFailed", "StepFailed retry"),
        (200, r#"{"ok": true}"#, "StepFailed", "StepFailed", "StepFailed retry"),
        (200, r#"{"code": "0", "data": "{}"}"#, "StepFailed", "StepFailed", "StepFailed retry"),
        (500, r#"{"code": 0, "data": "{}"}"#, "StepFailed", "StepFailed retry", "StepFailed retry"),
        (404, html, "StepFailed", "StepFailed", "StepFailed retry"),
        (500, html, "StepFailed", "StepFailed retry", "StepFailed retry"),
        // What has waited for Coze does not know what Coze has done.
        (502, html, "StepFailed doubt", "StepFailed retry doubt", "StepFailed retry doubt"),
        (504, html, "StepFailed doubt", "StepFailed retry doubt", "StepFailed retry doubt"),
        (503, html, "StepFailed retry", "StepFailed retry", "StepFailed retry"),
        (429, html, "RateLimited retry", "RateLimited retry", "RateLimited retry"),
        (401, html, "unauthorized", "unauthorized", "unauthorized"),
        (403, html, "PermissionDenied", "PermissionDenied", "PermissionDenied"),
    ];
    let plan = plan(json!({"mode": "Async"}));
    for (status, body, once, again, asked) in cases {
        let judge = |question: &Question, idempotent| verdict(&plan.judge(question, &answer(status, body), idempotent));
        assert_eq!(judge(&Question::Begin, false), once, "HTTP {status}, {body}");
        assert_eq!(judge(&Question::Begin, true), again, "HTTP {status}, {body}");
        assert_eq!(judge(&progress_of("1"), true), asked, "HTTP {status}, {body}");
    }
}

/// A workflow's output, as each way of running it brings it: the text that stands in `data`.
fn every_way(text: &str) -> Vec<(&'static str, Judged)> {
    let (coze, studio) = (plan(json!({})), plan(json!({"dialect": "CozeStudio", "baseURL": "https://studio.example"})));
    let data = json!({"code": 0, "msg": "", "data": text}).to_string();
    let history = json!({"code": 0, "data": [{"execute_status": "Success", "output": json!({"Output": text}).to_string()}]});
    let of_studio = json!({"data": [{"execute_status": "Success", "output": text}]});
    let mut stream = Stream::new(None);
    let fragments: Vec<String> = text.chars().map(String::from).collect();
    for fragment in fragments {
        assert_eq!(stream.feed("Message", &json!({"content": fragment, "node_title": "End"}).to_string(), false), None);
    }
    vec![
        ("sync", coze.judge(&Question::Begin, &answer(200, &data), false)),
        ("resumed", coze.judge(&resume(), &answer(200, &data), false)),
        ("studio sync", studio.judge(&Question::Begin, &answer(200, &data), false)),
        ("async", coze.judge(&progress_of("1"), &answer(200, &history.to_string()), true)),
        ("studio async", studio.judge(&progress_of("1"), &answer(200, &of_studio.to_string()), true)),
        ("stream", stream.feed("Done", "{}", false).unwrap()),
    ]
}

#[test]
fn an_output_is_the_same_in_every_mode_and_dialect() {
    let cases = [
        (r#"{"output":{"a":[1,2.5,null]}}"#, json!({"output": {"a": [1, 2.5, null]}})),
        (r#"{"Output":"text"}"#, json!({"Output": "text"})),
        (r#"{"Output":"{\"a\":1}"}"#, json!({"Output": "{\"a\":1}"})),
        ("words, 坐不下 🌍", json!("words, 坐不下 🌍")),
        // Texts, though they look like something else: a number of that many digits would not survive.
        ("1234567890123456789012345", json!("1234567890123456789012345")),
        ("007", json!("007")),
        ("true", json!("true")),
        ("null", json!("null")),
        ("\"quoted\"", json!("\"quoted\"")),
        ("{\"cut", json!("{\"cut")),
    ];
    for (text, expected) in cases {
        for (way, judged) in every_way(text) {
            assert_eq!(verdict(&judged), format!("completed {expected}"), "{way}: {text}");
        }
    }
}

#[test]
fn how_a_run_goes_is_read_in_both_dialects() {
    let history = |entry: Value| json!({"code": 0, "msg": "", "data": [entry]});
    let cases = [
        (history(json!({"execute_status": "Running", "output": ""})), "running"),
        (json!({"data": [{"execute_status": "Running"}]}), "running"),
        // It may not be written down yet.
        (json!({"code": 0, "data": []}), "running"),
        (history(json!({"execute_status": "Fail", "error_code": "5000", "error_message": "node Code failed"})), "StepFailed"),
        (history(json!({"execute_status": "Cancel", "error_code": "777777777", "error_msg": "by user"})), "StepFailed"),
        (
            history(json!({"execute_status": "Interrupted", "interrupt_data": {"event_id": "1/2", "type": 2, "data": "Which?"}})),
            r#"asked 1/2 2 "Which?""#,
        ),
        (json!({"code": 4200, "msg": "not there"}), "StepFailed"),
        (json!({"code": 5000, "msg": ""}), "StepFailed retry"),
        (json!({"code": 700_012_006, "msg": "authentication failed"}), "unauthorized"),
    ];
    let plan = plan(json!({"mode": "Async"}));
    for (said, expected) in cases {
        let judged = plan.judge(&progress_of("1"), &answer(200, &said.to_string()), true);
        assert_eq!(verdict(&judged), expected, "{said}");
    }
    let failed = history(json!({"execute_status": "Fail", "error_code": "5000", "error_message": "node Code failed"}));
    let Judged::Failed(failure) = plan.judge(&progress_of("1"), &answer(200, &failed.to_string()), true) else { panic!() };
    assert_eq!(failure.message, "The run failed at Coze, with code 5000, \"node Code failed\".");
    assert_eq!(failure.remote.unwrap().state.as_deref(), Some("Fail"));
}

#[test]
fn what_the_remote_side_calls_it_fits_status_however_long_it_is() {
    let long = "x".repeat(5000);
    let entry = json!({
        "execute_status": "Success", "output": "", "logid": long, "debug_url": long, "error_code": long,
        "usage": {"input_count": "50", "output_count": 100, "token_count": -1},
    });
    let said = json!({"code": 0, "data": [entry]}).to_string();
    let Judged::Completed(done) = plan(json!({})).judge(&progress_of("1"), &answer(200, &said), true) else { panic!() };
    let remote = done.remote.unwrap();
    assert_eq!((remote.log_id.unwrap().len(), remote.debug_url.unwrap().len()), (256, 2048));
    assert_eq!(done.usage, Some(Usage { input_count: 50, output_count: 100, token_count: 0 }));
    let begun = json!({"code": 0, "execute_id": long, "debug_url": long, "detail": {"logid": long}}).to_string();
    let begun = Answer { headers: vec![], ..answer(200, &begun) };
    let Judged::Accepted(remote) = plan(json!({"mode": "Async"})).judge(&Question::Begin, &begun, false) else { panic!() };
    let lengths = [remote.execute_id, remote.log_id, remote.debug_url].map(|text| text.unwrap().len());
    assert_eq!(lengths, [256, 256, 2048]);
}

#[test]
fn a_run_that_nobody_can_ask_for_or_answer_is_a_failure() {
    let judge = |mode: &str, said: Value| {
        verdict(&plan(json!({"mode": mode})).judge(&Question::Begin, &answer(200, &said.to_string()), false))
    };
    assert_eq!(judge("Async", json!({"code": 0, "execute_id": "743"})), "accepted 743");
    assert_eq!(judge("Async", json!({"code": 0, "execute_id": ""})), "StepFailed doubt");
    let interrupt = |event: &str| json!({"code": 0, "execute_id": "743", "interrupt_data": {"event_id": event, "type": 2}});
    assert_eq!(judge("Sync", interrupt("1/2")), r#"asked 1/2 2 """#);
    assert_eq!(judge("Sync", interrupt("")), "InvalidDefinition");
}

/// What a stream of these events comes to, and at which of them.
fn fed(events: &[(&str, Value)], idempotent: bool) -> (usize, String) {
    let mut stream = Stream::new(Some("log-1".into()));
    for (index, (event, data)) in events.iter().enumerate() {
        if let Some(judged) = stream.feed(event, &data.to_string(), idempotent) {
            return (index, verdict(&judged));
        }
    }
    (events.len(), "nothing".into())
}

#[test]
fn a_stream_gives_what_its_last_node_says_and_the_end_before_any_other() {
    let says = |node: &str, content: &str| ("Message", json!({"node_title": node, "content": content}));
    let done = || ("Done", json!({"debug_url": "https://x"}));
    type Case = (Vec<(&'static str, Value)>, usize, &'static str);
    let cases: Vec<Case> = vec![
        (vec![says("A", "no"), says("End", "y"), says("End", "es"), done()], 3, r#"completed "yes""#),
        (vec![says("A", "on"), says("A", "e"), says("B", "tw"), says("B", "o"), done()], 4, r#"completed "two""#),
        (
            vec![says("End", "{\"a\""), says("A", "late"), ("PING", json!({})), says("End", ":1}"), done()],
            4,
            r#"completed {"a":1}"#,
        ),
        (vec![done()], 0, r#"completed """#),
        (vec![says("End", "yes"), ("Later", json!({"content": "no"})), done()], 2, r#"completed "yes""#),
        (vec![says("End", "yes")], 1, "nothing"),
        // What Coze Studio says of a node.
        (
            vec![("Message", json!({"node_type": "End", "node_title": "Finish", "node_id": "900001", "content": "x"})), done()],
            1,
            r#"completed "x""#,
        ),
        (
            vec![
                says("Question", "Which city?"),
                ("Interrupt", json!({"interrupt_data": {"data": "", "event_id": "1/2", "type": 2}})),
            ],
            1,
            r#"asked 1/2 2 "Which city?""#,
        ),
        (
            vec![("Interrupt", json!({"node_title": "Ask", "interrupt_data": {"data": "When?", "event_id": "1/2", "type": 5}}))],
            0,
            r#"asked 1/2 5 "When?""#,
        ),
        (vec![("Interrupt", json!({"interrupt_data": {}}))], 0, "InvalidDefinition"),
    ];
    for (events, index, expected) in cases {
        assert_eq!(fed(&events, false), (index, expected.into()), "{events:?}");
    }
}

#[test]
fn an_error_in_a_stream_begins_no_run_twice_that_may_be_begun_once() {
    let error = |code: i64| ("Error", json!({"error_code": code, "error_message": "no"}));
    let message = || ("Message", json!({"node_title": "A", "content": "so far"}));
    // As the first thing that is said, after a message, and after a message where the run may be repeated.
    let cases = [
        (4000, "StepFailed", "StepFailed", "StepFailed"),
        (4013, "RateLimited retry", "RateLimited", "RateLimited retry"),
        (4100, "unauthorized", "AuthFailed", "unauthorized"),
        (4101, "PermissionDenied", "PermissionDenied", "PermissionDenied"),
        (5000, "StepFailed", "StepFailed", "StepFailed retry"),
    ];
    for (code, first, later, again) in cases {
        assert_eq!(fed(&[error(code)], false).1, first, "{code}");
        assert_eq!(fed(&[message(), error(code)], false).1, later, "{code}");
        assert_eq!(fed(&[message(), error(code)], true).1, again, "{code}");
    }
}

#[test]
fn what_is_asked_of_coze_is_what_its_documents_say() {
    let scope = Scope::default().with("input", std::sync::Arc::new(json!({"ids": [1, 2], "city": "杭州"})));
    let given = json!({"parameters": {"ids": "${input.ids}", "q": "in ${input.city}"}, "ext": {"user_id": "ann"}, "botID": "71", "appID": "72"});
    let with = |mode: &str| {
        let mut coze = given.clone();
        coze["mode"] = json!(mode);
        plan(coze)
    };
    let studio = plan(json!({"dialect": "CozeStudio", "baseURL": "https://studio.example/"}));
    let begin = json!({
        "workflow_id": "7001", "parameters": {"ids": [1, 2], "q": "in 杭州"}, "ext": {"user_id": "ann"}, "bot_id": "71", "app_id": "72",
    });
    let mut begin_async = begin.clone();
    begin_async["is_async"] = json!(true);
    let resumed = json!({"workflow_id": "7001", "event_id": "1/2", "resume_data": "杭州", "interrupt_type": 5});
    let cases = [
        (with("Sync"), Question::Begin, "POST /v1/workflow/run", begin.clone()),
        (with("Stream"), Question::Begin, "POST /v1/workflow/stream_run", begin),
        (with("Async"), Question::Begin, "POST /v1/workflow/run", begin_async),
        (with("Sync"), resume(), "POST /v1/workflows/resume", resumed.clone()),
        (with("Stream"), resume(), "POST /v1/workflow/stream_resume", resumed),
        (with("Async"), progress_of("7/4&3"), "GET /v1/workflows/7001/run_histories/7%2F4%263", Value::Null),
        (studio, progress_of("743"), "GET /v1/workflow/get_run_history?workflow_id=7001&execute_id=743", Value::Null),
    ];
    for (plan, question, expected, body) in cases {
        let call = plan.compose(&question, "https://api.coze.cn/", &scope, "key-1").unwrap();
        let (_, path) = call.url.as_str().split_once("https://api.coze.cn").unwrap();
        assert_eq!(format!("{} {path}", call.method.as_str()), expected);
        assert_eq!(serde_json::from_slice::<Value>(&call.body).unwrap_or_default(), body, "{expected}");
        let header = |name: &str| call.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(header("idempotency-key"), Some("key-1"), "{expected}");
        assert_eq!(header("content-type"), (!body.is_null()).then_some("application/json"), "{expected}");
        assert_eq!(call.account.as_deref(), Some("coze"));
    }
    let broken =
        plan(json!({"parameters": {"a": "${input.none}"}})).compose(&Question::Begin, "https://api.coze.cn", &scope, "k");
    let failure = broken.unwrap_err();
    assert_eq!(failure.reason, RunReason::InvalidDefinition);
    assert!(failure.message.starts_with("parameters: "), "{}", failure.message);
    let placeless = plan(json!({})).compose(&Question::Begin, "api.coze.cn", &scope, "k").unwrap_err();
    assert_eq!(placeless.reason, RunReason::InvalidDefinition);
}

#[test]
fn a_coze_studio_must_say_where_it_is() {
    let step = json!({"name": "run", "coze": {"workflowID": "1", "accountRef": {"name": "a"}, "dialect": "CozeStudio"}});
    let spec = serde_json::from_value(json!({"steps": [step]})).unwrap();
    let error = Definition::of(&spec).unwrap_err().to_string();
    assert_eq!(error, "spec.steps[run].coze.baseURL: a Coze Studio of your own has an address of its own: set it here");
}
