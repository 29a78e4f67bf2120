//! Many requests: as fast as they are answered, or at a rate.

use super::alarm::Alarm;
use super::failure::Failure;
use super::job::Job;
use super::line::Line;
use super::report::Report;
use super::tally::Tally;
use http_body_util::BodyExt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After a failed connect; without it, a target that is away would be asked as fast as a kernel can refuse.
const PAUSE: Duration = Duration::from_millis(10);
/// How long after the end a request that was due before it may still be sent.
const GRACE: Duration = Duration::from_secs(1);

/// A load of requests.
#[derive(Clone)]
pub struct Requests {
    pub job: Job,
    pub connections: usize,
    /// HTTP/2: requests under way at once on each connection.
    pub streams: usize,
    /// Sent and answered, and not counted.
    pub warm_up: Duration,
    /// What is counted, after the warm-up.
    pub duration: Duration,
    /// Requests per second of all connections together: the open loop. None: the closed loop.
    pub rate: Option<f64>,
}

impl Requests {
    /// Runs it. Ends at most the job's timeout and a second after its time.
    pub async fn run(&self, tally: &Arc<Tally>) -> io::Result<Report> {
        let lines = Line::open(self.job.http2, self.connections, self.streams);
        let all = lines.len();
        let from = Instant::now() + self.warm_up;
        let span = Span { from, end: from + self.duration };
        let mut senders = tokio::task::JoinSet::new();
        for (number, line) in lines.into_iter().enumerate() {
            let sender = Sender { job: self.job.of_sender(number), line, tally: tally.clone(), span };
            match self.rate {
                None => senders.spawn(sender.closed_loop()),
                Some(rate) => {
                    #[expect(clippy::cast_precision_loss, reason = "counts of connections are small")]
                    let (every, first) = (all as f64 / rate, number as f64 / rate);
                    let schedule = Schedule { first: Instant::now() + Duration::from_secs_f64(first), every };
                    senders.spawn(sender.open_loop(schedule, Alarm::new()?))
                }
            };
        }
        while senders.join_next().await.is_some() {}
        Ok(Report::of(tally, from.elapsed().min(self.duration)))
    }
}

/// When it counts.
#[derive(Clone, Copy)]
struct Span {
    from: Instant,
    end: Instant,
}

/// When one sender's requests are due.
struct Schedule {
    first: Instant,
    /// Seconds.
    every: f64,
}

impl Schedule {
    fn due(&self, number: u32) -> Instant {
        self.first + Duration::from_secs_f64(self.every * f64::from(number))
    }
}

struct Sender {
    job: Job,
    line: Line,
    tally: Arc<Tally>,
    span: Span,
}

impl Sender {
    async fn closed_loop(mut self) {
        while Instant::now() < self.span.end {
            self.one(Instant::now()).await;
        }
    }

    async fn open_loop(mut self, schedule: Schedule, alarm: Alarm) {
        for number in 0.. {
            let due = schedule.due(number);
            if due >= self.span.end {
                return;
            }
            if Instant::now() > self.span.end + GRACE {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive count")]
                let rest = ((self.span.end - due).as_secs_f64() / schedule.every) as u64 + 1;
                return self.tally.failure(Failure::Unsent, rest);
            }
            if alarm.until(due).await.is_err() {
                return self.tally.failure(Failure::Unsent, 1);
            }
            self.one(due).await;
        }
    }

    /// One request, from when it was due to the last byte of its answer.
    async fn one(&mut self, due: Instant) {
        let exchange = tokio::time::timeout_at((due + self.job.timeout).into(), exchange(&mut self.line, &self.job)).await;
        match exchange {
            Ok(Ok(bytes)) => self.tally.success(Some(due.elapsed()), bytes, due >= self.span.from),
            Ok(Err(failure)) => {
                let away = failure == Failure::Connect;
                self.tally.failure(failure, 1);
                if away {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(_) => {
                self.line.hang_up();
                self.tally.failure(Failure::Timeout, 1);
            }
        }
    }
}

/// Sends one and reads the answer to its end: the bytes of its body.
async fn exchange(line: &mut Line, job: &Job) -> Result<u64, Failure> {
    let response = line.send(job).await?;
    let failure = Job::judge(&response);
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::CutBody)?;
        bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    failure.map_or(Ok(bytes), Err)
}
