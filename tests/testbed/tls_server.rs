//! An HTTP server under TLS on loopback, or where Pods reach it, with a CA of its own: what doubles and relays stand on.

use super::Result;
use super::certificates::Authority;
use super::namespaces::host;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// Serves for as long as the runtime: its address, and the CA to trust, PEM. An error of `answer` closes the connection.
pub async fn serve<A, F, B, E>(name: &str, answer: A) -> Result<(SocketAddr, String)>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = std::result::Result<Response<B>, E>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
{
    let serving = move |stream| {
        let answer = answer.clone();
        async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        }
    };
    connections(name, serving).await
}

/// The same, where what is said on a connection is not HTTP.
pub async fn connections<S, F>(name: &str, speak: S) -> Result<(SocketAddr, String)>
where
    S: Fn(TlsStream<TcpStream>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::new(name)?;
    let identity = authority.server(&[host(), "127.0.0.1", "localhost"])?;
    let certificates = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((host(), 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, speak) = (acceptor.clone(), speak.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    speak(stream).await;
                }
            });
        }
    });
    Ok((address, authority.certificate.clone()))
}
