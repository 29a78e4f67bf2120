//! Works on one run until it is over: what `decide` says is done here, one thing after another, with requests beside it.

use super::decide::{Next, decide};
use super::limits::{Limits, Permit};
use super::progress::progress;
use super::seen::{AccountState, Identity, Kept, Outcome, Prepared, Seen, Turn, Work};
use super::sender::Sender;
use super::understand::Definitions;
use super::{Failure, work};
use crate::api::{OAuthAccount, WorkflowRun, WorkflowRunStatus};
use crate::world::runs::{Admission, Place, Worker};
use crate::world::workflows::{Said, Version};
use crate::world::{ApiError, World, clock, workflows};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use kube_runtime::events::EventType;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// Decisions in a row without waiting for anything. More is a defect of ours, and is said.
const MOST_TURNS: usize = 2000;
/// How long is waited before a status is offered to the API server again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long requests under way may take when the process is asked to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Finds an account in the caches.
pub type Find = dyn Fn(&str, &str) -> Option<Arc<OAuthAccount>> + Send + Sync;

/// What drivers share.
pub struct Tools {
    /// Sends requests.
    pub sender: Sender,
    /// Workflows that were understood.
    pub definitions: Definitions,
    /// How many requests are under way at once.
    pub limits: Limits,
    /// Finds an account.
    pub find: Box<Find>,
    /// Whether this process leads.
    pub leads: Box<dyn Fn() -> bool + Send + Sync>,
    /// Set when no new work is to be taken.
    pub stop: CancellationToken,
}

impl Tools {
    /// Everything outside.
    pub fn world(&self) -> &Arc<World> {
        &self.sender.world
    }
}

/// What came of work.
pub enum Finished {
    /// A step can be sent, or need not or cannot be.
    Prepared(Prepared, Option<Permit>),
    /// A step's request has ended.
    Step(Outcome),
    /// Somebody was told, or not.
    Told(bool),
    /// What the run gives.
    Concluded(Result<(Value, Kept), Failure>),
}

struct Driver {
    tools: Arc<Tools>,
    worker: Worker,
    seen: Seen,
    run: WorkflowRun,
    version: Version,
    tasks: JoinSet<(Work, Finished)>,
    handles: HashMap<Work, AbortHandle>,
    permits: BTreeMap<String, Permit>,
    pause: Duration,
}

/// Works on a run until it is over, or is somebody else's.
///
/// # Errors
/// Where the API server does not answer, before anything was begun.
pub async fn drive(tools: Arc<Tools>, place: &Place, worker: Worker, me: String) -> Result<(), ApiError> {
    let client = &tools.world().cluster.objects;
    let Some(run) = workflows::read::<WorkflowRun>(client, &place.0, &place.1).await? else { return Ok(()) };
    let mut driver = Driver::new(tools.clone(), worker, run, me);
    driver.run().await
}

impl Driver {
    fn new(tools: Arc<Tools>, worker: Worker, mut run: WorkflowRun, me: String) -> Self {
        let metadata = &run.metadata;
        let identity = Identity {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            created: metadata.creation_timestamp.as_ref().map(|at| at.0).unwrap_or_default(),
            scheduled: run.spec.scheduled_time.as_ref().map(|at| at.0),
        };
        let version = Version::of(&run);
        let status = run.status.take().unwrap_or_default();
        run.metadata.managed_fields = None;
        let seen = Seen { run: identity, me, status, cancel: run.spec.cancel, news: Some(clock::now()), ..Seen::default() };
        Self {
            tools,
            worker,
            seen,
            run,
            version,
            tasks: JoinSet::new(),
            handles: HashMap::new(),
            permits: BTreeMap::new(),
            pause: Duration::from_millis(50),
        }
    }

    async fn run(&mut self) -> Result<(), ApiError> {
        let mut turns = 0;
        loop {
            if !(self.tools.leads)() {
                return Ok(());
            }
            if self.tools.stop.is_cancelled() {
                self.drain().await;
                return Ok(());
            }
            self.look();
            turns += 1;
            if turns > MOST_TURNS {
                tracing::error!(
                    namespace = self.seen.run.namespace,
                    name = self.seen.run.name,
                    "the run did not come to rest within {MOST_TURNS} decisions; it is taken up again in a moment"
                );
                tokio::time::sleep(LONGEST_PAUSE).await;
                return Ok(());
            }
            match decide(&self.seen, clock::now()) {
                Next::Understand => self.understand().await,
                Next::Record(status) => self.record(*status).await,
                Next::Begin(work) => self.begin(work),
                Next::Abort(work) => self.abort(&work),
                Next::Wait(until) => {
                    turns = 0;
                    self.wait(until).await;
                }
                Next::Done => return Ok(()),
            }
        }
    }

    /// What the caches tell.
    fn look(&mut self) {
        let world = self.tools.world().clone();
        let run = &self.seen.run;
        let entry = world.runs.get(&run.namespace, &run.name).filter(|entry| entry.version.uid == run.uid);
        match entry {
            None => self.seen.gone = true,
            Some(entry) => {
                self.seen.gone = entry.going;
                // A cache may be behind what was read; a run is not taken back.
                self.seen.cancel |= entry.cancel;
                self.seen.resume = entry.resume;
            }
        }
        let Some(definition) = self.seen.definition().cloned() else { return };
        let named = definition.accounts();
        self.seen.accounts = named.map(|name| (name.to_owned(), state((self.tools.find)(&run.namespace, name), name))).collect();
        if !self.seen.status.phase.is_final() {
            self.seen.turn = match world.runs.admit(&run.namespace, &run.name, &run.uid, definition.concurrency) {
                Admission::Go => Turn::Go,
                Admission::After(other) => Turn::After(other),
                Admission::ReplacedBy(other) => Turn::ReplacedBy(other),
            };
        }
    }

    async fn understand(&mut self) {
        self.run.status = Some(self.seen.status.clone());
        // Before it is looked for: what comes meanwhile is heard of.
        self.tools.world().runs.awaits(&self.place(), self.run.spec.input_from.as_ref().map(|source| source.name().to_owned()));
        match self.tools.definitions.understand(self.tools.world(), &self.run).await {
            Ok(task) => {
                if let Ok(task) = &task {
                    let accounts = task.definition.accounts().map(str::to_owned).collect();
                    self.tools.world().runs.needs(&self.place(), accounts);
                }
                self.seen.task = Some(task);
            }
            Err(error) => self.trouble(&error, "what a run is to do could not be read").await,
        }
    }

    /// Writes the status by compare-and-swap; whatever keeps it from being stored, what is there is looked at anew.
    async fn record(&mut self, status: WorkflowRunStatus) {
        if !(self.tools.leads)() {
            return;
        }
        let client = self.tools.world().cluster.objects.clone();
        match workflows::say::<WorkflowRun>(&client, &self.version, &status).await {
            Ok(Said::Stored(version)) => {
                self.pause = Duration::from_millis(50);
                self.version.resource_version = version;
                self.tell(&status).await;
                self.stored(status);
                return;
            }
            Ok(Said::Conflict) => {}
            Ok(Said::Refused(words)) => {
                tracing::error!(
                    namespace = self.version.namespace,
                    name = self.version.name,
                    "the API server does not take the status of a run: {words}"
                );
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            Err(error) => self.trouble(&error, "the status of a run could not be stored").await,
        }
        match workflows::read::<WorkflowRun>(&client, &self.version.namespace, &self.version.name).await {
            Ok(Some(run)) if run.metadata.uid.as_ref() == Some(&self.seen.run.uid) => {
                self.version = Version::of(&run);
                self.seen.cancel |= run.spec.cancel;
                self.seen.run.generation = run.metadata.generation;
                self.stored(run.status.unwrap_or_default());
            }
            Ok(_) => self.seen.gone = true,
            Err(error) => self.trouble(&error, "a run could not be read").await,
        }
    }

    fn stored(&mut self, status: WorkflowRunStatus) {
        self.tools.world().runs.written(&self.place(), &self.seen.run.uid, &status);
        self.seen = std::mem::take(&mut self.seen).recorded(status);
        self.permits.retain(|step, _| self.seen.prepared.contains_key(step));
    }

    /// Whether a person would ask about it: counted, logged, and told by an Event.
    async fn tell(&self, status: &WorkflowRunStatus) {
        let (before, metrics) = (&self.seen.status, &self.tools.world().metrics);
        let Some(condition) = status.conditions.first() else { return };
        let (reason, message) = (condition.reason.as_str(), condition.message.as_str());
        let said_before = before.conditions.first().is_some_and(|condition| condition.reason == reason);
        let (namespace, name) = (&self.seen.run.namespace, &self.seen.run.name);
        if status.phase.is_final() && !before.phase.is_final() {
            metrics.workflow_runs_total.with_label_values(&[status.phase.as_str(), reason]).inc();
            if let (Some(start), Some(end)) = (&status.start_time, &status.completion_time) {
                metrics.workflow_run_duration.observe(end.0.duration_since(start.0).as_secs_f64());
            }
            tracing::info!(
                namespace,
                name,
                runID = self.seen.run.uid,
                phase = status.phase.as_str(),
                reason,
                message,
                "the run has ended"
            );
        } else if !matches!(reason, "Interrupted" | "AccountNotReady") || said_before {
            return;
        }
        if reason != "Completed" {
            let about = ObjectReference { uid: Some(self.seen.run.uid.clone()), ..self.run.object_ref(&()) };
            let (world, note, reason) = (self.tools.world().clone(), message.to_owned(), reason.to_owned());
            // Beside: nobody waits for an Event.
            tokio::spawn(async move { world.events.tell(&about, EventType::Warning, &reason, &note).await });
        }
    }

    fn begin(&mut self, work: Work) {
        let Some(Ok(task)) = &self.seen.task else { return };
        // What is about to be stored is what it is made of.
        let status = progress(&self.seen, clock::now());
        let shared = work::Shared { tools: self.tools.clone(), run: self.seen.run.clone(), task: task.clone(), status };
        let handle = match &work {
            Work::Preparing(step) => self.tasks.spawn(work::prepare(shared, step.clone(), self.seen.resume.clone())),
            Work::Step(step) => {
                let Some(Prepared::Call(call)) = self.seen.prepared.get(step).cloned() else { return };
                if !self.seen.may_send(step) {
                    return;
                }
                self.tasks.spawn(work::send(shared, step.clone(), call, self.permits.remove(step)))
            }
            Work::Cancellation(step) => self.tasks.spawn(work::cancel(shared, step.clone())),
            Work::Conclusion => self.tasks.spawn(work::conclude(shared)),
            Work::Completion => self.tasks.spawn(work::complete(shared)),
        };
        self.handles.insert(work.clone(), handle);
        self.seen.live.insert(work);
    }

    fn abort(&mut self, work: &Work) {
        if let Some(handle) = self.handles.remove(work) {
            handle.abort();
        }
        self.seen.live.remove(work);
        if let Work::Step(step) | Work::Preparing(step) = work {
            self.permits.remove(step);
            self.seen.prepared.remove(step);
        }
    }

    async fn wait(&mut self, until: Option<Timestamp>) {
        let now = clock::now();
        let rest = until.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
        // Clocks step; nothing is waited for longer than it takes to notice.
        let rest = rest.unwrap_or(Duration::from_secs(60)).min(Duration::from_secs(60));
        let changed = self.worker.changed.clone();
        tokio::select! {
            Some(ended) = self.tasks.join_next() => {
                if let Ok((work, finished)) = ended {
                    self.finished(work, finished);
                }
                // What else has ended by now is told in the same write.
                while let Some(Ok((work, finished))) = self.tasks.try_join_next() {
                    self.finished(work, finished);
                }
            }
            () = changed.notified() => {
                if matches!(self.seen.task, Some(Err(super::Unclear::Missing(_)))) {
                    self.seen.task = None;
                }
            }
            () = self.tools.stop.cancelled() => {}
            () = tokio::time::sleep(rest) => {
                if matches!(self.seen.task, Some(Err(super::Unclear::Missing(_)))) {
                    self.seen.task = None;
                }
            }
        }
    }

    fn finished(&mut self, work: Work, finished: Finished) {
        if !self.seen.live.remove(&work) {
            return;
        }
        self.handles.remove(&work);
        match (work, finished) {
            (Work::Preparing(step), Finished::Prepared(prepared, permit)) => {
                self.seen.prepared.insert(step.clone(), prepared);
                if let Some(permit) = permit {
                    self.permits.insert(step, permit);
                }
            }
            (Work::Step(step), Finished::Step(outcome)) => {
                let label = match &outcome {
                    Outcome::Completed(..) => "completed",
                    Outcome::Accepted(_) => "accepted",
                    Outcome::Interrupted(_) => "interrupted",
                    Outcome::NotCarriedOut => "not_carried_out",
                    Outcome::Failed(failure) if failure.doubt => "unknown",
                    Outcome::Failed(_) => "failed",
                };
                self.tools.world().metrics.step_attempts.with_label_values(&[label]).inc();
                self.seen.outcomes.insert(step, outcome);
                self.seen.news.get_or_insert_with(clock::now);
            }
            (Work::Cancellation(step), Finished::Told(told)) => {
                self.seen.cancellations.insert(step, told);
            }
            (Work::Conclusion, Finished::Concluded(conclusion)) => self.seen.conclusion = Some(conclusion),
            (Work::Completion, Finished::Told(told)) => self.seen.completion = Some(told),
            _ => {}
        }
    }

    /// The process ends: requests under way are brought to their end, where that does not take long, and what came of them is
    /// stored. What is left is the next leader's.
    async fn drain(&mut self) {
        let deadline = clock::uptime() + PATIENCE;
        let passing: Vec<Work> = self.seen.live.iter().filter(|work| !self.is_request(work)).cloned().collect();
        passing.iter().for_each(|work| self.abort(work));
        while !self.seen.live.is_empty() && clock::uptime() < deadline {
            let left = deadline.saturating_sub(clock::uptime());
            let Ok(Some(ended)) = tokio::time::timeout(left, self.tasks.join_next()).await else { break };
            if let Ok((work, finished)) = ended {
                self.finished(work, finished);
            }
        }
        self.look();
        if !self.seen.outcomes.is_empty()
            && let Next::Record(status) = decide(&self.seen, clock::now())
        {
            self.record(*status).await;
        }
    }

    /// Whether somebody's answer is awaited that would be lost.
    fn is_request(&self, work: &Work) -> bool {
        let Work::Step(name) = work else { return false };
        let step = self.seen.status.steps.iter().find(|step| step.name == *name);
        step.is_some_and(|step| !super::progress::goes_on_there(step))
    }

    /// The API server does not answer: what is in hand is offered again, with patience.
    async fn trouble(&mut self, error: &ApiError, what: &str) {
        tracing::warn!(namespace = self.seen.run.namespace, name = self.seen.run.name, %error, "{what}; it is tried again");
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }

    fn place(&self) -> Place {
        (self.seen.run.namespace.clone(), self.seen.run.name.clone())
    }
}

/// Whether an account has a token to send, by what its status says.
fn state(account: Option<Arc<OAuthAccount>>, name: &str) -> AccountState {
    let Some(account) = account else {
        return AccountState::NotReady(format!("There is no OAuthAccount {name} in this namespace; create it."));
    };
    let conditions = account.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => AccountState::Ready,
        Some(ready) => AccountState::NotReady(format!("OAuthAccount {name} is not Ready: {}", ready.message)),
        None => AccountState::NotReady(format!("OAuthAccount {name} is not Ready yet.")),
    }
}
