//! Who waits, and who does not notice: patience that a provider asks for, and thousands that begin at once.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{Client, random};
use crate::testbed::relay::Point;
use crate::testbed::story::{Story, account, eventually, merge};
use crate::testbed::tls_server;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Accounts of one client at one endpoint, applied at once.
fn crowd(story: &Story<'_>, number: usize, name: &str, provider: &Value, client: &Client, patch: &Value) -> Result<()> {
    story.secret(&format!("{name}-client"), &[("client_secret", &client.secret)])?;
    let mut spec = json!({"client": {"secretRef": {"name": format!("{name}-client")}}});
    merge(&mut spec, patch);
    let items: Vec<_> = (0..number).map(|index| account(&format!("{name}-{index}"), provider, client, &spec)).collect();
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()).map(drop)
}

/// How many accounts of a crowd have this in their Ready condition.
fn ready(story: &Story<'_>, name: &str, reason: &str) -> Result<usize> {
    let list: Value = serde_json::from_str(&story.kubectl().run(&["get", "oauthaccounts", "-o", "json"])?)?;
    let of_them = |account: &&Value| account["metadata"]["name"].as_str().is_some_and(|own| own.starts_with(name));
    let says = |account: &&Value| {
        let mut conditions = account["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == json!("Ready") && condition["reason"] == json!(reason))
    };
    Ok(list["items"].as_array().into_iter().flatten().filter(of_them).filter(says).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_accounts_hear_one_wish_for_patience_and_nobody_else_notices() -> Result<()> {
    let (story, provider) = story("patience").await?;
    let operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let limited = Client { id: "limited".into(), secret: random() };
    let began = Instant::now();
    crowd(&story, 100, "limited", &endpoint.at("/rate-limited"), &limited, &json!({}))?;
    let maintained = Client { id: "maintained".into(), secret: random() };
    crowd(&story, 30, "maintained", &endpoint.at("/in-maintenance"), &maintained, &json!({}))?;
    let away = Client { id: "away".into(), secret: random() };
    crowd(&story, 30, "away", &endpoint.at("/unavailable"), &away, &json!({}))?;
    let all_limited = || Ok((ready(&story, "limited-", "RateLimited")? == 100).then_some(()));
    eventually(Duration::from_secs(20), all_limited).await?.ok_or("not all say that they are asked for patience")?;

    // Another provider's account, and another client's at the same host.
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("elsewhere", &issuer(provider), &client, &json!({}))?;
    story.until_ready("elsewhere").await?;
    story.account("beside", &endpoint.at("/lifetime/3600"), &Client { id: "beside".into(), secret: random() }, &json!({}))?;
    story.until_ready("beside").await?;
    let counted = "oauth_operator_token_requests_total{grant=\"ClientCredentials\",provider=\"Custom\",result=\"rate_limited\"}";
    let count = operator.metric(counted).await?;
    assert!(count.is_some_and(|count| count <= 3.0), "what was not asked is not counted: {count:?}");
    // Nor does the next process forget.
    drop(operator);
    let _operator = story.operator("operator-1").await?;
    tokio::time::sleep(Duration::from_secs(28).saturating_sub(began.elapsed())).await;
    let times = 1 + began.elapsed().as_secs() / 30;
    for path in ["/rate-limited", "/in-maintenance"] {
        let asked = endpoint.requests(path);
        assert!(asked >= 1 && asked <= 3 * times, "{path}: {asked} requests in {:?}", began.elapsed());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_does_not_wait_for_a_wave() -> Result<()> {
    const WAVE: usize = 300;
    let (story, _) = story("wave").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = Client { id: "crowd".into(), secret: random() };
    let slow = "/slow/1000";
    crowd(&story, WAVE, "crowd", &endpoint.at(slow), &client, &json!({}))?;
    let _operator = story.operator("operator-1").await?;
    let begun = || Ok((endpoint.requests(slow) >= 2).then_some(()));
    eventually(Duration::from_secs(20), begun).await?.ok_or("nobody is asked")?;
    story.account("late", &endpoint.at(slow), &client, &json!({}))?;
    story.until_ready("late").await?;
    let asked = endpoint.requests(slow);
    assert!(asked < 200, "it came last, and {asked} of {WAVE} had their turn before it");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_goes_before_all_who_renew_at_once() -> Result<()> {
    const WAVE: usize = 300;
    let (story, _) = story("renewals").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = Client { id: "crowd".into(), secret: random() };
    let slow = "/slow/1000";
    crowd(&story, WAVE, "crowd", &endpoint.at(slow), &client, &json!({}))?;
    let operator = story.operator("operator-1").await?;
    let all = || Ok((ready(&story, "crowd-", "TokenPublished")? == WAVE).then_some(()));
    eventually(Duration::from_secs(60), all).await?.ok_or("not all have their first token")?;
    drop(operator);
    story.kubectl().run(&[
        "annotate",
        "oauthaccounts",
        "--all",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z",
    ])?;
    // It begins with two requests at once, and all of them want to be asked.
    let before = endpoint.requests(slow);
    let _operator = story.operator("operator-1").await?;
    let begun = || Ok((endpoint.requests(slow) >= before + 2).then_some(()));
    eventually(Duration::from_secs(20), begun).await?.ok_or("nobody is renewed")?;
    // The same host, by a name of its own.
    let new = "/slow/1001";
    story.account("late", &endpoint.at(new), &client, &json!({}))?;
    let asked = || Ok((endpoint.requests(new) > 0).then(|| endpoint.requests(slow) - before));
    let renewed = eventually(Duration::from_secs(30), asked).await?.ok_or("it is never asked")?;
    assert!(renewed < 100, "{renewed} of {WAVE} were renewed before it had its first token");
    story.until_ready("late").await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_to_say_that_a_token_is_good_keeps_nobody_from_the_provider() -> Result<()> {
    const CHECKED: usize = 10;
    let (story, _) = story("slow-check").await?;
    let _operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = Client { id: "crowd".into(), secret: random() };
    let slow = "/slow/20000";
    let check = json!({"healthCheck": {"url": format!("{}{slow}", endpoint.url)}});
    crowd(&story, CHECKED, "checked", &endpoint.at("/lifetime/3600"), &client, &check)?;
    // One after another at a gate that is two wide, they would take a minute and a half.
    let all = || Ok((ready(&story, "checked-", "TokenPublished")? == CHECKED).then_some(()));
    eventually(Duration::from_secs(19), all).await?.ok_or("who checks keeps others from the provider")?;
    let asked = || Ok((endpoint.requests(slow) == CHECKED as u64).then_some(()));
    eventually(Duration::from_secs(10), asked).await?.ok_or("not all are checked")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_without_end_keeps_nobody_from_their_token() -> Result<()> {
    const FLOODED: usize = 6;
    let (story, provider) = story("flood").await?;
    let _operator = story.operator("operator-1").await?;
    let begun = Arc::new(AtomicUsize::new(0));
    let counted = begun.clone();
    let flood = move |mut stream: TlsStream<TcpStream>| {
        let counted = counted.clone();
        async move {
            let piece = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
            if stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            while stream.write_all(piece.as_bytes()).await.is_ok() {}
        }
    };
    let (address, ca) = tls_server::connections("testbed flood", flood).await?;
    story.ca("flood-ca", &ca)?;
    let began = Instant::now();
    for number in 0..FLOODED {
        let endless = json!({"custom": {"tokenURL": format!("https://{address}/token")}, "caBundleRef": {"name": "flood-ca"}});
        let client = Client { id: format!("client-{number}"), secret: random() };
        story.account(&format!("endless-{number}"), &endless, &client, &json!({}))?;
    }
    let asked = || Ok((begun.load(Ordering::Relaxed) >= 2).then_some(()));
    eventually(Duration::from_secs(20), asked).await?.ok_or("nobody is asked")?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("beside", &issuer(provider), &client, &json!({}))?;
    story.until_ready("beside").await?;
    assert!(began.elapsed() < Duration::from_secs(19), "it waited for the others' end: {:?}", began.elapsed());
    let said = story.until("endless-0", "Ready", "False", "Network").await?;
    assert!(said.contains("did not answer in time"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_published_before_all_are_told_of_and_each_is_told_once() -> Result<()> {
    const CROWD: usize = 40;
    const LOGINS: usize = 4;
    const AT_ONCE: u64 = 8;
    let (story, provider) = story("telling").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = Client { id: "crowd".into(), secret: random() };
    let path = "/lifetime/3600";
    crowd(&story, CROWD, "crowd", &endpoint.at(path), &client, &json!({}))?;
    let mut logins = vec![];
    for number in 0..LOGINS {
        let (client, refresh_token) = provider.log_in(3600, "alice").await?;
        story.login(&format!("crowd-login-{number}"), &issuer(provider), &client, &refresh_token, &json!({}))?;
        logins.push(client);
    }
    let api = story.cluster.relay().await?;
    let told = api.hold(Point::Request, |passing| passing.method == "PATCH" && passing.path.contains("/status"));
    let _operator = story.operator_behind("operator-1", &api).await?;
    let published = || -> Result<Option<()>> {
        let names = story.kubectl().run(&["get", "secrets", "-o", "name"])?;
        Ok((names.lines().filter(|name| name.ends_with("-token")).count() == CROWD + LOGINS).then_some(()))
    };
    eventually(Duration::from_secs(8), published).await?.ok_or("tokens wait until others are told of")?;
    assert_eq!(told.hits(), AT_ONCE, "statuses under way at once");
    told.release();

    let all = || Ok((ready(&story, "crowd-", "TokenPublished")? == CROWD + LOGINS).then_some(()));
    eventually(Duration::from_secs(30), all).await?.ok_or("not all are told of")?;
    assert_eq!(endpoint.requests(path), CROWD as u64, "token requests");
    for client in &logins {
        assert_eq!(super::login::each_once(provider, client).await?, 1, "redemptions");
    }
    let list: Value = serde_json::from_str(&story.kubectl().run(&["get", "oauthaccounts", "-o", "json"])?)?;
    for account in list["items"].as_array().into_iter().flatten() {
        let (name, status) = (&account["metadata"]["name"], &account["status"]);
        let history: Vec<_> = status["history"].as_array().into_iter().flatten().map(|attempt| &attempt["result"]).collect();
        assert_eq!(history, ["Succeeded"], "{name}: {status}");
        assert_eq!(status["token"]["generation"], json!(1), "{name}: {status}");
        let login = status["login"]["refreshTokenFingerprint"].is_string();
        assert_eq!(login, name.as_str().is_some_and(|name| name.contains("login")), "{name}: {status}");
    }
    Ok(())
}
