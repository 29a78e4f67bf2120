//! One connection to a provider for one request. What may be spent only once must not ride on a connection that was kept:
//! here it is known when it stands, and so when the first byte leaves.

use super::outbound::{Outbound, fault, oversized, text};
use crate::oauth::{Fault, FaultKind, OutboundPolicy, REFUSED, Reply, TlsSettings};
use http::HeaderValue;
use http::header::{HOST, USER_AGENT};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use url::{Host, Url};

/// Seconds until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(8);

/// A connection on which nothing has been sent.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
    place: String,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects to a permitted address of the host, and finishes TLS.
    ///
    /// # Errors
    /// A fault that says what stands in the way. Nothing was sent.
    pub async fn open(outbound: &Outbound, url: &Url, tls: &TlsSettings) -> Result<Self, Fault> {
        let place = crate::oauth::host_and_port(url);
        outbound.admits(url, &place)?;
        let tls = outbound.tls(tls)?;
        let opened = tokio::time::timeout(CONNECT, async {
            let stream = dial(outbound.policy(), url, &place).await?;
            stream.set_nodelay(true).map_err(|error| fault(&error, &place))?;
            let name = server_name(url).ok_or_else(|| Fault::new(FaultKind::Misconfigured, format!("{place} is no host.")))?;
            let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| fault(&error, &place))?;
            handshake(TokioIo::new(stream)).await.map_err(|error| fault(&error, &place))
        });
        let late = || Fault::new(FaultKind::TimedOut, format!("{place} could not be reached within {} s.", CONNECT.as_secs()));
        let (sender, connection) = opened.await.map_err(|_| late())??;
        let task = tokio::spawn(async move {
            // What breaks it is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(Self { sender, task: task.abort_handle(), place })
    }

    /// Sends the request, once, and reads at most `most` bytes of the answer.
    ///
    /// # Errors
    /// A fault that says what kept the answer away. Bytes may have been sent.
    pub async fn send(mut self, request: http::Request<Vec<u8>>, most: usize) -> Result<Reply, Fault> {
        let (mut head, body) = request.into_parts();
        let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
        if let Ok(host) = HeaderValue::from_str(&authority) {
            head.headers.insert(HOST, host);
        }
        head.headers.insert(USER_AGENT, HeaderValue::from_static(super::outbound::USER_AGENT));
        // Origin form (RFC 9112 §3.2.1).
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse();
        head.uri = path.map_err(|_| Fault::new(FaultKind::Misconfigured, format!("The path at {} is none.", self.place)))?;
        let request = http::Request::from_parts(head, Full::new(Bytes::from(body)));
        let answer = self.sender.send_request(request).await.map_err(|error| fault(&error, &self.place))?;
        let status = answer.status().as_u16();
        let (retry_after, dpop_nonce) = (text(answer.headers(), "retry-after"), text(answer.headers(), "dpop-nonce"));
        let mut incoming = answer.into_body();
        let mut body = vec![];
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(|error| fault(&error, &self.place))?.into_data() else { continue };
            if body.len() + data.len() > most {
                return Err(oversized(&self.place, most));
            }
            body.extend_from_slice(&data);
        }
        Ok(Reply { status, retry_after, dpop_nonce, body })
    }
}

/// Connects to the first address that answers, of those that are permitted.
async fn dial(policy: &OutboundPolicy, url: &Url, place: &str) -> Result<TcpStream, Fault> {
    let port = url.port_or_known_default().unwrap_or(443);
    let addresses: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![(address, port).into()],
        Some(Host::Ipv6(address)) => vec![(address, port).into()],
        Some(Host::Domain(name)) => {
            let unknown =
                || Fault::new(FaultKind::NameNotResolved, format!("The name {place} does not resolve; check spec.provider."));
            tokio::net::lookup_host((name, port)).await.map_err(|_| unknown())?.collect()
        }
        None => vec![],
    };
    let permitted: Vec<SocketAddr> = addresses.iter().copied().filter(|address| policy.permits(address.ip())).collect();
    if let (Some(refused), true) = (addresses.first(), permitted.is_empty()) {
        tracing::warn!(host = place, address = %refused.ip(), "outbound address refused");
        return Err(Fault::new(FaultKind::AddressRefused, format!("{place} is not asked: {REFUSED}.")));
    }
    let mut last = Fault::new(FaultKind::NameNotResolved, format!("The name {place} has no address; check spec.provider."));
    for address in permitted {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = fault(&error, place),
        }
    }
    Err(last)
}

fn server_name(url: &Url) -> Option<ServerName<'static>> {
    match url.host()? {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).ok(),
        Host::Ipv4(address) => Some(ServerName::from(std::net::IpAddr::from(address))),
        Host::Ipv6(address) => Some(ServerName::from(std::net::IpAddr::from(address))),
    }
}
