//! Upstreams that lie, stall and say what is no HTTP: the app is told in its own protocol's way, and nobody else is.

use super::{Routed, routed};
use crate::testbed::Result;
use crate::testbed::curl::{Fetched, curl, skip};
use crate::testbed::raw_upstream::{Next, RawUpstream, response};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};

/// curl's exit codes for an answer that ends too early: HTTP/1.1, HTTP/2.
const CUT: [(&str, i32); 2] = [("--http1.1", 18), ("--http2-prior-knowledge", 92)];

/// An upstream that writes these bytes, whatever it is asked, and closes.
fn saying(bytes: impl Into<Vec<u8>>) -> Result<RawUpstream> {
    let bytes = bytes.into();
    RawUpstream::answering(move |_, stream| {
        stream.write_all(&bytes)?;
        Ok(Next::Close)
    })
}

/// Whether this is the proxy's own error for an upstream that breaks, with nothing of what that said.
fn is_broken(fetched: &Fetched) -> bool {
    let body: Value = serde_json::from_slice(&fetched.body).unwrap_or_default();
    (fetched.exit, fetched.status, fetched.header("x-oauth-proxy-error")) == (0, 502, Some("upstream_broken"))
        && body["error"]["code"] == "upstream_broken"
        && body["error"]["request_id"].as_str() == fetched.header("x-request-id")
        && !format!("{}{}", fetched.heads, fetched.text()).contains("forged")
}

async fn aborts(routed: &Routed) -> Result<Option<f64>> {
    routed.proxy.metric("oauth_proxy_response_aborts_total{route=\"api\",side=\"upstream\"}").await
}

#[tokio::test]
async fn an_answer_that_is_too_short_never_looks_whole() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (number, (what, answer)) in [
        ("shorter than its length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort".to_owned()),
        ("chunked without a last chunk", format!("{chunked}5\r\nshort\r\n")),
        ("chunked and cut within a chunk", format!("{chunked}64\r\nshort")),
        ("chunked and garbage then", format!("{chunked}5\r\nshort\r\nforged\r\n\r\n")),
        ("chunked and cut in its trailers", format!("{chunked}5\r\nshort\r\n0\r\nX-Sum: ")),
    ]
    .into_iter()
    .enumerate()
    {
        let upstream = saying(answer)?;
        let routed = routed(&format!("bad-short-{number}"), &upstream.url(), json!({})).await?;
        for (version, exit) in CUT {
            let fetched = curl(&[version, &routed.proxy.url()]).await?;
            // On HTTP/1.1 curl tells a connection that ends within a chunk from one that ends between two.
            let expected = if exit == 18 { vec![18, 56] } else { vec![92] };
            assert!(expected.contains(&fetched.exit), "{what} {version}: exit {} {}", fetched.exit, fetched.heads);
            // A reset stream loses what had not been sent yet (RFC 9113 §5.4.2); HTTP/1.1 loses nothing.
            let whole = (fetched.status, fetched.text().as_str()) == (200, "short");
            assert!(whole || exit == 92 && "short".starts_with(&fetched.text()), "{what} {version}: {}", fetched.text());
        }
        assert_eq!(aborts(&routed).await?, Some(2.0), "{what}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = saying("HTTP/1.1 200 OK\r\n\r\nto the end")?;
    let routed = routed("bad-lengthless", &upstream.url(), json!({})).await?;
    for (version, _) in CUT {
        let fetched = curl(&[version, &routed.proxy.url()]).await?;
        assert_eq!((fetched.exit, fetched.text().as_str()), (0, "to the end"), "{version}");
    }
    assert_eq!(aborts(&routed).await?.unwrap_or_default(), 0.0);
    Ok(())
}

#[tokio::test]
async fn bytes_beyond_an_answer_are_never_the_next_one() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let forged = response("200 OK", &["X-Forged: yes"], "forged");
    for (number, late) in [false, true].into_iter().enumerate() {
        let extra = forged.clone();
        let upstream = RawUpstream::answering(move |seen, stream| {
            stream.write_all(response("200 OK", &[], &seen.target).as_bytes())?;
            // While nobody asks for anything, as well as at once.
            if late {
                let (mut stream, extra) = (stream.try_clone()?, extra.clone());
                std::thread::spawn(move || {
                    std::thread::sleep(Duration::from_millis(50));
                    let _ = stream.write_all(extra.as_bytes());
                });
            } else {
                stream.write_all(extra.as_bytes())?;
            }
            Ok(Next::Keep)
        })?;
        let routed = routed(&format!("bad-long-{number}"), &upstream.url(), json!({})).await?;
        for turn in 0..10 {
            let path = format!("/{turn}");
            let fetched = curl(&[&format!("{}{path}", routed.proxy.url())]).await?;
            assert_eq!((fetched.exit, fetched.status, fetched.text().as_str()), (0, 200, path.as_str()), "late: {late}");
            assert_eq!(fetched.header("x-forged"), None, "late: {late}");
            tokio::time::sleep(Duration::from_millis(if late { 120 } else { 5 })).await;
        }
        assert_eq!(upstream.lines().len(), 10, "late: {late}");
        assert_eq!(upstream.connections(), 10, "late: {late}: a connection that has said too much is used no more");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_no_answer_is_not_passed_on() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let garbage: Vec<u8> = (0..2000_u32).map(|number| u8::try_from(number * 7919 % 251).expect("a byte")).collect();
    let ok = |head: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nforged").into_bytes();
    let mut passed = vec![];
    for (number, (what, answer)) in [
        ("nothing at all", vec![]),
        ("garbage", garbage),
        ("text", b"forged\r\n\r\n".to_vec()),
        ("half a head", b"HTTP/1.1 200 OK\r\nX-Forged: for".to_vec()),
        ("a status of letters", b"HTTP/1.1 abc OK\r\n\r\nforged".to_vec()),
        ("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\nforged".to_vec()),
        ("a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\nforged".to_vec()),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("a version to come", b"HTTP/3.0 200 OK\r\n\r\nforged".to_vec()),
        ("two lengths that differ", ok("Content-Length: 6\r\nContent-Length: 3")),
        ("a length that is none", ok("Content-Length: six")),
        ("a length below zero", ok("Content-Length: -6")),
        ("a field without a colon", ok("X-Forged")),
        ("a field without a name", ok(": forged")),
        ("a field of odd characters", ok("X(Forged): yes")),
        ("a NUL in a field", ok("X-Forged: a\0b")),
        ("a bare CR in a field", ok("X-Forged: a\rb")),
        ("a folded field", ok("X-Forged: a\r\n b")),
        (
            "a switch that nobody asked for",
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: forged\r\n\r\nforged".to_vec(),
        ),
        ("another coding than chunked", ok("Transfer-Encoding: forged")),
        ("ten thousand fields", ok(&"X-Forged: one\r\n".repeat(10_000))),
        ("a field of a megabyte", ok(&format!("X-Forged: {}", "x".repeat(1 << 20)))),
    ]
    .into_iter()
    .enumerate()
    {
        let upstream = saying(answer)?;
        let routed = routed(&format!("bad-garbage-{number}"), &upstream.url(), json!({})).await?;
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let fetched = curl(&[version, "--data", "x", &routed.proxy.url()]).await?;
            if !is_broken(&fetched) {
                passed.push(format!("{what} {version}: exit {} {}{:.300}", fetched.exit, fetched.heads, fetched.text()));
            }
        }
        // It was received, as far as anybody knows: it is not sent again.
        assert_eq!(upstream.lines(), ["POST / 1", "POST / 1"], "{what}");
    }
    assert!(passed.is_empty(), "{}", passed.join("\n"));
    Ok(())
}

#[tokio::test]
async fn an_endless_head_is_given_up() -> Result<()> {
    if skip() {
        return Ok(());
    }
    for (number, (what, begin, repeat)) in [
        ("fields", "HTTP/1.1 200 OK\r\n", "X-Forged: one\r\n"),
        ("one field", "HTTP/1.1 200 OK\r\nX-Forged: ", "xxxxxxxxxxxxxxxx"),
        ("a status line", "HTTP/1.1 200 ", "forgedforgedforged"),
        ("interim answers", "", "HTTP/1.1 100 Continue\r\n\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let upstream = RawUpstream::answering(move |_, stream| {
            stream.write_all(begin.as_bytes())?;
            let piece = repeat.repeat(1000);
            loop {
                stream.write_all(piece.as_bytes())?;
                std::thread::sleep(Duration::from_millis(1));
            }
        })?;
        let patch = json!({"timeouts": {"responseHeadersSeconds": 3}});
        let routed = routed(&format!("bad-endless-{number}"), &upstream.url(), patch).await?;
        let before = routed.proxy.memory()?;
        let began = Instant::now();
        let fetched = curl(&[&routed.proxy.url()]).await?;
        assert_eq!((fetched.exit, fetched.status), (0, 502), "{what}: {}{}", fetched.heads, fetched.text());
        assert!(!fetched.heads.contains("orged"), "{what}: {}", fetched.heads);
        assert!(began.elapsed() < Duration::from_secs(8), "{what}: {:?}", began.elapsed());
        let grown = routed.proxy.memory()?.saturating_sub(before);
        assert!(grown < 16 << 20, "{what}: {grown} bytes more");
    }
    Ok(())
}

#[tokio::test]
async fn interim_answers_are_passed_over() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let interim =
        "HTTP/1.1 103 Early Hints\r\nLink: </forged>\r\n\r\n".repeat(50) + &"HTTP/1.1 102 Processing\r\n\r\n".repeat(50);
    let upstream = RawUpstream::answering(move |_, stream| {
        stream.write_all(interim.as_bytes())?;
        stream.write_all(response("200 OK", &[], "said").as_bytes())?;
        Ok(Next::Keep)
    })?;
    let routed = routed("bad-interim", &upstream.url(), json!({})).await?;
    // Each request has as many before its answer, and all ride on one connection.
    for _ in 0..3 {
        let fetched = curl(&["--data", "x", &routed.proxy.url()]).await?;
        assert_eq!((fetched.exit, fetched.status, fetched.text().as_str()), (0, 200, "said"), "{}", fetched.heads);
        assert!(!fetched.heads.contains("forged"), "{}", fetched.heads);
    }
    assert_eq!(upstream.connections(), 1);
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_says_nothing_is_waited_for_as_long_as_the_route_says() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let silent = RawUpstream::answering(|_, _| {
        std::thread::sleep(Duration::from_secs(20));
        Ok(Next::Close)
    })?;
    let routed_silent = routed("bad-silent", &silent.url(), json!({"timeouts": {"responseHeadersSeconds": 1}})).await?;
    let began = Instant::now();
    let fetched = curl(&[&routed_silent.proxy.url()]).await?;
    assert_eq!((fetched.exit, fetched.status, fetched.header("x-oauth-proxy-error")), (0, 504, Some("upstream_timeout")));
    assert!((1.0..5.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());

    let stalling = RawUpstream::answering(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")?;
        std::thread::sleep(Duration::from_secs(20));
        Ok(Next::Close)
    })?;
    let routed_stalling = routed("bad-stalling", &stalling.url(), json!({"timeouts": {"idleSeconds": 1}})).await?;
    for (version, exit) in CUT {
        let began = Instant::now();
        let fetched = curl(&[version, &routed_stalling.proxy.url()]).await?;
        assert_eq!(fetched.exit, exit, "{version}");
        assert_eq!(fetched.text(), "short", "{version}: it had been passed on long before");
        assert!((1.0..5.0).contains(&began.elapsed().as_secs_f64()), "{version}: {:?}", began.elapsed());
    }
    assert_eq!(aborts(&routed_stalling).await?, Some(2.0));

    let routed_nobody = routed("bad-nobody", "http://127.0.0.1:9", json!({})).await?;
    let fetched = curl(&[&routed_nobody.proxy.url()]).await?;
    assert_eq!((fetched.status, fetched.header("x-oauth-proxy-error")), (502, Some("upstream_unreachable")));
    Ok(())
}

#[tokio::test]
async fn a_length_beside_a_coding_is_not_passed_on() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = saying("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")?;
    let routed = routed("bad-two-lengths", &upstream.url(), json!({})).await?;
    for (version, _) in CUT {
        let fetched = curl(&[version, &routed.proxy.url()]).await?;
        let told = fetched.header("content-length").map(str::to_owned);
        let read = (fetched.exit, fetched.status, fetched.text(), told);
        assert!(is_broken(&fetched) || read == (0, 200, "body".to_owned(), None), "{version}: {read:?} {}", fetched.heads);
    }
    Ok(())
}

#[tokio::test]
async fn an_upstream_that_closes_without_a_word_costs_a_get_nothing() -> Result<()> {
    if skip() {
        return Ok(());
    }
    // No `Connection: close`, no time to notice.
    let upstream = saying(response("200 OK", &[], "ok"))?;
    let routed = routed("bad-closing", &upstream.url(), json!({})).await?;
    let urls = vec![routed.proxy.url(); 50];
    let fetched = curl(&urls.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let answers = fetched.heads.matches("HTTP/1.1 200").count();
    assert_eq!((fetched.exit, answers), (0, 50), "{}", fetched.heads);
    assert_eq!(upstream.lines().len(), 50);
    Ok(())
}
