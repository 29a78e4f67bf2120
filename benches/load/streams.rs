//! Many streams of server-sent events, held open.

use super::events::{Order, Parser};
use super::failure::Failure;
use super::job::Job;
use super::line::Line;
use super::report::Report;
use super::tally::Tally;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// After a stream has ended or failed, before it is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// A load of streams.
#[derive(Clone)]
pub struct Streams {
    pub job: Job,
    pub connections: usize,
    /// HTTP/2: streams on each connection.
    pub streams: usize,
    /// Over which the streams are opened, one after another: a thousand at once would be a test of the backlog. What comes
    /// during it does not count.
    pub ramp: Duration,
    /// How long they are held after that.
    pub duration: Duration,
}

impl Streams {
    /// Runs it; `open` tells how many streams are open now.
    pub async fn run(&self, tally: &Arc<Tally>, open: &Arc<AtomicUsize>) -> Report {
        let lines = Line::open(self.job.http2, self.connections, self.streams);
        let began = Instant::now();
        let (all, from) = (u32::try_from(lines.len()).unwrap_or(u32::MAX), began + self.ramp);
        let end = from + self.duration;
        let mut listeners = tokio::task::JoinSet::new();
        for (number, line) in lines.into_iter().enumerate() {
            let begin = began + self.ramp / all * u32::try_from(number).unwrap_or_default();
            let mut listener = Listener { job: self.job.of_sender(number), line, tally: tally.clone(), open: open.clone(), from };
            listeners.spawn(async move {
                tokio::time::sleep_until(begin.into()).await;
                let _ = tokio::time::timeout_at(end.into(), listener.listen()).await;
            });
        }
        while listeners.join_next().await.is_some() {}
        Report::of(tally, self.duration)
    }
}

struct Listener {
    job: Job,
    line: Line,
    tally: Arc<Tally>,
    open: Arc<AtomicUsize>,
    from: Instant,
}

/// One stream that is open; counted down when it is dropped, however that comes.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    /// Holds a stream until it is dropped. A stream that ends properly is opened again: that is the upstream's right.
    async fn listen(&mut self) {
        loop {
            if let Err(failure) = self.stream().await {
                self.tally.failure(failure, 1);
                self.line.hang_up();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn stream(&mut self) -> Result<(), Failure> {
        let head = tokio::time::timeout(self.job.timeout, self.line.send(&self.job)).await;
        let response = head.map_err(|_| Failure::Timeout)??;
        if let Some(failure) = Job::judge(&response) {
            return Err(failure);
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(&self.open);
        self.events(response.into_body()).await
    }

    async fn events(&self, mut body: Incoming) -> Result<(), Failure> {
        let (mut parser, mut order) = (Parser::default(), Order::default());
        loop {
            let frame = tokio::time::timeout(self.job.timeout, body.frame()).await.map_err(|_| Failure::Timeout)?;
            let Some(frame) = frame else { return Ok(()) };
            let Ok(data) = frame.map_err(|_| Failure::CutBody)?.into_data() else { continue };
            let counts = Instant::now() >= self.from;
            parser.feed(&data, |event| {
                self.tally.success(event.age(), 0, counts);
                match event.number {
                    None => self.tally.unnumbered(),
                    Some(number) => {
                        if let Some((failure, times)) = order.follow(number) {
                            self.tally.failure(failure, times);
                        }
                    }
                }
            });
        }
    }
}
