//! Interim answers (1xx, RFC 9110 §15.2): passed over, up to a number. The HTTP library reads them for as long as they come,
//! and what an upstream sends without a pause would keep a worker busy.

use http::Request;
use std::io::{Error, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Interim answers to one request: servers send one or two (100, 103), and some 102 in a row for work that takes long.
const MOST: usize = 100;

/// How many interim answers have come on one connection since its latest request.
#[derive(Clone, Debug, Default)]
pub struct InterimCount(Arc<AtomicUsize>);

impl InterimCount {
    /// Counts those that this request brings.
    pub fn begin<B>(&self, request: &mut Request<B>) {
        self.0.store(0, Ordering::Relaxed);
        let count = self.0.clone();
        hyper::ext::on_informational(request, move |_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// A connection that ends once it has brought too many interim answers.
#[derive(Debug)]
pub struct Bounded<S> {
    stream: S,
    count: InterimCount,
}

impl<S> Bounded<S> {
    /// This connection, ended by this count.
    pub fn new(stream: S, count: InterimCount) -> Self {
        Self { stream, count }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if self.count.0.load(Ordering::Relaxed) > MOST {
            return Poll::Ready(Err(Error::new(ErrorKind::InvalidData, "more than 100 interim responses")));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
