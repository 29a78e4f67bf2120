//! What goes on on an app's connection: heads that never end, and connections that nobody uses, are ended without a timer for
//! each request.

use super::clock::{Moment, moment};
use hyper::rt::{Read, ReadBufCursor, Write};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Milliseconds that a request's head may take.
const HEAD: Moment = 15_000;
/// Milliseconds that a connection may rest between requests, as nginx's `keepalive_timeout`.
const IDLE: Moment = 75_000;

/// What is to be done with a connection. The greater overrides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Nothing.
    Keep = 0,
    /// It ends when what is under way has, and is told so.
    End = 1,
    /// It ends where it stands.
    Drop = 2,
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
    /// An [`Order`].
    order: AtomicU8,
    /// Wakes the connection's task.
    waker: Mutex<Option<Waker>>,
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

    /// What is to be done, as far as time says so.
    fn judge(&self, now: Moment) -> Order {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return Order::Keep;
        }
        let begun = self.begun.load(Ordering::Relaxed);
        if begun > 0 && !self.http2.load(Ordering::Relaxed) {
            return if now.saturating_sub(begun) > HEAD { Order::Drop } else { Order::Keep };
        }
        if now.saturating_sub(self.last.load(Ordering::Relaxed)) > IDLE { Order::End } else { Order::Keep }
    }

    /// Gives an order, and wakes the connection's task to carry it out.
    fn give(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::SeqCst) < order as u8
            && let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            waker.wake_by_ref();
        }
    }

    /// The order that stands. The task is woken by the next one; `known` is what it was told to be woken by last.
    pub fn order(&self, context: &Context<'_>, known: &mut Option<Waker>) -> Order {
        if !known.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *known = Some(context.waker().clone());
            *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        }
        match self.order.load(Ordering::SeqCst) {
            0 => Order::Keep,
            1 => Order::End,
            _ => Order::Drop,
        }
    }
}

/// The connections of one door, looked after together: none of them has a timer of its own.
#[derive(Debug, Default)]
pub struct Connections(Mutex<Vec<Weak<Activity>>>);

impl Connections {
    /// One more.
    pub fn admit(&self, activity: &Arc<Activity>) {
        self.all().push(Arc::downgrade(activity));
    }

    /// Ends those that time says are to end.
    pub fn look(&self, now: Moment) {
        self.all().retain(|activity| {
            activity.upgrade().is_some_and(|activity| {
                activity.give(activity.judge(now));
                true
            })
        });
    }

    /// Gives all of them an order.
    pub fn give(&self, order: Order) {
        self.all().iter().filter_map(Weak::upgrade).for_each(|activity| activity.give(order));
    }

    /// The list stays whole whatever its holder did.
    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Activity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(activity.judge(start + IDLE), Order::Keep);
        assert_eq!(activity.judge(start + IDLE + 1000), Order::End);
        activity.received();
        assert_eq!(activity.judge(start + HEAD - 1), Order::Keep);
        assert_eq!(activity.judge(start + HEAD + 1000), Order::Drop);
        let busy = activity.busy(false);
        activity.received();
        assert_eq!(activity.judge(start + 10 * IDLE), Order::Keep);
        drop(busy);
        assert_eq!(activity.judge(moment() + HEAD + 1000), Order::Keep, "what came meanwhile is the next head's beginning");
        assert_eq!(activity.judge(moment() + IDLE + 1000), Order::End);
    }

    #[test]
    fn the_greatest_order_stands_and_the_dead_are_forgotten() {
        let (connections, activity) = (Connections::default(), Activity::begin());
        connections.admit(&activity);
        connections.admit(&Activity::begin());
        let mut known = None;
        let mut order = || activity.order(&Context::from_waker(Waker::noop()), &mut known);
        connections.look(moment());
        assert_eq!((order(), connections.all().len()), (Order::Keep, 1));
        connections.look(moment() + IDLE + 1000);
        assert_eq!(order(), Order::End);
        connections.look(moment());
        assert_eq!(order(), Order::End);
        connections.give(Order::Drop);
        connections.give(Order::End);
        assert_eq!(order(), Order::Drop);
    }

    #[test]
    fn frames_on_http2_are_no_heads() {
        let activity = Activity::begin();
        drop(activity.busy(true));
        activity.received();
        assert_eq!(activity.judge(moment() + HEAD + 1000), Order::Keep);
        assert_eq!(activity.judge(moment() + IDLE + 1000), Order::End);
    }
}
