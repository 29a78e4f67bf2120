//! What the product promises about workflows in numbers: a thousand runs at once, what they cost the control plane and the
//! operator; and what a run takes beyond its requests. `make bench-workflows` runs it.
//!
//! `RUNS=1000` says how many. The graph is `fetch` (GET), then `left`, `right` (GET) and `post` (POST) together, then `store` (POST),
//! all with one account's token, on an API that takes 20 ms for each.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used, reason = "a program for a terminal")]

mod cost;
mod figures;
mod steps;
#[path = "../tests/testbed/mod.rs"]
mod testbed;

use cost::{memory, processor};
use figures::Figure;
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use kube_runtime::watcher;
use oauth_operator::api::{Phase, WorkflowRun};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use steps::Steps;
use testbed::Result;
use testbed::authorization_server::Client as OAuthClient;
use testbed::client::client;
use testbed::cluster::Cluster;
use testbed::story::{Reach, Story};
use tokio::sync::oneshot;

/// Steps of the graph.
const STEPS: usize = 5;
/// Requests that the bare client has under way at once.
const CONCURRENT: usize = 64;
/// Runs at once whose overhead is measured, and how many of them there are in turn.
const STEADY: usize = 10;
const IN_TURN: usize = 40;

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let count: usize = std::env::var("RUNS").unwrap_or_else(|_| "1000".into()).parse()?;
    let figures = measure(count).await?;
    figures::conclude(&figures, &testbed::root().join("target/bench"), "workflows")
}

async fn measure(count: usize) -> Result<Vec<Figure>> {
    let cluster = Cluster::start_silent("bench-workflows").await?;
    let story = Story::begin(&cluster, "bench-workflows", Reach::Tenant).await?;
    let api = Steps::start().await?;
    story.ca("api-ca", &api.ca)?;
    let endpoint = story.faulty_endpoint().await?;
    let oauth = OAuthClient { id: "bench".into(), secret: testbed::authorization_server::random() };
    let host = api.url.trim_start_matches("https://");
    story.account("api", &endpoint.at("/lifetime/36000"), &oauth, &json!({"allowedHosts": [host]}))?;
    // All of them are kept, so that all of them can be looked at; those of the other workflow are pruned as usual.
    story.kubectl().apply(&workflow("burst", &api, &json!({"completed": 1000})).to_string())?;
    story.kubectl().apply(&workflow("steady", &api, &json!({})).to_string())?;
    let client = client(&cluster.kubeconfig).await?;
    let runs: Api<WorkflowRun> = Api::namespaced(client.clone(), &story.apps);
    let first = story.released_operator("operator-1", None).await?;
    story.until_ready("api").await?;
    eprintln!("one run after another, and {STEADY} at once ...");
    let alone = overheads(&client, &runs, &api, 1).await?;
    let beside = overheads(&client, &runs, &api, STEADY).await?;
    first.process.signal(Signal::TERM);
    first.process.end_within(Duration::from_secs(30)).await.ok_or("it does not end")?;
    let (asked_before, _) = api.counts();

    eprintln!("making {count} runs ...");
    stream::iter(0..count)
        .map(|number| {
            let runs = runs.clone();
            async move { runs.create(&PostParams::default(), &run("burst", &format!("burst-{number}"))).await }
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<Vec<_>>()
        .await?;
    let before = requests(&story)?;
    eprintln!("all of them at once ...");
    let began = Instant::now();
    let operator = story.released_operator("operator-2", None).await?;
    completed(&runs, count).await?;
    let took = began.elapsed().as_secs_f64();
    // What is written behind the last one is counted as well.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let after = requests(&story)?;
    let (peak, spent) = (memory(&operator.process, "VmHWM")?, processor(&operator.process)?);
    let (asked, refused) = api.counts();
    if (asked - asked_before, refused) != (STEPS * count, 0) {
        return Err(format!("the API was asked {asked} times, {refused} of them without a token").into());
    }
    eprintln!("the API server's write ceiling ...");
    let ceiling = ceiling(&runs).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let (n, steps) = (count as f64, (STEPS * count) as f64);
    let (writes, reads) = (after.writes - before.writes, after.reads - before.reads);
    let name = |what: &str| format!("{count} runs at once: {what}");
    let run = |what: &str| format!("a run beyond its requests, {what}");
    Ok(vec![
        Figure::at_most(name("writes per step"), "writes", writes / steps, 2.0),
        Figure::alone(name("reads per step"), "reads", reads / steps),
        Figure::at_most(name("peak memory"), "MiB", peak, 128.0),
        Figure::alone(name("from start to the last end"), "s", took),
        Figure::beside(name("speed"), "runs/s", n / took, (n * ceiling / writes, "write ceiling ÷ writes per run")),
        Figure::alone(name("processor per run"), "ms", 1000.0 * spent / n),
        Figure::alone(run("alone, p50"), "ms", percentile(&alone, 0.5)),
        Figure::alone(run("alone, p99"), "ms", percentile(&alone, 0.99)),
        Figure::alone(run(&format!("{STEADY} at once, p50")), "ms", percentile(&beside, 0.5)),
        Figure::at_most(run(&format!("{STEADY} at once, p99")), "ms", percentile(&beside, 0.99), 500.0),
    ])
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// Status writes per second that the API server takes from a bare client, of statuses as large as those of the runs.
async fn ceiling(runs: &Api<WorkflowRun>) -> Result<f64> {
    let all = runs.list(&ListParams::default()).await?.items;
    let writes = (0..2).flat_map(|turn| all.iter().map(move |run| (turn, run)));
    let began = Instant::now();
    let written = stream::iter(writes)
        .map(|(turn, run)| {
            let mut status = json!(run.status);
            status["progress"] = json!(format!("{turn}/{STEPS}"));
            let patch: json_patch::Patch =
                serde_json::from_value(json!([{"op": "add", "path": "/status", "value": status}])).expect("a patch");
            async move { runs.patch_status(&run.name_any(), &PatchParams::default(), &Patch::Json::<()>(patch)).await }
        })
        .buffer_unordered(CONCURRENT)
        .try_collect::<Vec<_>>()
        .await?;
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    let written = written.len() as f64;
    Ok(written / began.elapsed().as_secs_f64())
}

fn workflow(name: &str, api: &Steps, history: &Value) -> Value {
    let step = |name: &str, method: &str, after: &[&str]| {
        let mut step = json!({"name": name, "dependsOn": after, "http": {
            "method": method, "url": format!("{}/${{run.name}}/{name}", api.url), "caBundleRef": {"name": "api-ca"},
        }});
        if method == "POST" {
            step["http"]["body"] = json!({"ids": "${steps.fetch.output}", "topic": "${input.topic}"});
        }
        step
    };
    let mut fetch = step("fetch", "GET", &[]);
    fetch["output"] = json!("${response.body.items.map(item, item.id)}");
    let between = ["left", "right", "post"];
    let spec = json!({
        "defaults": {"accountRef": {"name": "api"}}, "history": history,
        "steps": [fetch, step("left", "GET", &["fetch"]), step("right", "GET", &["fetch"]), step("post", "POST", &["fetch"]), step("store", "POST", &between)],
        "outputs": {"stored": "${steps.store.output.run}"},
    });
    json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec})
}

fn run(workflow: &str, name: &str) -> WorkflowRun {
    let run = json!({
        "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "WorkflowRun", "metadata": {"name": name},
        "spec": {"workflowRef": {"name": workflow}, "input": {"topic": "returns"}},
    });
    serde_json::from_value(run).expect("a run")
}

/// Where a run has come to its end: whether it is the good one.
fn ended(run: &WorkflowRun) -> Option<Result<()>> {
    let status = run.status.as_ref().filter(|status| status.phase.is_final())?;
    let said = || format!("{}: {:?}", run.name_any(), status.conditions.first().map(|condition| &condition.message));
    Some(if status.phase == Phase::Completed { Ok(()) } else { Err(said().into()) })
}

/// Waits until so many runs are Completed, by a watch: to list them again and again would be work for the API server.
async fn completed(runs: &Api<WorkflowRun>, count: usize) -> Result<()> {
    let mut events = pin!(watcher(runs.clone(), watcher::Config::default()));
    let mut names = std::collections::HashSet::new();
    let all = async {
        while names.len() < count {
            let event = events.try_next().await?.ok_or("the watch ended")?;
            if let watcher::Event::Apply(run) | watcher::Event::InitApply(run) = event
                && let Some(ended) = ended(&run)
            {
                ended?;
                names.insert(run.name_any());
            }
        }
        testbed::Result::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(600), all).await.map_err(|_| "not every run was Completed within ten minutes")?
}

/// Milliseconds that runs took beyond the requests on their longest way, in order: from the create, as it is sent, to the watch
/// event of the end.
async fn overheads(client: &Client, runs: &Api<WorkflowRun>, api: &Steps, at_once: usize) -> Result<Vec<f64>> {
    type Told = oneshot::Sender<(Instant, Result<()>)>;
    let waiting: Mutex<HashMap<String, Told>> = Mutex::default();
    let watched: Api<WorkflowRun> = Api::namespaced(client.clone(), runs.namespace().unwrap_or_default());
    let watching = async {
        let mut events = pin!(watcher(watched, watcher::Config::default()));
        while let Some(event) = events.try_next().await? {
            if let watcher::Event::Apply(run) | watcher::Event::InitApply(run) = event
                && let Some(ended) = ended(&run)
                && let Some(who) = waiting.lock().expect("nobody panics while holding it").remove(&run.name_any())
            {
                let _ = who.send((Instant::now(), ended));
            }
        }
        Err::<Vec<f64>, Box<dyn std::error::Error + Send + Sync>>("the watch ended".into())
    };
    let one = async |name: String| -> Result<f64> {
        let (tell, told) = oneshot::channel();
        waiting.lock().expect("nobody panics while holding it").insert(name.clone(), tell);
        let began = Instant::now();
        runs.create(&PostParams::default(), &run("steady", &name)).await?;
        let (ended, how) = tokio::time::timeout(Duration::from_secs(60), told).await??;
        how?;
        let taken = |step: &str| api.taken(&name, step);
        let between = taken("left")?.max(taken("right")?).max(taken("post")?);
        let requests = taken("fetch")? + between + taken("store")?;
        Ok((ended.duration_since(began).saturating_sub(requests)).as_secs_f64() * 1000.0)
    };
    let workers = (0..at_once).map(|worker| {
        let one = &one;
        async move {
            let mut overheads = vec![];
            for turn in 0..IN_TURN {
                overheads.push(one(format!("steady-{at_once}-{worker}-{turn}")).await?);
            }
            testbed::Result::Ok(overheads)
        }
    });
    let measuring = async {
        let mut all: Vec<f64> = futures::future::try_join_all(workers).await?.into_iter().flatten().collect();
        all.sort_by(f64::total_cmp);
        Ok(all)
    };
    tokio::select! {
        measured = measuring => measured,
        failed = watching => failed,
    }
}

/// Requests that the API server has counted, but for leases, and for what nobody of ours asks.
struct Requests {
    writes: f64,
    reads: f64,
}

const RESOURCES: [&str; 6] = ["workflowruns", "workflows", "controllerrevisions", "secrets", "configmaps", "events"];

fn requests(story: &Story<'_>) -> Result<Requests> {
    let text = story.cluster.kubectl().run(&["get", "--raw", "/metrics"])?;
    let counted = text.lines().filter(|line| line.starts_with("apiserver_request_total{"));
    let ours: Vec<_> =
        counted.filter(|line| RESOURCES.iter().any(|name| line.contains(&format!("resource=\"{name}\"")))).collect();
    let sum = |verbs: &[&str]| -> f64 {
        let chosen = ours.iter().filter(|line| verbs.iter().any(|verb| line.contains(&format!("verb=\"{verb}\""))));
        chosen.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    Ok(Requests { writes: sum(&["POST", "PUT", "PATCH", "APPLY", "DELETE"]), reads: sum(&["GET", "LIST"]) })
}
