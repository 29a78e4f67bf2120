//! What the proxy holds back, and for how long: clients, accounts that are busy, spared or broken, hosts, and time.

use super::routed;
use crate::testbed::Result;
use crate::testbed::authorization_server::random;
use crate::testbed::certificates::Authority;
use crate::testbed::process::folder;
use crate::testbed::proxy::Proxy;
use crate::testbed::raw_upstream::{Next, RawUpstream, Seen, response};
use crate::testbed::token_volume::TokenVolume;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn app() -> Result<reqwest::Client> {
    // reqwest asks for the process's TLS provider when its first client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build()?)
}

/// Status, code of the proxy's own, and Retry-After.
async fn ask(request: reqwest::RequestBuilder) -> Result<(u16, String, String)> {
    let answer = request.send().await?;
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
    Ok((answer.status().as_u16(), header("x-oauth-proxy-error"), header("retry-after")))
}

/// An upstream that answers by the token that comes.
fn by_token(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Result<RawUpstream> {
    RawUpstream::answering(move |seen: &Seen, stream: &mut TcpStream| {
        stream.write_all(answer(seen.all("authorization").first().unwrap_or(&"")).as_bytes())?;
        Ok(Next::Keep)
    })
}

/// A proxy with two accounts whose tokens are `first` and `second`, with `patch` merged into its route.
async fn two(name: &str, upstream: &RawUpstream, patch: Value) -> Result<Proxy> {
    let (first, second) = (TokenVolume::with(name, "one", "first")?, TokenVolume::with(name, "two", "second")?);
    let pool = json!([{"account": "one"}, {"account": "two", "priority": 1}]);
    let mut route = json!({"name": "api", "upstream": {"url": upstream.url()}, "pool": pool});
    crate::testbed::story::merge(&mut route, &patch);
    let routes = json!({
        "accounts": [{"name": "one", "directory": first.path()}, {"name": "two", "directory": second.path()}],
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [route]}],
    });
    let proxy = Proxy::routed(name, &routes).await?;
    proxy.until_ready().await?;
    Ok(proxy)
}

fn tokens(upstream: &RawUpstream) -> Vec<String> {
    upstream.seen().iter().map(|seen| seen.all("authorization").concat().replace("Bearer ", "")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_with_clients_serves_them_alone_and_under_tls() -> Result<()> {
    let (name, key) = ("clients", random());
    let folder = folder(name)?;
    let authority = Authority::new(name)?;
    let (certificate, private_key) = authority.server(&["127.0.0.1", "localhost"])?.store(&folder, "listener")?;
    let upstream = RawUpstream::start()?;
    let volume = TokenVolume::with(name, "api", "token")?;
    let digest: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    let routes = json!({
        "accounts": [{"name": "api", "directory": volume.path()}],
        "listeners": [{
            "addresses": ["127.0.0.1:0"],
            "tls": {"certificateFile": certificate, "keyFile": private_key},
            "clients": [{"name": "ci", "keySHA256": digest, "requestsPerSecond": 1, "burst": 3}],
            "routes": [{"name": "api", "upstream": {"url": upstream.url()}, "pool": [{"account": "api"}]}],
        }],
    });
    let proxy = Proxy::routed(name, &routes).await?;
    proxy.until_ready().await?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ca = reqwest::Certificate::from_pem(authority.certificate.as_bytes())?;
    let app = reqwest::Client::builder().tls_certs_only([ca]).no_proxy().build()?;
    let url = format!("https://{}", proxy.data[0]);
    for request in [app.get(&url), app.get(&url).bearer_auth("wrong"), app.get(&url).basic_auth(&key, None::<&str>)] {
        assert_eq!(ask(request).await?, (401, "client_unauthenticated".into(), "-".into()));
    }
    let answer = app.get(&url).bearer_auth(&key).send().await?;
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2), "ALPN");
    assert_eq!(ask(app.get(&url).header("x-api-key", &key)).await?.0, 200);
    let mut codes = vec![];
    for _ in 0..4 {
        codes.push(ask(app.get(&url).bearer_auth(&key)).await?);
    }
    assert!(codes.contains(&(429, "client_rate_limited".into(), "1".into())), "{codes:?}");
    assert!(upstream.seen().iter().all(|seen| seen.all("authorization") == ["Bearer token"] && seen.all("x-api-key").is_empty()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_asked_for_patience_is_spared() -> Result<()> {
    let upstream = by_token(|token| match token {
        "Bearer first" => response("429 Too Many Requests", &["Retry-After: 60"], "slow down"),
        _ => response("200 OK", &[], "ok"),
    })?;
    let proxy = two("spared", &upstream, json!({})).await?;
    let app = app()?;
    assert_eq!(ask(app.get(proxy.url())).await?, (429, "-".into(), "60".into()), "passed on untouched");
    for _ in 0..5 {
        assert_eq!(ask(app.get(proxy.url())).await?.0, 200);
    }
    assert_eq!(tokens(&upstream), ["first", "second", "second", "second", "second", "second"]);
    let ignoring = two("not-spared", &upstream, json!({"ignoreRetryAfter": true})).await?;
    for _ in 0..3 {
        assert_eq!(ask(app.get(ignoring.url())).await?.0, 429);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_fails_is_broken_off_and_probed() -> Result<()> {
    let upstream = by_token(|token| match token {
        "Bearer first" => response("500 Internal Server Error", &[], "broken"),
        _ => response("200 OK", &[], "ok"),
    })?;
    let proxy = two("broken", &upstream, json!({})).await?;
    let app = app()?;
    let mut statuses = vec![];
    for _ in 0..8 {
        statuses.push(ask(app.get(proxy.url())).await?.0);
    }
    assert_eq!(statuses, [500, 500, 500, 500, 500, 200, 200, 200]);
    let place = upstream.url().replace("http://", "");
    let state = format!("oauth_proxy_breaker_state{{account=\"one\",upstream=\"{place}\"}}");
    assert_eq!(proxy.metric(&state).await?, Some(2.0));
    // One probe when its time has come, and the next after twice as long.
    let half_open = async || proxy.metric(&state).await.is_ok_and(|state| state == Some(1.0));
    proxy.process.until("half open", Duration::from_secs(7), half_open).await?;
    let statuses = [ask(app.get(proxy.url())).await?.0, ask(app.get(proxy.url())).await?.0];
    assert_eq!((statuses, proxy.metric(&state).await?), ([500, 200], Some(2.0)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_serves_so_many_at_once_and_a_token_goes_only_where_it_may() -> Result<()> {
    let upstream = RawUpstream::answering(|_, stream| {
        std::thread::sleep(Duration::from_millis(700));
        stream.write_all(response("200 OK", &[], "ok").as_bytes())?;
        Ok(Next::Keep)
    })?;
    let routed = routed("saturated", &upstream.url(), json!({"limits": {"inFlightPerAccount": 1}})).await?;
    let app = app()?;
    let first = tokio::spawn(ask(app.get(routed.proxy.url())));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ask(app.get(routed.proxy.url())).await?, (503, "account_saturated".into(), "1".into()));
    assert_eq!(first.await??.0, 200);

    let mut volume = TokenVolume::empty("hosts", "api")?;
    volume.allowed_hosts = "api.example.com\n".into();
    volume.publish("token")?;
    let proxy = Proxy::start("hosts", &["--upstream", &upstream.url(), "--account", &volume.path()]).await?;
    assert_eq!(ask(app.get(proxy.url())).await?, (503, "host_not_allowed".into(), "-".into()));
    assert_eq!(upstream.seen().len(), 1, "the token did not leave");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn time_is_limited_to_the_head_between_bytes_and_in_all() -> Result<()> {
    let upstream = RawUpstream::answering(|seen, stream| {
        let pause = |seconds| std::thread::sleep(Duration::from_secs(seconds));
        match seen.target.as_str() {
            "/head" => pause(4),
            "/idle" => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf.")?;
                pause(4);
            }
            _ => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
                for _ in 0..20 {
                    stream.write_all(b"x")?;
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
        }
        Ok(Next::Close)
    })?;
    let timeouts = json!({"responseHeadersSeconds": 1, "idleSeconds": 1, "totalSeconds": 3});
    let routed = routed("time", &upstream.url(), json!({"timeouts": timeouts})).await?;
    let app = app()?;
    let (url, began) = (routed.proxy.url(), Instant::now());
    assert_eq!(ask(app.get(format!("{url}/head"))).await?, (504, "upstream_timeout".into(), "-".into()));
    assert!((900..2500).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    for (path, least, most) in [("/idle", 900, 2500), ("/total", 2900, 4500)] {
        let began = Instant::now();
        let answer = app.get(format!("{url}{path}")).send().await?;
        assert_eq!(answer.status().as_u16(), 200);
        assert!(answer.bytes().await.is_err(), "{path}: what is cut is not whole");
        assert!((least..most).contains(&began.elapsed().as_millis()), "{path}: {:?}", began.elapsed());
    }
    Ok(())
}
