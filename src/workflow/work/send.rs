//! Sends a step's request, and finds out what came of it.

use super::super::answer::{Done, Judged, Verified};
use super::super::coze::{Question, Stream};
use super::super::definition::{CallPlan, StepPlan};
use super::super::driver::Finished;
use super::super::failure::Failure;
use super::super::keep;
use super::super::limits::Permit;
use super::super::request::{Call, CozePlan, RequestPlan, unusable};
use super::super::seen::{Outcome, Work};
use super::super::sender::{Begun, broken, masked_text};
use super::prepare::question;
use super::{Shared, evaluated, found};
use crate::api::{Delivery, RunReason};
use crate::expression::{References, Scope};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Sends a step's request, and finds out what came of it.
pub async fn send(shared: Shared, name: String, call: Arc<Call>, permit: Option<Permit>) -> (Work, Finished) {
    let outcome = match shared.step(&name) {
        None => Outcome::Failed(Failure::new(RunReason::InvalidDefinition, "There is no such step.")),
        Some((step, plan)) => match (&plan.call, plan.verify.as_ref().filter(|_| step.doubtful)) {
            (_, Some(_)) => verify(&shared, plan, &call).await,
            (CallPlan::Http(_), None) => http(&shared, plan, &call).await,
            (CallPlan::Coze(coze), None) => match question(step, None) {
                question @ Question::Progress { .. } => {
                    // It lasts, and others are to have their turn meanwhile.
                    drop(permit);
                    poll(&shared, coze, plan, &call, &question).await
                }
                question => run_at_coze(&shared, plan, &call, &question).await,
            },
        },
    };
    (Work::Step(name), Finished::Step(outcome))
}

/// Whether a request must not be sent twice by accident.
fn once(plan: &StepPlan) -> bool {
    plan.delivery != Delivery::AtLeastOnce
}

async fn http(shared: &Shared, plan: &StepPlan, call: &Call) -> Outcome {
    let scope = match shared.scope(&after(plan)).await {
        Ok(scope) => scope,
        Err(failure) => return Outcome::Failed(failure),
    };
    let (definition, name) = (shared.task.definition.clone(), plan.name.clone());
    let judge = move |begun: Begun| {
        let (definition, name, scope) = (definition.clone(), name.clone(), scope.clone());
        async move {
            let answer = match begun.whole().await {
                Ok(answer) => answer,
                Err(failure) => return Judged::Failed(failure),
            };
            let judged = evaluated(move || {
                let plan = definition.step(&name)?;
                let CallPlan::Http(request) = &plan.call else { return None };
                Some(request.judge(Some(plan), &answer, &scope))
            });
            found(judged.await)
        }
        .boxed()
    };
    let judged = shared.tools.sender.ask(&shared.run.namespace, call, once(plan), &judge).await;
    outcome(shared, plan, judged).await
}

/// What expressions on an answer refer to.
fn after(plan: &StepPlan) -> Vec<&References> {
    let mut references: Vec<&References> = vec![];
    if let CallPlan::Http(request) = &plan.call {
        references.extend(request.success_when.iter().map(|condition| condition.references()));
    }
    references.extend(plan.verify.iter().flat_map(RequestPlan::references));
    references.extend(plan.retry_when.iter().map(|condition| condition.references()));
    references.extend(plan.output.iter().map(|output| output.references()));
    references
}

async fn verify(shared: &Shared, plan: &StepPlan, call: &Call) -> Outcome {
    let scope = match shared.scope(&after(plan)).await {
        Ok(scope) => scope,
        Err(failure) => return Outcome::Failed(failure),
    };
    let not_carried_out = Arc::new(AtomicBool::new(false));
    let (definition, name, told) = (shared.task.definition.clone(), plan.name.clone(), not_carried_out.clone());
    let judge = move |begun: Begun| {
        let (definition, name, scope, told) = (definition.clone(), name.clone(), scope.clone(), told.clone());
        async move {
            let answer = match begun.whole().await {
                Ok(answer) => answer,
                Err(failure) => return Judged::Failed(failure),
            };
            let verified = evaluated(move || {
                let plan = definition.step(&name)?;
                Some(plan.verify.as_ref()?.verify(plan, &answer, &scope))
            });
            match verified.await {
                Ok(Some(Verified::CarriedOut(done))) => Judged::Completed(done),
                Ok(Some(Verified::NotCarriedOut)) => {
                    told.store(true, Ordering::Relaxed);
                    Judged::Completed(Done::default())
                }
                Ok(Some(Verified::Unauthorized(failure))) => Judged::Unauthorized(failure),
                Ok(Some(Verified::Unknown(failure))) => Judged::Failed(failure),
                Ok(None) => found(Ok(None)),
                Err(failure) => Judged::Failed(failure),
            }
        }
        .boxed()
    };
    let judged = shared.tools.sender.ask(&shared.run.namespace, call, false, &judge).await;
    if not_carried_out.load(Ordering::Relaxed) {
        return Outcome::NotCarriedOut;
    }
    outcome(shared, plan, judged).await
}

/// What Coze answers to a question.
fn of_coze(
    shared: &Shared,
    plan: &StepPlan,
    question: &Question,
    idempotent: bool,
    scope: Option<Scope>,
) -> impl Fn(Begun) -> BoxFuture<'static, Judged> + Send + Sync + use<> {
    let (definition, name, question) = (shared.task.definition.clone(), plan.name.clone(), question.clone());
    move |begun: Begun| {
        let (definition, name, question, scope) = (definition.clone(), name.clone(), question.clone(), scope.clone());
        async move {
            if begun.is_stream() {
                return streamed(begun, idempotent).await;
            }
            let answer = match begun.whole().await {
                Ok(answer) => answer,
                Err(failure) => return Judged::Failed(failure),
            };
            let judged = evaluated(move || {
                let plan = definition.step(&name)?;
                let CallPlan::Coze(coze) = &plan.call else { return None };
                let judged = coze.judge(&question, &answer, idempotent);
                Some(match &scope {
                    Some(scope) => plan.reconsider(judged, &answer, scope),
                    None => judged,
                })
            });
            found(judged.await)
        }
        .boxed()
    }
}

async fn run_at_coze(shared: &Shared, plan: &StepPlan, call: &Call, question: &Question) -> Outcome {
    let references: Vec<&References> = plan.retry_when.iter().map(|condition| condition.references()).collect();
    let scope = match shared.scope(&references).await {
        Ok(scope) => scope,
        Err(failure) => return Outcome::Failed(failure),
    };
    let judge = of_coze(shared, plan, question, plan.delivery == Delivery::AtLeastOnce, Some(scope));
    let judged = shared.tools.sender.ask(&shared.run.namespace, call, once(plan), &judge).await;
    outcome_at_coze(shared, plan, judged).await
}

async fn streamed(begun: Begun, idempotent: bool) -> Judged {
    let log_id = begun.header("x-tt-logid").or_else(|| begun.header("x-log-id"));
    let (mut events, token) = begun.events();
    let mut stream = Stream::new(log_id);
    while let Some(event) = events.next().await {
        match event {
            Err(unanswered) => return Judged::Failed(broken(unanswered)),
            Ok((event, data)) => {
                match stream.feed(&event, &masked_text(data, token.as_ref()), idempotent) {
                    // Each event is without the token; two may hold a half of it each.
                    Some(Judged::Completed(done)) => {
                        let text = done.output.to_string();
                        if !token.as_ref().is_some_and(|token| text.contains(token.expose())) {
                            return Judged::Completed(done);
                        }
                        let output = masked_text(text, token.as_ref());
                        let output = serde_json::from_str(&output).unwrap_or(Value::String(output));
                        return Judged::Completed(Done { output, ..done });
                    }
                    Some(judged) => return judged,
                    None => {}
                }
            }
        }
    }
    Judged::Failed(Failure::new(RunReason::StepFailed, "Coze's stream has ended before it said Done.").doubtful())
}

/// Asks how a run goes until it has ended. How long that may take is decided where it is seen that it goes on.
async fn poll(shared: &Shared, coze: &CozePlan, plan: &StepPlan, call: &Call, question: &Question) -> Outcome {
    let judge = of_coze(shared, plan, question, true, None);
    loop {
        let turn = shared.turn(plan.call.account()).await;
        // Whom the account permits may change while it lasts.
        let judged = match shared.completed(call.clone()) {
            Ok(call) => shared.tools.sender.ask(&shared.run.namespace, &call, false, &judge).await,
            Err(failure) => Judged::Failed(failure),
        };
        drop(turn);
        let wait = match judged {
            Judged::Running(_) | Judged::Withheld => coze.interval,
            // The run goes on there, whether its history can be read just now or not.
            Judged::Failed(failure) if failure.retry || failure.doubt || failure.reason == RunReason::AccountNotReady => {
                let asked = failure.retry_after.and_then(|after| Duration::try_from(after).ok()).unwrap_or_default();
                tracing::debug!(
                    namespace = shared.run.namespace,
                    name = shared.run.name,
                    step = plan.name,
                    why = failure.message,
                    "how a run goes could not be asked"
                );
                coze.interval.max(asked)
            }
            judged => return outcome_at_coze(shared, plan, judged).await,
        };
        tokio::time::sleep(wait).await;
    }
}

/// What came of a step's request; its output is kept first.
async fn outcome(shared: &Shared, plan: &StepPlan, judged: Judged) -> Outcome {
    let done = match judged {
        Judged::Completed(done) => done,
        Judged::Accepted(remote) | Judged::Running(remote) => return Outcome::Accepted(remote),
        Judged::Interrupted(remote) => return Outcome::Interrupted(remote),
        Judged::Withheld => return Outcome::Withheld,
        Judged::Unauthorized(failure) | Judged::Failed(failure) => return Outcome::Failed(failure),
    };
    let secret = format!("{}.{}", shared.run.name, plan.name);
    match keep::keep(&shared.tools.sender, &shared.run, &secret, &done.output, Some(&shared.room)).await {
        Ok(kept) => Outcome::Completed(done, kept),
        Err(failure) => Outcome::Failed(failure),
    }
}

/// The same of a run at Coze, of which `output` keeps what it wants.
async fn outcome_at_coze(shared: &Shared, plan: &StepPlan, judged: Judged) -> Outcome {
    let judged = match judged {
        Judged::Completed(done) => at_coze(shared, plan, done).await.map_or_else(Judged::Failed, Judged::Completed),
        judged => judged,
    };
    outcome(shared, plan, judged).await
}

/// What `output` keeps of a run at Coze: there `response.body` is the run's output.
async fn at_coze(shared: &Shared, plan: &StepPlan, mut done: Done) -> Result<Done, Failure> {
    let (CallPlan::Coze(_), Some(tree)) = (&plan.call, &plan.output) else { return Ok(done) };
    // It was done: that an output before it cannot be read does not undo it.
    let scope = shared.scope(&[tree.references()]).await.map_err(|failure| Failure { retry: false, ..failure })?;
    let response = serde_json::json!({"status": done.http_status, "headers": {}, "body": std::mem::take(&mut done.output)});
    let (definition, name) = (shared.task.definition.clone(), plan.name.clone());
    done.output = evaluated(move || {
        let scope = scope.with("response", Arc::new(response));
        let tree = definition.step(&name).and_then(|plan| plan.output.as_ref());
        tree.map_or(Ok(Value::Null), |tree| tree.evaluate(&scope)).map_err(|error| unusable("output", &error))
    })
    .await??;
    Ok(done)
}
