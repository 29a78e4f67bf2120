//! Tokens that are bound to a key (RFC 9449), at a provider and an API that check every proof: what is published can be used
//! by whoever may read it, and by nobody else.

use super::login::refresh;
use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client, random};
use crate::testbed::dpop::proof;
use crate::testbed::keys::{Key, Kind};
use crate::testbed::operator::Operator;
use crate::testbed::story::{Story, eventually};
use crate::testbed::tls_server::serve;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use oauth_operator::oauth::Sensitive;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

fn dpop(algorithm: &str) -> Value {
    json!({"dpop": {"algorithm": algorithm}})
}

/// Uses what is published, and tries it as somebody would who has stolen the token alone. The key.
pub async fn used(story: &Story<'_>, provider: &AuthorizationServer, name: &str) -> Result<String> {
    let secret = format!("{name}-token");
    let key = |key: &str| story.key(&secret, key);
    let (token, pem) = (key("access_token")?, key("dpop_key")?);
    assert_eq!(key("token_type")?, "DPoP", "{name}");
    let url = format!("{}/testbed/resource", provider.issuer);
    let proof = |pem: &str| proof(pem, "GET", &url, &token);
    let ask = async |scheme: &str, proof: Option<String>| -> Result<u16> {
        let request = provider.http()?.get(&url).header("authorization", format!("{scheme} {token}"));
        let request = proof.into_iter().fold(request, |request, proof| request.header("dpop", proof));
        Ok(request.send().await?.status().as_u16())
    };
    assert_eq!(ask("DPoP", Some(proof(&pem)?)).await?, 200, "{name}: an API must take the token with a proof");
    assert_eq!(ask("DPoP", Some(proof(&Key::make(Kind::P256)?.pem)?)).await?, 401, "{name}: by another key");
    assert_eq!((ask("DPoP", None).await?, ask("Bearer", None).await?), (401, 401), "{name}: stolen, without a proof");
    Ok(pem)
}

/// Nothing of a key stands where others look.
fn is_hidden(story: &Story<'_>, operator: &Operator, name: &str, pem: &str) -> Result<()> {
    let account = story.kubectl().run(&["get", "oauthaccount", name, "-o", "json"])?;
    for line in pem.lines().filter(|line| !line.starts_with('-')) {
        assert!(!operator.process.output().contains(line) && !account.contains(line), "{name}: a line of the key is shown");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_s_token_is_published_with_a_key_of_its_own_that_changes_with_it() -> Result<()> {
    let (story, provider) = story("dpop-client").await?;
    let operator = story.operator("operator-1").await?;
    let mut clients = vec![];
    for (name, algorithm) in [("es256", "ES256"), ("eddsa", "EdDSA")] {
        let client = provider.register_with(&json!({"dpop_bound_access_tokens": true})).await?;
        let mut patch = dpop(algorithm);
        patch["healthCheck"] = json!({"url": format!("{}/testbed/resource", provider.issuer)});
        story.account(name, &issuer(provider), &client, &patch)?;
        clients.push((name, algorithm, client));
    }
    for (name, algorithm, client) in clients {
        story.until_ready(name).await?;
        let first = used(&story, provider, name).await?;
        story.until(name, "Healthy", "True", "TokenAccepted").await?;
        let told = story.get(name)?.status.and_then(|status| status.token?.dpop).ok_or("status tells of no key")?;
        let said = provider.introspect(&client, &story.key(&format!("{name}-token"), "access_token")?).await?;
        assert_eq!((json!(told.algorithm), json!(told.thumbprint)), (json!(algorithm), said["cnf"]["jkt"].clone()), "{name}");
        refresh(&story, name, "2026-01-01T00:00:01Z")?;
        story.until_generation(name, 2).await?;
        let second = used(&story, provider, name).await?;
        assert_ne!(first, second, "{name}");
        assert_eq!(provider.token_requests(&client).await?, (2, 0), "{name}");
        assert_eq!(story.state(name)?, None, "{name}: the token Secret is the record");
        is_hidden(&story, &operator, name, &second)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nonce_that_is_wanted_costs_one_round_trip_and_is_remembered() -> Result<()> {
    let (story, provider) = story("dpop-nonce").await?;
    let _operator = story.operator("operator-1").await?;
    let metadata = json!({"dpop_bound_access_tokens": true, "dpopNonce": true});
    let client = provider.register_with(&metadata).await?;
    story.account("choosy", &issuer(provider), &client, &dpop("ES256"))?;
    story.until_ready("choosy").await?;
    used(&story, provider, "choosy").await?;
    assert_eq!(provider.token_requests(&client).await?, (1, 1));
    assert!(story.get("choosy")?.status.ok_or("no status")?.history.len() == 1, "one attempt, whatever it took");
    refresh(&story, "choosy", "2026-01-01T00:00:01Z")?;
    story.until_generation("choosy", 2).await?;
    used(&story, provider, "choosy").await?;
    assert_eq!(provider.token_requests(&client).await?, (2, 1), "the nonce is known by now");
    // And to every other account of that provider.
    let other = provider.register_with(&metadata).await?;
    story.account("other", &issuer(provider), &other, &dpop("EdDSA"))?;
    story.until_ready("other").await?;
    assert_eq!(provider.token_requests(&other).await?, (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_signs_proves_its_key_as_well() -> Result<()> {
    let (story, provider) = story("dpop-signing").await?;
    let _operator = story.operator("operator-1").await?;
    let key = Key::make(Kind::Rsa)?;
    let metadata = json!({
        "dpop_bound_access_tokens": true, "token_endpoint_auth_method": "private_key_jwt", "jwks": key.jwks(None),
    });
    let client = Client { secret: key.pem, ..provider.register_with(&metadata).await? };
    let mut patch = dpop("ES256");
    patch["client"] = json!({"authMethod": "PrivateKeyJWT"});
    story.account("signing", &issuer(provider), &client, &patch)?;
    story.until_ready("signing").await?;
    used(&story, provider, "signing").await?;
    assert_eq!(provider.token_requests(&client).await?, (1, 0), "a server that remembers ids in one place took both");
    Ok(())
}

/// A public client with refresh tokens, and the first one of a login.
async fn log_in(provider: &AuthorizationServer, nonce: bool) -> Result<(Client, String)> {
    let metadata = json!({
        "token_endpoint_auth_method": "none", "response_types": ["code"], "dpop_bound_access_tokens": true, "dpopNonce": nonce,
        "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example/callback"],
    });
    let client = provider.register_with(&metadata).await?;
    let refresh_token = provider.log_in_again(&client, "alice").await?;
    Ok((client, refresh_token))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotating_login_keeps_its_key_and_posts_twice_only_for_want_of_a_nonce() -> Result<()> {
    for (name, algorithm, nonce, statuses) in
        [("plain", "ES256", false, vec![200, 200]), ("nonced", "EdDSA", true, vec![400, 200, 200])]
    {
        let (story, provider) = story(&format!("dpop-login-{name}")).await?;
        let operator = story.operator("operator-1").await?;
        let (client, refresh_token) = log_in(provider, nonce).await?;
        story.login(name, &issuer(provider), &client, &refresh_token, &dpop(algorithm))?;
        story.until_ready(name).await?;
        let first = used(&story, provider, name).await?;
        refresh(&story, name, "2026-01-01T00:00:01Z")?;
        story.until_generation(name, 2).await?;
        let history = story.get(name)?.status.ok_or("no status")?.history;
        assert!(history.len() == 2 && history.iter().all(|one| one.fault.is_none()), "one attempt for each token: {history:?}");
        assert_eq!(used(&story, provider, name).await?, first, "one key for the life of the login");
        assert_eq!(story.state(name)?.ok_or("no state")?["credential"]["dpopKey"], json!(first));
        let redemptions = provider.redemptions(&client).await?;
        assert_eq!(redemptions.iter().map(|(_, status)| *status).collect::<Vec<_>>(), statuses, "{redemptions:?}");
        let granted: Vec<_> = redemptions.iter().filter(|(_, status)| *status == 200).map(|(digest, _)| digest).collect();
        assert_ne!(granted[0], granted[1], "what was granted is not posted again: {redemptions:?}");
        assert!(
            redemptions[..statuses.len() - 1].iter().all(|(digest, _)| *digest == Sensitive::new(&*refresh_token).fingerprint())
        );
        is_hidden(&story, &operator, name, &first)?;
    }
    Ok(())
}

/// Asks for a device's code and enters it elsewhere: an account whose refresh tokens are bound to its key.
async fn connect_device(story: &Story<'_>, provider: &AuthorizationServer, nonce: bool) -> Result<Client> {
    let metadata = json!({
        "token_endpoint_auth_method": "none", "response_types": [], "redirect_uris": [], "deviceInterval": 1,
        "grant_types": ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
        "dpop_bound_access_tokens": true, "dpopNonce": nonce,
    });
    let client = provider.register_with(&metadata).await?;
    let mut patch = dpop("ES256");
    patch["grant"] = json!({"clientCredentials": null, "deviceCode": {}});
    patch["client"] = json!({"secretRef": null});
    patch["scopes"] = json!(["openid", "offline_access", "read"]);
    story.account_alone("tv", &issuer(provider), &client, &patch)?;
    story.until("tv", "Ready", "False", "AuthorizationPending").await?;
    let code = story.key("tv-authorization", "user_code")?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let url = format!("{}/testbed/device?user_code={code}&subject=alice", provider.issuer);
    let said = provider.http()?.get(url).send().await?.text().await?;
    assert!(!said.contains("error"), "{said}");
    story.until_ready("tv").await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_that_is_bound_outlives_the_operator_and_every_change_of_the_spec() -> Result<()> {
    let (story, provider) = story("dpop-bound").await?;
    let operator = story.operator("operator-1").await?;
    let client = connect_device(&story, provider, true).await?;
    let first = used(&story, provider, "tv").await?;
    drop(operator);
    let operator = story.operator("operator-2").await?;
    refresh(&story, "tv", "2026-01-01T00:00:01Z")?;
    story.until_generation("tv", 2).await?;
    assert_eq!(used(&story, provider, "tv").await?, first, "whoever leads has it");

    let patch = |patch: &str| story.kubectl().run(&["patch", "oauthaccount", "tv", "--type=merge", "-p", patch]);
    for (generation, change) in [(3, r#"{"spec": {"dpop": {"algorithm": "EdDSA"}}}"#), (4, r#"{"spec": {"dpop": null}}"#)] {
        patch(change)?;
        story.until_generation("tv", generation).await?;
        assert_eq!(used(&story, provider, "tv").await?, first, "{change}");
        let said = || Ok(story.condition("tv", "Ready")?.filter(|(.., words)| words.contains("counts from the next login on")));
        eventually(SOON, said).await?.ok_or("it is not said that the login goes on as it began")?;
    }
    let refused = provider.redemptions(&client).await?.iter().filter(|(_, status)| *status != 200).count();
    assert!(refused <= 1, "a nonce is asked for once by each operator: {refused}");
    is_hidden(&story, &operator, "tv", &first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_key_is_put_back_and_one_that_is_not_wanted_goes_with_its_token() -> Result<()> {
    let (story, provider) = story("dpop-heal").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register_with(&json!({})).await?;
    story.account("client", &issuer(provider), &client, &dpop("ES256"))?;
    let (public, refresh_token) = log_in(provider, false).await?;
    story.login("login", &issuer(provider), &public, &refresh_token, &dpop("EdDSA"))?;
    story.until_ready("client").await?;
    story.until_ready("login").await?;
    let before = used(&story, provider, "login").await?;
    for (number, damage) in [r#"{"data": {"dpop_key": null}}"#, r#"{"stringData": {"dpop_key": "x"}}"#].iter().enumerate() {
        for name in ["client", "login"] {
            story.kubectl().run(&["patch", "secret", &format!("{name}-token"), "--type=merge", "-p", damage])?;
            let healed = || Ok(story.key(&format!("{name}-token"), "dpop_key").ok().filter(|key| key.starts_with("-----")));
            eventually(SOON, healed).await?.ok_or_else(|| format!("{name}: not healed of {damage}"))?;
            used(&story, provider, name).await?;
        }
        assert_eq!(story.key("login-token", "dpop_key")?, before, "a login has the key in its record");
        assert_eq!(provider.redemptions(&public).await?.len(), 1);
        assert_eq!(provider.token_requests(&client).await?, (u64::try_from(number)? + 2, 0), "else it comes with another token");
    }
    story.kubectl().run(&["annotate", "secret", "client-token", "team=a"])?;
    story.kubectl().run(&["patch", "oauthaccount", "client", "--type=merge", "-p", r#"{"spec": {"dpop": null}}"#])?;
    let plain = || Ok((story.key("client-token", "token_type")? == "Bearer").then_some(()));
    eventually(SOON, plain).await?.ok_or("no other token")?;
    assert!(story.key("client-token", "dpop_key").is_err(), "the key of the token before is of no use");
    assert!(provider.resource(&story.key("client-token", "access_token")?).await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_binds_nothing_is_believed_and_that_is_said() -> Result<()> {
    let (story, _) = story("dpop-unbound").await?;
    let _operator = story.operator("operator-1").await?;
    let faulty = story.faulty_endpoint().await?;
    let client = Client { id: "app".into(), secret: "secret".into() };
    story.account("plain", &faulty.at("/lifetime/3600"), &client, &dpop("ES256"))?;
    let said = story.until("plain", "Ready", "True", "TokenPublished").await?;
    assert!(said.contains("The provider issued it as a bearer token; spec.dpop asks for one that is bound to a key."), "{said}");
    assert_eq!(story.key("plain-token", "token_type")?, "Bearer");
    assert!(story.key("plain-token", "dpop_key").is_err());
    assert_eq!(faulty.requests("/lifetime/3600"), 1);
    Ok(())
}

/// Answers as neither of ours does: a token endpoint whose second answer is lost, and an API that wants a nonce in its proofs.
#[derive(Default)]
struct Choosy {
    token_requests: u64,
    /// What the API was asked with: the scheme, and the claims of the proof.
    asked: Vec<(String, Value)>,
}

async fn choosy(request: Request<Incoming>, kept: Arc<Mutex<Choosy>>) -> Result<Response<Full<Bytes>>> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut kept = kept.lock().expect("nobody panics while holding it");
    if request.uri().path() == "/token" {
        kept.token_requests += 1;
        let (number, access_token) = (kept.token_requests, random());
        let token = json!({"access_token": access_token, "token_type": "DPoP", "expires_in": 3600, "refresh_token": random()});
        return if number == 2 { Err("lost".into()) } else { Ok(Response::new(Full::from(token.to_string()))) };
    }
    let claims = URL_SAFE_NO_PAD.decode(header("dpop").split('.').nth(1).unwrap_or_default())?;
    let claims: Value = serde_json::from_slice(&claims)?;
    let status = if claims["nonce"] == json!("of-the-api") { 200 } else { 401 };
    kept.asked.push((header("authorization").split(' ').next().unwrap_or_default().to_owned(), claims));
    let response = Response::builder().status(status).header("dpop-nonce", "of-the-api");
    Ok(response.header("www-authenticate", r#"DPoP error="use_dpop_nonce""#).body(Full::default())?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_proves_the_key_and_comes_again_with_the_nonce_that_the_api_wants() -> Result<()> {
    let (story, _) = story("dpop-probe").await?;
    let kept: Arc<Mutex<Choosy>> = Arc::default();
    let theirs = kept.clone();
    let (address, ca) = serve("testbed API", move |request| choosy(request, theirs.clone())).await?;
    story.ca("choosy-ca", &ca)?;
    let _operator = story.operator("operator-1").await?;
    let rotation = json!({"mode": "Always", "killsOldAccessToken": true});
    let probe = json!({"method": "GET", "url": format!("https://{address}/me?of=whom")});
    let custom = json!({
        "custom": {"tokenURL": format!("https://{address}/token")}, "caBundleRef": {"name": "choosy-ca"},
        "overrides": {"rotation": rotation, "probe": probe},
    });
    let client = Client { id: "app".into(), secret: String::new() };
    story.login("probed", &custom, &client, &random(), &dpop("ES256"))?;
    story.until_ready("probed").await?;
    let token = story.key("probed-token", "access_token")?;
    refresh(&story, "probed", "2026-01-01T00:00:01Z")?;
    story.until_generation("probed", 2).await?;
    let history = story.get("probed")?.status.ok_or("no status")?.history;
    assert_eq!(history.len(), 3, "the probe comes again at once: {history:?}");
    let kept = kept.lock().expect("nobody panics while holding it");
    assert_eq!((kept.token_requests, kept.asked.len()), (3, 2), "{:?}", kept.asked);
    for (scheme, claims) in &kept.asked {
        assert_eq!((scheme.as_str(), &claims["htm"]), ("DPoP", &json!("GET")));
        assert_eq!(claims["ath"], json!(URL_SAFE_NO_PAD.encode(Sha256::digest(&token))));
        assert_eq!(claims["htu"], json!(format!("https://{address}/me")));
    }
    assert_eq!((&kept.asked[0].1["nonce"], &kept.asked[1].1["nonce"]), (&Value::Null, &json!("of-the-api")));
    assert_ne!(kept.asked[0].1["jti"], kept.asked[1].1["jti"]);
    Ok(())
}
