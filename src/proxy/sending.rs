//! A request on its way over an HTTP/1.1 connection.

use super::http1::{Broken, Stream, Unanswered};
use super::message::{RequestFraming, write_field, write_head};
use super::tape::RequestBody;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::Request;
use http_body::Body;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// A request on its way: what is written is at most its head and one piece of its body.
pub struct Sending {
    body: RequestBody,
    framing: RequestFraming,
    /// Bytes of the body that are still to come, where that is known.
    left: u64,
    before: BytesMut,
    data: Bytes,
    after: &'static [u8],
    /// All of the body has come.
    ended: bool,
    /// Something was written.
    begun: bool,
    flushed: bool,
    /// Why the upstream took no more of it.
    pub broken: Option<Broken>,
}

impl Sending {
    /// A request that was sent.
    pub fn nothing() -> Self {
        Self {
            body: RequestBody::Empty,
            framing: RequestFraming::Nothing,
            left: 0,
            before: BytesMut::new(),
            data: Bytes::new(),
            after: b"",
            ended: true,
            begun: true,
            flushed: true,
            broken: None,
        }
    }

    /// A request that is to be sent.
    pub fn begin(&mut self, request: Request<RequestBody>) {
        let hint = request.body().size_hint().exact();
        let framing = match hint {
            _ if request.body().is_end_stream() => RequestFraming::Nothing,
            Some(length) => RequestFraming::Length(length),
            None => RequestFraming::Chunked,
        };
        *self = Self { before: std::mem::take(&mut self.before), framing, left: hint.unwrap_or(0), ..Self::nothing() };
        self.before.clear();
        write_head(&request, framing, &mut self.before);
        (self.ended, self.begun, self.flushed) = (framing == RequestFraming::Nothing, false, false);
        self.body = request.into_body();
    }

    /// All of it was sent.
    pub fn is_done(&self) -> bool {
        self.flushed && self.broken.is_none()
    }

    /// Something of it is still to be sent.
    pub fn is_under_way(&self) -> bool {
        !self.flushed && self.broken.is_none()
    }

    /// Goes on as far as it can. That the upstream takes no more is noted: there may be an answer all the same.
    ///
    /// # Errors
    /// Where nothing could be sent, or the body is not what it should be.
    pub fn poll(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Result<(), Unanswered> {
        if !self.is_under_way() {
            return Ok(());
        }
        match self.poll_write(stream, context) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => (self.flushed, self.body) = (true, RequestBody::Empty),
            Poll::Ready(Err(error @ Broken::Io(_))) if !self.begun => return Err(Unanswered::Unsent(error)),
            Poll::Ready(Err(error @ Broken::Io(_))) => self.broken = Some(error),
            Poll::Ready(Err(error)) => return Err(Unanswered::Broken(error)),
        }
        Ok(())
    }

    fn poll_write(&mut self, stream: &mut Stream, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let waits = !self.ended && self.data.is_empty() && self.after.is_empty() && self.poll_body(context)?.is_pending();
            if self.before.is_empty() && self.data.is_empty() && self.after.is_empty() {
                // TLS keeps what the socket did not take.
                ready!(Pin::new(&mut *stream).poll_flush(context))?;
                match (self.ended, waits) {
                    (true, _) => return Poll::Ready(Ok(())),
                    (false, true) => return Poll::Pending,
                    (false, false) => continue,
                }
            }
            let written = if self.data.is_empty() && self.after.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(context, &self.before))?
            } else {
                let slices = [IoSlice::new(&self.before), IoSlice::new(&self.data), IoSlice::new(self.after)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(context, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.begun = true;
            self.advance(written);
        }
    }

    fn advance(&mut self, mut written: usize) {
        for buffer in [&mut self.before as &mut dyn Buf, &mut self.data, &mut self.after] {
            let taken = written.min(buffer.remaining());
            buffer.advance(taken);
            written -= taken;
        }
    }

    /// The next piece of the body is to be written.
    fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()? {
            None => self.end(None),
            Some(frame) => match frame.into_data() {
                Ok(data) => self.piece(data),
                Err(frame) => self.end(frame.trailers_ref()),
            },
        }
        .into()
    }

    fn piece(&mut self, data: Bytes) -> Result<(), Broken> {
        match self.framing {
            RequestFraming::Chunked if data.is_empty() => return Ok(()),
            RequestFraming::Chunked => {
                self.before.put_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.after = b"\r\n";
            }
            RequestFraming::Length(_) | RequestFraming::Nothing => {
                self.left = self.left.checked_sub(data.len() as u64).ok_or(Broken::Length)?;
                self.ended = self.left == 0;
            }
        }
        self.data = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) -> Result<(), Broken> {
        self.ended = true;
        if self.framing != RequestFraming::Chunked {
            return if self.left == 0 { Ok(()) } else { Err(Broken::Length) };
        }
        self.before.put_slice(b"0\r\n");
        for (name, value) in trailers.into_iter().flatten() {
            write_field(name, value, &mut self.before);
        }
        self.before.put_slice(b"\r\n");
        Ok(())
    }
}
