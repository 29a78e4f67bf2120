//! Records of logins that are encrypted, with keys that come and go.

use super::login::{each_once, refresh};
use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::operator::Operator;
use crate::testbed::story::{Story, eventually};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::Secret;
use oauth_operator::account::state_secret_name;
use ring::rand::{SecureRandom, SystemRandom};
use rustix::process::Signal;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A key in a keyring: its name and 32 bytes in base64.
pub type Key = (&'static str, String);

pub fn key(name: &'static str) -> Key {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("the kernel's source of randomness");
    (name, BASE64.encode(bytes))
}

/// Asks an operator to end, and waits until it has.
async fn end(operator: Operator) -> Result<()> {
    operator.process.signal(Signal::TERM);
    operator.process.end_within(Duration::from_secs(20)).await.map(drop).ok_or("the operator did not end".into())
}

/// Puts a keyring in place of the one before, whole.
pub fn write_keyring(path: &Path, keys: &[&Key], more: &str) -> Result<()> {
    let entries: String = keys.iter().map(|(name, secret)| format!("- name: {name}\n  secret: {secret}\n")).collect();
    let new = path.with_extension("new");
    std::fs::write(&new, format!("keys:\n{entries}{more}"))?;
    Ok(std::fs::rename(new, path)?)
}

/// The record of an account's login as it is stored.
fn record(story: &Story<'_>, name: &str) -> Result<Secret> {
    let secret = state_secret_name(&story.apps, name);
    let text = story.cluster.kubectl().namespaced(&story.system).run(&["get", "secret", &secret, "-o", "json"])?;
    Ok(serde_json::from_str(&text)?)
}

/// The record as text, and the name of the key that it says.
fn stored(story: &Story<'_>, name: &str) -> Result<(String, Option<String>)> {
    let record = record(story, name)?;
    let data = record.data.unwrap_or_default();
    let text = String::from_utf8(data.get("state").ok_or("no key state")?.0.clone())?;
    Ok((text, record.metadata.annotations.unwrap_or_default().remove("oauth-operator.dev/encryption-key")))
}

async fn until_encrypted(story: &Story<'_>, name: &str, key: Option<&str>) -> Result<()> {
    let done = || Ok((stored(story, name)?.1.as_deref() == key).then_some(()));
    let told = stored(story, name)?.1;
    eventually(Duration::from_secs(30), done).await?.ok_or(format!("it is encrypted with {told:?} and not {key:?}").into())
}

fn keyring(story: &Story<'_>) -> PathBuf {
    story.folder.join("keyring.yaml")
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_encrypted_keys_change_and_no_login_is_lost() -> Result<()> {
    let (story, provider) = story("encryption").await?;
    let path = keyring(&story);
    let (first, second) = (key("first"), key("second"));
    let file = path.display().to_string();
    // Looks for records that are to be encrypted anew once a second.
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--orphan-grace-seconds", "4", "--state-keyring", &file];
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;

    // What was plain is encrypted where it lies.
    let operator = story.operator("operator-1").await?;
    story.login("sealed", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("sealed").await?;
    let held = story.state("sealed")?.ok_or("no state")?["credential"]["refreshToken"].as_str().ok_or("no token")?.to_owned();
    assert!(stored(&story, "sealed")?.0.contains(&held), "without a keyring records are plain");
    end(operator).await?;
    write_keyring(&path, &[&first], "")?;
    let operator = story.operator_with("operator-2", &flags).await?;
    until_encrypted(&story, "sealed", Some("first")).await?;
    let (text, _) = stored(&story, "sealed")?;
    let token = story.key("sealed-token", "access_token")?;
    for secret in [&held, &token, &refresh_token] {
        assert!(!text.contains(secret.as_str()) && !text.contains(&BASE64.encode(secret)), "{text}");
    }

    // A login goes on, and each write is encrypted.
    refresh(&story, "sealed", "2026-01-01T00:00:01Z")?;
    story.until_generation("sealed", 2).await?;
    assert_eq!(stored(&story, "sealed")?.1.as_deref(), Some("first"));
    assert_eq!(each_once(provider, &client).await?, 2);

    // Keys change while it runs: the record is written anew without asking the provider.
    write_keyring(&path, &[&second, &first], "")?;
    until_encrypted(&story, "sealed", Some("second")).await?;
    write_keyring(&path, &[&second], "")?;
    refresh(&story, "sealed", "2026-01-01T00:00:02Z")?;
    story.until_generation("sealed", 3).await?;
    assert_eq!(each_once(provider, &client).await?, 3);

    // A keyring with a mistake: the keys before stay in use, and it is said.
    std::fs::write(&path, "keys:\n- name: second\n  secret: short\n")?;
    refresh(&story, "sealed", "2026-01-01T00:00:03Z")?;
    story.until_generation("sealed", 4).await?;
    let said = operator.process.output();
    assert!(said.contains("line 2: the secret of key second is not 32 bytes in base64; the keys before stay in use"), "{said}");
    end(operator).await?;

    // And none at all: what was encrypted becomes plain, and stays a login.
    write_keyring(&path, &[&second], "encrypt: false\n")?;
    let operator = story.operator_with("operator-3", &flags).await?;
    until_encrypted(&story, "sealed", None).await?;
    assert_eq!(story.state("sealed")?.ok_or("no state")?["generation"], json!(4));
    refresh(&story, "sealed", "2026-01-01T00:00:04Z")?;
    story.until_generation("sealed", 5).await?;
    assert_eq!(each_once(provider, &client).await?, 5);
    drop(operator);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_to_be_revoked_waits_for_its_key() -> Result<()> {
    let (story, provider) = story("late-key").await?;
    let path = keyring(&story);
    let (right, other) = (key("first"), key("other"));
    let file = path.display().to_string();
    write_keyring(&path, &[&right], "")?;
    let _operator = story.operator_with("operator-1", &["--allowed-cidrs", "127.0.0.0/8", "--state-keyring", &file]).await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("bot", &issuer(provider), &client, &refresh_token, &json!({"revocationPolicy": "OnDelete"}))?;
    story.until_ready("bot").await?;
    let token = story.key("bot-token", "access_token")?;
    write_keyring(&path, &[&other], "")?;
    story.kubectl().run(&["delete", "oauthaccount", "bot", "--timeout=10s"])?;
    // Longer than it is tried to reach a provider that is away, which ends nothing but trying.
    tokio::time::sleep(Duration::from_secs(70)).await;
    record(&story, "bot").map_err(|error| format!("the record that nobody could read was deleted: {error}"))?;
    assert_eq!(provider.introspect(&client, &token).await?["active"], json!(true), "nobody could revoke it");
    write_keyring(&path, &[&right], "")?;
    let gone = || Ok(record(&story, "bot").is_err().then_some(()));
    eventually(Duration::from_secs(20), gone).await?.ok_or("the record stays")?;
    assert_eq!(provider.introspect(&client, &token).await?["active"], json!(false));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_a_condition_and_never_a_lost_login() -> Result<()> {
    let (story, provider) = story("wrong-key").await?;
    let path = keyring(&story);
    let (right, wrong, other) = (key("shared"), key("shared"), key("other"));
    let file = path.display().to_string();
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--state-keyring", &file];
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    write_keyring(&path, &[&right], "")?;
    let _operator = story.operator_with("operator-1", &flags).await?;
    story.login("sealed", &issuer(provider), &client, &refresh_token, &json!({}))?;
    story.until_ready("sealed").await?;
    let token = story.key("sealed-token", "access_token")?;
    let before = stored(&story, "sealed")?;

    for (moment, keys, said) in [
        (1, [&other], "is encrypted with the key shared, which is not in the keyring (it has other)"),
        (2, [&wrong], "is encrypted with a key shared that is not the one of that name in the keyring"),
    ] {
        write_keyring(&path, &keys, "")?;
        refresh(&story, "sealed", &format!("2026-01-01T00:00:0{moment}Z"))?;
        let told = || {
            let failing = story.condition("sealed", "RefreshFailing")?;
            Ok(failing.filter(|(status, _, message)| status == "True" && message.contains(said)))
        };
        let told = eventually(Duration::from_secs(20), told).await?.ok_or_else(|| format!("not said: {said}"))?;
        assert_eq!(told.1, "Configuration");
        assert_eq!(story.condition("sealed", "Ready")?.ok_or("no Ready")?.0, "True", "what is published is still good");
        assert_eq!(story.key("sealed-token", "access_token")?, token);
        assert_eq!(stored(&story, "sealed")?, before, "nothing is written over what cannot be read");
        assert_eq!(each_once(provider, &client).await?, 1, "and nothing is posted");
    }

    write_keyring(&path, &[&right], "")?;
    refresh(&story, "sealed", "2026-01-01T00:00:03Z")?;
    story.until_generation("sealed", 2).await?;
    assert_eq!(each_once(provider, &client).await?, 2);
    assert!(story.condition("sealed", "RefreshFailing")?.is_none_or(|(status, ..)| status == "False"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_its_keys_does_not_start() -> Result<()> {
    let (story, _) = story("keyless").await?;
    let path = keyring(&story);
    std::fs::write(&path, "keys: [{name: a, secret: short}]")?;
    let missing = story.folder.join("missing.yaml");
    for (file, said) in
        [(&path, "line 1: the secret of key a is not 32 bytes in base64"), (&missing, "No such file or directory")]
    {
        let file = file.display().to_string();
        let error = story.operator_with("operator-1", &["--state-keyring", &file]).await.err().ok_or("it started")?;
        assert!(error.to_string().contains(&format!("--state-keyring {file}: {said}")), "{error}");
    }
    Ok(())
}
