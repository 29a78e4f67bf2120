//! How many requests are under way at once: of a run, of an account, and of an operator.

use super::runs::scene;
use crate::testbed::Result;
use crate::testbed::workflows::Workflows;
use crate::{issuer, provider, story};
use oauth_operator::api::Phase;
use serde_json::{Value, json};
use std::time::Duration;

/// Steps that are held, of a run that would send them all at once.
fn held(workflows: &Workflows<'_>, run: &str, steps: usize, patch: &Value) -> Vec<Value> {
    let step = |number| workflows.step(&format!("s{number}"), &format!("/open/held/{run}/{number}"), patch);
    (0..steps).map(step).collect()
}

/// So many requests arrive and no more, until they are answered; then all of them.
async fn at_once(workflows: &Workflows<'_>, runs: &[&str], most: usize, all: usize) -> Result<()> {
    workflows.api.until_arrived("/open/held", most).await?;
    // What is held keeps the others away, however long that lasts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(workflows.api.arrived("/open/held"), most);
    workflows.api.release();
    for run in runs {
        workflows.until_ended(run, Phase::Completed).await?;
    }
    assert_eq!(workflows.api.arrived("/open/held"), all);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_has_no_more_steps_under_way_than_its_parallelism() -> Result<()> {
    let (workflows, _operator) = scene("wf-parallelism").await?;
    workflows.api.hold("/open/held");
    let steps = held(&workflows, "run", 7, &json!({}));
    workflows.run("run", &json!({"workflowSpec": {"parallelism": 3, "steps": steps}}))?;
    at_once(&workflows, &["run"], 3, 7).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_no_more_requests_under_way_than_it_allows_across_runs() -> Result<()> {
    let (workflows, _operator) = scene("wf-account-limit").await?;
    let provider = provider().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let patch = json!({"allowedHosts": [workflows.host()], "maxConcurrentSteps": 2});
    workflows.story.account("narrow", &issuer(provider), &client, &patch)?;
    workflows.story.until_ready("narrow").await?;
    workflows.api.hold("/open/held");
    let runs = ["one", "two", "three"];
    for run in runs {
        let steps = held(&workflows, run, 2, &json!({"http": {"accountRef": {"name": "narrow"}}}));
        workflows.run(run, &json!({"workflowSpec": {"steps": steps}}))?;
    }
    at_once(&workflows, &runs, 2, 6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_no_more_requests_under_way_than_its_flag_allows() -> Result<()> {
    let (story, provider) = story("wf-operator-limit").await?;
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--max-concurrent-steps", "3"];
    let _operator = story.operator_with("operator-1", &flags).await?;
    let workflows = Workflows::begin(story, provider).await?;
    workflows.api.hold("/open/held");
    let runs = ["one", "two", "three"];
    for run in runs {
        workflows.run(run, &json!({"workflowSpec": {"steps": held(&workflows, run, 2, &json!({}))}}))?;
    }
    at_once(&workflows, &runs, 3, 6).await
}
