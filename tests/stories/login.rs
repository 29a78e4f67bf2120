//! Logins whose refresh tokens rotate, with a provider that ends a login when one comes twice.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::relay::{Point, Relay};
use crate::testbed::story::{Story, eventually};
use oauth_operator::oauth::Sensitive;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// No refresh token came twice, and none was refused.
pub async fn each_once(provider: &AuthorizationServer, client: &Client) -> Result<usize> {
    let redemptions = provider.redemptions(client).await?;
    for (number, (digest, status)) in redemptions.iter().enumerate() {
        assert_eq!(*status, 200, "{redemptions:?}");
        assert!(redemptions[..number].iter().all(|(before, _)| before != digest), "posted twice: {redemptions:?}");
    }
    Ok(redemptions.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_in_a_seed_becomes_a_token_that_is_renewed_for_four_writes_each() -> Result<()> {
    let (story, provider) = story("rotation").await?;
    let operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(10, "alice").await?;
    story.login("rotating", &issuer(provider), &client, &refresh_token, &json!({"expectedSubject": "alice"}))?;
    story.until_generation("rotating", 3).await?;
    let account = story.get("rotating")?;
    let ready = story.condition("rotating", "Ready")?.ok_or("no Ready")?;
    assert_eq!(ready.0, "True", "{ready:?}");
    let refreshes = each_once(provider, &client).await?;
    assert!((3..=4).contains(&refreshes), "{refreshes}");
    let token = story.key("rotating-token", "access_token")?;
    assert_eq!(story.state("rotating")?.ok_or("no state")?["record"]["accessToken"], json!(token));

    let status = account.status.ok_or("no status")?;
    assert_eq!(status.grant.as_deref(), Some("RefreshToken"));
    let login = status.login.ok_or("no login")?;
    assert_ne!(login.refresh_token_fingerprint.as_deref(), Some(login.seed_fingerprint.as_str()), "it was replaced");
    let secret = oauth_operator::account::state_secret_name(&story.apps, "rotating");
    let writes = story.writes_by_operator()?;
    let own: Vec<_> = writes.iter().filter(|write| write.contains("rotating") || write.contains(&secret)).collect();
    assert!(own.len() <= 4 * refreshes, "{} writes for {refreshes} refreshes: {own:?}", own.len());

    let keys = story.read_secret("rotating-token")?.ok_or("no Secret")?.data.unwrap_or_default();
    let state = story.state("rotating")?.ok_or("no state")?;
    let held = state["credential"]["refreshToken"].as_str().ok_or("no refresh token")?;
    for (key, value) in keys {
        assert!(!String::from_utf8_lossy(&value.0).contains(held), "the refresh token in key {key}");
    }
    let log = operator.process.output();
    for secret in [held, refresh_token.as_str(), token.as_str()] {
        assert!(!log.contains(secret), "a secret in the log");
    }
    assert_eq!(std::fs::read_dir(story.folder.join("operator-1.journal"))?.count(), 0, "the journal is empty at rest");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_token_secret_comes_back_without_a_token_request() -> Result<()> {
    let (story, provider) = story("login-heal").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("healed", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("healed").await?;
    let before = story.key("healed-token", "access_token")?;
    story.kubectl().run(&["delete", "secret", "healed-token"])?;
    let again = || Ok(story.read_secret("healed-token")?.map(drop));
    eventually(Duration::from_secs(10), again).await?.ok_or("not made again")?;
    assert_eq!(story.key("healed-token", "access_token")?, before);
    assert_eq!(each_once(provider, &client).await?, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_seed_applied_again_does_no_harm_and_a_new_one_is_taken_up() -> Result<()> {
    let (story, provider) = story("reseed").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("reseeded", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("reseeded").await?;
    // GitOps: everything is applied again, and the account is made anew.
    story.kubectl().run(&["delete", "oauthaccount", "reseeded"])?;
    let gone = || Ok(story.read_secret("reseeded-token")?.is_none().then_some(()));
    eventually(Duration::from_secs(30), gone).await?.ok_or("its Secret was not collected")?;
    story.login("reseeded", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("reseeded").await?;
    assert_eq!(each_once(provider, &client).await?, 2, "the login went on where it stood");

    let fresh = provider.log_in_again(&client, "alice").await?;
    story.secret("reseeded-seed", &[("refresh_token", &fresh)])?;
    refresh(&story, "reseeded", "2026-01-01T00:00:01Z")?;
    story.until_generation("reseeded", 3).await?;
    let redemptions = provider.redemptions(&client).await?;
    assert_eq!(redemptions.last().map(|last| last.0.clone()), Some(Sensitive::new(fresh).fingerprint()));
    Ok(())
}

/// Asks for a new token by annotation.
pub fn refresh(story: &Story<'_>, name: &str, moment: &str) -> Result<()> {
    let annotation = format!("oauth-operator.dev/refresh-requested-at={moment}");
    story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", name, &annotation]).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_with_one_seed_are_told_apart() -> Result<()> {
    let (story, provider) = story("duplicate").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("first", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("first").await?;
    story.login("second", &issuer(provider), &client, &refresh_token, &json!({}))?;
    let message = story.until("second", "DuplicateCredential", "True", "DuplicateCredential").await?;
    assert!(message.contains("is that of the account first"), "{message}");
    // Both at once: one of them is first.
    let another = provider.log_in_again(&client, "bob").await?;
    story.secret("third-seed", &[("refresh_token", &another)])?;
    story.secret("fourth-seed", &[("refresh_token", &another)])?;
    let both: Vec<Value> = ["third", "fourth"]
        .iter()
        .map(|name| crate::testbed::story::login(name, &issuer(provider), &client, &json!({})))
        .collect();
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": both}).to_string())?;
    let settled = || -> Result<Option<usize>> {
        let states = ["third", "fourth"].map(|name| story.condition(name, "Ready"));
        let states: Vec<_> = states.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        let told = states.iter().all(|(_, reason, _)| reason == "TokenPublished" || reason == "DuplicateCredential");
        Ok((states.len() == 2 && told).then(|| states.iter().filter(|(status, ..)| status == "True").count()))
    };
    assert_eq!(eventually(Duration::from_secs(20), settled).await?, Some(1), "exactly one has the login");
    assert_eq!(each_once(provider, &client).await?, 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_ended_is_told_and_a_new_seed_is_taken_up_at_once() -> Result<()> {
    let (story, provider) = story("ended").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("ended", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("ended").await?;
    // Somebody else uses the spent seed: the provider ends the login.
    let http = provider.http()?;
    let body = format!("grant_type=refresh_token&refresh_token={refresh_token}&client_id={}", client.id);
    let request = http.post(format!("{}/token", provider.issuer)).header("content-type", "application/x-www-form-urlencoded");
    assert_eq!(request.body(body).send().await?.status().as_u16(), 400);
    refresh(&story, "ended", "2026-01-01T00:00:01Z")?;
    let message = story.until("ended", "ReauthorizationRequired", "True", "RedeemedElsewhere").await?;
    assert!(message.contains("another cluster or program shares this login"), "{message}");
    let (ready, ..) = story.condition("ended", "Ready")?.ok_or("no Ready")?;
    assert_eq!(ready, "True", "the token published before stays until it expires");
    let wait = story.kubectl().run(&["wait", "--for=condition=Stalled", "--timeout=5s", "oauthaccount/ended"])?;
    assert!(wait.contains("condition met"));
    let fresh = provider.log_in_again(&client, "alice").await?;
    story.secret("ended-seed", &[("refresh_token", &fresh)])?;
    story.until_generation("ended", 2).await?;
    let over = || Ok(story.condition("ended", "ReauthorizationRequired")?.is_none().then_some(()));
    eventually(Duration::from_secs(5), over).await?.ok_or("still told")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_login_goes_some_time_after_its_account_unless_it_is_retained() -> Result<()> {
    let (story, provider) = story("sweep").await?;
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--orphan-grace-seconds", "4"];
    let operator = story.operator_with("operator-1", &flags).await?;
    for (name, policy) in [("swept", "Delete"), ("retained", "Retain"), ("alive", "Delete"), ("unseen", "Delete")] {
        let (client, refresh_token) = provider.log_in(3600, "alice").await?;
        story.login(name, &issuer(provider), &client, &refresh_token, &json!({"statePolicy": policy}))?;
        story.until_ready(name).await?;
    }
    story.kubectl().run(&["delete", "oauthaccount", "swept", "retained"])?;
    assert!(story.state("swept")?.is_some(), "not at once");
    let swept = || Ok(story.state("swept")?.is_none().then_some(()));
    eventually(Duration::from_secs(20), swept).await?.ok_or("the record of a login stays for ever")?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(story.state("retained")?.is_some() && story.state("alive")?.is_some());
    // Nobody saw that one go.
    drop(operator);
    story.kubectl().run(&["delete", "oauthaccount", "unseen"])?;
    let _operator = story.operator_with("operator-2", &flags).await?;
    assert!(story.state("unseen")?.is_some(), "not at once");
    let swept = || Ok(story.state("unseen")?.is_none().then_some(()));
    eventually(Duration::from_secs(40), swept).await?.ok_or("what went while no operator was there stays for ever")?;
    assert!(story.state("retained")?.is_some() && story.state("alive")?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_changes_while_a_refresh_is_under_way_costs_neither_login() -> Result<()> {
    let (story, provider) = story("seed-in-flight").await?;
    let relay = Relay::before(&provider.issuer, &provider.ca).await?;
    story.ca("relay-ca", &relay.ca)?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    let custom = json!({"custom": {"tokenURL": format!("{}/token", relay.url)}, "caBundleRef": {"name": "relay-ca"}});
    story.login("moving", &custom, &client, &refresh_token, &json!({}))?;
    story.until_ready("moving").await?;
    let held = relay.hold(Point::Reply, |passing| passing.path == "/token");
    refresh(&story, "moving", "2026-01-01T00:00:01Z")?;
    held.hit(Duration::from_secs(10)).await?;
    let fresh = provider.log_in_again(&client, "alice").await?;
    story.secret("moving-seed", &[("refresh_token", &fresh)])?;
    held.release();
    story.until_generation("moving", 2).await?;
    let state = story.state("moving")?.ok_or("no state")?;
    assert_eq!(state["credential"]["source"], json!("Reply"), "the reply under way is kept");
    refresh(&story, "moving", "2026-01-01T00:00:02Z")?;
    story.until_generation("moving", 3).await?;
    assert_eq!(each_once(provider, &client).await?, 3);
    let redemptions = provider.redemptions(&client).await?;
    assert_eq!(redemptions[2].0, Sensitive::new(fresh).fingerprint(), "and the new seed is imported at the next refresh");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_edits_or_deletes_is_told_and_never_guessed_at() -> Result<()> {
    let (story, provider) = story("tampered").await?;
    let _operator = story.operator("operator-1").await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("tampered", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("tampered").await?;
    let secret = oauth_operator::account::state_secret_name(&story.apps, "tampered");
    let system = story.cluster.kubectl().namespaced(&story.system);
    let backup = system.run(&["get", "secret", &secret, "-o", "json"])?;
    system.run(&["patch", "secret", &secret, "--type=merge", "-p", r#"{"stringData":{"state":"{}"}}"#])?;
    refresh(&story, "tampered", "2026-01-01T00:00:01Z")?;
    let message = story.until("tampered", "RefreshFailing", "True", "Configuration").await?;
    assert!(message.contains(&format!("Secret {secret} in its own namespace, is not what the operator wrote")), "{message}");
    assert_eq!(story.condition("tampered", "Ready")?.ok_or("no Ready")?.0, "True");

    system.run(&["delete", "secret", &secret])?;
    refresh(&story, "tampered", "2026-01-01T00:00:02Z")?;
    let message = story.until("tampered", "StateRolledBack", "True", "StateRolledBack").await?;
    assert!(message.contains("is gone") && message.contains("key refresh_token of Secret tampered-seed"), "{message}");
    assert_eq!(each_once(provider, &client).await?, 1, "the spent seed was not posted");

    // Whoever has a backup that is the newest loses nothing.
    let mut restored: Value = serde_json::from_str(&backup)?;
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        restored["metadata"].as_object_mut().ok_or("metadata")?.remove(field);
    }
    system.apply(&restored.to_string())?;
    refresh(&story, "tampered", "2026-01-01T00:00:03Z")?;
    story.until_generation("tampered", 2).await?;
    assert_eq!(each_once(provider, &client).await?, 2);

    // And one that is not is told.
    system.run(&["delete", "secret", &secret])?;
    system.apply(&restored.to_string())?;
    refresh(&story, "tampered", "2026-01-01T00:00:04Z")?;
    let message = story.until("tampered", "StateRolledBack", "True", "StateRolledBack").await?;
    assert!(message.contains("older than what status tells of"), "{message}");
    assert_eq!(each_once(provider, &client).await?, 2, "a refresh token that was replaced is not posted");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_rotate_and_one_that_speaks_of_another_user() -> Result<()> {
    let (story, provider) = story("replies").await?;
    let _operator = story.operator("operator-1").await?;
    let steady = json!({
        "rotates": false, "token_endpoint_auth_method": "client_secret_basic", "response_types": ["code"],
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example/callback"],
    });
    let client = provider.register_with(&steady).await?;
    let refresh_token = provider.log_in_again(&client, "alice").await?;
    story.secret("steady-seed", &[("refresh_token", &refresh_token), ("client_secret", &client.secret)])?;
    let confidential = json!({"client": {"secretRef": {"name": "steady-seed", "key": "client_secret"}}});
    story.kubectl().apply(&crate::testbed::story::login("steady", &issuer(provider), &client, &confidential).to_string())?;
    story.until_ready("steady").await?;
    refresh(&story, "steady", "2026-01-01T00:00:01Z")?;
    story.until_generation("steady", 2).await?;
    let same: Vec<_> = provider.redemptions(&client).await?.into_iter().map(|(digest, _)| digest).collect();
    assert_eq!(same, [Sensitive::new(refresh_token.as_str()).fingerprint(), Sensitive::new(refresh_token).fingerprint()]);

    let (client, refresh_token) = provider.log_in(3600, "mallory").await?;
    story.login("stolen", &issuer(provider), &client, &refresh_token, &json!({"expectedSubject": "alice"}))?;
    let message = story.until("stolen", "ReauthorizationRequired", "True", "WrongSubject").await?;
    assert!(message.contains("is about another user than the one this account is for"), "{message}");
    assert!(story.read_secret("stolen-token")?.is_none(), "nothing of the other user's is published");
    assert!(!story.state("stolen")?.ok_or("no state")?["credential"].is_null(), "and his login is not thrown away");
    Ok(())
}

/// Another instance has armed a refresh and is never heard of again. Its clock is an hour ahead, or an hour behind.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_armed_a_refresh_is_waited_for_as_long_whatever_his_clock_says() -> Result<()> {
    use base64::Engine;
    let base64 = base64::engine::general_purpose::STANDARD;
    let (story, provider) = story("clocks").await?;
    let operator = story.operator("operator-1").await?;
    let started = Instant::now();
    let mut logins = vec![];
    for (name, hours) in [("ahead", 1), ("behind", -1)] {
        let (client, refresh_token) = provider.log_in(3600, "alice").await?;
        story.login(name, &issuer(provider), &client, &refresh_token, &json!({}))?;
        story.until_ready(name).await?;
        logins.push((name, hours, client));
    }
    // For a minute after its start it waits for everybody.
    tokio::time::sleep(Duration::from_secs(35).saturating_sub(started.elapsed())).await;
    for (name, hours, _) in &logins {
        let mut state = story.state(name)?.ok_or("no record")?;
        let theirs = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(*hours);
        let id = format!("{:032x}", hours + 10);
        state["intent"] = json!({
            "id": id, "digest": "0123456789abcdef", "started": theirs, "deadline": theirs + jiff::SignedDuration::from_secs(45),
            "holder": "operator-2", "trigger": "Schedule", "journalKey": "0".repeat(64),
        });
        let patch = json!({
            "metadata": {"annotations": {"oauth-operator.dev/intent": id}},
            "data": {"state": base64.encode(state.to_string())},
        });
        let secret = oauth_operator::account::state_secret_name(&story.apps, name);
        let system = story.cluster.kubectl().namespaced(&story.system);
        system.run(&["patch", "secret", &secret, "--type=merge", "-p", &patch.to_string()])?;
    }
    let armed = Instant::now();
    for (name, ..) in &logins {
        story.kubectl().run(&[
            "annotate",
            "oauthaccount",
            name,
            "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z",
        ])?;
    }
    tokio::time::sleep(Duration::from_secs(38).saturating_sub(armed.elapsed())).await;
    assert!(started.elapsed() > Duration::from_secs(65), "it waits for everybody still");
    for (name, _, client) in &logins {
        assert_eq!(story.condition(name, "RefreshOutcomeUnknown")?, None, "{name}: it may be at work");
        assert_eq!(each_once(provider, client).await?, 1, "{name}");
    }
    for (name, _, client) in &logins {
        story.until(name, "RefreshOutcomeUnknown", "True", "OutcomeUnknown").await?;
        assert_eq!(each_once(provider, client).await?, 1, "{name}: an intent that ran out is no right to post");
    }
    assert!(armed.elapsed() < Duration::from_secs(75), "an hour is not waited for: {:?}", armed.elapsed());
    drop(operator);
    Ok(())
}
