//! A connection that has changed its protocol, such as to WebSocket: both sides are joined, and bytes pass unseen.

use super::body::{Exchange, ResponseBody};
use super::open_work::OpenWork;
use super::upstream::Held;
use super::way::Way;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;

/// Joins the app's connection with the upstream's, once both have changed.
pub fn join(
    app: OnUpgrade,
    mut response: Response<Incoming>,
    held: Held,
    exchange: Exchange,
    way: &Arc<Way>,
    open: &OpenWork,
) -> Response<ResponseBody> {
    let upstream = hyper::upgrade::on(&mut response);
    let way = way.clone();
    way.meters.open.inc();
    open.spawn(async move {
        // The connection and the account's place are held as long as bytes pass.
        let _place = (held, exchange);
        if let Ok((app, upstream)) = tokio::try_join!(app, upstream) {
            let (mut app, mut upstream) = (TokioIo::new(app), TokioIo::new(upstream));
            // Whoever breaks off, the other learns it by the end of its connection.
            let _ = tokio::io::copy_bidirectional(&mut app, &mut upstream).await;
        }
        way.meters.open.dec();
    });
    let protocol = response.headers().get(UPGRADE).cloned();
    super::head::strip_hop_by_hop(response.headers_mut());
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
    }
    let (parts, _) = response.into_parts();
    Response::from_parts(parts, ResponseBody::empty())
}
