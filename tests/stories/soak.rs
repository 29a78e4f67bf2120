//! A long time under load while everything that can happen does: refreshes, revocations, accounts that cannot be helped,
//! connections that end, an operator that is killed. Not one error reaches the app that some account could have avoided.
//!
//! `SOAK_ROUNDS` (default 2) says how often each thing happens; 20 rounds take ten minutes: `make soak`.

use super::sidecar::{AT_LOOPBACK, Plan, Scene};
use crate::testbed::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Requests a second.
const RATE: u64 = 200;
/// A round: long enough for the floor between two forced refreshes of an account not to be the only thing that is tried.
const ROUND: Duration = Duration::from_secs(30);
/// Each tenth request has a body, and cannot be sent again once something of it may have been received.
const POSTS: u64 = 10;

/// How requests ended, by status and code of the proxy's own.
type Endings = Arc<Mutex<BTreeMap<String, u64>>>;

/// Sends requests at the rate until told to stop.
async fn load(app: reqwest::Client, url: String, stop: Arc<AtomicBool>, endings: Endings) {
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut asking = tokio::task::JoinSet::new();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        number += 1;
        let post = number % POSTS == 0;
        let request = if post { app.post(format!("{url}/items")).body("item") } else { app.get(format!("{url}/items")) };
        let endings = endings.clone();
        asking.spawn(async move {
            let ending = match request.send().await {
                Err(error) => format!("no answer: {error:?}"),
                Ok(answer) => {
                    let code =
                        answer.headers().get("x-oauth-proxy-error").and_then(|code| code.to_str().ok()).unwrap_or("-").to_owned();
                    let status = answer.status().as_u16();
                    let whole = answer.bytes().await.is_ok();
                    format!("{} {status} {code}{}", if post { "POST" } else { "GET" }, if whole { "" } else { " cut" })
                }
            };
            *endings.lock().expect("no test panics with it").entry(ending).or_default() += 1;
        });
        while asking.try_join_next().is_some() {}
    }
    while asking.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_could_be_avoided_reaches_the_app() -> Result<()> {
    let rounds: u32 = std::env::var("SOAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2);
    let plan = Plan {
        accounts: &["first", "second", "third"],
        // Connections that end are the upstream's doing: what may be sent twice is.
        route: json!({"retryIdempotent": true}),
        watched: true,
        late: &[],
    };
    let mut scene = Scene::begin("soak", plan).await?;
    let listen = scene.operator.tls_address.to_string();
    let (stop, endings) = (Arc::new(AtomicBool::new(false)), Endings::default());
    let load = tokio::spawn(load(scene.app.clone(), scene.proxy.url(), stop.clone(), endings.clone()));
    let mut resets = 0;
    for _ in 0..rounds {
        let until = tokio::time::Instant::now() + ROUND;
        // A refresh by hand.
        let annotation = format!("oauth-operator.dev/refresh-requested-at={}", jiff::Timestamp::now());
        scene.story.kubectl().run(&["annotate", "oauthaccount", "first", "--overwrite", &annotation])?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        // A token that ends before its time.
        scene.revoke("second").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        // An account that cannot be helped, for a while.
        scene.spoil("third").await?;
        scene.revoke("third").await?;
        // Connections that end without an answer.
        for _ in 0..3 {
            scene.api.reset(1);
            resets += 1;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        // The operator is killed, and comes back at the same place, as a container that is started again.
        let flags = [&AT_LOOPBACK[..], &["--listen-tls", &listen]].concat();
        scene.operator.process.signal(rustix::process::Signal::KILL);
        scene.operator.process.end_within(Duration::from_secs(5)).await.ok_or("the operator lives on")?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        scene.operator = scene.story.operator_with("operator-1", &flags).await?;
        scene.restore("third")?;
        tokio::time::sleep_until(until).await;
    }
    stop.store(true, Ordering::Relaxed);
    load.await?;
    let endings = endings.lock().expect("no test panics with it").clone();
    let of = |ending: &str| endings.get(ending).copied().unwrap_or(0);
    let all: u64 = endings.values().sum();
    let expected = u64::from(rounds) * ROUND.as_secs() * RATE;
    assert!(all > expected * 8 / 10, "{all} of {expected} requests were sent: {endings:?}");
    // A POST whose connection ended may have been received: that it failed is told, and it is not sent again.
    let unavoidable = of("POST 502 upstream_broken");
    assert!(unavoidable <= resets, "{endings:?}");
    assert_eq!(of("GET 200 -") + of("POST 200 -") + unavoidable, all, "{endings:?}");
    Ok(())
}
