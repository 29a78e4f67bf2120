//! Tokens of five minutes, for as long as one likes: not one may expire, and each refresh costs one request. `make bench-renewals` runs it.
//!
//! `ACCOUNTS` (default 10,000) and `MINUTES` (default 15).
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used, reason = "a program for a terminal")]

mod cost;
mod figures;
#[path = "../tests/testbed/mod.rs"]
mod testbed;

use cost::{memory, processor};
use figures::Figure;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, PostParams};
use kube_runtime::watcher;
use oauth_operator::api::OAuthAccount;
use rustix::process::Signal;
use serde_json::json;
use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};
use testbed::Result;
use testbed::authorization_server::Client as OAuthClient;
use testbed::cluster::Cluster;
use testbed::story::{Reach, Story, account};

fn number(variable: &str, default: usize) -> Result<usize> {
    std::env::var(variable).map_or(Ok(default), |text| text.parse().map_err(Into::into))
}

/// What the watch has shown of the tokens.
#[derive(Default)]
struct Seen {
    /// By Secret: when its token expires, and its generation.
    tokens: HashMap<String, (Timestamp, i64)>,
    expired: usize,
    refreshes: i64,
    /// Seconds that were left of a token when the next one came, at least.
    least_left: f64,
}

impl Seen {
    fn see(&mut self, secret: &Secret, now: Timestamp) -> Result<()> {
        let text = |key: &str| -> Result<String> {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key)).ok_or("a key is missing")?;
            Ok(String::from_utf8(bytes.0.clone())?)
        };
        let (expires, generation): (Timestamp, i64) = (text("expires_at")?.parse()?, text("generation")?.parse()?);
        let name = secret.metadata.name.clone().unwrap_or_default();
        if let Some((before, last)) = self.tokens.insert(name, (expires, generation))
            && generation > last
        {
            self.refreshes += generation - last;
            let left = before.duration_since(now).as_secs_f64();
            self.least_left = self.least_left.min(left);
            self.expired += usize::from(left < 0.0);
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (count, minutes) = (number("ACCOUNTS", 10_000)?, number("MINUTES", 15)?);
    let cluster = Cluster::start_silent("renewals").await?;
    let story = Story::begin(&cluster, "renewals", Reach::Tenant).await?;
    let endpoint = story.faulty_endpoint().await?;
    let path = "/lifetime/300";
    let (provider, oauth) =
        (endpoint.at(path), OAuthClient { id: "bench".into(), secret: testbed::authorization_server::random() });
    story.secret("bench-client", &[("client_secret", &oauth.secret)])?;
    let client = testbed::client::client(&cluster.kubeconfig).await?;
    let accounts: Api<OAuthAccount> = Api::namespaced(client.clone(), &story.apps);
    eprintln!("making {count} accounts ...");
    stream::iter(0..count)
        .map(|number| {
            let seed = json!({"client": {"secretRef": {"name": "bench-client"}}});
            let made = account(&format!("account-{number}"), &provider, &oauth, &seed);
            let accounts = accounts.clone();
            async move { accounts.create(&PostParams::default(), &serde_json::from_value(made).expect("an account")).await.map(drop) }
        })
        .buffer_unordered(64)
        .try_collect::<Vec<()>>()
        .await?;

    let operator = story.released_operator("oauth-operator", None).await?;
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=oauth-operator");
    let mut events = pin!(watcher(Api::<Secret>::namespaced(client, &story.apps), ours));
    let mut seen = Seen { least_left: f64::INFINITY, ..Seen::default() };
    // From the moment that all have a token.
    let (mut began, mut before) = (None, (0.0, 0_i64));
    eprintln!("{minutes} minutes from the last first token ...");
    while began.is_none_or(|began: Instant| began.elapsed() < Duration::from_secs(60 * minutes as u64)) {
        let Ok(event) = tokio::time::timeout(Duration::from_secs(1), events.try_next()).await else { continue };
        if let watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) = event?.ok_or("the watch ended")? {
            seen.see(&secret, Timestamp::now())?;
        }
        if began.is_none() && seen.tokens.len() == count {
            began = Some(Instant::now());
            before = (processor(&operator.process)?, seen.refreshes);
        }
    }
    let now = Timestamp::now();
    seen.expired += seen.tokens.values().filter(|(expires, _)| *expires < now).count();
    let (used, peak) = (processor(&operator.process)? - before.0, memory(&operator.process, "VmHWM")?);
    // What is under way is brought to its end, and seen.
    operator.process.signal(Signal::TERM);
    operator.process.end_within(Duration::from_secs(30)).await.ok_or("SIGTERM does not end it")?;
    while let Ok(event) = tokio::time::timeout(Duration::from_secs(2), events.try_next()).await {
        if let watcher::Event::Apply(secret) = event?.ok_or("the watch ended")? {
            seen.see(&secret, now)?;
        }
    }
    let issued: i64 = seen.tokens.values().map(|(_, generation)| generation).sum();
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let figures = {
        let seconds = 60.0 * minutes as f64;
        let name = |what: &str| format!("{count} tokens of 5 minutes for {minutes}: {what}");
        vec![
            Figure::at_most(name("expired"), "tokens", seen.expired as f64, 0.0),
            Figure::at_most(name("requests a token"), "requests", endpoint.requests(path) as f64 / issued as f64, 1.0),
            Figure::alone(name("refreshes"), "refreshes", (seen.refreshes - before.1) as f64),
            Figure::alone(name("least that was left"), "s", seen.least_left),
            Figure::alone(name("processor"), "% of a core", used / seconds * 100.0),
            Figure::alone(name("peak memory"), "MiB", peak),
        ]
    };
    figures::conclude(&figures, &testbed::root().join("target/bench"), "renewals")
}
