//! Requests beside the steps: to the remote side of a step that was cancelled, and to whoever is to know of a run's end.

use super::super::answer::Judged;
use super::super::attempt::key;
use super::super::definition::Definition;
use super::super::driver::Finished;
use super::super::failure::Failure;
use super::super::keep;
use super::super::request::RequestPlan;
use super::super::scope::with_remote;
use super::super::seen::Work;
use super::super::sender::Begun;
use super::{Shared, evaluated, found};
use crate::expression::{References, Scope};
use futures::FutureExt;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A request beside the steps.
#[derive(Clone, Debug)]
enum Hook {
    /// To the remote side of a step that was cancelled.
    Cancel(String),
    /// To whoever is to know that the run has ended.
    Complete,
}

impl Hook {
    fn request<'a>(&self, definition: &'a Definition) -> Option<&'a RequestPlan> {
        match self {
            Self::Cancel(step) => definition.step(step)?.on_cancel.as_ref(),
            Self::Complete => definition.on_complete.as_ref(),
        }
    }

    fn key(&self, uid: &str) -> String {
        match self {
            Self::Cancel(step) => key(uid, &format!("cancel {step}")),
            Self::Complete => key(uid, "complete"),
        }
    }
}

/// Tells the remote side that a step was cancelled.
pub async fn cancel(shared: Shared, name: String) -> (Work, Finished) {
    let remote = shared.step(&name).and_then(|(step, _)| step.remote.clone());
    let told = tell(&shared, Hook::Cancel(name.clone()), |scope| with_remote(scope, remote.as_ref())).await;
    (Work::Cancellation(name.clone()), Finished::Told(logged(&shared, told, "onCancel", &name)))
}

/// Tells whoever is to be told that the run has ended.
pub async fn complete(shared: Shared) -> (Work, Finished) {
    let told = match outputs(&shared).await {
        Ok(outputs) => tell(&shared, Hook::Complete, |scope| scope.with("outputs", Arc::new(outputs))).await,
        Err(failure) => Err(failure),
    };
    (Work::Completion, Finished::Told(logged(&shared, told, "onComplete", "")))
}

async fn outputs(shared: &Shared) -> Result<Value, Failure> {
    match &shared.status.outputs_ref {
        Some(reference) => keep::load(shared.tools.world(), &shared.run.namespace, reference).await,
        None => Ok(shared.status.outputs.clone().unwrap_or_default()),
    }
}

fn logged(shared: &Shared, told: Result<(), Failure>, what: &str, step: &str) -> bool {
    if let Err(failure) = &told {
        tracing::warn!(
            namespace = shared.run.namespace,
            name = shared.run.name,
            step,
            why = failure.message,
            "{what} was not delivered"
        );
    }
    told.is_ok()
}

/// Sends a request beside the steps.
async fn tell(shared: &Shared, hook: Hook, with: impl FnOnce(Scope) -> Scope + Send) -> Result<(), Failure> {
    let definition = shared.task.definition.clone();
    let Some(request) = hook.request(&definition) else { return Ok(()) };
    let references: Vec<&References> = request.references().collect();
    let scope = with(shared.scope(&references).await?);
    let (composed, asked, key) = (definition.clone(), (hook.clone(), scope.clone()), hook.key(&shared.run.uid));
    let call = evaluated(move || asked.0.request(&composed).map(|request| request.compose(&asked.1, &key))).await?;
    let Some(call) = call.transpose()? else { return Ok(()) };
    let call = shared.completed(call)?;
    let _turn = shared.turn(call.account.as_deref()).await;
    let judge = move |begun: Begun| {
        let (definition, hook, scope) = (definition.clone(), hook.clone(), scope.clone());
        async move {
            let answer = match begun.whole().await {
                Ok(answer) => answer,
                Err(failure) => return Judged::Failed(failure),
            };
            found(evaluated(move || hook.request(&definition).map(|request| request.judge(None, &answer, &scope))).await)
        }
        .boxed()
    };
    loop {
        match shared.tools.sender.ask(&shared.run.namespace, &call, false, &judge).await {
            Judged::Unauthorized(failure) | Judged::Failed(failure) => return Err(failure),
            // Until this work is ended, or we lead again: that nobody was told is not to be said.
            Judged::Withheld => tokio::time::sleep(Duration::from_secs(1)).await,
            Judged::Completed(_) | Judged::Accepted(_) | Judged::Running(_) | Judged::Interrupted(_) => return Ok(()),
        }
    }
}
