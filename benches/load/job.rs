//! What every request of a load is.

use super::failure::Failure;
use super::target::Target;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};
use hyper::{Method, Request, Response};
use std::time::Duration;

/// The request, and how long one is waited for.
#[derive(Clone)]
pub struct Job {
    pub target: Target,
    pub method: Method,
    pub headers: HeaderMap,
    /// A header whose value is the number of who sends: what tells sessions apart.
    pub numbered: Option<HeaderName>,
    pub body: Bytes,
    pub http2: bool,
    /// From sending (open loop: from when it was due) to the last byte; of a stream: from one event to the next.
    pub timeout: Duration,
}

impl Job {
    /// A GET without headers of its own.
    pub fn get(target: Target) -> Self {
        Self {
            target,
            method: Method::GET,
            headers: HeaderMap::new(),
            numbered: None,
            body: Bytes::new(),
            http2: false,
            timeout: Duration::from_secs(30),
        }
    }

    /// Sets what HTTP/1.1 wants beside the caller's headers; to be called once, before the load.
    pub fn complete(mut self) -> Result<Self, InvalidHeaderValue> {
        if !self.http2 {
            let authority = HeaderValue::from_str(&self.target.authority)?;
            self.headers.entry(HOST).or_insert(authority);
        }
        Ok(self)
    }

    /// The job of one who sends, of many.
    pub fn of_sender(&self, number: usize) -> Self {
        let mut job = self.clone();
        if let Some(name) = &self.numbered {
            job.headers.insert(name, HeaderValue::from(number));
        }
        job
    }

    /// One more of it. Nothing is formatted or parsed: a load generator that works hard measures itself.
    pub fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = if self.http2 { self.target.whole.clone() } else { self.target.path.clone() };
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// Whether this response counts, by its head.
    pub fn judge<B>(response: &Response<B>) -> Option<Failure> {
        let status = response.status();
        let own = response.headers().get("x-oauth-proxy-error").and_then(|value| value.to_str().ok());
        (!status.is_success()).then(|| Failure::Status(status.as_u16(), own.map(str::to_owned)))
    }
}
