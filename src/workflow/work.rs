//! What goes on beside the decisions on a run: steps made ready and sent, people told, outputs made. Each ends in what came of it.

use super::answer::{Done, Judged, Verified};
use super::coze::{Question, Stream};
use super::definition::{CallPlan, Definition, StepPlan};
use super::driver::{Finished, Tools};
use super::failure::Failure;
use super::keep;
use super::limits::Permit;
use super::progress::{digest, key};
use super::request::{Call, CozePlan, RequestPlan};
use super::scope::{Outputs, named, scope, with_remote};
use super::seen::{Identity, Kept, Outcome, Prepared, Task, Work};
use super::sender::{Begun, broken, coze_of, masked_text, permitted};
use crate::api::{Delivery, OAuthAccount, Phase, RunReason, StepStatus, WorkflowRunStatus};
use crate::expression::{References, Scope};
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long an expression may take, on a thread of its own. What it may cost is bounded before.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long is waited before a question is tried again that cannot be made now.
const AGAIN: Duration = Duration::from_secs(5);

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

    /// Bytes of outputs that status may still hold: what is under way may give as much as it may.
    fn may_be_inline(&self) -> bool {
        let there: i64 = self.status.steps.iter().filter(|step| step.output.is_some()).filter_map(|step| step.output_bytes).sum();
        let under_way = i64::try_from(self.task.definition.parallelism).unwrap_or(64);
        let each = i64::try_from(keep::INLINE).unwrap_or(i64::MAX);
        there + under_way.saturating_mul(each) <= keep::INLINE_IN_ALL || self.task.definition.steps.len() <= 8
    }
}

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
fn question(step: &StepStatus, resume: Option<&str>) -> Question {
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
            && !when.holds(&scope).map_err(|error| super::request::unusable("when", &error))?
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
        super::request::invalid(message)
    })
}

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

fn found(judged: Result<Option<Judged>, Failure>) -> Judged {
    match judged {
        Ok(Some(judged)) => judged,
        Ok(None) => Judged::Failed(Failure::new(RunReason::InvalidDefinition, "There is no such step.")),
        Err(failure) => Judged::Failed(failure),
    }
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
    outcome(shared, plan, judged).await
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
        let turn = shared.turn(None).await;
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
            judged => return outcome(shared, plan, judged).await,
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
    let done = match at_coze(shared, plan, done).await {
        Ok(done) => done,
        Err(failure) => return Outcome::Failed(failure),
    };
    let secret = format!("{}.{}", shared.run.name, plan.name);
    match keep::keep(&shared.tools.sender, &shared.run, &secret, &done.output, shared.may_be_inline()).await {
        Ok(kept) => Outcome::Completed(done, kept),
        Err(failure) => Outcome::Failed(failure),
    }
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
        tree.map_or(Ok(Value::Null), |tree| tree.evaluate(&scope)).map_err(|error| super::request::unusable("output", &error))
    })
    .await??;
    Ok(done)
}

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
    let kept = keep::keep(&shared.tools.sender, &shared.run, &secret, &outputs, true).await?;
    Ok((outputs, kept))
}
