//! What was read of the Secrets and the CA bundle that a plan names: whether it can be used, and where it may go.

use super::{GrantPlan, Plan};
use crate::api::JWTBearer;
use crate::oauth::{Assertion, Fault, FaultKind, GrantRequest, Sensitive, TlsSettings, hex, host_and_port};
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use url::Url;

/// What a grant that spends nothing is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantSecret {
    /// A private key, PEM.
    Key(Sensitive),
    /// The token that is exchanged.
    SubjectToken(Sensitive),
    /// A person's name and password.
    Password {
        /// Name.
        username: String,
        /// Password.
        password: Sensitive,
    },
}

/// What the seed Secrets and the CA bundle hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Client identifier; empty where the plan needs none.
    pub client_id: String,
    /// Client secret, or the private key that stands for it; a public client has none.
    pub client_secret: Option<Sensitive>,
    /// The client's certificate and its private key, PEM, where they are its proof.
    pub identity: Option<Sensitive>,
    /// What the grant is made with, where it spends nothing and needs something.
    pub grant: Option<GrantSecret>,
    /// The refresh token in the seed, where the grant has one: what is held already goes on without it.
    pub seed: Option<Result<Sensitive, Fault>>,
    /// PEM certificates.
    pub ca_bundle: Option<Vec<u8>>,
    /// Annotation `token-hosts` of each Secret that a credential comes from, with the Secret's name.
    pub token_hosts: Vec<(String, Option<String>)>,
}

impl Credentials {
    /// Whom to trust, and who we are, on connections to the provider.
    pub fn tls(&self) -> TlsSettings {
        TlsSettings { ca_bundle: self.ca_bundle.clone(), identity: self.identity.clone() }
    }

    /// What a grant that spends nothing asks with; none where what it needs has not been read. `minted` is the token of a
    /// ServiceAccount.
    pub fn grant_request(&self, plan: &Plan, minted: Option<&Sensitive>) -> Option<GrantRequest> {
        Some(match (&plan.grant, &self.grant) {
            (GrantPlan::ClientCredentials, _) => GrantRequest::ClientCredentials,
            (GrantPlan::JWTBearer(grant), Some(GrantSecret::Key(key))) => {
                GrantRequest::Assertion(Box::new(assertion(grant, key)))
            }
            (GrantPlan::GitHubApp(grant), Some(GrantSecret::Key(key))) => GrantRequest::Installation {
                // GitHub takes the App's id or its client id as issuer.
                assertion: Box::new(Assertion { issuer: Some(grant.app_id.to_string()), ..Assertion::by(key.clone()) }),
                repositories: grant.repositories.clone(),
                permissions: grant.permissions.clone(),
            },
            (GrantPlan::TokenExchange(grant), secret) => {
                let subject_token = match (minted, secret) {
                    (Some(minted), _) => minted.clone(),
                    (None, Some(GrantSecret::SubjectToken(token))) => token.clone(),
                    _ => return None,
                };
                // RFC 8693 §3.
                let usual = if minted.is_some() { "jwt" } else { "access_token" };
                let usual = || format!("urn:ietf:params:oauth:token-type:{usual}");
                GrantRequest::TokenExchange {
                    subject_token,
                    subject_token_type: grant.subject_token_type.clone().unwrap_or_else(usual),
                    requested_token_type: grant.requested_token_type.clone(),
                }
            }
            (GrantPlan::Password(_), Some(GrantSecret::Password { username, password })) => {
                GrantRequest::Password { username: username.clone(), password: password.clone() }
            }
            _ => return None,
        })
    }

    /// Whether every Secret involved permits its keys to go to this endpoint: never may one object choose the endpoint
    /// while another, more trusted one supplies the secret. `mirrored` is what Secrets that are gone have said.
    ///
    /// # Errors
    /// [`FaultKind::HostNotPermitted`], naming Secret, host and annotation.
    pub fn permit(&self, mirrored: &[(String, Option<String>)], endpoint: &Url, annotation_required: bool) -> Result<(), Fault> {
        let host = host_and_port(endpoint);
        let gone = mirrored.iter().filter(|(name, _)| self.token_hosts.iter().all(|(read, _)| read != name));
        for (secret, hosts) in self.token_hosts.iter().chain(gone) {
            let annotation = crate::api::vocabulary::TOKEN_HOSTS_ANNOTATION;
            let permitted = match hosts {
                Some(hosts) => hosts.split(',').any(|one| one.trim().eq_ignore_ascii_case(&host)),
                None => !annotation_required,
            };
            if !permitted {
                let message = format!(
                    "Secret {secret} does not permit its keys to be sent to {host}; whoever owns it can permit that by listing the host in its annotation {annotation}."
                );
                return Err(Fault::new(FaultKind::HostNotPermitted, message));
            }
        }
        Ok(())
    }
}

/// What is signed for an account.
fn assertion(grant: &JWTBearer, key: &Sensitive) -> Assertion {
    Assertion {
        issuer: grant.issuer.clone(),
        subject: grant.subject.clone(),
        audience: grant.audience.clone(),
        lifetime: grant.lifetime_seconds.map(|seconds| SignedDuration::from_secs(seconds.into())),
        claims: grant.extra_claims.clone(),
        key_id: grant.key_id.clone(),
        algorithm: grant.algorithm,
        ..Assertion::by(key.clone())
    }
}

/// What was read of the references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// Digest of the resourceVersions of what was read, absence included: another one is a reason to try again.
    pub references: String,
    /// What they hold.
    pub credentials: Result<Credentials, Fault>,
}

/// Digest of what was read: `(kind/name, uid and resourceVersion or nothing)`.
pub fn references_digest<'a>(read: impl Iterator<Item = (&'a str, Option<String>)>) -> String {
    let mut digest = Sha256::new();
    for (name, version) in read {
        digest.update(name);
        digest.update([0]);
        digest.update(version.unwrap_or_default());
        digest.update([0]);
    }
    hex(&digest.finalize()[..8])
}

/// A credential as text: RFC 6749 appendix A allows VSCHAR, and everything else (a line break at the end of a file, a
/// byte-order mark, a binary) breaks the request or the login in ways that nobody understands.
///
/// # Errors
/// [`FaultKind::ReferenceInvalid`], saying what stands where, without the value.
pub fn readable(bytes: &[u8], place: &str) -> Result<String, Fault> {
    let invalid = |what: &str| Err(Fault::new(FaultKind::ReferenceInvalid, format!("{place} {what}.")));
    if bytes.is_empty() {
        return invalid("is empty; put the credential there");
    }
    if bytes.len() > 65_536 {
        return invalid("is larger than 64 KiB; a credential is expected");
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return invalid("begins with a byte-order mark; save it without");
    }
    if bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ') {
        return invalid("begins or ends with a blank; remove it");
    }
    match bytes.iter().position(|byte| !(0x20..=0x7e).contains(byte)) {
        None => Ok(String::from_utf8_lossy(bytes).into_owned()),
        Some(at) if matches!(bytes[at], b'\n' | b'\r') && bytes[at..].iter().all(u8::is_ascii_whitespace) => {
            invalid("ends with a line break; remove it (printf and kubectl create secret --from-literal write none)")
        }
        Some(at) => invalid(&format!("holds a character at position {at} that no credential may have (RFC 6749 appendix A)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_must_be_plain_text_in_one_line() {
        assert_eq!(readable(b"s3cret with space", "x").unwrap(), "s3cret with space");
        for (bytes, words) in [
            (&b""[..], "is empty"),
            (b"secret\n", "ends with a line break"),
            (b"secret\r\n", "ends with a line break"),
            (b"sec\nret", "character at position 3"),
            (b" secret", "begins or ends with a blank"),
            (b"secret ", "begins or ends with a blank"),
            (b"\xef\xbb\xbfsecret", "byte-order mark"),
            (b"\xff\xfe\x00", "character at position 0"),
            (&[b'a'; 70_000], "larger than 64 KiB"),
        ] {
            let fault = readable(bytes, "Key k of Secret s").unwrap_err();
            assert!(fault.message.starts_with("Key k of Secret s ") && fault.message.contains(words), "{fault}");
            assert!(!fault.message.contains("sec\n") && !fault.message.contains("secret\n"));
        }
    }

    #[test]
    fn a_seed_goes_to_the_hosts_it_names_only() {
        let credentials = |hosts: Option<&str>| Credentials {
            client_id: "app".into(),
            client_secret: Some(Sensitive::new("secret")),
            seed: None,
            ca_bundle: None,
            identity: None,
            grant: None,
            token_hosts: vec![("seed".into(), hosts.map(str::to_owned))],
        };
        let endpoint: Url = "https://login.example.com:8443/token".parse().unwrap();
        assert!(credentials(Some("a.example.com, LOGIN.example.com:8443")).permit(&[], &endpoint, true).is_ok());
        assert!(credentials(None).permit(&[], &endpoint, false).is_ok());
        let mirrored = |name: &str| [(name.to_owned(), Some("elsewhere.example.com".to_owned()))];
        assert!(credentials(None).permit(&mirrored("gone"), &endpoint, false).is_err(), "the word of a seed that is gone counts");
        assert!(credentials(None).permit(&mirrored("seed"), &endpoint, false).is_ok(), "and not against what it says now");
        for (hosts, required) in
            [(Some("login.example.com"), false), (Some(""), false), (Some("*.example.com:8443"), false), (None, true)]
        {
            let fault = credentials(hosts).permit(&[], &endpoint, required).unwrap_err();
            assert_eq!(fault.kind, FaultKind::HostNotPermitted);
            assert!(fault.message.contains("seed") && fault.message.contains("login.example.com:8443"), "{fault}");
        }
    }
}
