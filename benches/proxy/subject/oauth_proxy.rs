//! Our proxy, with every feature on.

use super::{Ground, Kind, Subject, start};
use crate::client::KEY;
use crate::testbed::Result;
use crate::testbed::certificates::Authority;
use crate::testbed::process::Process;
use crate::tokens::Accounts;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The accounts of its pool.
const ACCOUNTS: [&str; 2] = ["bench-a", "bench-b"];
/// Requests per second that its client may make: more than anything can.
const NO_LIMIT: u32 = 10_000_000;

/// Two accounts whose tokens change, a client with a key and a rate limit, stickiness, headers of its own, refresh (of which
/// no need arises: every token is good), limits, two routes.
pub async fn begin(ground: &Ground<'_>, folder: &Path) -> Result<Subject> {
    let binary = ground.binary.canonicalize();
    let missing = |error| format!("{}: {error}: cargo build --release --bin oauth-proxy", ground.binary.display());
    let binary = binary.map_err(missing)?;
    let accounts = Accounts::start(&ACCOUNTS, &folder.join("accounts"), ground.known)?;
    let routes = folder.join("routes.yaml");
    // JSON is YAML.
    std::fs::write(&routes, format!("{:#}", configuration(ground, folder, &accounts)?))?;
    let arguments = [
        "--routes",
        &routes.display().to_string(),
        "--admin-listen",
        "127.0.0.1:0",
        "--control-listen",
        "127.0.0.1:0",
        "--threads",
        "1",
        "--log-format",
        "json",
    ];
    let process = start("oauth-proxy", ground, folder, &binary, &arguments.map(str::to_owned))?;
    process.until("listening", Duration::from_secs(10), async || address(&process).is_some()).await?;
    let address = address(&process).ok_or("it has said where it listens")?;
    let mut subject = Subject::new(Kind::OauthProxy, address, process);
    subject.accounts = Some(accounts);
    Ok(subject)
}

fn configuration(ground: &Ground<'_>, folder: &Path, accounts: &Accounts) -> Result<Value> {
    let (upstream, operator, token) = (folder.join("upstream.crt"), folder.join("operator.crt"), folder.join("operator-token"));
    std::fs::write(&upstream, &ground.upstream.authority)?;
    std::fs::write(&operator, Authority::new("operator of the benchmark")?.certificate)?;
    std::fs::write(&token, "never sent")?;
    let digest = ring::digest::digest(&ring::digest::SHA256, KEY.as_bytes());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let route = |name: &str, path: &str, upstream: Value| {
        json!({
            "name": name,
            "path": path,
            "upstream": upstream,
            "pool": ACCOUNTS.map(|account| json!({"account": account, "weight": 1, "priority": 0})),
            "stickyHeader": "x-session-id",
            "headers": {"set": {"X-Team": "bench"}, "strip": ["x-internal-key"]},
            "timeouts": {"connectSeconds": 5, "responseHeadersSeconds": 60, "idleSeconds": 300},
            "limits": {"inFlightPerAccount": 100_000, "replayBytes": 1_048_576},
            "envelope": "OpenAI",
        })
    };
    let mounted = ACCOUNTS.iter().zip(&accounts.folders);
    Ok(json!({
        "accounts": mounted.map(|(name, folder)| json!({"name": name, "directory": folder})).collect::<Vec<_>>(),
        "listeners": [{
            "addresses": ["127.0.0.1:0"],
            "clients": [{"name": "bench", "keySHA256": digest, "requestsPerSecond": NO_LIMIT, "burst": NO_LIMIT}],
            "routes": [
                route("plain", "/", json!({"url": format!("http://{}", ground.upstream.plain)})),
                route("tls", "/tls/", json!({"url": format!("https://localhost:{}", ground.upstream.tls.port()), "caFile": upstream})),
            ],
        }],
        "refresh": {"url": "https://127.0.0.1:9", "caFile": operator, "tokenFile": token, "namespace": "bench"},
    }))
}

/// Where it serves requests, by its log.
fn address(process: &Process) -> Option<SocketAddr> {
    let output = process.output();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut data = lines.filter(|line| line["msg"] == "listening" && line["listener"] == "data");
    data.next()?["address"].as_str()?.parse().ok()
}
