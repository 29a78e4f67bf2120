//! What goes on on an app's connection: heads that never end, and connections that nobody uses, are ended without a timer for
//! each request.

use super::clock::{Moment, moment};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Milliseconds that a request's head may take.
const HEAD: Moment = 15_000;
/// Milliseconds that a connection may rest between requests, as nginx's `keepalive_timeout`.
const IDLE: Moment = 75_000;

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Keep,
    /// It rests: it is told that it ends.
    Rest,
    /// Its head does not come: it ends.
    Drop,
}

/// What is known of a connection.
#[derive(Debug, Default)]
pub struct Activity {
    busy: AtomicUsize,
    /// Moment of the first byte since the last request, or 0.
    begun: AtomicU64,
    /// Moment at which it was last busy.
    last: AtomicU64,
    /// HTTP/2 frames that are no requests come at any time.
    http2: AtomicBool,
}

/// A request under way.
#[derive(Debug)]
pub struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last.store(moment(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Activity {
    /// Of a connection that begins now.
    pub fn begin() -> Arc<Self> {
        Arc::new(Self { last: AtomicU64::new(moment()), ..Self::default() })
    }

    /// A request's head has come.
    pub fn busy(self: &Arc<Self>, http2: bool) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        self.begun.store(0, Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        Busy(self.clone())
    }

    fn received(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.begun.load(Ordering::Relaxed) == 0 {
            self.begun.store(moment().max(1), Ordering::Relaxed);
        }
    }

    /// What is to be done.
    pub fn judge(&self, now: Moment) -> Verdict {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Verdict::Keep;
        }
        let begun = self.begun.load(Ordering::Relaxed);
        if begun > 0 && !self.http2.load(Ordering::Relaxed) {
            return if now.saturating_sub(begun) > HEAD { Verdict::Drop } else { Verdict::Keep };
        }
        if now.saturating_sub(self.last.load(Ordering::Relaxed)) > IDLE { Verdict::Rest } else { Verdict::Keep }
    }
}

/// A stream whose bytes are noticed.
pub struct Watched<S> {
    /// The stream.
    pub stream: S,
    /// What is known of it.
    pub activity: Arc<Activity>,
}

impl<S: Read + Unpin> Read for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.activity.received();
        }
        polled
    }
}

impl<S: Write + Unpin> Write for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_that_does_not_end_ends_the_connection_and_a_request_under_way_does_not() {
        let activity = Activity::begin();
        let start = moment();
        assert_eq!(activity.judge(start + IDLE), Verdict::Keep);
        assert_eq!(activity.judge(start + IDLE + 1000), Verdict::Rest);
        activity.received();
        assert_eq!(activity.judge(start + HEAD - 1), Verdict::Keep);
        assert_eq!(activity.judge(start + HEAD + 1000), Verdict::Drop);
        let busy = activity.busy(false);
        activity.received();
        assert_eq!(activity.judge(start + 10 * IDLE), Verdict::Keep);
        drop(busy);
        assert_eq!(activity.judge(moment() + HEAD + 1000), Verdict::Keep, "what came meanwhile is the next head's beginning");
        assert_eq!(activity.judge(moment() + IDLE + 1000), Verdict::Rest);
    }

    #[test]
    fn frames_on_http2_are_no_heads() {
        let activity = Activity::begin();
        drop(activity.busy(true));
        activity.received();
        assert_eq!(activity.judge(moment() + HEAD + 1000), Verdict::Keep);
        assert_eq!(activity.judge(moment() + IDLE + 1000), Verdict::Rest);
    }
}
