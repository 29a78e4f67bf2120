//! Before it measures, the benchmark proves that it would notice: each way in which an answer can be wrong is tried on an
//! upstream that does it, and has to come out as an error of its kind.

use crate::client::{Client, KEY, clean};
use crate::load::failure::Failure;
use crate::load::report::Report;
use crate::load::requests::Requests;
use crate::load::streams::Streams;
use crate::load::tally::Tally;
use crate::testbed::Result;
use crate::testbed::process::free_port;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long each wrong thing is tried.
const TRIED: Duration = Duration::from_millis(150);

/// `direct` has a token that the upstream takes.
pub async fn prove(direct: &Client, upstream: SocketAddr) -> Result<()> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let stranger = Client::new(KEY)?;
    clean(requests(direct, upstream, "/bytes/1024", 0).await?, "a good upstream")?;
    clean(streams(direct, upstream, "/events/10").await?, "a good stream")?;
    let wrong = [
        ("a token that nobody published", requests(&stranger, upstream, "/bytes/1024", 0).await?, Failure::Status(401, None)),
        ("a status 500", requests(direct, upstream, "/status/500", 0).await?, Failure::Status(500, None)),
        ("a body that was cut on its way up", requests(direct, upstream, "/take/4096", 1024).await?, Failure::Status(422, None)),
        ("a body that was cut on its way down", requests(direct, upstream, "/cut/65536", 0).await?, Failure::CutBody),
        ("no answer", requests(direct, upstream, "/silence", 0).await?, Failure::Timeout),
        ("no listener", requests(direct, nowhere, "/bytes/0", 0).await?, Failure::Connect),
        ("an event that was lost", streams(direct, upstream, "/events-lost/10").await?, Failure::EventLost),
        ("events that were swapped", streams(direct, upstream, "/events-swapped/10").await?, Failure::EventOutOfOrder),
        ("a stream that is silent", streams(direct, upstream, "/silence").await?, Failure::Timeout),
    ];
    for (what, report, kind) in wrong {
        if !report.failures.contains_key(&kind) || clean(report.clone(), what).is_ok() {
            return Err(format!("{what} was not noticed as '{kind}'\n{report}").into());
        }
    }
    stalls_are_felt(direct, upstream).await
}

/// One request of 250 stalls for 100 ms. Due every millisecond on one connection, some hundred requests are late by it: the
/// open loop says so in its mean, a closed loop cannot.
async fn stalls_are_felt(direct: &Client, upstream: SocketAddr) -> Result<()> {
    let job = direct.job(upstream, "/stalls/100", 0)?;
    let (connections, streams, warm_up, duration) = (1, 1, Duration::ZERO, Duration::from_millis(500));
    let open = Requests { job, connections, streams, warm_up, duration, rate: Some(1000.0) };
    let mean = |report: Report| report.latency.map_or(0.0, |latency| latency.mean);
    let felt = mean(clean(open.run(&Arc::new(Tally::new())).await?, "stalls at a rate")?);
    // Two stalls of 100 ms delay by 50 ms on average two fifths of all.
    if felt < 10_000.0 {
        return Err(format!(
            "stalls of 100 ms were felt by {felt:.0} µs on average only: requests were not counted from when they were due"
        )
        .into());
    }
    Ok(())
}

async fn requests(client: &Client, address: SocketAddr, path: &str, body: usize) -> Result<Report> {
    let mut job = client.job(address, path, body)?;
    job.timeout = TRIED;
    let load = Requests { job, connections: 2, streams: 1, warm_up: Duration::ZERO, duration: TRIED, rate: None };
    Ok(load.run(&Arc::new(Tally::new())).await?)
}

async fn streams(client: &Client, address: SocketAddr, path: &str) -> Result<Report> {
    let mut job = client.job(address, path, 0)?;
    job.timeout = TRIED;
    let load = Streams { job, connections: 2, streams: 1, ramp: Duration::from_millis(1), duration: TRIED * 2 };
    Ok(load.run(&Arc::new(Tally::new()), &Arc::default()).await)
}
