//! Token exchange (RFC 8693): of a token in a Secret, and of a ServiceAccount's own, which is workload identity.

use super::obtained_twice;
use crate::login::refresh;
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client, random};
use crate::testbed::keys::{Key, Kind};
use crate::testbed::story::{Story, eventually};
use crate::{issuer, story};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::time::Duration;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A token of somebody whom the provider trusts, to be exchanged once.
fn subject_token(key: &Key, audience: &str) -> Result<String> {
    let now = Timestamp::now().as_second();
    let claims = json!({
        "iss": "https://ci.example", "sub": "build-7", "aud": audience, "iat": now, "exp": now + 600, "jti": random(),
    });
    Ok(jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &EncodingKey::from_ec_pem(key.pem.as_bytes())?)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_a_secret_is_exchanged_and_the_next_one_when_it_is_there() -> Result<()> {
    let (story, provider) = story("exchange").await?;
    let operator = story.operator("operator-1").await?;
    let key = Key::make(Kind::P256)?;
    let metadata = json!({
        "grant_types": [TOKEN_EXCHANGE], "subjectIssuer": "https://ci.example", "subjectJwks": key.jwks(None),
    });
    let client = provider.register_with(&metadata).await?;
    let tokens = [subject_token(&key, &provider.issuer)?, subject_token(&key, &provider.issuer)?];
    story.secret("build", &[("token", &tokens[0])])?;
    let exchange = json!({
        "subjectToken": {"secretRef": {"name": "build", "key": "token"}},
        "subjectTokenType": "urn:ietf:params:oauth:token-type:id_token",
        "requestedTokenType": "urn:ietf:params:oauth:token-type:access_token",
    });
    let patch = json!({
        "grant": {"clientCredentials": null, "tokenExchange": exchange},
        "scopes": ["read"], "resources": ["https://api.example.com/"],
    });
    story.account("build", &issuer(provider), &client, &patch)?;
    story.until_ready("build").await?;
    let first = story.key("build-token", "access_token")?;
    let said = provider.resource(&first).await?.ok_or("the provider must take it")?;
    assert_eq!((&said["sub"], &said["scope"]), (&json!("build-7"), &json!("read")));
    assert_eq!(first.split('.').count(), 3, "a resource of this provider gets a JWT");

    refresh(&story, "build", "2026-01-01T00:00:01Z")?;
    let message = story.until("build", "Authorized", "False", "Authentication").await?;
    assert!(message.contains("the JWT came before"), "{message}");
    assert!(provider.resource(&story.key("build-token", "access_token")?).await?.is_some(), "the token from before stays");
    story.secret("build", &[("token", &tokens[1])])?;
    refresh(&story, "build", "2026-01-01T00:00:02Z")?;
    story.until_generation("build", 2).await?;
    assert_ne!(story.key("build-token", "access_token")?, first);
    assert_eq!(provider.token_requests(&client).await?, (2, 1));
    let log = operator.process.output();
    assert!(tokens.iter().all(|token| !log.contains(token.as_str())), "a subject token in the log");

    // Without types: what is exchanged is an access token, and so is what comes.
    story.secret("plain", &[("token", &subject_token(&key, &provider.issuer)?)])?;
    let plain = json!({"subjectToken": {"secretRef": {"name": "plain", "key": "token"}}});
    let patch = json!({"grant": {"clientCredentials": null, "tokenExchange": plain}});
    story.account("plain", &issuer(provider), &client, &patch)?;
    story.until_ready("plain").await
}

/// A client that tokens of the cluster's ServiceAccounts are exchanged for.
async fn federated(story: &Story<'_>, provider: &AuthorizationServer, audience: &str) -> Result<Client> {
    let kubectl = story.cluster.kubectl();
    let metadata: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", "/.well-known/openid-configuration"])?)?;
    let keys: Value = serde_json::from_str(&kubectl.run(&["get", "--raw", "/openid/v1/jwks"])?)?;
    let metadata = json!({
        "grant_types": [TOKEN_EXCHANGE], "subjectIssuer": metadata["issuer"], "subjectJwks": keys, "subjectAudience": audience,
    });
    provider.register_with(&metadata).await
}

/// A ServiceAccount that permits tokens for these audiences.
fn service_account(story: &Story<'_>, name: &str, audiences: Option<&str>) -> Result<()> {
    let annotations = audiences.map(|audiences| json!({"oauth-operator.dev/token-audiences": audiences}));
    let metadata = json!({"name": name, "annotations": annotations});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    story.kubectl().apply(&account.to_string()).map(drop)
}

/// The account `name` exchanges a token of the ServiceAccount `of` for this audience.
fn exchanging(
    story: &Story<'_>,
    provider: &AuthorizationServer,
    client: &Client,
    name: &str,
    of: &str,
    audience: &str,
) -> Result<()> {
    let subject = json!({"serviceAccountToken": {"name": of, "audience": audience}});
    let patch = json!({"grant": {"clientCredentials": null, "tokenExchange": {"subjectToken": subject}}});
    story.account(name, &issuer(provider), client, &patch)
}

/// deploy/workload-identity.yaml with the first so many of its rules, in the story's namespace.
fn permit(story: &Story<'_>, rules: usize) -> Result<()> {
    let text = std::fs::read_to_string(crate::testbed::root().join("deploy/workload-identity.yaml"))?;
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text)?;
    let all = objects[0]["rules"].as_array_mut().ok_or("no rules")?;
    assert_eq!(all.len(), 2, "one to read, one to have tokens made");
    all.truncate(rules);
    objects[0]["kind"] = json!("Role");
    objects[1]["kind"] = json!("RoleBinding");
    objects[1]["roleRef"]["kind"] = json!("Role");
    objects[1]["subjects"][0]["namespace"] = json!(story.system);
    objects.iter_mut().for_each(|object| object["metadata"]["namespace"] = json!(story.apps));
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).map(drop)
}

/// Waits until an account that has no token says why in these words.
async fn until_told(story: &Story<'_>, name: &str, words: &str) -> Result<String> {
    let mut last = None;
    let told = || -> Result<Option<String>> {
        last = story.condition(name, "Ready")?;
        Ok(last
            .clone()
            .filter(|(status, _, message)| status == "False" && message.contains(words))
            .map(|(_, _, message)| message))
    };
    let message = eventually(Duration::from_secs(30), told).await?;
    message.ok_or_else(|| format!("{name}: not {words:?} but {last:?}").into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_that_permits_it_is_believed_by_the_provider() -> Result<()> {
    let (story, provider) = story("workload-identity").await?;
    let _operator = story.operator("operator-1").await?;
    let audience = "https://sts.example.com";
    let client = federated(&story, provider, audience).await?;
    service_account(&story, "deployer", Some(&format!("other.example.com, {audience}")))?;

    exchanging(&story, provider, &client, "forbidden", "deployer", audience)?;
    let message = until_told(&story, "forbidden", "may not read ServiceAccount deployer").await?;
    assert!(message.contains("forbidden") && message.contains(&story.apps), "{message}");
    permit(&story, 1)?;
    until_told(&story, "forbidden", "may not have tokens made for ServiceAccount deployer").await?;
    permit(&story, 2)?;
    story.until_ready("forbidden").await?;

    exchanging(&story, provider, &client, "deployed", "deployer", audience)?;
    let said = obtained_twice(&story, provider, "deployed").await?;
    assert_eq!(said["sub"], json!(format!("system:serviceaccount:{}:deployer", story.apps)));
    let (issued, refused) = provider.token_requests(&client).await?;
    assert_eq!((issued, refused), (3, 0), "the first account's token and the two of the second");
    for one in provider.assertions(&client).await? {
        assert_eq!((&one["parameter"], &one["claims"]["aud"]), (&json!("subject_token"), &json!([audience])));
        let lifetime = one["claims"]["exp"].as_i64().zip(one["claims"]["iat"].as_i64()).map(|(exp, iat)| exp - iat);
        assert_eq!(lifetime, Some(600), "as short as Kubernetes makes them");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_becomes_a_service_account_that_does_not_permit_it() -> Result<()> {
    let (story, provider) = story("not-permitted").await?;
    let _operator = story.operator("operator-1").await?;
    let audience = "https://sts.example.com";
    let client = federated(&story, provider, audience).await?;
    permit(&story, 2)?;
    let metadata = story.cluster.kubectl().run(&["get", "--raw", "/.well-known/openid-configuration"])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let own = metadata["issuer"].as_str().ok_or("no issuer")?;
    service_account(&story, "bare", None)?;
    service_account(&story, "narrow", Some("https://sts.example.com/other,sts.example.com"))?;
    service_account(&story, "careless", Some(&format!("{audience},{own}")))?;
    for (name, of, wanted) in
        [("bare", "bare", audience), ("narrow", "narrow", audience), ("careless", "careless", own), ("gone", "nobody", audience)]
    {
        exchanging(&story, provider, &client, name, of, wanted)?;
    }
    for name in ["bare", "narrow"] {
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        let expected = format!("ServiceAccount {name} does not permit tokens for the audience {audience}");
        assert!(message.starts_with(&expected) && message.contains("oauth-operator.dev/token-audiences"), "{message}");
    }
    let message = story.until("careless", "Stalled", "True", "Configuration").await?;
    assert!(message.starts_with(&format!("The audience {own} is the API server's own")), "{message}");
    assert!(message.contains("as good as being ServiceAccount careless"), "{message}");
    let message = until_told(&story, "gone", "ServiceAccount nobody does not exist").await?;
    assert!(message.contains(&story.apps), "{message}");

    let made = story.writes_by_operator()?;
    let made_for = |name: &str| made.contains(&format!("create serviceaccounts/token {name}"));
    assert!(!made_for("bare") && !made_for("narrow"), "not even a token that is thrown away: {made:?}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0), "and nothing is told to the provider");

    service_account(&story, "bare", Some(audience))?;
    refresh(&story, "bare", "2026-01-01T00:00:01Z")?;
    story.until_ready("bare").await
}
