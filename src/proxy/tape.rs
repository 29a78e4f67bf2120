//! A request's body, kept by reference count while it passes, so that it can be sent again.

use super::clock::{Moment, moment};
use super::head::strip_trailers;
use super::patience::Patience;
use super::way::Way;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

/// How long an app is heard out whose request was answered before its end, and how long it may say nothing meanwhile: as nginx's
/// `lingering_time` and `lingering_timeout`.
const LINGER: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));

/// Bytes that all tapes of a process may keep at once.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

impl Budget {
    /// So many.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    fn take(&self, bytes: usize) -> bool {
        self.left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Why a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The app went away.
    #[error("the app's connection ended within its body")]
    App(#[source] hyper::Error),
    /// The app said nothing for too long.
    #[error("the app's body stalled")]
    Stalled,
    /// The body is sent again elsewhere.
    #[error("the body is sent again on another connection")]
    Superseded,
}

/// Takes what is still to come of a body, and keeps none of it: who is cut off within a request may never read its answer.
pub fn hear_out(mut body: impl Body + Unpin + Send + 'static) {
    tokio::spawn(tokio::time::timeout(LINGER.0, async move {
        while let Ok(Some(Ok(_))) = tokio::time::timeout(LINGER.1, body.frame()).await {}
    }));
}

/// A body that is read once and kept.
pub struct Tape {
    state: Mutex<State>,
    budget: Arc<Budget>,
    way: Arc<Way>,
    /// Moment of the last progress.
    progress: AtomicU64,
    /// Whether it was the app that broke off.
    cut: AtomicBool,
    /// Whether it did so by saying nothing.
    stalled: AtomicBool,
    size: SizeHint,
}

struct State {
    source: Incoming,
    chunks: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    kept: usize,
    /// All of the source was read.
    complete: bool,
    /// More came than may be kept: what is gone cannot be sent again.
    lost: bool,
    /// Readers so far; only the newest reads.
    reader: usize,
    patience: Patience,
}

impl Tape {
    /// Of a body on this way, which says how much of it is kept and how long it may stall.
    pub fn new(source: Incoming, way: &Arc<Way>, budget: Arc<Budget>) -> Arc<Self> {
        let size = source.size_hint();
        let state = State {
            source,
            chunks: vec![],
            trailers: None,
            kept: 0,
            complete: false,
            // What is too large is known beforehand where the app says its length.
            lost: size.lower() > way.limits.replay_bytes as u64,
            reader: 0,
            patience: Patience::new(way.timeouts.idle_seconds),
        };
        Arc::new(Self {
            state: Mutex::new(state),
            budget,
            way: way.clone(),
            progress: AtomicU64::new(moment()),
            cut: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            size,
        })
    }

    /// Whether it can be sent from its beginning.
    pub fn is_replayable(&self) -> bool {
        !self.state().lost && !self.was_cut()
    }

    /// Whether it was the app that broke off.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether the app said nothing for too long.
    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// When something of it was last passed on.
    pub fn progress(&self) -> Moment {
        self.progress.load(Ordering::Relaxed)
    }

    /// Reads it from its beginning. Readers before this one end.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let mut state = self.state();
        state.reader += 1;
        Reader { tape: self.clone(), number: state.reader, position: 0, ended: false }
    }

    /// [`hear_out`], where something of it is still to come. To be called when nobody else reads it.
    pub fn hear_out(self: &Arc<Self>) {
        let mut state = self.state();
        if state.complete || self.was_cut() {
            return;
        }
        self.lose(&mut state);
        drop(state);
        hear_out(self.reader());
    }

    /// What is kept stays whole whatever its holder did.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lose(&self, state: &mut State) {
        state.lost = true;
        state.chunks = vec![];
        self.budget.give_back(std::mem::take(&mut state.kept));
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.give_back(state.kept);
    }
}

/// One reading of a tape.
pub struct Reader {
    tape: Arc<Tape>,
    number: usize,
    position: usize,
    ended: bool,
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let mut guard = this.tape.state();
        let state = &mut *guard;
        if state.reader != this.number {
            return Poll::Ready(Some(Err(Cut::Superseded)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some(chunk) = state.chunks.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(chunk.clone()))));
        }
        if state.complete {
            this.ended = true;
            return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let Poll::Ready(frame) = Pin::new(&mut state.source).poll_frame(context) else {
            if state.patience.poll_spent(context).is_ready() {
                this.tape.stalled.store(true, Ordering::Relaxed);
                this.tape.cut.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Cut::Stalled)));
            }
            return Poll::Pending;
        };
        state.patience.progressed();
        this.tape.progress.store(moment(), Ordering::Relaxed);
        match frame {
            None => {
                state.complete = true;
                this.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                this.tape.cut.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(Cut::App(error))))
            }
            Some(Ok(mut frame)) => {
                if let Some(data) = frame.data_ref().filter(|_| !state.lost) {
                    if state.kept + data.len() <= this.tape.way.limits.replay_bytes && this.tape.budget.take(data.len()) {
                        state.kept += data.len();
                        state.chunks.push(data.clone());
                        this.position += 1;
                    } else {
                        this.tape.lose(state);
                        this.position = 0;
                    }
                }
                // Whoever knows the length does not ask for more behind it.
                state.complete |= state.source.is_end_stream();
                if let Some(trailers) = frame.trailers_mut() {
                    let way = &this.tape.way;
                    strip_trailers(trailers, |name| *name == way.header || way.strip.contains(name));
                    state.trailers = Some(trailers.clone());
                    state.complete = true;
                    this.ended = true;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        // What the whole is: a reader is asked before it begins.
        if self.position == 0 { self.tape.size } else { SizeHint::default() }
    }
}

/// What is sent as a body.
pub enum RequestBody {
    /// Nothing.
    Empty,
    /// A few bytes of our own.
    Short(Option<Bytes>),
    /// A tape.
    Taped(Reader),
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Short(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Taped(reader) => Pin::new(reader).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Short(bytes) => bytes.is_none(),
            Self::Taped(reader) => reader.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Short(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Taped(reader) => reader.size_hint(),
        }
    }
}
