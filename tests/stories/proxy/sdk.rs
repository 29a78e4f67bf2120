//! The official SDKs of Coze, OpenAI and Anthropic, which know nothing of the proxy but its address.

use crate::testbed::authorization_server::random;
use crate::testbed::process::folder;
use crate::testbed::proxy::Proxy;
use crate::testbed::refresh_endpoint::RefreshEndpoint;
use crate::testbed::token_volume::TokenVolume;
use crate::testbed::vendor::{Event, Vendor};
use crate::testbed::{Result, sdk};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const VENDORS: [&str; 3] = ["coze", "openai", "anthropic"];

/// An API, and a proxy in front of it.
struct Api {
    name: &'static str,
    vendor: Vendor,
    volume: TokenVolume,
    proxy: Proxy,
    refresh: RefreshEndpoint,
    /// The SDK's own key, which is nobody's.
    key: String,
}

impl Api {
    /// Its proxy has no token yet.
    async fn start(story: &str, name: &'static str) -> Result<Self> {
        let story = format!("{story}-{name}");
        let (vendor, refresh) = (Vendor::start(name).await?, RefreshEndpoint::start(&story).await?);
        let mut volume = TokenVolume::empty(&story, name)?;
        volume.allowed_hosts = format!("{}\n", vendor.url.trim_start_matches("https://"));
        let ca = folder(&story)?.join("vendor-ca.crt");
        std::fs::write(&ca, &vendor.ca)?;
        let (ca, account) = (ca.display().to_string(), volume.path());
        let mut flags = vec!["--upstream", &vendor.url, "--upstream-ca", &ca, "--account", &account, "--envelope", name];
        flags.extend(refresh.flags.iter().map(String::as_str));
        let proxy = Proxy::start(&story, &flags).await?;
        Ok(Self { name, vendor, volume, proxy, refresh, key: format!("sk-{}", random()) })
    }

    /// Its proxy has a token.
    async fn with(story: &str, name: &'static str, token: &str) -> Result<Self> {
        let api = Self::start(story, name).await?;
        api.volume.publish(token)?;
        api.proxy.until_ready().await?;
        Ok(api)
    }

    /// A call of the SDK's.
    fn call(&self, stream: bool) -> Value {
        let id = format!("{}-{}", self.name, random());
        json!({"vendor": self.name, "base_url": self.proxy.url(), "key": self.key, "request_id": id, "stream": stream})
    }

    /// Asserts what the API was asked since the last time: with these tokens, in this order, and never with the SDK's own key.
    fn assert_asked_with(&self, tokens: &[&str], ids: &[&Value]) {
        let asked = self.vendor.asked();
        let said = asked.iter().map(|asked| asked.headers["authorization"].to_str().expect("a token is text"));
        let expected = tokens.iter().map(|token| format!("Bearer {token}"));
        assert_eq!(said.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{}", self.name);
        let mut named: Vec<_> = asked.iter().flat_map(|asked| asked.headers.get_all("x-request-id")).collect();
        let mut ids: Vec<_> = ids.iter().map(|id| id.as_str().expect("an id")).collect();
        named.sort();
        ids.sort_unstable();
        assert_eq!(named, ids, "{}", self.name);
        for asked in asked {
            assert_eq!(asked.path.split('?').next(), Some(self.vendor.dialect.path.as_str()), "{}", self.name);
            assert!(!format!("{asked:?}").contains(&self.key), "{}: the SDK's own key got through: {asked:?}", self.name);
            assert_eq!(asked.headers.get("x-api-key"), None, "{}", self.name);
        }
    }

    /// What a plain call must give.
    fn answer(&self) -> &Value {
        let answer = &self.vendor.dialect.answer;
        if self.name == "coze" { &answer["data"] } else { answer }
    }

    /// What a streaming call must give.
    fn events(&self) -> Value {
        let events = self.vendor.dialect.events.iter().filter(|event| !event.silent);
        events.map(|Event { event, data, .. }| json!({"event": event, "data": data})).collect()
    }
}

/// The names of calls.
fn ids(calls: &[Value]) -> Vec<&Value> {
    calls.iter().map(|call| &call["request_id"]).collect()
}

/// As the proxy's logs and the refresh endpoint name a token.
fn fingerprint(token: &str) -> String {
    Sha256::digest(token).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn answers_and_streams_arrive_as_the_api_sent_them() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let (mut apis, mut calls) = (vec![], vec![]);
    for name in VENDORS {
        let token = random();
        let api = Api::with("sdk-answers", name, &token).await?;
        api.vendor.take(&[&token]);
        calls.extend([api.call(false), api.call(true)]);
        apis.push((api, token));
    }
    let outcomes = sdk::converse(&calls).await?;
    for (index, (api, token)) in apis.iter().enumerate() {
        let (plain, streamed) = (&outcomes[2 * index], &outcomes[2 * index + 1]);
        let ids = ids(&calls[2 * index..][..2]);
        assert_eq!((&plain["status"], &plain["raised"]), (&json!(200), &Value::Null), "{}: {plain}", api.name);
        assert_eq!(&plain["answer"], api.answer(), "{}", api.name);
        assert_eq!((&streamed["status"], &streamed["raised"]), (&json!(200), &Value::Null), "{}: {streamed}", api.name);
        assert_eq!(streamed["events"], api.events(), "{}", api.name);
        api.assert_asked_with(&[token, token], &ids);
        // An API that names requests itself is not contradicted.
        for (outcome, id) in [plain, streamed].into_iter().zip(ids) {
            let named = outcome["headers"]["x-request-id"].as_str().unwrap_or_default();
            assert!(if api.name == "openai" { named.starts_with("vendor-") } else { *id == named }, "{}: {named}", api.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_error_of_the_proxys_own_is_an_exception_of_the_sdks() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let (mut apis, mut calls) = (vec![], vec![]);
    for name in VENDORS {
        let api = Api::start("sdk-unavailable", name).await?;
        calls.extend([api.call(false), api.call(true)]);
        apis.push(api);
    }
    let outcomes = sdk::converse(&calls).await?;
    for (index, outcome) in outcomes.iter().enumerate() {
        let (api, id, raised) = (&apis[index / 2], &calls[index]["request_id"], &outcome["raised"]);
        let class = match api.name {
            "coze" => "cozepy.CozeAPIError",
            "openai" => "openai.InternalServerError",
            _ => "anthropic.InternalServerError",
        };
        assert_eq!(raised["class"], json!(class), "{outcome}");
        assert_eq!(outcome["status"], json!(503), "{outcome}");
        assert_eq!(outcome["headers"]["x-oauth-proxy-error"], json!("credential_unavailable"), "{outcome}");
        assert_eq!(outcome["headers"]["content-type"], json!("application/json"), "{outcome}");
        // Each finds its request in the proxy's log by what the exception holds.
        assert_eq!(&raised["request_id"], id, "{outcome}");
        let message = raised["message"].as_str().unwrap_or_default();
        assert!(message.contains(api.name) && message.contains("token"), "{message}: neither account nor token");
        match api.name {
            "coze" => assert!(raised["code"].as_u64().is_some_and(|code| code > 0), "{outcome}"),
            "openai" => assert_eq!(raised["code"], json!("credential_unavailable"), "{outcome}"),
            _ => assert_eq!(raised["body"]["error"]["type"], json!("api_error"), "{outcome}"),
        }
        api.assert_asked_with(&[], &[]);
    }
    Ok(())
}

#[tokio::test]
async fn a_rate_limit_of_the_apis_reaches_the_sdk_untouched() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let (mut apis, mut calls) = (vec![], vec![]);
    for name in VENDORS {
        let token = random();
        let api = Api::with("sdk-limit", name, &token).await?;
        api.vendor.take(&[&token]);
        api.vendor.limit(true);
        calls.extend([api.call(false), api.call(true)]);
        apis.push((api, token));
    }
    let outcomes = sdk::converse(&calls).await?;
    for (index, outcome) in outcomes.iter().enumerate() {
        let ((api, _), raised) = (&apis[index / 2], &outcome["raised"]);
        let (class, code, message) = match api.name {
            "coze" => ("cozepy.CozeAPIError", json!(4013), &api.vendor.dialect.limited["msg"]),
            "openai" => ("openai.RateLimitError", json!("rate_limit_exceeded"), &Value::Null),
            _ => ("anthropic.RateLimitError", Value::Null, &Value::Null),
        };
        assert_eq!((&raised["class"], &raised["code"]), (&json!(class), &code), "{outcome}");
        assert!(message.is_null() || *message == raised["message"], "{outcome}");
        match api.name {
            "coze" => {}
            "openai" => assert_eq!(raised["body"], api.vendor.dialect.limited["error"], "{outcome}"),
            _ => assert_eq!(raised["body"], api.vendor.dialect.limited, "{outcome}"),
        }
        let header = |name: &str| &outcome["headers"][name];
        assert_eq!(
            (&outcome["status"], header("retry-after"), header("x-limit-remaining")),
            (&json!(429), &json!("7"), &json!("0"))
        );
        assert_eq!(*header("x-oauth-proxy-error"), Value::Null, "{outcome}");
        assert_eq!(*header("content-length"), json!(api.vendor.dialect.limited.to_string().len().to_string()), "{outcome}");
    }
    // Once each: it is for the app to try again, and a limit is no refusal of the token.
    for (index, (api, token)) in apis.iter().enumerate() {
        api.assert_asked_with(&[token, token], &ids(&calls[2 * index..][..2]));
        assert_eq!(api.refresh.asked(), [], "{}", api.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_token_is_replaced_and_the_sdk_sees_nothing_of_it() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    for stream in [false, true] {
        let (mut apis, mut calls) = (vec![], vec![]);
        for name in VENDORS {
            let (stale, fresh) = (random(), random());
            let api = Api::with(if stream { "sdk-replaced-stream" } else { "sdk-replaced" }, name, &stale).await?;
            api.vendor.take(&[&fresh]);
            api.refresh.give(Some(&fresh));
            calls.push(api.call(stream));
            apis.push((api, stale, fresh));
        }
        let outcomes = sdk::converse(&calls).await?;
        for ((api, stale, fresh), (outcome, call)) in apis.iter().zip(outcomes.iter().zip(&calls)) {
            assert_eq!((&outcome["status"], &outcome["raised"]), (&json!(200), &Value::Null), "{}: {outcome}", api.name);
            if stream {
                assert_eq!(outcome["events"], api.events(), "{}", api.name);
            } else {
                assert_eq!(&outcome["answer"], api.answer(), "{}", api.name);
            }
            api.assert_asked_with(&[stale, fresh], &[&call["request_id"], &call["request_id"]]);
            let path = format!("/v1/namespaces/apps/accounts/{}/refresh", api.name);
            assert_eq!(api.refresh.asked(), [(path, json!({"rejectedFingerprint": fingerprint(stale)}))]);
            assert!(!api.proxy.process.output().contains(stale.as_str()), "{}: a token in the log", api.name);
            assert!(!api.proxy.process.output().contains(fresh.as_str()), "{}: a token in the log", api.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_refused_token_without_another_is_the_apis_own_error() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let (mut apis, mut calls) = (vec![], vec![]);
    for name in VENDORS {
        let stale = random();
        let api = Api::with("sdk-refused", name, &stale).await?;
        calls.extend([api.call(false), api.call(true)]);
        apis.push((api, stale));
    }
    let outcomes = sdk::converse(&calls).await?;
    for (index, outcome) in outcomes.iter().enumerate() {
        let ((api, _), raised) = (&apis[index / 2], &outcome["raised"]);
        let refused = &api.vendor.dialect.refused;
        let (class, body) = match api.name {
            "coze" => ("cozepy.CozeAPIError", &Value::Null),
            "openai" => ("openai.AuthenticationError", &refused["error"]),
            _ => ("anthropic.AuthenticationError", refused),
        };
        assert_eq!((&raised["class"], &raised["body"]), (&json!(class), body), "{outcome}");
        assert!(api.name != "coze" || (&raised["code"], &raised["message"]) == (&json!(4100), &refused["msg"]), "{outcome}");
        let header = |name: &str| &outcome["headers"][name];
        assert_eq!((&outcome["status"], header("www-authenticate")), (&json!(401), &json!("Bearer")), "{outcome}");
        assert_eq!(*header("x-oauth-proxy-error"), Value::Null, "{outcome}");
    }
    for (index, (api, stale)) in apis.iter().enumerate() {
        api.assert_asked_with(&[stale, stale], &ids(&calls[2 * index..][..2]));
    }
    Ok(())
}

#[tokio::test]
async fn a_token_that_arrives_while_the_api_refuses_the_old_one_is_used_at_once() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let (stale, fresh) = (random(), random());
    let api = Api::with("sdk-meantime", "openai", &stale).await?;
    api.vendor.take(&[&fresh]);
    // The kubelet swaps the files while the request is on its way; the operator has the same token to give.
    let (volume, arrived) = (api.volume.clone(), fresh.clone());
    api.vendor.before_refusal(move || volume.publish(&arrived).expect("the folder takes files"));
    api.refresh.give(Some(&fresh));
    let call = api.call(false);
    let outcome = &sdk::converse(std::slice::from_ref(&call)).await?[0];
    assert_eq!((&outcome["status"], &outcome["answer"]), (&json!(200), api.answer()), "{outcome}");
    api.assert_asked_with(&[&stale, &fresh], &[&call["request_id"], &call["request_id"]]);
    Ok(())
}
