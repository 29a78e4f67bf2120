//! A line to the target: a connection that is opened when it is needed, and again after it has ended.

use super::failure::Failure;
use super::job::Job;
use http_body_util::Full;
use hyper::Response;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::error::Error;
use std::sync::Arc;
use tokio::sync::Mutex;

type Body = Full<Bytes>;

/// One who sends has one of these.
pub enum Line {
    /// HTTP/1.1: the connection is its own.
    Own(Option<http1::SendRequest<Body>>),
    /// HTTP/2: the connection is shared with others.
    Shared(Arc<Mutex<Option<http2::SendRequest<Body>>>>),
}

impl Line {
    /// Lines on so many connections; with HTTP/2 so many for each connection, with HTTP/1.1 one.
    pub fn open(http2: bool, connections: usize, streams: usize) -> Vec<Self> {
        if !http2 {
            return (0..connections).map(|_| Self::Own(None)).collect();
        }
        let shared = (0..connections).map(|_| Arc::default());
        shared.flat_map(|line| vec![line; streams.max(1)]).map(Self::Shared).collect()
    }

    /// Sends a request and waits for the response's head. A connection that ended before anything was sent on it is no
    /// failure: servers may end one that rests, and the request goes out on a new one.
    pub async fn send(&mut self, job: &Job) -> Result<Response<Incoming>, Failure> {
        match self {
            Self::Own(own) => own_line(own, job).await,
            Self::Shared(shared) => shared_line(shared, job).await,
        }
    }

    /// Gives up the connection where nobody else is on it: what is still to come on it is not wanted.
    pub fn hang_up(&mut self) {
        if let Self::Own(own) = self {
            *own = None;
        }
    }
}

async fn own_line(own: &mut Option<http1::SendRequest<Body>>, job: &Job) -> Result<Response<Incoming>, Failure> {
    for _ in 0..2 {
        let mut sender = match live(own.take()).await {
            Some(sender) => sender,
            None => dial(job).await?,
        };
        match sender.send_request(job.request()).await {
            Ok(response) => {
                *own = Some(sender);
                return Ok(response);
            }
            Err(error) if error.is_canceled() => {}
            Err(_) => break,
        }
    }
    Err(Failure::NoResponse)
}

/// The connection, if it has not ended.
async fn live(own: Option<http1::SendRequest<Body>>) -> Option<http1::SendRequest<Body>> {
    let mut sender = own?;
    sender.ready().await.ok().map(|()| sender)
}

async fn dial(job: &Job) -> Result<http1::SendRequest<Body>, Failure> {
    let stream = job.target.connect().await.map_err(|_| Failure::Connect)?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|_| Failure::Connect)?;
    tokio::spawn(connection);
    sender.ready().await.map_err(|_| Failure::Connect)?;
    Ok(sender)
}

async fn shared_line(shared: &Mutex<Option<http2::SendRequest<Body>>>, job: &Job) -> Result<Response<Incoming>, Failure> {
    for _ in 0..3 {
        match shared_sender(shared, job).await?.send_request(job.request()).await {
            Ok(response) => return Ok(response),
            Err(error) if unprocessed(&error) => {}
            Err(_) => break,
        }
    }
    Err(Failure::NoResponse)
}

/// The connection is locked while it is opened: the others wait for it and do not open their own.
async fn shared_sender(shared: &Mutex<Option<http2::SendRequest<Body>>>, job: &Job) -> Result<http2::SendRequest<Body>, Failure> {
    let mut held = shared.lock().await;
    if let Some(sender) = held.as_mut()
        && sender.ready().await.is_ok()
    {
        return Ok(sender.clone());
    }
    Ok(held.insert(dial_http2(job).await?).clone())
}

/// Whether the server has said that it did nothing with the request (RFC 9113, sections 6.8 and 8.7): it ended the connection in good
/// order, and the request is for the next one.
fn unprocessed(error: &hyper::Error) -> bool {
    let protocol = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let refused = protocol.is_some_and(|error| match error.reason() {
        Some(h2::Reason::NO_ERROR) => error.is_go_away(),
        reason => reason == Some(h2::Reason::REFUSED_STREAM),
    });
    refused || error.is_canceled()
}

async fn dial_http2(job: &Job) -> Result<http2::SendRequest<Body>, Failure> {
    let stream = job.target.connect().await.map_err(|_| Failure::Connect)?;
    let builder = http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).clone();
    let (mut sender, connection) = builder.handshake(stream).await.map_err(|_| Failure::Connect)?;
    tokio::spawn(connection);
    sender.ready().await.map_err(|_| Failure::Connect)?;
    Ok(sender)
}
