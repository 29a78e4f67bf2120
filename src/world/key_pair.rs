//! Key pairs that tokens are bound to (RFC 9449), as PEM that other libraries read too.

use super::entropy;
use crate::api::DPoPAlgorithm;
use crate::oauth::Sensitive;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

/// PKCS #8 of an Ed25519 key up to its 32 bytes (RFC 8410 §7). Without the public key, unlike ring's own form: OpenSSL reads
/// no other.
const ED25519: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// Characters of a line (RFC 7468 §2).
const LINE: usize = 64;

/// A new private key for proofs of this algorithm: PKCS #8, PEM.
///
/// # Panics
/// Where the kernel has no randomness to give: nothing may be done then that relies on it.
#[expect(clippy::expect_used, reason = "to go on without randomness would be worse")]
pub fn make(algorithm: DPoPAlgorithm) -> Sensitive {
    match algorithm {
        DPoPAlgorithm::ES256 => {
            let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
            pem(made.expect("the kernel's source of randomness").as_ref())
        }
        DPoPAlgorithm::EdDSA => pem(&[&ED25519[..], &entropy::bytes::<32>()].concat()),
    }
}

fn pem(der: &[u8]) -> Sensitive {
    let body = STANDARD.encode(der);
    let lines = body.as_bytes().chunks(LINE).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    Sensitive::new(format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", lines.collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::DPoPKey;

    #[test]
    fn each_key_is_new_and_for_its_algorithm() {
        for algorithm in [DPoPAlgorithm::ES256, DPoPAlgorithm::EdDSA] {
            let (one, other) = (make(algorithm), make(algorithm));
            let [one_, other_] = [&one, &other].map(|key| DPoPKey::read(key).unwrap());
            assert_eq!((one_.algorithm(), other_.algorithm()), (algorithm, algorithm));
            assert_ne!(one_.thumbprint(), other_.thumbprint());
            assert!(one.expose().lines().all(|line| line.len() <= LINE) && one.expose().ends_with("-----\n"));
        }
    }
}
