//! An HTTP/1.1 connection to an upstream: one request at a time, sent and answered without a task and without a channel between
//! it and the socket. What is said is in [`super::message`].

use super::buffer::Buffer;
use super::framing::{Framing, Piece};
use super::message::{Head, LARGEST_HEAD, Malformed, may_be_whole, read_head};
use super::sending::Sending;
use super::tape::{self, RequestBody};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::coop::unconstrained;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// Interim answers (1xx, RFC 9110 §15.2) to one request: servers send one or two (100, 103), and some 102 in a row for work that
/// takes long.
const INTERIM: usize = 100;

/// What ends an exchange before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The upstream closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no answer.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// It never came to its answer.
    #[error("it sent more than {INTERIM} interim answers")]
    Interim,
    /// The request's own body broke off.
    #[error(transparent)]
    Request(#[from] tape::Cut),
    /// The request's body was not as long as its head said.
    #[error("the request's body has another length than its head says")]
    Length,
}

/// A request that was not answered.
#[derive(Debug)]
pub enum Unanswered {
    /// Nothing of it was sent.
    Unsent(Broken),
    /// Something of it may have been.
    Broken(Broken),
}

/// Without TLS, or with it.
pub type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// A connection that stands.
pub struct Connection {
    stream: Stream,
    /// The request that was sent last, or is still on its way.
    sending: Sending,
    waiting: Waiting,
    input: Buffer,
}

/// What has come before an answer's head.
#[derive(Default)]
struct Waiting {
    /// What was asked.
    method: Method,
    /// Bytes that hold no whole head.
    known: usize,
    interim: usize,
}

impl Connection {
    /// One on which nothing is under way.
    pub fn new(stream: Stream) -> Box<Self> {
        let (sending, waiting) = (Sending::nothing(), Waiting::default());
        Box::new(Self { stream, sending, waiting, input: Buffer::default() })
    }

    /// Whether it can still be used: the upstream has neither closed it nor sent what nobody asked for. Costs no system call
    /// where nothing has happened to it.
    pub fn is_alive(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        // A task that has done much says that there is nothing to read: many dead ones in a row would pass for alive.
        pin!(unconstrained(self.stream.read(&mut [0]))).poll(&mut context).is_pending()
    }

    /// Sends a request, and waits for its answer's head.
    ///
    /// # Errors
    /// Why there is none. The connection is gone then.
    pub fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Answer>, Unanswered>> + Send {
        self.waiting = Waiting { method: request.method().clone(), ..Waiting::default() };
        self.sending.begin(request);
        async move {
            let Head { response, framing, keeps } = poll_fn(|context| self.poll_answer(context)).await?;
            let more = self.sending.is_under_way() && !framing.is_ended();
            let direct = Direct { framing, keeps: keeps && self.sending.is_done(), connection: self };
            let body = if more { Kind::Pumped(Pumped::begin(direct)) } else { Kind::Direct(direct) };
            Ok(response.map(|()| Answer(body)))
        }
    }

    fn poll_answer(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Unanswered>> {
        self.poll_send(context)?;
        // It may have answered before it stopped to read.
        let answered = ready!(self.poll_head(context));
        Poll::Ready(answered.map_err(|error| Unanswered::Broken(self.sending.broken.take().unwrap_or(error))))
    }

    /// Goes on with the request as far as it can.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Result<(), Unanswered> {
        self.sending.poll(&mut self.stream, context)
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<Result<Head, Broken>> {
        loop {
            while !self.input.is_empty() && may_be_whole(&self.input, self.waiting.known) {
                self.waiting.known = self.input.len();
                let Some(head) = read_head(&mut self.input, &self.waiting.method)? else { break };
                let status = head.response.status();
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Ok(head));
                }
                self.waiting.known = 0;
                self.waiting.interim += 1;
                if self.waiting.interim > INTERIM {
                    return Poll::Ready(Err(Broken::Interim));
                }
            }
            self.waiting.known = self.input.len();
            if self.input.len() > LARGEST_HEAD {
                return Poll::Ready(Err(Malformed("its head is larger than 128 KiB").into()));
            }
            if ready!(self.poll_fill(context))? == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
        }
    }

    /// Reads what there is; 0 at the end.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = self.input.make_room();
        let read = pin!(self.stream.read_buf(&mut *self.input)).poll(context)?;
        match read {
            Poll::Ready(count) => self.input.filled(count, room),
            // A thousand streams that rest have no buffers.
            Poll::Pending => self.input.rest(),
        }
        read.map(Ok)
    }
}

/// The body of an answer.
pub struct Answer(Kind);

enum Kind {
    Direct(Direct),
    Pumped(Pumped),
    Ended,
}

/// Read from its connection by whoever wants it.
struct Direct {
    connection: Box<Connection>,
    framing: Framing,
    keeps: bool,
}

/// The answer to a request that is still on its way: both go on, whatever the app does with the other.
struct Pumped {
    frames: mpsc::Receiver<Result<Frame<Bytes>, Broken>>,
    length: Option<u64>,
}

impl Answer {
    /// The connection, where the body has ended and it can be used again.
    pub fn release(&mut self) -> Option<Box<Connection>> {
        match std::mem::replace(&mut self.0, Kind::Ended) {
            Kind::Direct(mut direct) if direct.keeps && direct.framing.is_ended() && direct.connection.input.is_empty() => {
                direct.connection.input.rest();
                Some(direct.connection)
            }
            _ => None,
        }
    }

    /// The connection of an upgrade, and what came behind its answer.
    pub fn into_upgraded(self) -> Option<(Stream, Bytes)> {
        match self.0 {
            Kind::Direct(direct) => Some((direct.connection.stream, direct.connection.input.into_bytes())),
            Kind::Pumped(_) | Kind::Ended => None,
        }
    }
}

impl Direct {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match self.framing.next(&mut self.connection.input) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::Missing) => match self.connection.poll_fill(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(0)) if self.framing == Framing::UntilClose => {
                        self.framing = Framing::Length(0);
                        return Poll::Ready(None);
                    }
                    Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(Broken::Closed))),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                },
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
        }
    }
}

impl Pumped {
    fn begin(direct: Direct) -> Self {
        let length = if let Framing::Length(length) = direct.framing { Some(length) } else { None };
        let (frames, receiver) = mpsc::channel(1);
        tokio::spawn(pump(direct, frames));
        Self { frames: receiver, length }
    }
}

/// Sends and reads until the answer has ended, or nobody wants it.
async fn pump(mut direct: Direct, frames: mpsc::Sender<Result<Frame<Bytes>, Broken>>) {
    loop {
        let (mut room, mut broken) = (pin!(frames.reserve()), None);
        let room = poll_fn(|context| {
            // Where the request breaks off, the upstream must see that it does: not one byte more goes there.
            if broken.is_none() {
                broken = direct.connection.poll_send(context).err();
            }
            room.as_mut().poll(context)
        });
        let Ok(room) = room.await else { return };
        if let Some(Unanswered::Broken(error) | Unanswered::Unsent(error)) = broken {
            return room.send(Err(error));
        }
        let mut unwanted = pin!(frames.closed());
        let frame = poll_fn(|context| {
            if unwanted.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            match direct.connection.poll_send(context) {
                Err(Unanswered::Broken(error) | Unanswered::Unsent(error)) => Poll::Ready(Some(Err(error))),
                Ok(()) => direct.poll_frame(context),
            }
        });
        match frame.await {
            Some(Ok(frame)) => room.send(Ok(frame)),
            Some(Err(error)) => return room.send(Err(error)),
            None => return,
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.get_mut().0 {
            Kind::Direct(direct) => direct.poll_frame(context),
            Kind::Pumped(pumped) => pumped.frames.poll_recv(context),
            Kind::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Direct(direct) => direct.framing.is_ended(),
            Kind::Pumped(_) => false,
            Kind::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let length = match &self.0 {
            Kind::Direct(Direct { framing: Framing::Length(length), .. }) => Some(*length),
            Kind::Direct(_) => None,
            Kind::Pumped(pumped) => pumped.length,
            Kind::Ended => Some(0),
        };
        length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn the_dead_are_known_however_many_there_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut dead = vec![];
        for _ in 0..200 {
            let stream = TcpStream::connect(address).await.unwrap();
            let (mut other, _) = listener.accept().await.unwrap();
            other.shutdown().await.unwrap();
            stream.readable().await.unwrap();
            dead.push(Connection::new(Stream::Left(stream)));
        }
        tokio::task::yield_now().await;
        let alive = dead.iter_mut().filter_map(|connection| connection.is_alive().then_some(())).count();
        assert_eq!(alive, 0);
    }
}
