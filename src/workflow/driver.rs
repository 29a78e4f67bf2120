//! Works on one run until it is over: what `decide` says is done here, one thing after another, with requests beside it.

mod drain;

use super::decide::{Next, decide};
use super::keep::Room;
use super::limits::{Limits, Permit};
use super::progress::{goes_on_there, is_under_way, progress};
use super::seen::{AccountState, Identity, Kept, Outcome, Prepared, Seen, Turn, Work};
use super::sender::Sender;
use super::understand::Definitions;
use super::{Failure, work};
use crate::account::ReplyInHand;
use crate::api::{OAuthAccount, RunReason, WorkflowRun, WorkflowRunStatus};
use crate::world::runs::{Admission, Place, Worker};
use crate::world::workflows::{Said, Version};
use crate::world::{ApiError, World, clock, workflows};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube_runtime::events::EventType;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Decisions in a row without waiting for anything. More is a defect of ours, and is said.
const MOST_TURNS: usize = 2000;
/// How long is waited before a status is offered to the API server again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
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

impl Finished {
    /// What came of work that broke off, which is a defect of ours: nobody waits for it for ever.
    fn broken_off(work: &Work) -> Self {
        let failure = Failure::new(RunReason::StepFailed, "The operator's own work on it broke off; its log says why.");
        match work {
            Work::Preparing(_) => Self::Prepared(Prepared::Refused(failure), None),
            Work::Step(_) => Self::Step(Outcome::Failed(failure.doubtful())),
            Work::Cancellation(_) | Work::Completion => Self::Told(false),
            Work::Conclusion => Self::Concluded(Err(failure)),
        }
    }
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
    /// For outputs in status, of all steps.
    room: Arc<Room>,
    /// By step: requests under way whose answer would be lost with the process, and answers that are not stored.
    in_hand: BTreeMap<String, ReplyInHand<Arc<World>>>,
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
        let room = Arc::new(Room::beside(&status));
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
            room,
            in_hand: BTreeMap::new(),
            pause: Duration::from_millis(50),
        }
    }

    async fn run(&mut self) -> Result<(), ApiError> {
        let mut turns = 0;
        loop {
            if self.tools.stop.is_cancelled() || !self.leads() {
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

    /// Writes the status by compare-and-swap, which is fence enough against whoever leads by now; whatever keeps it from being
    /// stored, what is there is looked at anew.
    async fn record(&mut self, status: WorkflowRunStatus) {
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
        let seen = &self.seen;
        self.permits.retain(|step, _| seen.prepared.contains_key(step));
        self.in_hand.retain(|step, _| seen.outcomes.contains_key(step) || is_under_way(seen, step));
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
            let (run, phase) = (&self.seen.run.uid, status.phase.as_str());
            if matches!(reason, "Completed" | "CancelledByUser" | "Replaced") {
                tracing::info!(namespace, name, runID = run, phase, reason, why = message, "the run has ended");
            } else {
                tracing::warn!(namespace, name, runID = run, phase, reason, why = message, "the run has failed");
            }
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
        // What is about to be stored is what it is made of; the first step is told when it began, too.
        let now = clock::now();
        let begun = *self.seen.begun.get_or_insert(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let mut status = progress(&self.seen, now);
        status.start_time.get_or_insert(Time(begun));
        let shared = work::Shared {
            tools: self.tools.clone(),
            run: self.seen.run.clone(),
            task: task.clone(),
            status,
            room: self.room.clone(),
        };
        let handle = match &work {
            Work::Preparing(step) => self.tasks.spawn(work::prepare(shared, step.clone(), self.seen.resume.clone())),
            Work::Step(step) => {
                let Some(Prepared::Call(call)) = self.seen.prepared.get(step).cloned() else { return };
                if !self.seen.may_send(step) {
                    return;
                }
                if !goes_on(&self.seen, step) {
                    self.in_hand.insert(step.clone(), ReplyInHand::new(self.tools.world().clone()));
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
            self.in_hand.remove(step);
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
            Some(ended) = self.tasks.join_next_with_id() => {
                self.joined(ended);
                // What else has ended by now is told in the same write.
                while let Some(ended) = self.tasks.try_join_next_with_id() {
                    self.joined(ended);
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

    /// A task has ended; one that was aborted, or whose work was begun anew since, is nobody's.
    fn joined(&mut self, ended: Result<(Id, (Work, Finished)), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let whose = self.handles.iter().find(|(_, handle)| handle.id() == id);
        let Some(work) = whose.map(|(work, _)| work.clone()) else { return };
        self.handles.remove(&work);
        self.seen.live.remove(&work);
        let finished = match ended {
            Ok((_, (_, finished))) => finished,
            Err(error) => {
                tracing::error!(namespace = self.seen.run.namespace, name = self.seen.run.name, %error, ?work, "work on a run broke off");
                Finished::broken_off(&work)
            }
        };
        self.finished(work, finished);
    }

    fn finished(&mut self, work: Work, finished: Finished) {
        match (work, finished) {
            (Work::Preparing(step), Finished::Prepared(prepared, permit)) => {
                self.seen.prepared.insert(step.clone(), prepared);
                // Those that begin beside it are told in the same write.
                self.seen.news.get_or_insert_with(clock::now);
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
                    Outcome::Withheld => "withheld",
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

    fn leads(&self) -> bool {
        (self.tools.sender.leads)()
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

/// Whether a step goes on at the remote side by itself.
fn goes_on(seen: &Seen, step: &str) -> bool {
    seen.status.steps.iter().find(|there| there.name == step).is_none_or(goes_on_there)
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
