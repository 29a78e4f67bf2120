//! The end of a proxy: what is under way goes on for a while, and is cut then.

use crate::testbed::Result;
use crate::testbed::proxy::Proxy;
use crate::testbed::raw_upstream::{Next, RawUpstream};
use crate::testbed::token_volume::TokenVolume;
use rustix::process::Signal;
use std::io::Write;
use std::time::{Duration, Instant};

/// An upstream whose answers take so many pieces, five a second.
fn slow(pieces: usize) -> Result<RawUpstream> {
    RawUpstream::answering(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..pieces {
            stream.write_all(b"5\r\npiece\r\n")?;
            std::thread::sleep(Duration::from_millis(200));
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(Next::Keep)
    })
}

async fn proxy(name: &str, upstream: &RawUpstream) -> Result<(Proxy, reqwest::Client)> {
    let volume = TokenVolume::with(name, "api", "token")?;
    let flags = ["--upstream", &upstream.url(), "--account", &volume.path(), "--drain-seconds", "5"];
    let proxy = Proxy::start(name, &flags).await?;
    proxy.until_ready().await?;
    Ok((proxy, reqwest::Client::builder().no_proxy().build()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_whole_and_nothing_new_begins() -> Result<()> {
    let upstream = slow(10)?;
    let (proxy, app) = proxy("drained", &upstream).await?;
    let answer = app.get(proxy.url()).send().await?;
    // A connection that rests is told too, and does not hold anything up.
    let resting = std::net::TcpStream::connect(proxy.data[0])?;
    let control = format!("http://{}", proxy.control);
    assert_eq!(app.get(format!("{control}/drain")).send().await?.status().as_u16(), 405, "reading changes nothing");
    assert_eq!(app.post(format!("{control}/drain")).send().await?.text().await?, "draining\n");
    assert_eq!(answer.text().await?, "piece".repeat(10));
    assert!(std::net::TcpStream::connect(proxy.data[0]).is_err(), "no new connections");
    let status = proxy.process.end_within(Duration::from_secs(3)).await.ok_or("it lives on")?;
    assert!(status.success(), "{status}");
    drop(resting);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_in_time_is_cut_and_not_ended() -> Result<()> {
    let upstream = slow(1000)?;
    let (proxy, app) = proxy("cut", &upstream).await?;
    let answer = app.get(proxy.url()).send().await?;
    let began = Instant::now();
    proxy.process.signal(Signal::TERM);
    assert!(answer.bytes().await.is_err(), "what is cut is not whole");
    assert!((4500..7000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let status = proxy.process.end_within(Duration::from_secs(3)).await.ok_or("it lives on")?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_s_level_is_set_from_within_the_pod() -> Result<()> {
    let upstream = slow(1)?;
    let (proxy, app) = proxy("level", &upstream).await?;
    let put = async |level: &'static str| -> Result<u16> {
        Ok(app.put(format!("http://{}/log-level", proxy.control)).body(level).send().await?.status().as_u16())
    };
    assert_eq!((put("a=loud").await?, put("debug").await?), (400, 200));
    app.get(format!("{}/a/../b", proxy.url()).replace("/../", "/%2e%2e%2f")).send().await?;
    assert!(proxy.process.output().contains("refused: The path holds"), "{}", proxy.process.output());
    assert_eq!(app.put(format!("http://{}/log-level", proxy.admin)).body("info").send().await?.status().as_u16(), 404);
    Ok(())
}
