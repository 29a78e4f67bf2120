//! What is served under TLS: many connections at once, none for long without a word.

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once: more than those who wait at the refresh endpoint, so that they keep nobody from the consent pages.
const MOST: usize = 1024;
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
    let connections = TaskTracker::new();
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
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
        connections.spawn(connection(stream, acceptor.clone(), routes.clone(), place, ended));
    }
    connections.close();
    let _ = tokio::time::timeout(DRAIN, connections.wait()).await;
    Ok(())
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, routes: Router, _: OwnedSemaphorePermit, stop: CancellationToken) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await else { return };
    let mut builder = Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(PATIENCE).max_concurrent_streams(64);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes)));
    tokio::select! {
        _ = serving.as_mut() => return,
        () = tokio::time::sleep(LONGEST) => serving.as_mut().graceful_shutdown(),
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(DRAIN, serving).await;
}
