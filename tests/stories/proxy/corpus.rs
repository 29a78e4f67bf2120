//! Malformed requests over a raw socket (tests/corpus/requests.yaml): what the proxy answers, what nginx answers in its place,
//! and what the server behind each of them saw.

use crate::testbed::nginx::{self, Nginx};
use crate::testbed::process::free_port;
use crate::testbed::proxy::Proxy;
use crate::testbed::raw_upstream::RawUpstream;
use crate::testbed::token_volume::TokenVolume;
use crate::testbed::wire::Wire;
use crate::testbed::{Result, authorization_server::random, root};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long nobody must say anything for a connection to count as left open.
const SILENCE: Duration = Duration::from_secs(3);
/// Cases at the same time.
const AT_ONCE: usize = 60;

/// A piece of what is sent.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Piece {
    Text(String),
    Repeat { repeat: String, times: usize },
    Hex { hex: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Bytes {
    One(String),
    Many(Vec<Piece>),
}

impl Bytes {
    fn bytes(&self) -> Vec<u8> {
        let Self::Many(pieces) = self else {
            let Self::One(text) = self else { unreachable!("one of two") };
            return text.as_bytes().into();
        };
        let digits =
            |hex: &str| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.as_bytes().to_vec(),
            Piece::Repeat { repeat, times } => repeat.repeat(*times).into_bytes(),
            Piece::Hex { hex } => digits(hex),
        };
        pieces.iter().flat_map(piece).collect()
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    /// Status codes of all answers, and what became of the connection.
    answer: String,
    /// What the server behind saw: method, target, bytes of the body, whether that has no end yet. What it could not read begins
    /// with `!`.
    #[serde(default)]
    upstream: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    send: Bytes,
    nginx: Outcome,
    proxy: Outcome,
    /// Why the two differ.
    difference: Option<String>,
}

/// Sends a case's bytes, and sees what comes of it.
fn outcome(address: SocketAddr, bytes: &[u8], upstream: &RawUpstream) -> Result<Outcome> {
    let mut wire = Wire::to(address)?;
    wire.send(bytes);
    let answer = wire.hear(SILENCE)?.line();
    let mut seen = upstream.lines();
    // How much of a request arrived before it was broken off is a matter of moments; what still waits, is there to stay.
    if answer.ends_with("closed") {
        seen.retain(|line| !line.ends_with(" cut"));
    }
    // A target of 100 KiB is as good as its length.
    seen.iter_mut().filter(|line| line.len() > 200).for_each(|line| *line = format!("a line of {} characters", line.len()));
    // What it could not read is described by its first word: the rest depends on where reading began.
    seen.extend(upstream.faults().iter().map(|fault| format!("! {}", fault.split(':').next().unwrap_or_default())));
    Ok(Outcome { answer, upstream: seen })
}

/// The address of a case's own listener: one port, and as many loopback addresses as there are cases.
fn address(block: u8, index: usize, port: u16) -> SocketAddr {
    let [.., high, low] = u32::try_from(index + 1).expect("few").to_be_bytes();
    (Ipv4Addr::new(127, block, high, low), port).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_requests_are_answered_as_the_corpus_says() -> Result<()> {
    if nginx::skip() {
        return Ok(());
    }
    let cases: Vec<Case> = serde_saphyr::from_str(&std::fs::read_to_string(root().join("tests/corpus/requests.yaml"))?)?;
    let (token, port) = (random(), free_port()?);
    let volume = TokenVolume::with("corpus", "api", &token)?;
    let (mut listeners, mut servers, mut upstreams) = (vec![], String::new(), vec![]);
    for (index, case) in cases.iter().enumerate() {
        let (behind_proxy, behind_nginx) = (RawUpstream::start()?, RawUpstream::start()?);
        let route = json!({"name": case.name, "upstream": {"url": behind_proxy.url()}, "pool": [{"account": "api"}]});
        listeners.push(json!({"addresses": [address(77, index, port)], "routes": [route]}));
        // As near to the proxy's job as nginx comes: HTTP/1.1 on kept connections, a credential of its own, bodies as they come.
        servers += &format!(
            "server {{ listen {}; location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_set_header Connection ''; \
             proxy_set_header Authorization 'Bearer {token}'; proxy_request_buffering off; client_max_body_size 0; }} }}\n",
            address(78, index, port),
            behind_nginx.url()
        );
        upstreams.push((behind_proxy, behind_nginx));
    }
    let routes = json!({"accounts": [{"name": "api", "directory": volume.path()}], "listeners": listeners});
    let proxy = Proxy::routed("corpus", &routes).await?;
    proxy.until_ready().await?;
    let first = format!("server {{ listen 127.0.0.1:{port}; return 204; }}\n");
    let nginx = Nginx::start("corpus-nginx", port, &(first + &servers)).await?;

    let run = |index: usize| -> Result<(Outcome, Outcome)> {
        let bytes = cases[index].send.bytes();
        let (behind_proxy, behind_nginx) = &upstreams[index];
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| outcome(address(77, index, port), &bytes, behind_proxy));
            let theirs = outcome(address(78, index, port), &bytes, behind_nginx)?;
            Ok((ours.join().expect("no panic")?, theirs))
        })
    };
    let indices: Vec<usize> = (0..cases.len()).collect();
    let mut outcomes = vec![];
    for batch in indices.chunks(AT_ONCE) {
        outcomes.extend(std::thread::scope(|scope| -> Result<Vec<_>> {
            let running: Vec<_> = batch.iter().map(|index| scope.spawn(move || run(*index))).collect();
            running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        })?);
    }

    // Other versions of nginx answer otherwise here and there; what it says is compared where the corpus knows it.
    let known = nginx::is("1.22.")?;
    let mut wrong = vec![];
    for (case, (ours, theirs)) in cases.iter().zip(&outcomes) {
        if *ours != case.proxy || (known && *theirs != case.nginx) {
            wrong.push(json!({"name": case.name, "nginx": theirs, "proxy": ours}).to_string());
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} cases are not as the corpus says; they are:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    // Whatever came in, what goes out can be read in one way only, and with one credential.
    for (case, (upstream, _)) in cases.iter().zip(&upstreams) {
        assert_eq!(upstream.faults(), [""; 0], "{}", case.name);
        for seen in upstream.seen() {
            assert_eq!(seen.all("authorization"), [format!("Bearer {token}")], "{}", case.name);
            assert_eq!(seen.all("host"), [upstream.address.to_string()], "{}", case.name);
            assert!(seen.all("content-length").len() + seen.all("transfer-encoding").len() <= 1, "{}: {seen:?}", case.name);
            let forged = |(name, _): &&(String, String)| {
                ["authorization", "content-length", "host", "transfer-encoding"].contains(&name.as_str())
            };
            assert_eq!(seen.trailers.iter().find(forged), None, "{}", case.name);
            for field in ["connection", "keep-alive", "proxy-connection", "proxy-authorization"] {
                assert!(seen.all(field).is_empty() || case.name == "upgrade-with-a-body", "{}: {seen:?}", case.name);
            }
        }
    }
    for case in &cases {
        assert_eq!(case.difference.is_some(), case.nginx != case.proxy, "{}: a sentence for each difference", case.name);
    }
    drop(nginx);
    Ok(())
}
