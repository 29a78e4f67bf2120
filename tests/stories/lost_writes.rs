//! Writes to the API server whose request or reply is lost: what they were for is made up for, and nothing is done twice.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::relay::Point;
use crate::testbed::story::eventually;
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_or_a_healing_whose_write_is_lost_is_made_up_for() -> Result<()> {
    let (story, provider) = story("lost-edit").await?;
    let api = story.cluster.relay().await?;
    let _operator = story.operator_behind("operator-1", &api).await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("edited", &issuer(provider), &client, &json!({}))?;
    story.until_ready("edited").await?;
    let lost = api.lose(Point::Request, |passing| passing.method == "PATCH" && passing.path.contains("/secrets/edited-token"));
    let labels = json!({"spec": {"tokenSecret": {"labels": {"team": "a"}}}}).to_string();
    story.kubectl().run(&["patch", "oauthaccount", "edited", "--type=merge", "-p", &labels])?;
    lost.hit(Duration::from_secs(10)).await?;
    let observed = || -> Result<Option<i64>> { Ok(story.get("edited")?.status.and_then(|status| status.observed_generation)) };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(observed()?, Some(1), "what was not done is not said to be observed");
    lost.release();
    let labelled = || -> Result<Option<()>> {
        let labels = story.read_secret("edited-token")?.ok_or("gone")?.metadata.labels.unwrap_or_default();
        Ok((labels.get("team").is_some_and(|team| team == "a") && observed()? == Some(2)).then_some(()))
    };
    eventually(Duration::from_secs(15), labelled).await?.ok_or("the edit is forgotten")?;

    // Healed by a write that is lost.
    let lost = api.lose(Point::Request, |passing| passing.method == "PATCH" && passing.path.contains("/secrets/edited-token"));
    let kubectl = story.kubectl();
    kubectl.run(&["patch", "secret", "edited-token", "--type=merge", "-p", r#"{"stringData": {"expires_at": "never"}}"#])?;
    lost.hit(Duration::from_secs(10)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    lost.release();
    let healed = || Ok((story.key("edited-token", "expires_at")? != "never").then_some(()));
    eventually(Duration::from_secs(15), healed).await?.ok_or("the damage is forgotten")?;
    assert_eq!(provider.token_requests(&client).await?, (1, 0));

    // Made anew by one.
    let lost = api.lose(Point::Request, |passing| {
        passing.method == "POST" && passing.path.contains("/secrets") && passing.state().is_none()
    });
    kubectl.run(&["delete", "secret", "edited-token"])?;
    lost.hit(Duration::from_secs(10)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    lost.release();
    let there = || Ok(story.read_secret("edited-token")?.map(drop));
    eventually(Duration::from_secs(15), there).await?.ok_or("that it is gone is forgotten")?;
    story.until_ready("edited").await?;
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "the token that could not be written is kept");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_kept_and_could_not_be_published_is_published_soon() -> Result<()> {
    let (story, provider) = story("lost-publish").await?;
    let api = story.cluster.relay().await?;
    let _operator = story.operator_behind("operator-1", &api).await?;
    let (client, seed) = provider.log_in(3600, "alice").await?;
    story.login("bot", &issuer(provider), &client, &seed, &json!({}))?;
    story.until_ready("bot").await?;
    let lost = api.lose(Point::Request, |passing| passing.method == "PATCH" && passing.path.contains("/secrets/bot-token"));
    story.kubectl().run(&["annotate", "oauthaccount", "bot", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z"])?;
    lost.hit(Duration::from_secs(10)).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    lost.release();
    let published = || Ok(story.key("bot-token", "generation").is_ok_and(|generation| generation == "2").then_some(()));
    eventually(Duration::from_secs(15), published).await?.ok_or("the token is forgotten in its record")?;
    let told = || Ok(story.get("bot")?.status.filter(|status| status.last_handled_refresh_time.is_some()));
    let status = eventually(Duration::from_secs(10), told).await?.ok_or("that it was asked for is not answered")?;
    assert_eq!((status.history.len(), format!("{:?}", status.history[0].trigger)), (2, "Requested".to_owned()), "{status:?}");
    let redemptions = provider.redemptions(&client).await?;
    assert!(redemptions.len() == 2 && redemptions.iter().all(|(_, status)| *status == 200), "{redemptions:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_could_not_be_told_is_told_and_not_made_again() -> Result<()> {
    let (story, provider) = story("lost-say").await?;
    let api = story.cluster.relay().await?;
    let operator = story.operator_behind("operator-1", &api).await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let lost = api.lose(Point::Request, |passing| passing.method == "PATCH" && passing.path.contains("/status"));
    story.account("bot", &endpoint.at("/echo"), &client, &json!({}))?;
    lost.hit(Duration::from_secs(10)).await?;
    // Three passes, or more.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let asked = endpoint.requests("/echo");
    assert_eq!(asked, 1, "it is not asked again before anybody is told: {}", operator.process.output());
    lost.release();
    story.until("bot", "Stalled", "True", "Authentication").await?;
    assert_eq!(story.get("bot")?.status.ok_or("no status")?.failed_attempts, 1);
    assert_eq!(endpoint.requests("/echo"), 1);
    Ok(())
}
