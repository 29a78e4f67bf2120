//! What is served under TLS: many connections at once, none for long without a word.

use crate::refresh_endpoint::crowd::{Crowd, Limit};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Connections at once: more than those who wait at the refresh endpoint, so that they keep nobody from the consent pages.
const MOST: usize = 1024;
/// Connections of one address, at once: that of a program, of a node behind which they all are, or of an Ingress.
const OF_ONE: usize = 256;
/// Time for a handshake, and for the head of a request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Age of a connection: whoever says nothing, or too much, makes room.
const LONGEST: Duration = Duration::from_secs(120);
/// Time for what is under way when a connection or the process ends.
const DRAIN: Duration = Duration::from_secs(3);

/// Serves until `stop`.
///
/// # Errors
/// Where the socket fails.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    routes: Router,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MOST));
    let crowd = Crowd::new(Limit { all: MOST, of_one: OF_ONE });
    let connections = TaskTracker::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let (stream, from) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                // One connection that went, or too many open files: others are served.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let ended = stop.clone();
        // Whoever has too many already is turned away.
        let Some(part) = crowd.enter(from.ip()) else { continue };
        let serving = connection(stream, from, acceptor.clone(), routes.clone(), ended);
        connections.spawn(async move {
            serving.await;
            drop((place, part));
        });
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

async fn connection(stream: TcpStream, from: SocketAddr, acceptor: TlsAcceptor, routes: Router, stop: CancellationToken) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE).max_concurrent_streams(64);
    let routes = routes.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(from));
        request
    });
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(LONGEST) => serving.as_mut().graceful_shutdown(),
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(DRAIN, serving).await;
}
