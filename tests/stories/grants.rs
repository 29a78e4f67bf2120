//! Every grant that needs no person, and every way for a client to prove itself: from apply to a token that the provider
//! takes, and through a refresh to the next.

mod assertion;
mod client_authentication;
mod coze;
mod github_app;
mod presets;
mod token_exchange;

use super::login::refresh;
use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, random};
use crate::testbed::story::Story;
use serde_json::{Value, json};

/// Waits for the first token and asks for a second; an API of the provider's takes both. What it says of the second.
async fn obtained_twice(story: &Story<'_>, provider: &AuthorizationServer, name: &str) -> Result<Value> {
    let secret = format!("{name}-token");
    story.until_ready(name).await?;
    let first = story.key(&secret, "access_token")?;
    let said = provider.resource(&first).await?;
    assert!(said.is_some(), "{name}: the provider must take the first token");
    refresh(story, name, "2026-01-01T00:00:01Z")?;
    story.until_generation(name, 2).await?;
    let second = story.key(&secret, "access_token")?;
    assert_ne!(first, second, "{name}");
    let said = provider.resource(&second).await?;
    Ok(said.ok_or_else(|| format!("{name}: the provider must take the second token"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_used_only_where_whoever_runs_the_operator_allows_it() -> Result<()> {
    let password = random();
    let (story, provider) = story("password-refused").await?;
    let metadata = json!({"grant_types": ["password"], "passwords": {"ann": password}});
    let client = provider.register_with(&metadata).await?;
    let grant = json!({"grant": {"clientCredentials": null, "password": {"secretRef": {"name": "ann", "key": "password"}}}});
    let prepare = |story: &Story<'_>| -> Result<()> {
        story.secret("ann", &[("username", "ann"), ("password", &password)])?;
        story.account("person", &issuer(provider), &client, &grant)
    };
    let _refusing = story.operator("operator-1").await?;
    prepare(&story)?;
    let message = story.until("person", "Stalled", "True", "Configuration").await?;
    assert!(message.starts_with("spec.grant.password is refused"), "{message}");
    assert!(message.contains("--allow-password-grant"), "{message}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0));

    let (allowed, _) = super::story("password-allowed").await?;
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--allow-password-grant"];
    let operator = allowed.operator_with("operator-1", &flags).await?;
    prepare(&allowed)?;
    assert_eq!(obtained_twice(&allowed, provider, "person").await?["sub"], json!("ann"));
    assert_eq!(provider.token_requests(&client).await?, (2, 0));

    allowed.secret("ann", &[("username", "ann"), ("password", "certainly-not-hers")])?;
    refresh(&allowed, "person", "2026-01-01T00:00:02Z")?;
    let message = allowed.until("person", "Authorized", "False", "Authentication").await?;
    assert!(message.contains("the user name and password do not match"), "{message}");
    allowed.secret("ann", &[("username", "ann"), ("password", &password)])?;
    refresh(&allowed, "person", "2026-01-01T00:00:03Z")?;
    allowed.until_generation("person", 3).await?;
    let log = operator.process.output();
    assert!(!log.contains(&password) && !log.contains("certainly-not-hers"), "a password in the log");
    Ok(())
}
