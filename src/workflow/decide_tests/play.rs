//! The world of values: what is stored, what servers have got, and one process after another that works on a run.

use crate::api::{Phase, StepStatus, WorkflowRunStatus, WorkflowSpec};
use crate::workflow::{
    AccountState, Call, Definition, Done, Failure, Identity, Kept, Next, Outcome, Prepared, Seen, Task, Unclear, Work, decide,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A run and all that becomes of it.
pub struct Play {
    pub definition: Arc<Definition>,
    /// What the API server has.
    pub stored: WorkflowRunStatus,
    pub now: Timestamp,
    /// What the process that works on it knows.
    pub seen: Seen,
    processes: u32,
    /// Requests that left, by step: the key, and whether what came of each is known to whoever decides.
    pub sent: BTreeMap<String, Vec<String>>,
    pub told: Vec<Work>,
    /// Steps whose `when` is false.
    pub skipped: Vec<&'static str>,
    pub writes: u32,
}

pub fn definition(spec: &Value) -> Definition {
    let spec: WorkflowSpec = serde_json::from_value(spec.clone()).unwrap();
    Definition::of(&spec).unwrap()
}

/// A step that posts, or gets.
pub fn step(name: &str, after: &[&str], patch: Value) -> Value {
    let mut step = json!({"name": name, "dependsOn": after, "http": {"method": "POST", "url": "https://api.example.com/x"}});
    let patch = patch.as_object().cloned().unwrap_or_default();
    step.as_object_mut().unwrap().extend(patch);
    step
}

pub fn done(output: Value) -> Outcome {
    Outcome::Completed(Done { output, http_status: Some(200), ..Done::default() }, Kept::Inline { bytes: 4 })
}

pub fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure)
}

impl Play {
    pub fn of(spec: &Value) -> Self {
        let mut play = Self {
            definition: Arc::new(definition(spec)),
            stored: WorkflowRunStatus::default(),
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            seen: Seen::default(),
            processes: 0,
            sent: BTreeMap::new(),
            told: vec![],
            skipped: vec![],
            writes: 0,
        };
        play.restart();
        play
    }

    /// Another process takes the run up, by what is stored.
    pub fn restart(&mut self) {
        self.processes += 1;
        let (cancel, turn) = (self.seen.cancel, std::mem::take(&mut self.seen.turn));
        let accounts = std::mem::take(&mut self.seen.accounts);
        let named = self.definition.accounts().map(|name| (name.to_owned(), AccountState::Ready));
        let accounts = if accounts.is_empty() { named.collect() } else { accounts };
        self.seen = Seen {
            run: Identity {
                namespace: "apps".into(),
                name: "run".into(),
                uid: "uid".into(),
                generation: Some(1),
                created: "2026-01-01T00:00:00Z".parse().unwrap(),
                scheduled: None,
            },
            me: format!("process-{}", self.processes),
            status: self.stored.clone(),
            cancel,
            turn,
            accounts,
            news: Some(self.now),
            ..Seen::default()
        };
    }

    pub fn later(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
    }

    fn task(&self) -> Task {
        Task {
            definition: self.definition.clone(),
            workflow: Some("w".into()),
            generation: Some(3),
            revision: Some("w-0".into()),
            input: Arc::new(json!({})),
            digest: "d".into(),
        }
    }

    /// One decision, carried out: requests leave, and are under way until they are answered.
    pub fn turn(&mut self) -> Next {
        let next = decide(&self.seen, self.now);
        match next.clone() {
            Next::Understand => self.seen.task = Some(Ok(self.task())),
            Next::Record(status) => self.store(*status),
            Next::Begin(work) => self.begin(work),
            Next::Abort(work) => {
                self.seen.live.remove(&work);
                if let Work::Step(step) | Work::Preparing(step) = &work {
                    self.seen.prepared.remove(step);
                }
            }
            Next::Wait(_) | Next::Done => {}
        }
        next
    }

    pub fn store(&mut self, status: WorkflowRunStatus) {
        self.writes += 1;
        self.stored = status.clone();
        self.seen = std::mem::take(&mut self.seen).recorded(status);
    }

    fn begin(&mut self, work: Work) {
        match &work {
            Work::Preparing(step) => {
                let skipped = self.skipped.contains(&step.as_str());
                let prepared = if skipped { Prepared::Skip } else { Prepared::Call(Arc::new(call())) };
                self.seen.prepared.insert(step.clone(), prepared);
                return;
            }
            Work::Step(step) => {
                assert!(self.seen.may_send(step), "{step} may not be sent");
                let stored = self.stored.steps.iter().find(|there| there.name == *step).unwrap();
                assert_eq!((stored.phase, self.stored.executor.as_deref()), (Phase::Running, Some(self.seen.me.as_str())));
                self.sent.entry(step.clone()).or_default().push(stored.idempotency_key.clone().unwrap());
            }
            Work::Conclusion => {
                self.seen.conclusion = Some(Ok((json!({"gives": 1}), Kept::Inline { bytes: 11 })));
                return;
            }
            Work::Cancellation(_) | Work::Completion => self.told.push(work.clone()),
        }
        self.seen.live.insert(work);
    }

    /// A request is answered.
    pub fn answer(&mut self, step: &str, outcome: Outcome) {
        assert!(self.seen.live.remove(&Work::Step(step.into())), "{step} is not under way");
        self.seen.outcomes.insert(step.into(), outcome);
        self.seen.news.get_or_insert(self.now);
    }

    /// Turns until there is nothing to do but wait; for what.
    pub fn rest(&mut self) -> Next {
        for _ in 0..500 {
            if let next @ (Next::Wait(_) | Next::Done) = self.turn() {
                return next;
            }
        }
        panic!("it does not come to rest: {:#?}", self.stored);
    }

    /// Requests under way.
    pub fn under_way(&self) -> Vec<String> {
        let steps = self.seen.live.iter().filter_map(|work| if let Work::Step(step) = work { Some(step.clone()) } else { None });
        steps.collect()
    }

    pub fn status(&self, step: &str) -> &StepStatus {
        self.stored.steps.iter().find(|there| there.name == step).unwrap()
    }

    pub fn reason(&self) -> &str {
        self.stored.conditions.first().map_or("", |condition| condition.reason.as_str())
    }

    pub fn times(&self, step: &str) -> usize {
        self.sent.get(step).map_or(0, Vec::len)
    }

    pub fn unclear(&mut self, unclear: Unclear) {
        self.seen.task = Some(Err(unclear));
    }
}

/// A request that lacks nothing.
pub fn call() -> Call {
    Call {
        method: crate::api::Method::Post,
        url: "https://api.example.com/x".parse().unwrap(),
        headers: vec![],
        body: vec![],
        account: None,
        ca: None,
        timeout: Duration::from_secs(30),
        most: 1024,
    }
}
