//! What goes on beside the decisions on a run: steps made ready and sent, people told, outputs made. Each ends in what came of it.

mod hook;
mod prepare;
mod send;

pub use hook::{cancel, complete};
pub use prepare::prepare;
pub use send::send;

use super::answer::Judged;
use super::definition::StepPlan;
use super::driver::{Finished, Tools};
use super::failure::Failure;
use super::keep::{self, Room};
use super::limits::Permit;
use super::request::Call;
use super::scope::{Outputs, named, scope};
use super::seen::{Identity, Kept, Task, Work};
use super::sender::permitted;
use crate::api::{OAuthAccount, RunReason, StepStatus, WorkflowRunStatus};
use crate::expression::{References, Scope};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long an expression may take, on a thread of its own. What it may cost is bounded before.
const DEADLINE: Duration = Duration::from_secs(10);

/// What work is done with: the run as it was when the work began.
pub struct Shared {
    /// What drivers share.
    pub tools: Arc<Tools>,
    /// Which run.
    pub run: Identity,
    /// What it is to do.
    pub task: Task,
    /// How far it had come.
    pub status: WorkflowRunStatus,
    /// What status has room for.
    pub room: Arc<Room>,
}

/// Evaluates off the threads that everybody waits on.
async fn evaluated<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let late = |_| Failure::new(RunReason::InvalidDefinition, "An expression took longer than 10 s.");
    let ended = tokio::time::timeout(DEADLINE, tokio::task::spawn_blocking(work)).await.map_err(late)?;
    ended.map_err(|_| Failure::new(RunReason::InvalidDefinition, "An expression could not be evaluated."))
}

impl Shared {
    fn step(&self, name: &str) -> Option<(&StepStatus, &StepPlan)> {
        let status = self.status.steps.iter().find(|step| step.name == name)?;
        Some((status, self.task.definition.step(name)?))
    }

    fn account(&self, name: &str) -> Option<Arc<OAuthAccount>> {
        (self.tools.find)(&self.run.namespace, name)
    }

    /// What expressions see that refer to this; outputs that are kept in Secrets are read.
    async fn scope(&self, references: &[&References]) -> Result<Scope, Failure> {
        let named = named(references.iter().copied());
        let mut outputs = Outputs::new();
        for step in self.status.steps.iter().filter(|step| named.contains(&step.name)) {
            if let Some(reference) = &step.output_ref {
                let output = keep::load(self.tools.world(), &self.run.namespace, reference).await?;
                outputs.insert(step.name.clone(), Arc::new(output));
            }
        }
        Ok(scope(&self.run, &self.task, &self.status, &named, &outputs))
    }

    /// What a call lacks: the host must be one that the account permits, and whom to trust is as with the account's provider.
    fn completed(&self, mut call: Call) -> Result<Call, Failure> {
        if let Some(name) = &call.account {
            let account = self
                .account(name)
                .ok_or_else(|| Failure::new(RunReason::AccountNotReady, format!("There is no OAuthAccount {name}.")))?;
            permitted(&account, name, &call)?;
            call.ca = call.ca.or_else(|| account.spec.provider.ca_bundle_ref.clone());
        }
        Ok(call)
    }

    async fn turn(&self, account: Option<&str>) -> Permit {
        let limit = account.and_then(|name| self.account(name)).and_then(|account| account.spec.max_concurrent_steps);
        self.tools.limits.turn(account.map(|name| (self.run.namespace.as_str(), name, limit))).await
    }
}

/// Makes what the run gives of what its steps gave.
pub async fn conclude(shared: Shared) -> (Work, Finished) {
    (Work::Conclusion, Finished::Concluded(concluded(&shared).await))
}

async fn concluded(shared: &Shared) -> Result<(Value, Kept), Failure> {
    let Some(tree) = &shared.task.definition.outputs else { return Ok((Value::Null, Kept::Inline { bytes: 4 })) };
    let scope = shared.scope(&[tree.references()]).await?;
    let definition = shared.task.definition.clone();
    let outputs = evaluated(move || definition.outputs.as_ref().map_or(Ok(Value::Null), |tree| tree.evaluate(&scope)));
    let outputs = outputs.await?.map_err(|error| Failure::new(RunReason::InvalidDefinition, error.to_string()))?;
    let secret = format!("{}-outputs", shared.run.name);
    let kept = keep::keep(&shared.tools.sender, &shared.run, &secret, &outputs, None).await?;
    Ok((outputs, kept))
}

/// What was judged off those threads.
fn found(judged: Result<Option<Judged>, Failure>) -> Judged {
    match judged {
        Ok(Some(judged)) => judged,
        Ok(None) => Judged::Failed(Failure::new(RunReason::InvalidDefinition, "There is no such step.")),
        Err(failure) => Judged::Failed(failure),
    }
}
