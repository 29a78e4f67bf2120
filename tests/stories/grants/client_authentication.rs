//! How clients prove themselves (RFC 7523 §2.2, RFC 8705), and how their proofs are replaced.

use super::obtained_twice;
use crate::login::{each_once, refresh};
use crate::testbed::Result;
use crate::testbed::authorization_server::{Client, random};
use crate::testbed::certificates::Identity;
use crate::testbed::keys::{Key, Kind};
use crate::testbed::story::Story;
use crate::{issuer, story};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_proves_itself_by_what_it_signs() -> Result<()> {
    let (story, provider) = story("signing-clients").await?;
    let _operator = story.operator("operator-1").await?;
    let mut clients = vec![];
    for (name, kind, algorithm) in
        [("rs256", Kind::Rsa, "RS256"), ("es256", Kind::P256, "ES256"), ("eddsa", Kind::Ed25519, "EdDSA")]
    {
        let key = Key::make(kind)?;
        let metadata = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": key.jwks(Some("key-1"))});
        let client = Client { secret: key.pem, ..provider.register_with(&metadata).await? };
        let patch = json!({"client": {"authMethod": "PrivateKeyJWT", "keyID": "key-1"}});
        story.account(name, &issuer(provider), &client, &patch)?;
        clients.push((name, json!({"alg": algorithm, "typ": "JWT", "kid": "key-1"}), client));
    }
    let client = provider.register(3600, "client_secret_jwt").await?;
    story.account("hs256", &issuer(provider), &client, &json!({"client": {"authMethod": "ClientSecretJWT"}}))?;
    clients.push(("hs256", json!({"alg": "HS256", "typ": "JWT"}), client));

    for (name, header, client) in clients {
        assert_eq!(obtained_twice(&story, provider, name).await?["client_id"], json!(client.id), "{name}");
        assert_eq!(provider.token_requests(&client).await?, (2, 0), "{name}");
        let came = provider.assertions(&client).await?;
        let unlike: BTreeSet<_> = came.iter().map(|one| one["claims"]["jti"].to_string()).collect();
        assert_eq!((came.len(), unlike.len()), (2, 2), "{name}: each assertion is used once");
        for one in came {
            assert_eq!((&one["parameter"], &one["header"]), (&json!("client_assertion"), &header), "{name}");
            assert_eq!((&one["claims"]["iss"], &one["claims"]["sub"]), (&json!(client.id), &json!(client.id)), "{name}");
        }
    }
    Ok(())
}

/// The Secret of a client's certificate, as cert-manager and kubectl make it.
fn tls_secret(story: &Story<'_>, name: &str, identity: &Identity) -> Result<()> {
    let data = json!({"tls.crt": identity.certificate, "tls.key": identity.key});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls", "stringData": data,
    });
    story.kubectl().apply(&secret.to_string()).map(drop)
}

/// `spec.client` of an account that shows a certificate.
fn certificate(secret: &str, key: &str) -> Value {
    json!({"client": {"authMethod": "TLSClientAuth", "secretRef": {"name": secret, "key": key}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_proves_itself_by_its_certificate() -> Result<()> {
    let (story, provider) = story("certificates").await?;
    let _operator = story.operator("operator-1").await?;
    let (self_signed, jwks) = Key::make(Kind::P256)?.self_signed()?;
    let (of_rsa, of_rsa_jwks) = Key::make(Kind::Rsa)?.self_signed()?;
    let by_ca =
        |name: &str| json!({"token_endpoint_auth_method": "tls_client_auth", "tls_client_auth_subject_dn": format!("CN={name}")});
    let by_itself = |jwks: &Value| json!({"token_endpoint_auth_method": "self_signed_tls_client_auth", "jwks": jwks});
    let mut clients = vec![];
    for (name, identity, metadata) in [
        ("by-ca", provider.client_certificate("by-ca")?, by_ca("by-ca")),
        ("by-ca-tls", provider.client_certificate("by-ca-tls")?, by_ca("by-ca-tls")),
        ("self-signed", self_signed.clone(), by_itself(&jwks)),
        ("self-signed-tls", self_signed, by_itself(&jwks)),
        ("rsa-tls", of_rsa, by_itself(&of_rsa_jwks)),
    ] {
        let client = provider.register_with(&metadata).await?;
        let secret = format!("{name}-certificate");
        let key = if name.ends_with("-tls") {
            tls_secret(&story, &secret, &identity)?;
            "tls.key"
        } else {
            story.secret(&secret, &[("client.pem", &format!("{}{}", identity.certificate, identity.key))])?;
            "client.pem"
        };
        story.account_alone(name, &issuer(provider), &client, &certificate(&secret, key))?;
        clients.push((name, client));
    }
    for (name, client) in clients {
        assert_eq!(obtained_twice(&story, provider, name).await?["client_id"], json!(client.id), "{name}");
        assert_eq!(provider.token_requests(&client).await?, (2, 0), "{name}");
    }

    let client = provider.register_with(&by_ca("expected")).await?;
    tls_secret(&story, "other-certificate", &provider.client_certificate("other")?)?;
    story.account_alone("other", &issuer(provider), &client, &certificate("other-certificate", "tls.key"))?;
    let message = story.until("other", "Stalled", "True", "Authentication").await?;
    assert!(message.contains("invalid_client"), "{message}");
    // A key that is not the certificate's.
    let (one, another) = (provider.client_certificate("expected")?, provider.client_certificate("expected")?);
    story.secret("mixed-up", &[("client.pem", &format!("{}{}", one.certificate, another.key))])?;
    story.account_alone("mixed", &issuer(provider), &client, &certificate("mixed-up", "client.pem"))?;
    let message = story.until("mixed", "Stalled", "True", "Configuration").await?;
    assert!(message.starts_with("Key client.pem of Secret mixed-up holds no private key as PEM whose certificate"), "{message}");
    // And what was wrong is put right.
    tls_secret(&story, "other-certificate", &one)?;
    story.until_ready("other").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotating_refresh_token_is_spent_by_clients_that_sign_and_clients_with_certificates() -> Result<()> {
    let (story, provider) = story("proven-logins").await?;
    let _operator = story.operator("operator-1").await?;
    let key = Key::make(Kind::P256)?;
    let (identity, certificates) = Key::make(Kind::P256)?.self_signed()?;
    story.secret("signing-client", &[("key.pem", &key.pem)])?;
    tls_secret(&story, "certified-client", &identity)?;
    let signing = json!({"client": {"authMethod": "PrivateKeyJWT", "secretRef": {"name": "signing-client", "key": "key.pem"}}});
    for (name, method, jwks, patch) in [
        ("signing", "private_key_jwt", key.jwks(None), signing),
        ("certified", "self_signed_tls_client_auth", certificates, certificate("certified-client", "tls.key")),
    ] {
        let metadata = json!({
            "token_endpoint_auth_method": method, "jwks": jwks, "response_types": ["code"],
            "grant_types": ["authorization_code", "refresh_token"], "redirect_uris": ["https://app.example/callback"],
        });
        let client = provider.register_with(&metadata).await?;
        let refresh_token = provider.log_in_again(&client, "ann").await?;
        story.login(name, &issuer(provider), &client, &refresh_token, &patch)?;
        assert_eq!(obtained_twice(&story, provider, name).await?["sub"], json!("ann"), "{name}");
        refresh(&story, name, "2026-01-01T00:00:02Z")?;
        story.until_generation(name, 3).await?;
        assert_eq!(each_once(provider, &client).await?, 3, "{name}");
    }
    Ok(())
}

/// What Ready says, and since when.
fn ready(story: &Story<'_>, name: &str) -> Result<(String, String)> {
    let status = story.get(name)?.status.ok_or("no status")?;
    let ready = status.conditions.into_iter().find(|condition| condition.type_ == "Ready").ok_or("no Ready")?;
    Ok((ready.status, ready.last_transition_time.0.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_is_replaced_and_nobody_is_without_a_token_meanwhile() -> Result<()> {
    let (story, provider) = story("secret-rotation").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("rotated", &issuer(provider), &client, &json!({}))?;
    story.until_ready("rotated").await?;
    let since = ready(&story, "rotated")?;
    // The old secret was read a moment ago when it is replaced.
    refresh(&story, "rotated", "2026-01-01T00:00:01Z")?;
    story.until_generation("rotated", 2).await?;
    let before = story.key("rotated-token", "access_token")?;
    let secret = random();
    provider.change(&client, &json!({"client_secret": secret})).await?;
    story.secret("rotated-client", &[("client_secret", &secret)])?;
    refresh(&story, "rotated", "2026-01-01T00:00:02Z")?;
    story.until_generation("rotated", 3).await?;
    assert_eq!(provider.token_requests(&client).await?, (3, 0), "the new secret is used at once");
    assert!(provider.resource(&before).await?.is_some(), "and the token from before is as good as it was");

    // The other way round: the provider's is replaced first, and a renewal that is due fails for it.
    provider.change(&client, &json!({"accessTokenTtl": 24})).await?;
    refresh(&story, "rotated", "2026-01-01T00:00:03Z")?;
    story.until_generation("rotated", 4).await?;
    let secret = random();
    provider.change(&client, &json!({"client_secret": secret})).await?;
    let message = story.until("rotated", "RefreshFailing", "True", "Authentication").await?;
    assert!(message.contains("invalid_client"), "{message}");
    let began = Instant::now();
    story.secret("rotated-client", &[("client_secret", &secret)])?;
    story.until_generation("rotated", 5).await?;
    assert!(began.elapsed() < Duration::from_secs(10), "the Secret's change is enough: {:?}", began.elapsed());
    assert_eq!(provider.token_requests(&client).await?.0, 5);
    assert_eq!(ready(&story, "rotated")?, since, "Ready never was anything but True");

    // The same with a key: the provider takes the new one from now on, and only that.
    let (old, new) = (Key::make(Kind::Ed25519)?, Key::make(Kind::P256)?);
    let metadata = json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": old.jwks(Some("old"))});
    let client = Client { secret: old.pem.clone(), ..provider.register_with(&metadata).await? };
    let patch = json!({"client": {"authMethod": "PrivateKeyJWT"}});
    story.account("signing", &issuer(provider), &client, &patch)?;
    story.until_ready("signing").await?;
    provider.change(&client, &json!({"jwks": new.jwks(Some("new"))})).await?;
    story.secret("signing-client", &[("client_secret", &new.pem)])?;
    refresh(&story, "signing", "2026-01-01T00:00:01Z")?;
    story.until_generation("signing", 2).await?;
    assert_eq!(provider.token_requests(&client).await?, (2, 0));
    Ok(())
}
