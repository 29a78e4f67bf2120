//! What answers mean, in tables.

use super::answer::{Answer, Judged, Verified};
use super::decide_tests::play::{definition, step};
use super::definition::{CallPlan, Definition};
use crate::api::RunReason;
use crate::expression::Scope;
use serde_json::{Value, json};

fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Answer {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Answer { status, headers, body: body.into() }
}

const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];

/// A workflow of one step that asks with this method, with `patch` merged into it.
fn of(method: &str, patch: &Value) -> Definition {
    let mut all = json!({"http": {"method": method, "url": "https://api.example.com/x"}});
    for (key, value) in patch.as_object().into_iter().flatten() {
        match all[key].as_object_mut().zip(value.as_object()) {
            Some((there, more)) => there.extend(more.clone()),
            None => all[key] = value.clone(),
        }
    }
    definition(&json!({"steps": [step("a", &[], all)]}))
}

fn judge(definition: &Definition, answer: &Answer) -> Judged {
    let plan = &definition.steps[0];
    let CallPlan::Http(request) = &plan.call else { panic!("an HTTP step") };
    request.judge(Some(plan), answer, &Scope::default())
}

#[test]
fn a_status_says_what_went_wrong_and_whether_another_attempt_may_help() {
    let bare = json!({});
    let token = json!({"http": {"accountRef": {"name": "x"}}});
    // Method, patch, status, reason, whether it is tried again.
    for (method, patch, status, reason, retry) in [
        ("GET", &bare, 400, RunReason::StepFailed, false),
        ("GET", &bare, 401, RunReason::AuthFailed, false),
        ("GET", &token, 403, RunReason::PermissionDenied, false),
        ("GET", &bare, 404, RunReason::StepFailed, false),
        ("GET", &bare, 302, RunReason::StepFailed, false),
        ("GET", &bare, 429, RunReason::RateLimited, true),
        ("POST", &bare, 429, RunReason::RateLimited, true),
        ("GET", &bare, 500, RunReason::StepFailed, true),
        ("GET", &bare, 502, RunReason::StepFailed, true),
        ("PUT", &bare, 504, RunReason::StepFailed, true),
        ("GET", &bare, 501, RunReason::StepFailed, false),
        ("POST", &bare, 500, RunReason::StepFailed, false),
        ("PATCH", &bare, 504, RunReason::StepFailed, false),
        ("POST", &bare, 503, RunReason::StepFailed, true),
    ] {
        // Whatever the body says it is.
        for body in ["{}", "<html>", ""] {
            let judged = judge(&of(method, patch), &answer(status, JSON, body));
            let Judged::Failed(failure) = judged else { panic!("{method} {status}: {judged:?}") };
            assert_eq!((failure.reason, failure.retry, failure.doubt), (reason, retry, false), "{method} {status} {body}");
            assert_eq!(failure.http_status, Some(status));
            assert!(failure.message.contains(&format!("HTTP {status}")), "{}", failure.message);
        }
    }
    let judged = judge(&of("GET", &token), &answer(401, JSON, "{}"));
    assert!(matches!(judged, Judged::Unauthorized(failure) if failure.reason == RunReason::AuthFailed));
}

#[test]
fn a_body_is_json_where_it_is_and_a_text_where_nothing_else_is_said() {
    let text: &[(&str, &str)] = &[("content-type", "text/plain")];
    for (headers, body, output) in [
        (JSON, r#"{"a": [1, 2.5]}"#, json!({"a": [1, 2.5]})),
        (JSON, "", Value::Null),
        (JSON, "null", Value::Null),
        (text, "17", json!(17)),
        (text, "a b", json!("a b")),
        (&[], "<html>", json!("<html>")),
        (&[], "", Value::Null),
    ] {
        let judged = judge(&of("GET", &json!({})), &answer(200, headers, body));
        assert!(
            matches!(&judged, Judged::Completed(done) if done.output == output && done.http_status == Some(200)),
            "{judged:?}"
        );
    }
    for media in ["application/json", "Application/Problem+JSON"] {
        let judged = judge(&of("GET", &json!({})), &answer(200, &[("content-type", media)], "{\n secret word"));
        let Judged::Failed(failure) = judged else { panic!("{judged:?}") };
        assert_eq!(failure.message, "The answer, HTTP 200, says that it is JSON and is none, in line 2 column 2.");
    }
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    assert!(matches!(judge(&of("GET", &json!({})), &answer(200, JSON, &deep)), Judged::Failed(_)), "no stack is spent on it");
}

#[test]
fn expressions_on_an_answer_decide() {
    let when = |source: &str| json!({"http": {"successWhen": source}});
    let body = r#"{"code": 7}"#;
    for (patch, status, expected) in [
        (when("response.body.code == 7"), 500, Ok(json!({"code": 7}))),
        (
            when("response.body.code == 0"),
            200,
            Err((RunReason::StepFailed, false, "successWhen is false for the answer, HTTP 200.")),
        ),
        (when("response.body.nothing == 0"), 200, Err((RunReason::InvalidDefinition, false, "successWhen: "))),
        (when("response.body.code"), 200, Err((RunReason::InvalidDefinition, false, "successWhen: "))),
        (json!({"output": "${response.headers['x-id']} ${response.status}"}), 200, Ok(json!("seven 200"))),
        (json!({"output": "${response.body.nothing}"}), 200, Err((RunReason::InvalidDefinition, false, "output: "))),
        (json!({"retry": {"retryWhen": "response.body.code == 7"}}), 400, Err((RunReason::StepFailed, true, "HTTP 400"))),
        (json!({"retry": {"retryWhen": "false"}}), 503, Err((RunReason::StepFailed, false, "HTTP 503"))),
        (json!({"retry": {"retryWhen": "response.nothing"}}), 503, Err((RunReason::InvalidDefinition, false, "retryWhen: "))),
    ] {
        let headers = [JSON, &[("x-id", "seven")]].concat();
        let judged = judge(&of("GET", &patch), &answer(status, &headers, body));
        match (judged, expected) {
            (Judged::Completed(done), Ok(output)) => assert_eq!(done.output, output, "{patch}"),
            (Judged::Failed(failure), Err((reason, retry, words))) => {
                assert_eq!((failure.reason, failure.retry), (reason, retry), "{patch}: {}", failure.message);
                assert!(failure.message.contains(words), "{patch}: {}", failure.message);
            }
            (judged, expected) => panic!("{patch}: {judged:?} in place of {expected:?}"),
        }
    }
}

#[test]
fn a_server_says_in_seconds_or_by_its_clock_how_long_it_wants_to_be_left_alone() {
    let date = ("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    for (headers, seconds) in [
        (vec![("retry-after", "7")], Some(7)),
        (vec![("retry-after", " 7 ")], Some(7)),
        (vec![("retry-after", "0")], None),
        (vec![("retry-after", "-5")], None),
        (vec![("retry-after", "99999999999")], Some(86_400)),
        (vec![("retry-after", "soon")], None),
        (vec![("retry-after", "Thu, 01 Jan 2026 00:01:30 GMT"), date], Some(90)),
        (vec![("retry-after", "Wed, 31 Dec 2025 23:59:59 GMT"), date], None),
        (vec![("retry-after", "Thu, 01 Jan 2026 00:01:30 GMT")], None),
        (vec![date], None),
    ] {
        let asked = answer(429, &headers, "").retry_after().map(|wait| wait.as_secs());
        assert_eq!(asked, seconds, "{headers:?}");
    }
}

#[test]
fn verify_tells_only_what_it_knows() {
    let url = "https://api.example.com/done";
    let with = |when: Option<&str>| {
        let verify = json!({"url": url, "accountRef": {"name": "x"}, "successWhen": when});
        of("POST", &json!({"delivery": "Verify", "verify": verify, "output": "${response.body}"}))
    };
    let told = |definition: &Definition, answer: &Answer| {
        let plan = &definition.steps[0];
        plan.verify.as_ref().expect("there is one").verify(plan, answer, &Scope::default())
    };
    let (plain, when) = (with(None), with(Some("response.body.done")));
    let (done, undone) = (r#"{"done": true}"#, r#"{"done": false}"#);
    let cases = [
        (&plain, 200, undone, "carried out"),
        (&plain, 404, "{}", "not"),
        (&plain, 410, "gone", "not"),
        (&plain, 500, "{}", "unknown"),
        (&plain, 403, "{}", "unknown"),
        (&plain, 401, "{}", "unauthorized"),
        (&plain, 302, "{}", "unknown"),
        (&when, 200, done, "carried out"),
        (&when, 200, undone, "not"),
        (&when, 404, done, "carried out"),
        (&when, 404, undone, "not"),
        (&when, 404, "gone", "unknown"),
        (&when, 503, undone, "unknown"),
        // What says nothing of the step must not have it sent again.
        (&when, 200, "{}", "unknown"),
        (&when, 200, "<html>", "unknown"),
        (&plain, 200, "<html>", "unknown"),
    ];
    for (definition, status, body, expected) in cases {
        let verified = match told(definition, &answer(status, JSON, body)) {
            Verified::CarriedOut(done) => {
                assert_eq!(done.output.to_string(), serde_json::from_str::<Value>(body).unwrap().to_string());
                "carried out"
            }
            Verified::NotCarriedOut => "not",
            Verified::Unauthorized(_) => "unauthorized",
            Verified::Unknown(failure) => {
                assert!(!failure.message.is_empty());
                "unknown"
            }
        };
        assert_eq!(verified, expected, "{status} {body}");
    }
}
