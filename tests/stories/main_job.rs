//! The main job, end to end: apply an account, have a token; before it expires, have a new one; and be told the truth.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::story::eventually;
use jiff::Timestamp;
use oauth_operator::api::TokenStatus;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_account_has_a_valid_token_in_a_secret() -> Result<()> {
    let (story, provider) = story("first-token").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account(
        "coze",
        &issuer(provider),
        &client,
        &json!({"scopes": ["read"], "allowedHosts": ["api.example.com", "*.example.org"]}),
    )?;
    story.kubectl().run(&["wait", "--for=condition=Ready", "--timeout=30s", "oauthaccount/coze"])?;

    let token = story.key("coze-token", "access_token")?;
    let said = provider.introspect(&client, &token).await?;
    assert_eq!(said["active"], json!(true), "the provider itself must call it valid: {said}");
    assert_eq!(said["scope"], json!("read"));
    assert_eq!(provider.token_requests(&client).await?, (1, 0), "exactly one request");

    let secret = story.read_secret("coze-token")?.ok_or("no Secret")?;
    let mut keys: Vec<_> = secret.data.unwrap_or_default().into_keys().collect();
    keys.sort();
    assert_eq!(keys, ["access_token", "allowed_hosts", "expires_at", "generation", "scope", "token_type"]);
    assert_eq!(story.key("coze-token", "token_type")?, "Bearer");
    assert_eq!(story.key("coze-token", "scope")?, "read");
    assert_eq!(story.key("coze-token", "generation")?, "1");
    assert_eq!(story.key("coze-token", "allowed_hosts")?, "api.example.com\n*.example.org");
    let expires: Timestamp = story.key("coze-token", "expires_at")?.parse()?;
    assert_eq!(said["exp"].as_i64(), Some(expires.as_second()), "the Secret says what the provider says, to the second");

    let account = story.get("coze")?;
    let owner = &secret.metadata.owner_references.unwrap_or_default()[0];
    assert_eq!(
        (owner.kind.as_str(), Some(owner.uid.as_str()), owner.controller),
        ("OAuthAccount", account.metadata.uid.as_deref(), Some(true))
    );
    let labels = secret.metadata.labels.unwrap_or_default();
    assert_eq!(
        (labels["app.kubernetes.io/name"].as_str(), labels["app.kubernetes.io/component"].as_str()),
        ("oauth-operator", "access-token")
    );
    assert_eq!(labels["app.kubernetes.io/managed-by"], "oauth-operator");
    assert_eq!(Some(&labels["oauth-operator.dev/account-uid"]), account.metadata.uid.as_ref());
    assert_eq!(account.metadata.finalizers, None, "deleting must never hang on us");

    let status = account.status.ok_or("no status")?;
    assert_eq!(status.observed_generation, account.metadata.generation);
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == account.metadata.generation));
    let told = status.token.ok_or("no token in status")?;
    assert_eq!((told.generation, told.expiration_time.0, told.scopes), (1, expires, vec!["read".to_owned()]));
    assert_eq!(story.writes_by_operator()?.iter().filter(|write| write.contains("coze")).count(), 2, "Secret and status");

    let log = operator.log();
    let audit: Vec<_> = log.iter().filter(|line| line["target"] == "audit").collect();
    assert_eq!(audit.len(), 1, "one audit line per token: {audit:?}");
    assert_eq!(
        (&audit[0]["namespace"], &audit[0]["name"], &audit[0]["result"]),
        (&json!(story.apps), &json!("coze"), &json!("success"))
    );
    assert_eq!((&audit[0]["who"], &audit[0]["what"]), (&json!("operator-1"), &json!("token obtained")));
    assert!(audit[0]["requestID"].as_str().is_some_and(|id| !id.is_empty()));
    let keys = ["level", "ts", "msg", "target"];
    assert!(log.iter().all(|line| keys.iter().all(|key| line[key].is_string())), "every line has {keys:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_token_expires_there_is_a_new_one_and_ready_stays_true() -> Result<()> {
    let (story, provider) = story("renewal").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(30, "client_secret_basic").await?;
    story.account("short", &issuer(provider), &client, &json!({}))?;
    story.until_ready("short").await?;
    let mut seen: Vec<(TokenStatus, Timestamp, String)> = vec![];
    let began = std::time::Instant::now();
    while seen.len() < 3 && began.elapsed() < Duration::from_secs(120) {
        let now = Timestamp::now();
        let account = story.get("short")?;
        let status = account.status.ok_or("no status")?;
        let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no Ready")?;
        assert_eq!(ready.status, "True", "never was there no valid token: {ready:?}");
        let token = status.token.ok_or("no token")?;
        assert!(token.expiration_time.0 > now, "what is published is valid at every look");
        if seen.last().is_none_or(|(before, _, _)| before.generation != token.generation) {
            let planned = status.next_refresh_time.ok_or("no next refresh")?.0;
            seen.push((token, planned, story.key("short-token", "access_token")?));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let generations: Vec<_> = seen.iter().map(|(token, _, _)| token.generation).collect();
    assert_eq!(generations, [1, 2, 3]);
    for (token, planned, _) in &seen {
        let (issued, life) = (token.issued_time.0, token.expiration_time.0.duration_since(token.issued_time.0));
        let share = planned.duration_since(issued).as_secs_f64() / life.as_secs_f64();
        // Both ends are whole seconds.
        assert!((0.5..=0.6 + 1.0 / 30.0).contains(&share), "a 30 s token is refreshed after 50 to 60 % of its life, not {share}");
    }
    for pair in seen.windows(2) {
        let (planned, next) = (pair[0].1, pair[1].0.issued_time.0);
        assert!(next >= planned, "and not before {planned}: {next}");
        assert_ne!(pair[0].2, pair[1].2);
    }
    let status = story.get("short")?.status.ok_or("no status")?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no Ready")?;
    assert!(ready.last_transition_time.0 < seen[1].0.issued_time.0, "lastTransitionTime moves only when the status flips");
    let (issued, refused) = provider.token_requests(&client).await?;
    assert!((3..=4).contains(&issued) && refused == 0, "one request a refresh: {issued}");
    let writes = story.writes_by_operator()?.into_iter().filter(|write| write.contains("short")).count();
    assert!(writes <= 2 * usize::try_from(issued)?, "{writes} writes for {issued} tokens");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_turns_false_when_the_token_expires_to_the_second() -> Result<()> {
    let (story, provider) = story("expiry").await?;
    let operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = provider.register(60, "client_secret_basic").await?;
    let custom = endpoint.at("/once/6");
    story.account("doomed", &custom, &client, &json!({}))?;
    story.until_ready("doomed").await?;
    let failing = story.until("doomed", "RefreshFailing", "True", "ProviderError").await?;
    assert!(failing.contains("HTTP 503"), "{failing}");
    assert_eq!(
        story.condition("doomed", "Ready")?.map(|(status, _, _)| status).as_deref(),
        Some("True"),
        "a working token stays"
    );
    let message = story.until("doomed", "Ready", "False", "TokenExpired").await?;
    assert!(message.contains("expired at") && message.contains("HTTP 503"), "{message}");
    let status = story.get("doomed")?.status.ok_or("no status")?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no Ready")?;
    assert_eq!(ready.last_transition_time.0, status.token.ok_or("no token")?.expiration_time.0);
    assert_eq!(story.key("doomed-token", "generation")?, "1", "the published token is left where it is");
    let told = || -> Result<Option<()>> {
        let events = story.kubectl().run(&["get", "events.events.k8s.io", "-o", "json"])?;
        let events: Value = serde_json::from_str(&events)?;
        let of_ours = |event: &&Value| event["reportingController"] == "oauth-operator" && event["regarding"]["name"] == "doomed";
        let reasons: Vec<_> =
            events["items"].as_array().into_iter().flatten().filter(of_ours).map(|event| event["reason"].clone()).collect();
        Ok((reasons.contains(&json!("ProviderError")) && reasons.contains(&json!("TokenExpired"))).then_some(()))
    };
    eventually(Duration::from_secs(10), told).await?.ok_or("failure and expiry must be Events")?;
    let overdue = operator.metric("oauth_operator_oldest_overdue_refresh_seconds").await?;
    assert!(overdue.is_some_and(|seconds| seconds > 1.0), "{overdue:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_supported_way_to_name_client_and_provider_works() -> Result<()> {
    let (story, provider) = story("ways").await?;
    let _operator = story.operator("operator-1").await?;
    let token_endpoint = format!("{}/token", provider.issuer);

    let post = provider.register(3600, "client_secret_post").await?;
    story.account("post", &issuer(provider), &post, &json!({"client": {"authMethod": "ClientSecretPost"}}))?;

    let custom = provider.register(3600, "client_secret_basic").await?;
    story.secret("ca-in-a-secret", &[("bundle.pem", &provider.ca)])?;
    let bundle = json!({"kind": "Secret", "name": "ca-in-a-secret", "key": "bundle.pem"});
    story.account("custom", &json!({"custom": {"tokenURL": token_endpoint}, "caBundleRef": bundle}), &custom, &json!({}))?;

    let id_from = provider.register(3600, "client_secret_basic").await?;
    story.secret("whole", &[("id", &id_from.id), ("secret", &id_from.secret)])?;
    let client = json!({"id": null, "idFrom": {"secretKeyRef": {"name": "whole", "key": "id"}}, "secretRef": {"name": "whole", "key": "secret"}});
    story.account_alone("id-from", &issuer(provider), &id_from, &json!({"client": client}))?;

    let jwt = provider.register(900, "client_secret_basic").await?;
    story.account("jwt", &issuer(provider), &jwt, &json!({"resources": ["https://api.example.com/"]}))?;

    for name in ["post", "custom", "id-from", "jwt"] {
        story.until_ready(name).await?;
    }
    for (name, client) in [("post", &post), ("custom", &custom), ("id-from", &id_from)] {
        let said = provider.introspect(client, &story.key(&format!("{name}-token"), "access_token")?).await?;
        assert_eq!(said["active"], json!(true), "{name}: {said}");
    }
    let token = story.key("jwt-token", "access_token")?;
    assert_eq!(token.split('.').count(), 3, "a resource of this provider gets a JWT");
    let columns = story.kubectl().run(&["get", "oauthaccounts"])?;
    assert!(columns.contains("Issuer") && columns.contains("Custom") && columns.contains("ClientCredentials"), "{columns}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_asks_for_another_token_gets_one_and_suspend_pauses() -> Result<()> {
    let (story, provider) = story("edits").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("edited", &issuer(provider), &client, &json!({"scopes": ["read"]}))?;
    story.until_ready("edited").await?;
    let patch =
        |patch: Value| story.kubectl().run(&["patch", "oauthaccount", "edited", "--type=merge", "-p", &patch.to_string()]);
    patch(json!({"spec": {"scopes": ["write"]}}))?;
    story.until_generation("edited", 2).await?;
    assert_eq!(story.key("edited-token", "scope")?, "write");
    patch(json!({"spec": {"suspend": true, "scopes": ["admin"]}}))?;
    let observed = || -> Result<Option<()>> {
        let account = story.get("edited")?;
        Ok((account.status.unwrap_or_default().observed_generation == account.metadata.generation).then_some(()))
    };
    eventually(Duration::from_secs(10), observed).await?.ok_or("the edit must be observed")?;
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "suspended: nothing is asked for");
    assert_eq!(
        story.condition("edited", "Ready")?.map(|(status, _, _)| status).as_deref(),
        Some("True"),
        "the token is still valid"
    );
    patch(json!({"spec": {"suspend": false}}))?;
    story.until_generation("edited", 3).await?;
    assert_eq!(story.key("edited-token", "scope")?, "admin");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_asks_for_a_new_token_by_annotation() -> Result<()> {
    let (story, provider) = story("by-hand").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("asked", &issuer(provider), &client, &json!({}))?;
    story.until_ready("asked").await?;
    let annotation = "oauth-operator.dev/refresh-requested-at";
    let moment = Timestamp::now().to_string();
    story.kubectl().run(&["annotate", "oauthaccounts", "--all", &format!("{annotation}={moment}")])?;
    story.until_generation("asked", 2).await?;
    let handled = story.get("asked")?.status.and_then(|status| status.last_handled_refresh_time).ok_or("no echo")?;
    assert_eq!(handled.0.as_second(), moment.parse::<Timestamp>()?.as_second());
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "once");
    story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "asked", &format!("{annotation}=now")])?;
    let told = || -> Result<Option<()>> {
        let (status, _, message) = story.condition("asked", "Ready")?.ok_or("no Ready")?;
        assert_eq!(status, "True", "a slip of the finger harms nothing");
        Ok((message.contains(annotation) && message.contains("2026-01-31T09:30:00Z")).then_some(()))
    };
    eventually(Duration::from_secs(10), told).await?.ok_or("what is ignored must be said")?;
    Ok(())
}

/// A provider that takes connections and never answers: stopped, not gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_holds_up_nobody_else_and_its_return_is_enough() -> Result<()> {
    use crate::testbed::authorization_server::AuthorizationServer;
    let (story, well) = story("hanging").await?;
    let _operator = story.operator("operator-1").await?;
    let hanging = AuthorizationServer::start("hanging-provider").await?;
    story.ca("hanging-ca", &hanging.ca)?;
    let short = hanging.register(12, "client_secret_basic").await?;
    let provider = json!({"issuer": hanging.issuer, "caBundleRef": {"name": "hanging-ca"}});
    story.account("published", &provider, &short, &json!({}))?;
    story.until_ready("published").await?;

    hanging.process().pause();
    for number in 0..5 {
        story.account(&format!("waiting-{number}"), &provider, &short, &json!({}))?;
    }
    let client = well.register(3600, "client_secret_basic").await?;
    story.account("unaffected", &issuer(well), &client, &json!({}))?;
    story.until_ready("unaffected").await?;
    assert_eq!(story.condition("waiting-0", "Ready")?.map(|(status, _, _)| status).as_deref(), Some("Unknown"), "it still waits");
    let message = story.until("waiting-0", "Ready", "False", "Network").await?;
    assert!(message.contains("did not answer in time"), "{message}");

    // Its published token expires while a request hangs, and status says so to the second all the same.
    story.until("published", "Ready", "False", "TokenExpired").await?;
    let status = story.get("published")?.status.ok_or("no status")?;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready").ok_or("no Ready")?;
    assert_eq!(ready.last_transition_time.0, status.token.ok_or("no token")?.expiration_time.0);

    hanging.process().signal(rustix::process::Signal::CONT);
    for name in ["waiting-0", "waiting-4", "published"] {
        story.until_ready(name).await?;
    }
    Ok(())
}
