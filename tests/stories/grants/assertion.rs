//! Signed assertions (RFC 7523 §2.1).

use super::obtained_twice;
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::keys::{Key, Kind};
use crate::{issuer, story};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// A client whose assertions are verified with these keys.
async fn asserting(provider: &AuthorizationServer, jwks: &Value) -> Result<Client> {
    provider.register_with(&json!({"grant_types": [JWT_BEARER], "jwks": jwks})).await
}

/// The patch of an account that asserts with the key in the Secret `<name>-key`.
fn grant(name: &str, more: &Value) -> Value {
    let mut grant = json!({"keyRef": {"name": format!("{name}-key"), "key": "key.pem"}, "subject": "ann"});
    grant.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    json!({"grant": {"clientCredentials": null, "jwtBearer": grant}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assertion_says_what_it_is_told_to_and_is_verified_with_each_kind_of_key() -> Result<()> {
    let (story, provider) = story("assertion").await?;
    let _operator = story.operator("operator-1").await?;
    let claims = json!({"team": {"id": 7, "on-call": true}, "session_name": "of ann"});
    let mut clients = vec![];
    for (name, kind, algorithm, said) in [
        ("rs256", Kind::RsaPkcs1, "RS256", json!("RS256")),
        ("es256", Kind::P256, "ES256", json!("ES256")),
        // What the key is made for.
        ("eddsa", Kind::Ed25519, "EdDSA", Value::Null),
    ] {
        let key = Key::make(kind)?;
        let client = asserting(provider, &key.jwks(Some("key-1"))).await?;
        story.secret(&format!("{name}-key"), &[("key.pem", &key.pem)])?;
        let mut told = json!({"keyID": "key-1", "lifetimeSeconds": 120, "extraClaims": claims});
        if !said.is_null() {
            told["algorithm"] = said;
        }
        let mut patch = grant(name, &told);
        patch["scopes"] = json!(["read"]);
        story.account(name, &issuer(provider), &client, &patch)?;
        clients.push((name, algorithm, client));
    }
    for (name, algorithm, client) in clients {
        let said = obtained_twice(&story, provider, name).await?;
        assert_eq!((&said["sub"], &said["scope"]), (&json!("ann"), &json!("read")), "{name}");
        let came = provider.assertions(&client).await?;
        assert_eq!(came.len(), 2, "{name}: one a refresh");
        for one in &came {
            assert_eq!((&one["parameter"], &one["status"]), (&json!("assertion"), &json!(200)), "{name}");
            assert_eq!(one["header"], json!({"alg": algorithm, "typ": "JWT", "kid": "key-1"}), "{name}");
            let mut said = one["claims"].as_object().cloned().ok_or("no claims")?;
            let mut moment = |claim: &str| said.remove(claim).and_then(|value| value.as_i64());
            let (issued, expires) = (moment("iat").ok_or("no iat")?, moment("exp").ok_or("no exp")?);
            assert_eq!(expires - issued, 120, "{name}: the lifetime is that of the assertion");
            assert!(said.remove("jti").is_some(), "{name}");
            let token_endpoint = format!("{}/token", provider.issuer);
            let mut expected = claims.as_object().cloned().ok_or("an object")?;
            let own = json!({"iss": client.id, "aud": token_endpoint, "sub": "ann", "scope": "read"});
            expected.extend(own.as_object().cloned().ok_or("an object")?);
            assert_eq!(said, expected, "{name}");
        }
        let unlike: BTreeSet<_> = came.iter().map(|one| one["claims"]["jti"].to_string()).collect();
        assert_eq!(unlike.len(), 2, "{name}: each assertion is used once");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_registered_is_refused_in_the_providers_words_until_the_right_one_is_there() -> Result<()> {
    let (story, provider) = story("assertion-wrong-key").await?;
    let _operator = story.operator("operator-1").await?;
    let (right, wrong) = (Key::make(Kind::P256)?, Key::make(Kind::P256)?);
    let client = asserting(provider, &right.jwks(None)).await?;
    story.secret("signed-key", &[("key.pem", &wrong.pem)])?;
    story.account("signed", &issuer(provider), &client, &grant("signed", &json!({})))?;
    let message = story.until("signed", "Stalled", "True", "Authentication").await?;
    assert!(message.contains("invalid_grant") && message.contains("signature verification failed"), "{message}");
    story.secret("signed-key", &[("key.pem", &right.pem)])?;
    assert_eq!(obtained_twice(&story, provider, "signed").await?["sub"], json!("ann"));
    assert_eq!(provider.token_requests(&client).await?, (2, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_private_key_for_the_algorithm_is_named_and_never_shown() -> Result<()> {
    let (story, provider) = story("no-key").await?;
    let operator = story.operator("operator-1").await?;
    let (p256, rsa) = (Key::make(Kind::P256)?, Key::make(Kind::Rsa)?);
    let client = asserting(provider, &p256.jwks(None)).await?;
    let cut_off = rsa.pem[..rsa.pem.len() / 2].to_owned();
    let cases = [
        ("words", "hunter22 is no key", json!({}), "holds no private key that can be used"),
        ("cut-off", cut_off.as_str(), json!({}), "holds no private key that can be used"),
        ("rs256", p256.pem.as_str(), json!({"algorithm": "RS256"}), "holds no RSA private key, which RS256 signs with"),
        (
            "es256",
            rsa.pem.as_str(),
            json!({"algorithm": "ES256"}),
            "holds no P-256 private key in PKCS #8, which ES256 signs with",
        ),
        ("eddsa", p256.pem.as_str(), json!({"algorithm": "EdDSA"}), "holds no Ed25519 private key in PKCS #8"),
    ];
    for (name, content, told, _) in &cases {
        story.secret(&format!("{name}-key"), &[("key.pem", content)])?;
        story.account(name, &issuer(provider), &client, &grant(name, told))?;
    }
    let signing = json!({"client": {"authMethod": "PrivateKeyJWT"}});
    story.account("client", &issuer(provider), &Client { secret: "hunter22 is no key".into(), ..client.clone() }, &signing)?;
    for (name, content, _, words) in &cases {
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        assert!(message.starts_with(&format!("Key key.pem of Secret {name}-key {words}")), "{message}");
        let middle = &content[content.len() / 3..content.len() / 2];
        assert!(!message.contains(middle) && !operator.process.output().contains(middle), "{name}: the content is shown");
    }
    let message = story.until("client", "Stalled", "True", "Configuration").await?;
    assert!(message.starts_with("Key client_secret of Secret client-client holds no private key"), "{message}");
    assert!(!message.contains("hunter22"), "{message}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0), "nothing is asked with what cannot sign");
    Ok(())
}
