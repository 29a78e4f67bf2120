//! What the product promises about accounts in numbers: from nothing to every token published, beside the API server's own
//! write ceiling in the same run; from apply to Secret; memory at rest. `make bench` runs it.
//!
//! `ACCOUNTS=1000,10000` says how many; the token endpoint is ours and costs next to nothing.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used, reason = "a program for a terminal")]

mod cost;
mod figures;
#[path = "../tests/testbed/mod.rs"]
mod testbed;
mod under_load;

use cost::{memory, processor};
use figures::Figure;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube_runtime::watcher;
use oauth_operator::api::OAuthAccount;
use serde_json::json;
use std::pin::pin;
use std::time::{Duration, Instant};
use testbed::Result;
use testbed::authorization_server::Client as OAuthClient;
use testbed::cluster::Cluster;
use testbed::operator::Operator;
use testbed::story::{Reach, Story, account};

/// Requests that the bare client has under way at once: as many as the operator.
const CONCURRENT: usize = 64;
/// Accounts applied one after another to measure the time from apply to Secret.
const APPLIED_AT_REST: usize = 200;
/// Writes that a first token costs.
const WRITES_PER_ACCOUNT: f64 = 2.0;

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let counts = std::env::var("ACCOUNTS").unwrap_or_else(|_| "1000,10000".into());
    let mut figures = vec![];
    for count in counts.split(',') {
        figures.extend(measure(count.trim().parse()?).await?);
    }
    figures::conclude(&figures, &testbed::root().join("target/bench"), "accounts")
}

async fn measure(count: usize) -> Result<Vec<Figure>> {
    let cluster = Cluster::start_silent(&format!("bench-{count}")).await?;
    let story = Story::begin(&cluster, &format!("bench-{count}"), Reach::Tenant).await?;
    let endpoint = story.faulty_endpoint().await?;
    let provider = endpoint.at("/lifetime/36000");
    let oauth = OAuthClient { id: "bench".into(), secret: testbed::authorization_server::random() };
    story.secret("bench-client", &[("client_secret", &oauth.secret)])?;
    let client = testbed::client::client(&cluster.kubeconfig).await?;
    let accounts: Api<OAuthAccount> = Api::namespaced(client.clone(), &story.apps);
    let made = |name: String| -> Result<OAuthAccount> {
        let seed = json!({"client": {"secretRef": {"name": "bench-client"}}});
        Ok(serde_json::from_value(account(&name, &provider, &oauth, &seed))?)
    };

    eprintln!("{count}: the API server's write ceiling ...");
    let apart = Story::begin(&cluster, &format!("bare-{count}"), Reach::Tenant).await?;
    let before = ceiling(&client, &apart.apps, count).await?;
    eprintln!("{count}: {before:.0} writes/s; making the accounts ...");
    stream::iter((0..count).map(|number| made(format!("account-{number}"))))
        .map(|account| async { testbed::Result::Ok(accounts.create(&PostParams::default(), &account?).await?) })
        .buffer_unordered(CONCURRENT)
        .try_collect::<Vec<_>>()
        .await?;

    let start = writes_of_start(&cluster, count).await?;
    eprintln!("{count}: from nothing to every token published ...");
    let began = Instant::now();
    let operator = story.released_operator("oauth-operator", None).await?;
    let path = "/lifetime/36000";
    let (took, all_told) = tokio::try_join!(
        async { published(&client, &story.apps, count).await.map(|()| began.elapsed().as_secs_f64()) },
        async { settled(&accounts, count, 1).await.map(|()| began.elapsed().as_secs_f64()) },
    )?;
    // The namespace is told of the operator's CA as soon as there is an account: one ConfigMap, however many there are.
    let written = written(&operator).await? - start - 1.0;
    let requests = endpoint.requests(path);
    let peak = memory(&operator.process, "VmHWM")?;

    eprintln!("{count}: at rest ...");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (processor_before, writes_before) = (processor(&operator.process)?, self::written(&operator).await?);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let (processor_after, idle_writes) = (processor(&operator.process)?, self::written(&operator).await? - writes_before);
    let resting = memory(&operator.process, "VmRSS")?;
    eprintln!("{count}: from apply to Secret, and the ceiling once more: an API server is faster when it is warm ...");
    let applied = Applied { namespace: &story.apps, accounts: &accounts, made: &made };
    let mut latencies = from_apply_to_secret(&client, &applied, "late", APPLIED_AT_REST).await?;
    let apart = Story::begin(&cluster, &format!("bare-again-{count}"), Reach::Tenant).await?;
    let ceiling = before.max(ceiling(&client, &apart.apps, count).await?);
    latencies.sort_by(f64::total_cmp);
    eprintln!("{count}: after a restart, while all start anew, and among strangers' Secrets ...");
    let (operator, under_load) = under_load::measure(&story, &client, count, operator, applied).await?;
    let strangers = under_load::strangers(&story, &client, count, &operator).await?;
    let percentile = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];

    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let (n, writes, requests) = (count as f64, written, requests as f64);
    let goal = 0.5 * ceiling / WRITES_PER_ACCOUNT;
    let speed = n / took;
    let mut figures = vec![
        Figure {
            name: format!("{count} accounts from nothing"),
            unit: "accounts/s",
            ours: speed,
            reference: Some((ceiling / WRITES_PER_ACCOUNT, "write ceiling ÷ writes per account")),
            goal: Some((goal, speed >= goal)),
        },
        Figure::alone(format!("{count} accounts from nothing: the last one Ready"), "s", all_told),
        Figure::at_most(format!("{count}: writes per first token"), "writes", writes / n, WRITES_PER_ACCOUNT),
        Figure::at_most(format!("{count}: token requests per first token"), "requests", requests / n, 1.0),
        Figure::at_most(format!("{count} resting: apply to Secret, p50"), "ms", percentile(0.5), 10.0),
        Figure::at_most(format!("{count} resting: apply to Secret, p99"), "ms", percentile(0.99), 20.0),
        Figure::at_most(format!("{count} resting: writes in 20 s beside the Lease"), "writes", idle_writes, 0.0),
        Figure::at_most(
            format!("{count} resting: processor"),
            "% of a core",
            (processor_after - processor_before) / 20.0 * 100.0,
            1.0,
        ),
        Figure::at_most(format!("{count} resting: memory"), "MiB", resting, 64.0),
        Figure::alone(format!("{count}: peak memory"), "MiB", peak),
    ];
    figures.extend(under_load);
    figures.push(strangers);
    if count == 10_000 {
        figures.insert(1, Figure::at_most("10000 accounts from nothing".into(), "s", took, 25.0));
    }
    Ok(figures)
}

/// Writes per second that the API server takes from a bare client: as many Secrets and status patches as the operator
/// makes, of the same size.
async fn ceiling(client: &Client, namespace: &str, count: usize) -> Result<f64> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<OAuthAccount> = Api::namespaced(client.clone(), namespace);
    let bare = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount", "metadata": {"name": "bare"},
        "spec": {"provider": {"issuer": "https://a.example"}, "client": {"id": "a", "secretRef": {"name": "a", "key": "a"}}, "grant": {"clientCredentials": {}}}
    });
    stream::iter(0..count)
        .map(|number| {
            let (mut one, accounts) = (bare.clone(), accounts.clone());
            one["metadata"]["name"] = json!(format!("bare-{number}"));
            async move { accounts.create(&PostParams::default(), &serde_json::from_value(one).expect("an account")).await.map(drop) }
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<Vec<()>>()
        .await?;
    let secret = move |number: usize| -> Secret {
        let annotations = json!({"oauth-operator.dev/account": "account-1234", "oauth-operator.dev/issued-at": "2026-01-01T00:00:00Z",
            "oauth-operator.dev/expiry-source": "Field", "oauth-operator.dev/request-digest": "0123456789abcdef0123456789abcdef",
            "oauth-operator.dev/template": "{\"labels\":[],\"annotations\":[]}"});
        serde_json::from_value(json!({
            "metadata": {"name": format!("bare-{number}"), "annotations": annotations, "labels": {"app.kubernetes.io/managed-by": "bare"}},
            "stringData": {"access_token": testbed::authorization_server::random(), "token_type": "Bearer", "scope": "",
                "expires_at": "2026-01-01T00:00:00Z", "generation": "1", "allowed_hosts": ""}
        }))
        .expect("a Secret")
    };
    let status = move |number: usize| {
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": "TokenPublished", "observedGeneration": 1,
            "message": "A valid access token is published in Secret account-1234-token.", "lastTransitionTime": "2026-01-01T00:00:00Z"})
        };
        json!([{"op": "add", "path": "/status", "value": {
            "observedGeneration": 1, "conditions": [condition("Ready"), condition("Authorized")], "provider": "Custom", "grant": "ClientCredentials",
            "failedAttempts": number % 1000, "tokenSecretName": "account-1234-token", "tokenSecretResourceVersion": "12345",
            "nextRefreshTime": "2026-01-01T00:00:00Z", "lastAttemptTime": "2026-01-01T00:00:00Z", "lastSuccessTime": "2026-01-01T00:00:00Z",
            "token": {"expirationTime": "2026-01-01T00:00:00Z", "issuedTime": "2026-01-01T00:00:00Z", "generation": 1, "tokenType": "Bearer",
                "expirySource": "Field", "fingerprint": "01234567"},
            "history": [{"startTime": "2026-01-01T00:00:00Z", "trigger": "Missing", "result": "Succeeded", "durationMilliseconds": 3}]
        }}])
    };
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for worker in 0..CONCURRENT {
        let (secrets, accounts) = (secrets.clone(), accounts.clone());
        workers.spawn(async move {
            for number in (worker..count).step_by(CONCURRENT) {
                secrets.create(&PostParams::default(), &secret(number)).await?;
                let patch = Patch::Json::<()>(serde_json::from_value(status(number)).expect("a patch"));
                accounts.patch_status(&format!("bare-{number}"), &PatchParams::default(), &patch).await?;
            }
            Ok::<_, kube::Error>(())
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let speed = 2.0 * count as f64 / began.elapsed().as_secs_f64();
    Ok(speed)
}

/// Waits until the operator has made so many token Secrets, by a watch: to list them again and again would be work for the
/// API server that is measured.
async fn published(client: &Client, namespace: &str, count: usize) -> Result<()> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), namespace);
    let ours = watcher::Config::default().labels("app.kubernetes.io/managed-by=oauth-operator");
    let mut events = pin!(watcher(secrets, ours));
    let mut names = std::collections::HashSet::new();
    let all = async {
        while names.len() < count {
            let event = events.try_next().await?.ok_or("the watch ended")?;
            if let watcher::Event::Apply(secret) | watcher::Event::InitApply(secret) = event {
                names.insert(secret.metadata.name);
            }
        }
        testbed::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(600), all).await.map_err(|_| "not every token was published within ten minutes")?
}

/// Waits until so many accounts are said to be Ready with a token of this generation or a later one, by a watch.
async fn settled(accounts: &Api<OAuthAccount>, count: usize, generation: i64) -> Result<()> {
    let ready = |account: &OAuthAccount| {
        let status = account.status.as_ref();
        let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let token = status.and_then(|status| status.token.as_ref());
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
            && token.is_some_and(|token| token.generation >= generation)
    };
    let mut events = pin!(watcher(accounts.clone(), watcher::Config::default()));
    let mut names = std::collections::HashSet::new();
    let all = async {
        while names.len() < count {
            let event = events.try_next().await?.ok_or("the watch ended")?;
            if let watcher::Event::Apply(account) | watcher::Event::InitApply(account) = event
                && ready(&account)
            {
                names.insert(account.metadata.name);
            }
        }
        testbed::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(600), all).await.map_err(|_| "not every account was Ready within ten minutes")?
}

/// Where accounts are applied one after another, and how they are made.
struct Applied<'a> {
    namespace: &'a str,
    accounts: &'a Api<OAuthAccount>,
    made: &'a (dyn Fn(String) -> Result<OAuthAccount> + Sync),
}

/// Milliseconds from the create of an account to the watch event of its Secret, one account after another.
async fn from_apply_to_secret(client: &Client, applied: &Applied<'_>, name: &str, count: usize) -> Result<Vec<f64>> {
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), applied.namespace);
    let mut events = pin!(watcher(secrets, watcher::Config::default()));
    while !matches!(events.try_next().await?, Some(watcher::Event::InitDone)) {}
    let mut latencies = vec![];
    for number in 0..count {
        let name = format!("{name}-{number}");
        let account = (applied.made)(name.clone())?;
        let began = Instant::now();
        applied.accounts.create(&PostParams::default(), &account).await?;
        loop {
            match events.try_next().await?.ok_or("the watch ended")? {
                watcher::Event::Apply(secret) if secret.metadata.name.as_deref() == Some(&format!("{name}-token")) => break,
                _ => {}
            }
        }
        latencies.push(began.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(latencies)
}

/// Writes that an operator costs where there is no account: its Lease, its CA, and who is told of it.
async fn writes_of_start(cluster: &Cluster, count: usize) -> Result<f64> {
    let empty = Story::begin(cluster, &format!("empty-{count}"), Reach::Tenant).await?;
    let operator = empty.released_operator("oauth-operator", None).await?;
    let mut before = None;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let writes = written(&operator).await?;
        if before == Some(writes) && writes > 0.0 {
            return Ok(writes);
        }
        before = Some(writes);
    }
    Err("an operator without accounts wrote for a minute".into())
}

/// Writes that the operator has made: POST and PATCH (of the Lease, only the first is one), as it counts them itself. (That it counts
/// well is told by a story, from the API server's audit log.)
async fn written(operator: &Operator) -> Result<f64> {
    let (_, text) = operator.get("/metrics").await?;
    let writes = text.lines().filter(|line| line.starts_with("rest_client_requests_total{"));
    let writes = writes.filter(|line| line.contains("method=\"POST\"") || line.contains("method=\"PATCH\""));
    let values = writes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(values.sum())
}
