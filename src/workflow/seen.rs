//! What `decide` looks at: a run as it is stored, and what this process knows of it beside that.

use super::answer::Done;
use super::definition::Definition;
use super::failure::Failure;
use super::request::Call;
use crate::api::{RemoteStatus, WorkflowRunStatus};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Identity {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// When it was made.
    pub created: Timestamp,
    /// Moment of the schedule that it is for.
    pub scheduled: Option<Timestamp>,
}

/// What is to be run, with which input.
#[derive(Clone, Debug)]
pub struct Task {
    /// The workflow.
    pub definition: Arc<Definition>,
    /// Its name; none where the run has a workflow of its own.
    pub workflow: Option<String>,
    /// Its generation.
    pub generation: Option<i64>,
    /// ControllerRevision that holds it.
    pub revision: Option<String>,
    /// The input.
    pub input: Arc<Value>,
    /// Digest of the input.
    pub digest: String,
}

/// Why nobody knows what is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unclear {
    /// Something that the run names is not there; it may come.
    Missing(String),
    /// Something is there and cannot be used.
    Refused(String),
}

/// Whether the account of a step has a token to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// It has.
    Ready,
    /// It has not, in a sentence.
    NotReady(String),
}

/// Whether the run may begin, by `concurrencyPolicy` and the other runs of its workflow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    #[default]
    Go,
    /// It waits for this run.
    After(String),
    /// This run has taken its place.
    ReplacedBy(String),
}

/// A step that can be sent, or need not or cannot be.
#[derive(Clone, Debug)]
pub enum Prepared {
    /// A request, and the turn to send it.
    Call(Arc<Call>),
    /// Its `when` is false.
    Skip,
    /// It cannot be made.
    Refused(Failure),
}

/// Something that goes on beside the decisions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Work {
    /// A step is prepared.
    Preparing(String),
    /// A step's request is under way.
    Step(String),
    /// The remote side is told that a step was cancelled.
    Cancellation(String),
    /// What the run gives is evaluated.
    Conclusion,
    /// Somebody is told that the run has ended.
    Completion,
}

/// What came of a step's request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done; its output is kept.
    Completed(Done, Kept),
    /// It was begun, and goes on there.
    Accepted(Box<RemoteStatus>),
    /// It waits for an answer of a person's.
    Interrupted(Box<RemoteStatus>),
    /// `verify` says that it was not carried out.
    NotCarriedOut,
    /// It was not sent: this process leads no more.
    Withheld,
    /// It was not done.
    Failed(Failure),
}

/// Where an output is kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// In status.
    Inline {
        /// Bytes as JSON.
        bytes: i64,
    },
    /// In a Secret.
    Secret(crate::api::OutputReference),
}

/// What is known of a run.
#[derive(Debug, Default)]
pub struct Seen {
    /// Which run.
    pub run: Identity,
    /// Who works on it: this process, and this time.
    pub me: String,
    /// Whether it is gone, or going.
    pub gone: bool,
    /// `spec.cancel`.
    pub cancel: bool,
    /// What a person has answered to an interrupt.
    pub resume: Option<String>,
    /// When work on its steps began, where nothing of that is stored yet.
    pub begun: Option<Timestamp>,
    /// What is stored.
    pub status: WorkflowRunStatus,
    /// What is to be run, once that was looked at.
    pub task: Option<Result<Task, Unclear>>,
    /// Accounts of its steps.
    pub accounts: BTreeMap<String, AccountState>,
    /// Whether it may begin.
    pub turn: Turn,
    /// Steps that can be sent.
    pub prepared: BTreeMap<String, Prepared>,
    /// What goes on.
    pub live: BTreeSet<Work>,
    /// What came of requests and is not stored yet.
    pub outcomes: BTreeMap<String, Outcome>,
    /// When the first of what is not stored yet came.
    pub news: Option<Timestamp>,
    /// Whether the remote side knows that a step was cancelled, as far as that is not stored yet.
    pub cancellations: BTreeMap<String, bool>,
    /// What the run gives, once it is evaluated.
    pub conclusion: Option<Result<(Value, Kept), Failure>>,
    /// Whether somebody was told that the run has ended, as far as that is not stored yet.
    pub completion: Option<bool>,
}

impl Seen {
    /// The definition, where it is known.
    pub fn definition(&self) -> Option<&Arc<Definition>> {
        self.task.as_ref().and_then(|task| task.as_ref().ok()).map(|task| &task.definition)
    }

    /// Whether any of a step's work goes on.
    pub fn is_busy(&self, step: &str) -> bool {
        self.live.iter().any(|work| matches!(work, Work::Preparing(name) | Work::Step(name) if name == step))
    }
}
