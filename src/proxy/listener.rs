//! Sockets, and the connections that come in there.

use super::activity::{Activity, Connections, Order, Watched};
use super::answer::answer;
use super::clock::moment;
use super::forward::Worker;
use super::table::Gate;
use arc_swap::ArcSwap;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::{IntCounter, IntGauge};
use socket2::{Domain, Protocol, Socket, Type};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How often connections are looked after.
const ROUND: Duration = Duration::from_secs(5);
/// Time for a TLS handshake, and for the first bytes.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
const LARGEST_HEAD: usize = 64 * 1024;
/// Streams of an HTTP/2 connection.
const STREAMS: u32 = 1024;
/// Streams that a peer may open and reset before it is sent away (CVE-2023-44487).
const RESETS: usize = 64;
/// How HTTP/2 begins without asking (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// One socket for each worker, at the same address.
///
/// # Errors
/// Where the address cannot be had.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let mut listeners = vec![];
    let mut address = address;
    for _ in 0..workers.max(1) {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(workers > 1)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        // A port that the kernel has chosen is the same for all.
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// One worker's side of an address.
pub struct Door {
    /// The socket.
    pub listener: std::net::TcpListener,
    /// What is served there, as it stands now.
    pub gate: Arc<ArcSwap<Gate>>,
    /// No more connections are taken, and those there are end when their requests have.
    pub closing: CancellationToken,
    /// Counts connections.
    pub accepted: IntCounter,
    /// Those that are open.
    pub open: IntGauge,
}

/// One open connection, however it ends.
struct Counted(IntGauge);

impl Counted {
    fn begin(open: &IntGauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves until the door closes.
///
/// # Errors
/// Where the socket cannot be used at all.
pub async fn serve(door: Door, worker: Worker) -> io::Result<()> {
    let listener = TcpListener::from_std(door.listener)?;
    let (worker, connections) = (Arc::new(worker), Arc::new(Connections::default()));
    tokio::spawn(look_after(connections.clone(), door.gate.clone(), door.closing.clone(), worker.clone()));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // One connection that went, or too many open files: others are served.
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = door.closing.cancelled() => return Ok(()),
        };
        door.accepted.inc();
        let activity = Activity::begin();
        connections.admit(&activity);
        let counted = Counted::begin(&door.open);
        worker.open.track(connection(stream, door.gate.clone(), worker.clone(), activity, counted));
    }
}

/// Sees to it that connections end: when they rest, when their heads do not come, when the door closes, and when all is cut.
async fn look_after(connections: Arc<Connections>, gate: Arc<ArcSwap<Gate>>, closing: CancellationToken, worker: Arc<Worker>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => {
                connections.look(moment());
                gate.load().ways().iter().for_each(|way| way.upstream.sweep(worker.number));
            }
            () = closing.cancelled() => break,
        }
    }
    // More than once: one may have come in at the last moment.
    loop {
        connections.give(Order::End);
        tokio::select! {
            _ = rounds.tick() => {}
            () = worker.open.is_cut() => break,
        }
    }
    connections.give(Order::Drop);
}

async fn connection(
    stream: TcpStream,
    gate: Arc<ArcSwap<Gate>>,
    worker: Arc<Worker>,
    activity: Arc<Activity>,
    _counted: Counted,
) {
    // A hint; where it cannot be set the connection is gone.
    let _ = stream.set_nodelay(true);
    let tls = gate.load().tls.clone();
    // Each boxed: a connection has the memory of what it is, and not of the largest that it could be.
    match tls {
        None => {
            let Some(Ok(http2)) = begun(begins_http2(&stream), &activity).await else { return };
            Box::pin(converse(TokioIo::new(stream), http2, gate, worker, activity)).await;
        }
        Some(tls) => {
            let Some(Ok(stream)) = Box::pin(begun(tls.accept(stream), &activity)).await else { return };
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            Box::pin(converse(TokioIo::new(stream), http2, gate, worker, activity)).await;
        }
    }
}

/// What a connection begins with, where it begins in time and before it is to end.
async fn begun<T>(beginning: impl Future<Output = T>, activity: &Activity) -> Option<T> {
    let mut beginning = std::pin::pin!(tokio::time::timeout(HANDSHAKE, beginning));
    let mut known = None;
    poll_fn(|context| match beginning.as_mut().poll(context) {
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
        Poll::Pending if activity.order(context, &mut known) > Order::Keep => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Whether the first bytes are those of HTTP/2. They stay in the socket.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 || !PREFACE.starts_with(&first[..seen]) {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        // What was seen keeps the socket readable: the rest must be waited for by the clock.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn converse<S>(stream: S, http2: bool, gate: Arc<ArcSwap<Gate>>, worker: Arc<Worker>, activity: Arc<Activity>)
where
    S: Read + Write + Unpin + Send + 'static,
{
    let stream = Watched { stream, activity: activity.clone() };
    let of_requests = activity.clone();
    let service = service_fn(move |request| {
        let busy = of_requests.busy(http2);
        let (gate, worker) = (gate.load_full(), worker.clone());
        // Boxed: hyper has a place for it in each connection, which stays while an answer streams for hours.
        Box::pin(async move { Ok::<_, Infallible>(answer(&gate, &worker, request).await.map(|body| body.during(busy))) })
    });
    if http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(30))
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
            .adaptive_window(true);
        let serving = Box::pin(builder.serve_connection(stream, service));
        attend(serving, http2::Connection::graceful_shutdown, &activity).await;
    } else {
        let mut builder = http1::Builder::new();
        builder.max_header_size(LARGEST_HEAD);
        let serving = Box::pin(builder.serve_connection(stream, service).with_upgrades());
        attend(serving, http1::UpgradeableConnection::graceful_shutdown, &activity).await;
    }
}

/// Serves a connection until it ends, and carries out what is ordered.
async fn attend<C: Future<Output = hyper::Result<()>>>(mut serving: Pin<Box<C>>, end: impl Fn(Pin<&mut C>), activity: &Activity) {
    let (mut known, mut ending) = (None, false);
    poll_fn(|context| {
        // What breaks a connection is the app's to know; what cut an answer was logged where it was.
        if serving.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        match activity.order(context, &mut known) {
            Order::Drop => Poll::Ready(()),
            Order::End if !ending => {
                ending = true;
                end(serving.as_mut());
                serving.as_mut().poll(context).map(drop)
            }
            Order::End | Order::Keep => Poll::Pending,
        }
    })
    .await;
}
