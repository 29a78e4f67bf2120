//! APIs that workflows ask: one request, and an answer that is read to its end or as a stream of events, bounded in bytes. Their
//! callers bound it in time.

use super::outbound::{Advice, Outbound, fault_with};
use crate::oauth::{FaultKind, TlsSettings};
use eventsource_stream::{EventStream, Eventsource};
use futures::StreamExt;
use futures::stream::BoxStream;
use http::HeaderMap;
use url::Url;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The address may not be asked; not a byte was sent.
    NotPermitted(String),
    /// There is no connection; not a byte was sent.
    NotSent(String),
    /// The request, or a part of it, was sent.
    Lost(String),
    /// There is more of an answer than may be read.
    TooLarge(String),
}

/// An answer whose body is not read yet.
pub struct Opened {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    place: String,
    response: reqwest::Response,
}

/// Whom a step's fault sends where.
const ADVICE: Advice = Advice { url: "the step's url", ca: "the step's caBundleRef" };

impl Outbound {
    /// Sends a request on a connection of its own, where it must not be sent twice: a kept one may end while it is being used.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn open(&self, request: http::Request<Vec<u8>>, tls: &TlsSettings, once: bool) -> Result<Opened, Unanswered> {
        let place = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let refused = |message: String| Unanswered::NotPermitted(message);
        let url = Url::parse(&request.uri().to_string()).map_err(|_| refused("The address is none.".into()))?;
        self.admits(&url, &place).map_err(|fault| refused(fault.message))?;
        let client = self.client(tls, once).map_err(|fault| refused(fault.message))?;
        let request =
            reqwest::Request::try_from(request).map_err(|_| refused(format!("No request to {place} could be composed.")))?;
        let response = client.execute(request).await.map_err(|error| unanswered(&error, &place))?;
        Ok(Opened { status: response.status().as_u16(), headers: response.headers().clone(), place, response })
    }
}

impl Opened {
    /// The whole body, of at most `most` bytes.
    ///
    /// # Errors
    /// [`Unanswered::Lost`] where it is cut off, [`Unanswered::TooLarge`].
    pub async fn body(mut self, most: usize) -> Result<Vec<u8>, Unanswered> {
        let mut body = vec![];
        while let Some(chunk) = self.response.chunk().await.map_err(|error| lost(&error, &self.place))? {
            if body.len() + chunk.len() > most {
                return Err(too_large(&self.place, most));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The body as server-sent events, of at most `most` bytes in all.
    pub fn events(self, most: usize) -> Events {
        let place = self.place;
        let mut read = 0;
        let chunks = futures::stream::unfold(Some(self.response), move |response| {
            let place = place.clone();
            async move {
                let mut response = response?;
                match response.chunk().await {
                    Ok(Some(chunk)) => Some((Ok(chunk.to_vec()), Some(response))),
                    Ok(None) => None,
                    Err(error) => Some((Err(lost(&error, &place)), None)),
                }
            }
        });
        let bounded = chunks.map(move |chunk| {
            let chunk: Vec<u8> = chunk?;
            read += chunk.len();
            if read > most { Err(too_large("the server", most)) } else { Ok(chunk) }
        });
        Events(bounded.boxed().eventsource())
    }
}

/// Server-sent events.
pub struct Events(EventStream<BoxStream<'static, Result<Vec<u8>, Unanswered>>>);

impl Events {
    /// The next event, its type and its data; `None` at the end.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn next(&mut self) -> Option<Result<(String, String), Unanswered>> {
        Some(match self.0.next().await? {
            Ok(event) => Ok((event.event, event.data)),
            Err(eventsource_stream::EventStreamError::Transport(error)) => Err(error),
            Err(_) => Err(Unanswered::Lost("The stream holds what is no text.".into())),
        })
    }
}

fn unanswered(error: &reqwest::Error, place: &str) -> Unanswered {
    let fault = fault_with(error, place, &ADVICE);
    match fault.kind {
        FaultKind::AddressRefused => Unanswered::NotPermitted(fault.message),
        FaultKind::NameNotResolved | FaultKind::Tls => Unanswered::NotSent(fault.message),
        _ if error.is_connect() || error.is_builder() => Unanswered::NotSent(fault.message),
        _ => Unanswered::Lost(fault.message),
    }
}

fn lost(error: &reqwest::Error, place: &str) -> Unanswered {
    Unanswered::Lost(fault_with(error, place, &ADVICE).message)
}

fn too_large(place: &str, most: usize) -> Unanswered {
    Unanswered::TooLarge(format!("The answer of {place} is larger than maxResponseBytes ({most}); it is not read further."))
}
