//! nginx behind the proxy, judged by curl in front of it: files, ranges, uploads, connections that end, HTTP/2 under TLS.

use crate::testbed::certificates::Authority;
use crate::testbed::curl::{self, curl};
use crate::testbed::nginx::{self, Nginx};
use crate::testbed::process::{folder, free_port};
use crate::testbed::proxy::Proxy;
use crate::testbed::token_volume::TokenVolume;
use crate::testbed::{Result, authorization_server::random};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

/// Kinds of servers: a route each, by which it is found.
const KINDS: [&str; 8] = ["kept", "never-kept", "kept-a-second", "kept-once", "big", "h2", "h2-of-twenty", "h2-of-two-at-once"];

/// nginx with a server of each kind, and a proxy in front of all.
struct World {
    nginx: Nginx,
    proxy: Proxy,
    token: String,
    /// What lies in `file` of each.
    file: Vec<u8>,
}

impl World {
    async fn start(name: &str) -> Result<Self> {
        let (port, token, folder) = (free_port()?, random(), folder(name)?);
        let file: Vec<u8> = random().bytes().cycle().take(1 << 20).collect();
        for kind in KINDS {
            std::fs::create_dir_all(folder.join("files").join(kind))?;
            std::fs::write(folder.join("files").join(kind).join("file"), &file)?;
        }
        let authority = Authority::new(name)?;
        authority.server(&["127.0.0.6", "127.0.0.7", "127.0.0.8", "localhost"])?.store(&folder, "nginx")?;
        std::fs::write(folder.join("nginx-ca.crt"), &authority.certificate)?;
        let tls = "ssl_certificate {folder}/nginx.crt; ssl_certificate_key {folder}/nginx.key;";
        let kinds = [
            String::new(),
            "keepalive_timeout 0;".into(),
            "keepalive_timeout 1s;".into(),
            "keepalive_requests 1;".into(),
            (0..8).fold("large_client_header_buffers 4 64k;".into(), |all: String, number| {
                format!("{all} add_header X-Big-{number} '{}';", "b".repeat(3000))
            }),
            tls.into(),
            format!("{tls} keepalive_requests 20; location /h2-of-twenty/said {{ return 200 said; }}"),
            format!("{tls} http2_max_concurrent_streams 2; location /h2-of-two-at-once/said {{ return 200 said; }}"),
        ];
        let (mut servers, mut routes) = (String::new(), vec![]);
        for (index, (kind, settings)) in KINDS.iter().zip(&kinds).enumerate() {
            let (address, flags) =
                (format!("127.0.0.{}:{port}", index + 1), if kind.starts_with("h2") { " ssl http2" } else { "" });
            servers += &format!(
                "server {{ listen {address}{flags}; root {{folder}}/files; dav_methods PUT; client_max_body_size 0; {settings} }}\n"
            );
            let upstream = if kind.starts_with("h2") {
                json!({"url": format!("https://{address}"), "caFile": folder.join("nginx-ca.crt")})
            } else {
                json!({"url": format!("http://{address}")})
            };
            routes.push(json!({"name": kind, "path": format!("/{kind}"), "upstream": upstream, "pool": [{"account": "api"}]}));
        }
        let nginx = Nginx::start(name, port, &servers).await?;
        let volume = TokenVolume::with(name, "api", &token)?;
        let proxy = Proxy::routed(
            name,
            &json!({
                "accounts": [{"name": "api", "directory": volume.path()}],
                "listeners": [{"addresses": ["127.0.0.1:0"], "routes": routes}],
            }),
        )
        .await?;
        proxy.until_ready().await?;
        Ok(Self { nginx, proxy, token, file })
    }

    fn url(&self, kind: &str) -> String {
        format!("{}/{kind}/file", self.proxy.url())
    }

    /// What nginx has logged of a kind.
    fn requests(&self, kind: &str) -> Result<Vec<Value>> {
        let start = format!("/{kind}/");
        let all = self.nginx.requests()?.into_iter();
        Ok(all.filter(|request| request["uri"].as_str().is_some_and(|uri| uri.starts_with(&start))).collect())
    }
}

fn skip() -> bool {
    nginx::skip() || curl::skip()
}

fn connections(requests: &[Value]) -> usize {
    requests.iter().map(|request| request["connection"].to_string()).collect::<BTreeSet<_>>().len()
}

#[tokio::test]
async fn files_and_ranges_are_nginxs_own() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let world = World::start("nginx-files").await?;
    for kind in ["kept", "h2"] {
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let get = async |more: &[&str]| curl(&[&[version, world.url(kind).as_str()], more].concat()).await;
            let whole = get(&[]).await?;
            assert_eq!((whole.exit, whole.status, whole.body == world.file), (0, 200, true), "{kind} {version}");
            let tag = whole.header("etag").ok_or("no ETag")?.to_owned();
            let part = get(&["--range", "1000-1999"]).await?;
            assert_eq!((part.exit, part.status, part.body.as_slice()), (0, 206, &world.file[1000..2000]), "{kind} {version}");
            assert_eq!(part.header("content-range"), Some("bytes 1000-1999/1048576"), "{kind} {version}");
            let end = get(&["--range", "-10"]).await?;
            assert_eq!((end.status, end.body.as_slice()), (206, &world.file[world.file.len() - 10..]), "{kind} {version}");
            let parts = get(&["--range", "0-9,20-29"]).await?;
            let kind_of = parts.header("content-type").unwrap_or_default();
            assert_eq!(
                (parts.exit, parts.status, kind_of.starts_with("multipart/byteranges")),
                (0, 206, true),
                "{kind} {version}"
            );
            let beyond = get(&["--range", "2000000-"]).await?;
            assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */1048576")), "{kind} {version}");
            let same = get(&["-H", &format!("If-None-Match: {tag}")]).await?;
            assert_eq!((same.exit, same.status, same.body.len()), (0, 304, 0), "{kind} {version}");
            let head = get(&["--head"]).await?;
            assert_eq!((head.exit, head.status, head.header("content-length")), (0, 200, Some("1048576")), "{kind} {version}");
            let missing = curl(&[version, &format!("{}/{kind}/nothing", world.proxy.url())]).await?;
            assert_eq!((missing.status, missing.header("x-oauth-proxy-error")), (404, None), "{kind} {version}");
            assert!(missing.text().contains("nginx"), "{kind} {version}: {}", missing.text());
        }
        let requests = world.requests(kind)?;
        assert_eq!(requests.len(), 16, "{kind}");
        let bearer = format!("Bearer {}", world.token);
        assert!(requests.iter().all(|request| request["authorization"] == bearer.as_str()), "{kind}");
        let protocol = if kind == "h2" { "HTTP/2.0" } else { "HTTP/1.1" };
        assert!(requests.iter().all(|request| request["protocol"] == protocol), "{kind}: {requests:?}");
        // Each curl is a connection of its own; towards nginx there is one for all.
        assert_eq!(connections(&requests), 1, "{kind}: {requests:?}");
    }
    Ok(())
}

#[tokio::test]
async fn uploads_of_every_kind_lie_in_nginxs_folder() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let world = World::start("nginx-uploads").await?;
    let body: Vec<u8> = random().bytes().cycle().take(2_000_003).collect();
    let source = world.nginx.folder.join("source");
    std::fs::write(&source, &body)?;
    let source = source.display().to_string();
    for kind in ["kept", "kept-once", "h2"] {
        for (number, version, header) in [
            (0, "--http1.1", "Expect:"),
            (1, "--http1.1", "Expect: 100-continue"),
            (2, "--http1.1", "Transfer-Encoding: chunked"),
            (3, "--http2-prior-knowledge", "Expect:"),
        ] {
            let url = format!("{}/{kind}/upload-{number}", world.proxy.url());
            let put = curl(&[version, "--upload-file", &source, "-H", header, &url]).await?;
            assert_eq!((put.exit, put.status), (0, 201), "{kind} {version} {header}: {}", put.text());
            let stored = std::fs::read(world.nginx.folder.join("files").join(kind).join(format!("upload-{number}")))?;
            assert!(stored == body, "{kind} {version} {header}: {} bytes of {}", stored.len(), body.len());
        }
    }
    Ok(())
}

#[tokio::test]
async fn connections_that_nginx_ends_cost_nobody_a_request() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let world = World::start("nginx-connections").await?;
    for kind in ["never-kept", "kept-once", "kept"] {
        // One client's connection for all, so that one request follows the other at once.
        let urls = vec![world.url(kind); 40];
        let mut arguments: Vec<&str> = vec!["--range", "0-9"];
        arguments.extend(urls.iter().map(String::as_str));
        let fetched = curl(&arguments).await?;
        let answers = fetched.heads.matches("HTTP/1.1 206").count();
        assert_eq!((fetched.exit, answers), (0, 40), "{kind}: {}", fetched.heads);
        let requests = world.requests(kind)?;
        // As many as were asked for: none is lost, and none is sent twice.
        assert_eq!(requests.len(), 40, "{kind}");
        assert_eq!(connections(&requests), if kind == "kept" { 1 } else { 40 }, "{kind}");
    }
    for round in 0..4 {
        let fetched =
            curl(&["--request", "POST", "--data", "x", &format!("{}/kept-a-second/nothing", world.proxy.url())]).await?;
        assert_eq!((fetched.status, fetched.header("x-oauth-proxy-error")), (404, None), "round {round}: {}", fetched.heads);
        tokio::time::sleep(Duration::from_millis(1300)).await;
    }
    let requests = world.requests("kept-a-second")?;
    assert_eq!((requests.len(), connections(&requests)), (4, 4));
    Ok(())
}

/// RFC 9113 §6.8 and §8.7: what a server says that it did nothing with is sent again, whatever its method.
#[tokio::test]
async fn what_nginx_says_that_it_did_nothing_with_is_sent_again() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let world = World::start("nginx-unprocessed").await?;
    // A connection of twenty requests ends with GOAWAY; streams beyond two at once are refused, where the client has not
    // heard yet that there are no more.
    for (kind, at_once) in [("h2-of-twenty", 20), ("h2-of-two-at-once", 40)] {
        let url = format!("{}/{kind}/said", world.proxy.url());
        let body = world.nginx.folder.join("request-body");
        std::fs::write(&body, "ten bytes.")?;
        let arguments =
            ["-n", "400", "-c", &at_once.to_string(), "-m", "1", "-d", &body.display().to_string(), &url].map(str::to_owned);
        let output = tokio::task::spawn_blocking(move || Command::new("h2load").args(arguments).output()).await??;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(report.contains("status codes: 400 2xx, 0 3xx, 0 4xx, 0 5xx"), "{kind}: {report}");
        let requests = world.requests(kind)?;
        let answered = requests.iter().filter(|request| request["status"] == json!(200)).count();
        assert_eq!(answered, 400, "{kind}: none is executed twice");
        assert!(requests.iter().all(|request| request["protocol"] == json!("HTTP/2.0")), "{kind}");
    }
    Ok(())
}

#[tokio::test]
async fn big_heads_pass_in_both_directions() -> Result<()> {
    if skip() {
        return Ok(());
    }
    let world = World::start("nginx-big").await?;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let big = format!("X-Mine: {}", "a".repeat(24_000));
        let fetched = curl(&[version, "-H", &big, &world.url("big")]).await?;
        assert_eq!((fetched.exit, fetched.status), (0, 200), "{version}: {}", fetched.text());
        let big = (0..8).filter(|number| fetched.header(&format!("x-big-{number}")).is_some_and(|value| value.len() == 3000));
        assert_eq!(big.count(), 8, "{version}: {}", fetched.heads);
        assert!(fetched.body == world.file, "{version}");
    }
    // What nginx refuses, nginx refuses.
    let fetched = curl(&["-H", &format!("X-Mine: {}", "a".repeat(24_000)), &world.url("kept")]).await?;
    assert_eq!((fetched.status, fetched.header("x-oauth-proxy-error")), (400, None), "{}", fetched.heads);
    Ok(())
}
