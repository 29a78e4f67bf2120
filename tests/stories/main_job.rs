//! The main job, end to end: apply an account, have a token; before it expires, have a new one; and be told the truth.

use super::{issuer, story};
use crate::testbed::Result;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_account_has_a_valid_token_in_a_secret() -> Result<()> {
    let (story, provider) = story("first-token").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("coze", &issuer(provider), &client, &json!({"scopes": ["read"], "allowedHosts": ["api.example.com"]}))?;

    story.kubectl().run(&["wait", "--for=condition=Ready", "--timeout=30s", "oauthaccount/coze"])?;
    let token = story.key("coze-token", "access_token")?;
    let said = provider.introspect(&client, &token).await?;
    assert_eq!(said["active"], json!(true), "the provider itself must call it valid: {said}");
    assert_eq!(provider.token_requests(&client).await?, (1, 0), "exactly one request");
    let _ = operator;
    Ok(())
}
