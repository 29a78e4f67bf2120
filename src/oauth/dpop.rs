//! DPoP (RFC 9449): proofs that whoever asks for a token, or uses one, has the private key that it is bound to.

use super::assertion::SigningKey;
use super::{Dialect, Moment, Reply, Sensitive};
use crate::api::{DPoPAlgorithm, JWTAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, OctetKeyPairParameters,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

/// Type of a token that is bound to a key (RFC 9449 §7.1).
pub const DPOP: &str = "DPoP";
/// Characters of a nonce that is remembered: a provider chooses it, and it goes into every request.
const LONGEST_NONCE: usize = 512;

/// A private key that tokens are bound to.
pub struct DPoPKey {
    signing: SigningKey,
    algorithm: DPoPAlgorithm,
    /// Its public part, as every proof carries it.
    public: Jwk,
}

impl DPoPKey {
    /// Reads a private key: PKCS #8 of P-256 or Ed25519, PEM.
    ///
    /// # Errors
    /// A clause that says what is expected, without the key.
    pub fn read(pem: &Sensitive) -> Result<Self, &'static str> {
        const NONE: &str = "holds no P-256 or Ed25519 private key in PKCS #8";
        let der = der(pem).ok_or(NONE)?;
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (algorithm, wanted, parameters) =
            match EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &SystemRandom::new()) {
                Ok(pair) => {
                    // An uncompressed point: 4, x, y (SEC 1 §2.3.3).
                    let (x, y) = pair.public_key().as_ref().get(1..65).ok_or(NONE)?.split_at(32);
                    let point = EllipticCurveKeyParameters { x: encoded(x), y: encoded(y), ..Default::default() };
                    (DPoPAlgorithm::ES256, JWTAlgorithm::ES256, AlgorithmParameters::EllipticCurve(point))
                }
                Err(_) => {
                    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| NONE)?;
                    let (curve, x) = (EllipticCurve::Ed25519, encoded(pair.public_key().as_ref()));
                    let point = OctetKeyPairParameters { curve, x, ..Default::default() };
                    (DPoPAlgorithm::EdDSA, JWTAlgorithm::EdDSA, AlgorithmParameters::OctetKeyPair(point))
                }
            };
        let signing = SigningKey::parse(pem, Some(wanted))?;
        Ok(Self { signing, algorithm, public: Jwk { common: CommonParameters::default(), algorithm: parameters } })
    }

    /// What its proofs are signed with.
    pub const fn algorithm(&self) -> DPoPAlgorithm {
        self.algorithm
    }

    /// Thumbprint of the public key (RFC 7638 §3): `jkt` in the `cnf` of a token that is bound to it.
    pub fn thumbprint(&self) -> String {
        thumbprint(&self.public)
    }

    /// A proof for one request, with the access token that it is made with, if with one (RFC 9449 §4.2).
    ///
    /// # Errors
    /// A clause where the key cannot sign.
    pub fn proof(
        &self,
        method: &str,
        url: &Url,
        access_token: Option<&Sensitive>,
        moment: &Moment,
    ) -> Result<String, &'static str> {
        let mut target = url.clone();
        target.set_query(None);
        target.set_fragment(None);
        // An assertion of the same request has the moment's id for itself: servers may remember both in one place.
        let mut claims = json!({
            "jti": format!("dpop-{}", moment.id), "htm": method, "htu": target.as_str(), "iat": moment.now.as_second(),
        });
        if let Some(token) = access_token {
            claims["ath"] = json!(URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose())));
        }
        if let Some(nonce) = &moment.dpop_nonce {
            claims["nonce"] = json!(nonce);
        }
        let header = Header { typ: Some("dpop+jwt".into()), jwk: Some(self.public.clone()), ..self.signing.header() };
        self.signing.sign_under(&header, &claims)
    }
}

fn thumbprint(key: &Jwk) -> String {
    // The required members alone, in lexicographic order and without blanks.
    let members = match &key.algorithm {
        AlgorithmParameters::EllipticCurve(point) => {
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, point.x, point.y)
        }
        AlgorithmParameters::OctetKeyPair(point) => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, point.x),
        // Not among the keys that are read.
        AlgorithmParameters::RSA(_) | AlgorithmParameters::OctetKey(_) => String::new(),
    };
    URL_SAFE_NO_PAD.encode(Sha256::digest(members))
}

/// What stands between the lines of a PEM text.
fn der(pem: &Sensitive) -> Option<Vec<u8>> {
    let body = pem.expose().trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?.strip_suffix("-----END PRIVATE KEY-----")?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

/// Whether a token of this type is bound to a key; types are compared without regard to case (RFC 6749 §5.1).
pub fn is_bound(token_type: &str) -> bool {
    token_type.eq_ignore_ascii_case(DPOP)
}

/// The nonce that a refused request is to come again with (RFC 9449 §8). It was refused before anything else of it was
/// looked at: nothing is spent.
pub fn wanted_nonce<'a>(reply: &'a Reply, dialect: &Dialect) -> Option<&'a str> {
    if !matches!(reply.status, 400 | 401) {
        return None;
    }
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    (dialect.error_code(&body, reply.status).as_deref() == Some("use_dpop_nonce")).then(|| told_nonce(reply))?
}

/// The nonce that a reply names for the requests to come (RFC 9449 §8.2), where it is one: 1*NQCHAR (§8.1).
pub fn told_nonce(reply: &Reply) -> Option<&str> {
    let nqchar = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    reply.dpop_nonce.as_deref().filter(|nonce| (1..=LONGEST_NONCE).contains(&nonce.len()) && nonce.bytes().all(nqchar))
}

#[cfg(test)]
#[path = "dpop_tests.rs"]
mod tests;
