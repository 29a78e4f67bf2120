//! Private keys made at run time, and the public keys that others verify with. Node makes them: OpenSSL's forms of PEM are
//! the ones that users bring.

use super::Result;
use super::certificates::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::process::Command;

/// What a private key is, and how its PEM is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 2048 bits, PKCS #8.
    Rsa,
    /// 2048 bits, PKCS #1, as GitHub gives them out.
    RsaPkcs1,
    /// PKCS #8.
    P256,
    /// PKCS #8.
    Ed25519,
}

/// A private key.
#[derive(Clone)]
pub struct Key {
    /// PEM.
    pub pem: String,
    /// Its public key (RFC 7517).
    pub jwk: Value,
}

impl Key {
    pub fn make(kind: Kind) -> Result<Self> {
        let (generate, form) = match kind {
            Kind::Rsa => ("'rsa', {modulusLength: 2048}", "pkcs8"),
            Kind::RsaPkcs1 => ("'rsa', {modulusLength: 2048}", "pkcs1"),
            Kind::P256 => ("'ec', {namedCurve: 'P-256'}", "pkcs8"),
            Kind::Ed25519 => ("'ed25519'", "pkcs8"),
        };
        let script = format!(
            "const {{privateKey, publicKey}} = crypto.generateKeyPairSync({generate}); console.log(JSON.stringify({{\
             pem: privateKey.export({{type: '{form}', format: 'pem'}}), jwk: publicKey.export({{format: 'jwk'}})}}))"
        );
        let made = Command::new("node").args(["--eval", &script]).output()?;
        let made: Value = serde_json::from_slice(&made.stdout)
            .map_err(|_| format!("node made no key: {}", String::from_utf8_lossy(&made.stderr)))?;
        Ok(Self { pem: made["pem"].as_str().ok_or("no pem")?.to_owned(), jwk: made["jwk"].clone() })
    }

    /// The key set of whoever has this key, under a name if it has one.
    pub fn jwks(&self, key_id: Option<&str>) -> Value {
        let mut jwk = self.jwk.clone();
        if let Some(id) = key_id {
            jwk["kid"] = json!(id);
        }
        json!({"keys": [jwk]})
    }

    /// A certificate that nobody has signed but this key itself, and the key set that registers it (RFC 8705 §2.2).
    pub fn self_signed(&self) -> Result<(Identity, Value)> {
        let pair = KeyPair::from_pem(&self.pem)?;
        let certificate = CertificateParams::new(vec!["client.example".to_owned()])?.self_signed(&pair)?.pem();
        let mut jwk = self.jwk.clone();
        jwk["x5c"] = json!([STANDARD.encode(CertificateDer::from_pem_slice(certificate.as_bytes())?)]);
        Ok((Identity { certificate, key: self.pem.clone() }, json!({"keys": [jwk]})))
    }
}
