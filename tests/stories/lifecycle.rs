//! A token's life at the provider: asked about, checked where it is used, and ended when its account goes.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client, random};
use crate::testbed::story::eventually;
use oauth_operator::oauth::Sensitive;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);

/// What was revoked for a client: head of the token's digest, hint and status.
async fn revocations(provider: &AuthorizationServer, client: &Client) -> Result<Vec<Value>> {
    let url = format!("{}/testbed/revocations?client_id={}", provider.issuer, client.id);
    Ok(serde_json::from_str(&provider.http()?.get(url).send().await?.text().await?)?)
}

/// Waits until so many tokens are revoked.
async fn until_revoked(provider: &AuthorizationServer, client: &Client, number: usize) -> Result<Vec<Value>> {
    let began = Instant::now();
    loop {
        let all = revocations(provider, client).await?;
        if all.len() >= number {
            return Ok(all);
        }
        if began.elapsed() > SOON {
            return Err(format!("not revoked: {all:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_its_account_goes_a_login_is_ended_at_the_provider() -> Result<()> {
    let (story, provider) = story("revoked").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, seed) = provider.log_in(3600, "alice").await?;
    story.login("bot", &issuer(provider), &client, &seed, &json!({"revocationPolicy": "OnDelete"}))?;
    story.until_ready("bot").await?;
    let token = story.key("bot-token", "access_token")?;
    assert_eq!(provider.introspect(&client, &token).await?["active"], json!(true));
    let began = Instant::now();
    story.kubectl().run(&["delete", "oauthaccount", "bot", "--timeout=10s"])?;
    assert!(began.elapsed() < Duration::from_secs(8), "deleting waits for nobody");
    let all = until_revoked(provider, &client, 2).await?;
    assert_eq!((&all[0]["token_type_hint"], &all[0]["status"]), (&json!("refresh_token"), &json!(200)));
    assert_eq!(all[1]["digest"], json!(Sensitive::new(token.as_str()).fingerprint()));
    assert_eq!(provider.introspect(&client, &token).await?["active"], json!(false));
    let gone = || Ok(story.state("bot")?.is_none().then_some(()));
    eventually(SOON, gone).await?.ok_or("the record of a login that is ended stays").map_err(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_refreshed_is_revoked_too_also_by_an_operator_that_was_away() -> Result<()> {
    let (story, provider) = story("revoked-later").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let other = provider.register(3600, "client_secret_basic").await?;
    story.account("bot", &issuer(provider), &client, &json!({"revocationPolicy": "OnDelete"}))?;
    story.account("kept", &issuer(provider), &other, &json!({}))?;
    story.until_ready("bot").await?;
    story.until_ready("kept").await?;
    drop(operator);
    story.kubectl().run(&["delete", "oauthaccount", "bot", "kept", "--timeout=10s"])?;
    assert_eq!(revocations(provider, &client).await?.len(), 0);
    let _operator = story.operator("operator-2").await?;
    let all = until_revoked(provider, &client, 1).await?;
    assert_eq!((all.len(), &all[0]["token_type_hint"]), (1, &json!("access_token")));
    assert_eq!(revocations(provider, &other).await?.len(), 0, "whose policy says Never is left alone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_keeps_nobody_from_deleting() -> Result<()> {
    let (story, provider) = story("revoked-away").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    // Nothing listens there.
    let mut from = issuer(provider);
    from["overrides"] = json!({"revocationURL": "https://127.0.0.1:9/revoke"});
    story.account("bot", &from, &client, &json!({"revocationPolicy": "OnDelete"}))?;
    story.until_ready("bot").await?;
    let began = Instant::now();
    story.kubectl().run(&["delete", "oauthaccount", "bot", "--timeout=10s"])?;
    assert!(began.elapsed() < Duration::from_secs(8));
    let told = |line: &Value| {
        line["target"] == "audit"
            && line["what"] == "token not revoked"
            && line["result"] != "success"
            && line["requestID"].is_string()
    };
    let said = || Ok(operator.log().iter().any(told).then_some(()));
    eventually(SOON, said).await?.ok_or("that it could not be revoked is not said")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_that_the_reply_does_not_name_is_asked_of_the_provider() -> Result<()> {
    let (story, provider) = story("introspected").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(1234, "client_secret_basic").await?;
    let mut from = issuer(provider);
    from["overrides"] = json!({"response": {"expiresIn": "not.there"}});
    story.account("bot", &from, &client, &json!({}))?;
    story.until_ready("bot").await?;
    let token = story.get("bot")?.status.and_then(|status| status.token).ok_or("no token")?;
    assert_eq!(format!("{:?}", token.expiry_source), "Introspection");
    let life = token.expiration_time.0.duration_since(token.issued_time.0).as_secs();
    assert!((1230..=1236).contains(&life), "{life}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_its_resource_server_refuses_is_replaced_and_that_is_told() -> Result<()> {
    let (story, provider) = story("health").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let check = json!({"healthCheck": {"url": format!("{}/testbed/resource", provider.issuer), "intervalSeconds": 60}});
    story.account("bot", &issuer(provider), &client, &check)?;
    story.until("bot", "Healthy", "True", "TokenAccepted").await?;
    let nowhere = json!({"healthCheck": {"url": format!("{}/testbed/nowhere", provider.issuer)}});
    story.account("lost", &issuer(provider), &client, &nowhere)?;
    let why = story.until("lost", "Healthy", "Unknown", "ProviderError").await?;
    assert!(why.contains("HTTP 404"), "{why}");
    // Somebody ends the token at the provider: at the next look there is a fresh one.
    let token = story.key("bot-token", "access_token")?;
    let revoke =
        provider.http()?.post(format!("{}/token/revocation", provider.issuer)).basic_auth(&client.id, Some(&client.secret));
    let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("token", &token).finish();
    let answer = revoke.header("content-type", "application/x-www-form-urlencoded").body(form).send().await?;
    assert_eq!(answer.status().as_u16(), 200);
    let fresh = || Ok(story.get("bot")?.status.and_then(|status| status.token).filter(|token| token.generation == 2));
    eventually(Duration::from_secs(90), fresh).await?.ok_or("no fresh token")?;
    story.until("bot", "Healthy", "True", "TokenAccepted").await?;
    let history = story.get("bot")?.status.ok_or("no status")?.history;
    assert_eq!(format!("{:?}", history[0].trigger), "Rejected");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_server_that_refuses_every_token_costs_one_fresh_one() -> Result<()> {
    let (story, _) = story("refuses-all").await?;
    let _operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = Client { id: "refused".into(), secret: random() };
    // It answers 401 to everything.
    let check = json!({"healthCheck": {"url": format!("{}/echo", endpoint.url), "intervalSeconds": 60}});
    story.account("bot", &endpoint.at("/lifetime/3599"), &client, &check)?;
    story.until("bot", "TokenRejectedByResource", "True", "TokenRejected").await?;
    // Longer than to the next look.
    tokio::time::sleep(Duration::from_secs(75)).await;
    assert!(endpoint.requests("/echo") >= 3, "it is looked at again: {}", endpoint.requests("/echo"));
    assert_eq!(endpoint.requests("/lifetime/3599"), 2, "the first one, and one in its place");
    story.until("bot", "TokenRejectedByResource", "True", "TokenRejected").await?;
    Ok(())
}
