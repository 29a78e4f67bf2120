//! Requests as they are composed, and what cannot be.

use super::decide_tests::play::{definition, step};
use super::definition::CallPlan;
use super::failure::Failure;
use super::request::Call;
use crate::api::RunReason;
use crate::expression::Scope;
use serde_json::{Value, json};
use std::sync::Arc;

/// The request of a step, composed with this input.
fn compose(http: Value, input: Value) -> Result<Call, Failure> {
    let mut all = json!({"method": "POST", "url": "https://api.example.com/x"});
    all.as_object_mut().unwrap().extend(http.as_object().cloned().unwrap_or_default());
    let definition = definition(&json!({"steps": [step("a", &[], json!({"http": all}))]}));
    let CallPlan::Http(request) = &definition.steps[0].call else { panic!("an HTTP step") };
    request.compose(&Scope::default().with("input", Arc::new(input)), "the-key")
}

fn header<'a>(call: &'a Call, name: &str) -> Vec<&'a str> {
    call.headers.iter().filter(|(there, _)| there == name).map(|(_, value)| value.to_str().unwrap()).collect()
}

#[test]
fn a_body_is_sent_as_it_is_written() {
    for (body, sent, media) in [
        (json!({"a": "${input.n}", "b": ["${input.t}"]}), r#"{"a":7,"b":["x"]}"#, vec!["application/json"]),
        (json!("${input.o}"), r#"{"k":1}"#, vec!["application/json"]),
        (json!("n=${input.n}&t=${input.t}"), "n=7&t=x", vec![]),
        (json!("${input.t}"), "x", vec![]),
        (json!("${input.n}"), "7", vec!["application/json"]),
        (json!(["${null}"]), "[null]", vec!["application/json"]),
    ] {
        let call = compose(json!({"body": body}), json!({"n": 7, "t": "x", "o": {"k": 1}})).unwrap();
        assert_eq!(
            (String::from_utf8(call.body.clone()).unwrap().as_str(), header(&call, "content-type")),
            (sent, media),
            "{body}"
        );
        assert_eq!(header(&call, "idempotency-key"), ["the-key"]);
    }
    let typed = json!({"body": {"a": 1}, "headers": [{"name": "Content-Type", "value": "application/vnd.x+json"}]});
    assert_eq!(
        header(&compose(typed, json!({})).unwrap(), "content-type"),
        ["application/vnd.x+json"],
        "what is written goes first"
    );
    assert!(compose(json!({}), json!({})).unwrap().body.is_empty());
}

#[test]
fn what_input_brings_stays_where_it_stands() {
    let url = |source: &str, value: Value| compose(json!({"url": source}), json!({"v": value})).map(|call| call.url.to_string());
    for (source, value, expected) in [
        ("https://api.example.com/${input.v}/end", json!("a/b"), "https://api.example.com/a%2Fb/end"),
        ("https://api.example.com/x?q=${input.v}", json!("a&b=c#d"), "https://api.example.com/x?q=a%26b%3Dc%23d"),
        ("https://api.example.com/x?q=${input.v}", json!(true), "https://api.example.com/x?q=true"),
        ("https://api.example.com/x?q=${input.v}", json!("@evil.example/"), "https://api.example.com/x?q=%40evil.example%2F"),
    ] {
        assert_eq!(url(source, value).unwrap(), expected);
    }
    for (source, value) in [
        ("https://api.example.com/${input.v}/end", json!("..")),
        ("https://api.example.com/${input.v}/end", json!("")),
        ("https://api.example.com/x?q=${input.v}", json!({"a": 1})),
        ("https://api.example.com/x?q=${input.v}", json!([1])),
        ("https://api.example.com/x?q=${input.v}", json!("x".repeat(20_000))),
    ] {
        let failure = url(source, value.clone()).unwrap_err();
        assert_eq!(failure.reason, RunReason::InvalidDefinition, "{value}");
        assert!(failure.message.starts_with("url: ") && !failure.message.contains("xxx"), "{}", failure.message);
    }
}

#[test]
fn a_header_holds_a_text_of_one_line() {
    let with = |value: Value| compose(json!({"headers": [{"name": "X-Topic", "value": "${input.v}"}]}), json!({"v": value}));
    for (value, sent) in [(json!("a b"), "a b"), (json!(7), "7"), (json!(1.5), "1.5"), (json!(true), "true")] {
        assert_eq!(header(&with(value).unwrap(), "x-topic"), [sent]);
    }
    for (value, words) in [
        (json!("a\r\nx-evil: 1"), "The header x-topic would hold what no header may"),
        (json!("a\nb"), "The header x-topic would hold what no header may"),
        (json!("\u{0}"), "The header x-topic would hold what no header may"),
        (json!(null), "The header x-topic is no text, number or truth value."),
        (json!({"a": 1}), "The header x-topic is no text, number or truth value."),
        (json!(["a"]), "The header x-topic is no text, number or truth value."),
    ] {
        let failure = with(value.clone()).unwrap_err();
        assert_eq!(failure.reason, RunReason::InvalidDefinition);
        assert!(failure.message.contains(words), "{value}: {}", failure.message);
        assert!(!failure.message.contains("evil"), "no value is repeated");
    }
}
