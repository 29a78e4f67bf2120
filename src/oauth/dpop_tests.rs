//! Proofs, as a server verifies them, and the examples of the RFCs.

use super::*;
use crate::oauth::resource_request;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

fn make(algorithm: DPoPAlgorithm) -> Sensitive {
    let kind = match algorithm {
        DPoPAlgorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
        DPoPAlgorithm::EdDSA => &PKCS_ED25519,
    };
    Sensitive::new(rcgen::KeyPair::generate_for(kind).unwrap().serialize_pem())
}

fn moment(nonce: Option<&str>) -> Moment {
    Moment { now: "2026-01-01T00:00:00.9Z".parse().unwrap(), id: "once".into(), dpop_nonce: nonce.map(str::to_owned) }
}

/// Header and claims of a proof that is verified with the key in its header.
fn verified(proof: &str) -> (Header, Value) {
    let header = decode_header(proof).unwrap();
    let mut validation = Validation::new(header.alg);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    let key = DecodingKey::from_jwk(header.jwk.as_ref().unwrap()).unwrap();
    (header, decode::<Value>(proof, &key, &validation).unwrap().claims)
}

fn raw_header(proof: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(proof.split('.').next().unwrap()).unwrap()).unwrap()
}

#[test]
fn a_proof_says_what_it_is_for_and_is_verified_with_the_public_key_in_it() {
    let url: Url = "https://login.example.com:8443/token?tenant=a#part".parse().unwrap();
    for (algorithm, signed, members) in [
        (DPoPAlgorithm::ES256, Algorithm::ES256, &["crv", "kty", "x", "y"][..]),
        (DPoPAlgorithm::EdDSA, Algorithm::EdDSA, &["crv", "kty", "x"][..]),
    ] {
        let pem = make(algorithm);
        let key = DPoPKey::read(&pem).unwrap();
        let proof = key.proof("POST", &url, None, &moment(None)).unwrap();
        let (header, claims) = verified(&proof);
        assert_eq!((header.typ.as_deref(), header.alg), (Some("dpop+jwt"), signed));
        assert_eq!(
            claims,
            json!({"jti": "dpop-once", "htm": "POST", "htu": "https://login.example.com:8443/token", "iat": 1_767_225_600})
        );
        let mut sent: Vec<String> = raw_header(&proof)["jwk"].as_object().unwrap().keys().cloned().collect();
        sent.sort();
        assert_eq!(sent, members, "the public key and nothing else");
        let mut said: Vec<String> = raw_header(&proof).as_object().unwrap().keys().cloned().collect();
        said.sort();
        assert_eq!(said, ["alg", "jwk", "typ"]);
        assert_eq!(thumbprint(&header.jwk.unwrap()), key.thumbprint());

        let forged = proof.rsplit_once('.').unwrap().0.to_owned() + "." + &URL_SAFE_NO_PAD.encode([1; 64]);
        let key = DecodingKey::from_jwk(&decode_header(&forged).unwrap().jwk.unwrap()).unwrap();
        assert!(decode::<Value>(&forged, &key, &Validation::new(signed)).is_err());
    }
}

#[test]
fn a_proof_for_a_resource_names_its_token_and_the_nonce_that_is_wanted() {
    let (pem, token) = (make(DPoPAlgorithm::ES256), Sensitive::new("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"));
    let request = resource_request("GET", "https://api.example.com/me?a=b", &token, Some(&pem), &moment(Some("n-1"))).unwrap();
    let header = |name: &str| request.headers()[name].to_str().unwrap();
    assert_eq!(header("authorization"), format!("DPoP {}", token.expose()));
    let (_, claims) = verified(header("dpop"));
    // The example of RFC 9449 §7.1.
    assert_eq!(claims["ath"], json!("fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"));
    assert_eq!((&claims["htm"], &claims["htu"]), (&json!("GET"), &json!("https://api.example.com/me")));
    assert_eq!(claims["nonce"], json!("n-1"));
    assert_eq!(request.uri(), "https://api.example.com/me?a=b");

    let plain = resource_request("GET", "https://api.example.com/me", &token, None, &moment(Some("n-1"))).unwrap();
    assert_eq!(plain.headers()["authorization"], format!("Bearer {}", token.expose()));
    assert!(plain.headers().get("dpop").is_none());
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    // RFC 9449 §4.2 and §6.1.
    let point = EllipticCurveKeyParameters {
        x: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs".into(),
        y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA".into(),
        ..Default::default()
    };
    let key = Jwk { common: CommonParameters::default(), algorithm: AlgorithmParameters::EllipticCurve(point) };
    assert_eq!(thumbprint(&key), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    // RFC 8037 appendix A.1 and A.3.
    let private = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
    let head = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let pem =
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode([&head, &private[..]].concat()));
    assert_eq!(DPoPKey::read(&Sensitive::new(pem)).unwrap().thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn what_is_no_key_is_called_so_without_being_shown() {
    let rsa = "-----BEGIN PRIVATE KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQEFAASCAUAwggE8\n-----END PRIVATE KEY-----";
    for pem in ["", "hunter22", rsa, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"] {
        let why = DPoPKey::read(&Sensitive::new(pem)).err().unwrap();
        assert_eq!(why, "holds no P-256 or Ed25519 private key in PKCS #8", "{pem}");
    }
}

#[test]
fn only_a_refusal_for_want_of_a_nonce_is_leave_to_come_again() {
    let reply = |status: u16, error: &str, nonce: Option<&str>| Reply {
        status,
        retry_after: None,
        dpop_nonce: nonce.map(str::to_owned),
        body: json!({"error": error}).to_string().into_bytes(),
    };
    let wanted = |reply: &Reply| wanted_nonce(reply, &Dialect::default()).map(str::to_owned);
    for status in [400, 401] {
        assert_eq!(wanted(&reply(status, "use_dpop_nonce", Some("n-1"))).as_deref(), Some("n-1"));
    }
    for (status, error, nonce) in [
        (400, "use_dpop_nonce", None),
        (400, "use_dpop_nonce", Some("")),
        (400, "use_dpop_nonce", Some("two words")),
        (400, "invalid_dpop_proof", Some("n-1")),
        (400, "invalid_grant", Some("n-1")),
        (200, "use_dpop_nonce", Some("n-1")),
        (500, "use_dpop_nonce", Some("n-1")),
        (503, "use_dpop_nonce", Some("n-1")),
    ] {
        assert_eq!(wanted(&reply(status, error, nonce)), None, "{status} {error} {nonce:?}");
    }
    assert_eq!(wanted(&Reply { body: b"<html>".to_vec(), ..reply(400, "", Some("n-1")) }), None);
    assert_eq!(told_nonce(&reply(200, "", Some(&"n".repeat(513)))), None, "it goes into every request from then on");
}
