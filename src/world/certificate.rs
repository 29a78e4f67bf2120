//! Certificates of the operator's own CA: made (ECDSA P-256, RFC 5280), and read again.

use super::entropy;
use crate::authority::{Leaf, Life, Root, Signer};
use crate::oauth::{Sensitive, hex};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SerialNumber,
};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::time::Duration;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It could not be signed.
    #[error("it could not be signed: {0}")]
    Unsigned(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("TLS does not take it: {0}")]
    Unusable(#[from] rustls::Error),
    /// What is stored is none.
    #[error("{0}")]
    Unreadable(&'static str),
}

/// A new CA, which signs servers' certificates and no other CAs.
///
/// # Errors
/// Where it cannot be signed.
pub fn make_ca(now: Timestamp) -> Result<Signer, CertificateError> {
    let serial = serial();
    // Of two that overlap, each has a name of its own: whoever verifies need not try both.
    let mut params = params(vec![], &format!("oauth-operator CA {}", hex(&serial[..4])), &serial, Life::of_ca(now))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    read_signer(&certificate, &key.serialize_pem())
}

/// A new server's certificate with its key, for these DNS names and IP addresses.
///
/// # Errors
/// Where it cannot be signed or served.
pub fn make_leaf(ca: &Signer, names: &[String], now: Timestamp) -> Result<(Leaf, CertifiedKey), CertificateError> {
    let life = Life::of_leaf(ca.root.life, now);
    let mut params = params(names.to_vec(), "oauth-operator", &serial(), life)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::from_ca_cert_pem(&ca.root.certificate, KeyPair::from_pem(ca.key.expose())?)?;
    let key = KeyPair::generate()?;
    let chain = vec![params.signed_by(&key, &issuer)?.into(), der(&ca.root.certificate)?];
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let served = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
    Ok((Leaf { issuer: ca.root.certificate.clone(), life }, served))
}

/// A CA of which only the certificate is kept.
///
/// # Errors
/// What is wrong with it.
pub fn read_root(certificate: &str) -> Result<Root, CertificateError> {
    read(certificate).map(|(root, _)| root)
}

/// A CA with its key.
///
/// # Errors
/// What is wrong with either.
pub fn read_signer(certificate: &str, key: &str) -> Result<Signer, CertificateError> {
    let (root, public_key) = read(certificate)?;
    let pair = KeyPair::from_pem(key).map_err(|_| CertificateError::Unreadable("its key is none"))?;
    if pair.subject_public_key_info() != public_key {
        return Err(CertificateError::Unreadable("its key belongs to another certificate"));
    }
    Ok(Signer { root, key: Sensitive::new(key) })
}

/// A CA's certificate, and its public key as DER.
fn read(certificate: &str) -> Result<(Root, Vec<u8>), CertificateError> {
    let none = CertificateError::Unreadable;
    let der = der(certificate)?;
    let (rest, parsed) = x509_parser::parse_x509_certificate(&der).map_err(|_| none("its certificate is none"))?;
    if !rest.is_empty() || !parsed.is_ca() {
        return Err(none("its certificate is no CA's"));
    }
    let second = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|_| none("its certificate has no date that can be"))
    };
    let life = Life { from: second(parsed.validity().not_before)?, until: second(parsed.validity().not_after)? };
    Ok((Root { certificate: certificate.to_owned(), life }, parsed.public_key().raw.to_vec()))
}

/// The one certificate of a PEM text. A second one would be trusted by everybody who trusts us.
fn der(certificate: &str) -> Result<CertificateDer<'static>, CertificateError> {
    let mut all = CertificateDer::pem_slice_iter(certificate.as_bytes());
    match (all.next(), all.next()) {
        (Some(Ok(der)), None) => Ok(der),
        _ => Err(CertificateError::Unreadable("its certificate is not one in PEM")),
    }
}

fn params(names: Vec<String>, subject: &str, serial: &[u8], life: Life) -> Result<CertificateParams, CertificateError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let second = |time: Timestamp| epoch + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or_default());
    (params.not_before, params.not_after) = (second(life.from), second(life.until));
    Ok(params)
}

/// 126 random bits, positive and of one length (RFC 5280 §4.1.2.2 asks for a positive number of at most 20 bytes).
fn serial() -> [u8; 16] {
    let mut serial: [u8; 16] = entropy::bytes();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{CertificateError as Refusal, Error, RootCertStore};
    use std::sync::Arc;
    use x509_parser::parse_x509_certificate;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn names() -> Vec<String> {
        ["oauth-operator.system.svc", "127.0.0.1", "::1"].map(str::to_owned).into()
    }

    /// Judged by a client that trusts one CA.
    fn judge(ca: &Signer, served: &CertifiedKey, name: &str, after: i64) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&ca.root.certificate).unwrap()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now().as_second() + after).unwrap()));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        verifier.verify_server_cert(&served.cert[0], &served.cert[1..], &name, &[], time).map(drop)
    }

    #[test]
    fn a_client_of_the_ca_trusts_the_leaf_by_its_names_and_in_its_time() {
        let ca = make_ca(now()).unwrap();
        let (leaf, served) = make_leaf(&ca, &names(), now()).unwrap();
        assert_eq!(leaf, Leaf { issuer: ca.root.certificate.clone(), life: Life::of_leaf(ca.root.life, now()) });
        for name in ["oauth-operator.system.svc", "127.0.0.1", "::1"] {
            judge(&ca, &served, name, 0).unwrap();
        }
        let (week, wrong) =
            (7 * 86_400 - 300, |error: Error, what: &str| assert!(format!("{error:?}").contains(what), "{error:?}"));
        judge(&ca, &served, "127.0.0.1", -300).unwrap();
        judge(&ca, &served, "127.0.0.1", week).unwrap();
        wrong(judge(&ca, &served, "127.0.0.1", -301).unwrap_err(), "NotValidYet");
        wrong(judge(&ca, &served, "127.0.0.1", week + 1).unwrap_err(), "Expired");
        wrong(judge(&ca, &served, "127.0.0.2", 0).unwrap_err(), "NotValidForName");
        let other = judge(&make_ca(now()).unwrap(), &served, "127.0.0.1", 0);
        assert_eq!(other, Err(Error::InvalidCertificate(Refusal::UnknownIssuer)));
    }

    #[test]
    fn what_they_may_do_is_written_in_them() {
        let ca = make_ca(now()).unwrap();
        let (_, served) = make_leaf(&ca, &names(), now()).unwrap();
        let (_, leaf) = parse_x509_certificate(&served.cert[0]).unwrap();
        let (_, root) = parse_x509_certificate(&served.cert[1]).unwrap();
        let constraints = root.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical);
        assert_eq!((constraints.value.ca, constraints.value.path_len_constraint), (true, Some(0)));
        assert_eq!(root.key_usage().unwrap().unwrap().value.to_string(), "Key Cert Sign, CRL Sign");
        assert!(!leaf.is_ca());
        assert_eq!(leaf.key_usage().unwrap().unwrap().value.to_string(), "Digital Signature");
        let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
        assert_eq!((purposes.server_auth, purposes.client_auth, purposes.any), (true, false, false));
        assert_eq!(root.validity().not_before.timestamp(), now().as_second() - 300);
        assert_eq!(root.validity().not_after.timestamp(), now().as_second() - 300 + 365 * 86_400);
        let (_, again) = make_leaf(&ca, &names(), now()).unwrap();
        let (_, again) = parse_x509_certificate(&again.cert[0]).unwrap();
        assert_ne!(leaf.raw_serial(), again.raw_serial());
        assert_ne!(leaf.public_key().raw, again.public_key().raw);
        assert_eq!([leaf.raw_serial().len(), root.raw_serial().len()], [16, 16]);
    }

    #[test]
    fn what_is_stored_is_read_and_what_was_changed_is_refused() {
        let (ca, other) = (make_ca(now()).unwrap(), make_ca(now()).unwrap());
        let (certificate, key) = (ca.root.certificate.as_str(), ca.key.expose());
        assert_eq!(read_signer(certificate, key).unwrap(), ca);
        assert_eq!(read_root(certificate).unwrap(), ca.root);
        assert_eq!(ca.root.life, Life::of_ca(now()));
        let both = format!("{certificate}{}", other.root.certificate);
        let (_, leaf) = make_leaf(&ca, &names(), now()).unwrap();
        let leaf = {
            use base64::Engine;
            let text = base64::engine::general_purpose::STANDARD.encode(&leaf.cert[0]);
            format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
        };
        let cut = certificate.replace("MII", "MIA");
        for (certificate, key, why) in [
            (certificate, other.key.expose(), "its key belongs to another certificate"),
            (certificate, "", "its key is none"),
            ("", key, "its certificate is not one in PEM"),
            (&both, key, "its certificate is not one in PEM"),
            (&cut, key, "its certificate is none"),
            (&leaf, key, "its certificate is no CA's"),
        ] {
            assert_eq!(read_signer(certificate, key).unwrap_err().to_string(), why);
        }
    }
}
