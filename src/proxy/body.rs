//! An answer's body on its way to the app, and what is noted when it ends: that is when an exchange is over, and not before.

use super::activity::Busy;
use super::breaker::Ending;
use super::clock::moment;
use super::patience::Patience;
use super::tape::Tape;
use super::upstream::{Held, UpstreamBody};
use super::way::Way;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Bytes;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Why an answer is cut: the app must not take it for whole.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The upstream broke off.
    #[error("the upstream broke off within its answer")]
    Upstream(#[source] Box<dyn Error + Send + Sync>),
    /// It said nothing for too long.
    #[error("the upstream's answer stalled")]
    Stalled,
    /// It took longer than the route permits.
    #[error("the exchange took longer than totalSeconds")]
    Late,
}

/// A request with one account, from its sending to the end of its answer.
pub struct Exchange {
    way: Arc<Way>,
    member: usize,
    ending: Ending,
}

impl Exchange {
    /// It is sent.
    pub fn begin(way: &Arc<Way>, member: usize) -> Self {
        way.members[member].standing.begin(moment());
        Self { way: way.clone(), member, ending: Ending::Neither }
    }

    /// How it went, as far as is known.
    pub fn note(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.way.members[self.member].standing.end(self.ending, moment());
    }
}

/// A body towards the app.
pub struct ResponseBody {
    kind: Kind,
    /// As long as it lives, the app's connection is not idle.
    _busy: Option<Busy>,
}

enum Kind {
    /// The proxy's own.
    Own(Option<Bytes>),
    /// The upstream's.
    Passing(Box<Passing>),
}

impl ResponseBody {
    /// The proxy's own words.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Own(Some(bytes.into())), _busy: None }
    }

    /// Nothing.
    pub fn empty() -> Self {
        Self { kind: Kind::Own(None), _busy: None }
    }

    /// The upstream's.
    pub fn passing(passing: Passing) -> Self {
        Self { kind: Kind::Passing(Box::new(passing)), _busy: None }
    }

    /// The same, for a connection that is busy until it has ended.
    #[must_use]
    pub fn during(self, busy: Busy) -> Self {
        Self { _busy: Some(busy), ..self }
    }
}

/// The upstream's body.
pub struct Passing {
    incoming: UpstreamBody,
    held: Option<Held>,
    exchange: Option<Exchange>,
    way: Arc<Way>,
    began: Instant,
    patience: Patience,
    deadline: Option<Pin<Box<Sleep>>>,
    /// The request's body may still be on its way; where it is the app that breaks off, the upstream is not to blame.
    request: Option<Arc<Tape>>,
    /// Something was passed since the app's connection was last written to.
    fresh: bool,
    /// Why it is cut, once what has passed is written.
    cut: Option<Cut>,
    ended: bool,
}

impl Passing {
    /// A body that begins to pass.
    pub fn new(incoming: UpstreamBody, held: Held, exchange: Exchange, began: Instant, request: Option<Arc<Tape>>) -> Self {
        let way = exchange.way.clone();
        way.meters.open.inc();
        let mut passing = Self {
            patience: Patience::new(way.timeouts.idle_seconds),
            deadline: deadline(&way, began),
            incoming,
            held: Some(held),
            exchange: Some(exchange),
            way,
            began,
            request,
            fresh: true,
            cut: None,
            ended: false,
        };
        if passing.incoming.is_end_stream() {
            passing.end();
        }
        passing
    }

    /// All of it has passed.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.exchange = None;
        if let Some(held) = self.held.take() {
            held.give_back(&mut self.incoming);
        }
        if let Some(request) = self.request.take() {
            request.hear_out();
        }
    }

    /// It is cut, and who did it.
    fn cut(&mut self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.ended = true;
        self.held = None;
        let by_app = self.request.as_ref().is_some_and(|tape| tape.was_cut());
        if let Some(exchange) = self.exchange.as_mut().filter(|_| !by_app) {
            exchange.note(Ending::Failure);
        }
        self.exchange = None;
        self.way.meters.abort(if by_app { "app" } else { "upstream" });
        let (route, upstream) = (&self.way.name, &self.way.upstream.place);
        if by_app {
            tracing::info!(route, upstream, "the app broke off within the answer");
        } else {
            tracing::warn!(route, upstream, "answer cut: {cut}");
        }
        Poll::Ready(Some(Err(cut)))
    }
}

/// When all must be over.
fn deadline(way: &Way, began: Instant) -> Option<Pin<Box<Sleep>>> {
    let total = way.timeouts.total_seconds;
    (total > 0).then(|| Box::pin(tokio::time::sleep_until(began + Duration::from_secs(total))))
}

impl Drop for Passing {
    fn drop(&mut self) {
        self.way.meters.open.dec();
        self.way.meters.duration.observe(self.began.elapsed().as_secs_f64());
        if !self.ended {
            // The app went away: the connection goes with what was still to come. Nobody is to blame.
            if let Some(exchange) = &mut self.exchange {
                exchange.note(Ending::Neither);
            }
            self.way.meters.abort("app");
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = match &mut self.get_mut().kind {
            Kind::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Passing(passing) => passing,
        };
        if this.ended {
            return Poll::Ready(None);
        }
        if this.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(context).is_ready()) {
            return this.cut(Cut::Late);
        }
        if let Some(cut) = this.cut.take() {
            return this.cut(cut);
        }
        match Pin::new(&mut this.incoming).poll_frame(context) {
            Poll::Pending => {
                this.fresh = false;
                match this.patience.poll_spent(context) {
                    Poll::Ready(()) => this.cut(Cut::Stalled),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            // Where there is nothing more at the moment, what has passed is written; and what is cut then is cut behind it.
            Poll::Ready(Some(Err(error))) if this.fresh => {
                (this.fresh, this.cut) = (false, Some(Cut::Upstream(error)));
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => this.cut(Cut::Upstream(error)),
            Poll::Ready(Some(Ok(frame))) => {
                this.patience.progressed();
                this.fresh = true;
                if this.incoming.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_none(),
            Kind::Passing(passing) => passing.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Passing(passing) => passing.incoming.size_hint(),
        }
    }
}
