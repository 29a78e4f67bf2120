//! What is shipped to watch with, before a real Prometheus that scrapes the real operator and the real sidecar: every panel of
//! the dashboard shows something, every alert can be evaluated, and the documentation names what is there.

use super::sidecar::{Plan, Scene};
use super::{issuer, story};
use crate::testbed::authorization_server::Client;
use crate::testbed::prometheus::{Prometheus, Target, promtool_check_metrics, told_to_go_without};
use crate::testbed::workflows::Workflows;
use crate::testbed::{Result, root};
use oauth_operator::api::Phase;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long everything may take to be scraped.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_shows_something_and_every_alert_can_be_evaluated() -> Result<()> {
    if told_to_go_without() {
        return Ok(());
    }
    let scene =
        Scene::begin("monitoring", Plan { accounts: &["bot", "spare"], route: json!({}), watched: false, late: &[] }).await?;
    let rules = rules();
    let targets = [
        Target {
            job: "oauth-operator",
            address: scene.operator.address.clone(),
            namespace: &scene.story.system,
            pod: "operator-1",
        },
        Target { job: "app", address: scene.proxy.admin.to_string(), namespace: &scene.story.apps, pod: "app-1" },
    ];
    let prometheus = Prometheus::with_rules("monitoring/prometheus", &targets, &[&rules]).await?;
    accounts_of_all_sorts(&scene).await?;
    what_an_app_meets(&scene).await?;
    runs_that_end_well_and_badly(&scene).await?;

    let mut blank = panels()?;
    assert!(blank.len() > 40, "the dashboard is read: {blank:#?}");
    let began = Instant::now();
    while !blank.is_empty() && began.elapsed() < SOON {
        // An app that goes on.
        scene.app.get(format!("{}/items", scene.proxy.url())).send().await?;
        let mut still = vec![];
        for (title, query) in blank {
            if !prometheus.query(&query).await?.iter().any(is_number) {
                still.push((title, query));
            }
        }
        blank = still;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(blank.is_empty(), "panels that show nothing: {blank:#?}");
    alerts_are_well(&prometheus).await?;

    let operator = scene.operator.get("/metrics").await?.1;
    let proxy = scene.proxy.get("/metrics").await?.1;
    assert_eq!(promtool_check_metrics(&operator)?, "", "promtool is content with the operator");
    assert_eq!(promtool_check_metrics(&proxy)?, "", "promtool is content with the sidecar");
    values_are_documented(&[operator, proxy])
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_why_an_account_is_as_it_is_in_words_of_closed_sets() -> Result<()> {
    let (story, provider) = story("metrics-why").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("well", &issuer(provider), &client, &json!({}))?;
    story.account("paused", &issuer(provider), &client, &json!({"suspend": true}))?;
    story.account("odd", &json!({"preset": "NoSuchPreset"}), &client, &json!({}))?;
    let endpoint = story.faulty_endpoint().await?;
    let public = Client { id: "person".into(), ..client.clone() };
    story.login("person", &endpoint.at("/login/3600/86400"), &public, "first", &json!({}))?;
    story.until_ready("well").await?;
    story.until_ready("person").await?;
    story.until("paused", "Ready", "False", "Suspended").await?;
    story.until("odd", "Ready", "False", "Configuration").await?;
    let of = |name: &str| format!("name=\"{name}\",namespace=\"{}\"", story.apps);
    let is = async |metric: &str, more: &str, name: &str| operator.metric(&format!("{metric}{{{more}{}}}", of(name))).await;
    let (info, condition) = ("oauth_operator_account_info", "oauth_operator_account_condition");
    let ready = |status: &str, reason: &str| format!("type=\"Ready\",status=\"{status}\",reason=\"{reason}\",");
    let grant = "provider=\"Issuer\",grant=\"ClientCredentials\",";
    assert_eq!(is(info, grant, "well").await?, Some(1.0));
    assert_eq!(is(info, "provider=\"Unknown\",grant=\"ClientCredentials\",", "odd").await?, Some(1.0));
    assert_eq!(is(condition, &ready("True", "TokenPublished"), "well").await?, Some(1.0));
    assert_eq!(is(condition, &ready("False", "Suspended"), "paused").await?, Some(1.0));
    assert_eq!(is("oauth_operator_account_suspended", "", "paused").await?, Some(1.0));
    assert_eq!(is("oauth_operator_account_suspended", "", "well").await?, Some(0.0));
    let expires = "oauth_operator_refresh_token_expiration_timestamp_seconds";
    assert!(is(expires, "", "person").await?.is_some_and(|at| at > 1.7e9));
    assert_eq!(is(expires, "", "well").await?, None, "what is unknown is absent");
    // The first failure of all is an increase from 0.
    for series in [
        "oauth_operator_workflow_runs_total{phase=\"Failed\",reason=\"StepFailed\"}",
        "oauth_operator_token_requests_total{grant=\"ClientCredentials\",provider=\"Issuer\",result=\"timeout\"}",
    ] {
        assert_eq!(operator.metric(series).await?, Some(0.0), "{series}");
    }
    Ok(())
}

fn rules() -> PathBuf {
    root().join("charts/oauth-operator/files/rules.yaml")
}

/// Queries of the dashboard by the titles of their panels, with its variables filled in.
fn panels() -> Result<Vec<(String, String)>> {
    let dashboard: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("charts/oauth-operator/files/dashboard.json"))?)?;
    let filled = |query: &str| query.replace("$namespace", ".*").replace("$__rate_interval", "30s");
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let queries = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| {
            (panel["title"].as_str().unwrap_or_default().to_owned(), filled(target["expr"].as_str().unwrap_or("$")))
        })
    });
    let queries: Vec<_> = queries.collect();
    if let Some((title, query)) = queries.iter().find(|(_, query)| query.contains('$')) {
        return Err(format!("{title}: a variable that nobody fills in: {query}").into());
    }
    Ok(queries)
}

fn is_number(sample: &Value) -> bool {
    sample["value"][1].as_str().and_then(|value| value.parse::<f64>().ok()).is_some_and(f64::is_finite)
}

/// One that is refused, one whose token is renewed all the time, one that a person has logged in for.
async fn accounts_of_all_sorts(scene: &Scene) -> Result<()> {
    let (story, provider) = (&scene.story, scene.provider);
    let client = provider.register(6, "client_secret_basic").await?;
    story.account("short", &issuer(provider), &client, &json!({}))?;
    story.account("refused", &issuer(provider), &Client { secret: "wrong".into(), ..client.clone() }, &json!({}))?;
    let endpoint = story.faulty_endpoint().await?;
    story.login("person", &endpoint.at("/login/3600/86400"), &client, "first", &json!({}))?;
    story.until_generation("short", 2).await?;
    story.until("refused", "Stalled", "True", "Authentication").await?;
    story.until_ready("person").await
}

/// Answers, an error, a stream that it does not wait for, and a token that cannot be replaced.
async fn what_an_app_meets(scene: &Scene) -> Result<()> {
    let get = |path: &str| scene.app.get(format!("{}{path}", scene.proxy.url())).send();
    for _ in 0..5 {
        assert_eq!(get("/items").await?.status(), StatusCode::OK);
    }
    scene.api.fail(1);
    assert_eq!(get("/items").await?.status(), StatusCode::SERVICE_UNAVAILABLE);
    let mut stream = get("/events?count=1000&every=20").await?;
    assert!(stream.chunk().await?.is_some());
    drop(stream);
    scene.spoil("bot").await?;
    scene.revoke("bot").await?;
    assert_eq!(get("/items").await?.status(), StatusCode::OK, "with the other account");
    Ok(())
}

async fn runs_that_end_well_and_badly(scene: &Scene) -> Result<()> {
    let workflows = Workflows::begin(scene.story.clone(), scene.provider).await?;
    workflows.account("steps", scene.provider, &issuer(scene.provider)).await?;
    for (name, path, end) in [("good", "/items", Phase::Completed), ("bad", "/status/422", Phase::Failed)] {
        let step = workflows.step("ask", path, &json!({"http": {"accountRef": {"name": "steps"}}}));
        workflows.workflow(name, &json!({"steps": [step]}))?;
        workflows.run(name, &json!({"workflowRef": {"name": name}}))?;
        workflows.until_ended(name, end).await?;
    }
    Ok(())
}

/// Each alert is evaluated without an error, those that should be are active, and their words are whole.
async fn alerts_are_well(prometheus: &Prometheus) -> Result<()> {
    let document: Value = serde_saphyr::from_str(&std::fs::read_to_string(rules())?)?;
    let groups = document["groups"].as_array().into_iter().flatten();
    for rule in groups.flat_map(|group| group["rules"].as_array().into_iter().flatten()) {
        let expression = rule["expr"].as_str().ok_or("an alert without an expression")?;
        prometheus.query(expression).await.map_err(|error| format!("{}: {error}", rule["alert"]))?;
    }
    let evaluated = prometheus.get("/api/v1/rules").await?;
    let groups = evaluated["data"]["groups"].as_array().ok_or("groups")?;
    let evaluated: Vec<_> = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten()).collect();
    assert!(evaluated.iter().all(|rule| rule["health"] == "ok"), "{evaluated:#?}");
    let active = || evaluated.iter().flat_map(|rule| rule["alerts"].as_array().into_iter().flatten());
    let names: BTreeSet<_> = active().filter_map(|alert| alert["labels"]["alertname"].as_str()).collect();
    assert!(names.contains("OAuthAccountNotReady") && names.contains("OAuthWorkflowRunsFailing"), "{names:?}");
    // What is slow on a busy machine, or fails in this story, may be told; what is not so may not.
    let wrong = [
        "OAuthOperatorAbsent",
        "OAuthOperatorNoLeader",
        "OAuthConsentRequired",
        "OAuthRefreshTokenExpiring",
        "OAuthProviderDown",
    ];
    assert!(!wrong.iter().any(|name| names.contains(name)), "{names:?}");
    assert!(active().any(|alert| alert["labels"]["alertname"] == "OAuthWorkflowRunsFailing" && alert["state"] == "firing"));
    for alert in active() {
        let text = alert["annotations"].to_string();
        assert!(!text.contains("error expanding") && !text.contains("no value") && !text.contains("<nil>"), "{text}");
    }
    Ok(())
}

/// Values of labels of which there are finitely many are all told to whoever writes queries.
fn values_are_documented(scrapes: &[String]) -> Result<()> {
    let page = |name: &str| std::fs::read_to_string(root().join("docs").join(name));
    let pages = page("monitoring.md")? + &page("troubleshooting.md")?;
    let mut unknown = BTreeSet::new();
    let labels = ["result", "outcome", "phase", "reason", "grant", "condition", "status", "type", "side"];
    for line in scrapes.iter().flat_map(|scrape| scrape.lines()).filter(|line| line.starts_with("oauth_")) {
        for label in labels {
            let value =
                [format!("{{{label}=\""), format!(",{label}=\"")].iter().find_map(|start| line.split_once(start.as_str()));
            let Some((_, rest)) = value else { continue };
            let value = rest.split('"').next().unwrap_or_default();
            if !pages.contains(&format!("`{value}`")) {
                unknown.insert(format!("{label}=\"{value}\""));
            }
        }
    }
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(format!("not in docs/monitoring.md or docs/troubleshooting.md: {unknown:#?}").into())
    }
}
