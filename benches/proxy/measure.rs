//! One measure of one subject.

use crate::case::{Case, ONE_KIB};
use crate::client::{Client, clean};
use crate::cost::Memory;
use crate::load::failure::Failure;
use crate::load::report::{Latency, Report};
use crate::load::requests::Requests;
use crate::load::streams::Streams;
use crate::load::tally::Tally;
use crate::subject::Subject;
use crate::testbed::{Error, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Before anything counts: connections are opened, buffers have grown.
const WARM_UP: Duration = Duration::from_millis(300);
/// Streams held open at once.
pub const STREAMS: usize = 1000;
/// How long their opening may take.
const OPENED_WITHIN: Duration = Duration::from_secs(15);
/// An event on each stream every 200 ms.
const EVENTS: &str = "/events/200";

/// What a request costs a subject.
#[derive(Clone, Copy)]
pub struct Cost {
    /// Processor time per request, in microseconds.
    pub processor: f64,
    /// Requests per second, in the closed loop.
    pub rate: f64,
    /// How much of its core it used: below 1, generator and upstream were the narrower place.
    pub busy: f64,
}

/// What held streams cost.
#[derive(Clone, Copy)]
pub struct Held {
    /// With all of them open.
    pub memory: Memory,
    /// The age of an event at its receipt.
    pub latency: Latency,
    /// Processor time per event, in microseconds.
    pub processor: f64,
}

/// As many requests as are answered.
pub async fn cost(client: &Client, subject: &Subject, case: &Case, span: Duration) -> Result<Cost> {
    let what = format!("{}, {}", subject.kind.name(), case.name);
    let job = client.job(subject.address, case.path, case.up)?;
    let load = Requests { job, connections: case.connections, streams: 1, warm_up: WARM_UP, duration: span, rate: None };
    let tally = Arc::new(Tally::new());
    let watch = async {
        tokio::time::sleep(WARM_UP).await;
        let (began, processor, ended) = (Instant::now(), subject.meter.processor()?, tally.ended());
        tokio::time::sleep(span.saturating_sub(Duration::from_millis(20))).await;
        #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let ended = (tally.ended() - ended) as f64;
        let (took, processor) = (began.elapsed().as_secs_f64(), subject.meter.processor()? - processor);
        Ok(Cost { processor: processor / ended * 1e6, rate: ended / took, busy: processor / took })
    };
    let (report, cost) = tokio::join!(load.run(&tally), watch);
    let report = clean(report?, &what)?;
    if report.bytes != report.counted * case.down {
        return Err(format!("{what}: {} answers had {} bytes in all", report.counted, report.bytes).into());
    }
    cost
}

/// Requests at a rate that each subject should bear; one that does not has an infinite latency.
pub async fn latency(client: &Client, address: SocketAddr, name: &str, rate: f64, span: Duration) -> Result<Latency> {
    let job = client.job(address, ONE_KIB.path, 0)?;
    let load = Requests { job, connections: ONE_KIB.connections, streams: 1, warm_up: WARM_UP, duration: span, rate: Some(rate) };
    let mut report = load.run(&Arc::new(Tally::new())).await?;
    if report.failures.remove(&Failure::Unsent).is_some() {
        return Ok(Latency::INFINITE);
    }
    let report = clean(report, &format!("{name} at {rate:.0} requests/s"))?;
    report.latency.ok_or_else(|| "requests without a latency".into())
}

/// A thousand streams, held for a while. `subject` is none where the upstream is spoken to directly.
pub async fn held(client: &Client, address: SocketAddr, subject: Option<&Subject>, span: Duration) -> Result<Held> {
    let name = subject.map_or("direct", |subject| subject.kind.name());
    let (job, ramp) = (client.job(address, EVENTS, 0)?, Duration::from_secs(1));
    let load = Streams { job, connections: STREAMS, streams: 1, ramp, duration: OPENED_WITHIN + span * 2 };
    let (tally, open) = (Arc::new(Tally::new()), Arc::new(AtomicUsize::new(0)));
    let watch = async {
        all_open(&open).await.map_err(|error| format!("{name}: {error}"))?;
        let processor = || subject.map_or(Ok(0.0), |subject| subject.meter.processor());
        let (before, began) = (processor()?, Instant::now());
        tally.restart();
        tokio::time::sleep(span).await;
        let (report, after) = (Report::of(&tally, began.elapsed()), processor()?);
        let memory = subject.map_or(Ok(Memory::default()), |subject| subject.meter.memory())?;
        all_open(&open).await.map_err(|error| format!("{name}, at the end: {error}"))?;
        Ok::<_, Error>((report, memory, after - before))
    };
    let (report, memory, processor) = tokio::select! {
        watched = watch => watched?,
        report = load.run(&tally, &open) => return Err(format!("{name}: the streams took too long\n{report}").into()),
    };
    let report = clean(report, &format!("{name}, streams"))?;
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let processor = processor / report.counted as f64 * 1e6;
    Ok(Held { memory, latency: report.latency.ok_or("events without a stamp")?, processor })
}

/// Waits until every stream is open.
async fn all_open(open: &AtomicUsize) -> Result<()> {
    let began = Instant::now();
    while open.load(Ordering::Relaxed) < STREAMS {
        if began.elapsed() > OPENED_WITHIN {
            return Err(format!("only {} of {STREAMS} streams are open", open.load(Ordering::Relaxed)).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
