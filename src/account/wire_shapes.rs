//! Every preset against the wire shapes that its provider documents (`tests/wire-shapes`): what is sent, and what is made of
//! the replies.

use super::seen::tests::account;
use super::{Credentials, GrantSecret, Plan};
use crate::api::AuthMethod;
use crate::oauth::assertion_tests::key;
use crate::oauth::{
    ClientAuthentication, Dialect, GrantRequest, Moment, Reply, Sensitive, judge, knobs, preset_names, successor,
};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shapes {
    requests: Vec<Request>,
    replies: Vec<Shape>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Request {
    what: String,
    source: String,
    grant: String,
    #[serde(default)]
    auth_method: Option<String>,
    #[serde(default)]
    pkce: Option<String>,
    method: String,
    url: String,
    #[serde(default)]
    with: BTreeMap<String, String>,
    #[serde(default)]
    headers: BTreeMap<String, Option<String>>,
    #[serde(default)]
    form: Option<BTreeMap<String, String>>,
    #[serde(default)]
    json: Option<Value>,
    #[serde(default)]
    query: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Shape {
    what: String,
    source: String,
    status: u16,
    body: String,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Expected {
    #[serde(default)]
    fault: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in_seconds: Option<i64>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn shapes(name: &str) -> Shapes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/wire-shapes/{name}.yaml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The plan of an account of this preset with everything that a request may need.
fn plan(name: &str, request: &Request) -> Plan {
    let key = json!({"name": "s", "key": "k"});
    let grant = match request.grant.as_str() {
        "ClientCredentials" => json!({"clientCredentials": {}}),
        "JWTBearer" => json!({"clientCredentials": null, "jwtBearer": {"keyRef": key, "keyID": "kid"}}),
        "GitHubApp" => json!({"clientCredentials": null, "githubApp": {"appID": 1, "installationID": 2, "keyRef": key}}),
        _ => json!({"clientCredentials": null, "refreshToken": {"secretRef": key}}),
    };
    let usual = crate::oauth::preset(name).and_then(|preset| preset.provider.client_auth.as_ref()?.method);
    let public = request.auth_method.as_deref().map_or(usual == Some(AuthMethod::None), |method| method == "None");
    let secret = if public { Value::Null } else { key };
    // Keycloak is wherever its users have it.
    let overrides = (name == "Keycloak").then(|| json!({"tokenURL": request.url}));
    let spec = json!({
        "provider": {"issuer": null, "preset": name, "parameters": request.with, "overrides": overrides},
        "client": {"id": "client", "secretRef": secret, "authMethod": request.auth_method},
        "grant": grant,
        "scopes": null,
    });
    Plan::of(&account(&spec)).unwrap_or_else(|refusal| panic!("{name}, {}: {}", request.what, refusal.sentence()))
}

fn composed(name: &str, request: &Request) -> http::Request<Vec<u8>> {
    let mut plan = plan(name, request);
    plan.scopes = vec!["one".into(), "two".into()];
    let grant = match request.grant.as_str() {
        "JWTBearer" | "GitHubApp" => Some(GrantSecret::Key(key())),
        _ => None,
    };
    let secret = (!matches!(plan.authentication, ClientAuthentication::None)).then(|| Sensitive::new("secret"));
    let credentials = Credentials { client_id: "client".into(), client_secret: secret, grant, ..Credentials::default() };
    let text = |text: &str| Sensitive::new(text);
    let grant = match request.grant.as_str() {
        "RefreshToken" => GrantRequest::RefreshToken(text("refresh-1")),
        "DeviceCode" => GrantRequest::DeviceCode(text("device-1")),
        "AuthorizationCode" => GrantRequest::AuthorizationCode {
            code: text("code-1"),
            redirect_uri: "https://consent.example/callback".into(),
            verifier: (request.pkce.as_deref() != Some("None")).then(|| text("verifier-1")),
        },
        _ => credentials.grant_request(&plan, None).unwrap(),
    };
    let endpoint = plan.known.token(matches!(grant, GrantRequest::RefreshToken(_))).unwrap().clone();
    plan.request(endpoint, &credentials, grant).compose(&Moment { now: now(), id: "once".into(), dpop_nonce: None }).unwrap()
}

fn pairs(text: &[u8]) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(text).into_owned().collect()
}

#[test]
fn what_is_sent_is_what_the_provider_documents() {
    let mut seen = 0;
    for name in preset_names() {
        let requests = shapes(name).requests;
        assert!(!requests.is_empty(), "{name} has no request");
        for request in requests {
            let composed = composed(name, &request);
            let place = format!("{name}, {} ({})", request.what, request.source);
            assert_eq!(composed.method().as_str(), request.method, "{place}");
            let url = composed.uri().to_string();
            assert_eq!(url.split('?').next(), Some(request.url.as_str()), "{place}");
            for (header, value) in &request.headers {
                let sent = composed.headers().get(header).map(|value| value.to_str().unwrap());
                assert_eq!(sent, value.as_deref(), "{place}: {header}");
            }
            match (&request.form, &request.json, &request.query) {
                (Some(form), None, None) => assert_eq!(pairs(composed.body()), *form, "{place}"),
                (None, Some(json), None) => {
                    let sent: Value = serde_json::from_slice(composed.body()).unwrap();
                    assert_eq!(sent, *json, "{place}");
                }
                (None, None, Some(query)) => {
                    assert_eq!(pairs(url.split_once('?').unwrap().1.as_bytes()), *query, "{place}");
                }
                _ => panic!("{place} must have one of form, json and query"),
            }
            seen += 1;
        }
    }
    assert!(seen >= 44, "only {seen} requests of {} presets", preset_names().count());
}

/// `${epoch+3600}` and its kin.
fn filled(body: &str) -> String {
    let mut parts = body.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut text, part| {
        let (moment, rest) = part.split_once('}').unwrap();
        let (form, seconds) = moment.split_once('+').unwrap();
        let at = now() + SignedDuration::from_secs(seconds.parse().unwrap());
        text += &match form {
            "epoch" => at.as_second().to_string(),
            "epochms" => at.as_millisecond().to_string(),
            "iso" => at.to_string(),
            other => panic!("{other} is no form of a moment"),
        };
        text + rest
    })
}

#[test]
fn what_comes_back_is_understood() {
    for name in preset_names() {
        let Shapes { requests, replies } = shapes(name);
        let plan = plan(name, &requests[0]);
        let (mut issued, mut refused) = (0, 0);
        for shape in replies {
            let place = format!("{name}, {} ({})", shape.what, shape.source);
            let body = filled(&shape.body).into_bytes();
            let reply = Reply { status: shape.status, retry_after: None, dpop_nonce: None, body };
            let expected = shape.expect;
            match judge(&reply, &plan.dialect, &[], now(), now()) {
                Ok(token) => {
                    issued += 1;
                    assert_eq!(expected.fault, None, "{place}: {token:?}");
                    assert_eq!(Some(token.access_token.expose()), expected.access_token.as_deref(), "{place}");
                    let next = successor(&reply, &plan.dialect);
                    assert_eq!(next.as_ref().map(Sensitive::expose), expected.refresh_token.as_deref(), "{place}");
                    assert_eq!(token.refresh_token, next, "{place}");
                    if let Some(seconds) = expected.expires_in_seconds {
                        assert_eq!(token.expiry.at.duration_since(now()).as_secs(), seconds, "{place}");
                    }
                    assert_eq!(token.scopes, expected.scopes, "{place}");
                }
                Err(fault) => {
                    refused += 1;
                    assert_eq!(Some(fault.kind.name()), expected.fault, "{place}: {fault}");
                    assert_eq!(successor(&reply, &plan.dialect), None, "{place}");
                }
            }
        }
        assert!(issued > 0 && refused > 0, "{name}: {issued} successes, {refused} errors");
    }
}

#[test]
fn what_the_account_says_goes_before_the_preset() {
    let provider = |overrides: Value| {
        let provider = json!({"preset": "MicrosoftEntra", "parameters": {"tenant": "acme"}, "overrides": overrides});
        knobs(&serde_json::from_value(provider).unwrap()).unwrap()
    };
    let plain = provider(json!({}));
    assert_eq!(plain.token_url.as_deref(), Some("https://login.microsoftonline.com/acme/oauth2/v2.0/token"));
    let said = provider(json!({"tokenURL": "https://login.example.com/token", "parameters": {"token": {"a": "b"}}}));
    assert_eq!(said.token_url.as_deref(), Some("https://login.example.com/token"));
    assert_eq!(said.authorization_url, plain.authorization_url, "what is not said stays");
    assert_eq!(Dialect::of(&said).parameters.token.get("a").map(String::as_str), Some("b"));
}

#[test]
fn parameters_that_do_not_fit_are_refused_by_name() {
    let why = |preset: &str, parameters: Value| {
        let provider = Map::from_iter([("preset".to_owned(), json!(preset)), ("parameters".to_owned(), parameters)]);
        knobs(&serde_json::from_value(Value::Object(provider)).unwrap()).unwrap_err()
    };
    assert!(why("Cozy", json!({})).contains("It knows AWSSSO, Anthropic"), "{}", why("Cozy", json!({})));
    assert!(why("Okta", json!({})).starts_with("spec.provider.parameters[org] must be set for the preset Okta"));
    assert!(why("Okta", json!({"org": "a", "tenant": "b"})).contains("[tenant] is no parameter of the preset Okta"));
    for value in ["evil.example.com/", "a.b", "a#", "a@b", ""] {
        assert!(why("Okta", json!({"org": value})).contains("must match"), "{value}");
    }
    for value in ["evil.com/", "x.evil", "a..b", "-"] {
        let refused = knobs(&serde_json::from_value(json!({"preset": "AWSSSO", "parameters": {"region": value}})).unwrap());
        assert!(refused.is_err(), "{value}");
    }
}
