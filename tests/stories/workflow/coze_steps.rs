//! Steps that run workflows at Coze, against a platform that Coze's own SDK takes for Coze and that asks the authorization server
//! about every token.

mod account;
mod async_runs;
mod errors;
mod interrupts;
mod modes;
mod refused_tokens;

use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::coze_platform::{Behaviour, CozePlatform, CozeRequest, Execution};
use crate::testbed::operator::Operator;
use crate::testbed::story::{eventually, merge};
use crate::testbed::workflows::Workflows;
use crate::{issuer, story};
use oauth_operator::api::{StepStatus, WorkflowRunStatus};
use serde_json::{Value, json};
use std::time::Duration;

/// A tenant whose account `coze` may run workflows at a platform.
struct Scene {
    workflows: Workflows<'static>,
    provider: &'static AuthorizationServer,
    platform: CozePlatform,
    client: Client,
    operator: Operator,
}

impl Scene {
    async fn begin(name: &str) -> Result<Self> {
        let (story, provider) = story(name).await?;
        let operator = story.operator("operator-1").await?;
        let platform = CozePlatform::start(provider).await?;
        story.ca("coze-ca", &platform.ca)?;
        let workflows = Workflows::begin(story, provider).await?;
        let client = provider.register(3600, "client_secret_basic").await?;
        let scene = Self { workflows, provider, platform, client, operator };
        scene.account()?;
        scene.workflows.story.until_ready("coze").await?;
        Ok(scene)
    }

    fn account(&self) -> Result<()> {
        self.account_of("coze", &self.client)
    }

    fn account_of(&self, name: &str, client: &Client) -> Result<()> {
        let hosts = json!({"allowedHosts": [self.host()]});
        self.workflows.story.account(name, &issuer(self.provider), client, &hosts)
    }

    fn host(&self) -> &str {
        self.platform.url.trim_start_matches("https://")
    }

    /// A step that runs a workflow at the platform, with `patch` merged into it.
    fn step(&self, name: &str, workflow: &str, mode: &str, patch: &Value) -> Value {
        let mut step = json!({
            "name": name,
            "coze": {
                "workflowID": workflow, "mode": mode, "baseURL": self.platform.url, "caBundleRef": {"name": "coze-ca"},
                "accountRef": {"name": "coze"}, "poll": {"intervalSeconds": 1},
            },
        });
        merge(&mut step, patch);
        step
    }

    /// Begins a run of one step, `ask`, of a workflow that behaves so.
    fn ask(&self, run: &str, workflow: &str, behaviour: Behaviour, mode: &str, patch: &Value) -> Result<()> {
        self.platform.behave(workflow, behaviour);
        self.run(run, &json!({"steps": [self.step("ask", workflow, mode, patch)]}))
    }

    fn run(&self, run: &str, spec: &Value) -> Result<()> {
        self.workflows.run(run, &json!({"workflowSpec": spec}))
    }

    /// Requests that name this workflow, those for one of its executions included.
    fn requests(&self, workflow: &str) -> Vec<CozeRequest> {
        let names = |request: &CozeRequest| {
            request.body["workflow_id"] == *workflow
                || request.path.starts_with(&format!("/v1/workflows/{workflow}/"))
                || request.query.get("workflow_id").is_some_and(|id| id == workflow)
        };
        self.platform.requests().into_iter().filter(names).collect()
    }

    /// How often a workflow was begun.
    fn begun(&self, workflow: &str) -> Vec<Execution> {
        self.platform.executions().into_iter().filter(|execution| execution.workflow_id == workflow).collect()
    }

    /// Waits until something holds of the requests that name a workflow.
    async fn until_asked(&self, workflow: &str, what: impl Fn(&[CozeRequest]) -> bool) -> Result<()> {
        let reached = || Ok(Some(()).filter(|()| what(&self.requests(workflow))));
        let reached = eventually(Duration::from_secs(45), reached).await?;
        reached.ok_or_else(|| format!("{workflow}: {:#?}", self.requests(workflow)).into())
    }

    /// Tokens that the authorization server has issued to the account.
    async fn tokens(&self) -> Result<u64> {
        self.tokens_of(&self.client).await
    }

    async fn tokens_of(&self, client: &Client) -> Result<u64> {
        Ok(self.provider.token_requests(client).await?.0)
    }

    fn answer(&self, run: &str, answer: Option<&str>) -> Result<()> {
        let annotation =
            answer.map_or("oauth-operator.dev/resume-data-".into(), |answer| format!("oauth-operator.dev/resume-data={answer}"));
        self.workflows.story.kubectl().run(&["annotate", "--overwrite", "workflowrun", run, &annotation]).map(drop)
    }
}

/// The step of a run that has one.
fn only(status: &WorkflowRunStatus) -> &StepStatus {
    assert_eq!(status.steps.len(), 1);
    &status.steps[0]
}
