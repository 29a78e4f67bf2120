//! TLS on both sides: whom the proxy trusts, and who it is.

use super::routes::{ListenerTls, Upstream as UpstreamSettings};
use super::upstream::UpstreamTls;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig};

/// What is offered by ALPN.
const ANY: [&[u8]; 2] = [b"h2", b"http/1.1"];
const HTTP1: [&[u8]; 1] = [b"http/1.1"];

type Trusting = ConfigBuilder<ClientConfig, WantsClientCert>;

impl UpstreamTls {
    /// Towards an upstream: trusts the platform's certificates and those of `caFile`, and shows our own where there is one.
    ///
    /// # Errors
    /// A clause that names the file and what is wrong with it.
    pub fn of(settings: &UpstreamSettings) -> Result<Self, String> {
        let extra = settings.ca_file.as_deref().map(certificates).transpose()?.unwrap_or_default();
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra, Arc::new(default_provider()))
            .map_err(|error| format!("no certificates can be trusted: {error}"))?;
        let trusting = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Self::identified(trusting, settings.client_certificate_file.as_deref().zip(settings.client_key_file.as_deref()))
    }

    /// Trusts these PEM certificates alone; the platform's where there are none.
    ///
    /// # Errors
    /// A clause that says what is wrong with them.
    pub fn alone(bundle: Option<&[u8]>) -> Result<Self, String> {
        let Some(bundle) = bundle else {
            let verifier = rustls_platform_verifier::Verifier::new(Arc::new(default_provider()));
            let verifier = verifier.map_err(|error| format!("no certificates can be trusted: {error}"))?;
            let trusting = ClientConfig::builder().dangerous().with_custom_certificate_verifier(Arc::new(verifier));
            return Self::identified(trusting, None);
        };
        let mut trusted = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let unreadable = || "it holds a certificate that cannot be read".to_owned();
            trusted.add(certificate.map_err(|_| unreadable())?).map_err(|_| unreadable())?;
        }
        if trusted.is_empty() {
            return Err("it holds no PEM certificate".into());
        }
        Self::identified(ClientConfig::builder().with_root_certificates(trusted), None)
    }

    fn identified(trusting: Trusting, identity: Option<(&Path, &Path)>) -> Result<Self, String> {
        let mut config = match identity {
            None => trusting.with_no_client_auth(),
            Some((chain, key)) => {
                let useless = |error| format!("{}: TLS does not take it: {error}", chain.display());
                trusting.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(useless)?
            }
        };
        let mut http1 = config.clone();
        config.alpn_protocols = ANY.map(<[u8]>::to_vec).into();
        http1.alpn_protocols = HTTP1.map(<[u8]>::to_vec).into();
        Ok(Self { any: Arc::new(config), http1: Arc::new(http1) })
    }
}

/// TLS of a listener.
///
/// # Errors
/// A clause that names the file and what is wrong with it.
pub fn acceptor(settings: &ListenerTls) -> Result<TlsAcceptor, String> {
    let (chain, key) = (certificates(&settings.certificate_file)?, private_key(&settings.key_file)?);
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| format!("{}: TLS does not take it: {error}", settings.certificate_file.display()))?;
    config.alpn_protocols = ANY.map(<[u8]>::to_vec).into();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("{}: {why}", file.display());
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong(&"it holds a certificate that cannot be read"))?;
    if chain.is_empty() { Err(wrong(&"it holds no PEM certificate")) } else { Ok(chain) }
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| format!("{}: it holds no PEM private key", file.display()))
}
