//! An HTTP/2 upstream that refuses streams, and one that never comes to its answer: nothing that is sent twice by mistake, and
//! nothing lost that need not be.

use super::{Routed, routed};
use crate::testbed::Result;
use crate::testbed::curl::{curl, skip};
use crate::testbed::wire::Wire;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use hyper::body::Bytes;
use hyper::{HeaderMap, Request, Response};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Method, body and names of the trailers of every stream that came, as long as a server runs.
type Came = Arc<Mutex<Vec<String>>>;

/// A server that does with a stream what it is told: the number of the stream is given, from 0.
async fn serving<F>(speak: impl Fn(usize, SendResponse<Bytes>) -> F + Clone + Send + 'static) -> Result<(String, Came)>
where
    F: Future<Output = std::result::Result<(), h2::Error>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, came) = (listener.local_addr()?, Came::default());
    let counted = came.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (speak, counted) = (speak.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    let (speak, counted) = (speak.clone(), counted.clone());
                    tokio::spawn(async move {
                        let line = read(request).await;
                        let number = {
                            let mut counted = counted.lock().expect("nobody panics while holding it");
                            counted.push(line);
                            counted.len() - 1
                        };
                        // A stream that the proxy has given up ends the speech.
                        let _ = speak(number, respond).await;
                    });
                }
            });
        }
    });
    Ok((format!("http://{address}"), came))
}

async fn read(request: Request<RecvStream>) -> String {
    let (head, mut body) = request.into_parts();
    let mut line = format!("{} ", head.method);
    while let Some(Ok(bytes)) = body.data().await {
        line += &String::from_utf8_lossy(&bytes);
    }
    for name in body.trailers().await.ok().flatten().iter().flat_map(HeaderMap::keys) {
        line += &format!(" {name}");
    }
    line
}

fn said(mut respond: SendResponse<Bytes>) -> std::result::Result<(), h2::Error> {
    respond.send_response(Response::new(()), false)?.send_data(Bytes::from_static(b"said"), true)
}

async fn routed_http2(name: &str, url: &str) -> Result<Routed> {
    routed(name, url, json!({"upstream": {"http2": true}, "timeouts": {"responseHeadersSeconds": 3}})).await
}

fn lines(came: &Came) -> Vec<String> {
    came.lock().expect("nobody panics while holding it").clone()
}

/// RFC 9113 §8.7: a refused stream was not processed, so that any method may be sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_sent_again_whole_whatever_its_method() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let (url, came) = serving(|number, mut respond| async move {
        if number % 3 < 2 {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        said(respond)
    })
    .await?;
    let routed = routed_http2("http2-refused", &url).await?;
    for method in ["GET", "POST"] {
        let fetched = curl(&["--request", method, "--data", "ten bytes.", &routed.proxy.url()]).await?;
        assert_eq!((fetched.exit, fetched.status, fetched.text().as_str()), (0, 200, "said"), "{method}: {}", fetched.heads);
    }
    let expected: Vec<_> = ["GET", "POST"].iter().flat_map(|method| vec![format!("{method} ten bytes."); 3]).collect();
    assert_eq!(lines(&came), expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_body_does_not_say_who_sent_it() -> Result<()> {
    let (url, came) = serving(|_, respond| async { said(respond) }).await?;
    let routed = routed_http2("http2-trailers", &url).await?;
    let mut wire = Wire::to(routed.proxy.data[0])?;
    wire.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: x-sum, authorization\r\nTransfer-Encoding: chunked\r\n\r\n\
        4\r\nbody\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer forged\r\nX-Api-Key: forged\r\n\r\n",
    );
    let heard = wire.hear_until(Duration::from_secs(10), |bytes| bytes.windows(4).any(|four| four == b"said"))?;
    assert_eq!(heard.statuses(), ["200"]);
    assert_eq!(lines(&came), ["POST body x-sum"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_refuses_every_stream_is_given_up_and_what_may_have_been_done_is_not_done_again() -> Result<()> {
    if skip() {
        return Ok(());
    }
    for (number, (reason, times)) in
        [(Reason::REFUSED_STREAM, 7), (Reason::INTERNAL_ERROR, 1), (Reason::CANCEL, 1)].into_iter().enumerate()
    {
        let (url, came) = serving(move |_, mut respond| async move {
            respond.send_reset(reason);
            Ok(())
        })
        .await?;
        let routed = routed_http2(&format!("http2-all-refused-{number}"), &url).await?;
        let fetched = curl(&["--data", "x", &routed.proxy.url()]).await?;
        let error = fetched.header("x-oauth-proxy-error");
        assert_eq!((fetched.exit, fetched.status, error), (0, 502, Some("upstream_broken")), "{reason}: {}", fetched.heads);
        assert_eq!(lines(&came), vec!["POST x"; times], "{reason}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_passed_over_and_those_without_end_given_up() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let interim = |status: u16| Response::builder().status(status).body(()).expect("a response");
    let (url, _) = serving(move |_, mut respond| async move {
        for status in [100, 103, 102] {
            respond.send_informational(interim(status))?;
        }
        said(respond)
    })
    .await?;
    let patient = routed_http2("http2-interim", &url).await?;
    let fetched = curl(&["--data", "x", &patient.proxy.url()]).await?;
    assert_eq!((fetched.exit, fetched.status, fetched.text().as_str()), (0, 200, "said"), "{}", fetched.heads);

    let (url, _) = serving(move |_, mut respond| async move {
        loop {
            for _ in 0..100 {
                respond.send_informational(interim(100))?;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await?;
    let flooded = routed_http2("http2-flood", &url).await?;
    let (before, began) = (flooded.proxy.memory()?, Instant::now());
    let fetched = curl(&[&flooded.proxy.url()]).await?;
    assert_eq!((fetched.exit, fetched.status), (0, 504), "{}", fetched.heads);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let grown = flooded.proxy.memory()?.saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more");
    Ok(())
}
