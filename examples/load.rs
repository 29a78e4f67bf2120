//! Puts load on an HTTP service and tells how it bore it: your own deployment of the proxy, or anything else.
//!
//! `cargo run --release --example load -- --url http://127.0.0.1:15080/path --connections 64 --seconds 10`
//!
//! Prints latency, requests per second, and errors by kind; ends with 1 when there was any error. docs/performance.md says how to
//! read it.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program for a terminal")]

#[path = "../benches/load/mod.rs"]
mod load;

use clap::Parser;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use load::job::Job;
use load::report::Report;
use load::requests::Requests;
use load::streams::Streams;
use load::tally::Tally;
use load::target::Target;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Puts load on an HTTP service and tells how it bore it.
#[derive(Parser)]
struct Arguments {
    /// Where every request goes
    #[arg(long)]
    url: String,
    /// Connections held open; with --sse and HTTP/1.1 also the number of streams
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// With --http2: requests or streams at once on each connection
    #[arg(long, default_value_t = 1, requires = "http2")]
    streams: usize,
    /// How long it counts
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Before it counts; with --sse the time over which the streams are opened
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Open loop: so many requests per second in all, each one's latency counted from when it was due
    #[arg(long, conflicts_with = "sse")]
    rate: Option<f64>,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Sends a body of so many bytes with each request
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// 'name: value'; may be given more than once
    #[arg(long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// A header whose value is the number of the connection, as a session's
    #[arg(long)]
    numbered_header: Option<HeaderName>,
    /// HTTP/2; without TLS by prior knowledge
    #[arg(long)]
    http2: bool,
    /// Holds streams of server-sent events open; an event's data is `<n>` or `<n> <nanoseconds since 1970>`
    #[arg(long)]
    sse: bool,
    /// How long an answer, or the next event, is waited for
    #[arg(long, default_value_t = 30.0)]
    timeout_seconds: f64,
    /// PEM to trust in place of the platform's roots
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Threads that send
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Prints JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(&Arguments::parse()) {
        Ok(report) if report.failed() == 0 && report.counted > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<Report> {
    let job = job(arguments)?;
    let (warm_up, duration) = (seconds(arguments.warm_up_seconds)?, seconds(arguments.seconds)?);
    let (connections, streams) = (arguments.connections.max(1), arguments.streams.max(1));
    let (rate, sse) = (arguments.rate, arguments.sse);
    if rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err("--rate is to be above zero".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(arguments.threads.max(1)).enable_all().build()?;
    let tally = Arc::new(Tally::new());
    let report = runtime.block_on(async move {
        // In a task, not on the thread that waits for it: with one thread, one thread works.
        let running = tokio::spawn(async move {
            if sse {
                let load = Streams { job, connections, streams, ramp: warm_up, duration };
                return Ok(load.run(&tally, &Arc::default()).await);
            }
            Requests { job, connections, streams, warm_up, duration, rate }.run(&tally).await
        });
        running.await
    })??;
    println!("{}", if arguments.json { serde_json::to_string_pretty(&report.to_json())? } else { report.to_string() });
    Ok(report)
}

fn job(arguments: &Arguments) -> Result<Job> {
    let authority = arguments.ca.as_ref().map(std::fs::read).transpose()?;
    let target = Target::parse(&arguments.url, authority.as_deref(), arguments.http2)?;
    let mut headers = HeaderMap::new();
    for (name, value) in &arguments.headers {
        headers.append(name, value.clone());
    }
    let job = Job {
        target,
        method: arguments.method.clone(),
        headers,
        numbered: arguments.numbered_header.clone(),
        body: Bytes::from(vec![b'x'; arguments.body_bytes]),
        http2: arguments.http2,
        timeout: seconds(arguments.timeout_seconds)?,
    };
    Ok(job.complete()?)
}

fn seconds(value: f64) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(value)?)
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').ok_or("write it as 'name: value'")?;
    Ok((name.trim().parse()?, value.trim().parse()?))
}
