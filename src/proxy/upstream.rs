//! Connections to one upstream: made, kept, and handed out. Each worker has its own, so that nobody waits for a lock.

use super::clock::{Moment, moment};
use super::http1::{Answer, Connection, Stream, Unanswered};
use super::tape::RequestBody;
use h2::Reason;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::either::Either;
use url::{Host, Url};

/// Connections of a worker that are kept though nobody uses them.
const KEPT: usize = 256;
/// Milliseconds after which one is not used again: most servers keep theirs for a minute or more.
const STALE: Moment = 50_000;
/// Streams on one HTTP/2 connection: what every server should permit (RFC 9113 §6.5.2).
const STREAMS: usize = 100;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address answers.
    #[error("no connection to {0}: {1}")]
    Unreachable(String, String),
    /// TLS fails.
    #[error("TLS with {0} failed: {1}")]
    Tls(String, String),
    /// It took too long.
    #[error("{0} could not be reached in time")]
    Late(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent.
    #[error(transparent)]
    NotConnected(#[from] ConnectError),
    /// The upstream did nothing with it: nothing could be sent, the connection ends in good order, or the stream is refused.
    #[error("the upstream did nothing with it")]
    Unprocessed,
    /// Something may have been.
    #[error("the connection ended before the answer: {error}")]
    Broken {
        /// What ended it.
        error: Box<dyn Error + Send + Sync>,
        /// Whether it had been used before: it may have ended while the request was on its way.
        reused: bool,
    },
}

/// TLS towards an upstream.
pub struct UpstreamTls {
    /// With HTTP/2 and HTTP/1.1 by ALPN.
    pub any: Arc<ClientConfig>,
    /// With HTTP/1.1 alone: for what HTTP/2 cannot do.
    pub http1: Arc<ClientConfig>,
}

/// An upstream with its connections.
pub struct Upstream {
    /// `host`, with its port where that is not https's own.
    pub place: String,
    host: Host<String>,
    port: u16,
    scheme: Scheme,
    authority: Authority,
    host_header: HeaderValue,
    tls: Option<Arc<UpstreamTls>>,
    prior_http2: bool,
    connect: Option<Duration>,
    lanes: Box<[Mutex<Lane>]>,
}

/// What one worker keeps.
#[derive(Default)]
struct Lane {
    /// The one used last stands last.
    idle: Vec<(Box<Connection>, Moment)>,
    shared: Vec<Shared>,
}

/// An HTTP/2 connection.
struct Shared {
    sender: http2::SendRequest<RequestBody>,
    streams: Arc<AtomicUsize>,
}

enum Sender {
    Http1 { connection: Box<Connection>, reused: bool },
    Http2 { sender: http2::SendRequest<RequestBody>, stream: StreamCount, reused: bool },
}

/// Counts a stream as long as it lives.
#[derive(Debug)]
struct StreamCount(Arc<AtomicUsize>);

impl StreamCount {
    fn of(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }
}

impl Drop for StreamCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an answer has of its upstream. To be given back when the body has ended, and dropped where it is cut.
pub struct Held {
    upstream: Arc<Upstream>,
    worker: usize,
    /// It counts while it lives.
    _stream: Option<StreamCount>,
}

/// The body of an upstream's answer.
pub enum UpstreamBody {
    /// It has its connection with it.
    Http1(Answer),
    /// It is one of the streams of a connection.
    Http2(Incoming),
}

impl Upstream {
    /// An upstream for so many workers; its connections must stand within `connect_seconds`, 0 for ever. `None` where the URL
    /// names no host.
    pub fn new(
        url: &Url,
        tls: Option<Arc<UpstreamTls>>,
        prior_http2: bool,
        connect_seconds: u64,
        workers: usize,
    ) -> Option<Self> {
        let host = url.host()?.to_owned();
        let port = url.port_or_known_default()?;
        let text = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        Some(Self {
            place: crate::oauth::host_and_port(url),
            port,
            scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority: text.parse().ok()?,
            host_header: HeaderValue::from_str(&text).ok()?,
            host,
            tls,
            prior_http2,
            connect: (connect_seconds > 0).then(|| Duration::from_secs(connect_seconds)),
            lanes: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
        })
    }

    /// Sends a request of which only target, fields and body are given. One that rode on a kept connection, which had ended
    /// before any of it was sent, is sent anew.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn send(
        self: &Arc<Self>,
        worker: usize,
        mut request: Request<RequestBody>,
        upgrade: bool,
    ) -> Result<(Response<UpstreamBody>, Held), SendError> {
        request.headers_mut().insert(HOST, self.host_header.clone());
        loop {
            let sender = if upgrade { Box::pin(self.connect(true)).await? } else { self.check_out(worker).await? };
            let failed = match sender {
                Sender::Http1 { connection, reused } => {
                    return match connection.send(request).await {
                        Ok(answer) => Ok((answer.map(UpstreamBody::Http1), self.held(worker, None))),
                        // It ended just before.
                        Err(Unanswered::Unsent(_)) if reused => Err(SendError::Unprocessed),
                        Err(Unanswered::Unsent(error) | Unanswered::Broken(error)) => {
                            Err(SendError::Broken { error: error.into(), reused })
                        }
                    };
                }
                Sender::Http2 { mut sender, stream, reused } => {
                    let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
                    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                    if let Ok(uri) = uri.path_and_query(path).build() {
                        *request.uri_mut() = uri;
                    }
                    request.headers_mut().remove(HOST);
                    *request.version_mut() = Version::HTTP_2;
                    match sender.try_send_request(request).await {
                        Ok(answer) => return Ok((answer.map(UpstreamBody::Http2), self.held(worker, Some(stream)))),
                        Err(error) => (error, reused),
                    }
                }
            };
            request = again(failed)?;
            self.origin_form(&mut request);
        }
    }

    /// As HTTP/1.1 has it (RFC 9112 §3.2.1).
    fn origin_form(&self, request: &mut Request<RequestBody>) {
        if let Some(path) = request.uri().path_and_query().cloned().filter(|_| request.uri().scheme().is_some()) {
            *request.uri_mut() = Uri::from(path);
        }
        request.headers_mut().insert(HOST, self.host_header.clone());
    }

    fn held(self: &Arc<Self>, worker: usize, stream: Option<StreamCount>) -> Held {
        Held { upstream: self.clone(), worker, _stream: stream }
    }

    /// Looks after a worker's connections: those that nobody has used for long are ended, and those that the upstream has ended.
    pub fn sweep(&self, worker: usize) {
        let now = moment();
        self.lane(worker).idle.retain_mut(|(connection, since)| now.saturating_sub(*since) <= STALE && connection.is_alive());
    }

    /// The lane stays whole whatever its holder did.
    fn lane(&self, worker: usize) -> std::sync::MutexGuard<'_, Lane> {
        self.lanes[worker % self.lanes.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn check_out(self: &Arc<Self>, worker: usize) -> Result<Sender, ConnectError> {
        if let Some(sender) = self.kept(worker) {
            return Ok(sender);
        }
        let sender = Box::pin(self.connect(false)).await?;
        if let Sender::Http2 { sender, stream, .. } = &sender {
            self.lane(worker).shared.push(Shared { sender: sender.clone(), streams: stream.0.clone() });
        }
        Ok(sender)
    }

    fn kept(&self, worker: usize) -> Option<Sender> {
        let mut lane = self.lane(worker);
        if !lane.shared.is_empty() {
            lane.shared.retain(|shared| !shared.sender.is_closed());
            let free = |shared: &&Shared| shared.streams.load(Ordering::Relaxed) < STREAMS && shared.sender.is_ready();
            if let Some(shared) = lane.shared.iter().find(free) {
                let stream = StreamCount::of(&shared.streams);
                return Some(Sender::Http2 { sender: shared.sender.clone(), stream, reused: true });
            }
        }
        let now = moment();
        while let Some((mut connection, since)) = lane.idle.pop() {
            if now.saturating_sub(since) > STALE {
                // Those below are older.
                lane.idle.clear();
                return None;
            }
            if connection.is_alive() {
                return Some(Sender::Http1 { connection, reused: true });
            }
        }
        None
    }

    async fn connect(&self, http1_only: bool) -> Result<Sender, ConnectError> {
        let connecting = self.open(http1_only);
        match self.connect {
            None => connecting.await,
            Some(limit) => tokio::time::timeout(limit, connecting).await.map_err(|_| ConnectError::Late(self.place.clone()))?,
        }
    }

    async fn open(&self, http1_only: bool) -> Result<Sender, ConnectError> {
        let stream = self.dial().await?;
        let Some(tls) = &self.tls else {
            return self.greet(Either::Left(stream), self.prior_http2 && !http1_only).await;
        };
        let broken = |error: std::io::Error| ConnectError::Tls(self.place.clone(), error.to_string());
        let name = match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).map_err(|error| broken(std::io::Error::other(error)))?,
            Host::Ipv4(address) => ServerName::from(IpAddr::from(*address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::from(*address)),
        };
        let config = if http1_only { &tls.http1 } else { &tls.any };
        let stream = TlsConnector::from(config.clone()).connect(name, stream).await.map_err(broken)?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.greet(Either::Right(Box::new(stream)), http2).await
    }

    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        let unreachable = |error: String| ConnectError::Unreachable(self.place.clone(), error);
        let addresses: Vec<SocketAddr> = match &self.host {
            Host::Ipv4(address) => vec![(*address, self.port).into()],
            Host::Ipv6(address) => vec![(*address, self.port).into()],
            Host::Domain(name) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await;
                found.map_err(|_| unreachable("its name does not resolve".into()))?.collect()
            }
        };
        let mut last = unreachable("its name has no address".into());
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // A hint that fails where the connection has gone already: the next write says so.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => {
                    let words = error.to_string();
                    last = unreachable(words.split(" (os error").next().unwrap_or_default().to_lowercase());
                }
            }
        }
        Err(last)
    }

    async fn greet(&self, stream: Stream, http2: bool) -> Result<Sender, ConnectError> {
        if !http2 {
            return Ok(Sender::Http1 { connection: Connection::new(stream), reused: false });
        }
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(30)).adaptive_window(true);
        let broken = |error: hyper::Error| ConnectError::Unreachable(self.place.clone(), error.to_string());
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // What ends it is told to whoever waits for an answer.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        let stream = StreamCount::of(&Arc::default());
        Ok(Sender::Http2 { sender, stream, reused: false })
    }
}

/// The request, where a kept connection had ended before any of it was sent.
fn again((mut error, reused): (TrySendError<Request<RequestBody>>, bool)) -> Result<Request<RequestBody>, SendError> {
    match error.take_message() {
        Some(request) if reused => Ok(request),
        _ => {
            let error = error.into_error();
            Err(if is_unprocessed(&error) { SendError::Unprocessed } else { SendError::Broken { error: error.into(), reused } })
        }
    }
}

/// Whether an HTTP/2 server has said so (RFC 9113 §6.8, §8.7): of streams above the last that it names in GOAWAY, and of those
/// that it refuses.
fn is_unprocessed(error: &hyper::Error) -> bool {
    let said = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    said.is_some_and(|said| {
        let reason = said.reason();
        said.is_remote() && (said.is_go_away() && reason == Some(Reason::NO_ERROR) || reason == Some(Reason::REFUSED_STREAM))
    })
}

impl Held {
    /// The answer has ended: its connection is free for the next request.
    pub fn give_back(self, body: &mut UpstreamBody) {
        let UpstreamBody::Http1(answer) = body else { return };
        if let Some(connection) = answer.release() {
            self.upstream.lane(self.worker).keep(connection);
        }
    }
}

impl Lane {
    fn keep(&mut self, connection: Box<Connection>) {
        if self.idle.len() < KEPT {
            self.idle.push((connection, moment()));
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Http1(answer) => Pin::new(answer).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Self::Http2(incoming) => {
                Pin::new(incoming).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.is_end_stream(),
            Self::Http2(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(answer) => answer.size_hint(),
            Self::Http2(incoming) => incoming.size_hint(),
        }
    }
}
