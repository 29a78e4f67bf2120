//! A thousand streams for a minute, while the token is replaced every five seconds: each event arrives, once and in order.

use crate::testbed::Result;
use crate::testbed::authorization_server::random;
use crate::testbed::proxy::Proxy;
use crate::testbed::token_volume::TokenVolume;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

const STREAMS: usize = 1000;
const EVENTS: usize = 60;
const EVERY: Duration = Duration::from_secs(1);
const ROTATION: Duration = Duration::from_secs(5);

type Tokens = Arc<Mutex<BTreeSet<String>>>;

/// An API that streams numbered events to whoever has one of the tokens.
async fn api(tokens: Tokens) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tokens = tokens.clone();
            tokio::spawn(async move {
                let answer = service_fn(|request: Request<Incoming>| {
                    let token =
                        request.headers().get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
                    let known = token.is_some_and(|token| tokens.lock().expect("no test panics with it").contains(token));
                    async move {
                        let stream = futures::stream::unfold(0, move |next| async move {
                            if next >= if known { EVENTS } else { 0 } {
                                return None;
                            }
                            tokio::time::sleep(EVERY).await;
                            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {next}\n\n")))), next + 1))
                        });
                        let mut response = Response::new(StreamBody::new(stream));
                        *response.status_mut() = if known { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
                        Ok::<_, Infallible>(response)
                    }
                });
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    Ok(address)
}

/// All that one stream brings.
async fn listen(proxy: SocketAddr) -> Result<Vec<u8>> {
    let stream = TcpStream::connect(proxy).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/events").header("host", "api").body(Empty::<Bytes>::new())?;
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::OK {
        return Err(format!("{}", answer.status()).into());
    }
    Ok(answer.into_body().collect().await?.to_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_lose_nothing_while_tokens_rotate() -> Result<()> {
    let tokens = Tokens::default();
    let publish = |volume: &TokenVolume| {
        let token = random();
        tokens.lock().expect("no test panics with it").insert(token.clone());
        volume.publish(&token)
    };
    let volume = TokenVolume::empty("streams", "api")?;
    publish(&volume)?;
    let upstream = api(tokens.clone()).await?;
    let routes = json!({
        "accounts": [{"name": "api", "directory": volume.path()}],
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [
            {"name": "api", "upstream": {"url": format!("http://{upstream}")}, "pool": [{"account": "api"}]},
        ]}],
    });
    let proxy = Proxy::routed("streams", &routes).await?;
    proxy.until_ready().await?;
    let address = proxy.data[0];
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        streams.spawn(listen(address));
    }
    let mut rotations = tokio::time::interval(ROTATION);
    rotations.tick().await;
    let expected: String = (0..EVENTS).map(|number| format!("data: {number}\n\n")).collect();
    let mut whole = 0;
    while whole < STREAMS {
        tokio::select! {
            _ = rotations.tick() => publish(&volume)?,
            ended = streams.join_next() => {
                let brought = ended.ok_or("fewer streams than begun")???;
                assert!(brought == expected.as_bytes(), "a stream brought {} of {} bytes", brought.len(), expected.len());
                whole += 1;
            }
        }
    }
    let taken = proxy.metric(r#"oauth_proxy_token_reloads_total{account="api",result="taken"}"#).await?.unwrap_or_default();
    assert!(taken >= (EVERY.as_secs() as f64 * EVENTS as f64 / ROTATION.as_secs() as f64) - 1.0, "{taken} tokens were taken");
    assert_eq!(proxy.metric(r#"oauth_proxy_open_streams{route="api"}"#).await?, Some(0.0));
    Ok(())
}
