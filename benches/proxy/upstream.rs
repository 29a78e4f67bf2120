//! The upstream of the benchmark: light, on the generator's core, and strict. It answers 401 to every request whose
//! Authorization is not that of a token it has published, so that a proxy which forwards the client's, or none, fails.
//!
//! | path | answer |
//! | --- | --- |
//! | `/bytes/<n>` | a body of so many bytes |
//! | `/take/<n>` | 204 when the request's body had so many bytes, else 422 |
//! | `/events/<ms>` | an event every so many milliseconds, numbered and stamped, for as long as the client stays |
//! | `/status/<code>`, `/cut/<n>`, `/events-lost/<ms>`, `/events-swapped/<ms>`, `/stalls/<ms>`, `/silence` | what a broken one does |
//!
//! Whatever comes before the last two parts of a path is ignored.

use crate::testbed::Result;
use crate::testbed::certificates::Authority;
use crate::tokens::Known;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Interval, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest body that it gives.
pub const LARGEST: usize = 1 << 20;

/// Of so many requests for `/stalls`, one stalls.
const STALL_EVERY: u64 = 250;

/// An upstream that serves for as long as the benchmark runs.
pub struct Upstream {
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    /// The CA of the TLS one, PEM.
    pub authority: String,
}

/// What all its connections share.
struct Desk {
    known: Arc<Known>,
    zeros: Bytes,
    asked: AtomicU64,
    /// Every so many requests one is answered with 500; zero: none.
    fault_every: u64,
}

impl Upstream {
    /// Starts it on the caller's runtime, which has one thread: generator and upstream share a core, and as two threads they
    /// would wait for each other's turns.
    pub async fn start(known: Arc<Known>, fault_every: u64) -> Result<Self> {
        let authority = Authority::new("upstream of the benchmark")?;
        let acceptor = acceptor(&authority)?;
        let (plain, tls) = (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let upstream = Self { plain: plain.local_addr()?, tls: tls.local_addr()?, authority: authority.certificate.clone() };
        let desk = Arc::new(Desk { known, zeros: Bytes::from(vec![b'0'; LARGEST]), asked: AtomicU64::new(0), fault_every });
        tokio::spawn(async move {
            let Err(error) = tokio::try_join!(listen(plain, None, &desk), listen(tls, Some(acceptor), &desk));
            eprintln!("the upstream has ended: {error}");
        });
        Ok(upstream)
    }
}

fn acceptor(authority: &Authority) -> Result<TlsAcceptor> {
    let identity = authority.server(&["127.0.0.1", "localhost"])?;
    let certificates = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    Ok(TlsAcceptor::from(Arc::new(ServerConfig::builder().with_no_client_auth().with_single_cert(certificates, key)?)))
}

async fn listen(listener: TcpListener, acceptor: Option<TlsAcceptor>, desk: &Arc<Desk>) -> std::io::Result<Infallible> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, acceptor.clone(), desk.clone()));
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, desk: Arc<Desk>) {
    match acceptor {
        None => serve(stream, desk).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve(stream, desk).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, desk: Arc<Desk>) {
    let answer = service_fn(|request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    // Its end is the client's business: the load generator counts what it did not get.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        if !request.headers().get(AUTHORIZATION).is_some_and(|header| self.known.takes(header.as_bytes())) {
            return empty(StatusCode::UNAUTHORIZED);
        }
        if self.fault_every > 0 && self.asked.fetch_add(1, Ordering::Relaxed) % self.fault_every == self.fault_every - 1 {
            return empty(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let mut parts = request.uri().path().rsplit('/');
        let (argument, verb) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let number: usize = argument.parse().unwrap_or_default();
        match verb {
            "bytes" => Response::new(Answer::Whole(self.zeros.slice(..number.min(LARGEST)))),
            "take" => take(request.into_body(), number).await,
            "events" => events(number, Fault::None),
            "events-lost" => events(number, Fault::Lost),
            "events-swapped" => events(number, Fault::Swapped),
            "status" => empty(argument.parse().unwrap_or(StatusCode::NOT_FOUND)),
            "cut" => cut(self.zeros.slice(..number.min(LARGEST))),
            "stalls" => {
                if self.asked.fetch_add(1, Ordering::Relaxed) % STALL_EVERY == STALL_EVERY / 2 {
                    tokio::time::sleep(Duration::from_millis(number as u64)).await;
                }
                empty(StatusCode::NO_CONTENT)
            }
            _ if argument == "silence" => std::future::pending().await,
            _ => empty(StatusCode::NOT_FOUND),
        }
    }
}

fn empty(status: StatusCode) -> Response<Answer> {
    let mut response = Response::new(Answer::Whole(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Reads the body to its end, keeping nothing.
async fn take(mut body: Incoming, promised: usize) -> Response<Answer> {
    let mut taken = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return empty(StatusCode::BAD_REQUEST) };
        taken += frame.data_ref().map_or(0, Bytes::len);
    }
    empty(if taken == promised { StatusCode::NO_CONTENT } else { StatusCode::UNPROCESSABLE_ENTITY })
}

fn events(milliseconds: usize, fault: Fault) -> Response<Answer> {
    let every = Duration::from_millis(milliseconds.max(1) as u64);
    let mut response = Response::new(Answer::Events { clock: tokio::time::interval(every), number: 0, fault });
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

fn cut(whole: Bytes) -> Response<Answer> {
    let (promised, half) = (whole.len() as u64, Some(whole.slice(..whole.len() / 2)));
    Response::new(Answer::Cut { promised, half, then: Box::pin(tokio::time::sleep(Duration::from_millis(20))) })
}

/// What is wrong with a stream of events, from its third one on.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Lost,
    Swapped,
}

impl Fault {
    fn number(self, number: u64) -> u64 {
        match self {
            Self::None => number,
            Self::Lost if number < 2 => number,
            Self::Lost => number + 1,
            Self::Swapped if number < 2 => number,
            Self::Swapped => number ^ 1,
        }
    }
}

/// The bodies that it gives.
enum Answer {
    Whole(Bytes),
    Events {
        clock: Interval,
        number: u64,
        fault: Fault,
    },
    /// Promises more than it gives, and then fails: a moment later, so that the half is on its way.
    Cut {
        promised: u64,
        half: Option<Bytes>,
        then: Pin<Box<Sleep>>,
    },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, std::io::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Events { clock, number, fault } => clock.poll_tick(context).map(|_| {
                let event = event(fault.number(*number));
                *number += 1;
                Some(Ok(Frame::data(event)))
            }),
            Self::Cut { half, then, .. } => match half.take() {
                Some(half) => Poll::Ready(Some(Ok(Frame::data(half)))),
                None => then.as_mut().poll(context).map(|()| Some(Err(std::io::Error::other("cut, as asked")))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Events { .. } => SizeHint::default(),
            Self::Cut { promised, .. } => SizeHint::with_exact(*promised),
        }
    }
}

fn event(number: u64) -> Bytes {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
    Bytes::from(format!("data: {number} {now}\n\n"))
}
