//! The load generator as a client of every subject.

use crate::load::job::Job;
use crate::load::report::Report;
use crate::load::requests::Requests;
use crate::load::tally::Tally;
use crate::load::target::Target;
use crate::testbed::Result;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The key with which it presents itself; the upstream refuses it, so that a proxy which forwards it is found out.
pub const KEY: &str = "key-of-the-benchmark";

/// Headers that a client of an API sends.
pub struct Client {
    headers: HeaderMap,
}

impl Client {
    /// With an Authorization of `Bearer <key>`.
    pub fn new(key: &str) -> Result<Self> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {key}"))?);
        headers.insert(HeaderName::from_static("accept"), HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("user-agent"), HeaderValue::from_static("bench/1"));
        Ok(Self { headers })
    }

    /// A GET, or a POST of so many bytes.
    pub fn job(&self, address: SocketAddr, path: &str, body_bytes: usize) -> Result<Job> {
        let target = Target::parse(&format!("http://{address}{path}"), None, false)?;
        let mut job = Job::get(target);
        job.headers.clone_from(&self.headers);
        job.numbered = Some(HeaderName::from_static("x-session-id"));
        job.timeout = Duration::from_secs(10);
        if body_bytes > 0 {
            job.method = Method::POST;
            job.body = Bytes::from(vec![b'x'; body_bytes]);
        }
        Ok(job.complete()?)
    }

    /// Whether one GET is answered well.
    pub async fn gets(&self, address: SocketAddr, path: &str) -> bool {
        let Ok(mut job) = self.job(address, path, 0) else { return false };
        job.timeout = Duration::from_secs(1);
        let (connections, streams, warm_up, duration) = (1, 1, Duration::ZERO, Duration::from_millis(1));
        let load = Requests { job, connections, streams, warm_up, duration, rate: None };
        load.run(&Arc::new(Tally::new())).await.is_ok_and(|report| report.counted > 0 && report.failed() == 0)
    }
}

/// Any error fails the benchmark: a proxy that is fast because it drops things is not fast.
pub fn clean(report: Report, what: &str) -> Result<Report> {
    if report.failed() > 0 || report.counted == 0 || report.unnumbered > 0 {
        return Err(format!("{what}: not every answer was right\n{report}").into());
    }
    Ok(report)
}
