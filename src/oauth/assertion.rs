//! Assertions: JWTs that say who we are, or on whose behalf we ask (RFC 7519, RFC 7521, RFC 7523).

use super::Sensitive;
use crate::api::JWTAlgorithm;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

/// A private key that can sign, and how it does.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// Reads a private key: PKCS #8 of RSA, P-256 or Ed25519, or PKCS #1 of RSA. Without a `wanted` algorithm it is the one
    /// that the key is made for.
    ///
    /// # Errors
    /// A clause that says what is expected, without the key.
    pub fn read(pem: &Sensitive, wanted: Option<JWTAlgorithm>) -> Result<Self, &'static str> {
        let read = Self::parse(pem, wanted)?;
        // That a key of another curve is none for ES256 is found out when it signs.
        read.sign(&Value::Object(serde_json::Map::new()), None).map(|_| read.clone())
    }

    /// The same without a look at the curve.
    pub(super) fn parse(pem: &Sensitive, wanted: Option<JWTAlgorithm>) -> Result<Self, &'static str> {
        let bytes = pem.expose().as_bytes();
        let rsa = || EncodingKey::from_rsa_pem(bytes).map(|key| Self { key, algorithm: Algorithm::RS256 });
        let ec = || EncodingKey::from_ec_pem(bytes).map(|key| Self { key, algorithm: Algorithm::ES256 });
        let ed = || EncodingKey::from_ed_pem(bytes).map(|key| Self { key, algorithm: Algorithm::EdDSA });
        match wanted {
            Some(JWTAlgorithm::RS256) => rsa().map_err(|_| "holds no RSA private key, which RS256 signs with"),
            Some(JWTAlgorithm::ES256) => ec().map_err(|_| "holds no P-256 private key in PKCS #8, which ES256 signs with"),
            Some(JWTAlgorithm::EdDSA) => ed().map_err(|_| "holds no Ed25519 private key in PKCS #8, which EdDSA signs with"),
            None => rsa().or_else(|_| ec()).or_else(|_| ed()).map_err(
                |_| "holds no private key that can be used; put one there as PEM: RSA, or P-256 or Ed25519 in PKCS #8 (BEGIN PRIVATE KEY)",
            ),
        }
    }

    /// Signs claims (RFC 7515 §3.1).
    ///
    /// # Errors
    /// A clause where the key is not for its algorithm.
    pub fn sign(&self, claims: &Value, key_id: Option<&str>) -> Result<String, &'static str> {
        self.sign_under(&Header { kid: key_id.map(str::to_owned), ..self.header() }, claims)
    }

    /// The header of what it signs, before more is said there.
    pub(super) fn header(&self) -> Header {
        Header::new(self.algorithm)
    }

    /// Signs claims under a header of its own kind.
    pub(super) fn sign_under(&self, header: &Header, claims: &Value) -> Result<String, &'static str> {
        jsonwebtoken::encode(header, claims, &self.key).map_err(|_| "holds a private key of a kind or curve that cannot sign")
    }
}

/// Signs claims with a shared secret (HS256, RFC 7518 §3.2).
///
/// # Errors
/// A clause; not for claims that are JSON.
pub fn sign_with_secret(claims: &Value, secret: &Sensitive) -> Result<String, &'static str> {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(|_| "cannot sign")
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use jsonwebtoken::{DecodingKey, Validation, decode};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData};
    use serde_json::json;

    fn pem(pair: &KeyPair) -> Sensitive {
        Sensitive::new(pair.serialize_pem())
    }

    /// A private key made now.
    pub fn key() -> Sensitive {
        pem(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    #[test]
    fn what_is_signed_is_verified_with_the_public_key_and_nothing_else() {
        let claims = json!({"sub": "me", "exp": 4_102_444_800_i64});
        for (kind, algorithm) in [(&PKCS_ECDSA_P256_SHA256, Algorithm::ES256), (&PKCS_ED25519, Algorithm::EdDSA)] {
            let (pair, other) = (KeyPair::generate_for(kind).unwrap(), KeyPair::generate_for(kind).unwrap());
            let token = SigningKey::read(&pem(&pair), None).unwrap().sign(&claims, Some("k1")).unwrap();
            let public = |pair: &KeyPair| match algorithm {
                Algorithm::ES256 => DecodingKey::from_ec_der(pair.der_bytes()),
                _ => DecodingKey::from_ed_der(pair.der_bytes()),
            };
            let read = decode::<Value>(&token, &public(&pair), &Validation::new(algorithm)).unwrap();
            assert_eq!((read.claims, read.header.kid.as_deref()), (claims.clone(), Some("k1")));
            assert!(decode::<Value>(&token, &public(&other), &Validation::new(algorithm)).is_err());
        }
    }

    #[test]
    fn what_is_no_key_is_called_so_without_being_shown() {
        let why = |pem: &Sensitive, wanted| SigningKey::read(pem, wanted).err().unwrap();
        let curve = pem(&KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap());
        assert!(why(&Sensitive::new("hunter22"), None).contains("no private key that can be used"));
        assert!(why(&key(), Some(JWTAlgorithm::RS256)).contains("no RSA private key"));
        assert!(why(&curve, None).contains("cannot sign"), "{}", why(&curve, None));
    }
}
