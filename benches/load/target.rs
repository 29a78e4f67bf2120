//! Where requests go.

use hyper::Uri;
use hyper::http::uri::{InvalidUri, PathAndQuery};
use hyper_util::rt::TokioIo;
use rustls_platform_verifier::ConfigVerifierExt;
use std::io;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tokio_util::either::Either;

/// A URL that was understood.
#[derive(Clone)]
pub struct Target {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// Host and port as the URL has them.
    pub authority: String,
    /// Path and query, for HTTP/1.1.
    pub path: Uri,
    /// The whole, for HTTP/2.
    pub whole: Uri,
}

/// Why a URL, or the CA that came with it, is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("not a URL: {0}")]
    Url(#[from] InvalidUri),
    #[error("not a name that a certificate can have: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("the URL names no host")]
    NoHost,
    #[error("the URL's scheme is neither http nor https")]
    Scheme,
    #[error("the CA cannot be read: {0}")]
    Authority(#[from] rustls::pki_types::pem::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Target {
    /// Understands a URL. `authority` is PEM to trust in place of the platform's roots; `http2` is offered as the only
    /// protocol where it is asked for.
    pub fn parse(url: &str, authority: Option<&[u8]>, http2: bool) -> Result<Self, Unusable> {
        let whole: Uri = url.parse()?;
        let host = whole.host().ok_or(Unusable::NoHost)?.trim_matches(['[', ']']).to_owned();
        let (tls, port) = match whole.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some((connector(authority, http2)?, ServerName::try_from(host.clone())?)), 443),
            _ => return Err(Unusable::Scheme),
        };
        let path = whole.path_and_query().map_or("/", PathAndQuery::as_str).parse()?;
        let authority = whole.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { port: whole.port_u16().unwrap_or(port), host, tls, authority, path, whole })
    }

    /// A new connection, past its TLS handshake.
    pub async fn connect(&self) -> io::Result<TokioIo<Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(match &self.tls {
            None => Either::Left(stream),
            Some((connector, name)) => Either::Right(Box::new(connector.connect(name.clone(), stream).await?)),
        }))
    }
}

fn connector(authority: Option<&[u8]>, http2: bool) -> Result<TlsConnector, Unusable> {
    let mut config = match authority {
        None => ClientConfig::with_platform_verifier()?,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
            ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A connection, plain or under TLS.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;
