//! Apps that are slow, go away, or send more than can be kept.

use super::routed;
use crate::testbed::curl::{curl, skip};
use crate::testbed::proxy::Proxy;
use crate::testbed::raw_upstream::{Next, RawUpstream, response};
use crate::testbed::refresh_endpoint::RefreshEndpoint;
use crate::testbed::story::eventually;
use crate::testbed::token_volume::TokenVolume;
use crate::testbed::wire::Wire;
use crate::testbed::{Result, authorization_server::random};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long the proxy waits for a head.
const HEAD: Duration = Duration::from_secs(15);

/// Begins a head, goes on byte by byte, and sees when the connection ends; none where it does not within twice the time.
fn dawdle(address: SocketAddr, begin: &str, then: &str) -> Option<Duration> {
    let (began, mut wire) = (Instant::now(), Wire::to(address).ok()?);
    let mut taken = wire.send(begin.as_bytes());
    let mut rest = then.bytes();
    while taken && began.elapsed() < 2 * HEAD {
        if wire.hear(Duration::from_millis(400)).ok()?.closed {
            return Some(began.elapsed());
        }
        taken = rest.next().is_none_or(|byte| wire.send(&[byte]));
    }
    (!taken).then(|| began.elapsed())
}

#[tokio::test]
async fn heads_that_come_byte_by_byte_are_not_waited_for_and_hold_nobody_up() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = RawUpstream::start()?;
    let routed = routed("slow-heads", &upstream.url(), json!({})).await?;
    let (address, endless) = (routed.proxy.data[0], "a".repeat(1000));
    let head = "GET /slow HTTP/1.1\r\nHost: a\r\nX-Slow: ";
    let kinds: [(&str, String); 5] = [
        ("", String::new()),
        ("", format!("{head}{endless}")),
        (head, String::new()),
        (head, endless.clone()),
        ("PRI * HTTP", format!("/2.0\r\n\r\n{endless}")),
    ];
    let slow: Vec<_> = kinds
        .into_iter()
        .flat_map(|kind| std::iter::repeat_n(kind, 20))
        .map(|(begin, then)| std::thread::spawn(move || dawdle(address, begin, &then)))
        .collect();
    let began = Instant::now();
    let mut others = 0;
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        let fetched = curl(&[&routed.proxy.url()]).await?;
        assert_eq!((fetched.exit, fetched.status), (0, 200));
        assert!(asked.elapsed() < Duration::from_secs(2), "another waited for {:?}", asked.elapsed());
        others += 1;
    }
    assert!(others >= 5, "{others} others");
    let ends =
        tokio::task::spawn_blocking(move || slow.into_iter().map(|thread| thread.join().ok().flatten()).collect::<Vec<_>>());
    let ends = ends.await?;
    // It looks after its connections every few seconds.
    let late = ends.iter().filter(|end| end.is_none_or(|end| end > HEAD + Duration::from_secs(10))).count();
    assert_eq!(late, 0, "of 100 connections were kept for too long: {ends:?}");
    assert!(upstream.lines().iter().all(|line| line == "GET / 0"), "{:?}", upstream.lines());
    Ok(())
}

#[tokio::test]
async fn a_body_that_stalls_is_given_up_and_cut_for_the_upstream() -> Result<()> {
    let upstream = RawUpstream::start()?;
    let routed = routed("slow-body", &upstream.url(), json!({"timeouts": {"idleSeconds": 2}})).await?;
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut wire = Wire::to(routed.proxy.data[0])?;
        let began = Instant::now();
        wire.send(format!("POST /stall HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n5\r\nab").as_bytes());
        let heard = wire.hear(Duration::from_secs(15))?;
        assert_eq!(heard.line(), "408 closed", "{head}: {}", heard.text());
        assert!(heard.text().contains("x-oauth-proxy-error: request_timeout"), "{}", heard.text());
        assert!((2.0..7.0).contains(&began.elapsed().as_secs_f64()), "{head}: {:?}", began.elapsed());
    }
    assert_eq!(upstream.lines(), ["POST /stall 5 cut", "POST /stall 2 cut"]);
    // Slow is not stalled: what comes in time comes through.
    let mut wire = Wire::to(routed.proxy.data[0])?;
    wire.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
    for byte in b"12345678" {
        tokio::time::sleep(Duration::from_millis(500)).await;
        wire.send(&[*byte]);
    }
    let heard = wire.hear_until(Duration::from_secs(10), |bytes| bytes.ends_with(b"ok"))?;
    assert_eq!((heard.statuses(), upstream.lines().pop()), (vec!["200".into()], Some("POST /slow 8".into())));
    Ok(())
}

#[tokio::test]
async fn an_app_that_goes_away_takes_its_request_along() -> Result<()> {
    let upstream = RawUpstream::answering(|seen, stream| {
        if seen.target == "/wait" {
            // Whoever asked has gone: the connection ends, and says so here.
            let gone = std::io::Read::read(stream, &mut [0; 16]);
            let word = if matches!(gone, Ok(0) | Err(_)) { "/gone" } else { "/more" };
            let mut note = std::net::TcpStream::connect(stream.local_addr()?)?;
            write!(note, "GET {word} HTTP/1.1\r\n\r\n")?;
            return Ok(Next::Close);
        }
        stream.write_all(response("200 OK", &[], "ok").as_bytes())?;
        Ok(Next::Keep)
    })?;
    let routed = routed("gone", &upstream.url(), json!({})).await?;
    let mut wire = Wire::to(routed.proxy.data[0])?;
    wire.send(b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf");
    let arrived = |line: &str| upstream.lines().iter().any(|seen| seen == line).then_some(());
    eventually(Duration::from_secs(10), || Ok(arrived("POST /half 4 cut"))).await?.ok_or("the body did not arrive as it came")?;
    drop(wire);
    let mut wire = Wire::to(routed.proxy.data[0])?;
    wire.send(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(Duration::from_secs(10), || Ok(arrived("GET /wait 0"))).await?.ok_or("the request did not arrive")?;
    drop(wire);
    eventually(Duration::from_secs(10), || Ok(arrived("GET /gone 0")))
        .await?
        .ok_or("the upstream was left with a request of nobody's")?;
    // Neither was the upstream's failure.
    let failed = routed.proxy.metric("oauth_proxy_response_aborts_total{route=\"api\",side=\"upstream\"}").await?;
    assert_eq!(failed.unwrap_or_default(), 0.0);
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_too_large_to_keep_is_sent_once() -> Result<()> {
    let (stale, fresh, known) = (random(), random(), std::sync::Arc::new(std::sync::Mutex::new(String::new())));
    known.lock().expect("it is ours").clone_from(&fresh);
    let upstream = RawUpstream::answering(move |seen, stream| {
        let taken = seen.all("authorization") == [format!("Bearer {}", known.lock().expect("nobody panics"))];
        let answer =
            if taken { response("200 OK", &[], "ok") } else { response("401 Unauthorized", &["WWW-Authenticate: Bearer"], "no") };
        stream.write_all(answer.as_bytes())?;
        Ok(Next::Keep)
    })?;
    // (bytes of the body, whether its length is said, whether it is sent again)
    for (number, (bytes, chunked, again)) in
        [(1024, false, true), (1025, false, false), (1024, true, true), (1025, true, false), (0, false, true)]
            .into_iter()
            .enumerate()
    {
        let name = format!("replay-{number}");
        let (refresh, volume) = (RefreshEndpoint::start(&name).await?, TokenVolume::with(&name, "api", &stale)?);
        refresh.give(Some(&fresh));
        let route = json!({
            "name": "api", "upstream": {"url": upstream.url()}, "pool": [{"account": "api"}], "limits": {"replayBytes": 1024},
        });
        let routes = json!({
            "accounts": [{"name": "api", "directory": volume.path()}], "refresh": refresh.routes,
            "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [route]}],
        });
        let proxy = Proxy::routed(&name, &routes).await?;
        proxy.until_ready().await?;
        let before = upstream.lines().len();
        let (body, mut wire) = ("x".repeat(bytes), Wire::to(proxy.data[0])?);
        let request = if chunked {
            format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{body}\r\n0\r\n\r\n")
        } else {
            format!("Content-Length: {bytes}\r\n\r\n{body}")
        };
        let heard = tokio::task::spawn_blocking(move || {
            wire.send(format!("POST /replay HTTP/1.1\r\nHost: a\r\n{request}").as_bytes());
            wire.hear_until(Duration::from_secs(10), |bytes| bytes.ends_with(b"ok") || bytes.ends_with(b"no"))
        });
        let heard = heard.await??;
        let line = format!("POST /replay {bytes}");
        let (status, lines) = if again { ("200", vec![line.clone(), line]) } else { ("401", vec![line]) };
        assert_eq!(heard.statuses(), [status], "{bytes} {chunked}: {}", heard.text());
        assert_eq!(upstream.lines()[before..], lines, "{bytes} {chunked}");
        // A new token is asked for all the same, for whoever comes next.
        let asked = eventually(Duration::from_secs(5), || Ok(Some(refresh.asked()).filter(|asked| !asked.is_empty()))).await?;
        assert_eq!(asked.map(|asked| asked.len()), Some(1), "{bytes} {chunked}");
        if !again {
            assert!(heard.text().contains("www-authenticate: Bearer"), "{}", heard.text());
            let next = curl(&[&proxy.url()]).await?;
            assert_eq!((next.status, next.text().as_str()), (200, "ok"), "{bytes} {chunked}");
        }
    }
    assert_eq!(upstream.faults(), [""; 0]);
    Ok(())
}

/// RFC 9112 §7.1: a body without its last chunk is cut, and the upstream must see it so, also where it has begun to answer.
#[tokio::test]
async fn a_body_that_breaks_off_under_its_answer_never_looks_whole() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = vec![];
            let mut piece = [0; 4096];
            while !bytes.ends_with(b"body\r\n") {
                let count = stream.read(&mut piece)?;
                if count == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                bytes.extend_from_slice(&piece[..count]);
            }
            stream.set_read_timeout(Some(Duration::from_millis(200)))?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            let mut ended = false;
            for _ in 0..15 {
                // It goes on to speak, and listens.
                let _ = stream.write_all(b"4\r\nmore\r\n");
                match stream.read(&mut piece) {
                    Ok(0) => ended = true,
                    Ok(count) => bytes.extend_from_slice(&piece[..count]),
                    Err(error) => ended = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                }
                if ended {
                    break;
                }
            }
            told.send((String::from_utf8_lossy(&bytes).into_owned(), ended)).map_err(std::io::Error::other)?;
        }
        std::io::Result::Ok(())
    });
    let routed = routed("bad-body-under-answer", &url, json!({})).await?;
    for broken in ["zz\r\n", "4\r\nbod"] {
        let mut wire = Wire::to(routed.proxy.data[0])?;
        wire.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n");
        let first =
            wire.hear_until(Duration::from_secs(5), |bytes| bytes.ends_with(b"first\r\n") || bytes.ends_with(b"more\r\n"))?;
        assert_eq!(first.statuses(), ["200"], "{broken:?}");
        wire.send(broken.as_bytes());
        if broken.ends_with("bod") {
            drop(wire);
        }
        let (bytes, ended) = heard.recv_timeout(Duration::from_secs(10))?;
        assert!(!bytes.contains("\r\n0\r\n"), "{broken:?} looks whole: {bytes}");
        assert!(ended, "{broken:?}: the upstream waits for the rest of {bytes}");
    }
    Ok(())
}

#[tokio::test]
async fn who_is_refused_in_the_middle_of_an_upload_reads_why() -> Result<()> {
    let upstream = RawUpstream::start()?;
    let (there, none) = (TokenVolume::with("refused-upload", "api", &random())?, TokenVolume::empty("refused-upload", "none")?);
    let route = |name: &str| json!({"name": name, "path": format!("/{name}"), "upstream": {"url": upstream.url()}, "pool": [{"account": name}]});
    let routes = json!({
        "accounts": [{"name": "api", "directory": there.path()}, {"name": "none", "directory": none.path()}],
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [route("api"), route("none")]}],
    });
    let proxy = Proxy::routed("refused-upload", &routes).await?;
    let address = proxy.data[0];
    // More than any socket holds.
    let body = "x".repeat(16 << 20);
    for (path, status) in [("/nowhere", "404"), ("/none", "503")] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let next = "GET /api HTTP/1.1\r\nHost: a\r\n\r\n";
        let (taken, heard) = tokio::task::spawn_blocking(move || -> Result<_> {
            let mut wire = Wire::to(address)?;
            let taken = wire.send(request.as_bytes()) && wire.send(next.as_bytes());
            Ok((taken, wire.hear_until(Duration::from_secs(10), |bytes| bytes.ends_with(b"ok"))?))
        })
        .await??;
        assert_eq!((taken, heard.line().as_str()), (true, &*format!("{status} 200 open")), "{path}: {}", heard.text());
    }
    Ok(())
}
