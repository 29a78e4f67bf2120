//! curl through the proxy: HTTP/1.1 and HTTP/2, and what of each arrives.

use super::{Routed, routed};
use crate::testbed::curl::{curl, skip};
use crate::testbed::process::folder;
use crate::testbed::raw_upstream::{Next, RawUpstream, response};
use crate::testbed::{Result, authorization_server::random};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::time::Duration;
use tokio::net::TcpListener;

/// An upstream that says `ok`, with a proxy in front.
async fn plain(name: &str) -> Result<(Routed, RawUpstream)> {
    let upstream = RawUpstream::start()?;
    Ok((routed(name, &upstream.url(), json!({})).await?, upstream))
}

#[tokio::test]
async fn what_the_app_says_arrives_and_what_is_its_own_does_not() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let (routed, upstream) = plain("curl-headers").await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let (key, id) = (random(), random());
        let fetched = curl(&[
            version,
            &format!("{}/v1/things?a=b&c=%20d", routed.proxy.url()),
            "-H",
            &format!("Authorization: Bearer {key}"),
            "-H",
            &format!("X-Api-Key: {key}"),
            "-H",
            &format!("x-request-id: {id}"),
            "-H",
            "X-Mine: one",
            "-H",
            "X-Mine: two",
            "-H",
            "Cookie: a=b",
        ])
        .await?;
        let wanted = if version == "--http1.1" { "1.1" } else { "2" };
        assert_eq!((fetched.exit, fetched.status, fetched.version.as_str(), fetched.text().as_str()), (0, 200, wanted, "ok"));
        assert_eq!(fetched.header("x-request-id"), Some(id.as_str()));
        let seen = upstream.seen().pop().ok_or("nothing came")?;
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/v1/things?a=b&c=%20d"));
        assert_eq!(seen.all("authorization"), [format!("Bearer {}", routed.token)]);
        assert_eq!(seen.all("host"), [upstream.address.to_string()]);
        assert_eq!(
            (seen.all("x-request-id"), seen.all("x-mine"), seen.all("cookie")),
            (vec![id.as_str()], vec!["one", "two"], vec!["a=b"])
        );
        assert!(!format!("{seen:?}").contains(&key), "the app's own key got through: {seen:?}");
        // A proxy that adds fields of its own tells the upstream what the app did not.
        let names: Vec<&str> = seen.headers.iter().map(|(name, _)| name.as_str()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(
            sorted,
            ["accept", "authorization", "cookie", "host", "user-agent", "x-mine", "x-mine", "x-request-id"],
            "{seen:?}"
        );
    }
    // Where the app gave no id, there is one all the same, and both sides have it.
    let fetched = curl(&[&routed.proxy.url()]).await?;
    let seen = upstream.seen().pop().ok_or("nothing came")?;
    assert_eq!(fetched.header("x-request-id").into_iter().collect::<Vec<_>>(), seen.all("x-request-id"));
    assert_eq!((seen.all("x-request-id").len(), upstream.faults()), (1, vec![]));
    Ok(())
}

#[tokio::test]
async fn uploads_arrive_to_the_byte() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let (routed, upstream) = plain("curl-uploads").await?;
    let body: Vec<u8> = random().bytes().cycle().take(3 << 20).collect();
    let file = folder("curl-uploads")?.join("body");
    std::fs::write(&file, &body)?;
    let (data, url) = (format!("@{}", file.display()), routed.proxy.url());
    for (version, headers, length) in [
        ("--http1.1", vec!["Expect:"], true),
        ("--http1.1", vec!["Expect:", "Transfer-Encoding: chunked"], false),
        ("--http1.1", vec!["Expect: 100-continue"], true),
        ("--http1.1", vec!["Expect: 100-continue", "Transfer-Encoding: chunked"], false),
        ("--http2-prior-knowledge", vec!["Expect:"], true),
        ("--http2-prior-knowledge", vec!["Content-Length:"], false),
    ] {
        let mut arguments = vec![version, "--data-binary", &data, &url];
        headers.iter().for_each(|header| arguments.extend(["-H", header]));
        // Long enough to be told from a server that never says 100: curl would go on by itself after a second.
        arguments.extend(["--expect100-timeout", "15"]);
        let fetched = curl(&arguments).await?;
        assert_eq!((fetched.exit, fetched.status, fetched.text().as_str()), (0, 200, "ok"), "{headers:?}");
        let continued = fetched.heads.contains("100 Continue");
        assert_eq!(continued, headers[0] == "Expect: 100-continue", "{version} {headers:?}: {}", fetched.heads);
        let seen = upstream.seen().pop().ok_or("nothing came")?;
        assert!(seen.body == body && seen.whole, "{version} {headers:?}: {} bytes", seen.body.len());
        let said = (seen.all("content-length"), seen.all("transfer-encoding"));
        let bytes = body.len().to_string();
        assert_eq!(
            said,
            if length { (vec![bytes.as_str()], vec![]) } else { (vec![], vec!["chunked"]) },
            "{version} {headers:?}"
        );
    }
    assert_eq!(upstream.faults(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn trailers_of_an_answer_arrive() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = RawUpstream::answering(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n",
        )?;
        Ok(Next::Keep)
    })?;
    let routed = routed("curl-trailers", &upstream.url(), json!({})).await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let fetched = curl(&[version, &routed.proxy.url(), "-H", "TE: trailers", "-H", "Connection: TE"]).await?;
        assert_eq!(
            (fetched.exit, fetched.text().as_str(), fetched.header("x-sum")),
            (0, "body", Some("42")),
            "{version}: {}",
            fetched.heads
        );
        assert_eq!(fetched.header("trailer").map(str::to_ascii_lowercase).as_deref(), Some("x-sum"), "{version}");
    }
    Ok(())
}

#[tokio::test]
async fn trailers_of_a_request_arrive() -> Result<()> {
    let (routed, upstream) = plain("curl-request-trailers").await?;
    let mut wire = crate::testbed::wire::Wire::to(routed.proxy.data[0])?;
    wire.send(
        b"POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n",
    );
    let heard = wire.hear_until(Duration::from_secs(10), |bytes| bytes.ends_with(b"ok"))?;
    assert_eq!(heard.statuses(), ["200"]);
    let seen = upstream.seen().pop().ok_or("nothing came")?;
    assert_eq!((seen.body.as_slice(), seen.trailers.as_slice()), (&b"body"[..], &[("x-sum".to_owned(), "42".to_owned())][..]));
    Ok(())
}

#[tokio::test]
async fn a_head_has_no_body_and_keeps_its_length() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = RawUpstream::answering(|seen, stream| {
        let body = if seen.method == "HEAD" { "" } else { "twelve bytes" };
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{body}")?;
        Ok(Next::Keep)
    })?;
    let routed = routed("curl-head", &upstream.url(), json!({})).await?;
    let url = routed.proxy.url();
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        // Two on one connection: a HEAD that is taken for a GET makes the second one wait. (Over HTTP/2 without TLS curl 7.88
        // cannot use a connection again, whoever is on its other side.)
        let urls = [url.as_str(), url.as_str()];
        let urls = if version == "--http1.1" { &urls[..] } else { &urls[..1] };
        let fetched = curl(&[&[version, "--head"], urls].concat()).await?;
        assert_eq!(
            (fetched.exit, fetched.status, fetched.header("content-length")),
            (0, 200, Some("12")),
            "{version}: {}",
            fetched.heads
        );
        let fetched = curl(&[version, &url]).await?;
        assert_eq!((fetched.exit, fetched.text().as_str()), (0, "twelve bytes"), "{version}");
    }
    let lines = upstream.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("HEAD")).count(), 3, "{lines:?}");
    Ok(())
}

#[tokio::test]
async fn answers_without_a_body_have_none() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let upstream = RawUpstream::answering(|seen, stream| {
        let status = seen.target.trim_start_matches('/');
        let text = match status {
            "302" => response("302 Found", &["Location: http://elsewhere.example/"], "over there"),
            "204" | "304" => format!("HTTP/1.1 {status} X\r\nETag: \"a\"\r\n\r\n"),
            _ => response("299 Odd", &["X-Empty:", "Set-Cookie: a=b", "Set-Cookie: c=d"], ""),
        };
        stream.write_all(text.as_bytes())?;
        Ok(Next::Keep)
    })?;
    let routed = routed("curl-bodiless", &upstream.url(), json!({})).await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for status in [204, 304, 302, 299] {
            let fetched = curl(&[version, &format!("{}/{status}", routed.proxy.url())]).await?;
            assert_eq!((fetched.exit, fetched.status), (0, status), "{version}");
            // A redirect is the app's to follow.
            assert_eq!(fetched.text(), if status == 302 { "over there" } else { "" }, "{version} {status}");
            assert_eq!(fetched.header("location"), (status == 302).then_some("http://elsewhere.example/"), "{version}");
            let cookies = fetched.heads.lines().filter(|line| line.to_ascii_lowercase().starts_with("set-cookie:")).count();
            assert_eq!(cookies, if status == 299 { 2 } else { 0 }, "{version}");
        }
    }
    assert_eq!(upstream.seen().len(), 8);
    Ok(())
}

/// An API that answers with what it is told, while it is told.
async fn echo() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer =
                service_fn(|request: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(request.into_body())) });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_begins_before_its_request_has_ended_goes_on_with_it() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let routed = routed("curl-echo", &echo().await?, json!({})).await?;
    let told: Vec<u8> = random().bytes().cycle().take(8 << 20).collect();
    let file = folder("curl-echo")?.join("told");
    std::fs::write(&file, &told)?;
    let data = format!("@{}", file.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        for length in ["Expect:", "Transfer-Encoding: chunked"] {
            let field = if version == "--http1.1" { length } else { "Content-Length:" };
            let fetched = curl(&[version, "-H", field, "--data-binary", &data, &routed.proxy.url()]).await?;
            assert_eq!((fetched.exit, fetched.status), (0, 200), "{version} {field}: {}", fetched.heads);
            assert!(fetched.body == told, "{version} {field}: {} bytes", fetched.body.len());
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_to_half_a_request_is_passed_on() -> Result<()> {
    if skip() {
        return Ok(());
    }
    // It reads a little, answers, and reads no more; what is still sent there is not read by anybody.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                stream.read_exact(&mut [0; 1024])?;
                stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nmuch")?;
                std::thread::sleep(Duration::from_secs(5));
                std::io::Result::Ok(())
            });
        }
    });
    let routed = routed("curl-half", &format!("http://{address}"), json!({})).await?;
    let file = folder("curl-half")?.join("told");
    std::fs::write(&file, vec![b'x'; 64 << 20])?;
    let data = format!("@{}", file.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let fetched = curl(&[version, "-H", "Expect:", "--data-binary", &data, &routed.proxy.url()]).await?;
        assert_eq!((fetched.status, fetched.text().as_str()), (413, "much"), "{version}: exit {}", fetched.exit);
    }
    Ok(())
}
