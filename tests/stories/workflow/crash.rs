//! The operator killed at every arrow of a step, paused, asked to end, and cut off from the API server. The arrows are held from
//! outside, by a relay before the API server and by the API that steps ask, where requests are counted.

mod deliveries;
mod hand_over;
mod kills;
mod remote;
mod storing;

use crate::testbed::Result;
use crate::testbed::operator::Operator;
use crate::testbed::relay::{Held, Passing, Point, Relay};
use crate::testbed::story::eventually;
use crate::testbed::workflows::Workflows;
use crate::{issuer, story};
use oauth_operator::api::{Phase, StepStatus};
use rustix::process::Signal;
use serde_json::Value;
use std::time::Duration;

/// How long anything may take to come to where it is held.
const SOON: Duration = Duration::from_secs(30);

/// What the operator asks the API server for a step.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// That it is Running is written.
    Announce,
    /// The token is read that is sent along.
    Token,
    /// What came of it is written.
    Store,
}

impl Step {
    fn is(self, passing: &Passing) -> bool {
        let any = |phase: &[Phase]| steps(passing).iter().any(|step| phase.contains(&step.phase));
        match self {
            Self::Announce => any(&[Phase::Running]),
            Self::Token => passing.method == "GET" && passing.path.ends_with("/secrets/api-token"),
            Self::Store => any(&[Phase::Completed, Phase::Failed]),
        }
    }
}

/// Steps as a write of a run's status has them; none of any other request.
fn steps(passing: &Passing) -> Vec<StepStatus> {
    if passing.method != "PATCH" || !passing.path.contains("/workflowruns/") || !passing.path.contains("/status") {
        return vec![];
    }
    let patch: Value = serde_json::from_slice(&passing.body).unwrap_or_default();
    let written = patch.as_array().into_iter().flatten().find(|operation| operation["path"] == "/status");
    written.and_then(|operation| serde_json::from_value(operation["value"]["steps"].clone()).ok()).unwrap_or_default()
}

/// A tenant with the account `api`, and an operator behind a relay.
struct Scene {
    workflows: Workflows<'static>,
    relay: Relay,
    operator: Operator,
}

impl Scene {
    async fn begin(name: &str) -> Result<Self> {
        let (story, provider) = story(name).await?;
        let relay = story.cluster.relay().await?;
        let operator = story.operator_behind("operator-1", &relay).await?;
        operator.process.until("leading", SOON, async || operator.leads().await).await?;
        let workflows = Workflows::begin(story, provider).await?;
        workflows.account("api", provider, &issuer(provider)).await?;
        Ok(Self { workflows, relay, operator })
    }

    fn hold(&self, step: Step, point: Point) -> Held {
        self.relay.hold(point, move |passing| step.is(passing))
    }

    fn lose(&self, step: Step, point: Point) -> Held {
        self.relay.lose(point, move |passing| step.is(passing))
    }

    /// One that does not lead yet, and goes to the API server by itself.
    async fn standby(&self) -> Result<Operator> {
        self.workflows.story.operator("operator-2").await
    }

    async fn kill(&self) -> Result<()> {
        self.operator.process.signal(Signal::KILL);
        self.operator.process.end_within(SOON).await.ok_or("SIGKILL does not end it")?;
        // What it had sent has come to where it went.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }

    async fn restart(&mut self) -> Result<()> {
        self.operator = self.workflows.story.operator_behind("operator-1", &self.relay).await?;
        Ok(())
    }

    /// Keys of the requests to paths that begin so, one for each.
    fn keys(&self, path: &str) -> Vec<String> {
        let requests = self.workflows.api.requests_to(path);
        requests.iter().map(|request| request.header("idempotency-key").unwrap_or_default().to_owned()).collect()
    }
}

/// Waits until so many have come to where they are held.
async fn hits(held: &Held, times: u64) -> Result<()> {
    let reached = || Ok((held.hits() >= times).then_some(()));
    let so_far = || format!("{} of {times} came to where they were to be held", held.hits());
    eventually(SOON, reached).await?.ok_or_else(|| so_far().into())
}
