//! Runs of workflows, as the watch tells of them: a few bytes of each, and who works on those that have not ended.

use crate::api::vocabulary::RESUME_DATA_ANNOTATION;
use crate::api::{ConcurrencyPolicy, Notice, Phase, WorkflowRun, WorkflowRunStatus};
use crate::world::workflows::Version;
use jiff::Timestamp;
use kube::ResourceExt;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};

/// Namespace and name.
pub type Place = (String, String);

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEntry {
    /// Which one, at which version.
    pub version: Version,
    /// Its workflow; none where it has one of its own.
    pub workflow: Option<String>,
    /// How far it has come.
    pub phase: Phase,
    /// Whether nobody has to do anything for it any more.
    pub is_over: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it ended.
    pub completed: Option<Timestamp>,
    /// ControllerRevision that it is run by.
    pub revision: Option<String>,
    /// Seconds that it is kept after its end, where it has a workflow of its own that says so.
    pub ttl: Option<i64>,
    /// `spec.cancel`.
    pub cancel: bool,
    /// Whether it is being deleted.
    pub going: bool,
    /// What a person has answered to an interrupt.
    pub resume: Option<String>,
}

impl RunEntry {
    /// What is kept of a run.
    pub fn of(run: &WorkflowRun) -> Self {
        let status = run.status.as_ref();
        let phase = status.map(|status| status.phase).unwrap_or_default();
        let history = run.spec.workflow_spec.as_ref().map(|spec| &spec.history);
        let told = status.is_none_or(|status| status.completion != Some(Notice::Pending));
        Self {
            version: Version::of(run),
            workflow: run.spec.workflow_ref.as_ref().map(|workflow| workflow.name.clone()),
            phase,
            is_over: phase.is_final() && told,
            created: run.metadata.creation_timestamp.as_ref().map(|at| at.0).unwrap_or_default(),
            completed: status.and_then(|status| status.completion_time.as_ref()).map(|at| at.0),
            revision: status.and_then(|status| status.revision_name.clone()),
            ttl: history.and_then(|history| history.ttl_seconds_after_finished).map(i64::from),
            cancel: run.spec.cancel,
            going: run.metadata.deletion_timestamp.is_some(),
            resume: run.annotations().get(RESUME_DATA_ANNOTATION).cloned(),
        }
    }

    fn place(&self) -> Place {
        (self.version.namespace.clone(), self.version.name.clone())
    }

    /// Whoever was made first is the older one.
    fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.version.name)
    }
}

/// Who works on a run.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Hears when something has changed.
    pub changed: Arc<Notify>,
    accounts: BTreeSet<String>,
    /// Secret or ConfigMap that it waits for.
    awaits: Option<String>,
    /// By which policy it has asked whether it may begin.
    policy: Option<ConcurrencyPolicy>,
}

/// Whether a run may begin, by the other runs of its workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It waits for this one.
    After(String),
    /// This one has taken its place.
    ReplacedBy(String),
}

#[derive(Default)]
struct Known {
    runs: HashMap<Place, RunEntry>,
    workers: HashMap<Place, Worker>,
    /// UIDs of runs that have begun, though the watch may not have told so yet.
    begun: HashSet<String>,
}

/// The runs that there are.
pub struct Runs {
    known: Mutex<Known>,
    changed: watch::Sender<()>,
}

impl Default for Runs {
    fn default() -> Self {
        Self { known: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Runs {
    fn known(&self) -> MutexGuard<'_, Known> {
        // Each change is whole before its lock is let go.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run as it is now. Whoever works on it hears of it, and those of its workflow where it is new or has ended.
    pub fn set(&self, mut entry: RunEntry) {
        let mut known = self.known();
        let place = entry.place();
        // Who works on it has told of its end before the watch did.
        if let Some(before) = known.runs.get(&place).filter(|before| before.version.uid == entry.version.uid && before.is_over) {
            (entry.phase, entry.is_over, entry.completed) = (before.phase, true, entry.completed.or(before.completed));
        }
        let ended = entry.phase.is_final();
        let (uid, workflow) = (entry.version.uid.clone(), entry.workflow.clone());
        if ended {
            known.begun.remove(&uid);
        }
        let before = known.runs.insert(place.clone(), entry);
        known.tell(&place);
        // A new one may take the place of others, and one that has ended leaves its own.
        if ended || before.is_none_or(|before| before.version.uid != uid) {
            known.tell_siblings(&place.0, workflow.as_deref());
        }
        drop(known);
        self.changed.send_replace(());
    }

    /// A run is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut known = self.known();
        let place = (namespace.to_owned(), name.to_owned());
        if let Some(entry) = known.runs.remove(&place) {
            known.begun.remove(&entry.version.uid);
            known.tell(&place);
            known.tell_siblings(namespace, entry.workflow.as_deref());
        }
        drop(known);
        self.changed.send_replace(());
    }

    /// All runs of the namespaces that a watch covers, listed anew.
    pub fn replace(&self, covers: impl Fn(&str) -> bool, entries: Vec<RunEntry>) {
        let mut known = self.known();
        let listed: HashSet<Place> = entries.iter().map(RunEntry::place).collect();
        known.runs.retain(|place, _| !covers(&place.0) || listed.contains(place));
        known.runs.extend(entries.into_iter().map(|entry| (entry.place(), entry)));
        known.workers.values().for_each(|worker| worker.changed.notify_one());
        drop(known);
        self.changed.send_replace(());
    }

    /// Hears when a run has changed, or a workflow.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What was just written of a run: the watch will tell of it later.
    pub fn written(&self, place: &Place, uid: &str, status: &WorkflowRunStatus) {
        let mut known = self.known();
        let Some(entry) = known.runs.get_mut(place).filter(|entry| entry.version.uid == uid) else { return };
        entry.phase = status.phase;
        entry.is_over = status.phase.is_final() && status.completion != Some(Notice::Pending);
        entry.completed = status.completion_time.as_ref().map(|at| at.0);
        entry.revision = status.revision_name.clone();
        let (ended, workflow) = (status.phase.is_final(), entry.workflow.clone());
        if ended {
            known.begun.remove(uid);
            known.tell_siblings(&place.0, workflow.as_deref());
        }
    }

    /// One run.
    pub fn get(&self, namespace: &str, name: &str) -> Option<RunEntry> {
        self.known().runs.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All runs.
    pub fn all(&self) -> Vec<RunEntry> {
        self.known().runs.values().cloned().collect()
    }

    /// The oldest run of a workflow that has not ended.
    pub fn active(&self, namespace: &str, workflow: &str) -> Option<String> {
        let known = self.known();
        let active = known.of(namespace, workflow).filter(|run| !run.phase.is_final() && !run.going);
        active.min_by_key(|run| run.age()).map(|run| run.version.name.clone())
    }

    /// How many runs there are in each phase.
    pub fn phases(&self) -> HashMap<Phase, i64> {
        let mut phases: HashMap<Phase, i64> = HashMap::new();
        self.known().runs.values().for_each(|run| *phases.entry(run.phase).or_default() += 1);
        phases
    }

    /// Runs that somebody should work on and nobody does; from now on whoever asks works on them.
    pub fn take(&self) -> Vec<(Place, Worker)> {
        let mut known = self.known();
        let idle = known.runs.values().filter(|run| !run.is_over && !run.going).map(RunEntry::place);
        let idle: Vec<_> = idle.filter(|place| !known.workers.contains_key(place)).collect();
        idle.into_iter()
            .map(|place| {
                let worker = Worker::default();
                known.workers.insert(place.clone(), worker.clone());
                (place, worker)
            })
            .collect()
    }

    /// Nobody works on a run any more.
    pub fn leave(&self, place: &Place) {
        self.known().workers.remove(place);
        self.changed.send_replace(());
    }

    /// A run needs these accounts.
    pub fn needs(&self, place: &Place, accounts: BTreeSet<String>) {
        if let Some(worker) = self.known().workers.get_mut(place) {
            worker.accounts = accounts;
        }
    }

    /// A run waits for this Secret or ConfigMap.
    pub fn awaits(&self, place: &Place, name: Option<String>) {
        if let Some(worker) = self.known().workers.get_mut(place) {
            worker.awaits = name;
        }
    }

    /// A Secret or a ConfigMap has changed: whoever waits for it hears of it.
    pub fn input_changed(&self, namespace: &str, name: &str) {
        let known = self.known();
        let workers =
            known.workers.iter().filter(|(place, worker)| place.0 == namespace && worker.awaits.as_deref() == Some(name));
        workers.for_each(|(_, worker)| worker.changed.notify_one());
    }

    /// An account has changed: whoever needs it hears of it.
    pub fn account_changed(&self, namespace: &str, name: &str) {
        let known = self.known();
        let workers = known.workers.iter().filter(|(place, worker)| place.0 == namespace && worker.accounts.contains(name));
        workers.for_each(|(_, worker)| worker.changed.notify_one());
    }

    /// A workflow has changed: runs that wait for it hear of it.
    pub fn workflow_changed(&self, namespace: &str, name: &str) {
        let known = self.known();
        known.of(namespace, name).for_each(|run| known.tell(&run.place()));
        drop(known);
        self.changed.send_replace(());
    }

    /// Whether a run may begin; if so, it has from now on.
    pub fn admit(&self, namespace: &str, name: &str, uid: &str, policy: ConcurrencyPolicy) -> Admission {
        let mut known = self.known();
        let place = (namespace.to_owned(), name.to_owned());
        let Some(this) = known.runs.get(&place).filter(|run| run.version.uid == uid).cloned() else { return Admission::Go };
        if let Some(worker) = known.workers.get_mut(&place) {
            worker.policy = Some(policy);
        }
        let admission = if this.workflow.is_none() { Admission::Go } else { known.admission(&this, policy) };
        if admission == Admission::Go {
            known.begun.insert(uid.to_owned());
        }
        admission
    }
}

impl Known {
    fn tell(&self, place: &Place) {
        if let Some(worker) = self.workers.get(place) {
            worker.changed.notify_one();
        }
    }

    fn of<'a>(&'a self, namespace: &'a str, workflow: &'a str) -> impl Iterator<Item = &'a RunEntry> {
        self.runs.values().filter(move |run| run.version.namespace == namespace && run.workflow.as_deref() == Some(workflow))
    }

    /// Whose turn depends on the other runs of the workflow hears of them: of those that wait for each other, whoever is next,
    /// so that a thousand who wait are not a thousand who look, and write, whenever one of them ends.
    fn tell_siblings(&self, namespace: &str, workflow: Option<&str>) {
        let Some(workflow) = workflow else { return };
        let policy = |run: &RunEntry| self.workers.get(&run.place()).and_then(|worker| worker.policy);
        let (mut next, mut others) = (None::<&RunEntry>, vec![]);
        for run in self.of(namespace, workflow).filter(|run| !run.phase.is_final()) {
            match policy(run) {
                Some(ConcurrencyPolicy::Forbid) if self.has_begun(run) => {}
                Some(ConcurrencyPolicy::Forbid) => next = next.into_iter().chain([run]).min_by_key(|run| run.age()),
                Some(ConcurrencyPolicy::Replace) => others.push(run),
                Some(ConcurrencyPolicy::Allow) | None => {}
            }
        }
        others.into_iter().chain(next).for_each(|run| self.tell(&run.place()));
    }

    fn has_begun(&self, run: &RunEntry) -> bool {
        run.phase == Phase::Running || self.begun.contains(&run.version.uid)
    }

    fn admission(&self, this: &RunEntry, policy: ConcurrencyPolicy) -> Admission {
        let begun = |run: &RunEntry| self.has_begun(run);
        let siblings = self.of(&this.version.namespace, this.workflow.as_deref().unwrap_or_default());
        let others = siblings.filter(|run| run.version.uid != this.version.uid && !run.phase.is_final() && !run.going);
        let name = |run: &RunEntry| run.version.name.clone();
        match policy {
            ConcurrencyPolicy::Allow => Admission::Go,
            ConcurrencyPolicy::Forbid if begun(this) => Admission::Go,
            ConcurrencyPolicy::Forbid => {
                let before = others.filter(|run| begun(run) || run.age() < this.age()).min_by_key(|run| (!begun(run), run.age()));
                before.map_or(Admission::Go, |run| Admission::After(name(run)))
            }
            ConcurrencyPolicy::Replace => {
                let mut others: Vec<_> = others.collect();
                others.sort_by_key(|run| run.age());
                match (others.last(), others.first()) {
                    (Some(newest), _) if newest.age() > this.age() => Admission::ReplacedBy(name(newest)),
                    (_, Some(older)) if !begun(this) => Admission::After(name(older)),
                    _ => Admission::Go,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use serde_json::json;

    fn entry(name: &str, second: i64, phase: Phase) -> RunEntry {
        let run = json!({
            "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "WorkflowRun",
            "metadata": {"name": name, "namespace": "apps", "uid": name, "creationTimestamp": Timestamp::from_second(second).unwrap().to_string()},
            "spec": {"workflowRef": {"name": "w"}}, "status": {"phase": phase},
        });
        RunEntry::of(&serde_json::from_value(run).unwrap())
    }

    fn runs(entries: &[(&str, i64, Phase)]) -> Runs {
        let runs = Runs::default();
        entries.iter().for_each(|(name, second, phase)| runs.set(entry(name, *second, *phase)));
        runs
    }

    fn admit(runs: &Runs, name: &str, policy: ConcurrencyPolicy) -> Admission {
        runs.admit("apps", name, name, policy)
    }

    #[test]
    fn one_run_at_a_time_and_the_oldest_first() {
        use ConcurrencyPolicy::{Allow, Forbid};
        let runs = runs(&[("a", 1, Phase::Pending), ("b", 1, Phase::Pending), ("done", 0, Phase::Completed)]);
        assert_eq!(admit(&runs, "b", Forbid), Admission::After("a".into()));
        assert_eq!(admit(&runs, "a", Forbid), Admission::Go);
        assert_eq!(admit(&runs, "a", Forbid), Admission::Go, "it stays so");
        assert_eq!(admit(&runs, "b", Allow), Admission::Go);
        // The watch has not told yet that `a` runs; it has begun all the same.
        let runs = super::tests::runs(&[("a", 5, Phase::Pending)]);
        assert_eq!(admit(&runs, "a", Forbid), Admission::Go);
        runs.set(entry("older", 1, Phase::Pending));
        assert_eq!(admit(&runs, "older", Forbid), Admission::After("a".into()));
        runs.set(entry("a", 5, Phase::Failed));
        assert_eq!(admit(&runs, "older", Forbid), Admission::Go);
    }

    #[test]
    fn the_newest_run_takes_the_place_of_the_others() {
        use ConcurrencyPolicy::Replace;
        let runs = runs(&[("a", 1, Phase::Running), ("b", 2, Phase::Pending), ("c", 3, Phase::Pending)]);
        assert_eq!(admit(&runs, "a", Replace), Admission::ReplacedBy("c".into()));
        assert_eq!(admit(&runs, "b", Replace), Admission::ReplacedBy("c".into()));
        assert_eq!(admit(&runs, "c", Replace), Admission::After("a".into()));
        runs.set(entry("a", 1, Phase::Cancelled));
        runs.set(entry("b", 2, Phase::Cancelled));
        assert_eq!(admit(&runs, "c", Replace), Admission::Go);
    }

    /// Names of those who have heard something since they were asked last.
    fn told(workers: &[(Place, Worker)]) -> Vec<&str> {
        let heard = |worker: &Worker| worker.changed.notified().now_or_never().is_some();
        let mut told: Vec<_> = workers.iter().filter(|(_, worker)| heard(worker)).map(|(place, _)| place.1.as_str()).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn of_an_end_only_those_hear_whose_turn_it_changes() {
        use ConcurrencyPolicy::{Allow, Forbid, Replace};
        let all = [("a", 1, Phase::Pending), ("b", 2, Phase::Pending), ("c", 3, Phase::Pending), ("d", 4, Phase::Pending)];
        for (policy, hear) in [(Allow, &[][..]), (Forbid, &["b"]), (Replace, &["b", "c", "d"])] {
            let runs = runs(&all);
            let workers = runs.take();
            all.iter().for_each(|(name, ..)| drop(admit(&runs, name, policy)));
            told(&workers);
            let status = WorkflowRunStatus { phase: Phase::Completed, ..WorkflowRunStatus::default() };
            runs.written(&("apps".into(), "a".into()), "a", &status);
            assert_eq!(told(&workers), hear, "{policy:?}");
            runs.set(entry("a", 1, Phase::Completed));
            let hear: Vec<_> = ["a"].iter().chain(hear).copied().collect();
            assert_eq!(told(&workers), hear, "{policy:?}, by the watch, which tells the run itself as well");
            runs.workflow_changed("apps", "w");
            assert_eq!(told(&workers), ["a", "b", "c", "d"]);
        }
    }

    #[test]
    fn a_run_is_worked_on_by_one_until_it_is_over() {
        let runs = runs(&[("a", 1, Phase::Pending), ("over", 1, Phase::Completed)]);
        let taken = runs.take();
        assert_eq!(taken.iter().map(|(place, _)| place.1.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(runs.take().is_empty());
        runs.leave(&taken[0].0);
        assert_eq!(runs.take().len(), 1);
    }
}
