//! Makes a step ready: its turn, and its request.

use super::super::attempt::{digest, key};
use super::super::coze::Question;
use super::super::definition::CallPlan;
use super::super::driver::Finished;
use super::super::failure::Failure;
use super::super::request::{Call, CozePlan, RequestPlan, invalid, unusable};
use super::super::seen::{Prepared, Work};
use super::super::sender::coze_of;
use super::{Shared, evaluated};
use crate::api::{Phase, RunReason, StepStatus};
use crate::expression::References;
use std::sync::Arc;
use std::time::Duration;

/// How long is waited before a question is tried again that cannot be made now.
const AGAIN: Duration = Duration::from_secs(5);

/// Makes a step ready: waits for its turn, and makes its request.
pub async fn prepare(shared: Shared, name: String, resume: Option<String>) -> (Work, Finished) {
    let work = Work::Preparing(name.clone());
    let Some((step, plan)) = shared.step(&name) else { return (work, Finished::Prepared(Prepared::Skip, None)) };
    loop {
        let permit = shared.turn(plan.call.account()).await;
        let failure = match request(&shared, &name, resume.clone()).await {
            Ok(Some(call)) => return (work, Finished::Prepared(Prepared::Call(Arc::new(call)), Some(permit))),
            Ok(None) => return (work, Finished::Prepared(Prepared::Skip, None)),
            Err(failure) => failure,
        };
        let passes = failure.retry || failure.reason == RunReason::AccountNotReady;
        if step.phase != Phase::Running || !passes {
            return (work, Finished::Prepared(Prepared::Refused(failure), None));
        }
        // It goes on at the remote side, and is asked again in a moment.
        drop(permit);
        tokio::time::sleep(AGAIN).await;
    }
}

/// What is asked of Coze for a step now.
pub(super) fn question(step: &StepStatus, resume: Option<&str>) -> Question {
    let remote = step.remote.clone().unwrap_or_default();
    match (remote.interrupt.filter(|interrupt| interrupt.answered), remote.execute_id) {
        (Some(interrupt), _) => {
            Question::Resume { event_id: interrupt.event_id, kind: interrupt.kind, data: resume.unwrap_or_default().to_owned() }
        }
        (None, Some(execute_id)) => Question::Progress { execute_id },
        (None, None) => Question::Begin,
    }
}

/// The request of a step; none where its `when` is false.
async fn request(shared: &Shared, name: &str, resume: Option<String>) -> Result<Option<Call>, Failure> {
    let Some((step, plan)) = shared.step(name) else { return Ok(None) };
    let question = question(step, resume.as_deref());
    if let (Question::Resume { data, .. }, Some(remote)) = (&question, &step.remote)
        && remote.answer_digest.as_ref() != Some(&digest(data))
    {
        return Err(Failure::new(RunReason::Interrupted, "The answer was changed or removed before it was sent."));
    }
    let mut references: Vec<&References> = plan.when.iter().map(|when| when.references()).collect();
    match &plan.call {
        CallPlan::Http(request) => references.extend(request.references()),
        CallPlan::Coze(coze) if question == Question::Begin => references.extend(coze.references()),
        // What was begun needs nothing that it was begun with.
        CallPlan::Coze(_) => references.clear(),
    }
    references.extend(plan.verify.iter().filter(|_| step.doubtful).flat_map(RequestPlan::references));
    let scope = shared.scope(&references).await?;
    let base = match &plan.call {
        CallPlan::Coze(coze) => Some(base(shared, coze)?),
        CallPlan::Http(_) => None,
    };
    let (definition, step, name) = (shared.task.definition.clone(), step.clone(), name.to_owned());
    let key = key(&shared.run.uid, &name);
    let call = evaluated(move || {
        let Some(plan) = definition.step(&name) else { return Ok(None) };
        if let Some(when) = plan.when.as_ref().filter(|_| step.attempts == 0)
            && !when.holds(&scope).map_err(|error| unusable("when", &error))?
        {
            return Ok(None);
        }
        match (&plan.call, plan.verify.as_ref().filter(|_| step.doubtful)) {
            (_, Some(verify)) => verify.compose(&scope, &key),
            (CallPlan::Http(request), None) => request.compose(&scope, &key),
            (CallPlan::Coze(coze), None) => coze.compose(&question, &base.unwrap_or_default(), &scope, &key),
        }
        .map(Some)
    });
    call.await??.map(|call| shared.completed(call)).transpose()
}

/// Where Coze is, by the step or by the account's preset.
fn base(shared: &Shared, coze: &CozePlan) -> Result<String, Failure> {
    let preset = || shared.account(&coze.account).and_then(|account| coze_of(&account)).map(str::to_owned);
    coze.base_url.clone().or_else(preset).ok_or_else(|| {
        let message = format!(
            "OAuthAccount {} has neither the preset Coze nor CozeCN: say in coze.baseURL where its API is.",
            coze.account
        );
        invalid(message)
    })
}
