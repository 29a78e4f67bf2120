//! A tenant who runs workflows: an operator, accounts of the real authorization server, and an API that checks their tokens.

use super::Result;
use super::authorization_server::{AuthorizationServer, Client};
use super::step_server::StepServer;
use super::story::{Story, eventually};
use oauth_operator::api::{Phase, RunReason, StepStatus, Workflow, WorkflowRun, WorkflowRunStatus};
use serde_json::{Value, json};
use std::time::Duration;

/// How long a run may take in a test that is not about time.
const SOON: Duration = Duration::from_secs(45);

/// An API for steps, and what there is beside it.
pub struct Workflows<'a> {
    /// The tenant.
    pub story: Story<'a>,
    /// The API.
    pub api: StepServer,
}

impl<'a> Workflows<'a> {
    /// With the API's CA in the ConfigMap `api-ca`.
    pub async fn begin(story: Story<'a>, provider: &AuthorizationServer) -> Result<Self> {
        let api = StepServer::start(provider).await?;
        story.ca("api-ca", &api.ca)?;
        Ok(Self { story, api })
    }

    /// An account that is Ready, whose token may go to the API.
    pub async fn account(&self, name: &str, provider: &AuthorizationServer, issuer: &Value) -> Result<Client> {
        let client = provider.register(3600, "client_secret_basic").await?;
        self.story.account(name, issuer, &client, &json!({"allowedHosts": [self.host()]}))?;
        self.story.until_ready(name).await?;
        Ok(client)
    }

    /// Where the API is, as `allowedHosts` names it.
    pub fn host(&self) -> String {
        self.api.url.trim_start_matches("https://").to_owned()
    }

    /// An HTTP step that asks the API, with `patch` merged into it.
    pub fn step(&self, name: &str, path: &str, patch: &Value) -> Value {
        let mut step = json!({
            "name": name,
            "http": {"url": format!("{}{path}", self.api.url), "caBundleRef": {"name": "api-ca"}},
        });
        super::story::merge(&mut step, patch);
        step
    }

    /// Makes a workflow.
    pub fn workflow(&self, name: &str, spec: &Value) -> Result<()> {
        let workflow =
            json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": "Workflow", "metadata": {"name": name}, "spec": spec});
        self.story.kubectl().apply(&workflow.to_string()).map(drop)
    }

    /// Makes a run, with what its spec says.
    pub fn run(&self, name: &str, spec: &Value) -> Result<()> {
        let run =
            json!({"apiVersion": "oauth-operator.dev/v1alpha1", "kind": "WorkflowRun", "metadata": {"name": name}, "spec": spec});
        Ok(self.story.kubectl().feed(&["create", "-f", "-"], &run.to_string()).map(drop)?)
    }

    /// A Secret that runs may take as their input.
    pub fn input(&self, name: &str, data: &[(&str, &str)]) -> Result<()> {
        self.story.secret(name, data)?;
        let permit = "oauth-operator.dev/run-input=true";
        self.story.kubectl().run(&["annotate", "--overwrite", "secret", name, permit]).map(drop)
    }

    /// The run as the API server shows it; none where there is none.
    pub fn find(&self, name: &str) -> Result<Option<WorkflowRun>> {
        let text = self.story.kubectl().run(&["get", "workflowrun", name, "-o", "json", "--ignore-not-found"])?;
        Ok(if text.is_empty() { None } else { Some(serde_json::from_str(&text)?) })
    }

    /// Its status.
    pub fn status(&self, name: &str) -> Result<WorkflowRunStatus> {
        Ok(self.find(name)?.and_then(|run| run.status).unwrap_or_default())
    }

    /// The workflow as the API server shows it.
    pub fn get(&self, name: &str) -> Result<Workflow> {
        Ok(serde_json::from_str(&self.story.kubectl().run(&["get", "workflow", name, "-o", "json"])?)?)
    }

    /// Asks for a run's end.
    pub fn cancel(&self, name: &str) -> Result<()> {
        let patch = ["patch", "workflowrun", name, "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#];
        self.story.kubectl().run(&patch).map(drop)
    }

    /// Waits until so many requests to paths that begin so were given up by whoever sent them.
    pub async fn until_abandoned(&self, prefix: &str, times: usize) -> Result<()> {
        let enough = eventually(SOON, || Ok((self.api.abandoned(prefix) >= times).then_some(()))).await?;
        enough.ok_or_else(|| format!("{} requests to {prefix} were given up", self.api.abandoned(prefix)).into())
    }

    /// Waits until something holds of a run.
    pub async fn until(&self, name: &str, what: impl Fn(&WorkflowRunStatus) -> bool) -> Result<WorkflowRunStatus> {
        let mut last = None;
        let reached = || -> Result<Option<WorkflowRunStatus>> {
            let status = self.status(name)?;
            last = Some(status.clone());
            Ok(Some(status).filter(|status| what(status)))
        };
        let status = eventually(SOON, reached).await?;
        status.ok_or_else(|| format!("{name}: {}", serde_json::to_string_pretty(&last).unwrap_or_default()).into())
    }

    /// Waits until a run has ended in this phase.
    pub async fn until_ended(&self, name: &str, phase: Phase) -> Result<WorkflowRunStatus> {
        let status = self.until(name, |status| status.phase.is_final()).await?;
        if status.phase == phase { Ok(status) } else { Err(format!("{name}: {}", serde_json::to_string_pretty(&status)?).into()) }
    }
}

/// A step of a status.
pub fn step<'a>(status: &'a WorkflowRunStatus, name: &str) -> &'a StepStatus {
    status.steps.iter().find(|step| step.name == name).unwrap_or_else(|| panic!("no step {name}"))
}

/// Reason and message of a step.
pub fn why(status: &WorkflowRunStatus, name: &str) -> (Option<RunReason>, String) {
    let step = step(status, name);
    (step.reason, step.message.clone().unwrap_or_default())
}

/// Reason and message of the condition Succeeded.
pub fn said(status: &WorkflowRunStatus) -> (String, String) {
    status.conditions.first().map(|condition| (condition.reason.clone(), condition.message.clone())).unwrap_or_default()
}
