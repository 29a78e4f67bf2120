//! At rest nothing is written, and metrics are what Prometheus expects.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::prometheus::{Prometheus, promtool_check_metrics, told_to_go_without};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn at_rest_nothing_is_written_while_prometheus_scrapes() -> Result<()> {
    if told_to_go_without() {
        return Ok(());
    }
    let (story, provider) = story("rest").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for number in 0..10 {
        story.account(&format!("calm-{number}"), &issuer(provider), &client, &json!({}))?;
    }
    for number in 0..10 {
        story.until_ready(&format!("calm-{number}")).await?;
    }
    let prometheus = Prometheus::start("prometheus", &operator.address).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let writes = || -> Result<Vec<String>> {
        Ok(story.writes_by_operator()?.into_iter().filter(|write| write != "update leases oauth-operator").collect())
    };
    let before = writes()?;
    assert_eq!(before.iter().filter(|write| write.contains("calm-")).count(), 20, "two writes for each first token: {before:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    // What others write to the accounts is none of our business either.
    story.kubectl().run(&["label", "oauthaccount", "calm-0", "team=a"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(writes()?, before, "at rest: no write");
    assert_eq!(provider.token_requests(&client).await?, (10, 0));

    let expiry = prometheus.query("oauth_operator_access_token_expiration_timestamp_seconds - time()").await?;
    assert_eq!(expiry.len(), 10, "{expiry:?}");
    let left = expiry[0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok()).ok_or("a number")?;
    assert!((3400.0..=3600.0).contains(&left), "{left}");
    let ready = prometheus.query("sum(oauth_operator_account_ready_status{condition=\"True\"})").await?;
    assert_eq!(ready[0]["value"][1], json!("10"));

    story.kubectl().run(&["delete", "oauthaccount", "calm-9"])?;
    let gone = async || {
        prometheus
            .query("count(oauth_operator_account_ready_status{condition=\"True\"})")
            .await
            .is_ok_and(|found| found[0]["value"][1] == json!("9"))
    };
    operator.process.until("without the deleted account's series", Duration::from_secs(15), gone).await
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_and_the_field_find_the_metrics_they_know() -> Result<()> {
    if told_to_go_without() {
        return Ok(());
    }
    let (story, provider) = story("metrics").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(6, "client_secret_basic").await?;
    story.account("measured", &issuer(provider), &client, &json!({}))?;
    let wrong = crate::testbed::authorization_server::Client { secret: "wrong".into(), ..client.clone() };
    story.account("refused", &issuer(provider), &wrong, &json!({}))?;
    story.until_generation("measured", 2).await?;
    story.until("refused", "Stalled", "True", "Authentication").await?;
    let (_, scrape) = operator.get("/metrics").await?;
    assert_eq!(promtool_check_metrics(&scrape)?, "", "promtool is content");
    for series in [
        "controller_runtime_reconcile_total{controller=\"oauthaccount\",result=\"requeue_after\"}",
        "controller_runtime_max_concurrent_reconciles{controller=\"oauthaccount\"}",
        "controller_runtime_active_workers{controller=\"oauthaccount\"}",
        "controller_runtime_reconcile_time_seconds_count{controller=\"oauthaccount\"}",
        "workqueue_adds_total{name=\"oauthaccount\"}",
        "workqueue_depth{name=\"oauthaccount\"}",
        "workqueue_queue_duration_seconds_count{name=\"oauthaccount\"}",
        "workqueue_work_duration_seconds_count{name=\"oauthaccount\"}",
        "workqueue_unfinished_work_seconds{name=\"oauthaccount\"}",
        "workqueue_longest_running_processor_seconds{name=\"oauthaccount\"}",
        "leader_election_master_status{name=\"oauth-operator\"}",
        "oauth_operator_build_info{version=\"0.1.0\"}",
        "oauth_operator_token_requests_total{grant=\"ClientCredentials\",provider=\"Issuer\",result=\"success\"}",
        "oauth_operator_token_requests_total{grant=\"ClientCredentials\",provider=\"Issuer\",result=\"invalid_client\"}",
        "oauth_operator_token_request_duration_seconds_count{grant=\"ClientCredentials\",provider=\"Issuer\"}",
        "oauth_operator_renewal_lateness_seconds_count",
        "oauth_operator_secret_writes_total{result=\"success\"}",
        "process_resident_memory_bytes",
    ] {
        let value = operator.metric(series).await?;
        assert!(value.is_some(), "{series} is not there:\n{scrape}");
    }
    assert!(scrape.contains("rest_client_requests_total{code=\"200\""), "{scrape}");
    let labels = format!("name=\"measured\",namespace=\"{}\"", story.apps);
    for gauge in ["access_token_issued", "access_token_expiration", "access_token_renewal", "last_success"] {
        let value = operator.metric(&format!("oauth_operator_{gauge}_timestamp_seconds{{{labels}}}")).await?;
        assert!(value.is_some_and(|value| value > 1.7e9), "{gauge}: {value:?}");
    }
    let series =
        format!("oauth_operator_access_token_expiration_timestamp_seconds{{name=\"refused\",namespace=\"{}\"}}", story.apps);
    assert_eq!(operator.metric(&series).await?, None, "what is unknown is absent, not 0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_tell_the_process_from_the_cluster() -> Result<()> {
    let (story, _) = story("probes").await?;
    let operator = story.operator("operator-1").await?;
    assert_eq!(operator.get("/livez").await?, (200, "ok\n".into()));
    assert_eq!(operator.get("/readyz").await?, (200, "ok\n".into()));
    assert_eq!(operator.get("/healthz").await?, (200, "healthy\n".into()));
    let (status, verbose) = operator.get("/healthz?verbose").await?;
    assert_eq!(status, 200);
    for words in [
        "leader-election: healthy",
        "watch-accounts-probes-apps: healthy",
        "watch-secrets-probes-apps: healthy",
        "version: 0.1.0",
        "uptime: ",
        "overall: healthy",
    ] {
        assert!(verbose.contains(words), "{words} in {verbose}");
    }
    assert_eq!(operator.get("/nothing-here").await?.0, 404);
    Ok(())
}
