//! Installation tokens of a GitHub App.

use crate::login::refresh;
use crate::story;
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::github::{APP, GitHub, INSTALLATION};
use crate::testbed::keys::{Key, Kind};
use crate::testbed::story::Story;
use serde_json::{Value, json};

/// An account of the App, whose key is in a Secret.
fn account(story: &Story<'_>, github: &GitHub, name: &str, secret: &str, more: &Value) -> Result<()> {
    let provider = json!({
        "preset": "GitHubApp", "caBundleRef": {"name": "github-ca"},
        "overrides": {"tokenURL": format!("{}/app/installations/{{installationID}}/access_tokens", github.url)},
    });
    let mut grant = json!({"appID": APP, "installationID": INSTALLATION, "keyRef": {"name": secret, "key": "private-key.pem"}});
    grant.as_object_mut().ok_or("an object")?.extend(more.as_object().cloned().unwrap_or_default());
    let patch = json!({"client": null, "grant": {"clientCredentials": null, "githubApp": grant}});
    story.account_alone(name, &provider, &Client { id: String::new(), secret: String::new() }, &patch)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_gets_installation_tokens_for_what_it_names_and_no_more() -> Result<()> {
    let (story, _) = story("github-app").await?;
    let operator = story.operator("operator-1").await?;
    // As GitHub gives it out.
    let key = Key::make(Kind::RsaPkcs1)?;
    let github = GitHub::start(&key).await?;
    story.ca("github-ca", &github.ca)?;
    story.secret("app", &[("private-key.pem", &key.pem)])?;
    let narrow = json!({"repositories": ["site", "tools"], "permissions": {"contents": "read", "issues": "write"}});
    account(&story, &github, "narrow", "app", &narrow)?;
    story.until_ready("narrow").await?;
    refresh(&story, "narrow", "2026-01-01T00:00:01Z")?;
    story.until_generation("narrow", 2).await?;
    let issued = github.issued();
    assert_eq!(issued.len(), 2, "one a refresh: {issued:?}");
    assert!(issued.iter().all(|one| one.body == narrow), "{issued:?}");
    assert_eq!(story.key("narrow-token", "access_token")?, issued[1].token);
    assert_eq!(story.key("narrow-token", "expires_at")?, issued[1].expires_at);
    assert_eq!(story.key("narrow-token", "token_type")?, "Bearer", "GitHub names no type");
    assert_eq!(story.key("narrow-token", "allowed_hosts")?, "api.github.com\nuploads.github.com");
    let token = story.get("narrow")?.status.and_then(|status| status.token).ok_or("no token")?;
    assert_eq!(token.reply.get("repository_selection").map(String::as_str), Some("selected"));

    account(&story, &github, "wide", "app", &json!({}))?;
    story.until_ready("wide").await?;
    assert_eq!(github.issued().last().map(|one| one.body.clone()), Some(json!({})), "what is not named is not limited");

    let other = Key::make(Kind::RsaPkcs1)?;
    story.secret("other-app", &[("private-key.pem", &other.pem)])?;
    account(&story, &github, "other", "other-app", &json!({}))?;
    let message = story.until("other", "Stalled", "True", "Authentication").await?;
    assert!(message.contains("401"), "{message}");
    account(&story, &github, "elsewhere", "app", &json!({"installationID": 816}))?;
    let message = story.until("elsewhere", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("404"), "{message}");
    assert_eq!(github.issued().len(), 3);
    // The key is corrected.
    story.secret("other-app", &[("private-key.pem", &key.pem)])?;
    story.until_ready("other").await?;
    let log = operator.process.output();
    assert!(github.issued().iter().all(|one| !log.contains(&one.token)), "a token in the log");
    Ok(())
}
