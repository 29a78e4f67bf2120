//! Who waits, and who does not notice: patience that a provider asks for, and thousands that begin at once.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{Client, random};
use crate::testbed::story::{Story, account, eventually, merge};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

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
    tokio::time::sleep(Duration::from_secs(28).saturating_sub(began.elapsed())).await;
    let (asked, times) = (endpoint.requests("/rate-limited"), 1 + began.elapsed().as_secs() / 30);
    assert!(asked >= 1 && asked <= 3 * times, "{asked} requests in {:?}", began.elapsed());
    let counted = "oauth_operator_token_requests_total{grant=\"ClientCredentials\",provider=\"Custom\",result=\"rate_limited\"}";
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let most = 3.0 * times as f64;
    assert!(operator.metric(counted).await?.is_some_and(|count| count <= most), "what was not asked is not counted");
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
