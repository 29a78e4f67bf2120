//! What comes in, and what goes out: a request finds its route or is refused, and has an answer whatever happens.

use super::body::ResponseBody;
use super::clock::moment;
use super::fault::{Code, ERROR_HEADER, Envelope, Fault, code_header};
use super::forward::{Job, Worker};
use super::head;
use super::table::{Gate, Lost};
use super::tape::hear_out;
use super::way::Way;
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body, Incoming};
use std::sync::Arc;

/// Answers a request.
pub async fn answer(gate: &Gate, worker: &Worker, request: Request<Incoming>) -> Response<ResponseBody> {
    let id = head::request_id(request.headers()).cloned().unwrap_or_else(|| worker.ids.next());
    let way = match admit(gate, &request) {
        Ok(way) => way,
        Err((fault, envelope)) => {
            let mut response = own(&fault, envelope, None, &id);
            // Where an improper request ends is a matter of opinion: nothing more is read after it.
            if fault.code == Code::BadRequest && request.version() <= http::Version::HTTP_11 {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            } else if !request.body().is_end_stream() {
                hear_out(request.into_body());
            }
            return response;
        }
    };
    let job = Job::new(gate, way, worker, request, &id);
    let mut response = match job.run().await {
        Ok(response) => response,
        Err(fault) => own(&fault, way.envelope, Some(way), &id),
    };
    let headers = response.headers_mut();
    if !headers.contains_key(head::REQUEST_ID) {
        headers.insert(head::REQUEST_ID, id);
    }
    response
}

/// The route that a request may take.
fn admit<'a>(gate: &'a Gate, request: &Request<Incoming>) -> Result<&'a Arc<Way>, (Fault, Envelope)> {
    // Where there is one shape for all, also errors without a route have it.
    let shape = gate.ways().first().map_or(Envelope::Plain, |way| way.envelope);
    let (method, uri) = (request.method(), request.uri());
    let refuse = |fault| (fault, shape);
    head::judge(method, uri, request.version(), request.headers()).map_err(|why| refuse(Fault::new(Code::BadRequest, why.0)))?;
    let way = gate.way(method, uri.path()).map_err(|lost| {
        refuse(match lost {
            Lost::NoPath => Fault::new(Code::RouteNotFound, "No route has this path."),
            Lost::NoMethod => Fault::new(Code::MethodNotAllowed, format!("The route of this path does not take {method}.")),
        })
    })?;
    if let Some(clients) = &gate.clients {
        clients.admit(request.headers()).map_err(|fault| (fault, way.envelope))?;
    }
    Ok(way)
}

/// An answer of the proxy's own.
fn own(fault: &Fault, envelope: Envelope, way: Option<&Way>, id: &HeaderValue) -> Response<ResponseBody> {
    let status = fault.code.status();
    let name = id.to_str().unwrap_or_default();
    if let Some(way) = way {
        way.meters.count(None, status);
        // Each second one of them is enough to know: an outage must not fill a disk.
        if let Some(untold) = way.meters.tell(moment()) {
            let code = fault.code.name();
            let which = if status.is_server_error() { "not answered by the upstream" } else { "refused" };
            tracing::warn!(route = way.name, code, request_id = name, untold, "{which}: {}", fault.message);
        }
    } else {
        tracing::debug!(code = fault.code.name(), request_id = name, "refused: {}", fault.message);
    }
    let body = fault.body(envelope, way.map(|way| way.name.as_str()), name);
    let mut response = Response::new(ResponseBody::own(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ERROR_HEADER, code_header(fault.code));
    headers.insert(head::REQUEST_ID, id.clone());
    if let Some(header) = envelope.id_header() {
        headers.insert(header, id.clone());
    }
    if let Some(seconds) = fault.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"oauth-proxy\""));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the future that a function makes.
    fn size<'a, F: Future>(_: fn(&'a Gate, &'a Worker, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_is_copied_for_each_request_is_small() {
        let bytes = size(answer);
        assert!(bytes <= 3200, "{bytes} bytes: what is rare belongs in a box");
    }
}
