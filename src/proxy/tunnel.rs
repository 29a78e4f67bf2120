//! A connection that has changed its protocol, such as to WebSocket: both sides are joined, and bytes pass unseen.

use super::body::{Exchange, ResponseBody};
use super::open_work::OpenWork;
use super::upstream::{Held, UpstreamBody};
use super::way::Way;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::io::Cursor;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Joins the app's connection with the upstream's, once both have changed.
pub fn join(
    app: OnUpgrade,
    response: Response<UpstreamBody>,
    held: Held,
    exchange: Exchange,
    way: &Arc<Way>,
    open: &OpenWork,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    let way = way.clone();
    way.meters.open.inc();
    open.spawn(async move {
        // The connection and the account's place are held as long as bytes pass.
        let _place = (held, exchange);
        if let (UpstreamBody::Http1(answer), Ok(app)) = (body, app.await)
            && let Some((stream, first)) = answer.into_upgraded()
        {
            let (reader, writer) = tokio::io::split(stream);
            let mut upstream = tokio::io::join(Cursor::new(first).chain(reader), writer);
            // Whoever breaks off, the other learns it by the end of its connection.
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(app), &mut upstream).await;
        }
        way.meters.open.dec();
    });
    let protocol = parts.headers.get(UPGRADE).cloned();
    super::head::strip_hop_by_hop(&mut parts.headers);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        parts.headers.insert(UPGRADE, protocol);
    }
    Response::from_parts(parts, ResponseBody::empty())
}
