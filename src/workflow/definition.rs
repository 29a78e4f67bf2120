//! A workflow understood: every expression compiled, every reference checked, before the first request of a run is sent.

use super::graph::Graph;
use super::input_schema::InputSchema;
use super::request::{CozePlan, Place, RequestPlan};
use super::schedule::Schedule;
use crate::api::{Backoff, ConcurrencyPolicy, Delivery, OnError, Step, WorkflowSpec};
use crate::expression::{Condition, Members, References, Tree};
use jiff::SignedDuration;

/// Why a definition cannot be used: where, what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DefinitionError(pub(super) String);

impl DefinitionError {
    /// A defect of ours.
    pub fn broken(why: &str) -> Self {
        Self(format!("the workflow could not be understood: {why}"))
    }

    pub(super) fn at(place: &str, why: impl std::fmt::Display) -> Self {
        Self(super::failure::shortened(format!("{place}: {why}")))
    }
}

/// A workflow that can be run.
#[derive(Debug)]
pub struct Definition {
    /// Which step follows which.
    pub graph: Graph,
    /// Steps, in the order of the graph's indices.
    pub steps: Vec<StepPlan>,
    /// What the input must satisfy.
    pub schema: Option<InputSchema>,
    /// When runs begin by themselves.
    pub schedule: Option<Schedule>,
    /// What happens to a run while another one is under way.
    pub concurrency: ConcurrencyPolicy,
    /// Steps under way at once.
    pub parallelism: usize,
    /// Whether the first failure ends what is under way.
    pub fail_fast: bool,
    /// How long a run may take.
    pub timeout: SignedDuration,
    /// What a run gives.
    pub outputs: Option<Tree>,
    /// Who is told of its end.
    pub on_complete: Option<RequestPlan>,
}

/// A step that can be taken.
#[derive(Debug)]
pub struct StepPlan {
    /// Name of the step.
    pub name: String,
    /// Whether it is done at all.
    pub when: Option<Condition>,
    /// What is asked.
    pub call: CallPlan,
    /// What is kept of the answer.
    pub output: Option<Tree>,
    /// Attempts after the first one.
    pub retries: i32,
    /// Time between them.
    pub backoff: Backoff,
    /// Whether an answer is worth another attempt.
    pub retry_when: Option<Condition>,
    /// What is done where nobody knows whether it was carried out.
    pub delivery: Delivery,
    /// Who tells whether it was.
    pub verify: Option<RequestPlan>,
    /// What its failure means for the run.
    pub on_error: OnError,
    /// Who is told that it was cancelled.
    pub on_cancel: Option<RequestPlan>,
}

/// What a step asks.
#[derive(Debug)]
pub enum CallPlan {
    /// An HTTP request.
    Http(Box<RequestPlan>),
    /// A run at Coze.
    Coze(Box<CozePlan>),
}

impl CallPlan {
    /// Account whose token is sent along.
    pub fn account(&self) -> Option<&str> {
        match self {
            Self::Http(request) => request.account.as_deref(),
            Self::Coze(coze) => Some(&coze.account),
        }
    }

    /// Whether it only reads (RFC 9110 §9.2.1).
    pub fn is_safe(&self) -> bool {
        matches!(self, Self::Http(request) if request.method.is_safe())
    }

    /// Whether it may be repeated.
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::Http(request) if request.method.is_idempotent())
    }
}

/// What `when`, `url`, `headers` and `body` may refer to.
const BEFORE: &[&str] = &["input", "steps", "run", "workflow"];
/// What speaks of an answer may refer to that as well.
pub(super) const AFTER: &[&str] = &["input", "steps", "run", "workflow", "response"];
/// And what is sent to end a step at the remote side to what that calls it.
pub(super) const CANCEL: &[&str] = &["input", "steps", "run", "workflow", "remote", "response"];
/// And what is sent at the end of a run to what it gave.
pub(super) const COMPLETE: &[&str] = &["input", "steps", "run", "workflow", "outputs", "response"];

impl Definition {
    /// Understands a workflow.
    ///
    /// # Errors
    /// The first thing that is wrong with it, as a sentence for whoever wrote it.
    pub fn of(spec: &WorkflowSpec) -> Result<Self, DefinitionError> {
        let edges = spec.steps.iter().map(|step| (step.name.as_str(), step.depends_on.as_slice()));
        let graph = Graph::of(edges).map_err(|error| DefinitionError::at("spec.steps", error))?;
        let schema = spec.inputs.schema.as_ref().map(InputSchema::compile).transpose();
        let schema = schema.map_err(|error| DefinitionError::at("spec.inputs.schema", error))?;
        let schedule = spec.schedule.as_ref().map(|schedule| Schedule::parse(&schedule.cron, Some(&schedule.time_zone)));
        let schedule = schedule.transpose().map_err(|error| DefinitionError::at("spec.schedule", error))?;
        let steps = spec.steps.iter().enumerate().map(|(index, step)| StepPlan::of(step, index, spec, &graph));
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        let everything = Place { graph: &graph, before: None, variables: BEFORE };
        let outputs = spec.outputs.as_ref().map(|outputs| everything.tree("spec.outputs", outputs)).transpose()?;
        let told = Place { variables: COMPLETE, ..everything };
        let on_complete = spec.on_complete.as_ref();
        let on_complete =
            on_complete.map(|request| RequestPlan::of(request, "spec.onComplete", None, &told, &told)).transpose()?;
        Ok(Self {
            steps,
            schema,
            schedule,
            concurrency: spec.concurrency_policy,
            parallelism: usize::try_from(spec.parallelism).unwrap_or(1).max(1),
            fail_fast: spec.fail_fast,
            timeout: SignedDuration::from_secs(spec.timeout_seconds.into()),
            outputs,
            on_complete,
            graph,
        })
    }

    /// A step by its name.
    pub fn step(&self, name: &str) -> Option<&StepPlan> {
        self.graph.index(name).and_then(|index| self.steps.get(index))
    }

    /// Accounts that its steps need.
    pub fn accounts(&self) -> impl Iterator<Item = &str> {
        let hooks = self.steps.iter().flat_map(|step| [step.verify.as_ref(), step.on_cancel.as_ref()]);
        let hooks = hooks.chain([self.on_complete.as_ref()]).flatten().filter_map(|request| request.account.as_deref());
        self.steps.iter().filter_map(|step| step.call.account()).chain(hooks)
    }
}

impl StepPlan {
    fn of(step: &Step, index: usize, spec: &WorkflowSpec, graph: &Graph) -> Result<Self, DefinitionError> {
        let place = format!("spec.steps[{}]", step.name);
        let before = Place { graph, before: Some(index), variables: BEFORE };
        let after = Place { variables: AFTER, ..before };
        let cancelled = Place { variables: CANCEL, ..before };
        let default = spec.defaults.account_ref.as_ref();
        let request = |request: &crate::api::HTTPRequest, member: &str, composed: &Place<'_>, judged: &Place<'_>| {
            RequestPlan::of(request, &format!("{place}.{member}"), default, composed, judged)
        };
        let call = match (&step.http, &step.coze) {
            (Some(http), None) => CallPlan::Http(Box::new(request(http, "http", &before, &after)?)),
            (None, Some(coze)) => CallPlan::Coze(Box::new(CozePlan::of(coze, &format!("{place}.coze"), default, &before)?)),
            _ => return Err(DefinitionError::at(&place, "must have exactly one of http and coze")),
        };
        let retry = step.retry.clone().or_else(|| spec.defaults.retry.clone()).unwrap_or_default();
        let derived = if call.is_idempotent() { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        let condition = |source: &Option<String>, member: &str, place_: &Place<'_>| {
            source.as_ref().map(|source| place_.condition(&format!("{place}.{member}"), source)).transpose()
        };
        Ok(Self {
            name: step.name.clone(),
            when: condition(&step.when, "when", &before)?,
            output: step.output.as_ref().map(|output| after.tree(&format!("{place}.output"), output)).transpose()?,
            retries: retry.limit,
            backoff: retry.backoff,
            retry_when: condition(&retry.retry_when, "retry.retryWhen", &after)?,
            delivery: step.delivery.unwrap_or(derived),
            verify: step.verify.as_ref().map(|verify| request(verify, "verify", &before, &after)).transpose()?,
            on_error: step.on_error,
            on_cancel: step.on_cancel.as_ref().map(|hook| request(hook, "onCancel", &cancelled, &cancelled)).transpose()?,
            call,
        })
    }
}

impl Place<'_> {
    /// Whether expressions refer to what is there when they are evaluated.
    pub(super) fn admits(&self, place: &str, references: &References) -> Result<(), DefinitionError> {
        if let Some(unknown) = references.variables().iter().find(|name| !self.variables.contains(&name.as_str())) {
            let there = self.variables.join(", ");
            return Err(DefinitionError::at(place, format!("{unknown} is not known here; there are {there}")));
        }
        let named = match references.members("steps") {
            Members::None => return Ok(()),
            Members::Named(named) => named,
            Members::Whole => {
                return Err(DefinitionError::at(place, "steps is used as a whole; name each step, as steps.x or steps['x']"));
            }
        };
        for name in named {
            let Some(referred) = self.graph.index(&name) else {
                return Err(DefinitionError::at(place, format!("there is no step {name}")));
            };
            let Some(step) = self.before else { continue };
            if !self.graph.descends_from(step, referred) {
                let why =
                    format!("the step {name} may not have ended by then; add it to dependsOn, directly or through another step");
                return Err(DefinitionError::at(place, why));
            }
        }
        Ok(())
    }

    /// An expression that is true or false.
    pub(super) fn condition(&self, place: &str, source: &str) -> Result<Condition, DefinitionError> {
        let condition = Condition::parse(source).map_err(|error| DefinitionError::at(place, error))?;
        self.admits(place, condition.references())?;
        Ok(condition)
    }

    /// A JSON tree with expressions.
    pub(super) fn tree(&self, place: &str, source: &serde_json::Value) -> Result<Tree, DefinitionError> {
        let tree = Tree::parse(source).map_err(|error| DefinitionError::at(place, error))?;
        self.admits(place, tree.references())?;
        Ok(tree)
    }
}
