//! A program of another make that uses a token with the key it is bound to (RFC 9449 §7): Node's crypto reads the PEM.

use super::Result;
use std::process::Command;

const PROVE: &str = r"
const [pem, method, url, token] = process.argv.slice(1);
const key = crypto.createPrivateKey(pem);
const jwk = crypto.createPublicKey(key).export({ format: 'jwk' });
const alg = jwk.kty === 'EC' ? 'ES256' : 'EdDSA';
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const ath = crypto.createHash('sha256').update(token).digest('base64url');
const claims = { jti: crypto.randomUUID(), htm: method, htu: url, iat: Math.floor(Date.now() / 1000), ath };
const signed = `${part({ typ: 'dpop+jwt', alg, jwk })}.${part(claims)}`;
const hash = alg === 'ES256' ? 'sha256' : null;
const signature = crypto.sign(hash, Buffer.from(signed), { key, dsaEncoding: 'ieee-p1363' });
console.log(`${signed}.${signature.toString('base64url')}`);
";

/// A proof for one request with this token, by this private key.
pub fn proof(pem: &str, method: &str, url: &str, token: &str) -> Result<String> {
    let made = Command::new("node").args(["--eval", PROVE, "--", pem, method, url, token]).output()?;
    let proof = String::from_utf8(made.stdout)?;
    if proof.is_empty() {
        return Err(format!("node made no proof: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    Ok(proof.trim().to_owned())
}
