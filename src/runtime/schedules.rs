//! Sees to it that workflows run when their schedules say so, and that their status says whether they can be run.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::api::{Workflow, WorkflowRun};
use crate::workflow::{Definition, DefinitionError, Tick, tick};
use crate::world::workflows::{Made, Said, Version};
use crate::world::{ApiError, World, clock, workflows};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::{Client, Resource, ResourceExt};
use kube_runtime::events::EventType;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest that nobody looks: clocks step.
const LONGEST: Duration = Duration::from_secs(60);
/// How long an answer that was refused, or did not come, is waited out.
const PATIENCE: Duration = Duration::from_secs(5);
/// Turns for one workflow without a rest: a status, and a moment.
const MOST_TURNS: usize = 4;

/// Workflows that are attended to at once: many run on the hour.
const AT_ONCE: usize = 16;

type Understood = Result<Definition, DefinitionError>;

/// What was found out of a workflow.
struct Known {
    definition: Arc<Understood>,
    generation: i64,
    /// At which version there is nothing to do until a moment.
    version: Option<String>,
    until: Option<Timestamp>,
}

impl Known {
    fn rests(&self, workflow: &Workflow) -> bool {
        self.version == workflow.metadata.resource_version && self.until.is_none_or(|until| clock::now() < until)
    }
}

/// What came of one turn for a workflow.
#[derive(Debug, PartialEq)]
pub enum Attended {
    /// There is nothing to do until this moment.
    Until(Option<Timestamp>),
    /// Something was written; it is at this version now.
    Written(Box<Workflow>),
    /// It has changed, or is gone.
    Changed,
    /// The API server does not take what we write; its words.
    Refused(String),
}

/// Attends to schedules while we lead. Never ends.
pub async fn run(world: Arc<World>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership) {
    for scope in scopes.iter() {
        scope.until_synced().await;
    }
    let mut changed = world.runs.subscribe();
    let mut known = HashMap::new();
    loop {
        leadership.elected().await;
        changed.mark_unchanged();
        known = look(&world, &scopes, &leadership, known).await;
        let next = known.values().filter_map(|known| known.until).min();
        let rest = next.map(|next: Timestamp| Duration::try_from(next.duration_since(clock::now())).unwrap_or_default());
        tokio::select! {
            _ = changed.changed() => {
                // Many changes come together.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            () = tokio::time::sleep(rest.unwrap_or(LONGEST).min(LONGEST)) => {}
        }
    }
}

/// Attends to every workflow that does not rest; what is known of all of them now, by UID.
async fn look(
    world: &World,
    scopes: &[Arc<Scope>],
    leadership: &Leadership,
    mut before: HashMap<String, Known>,
) -> HashMap<String, Known> {
    let workflows = scopes.iter().flat_map(|scope| scope.workflows.state());
    let workflows: Vec<_> = workflows.map(|workflow| (before.remove(&workflow.uid().unwrap_or_default()), workflow)).collect();
    let looks = workflows.into_iter().map(|(known, workflow)| async move {
        let uid = workflow.uid().unwrap_or_default();
        if let Some(known) = known.as_ref().filter(|known| known.rests(&workflow)) {
            return (uid, Known { definition: known.definition.clone(), version: known.version.clone(), ..*known });
        }
        let generation = workflow.metadata.generation.unwrap_or_default();
        let definition = match known.filter(|known| known.generation == generation) {
            Some(known) => known.definition,
            None => understood(&workflow).await,
        };
        // What was not attended to is looked at again.
        let (version, until) = match leadership.is_held() {
            true => (workflow.resource_version(), attend_to(world, &workflow, &definition).await),
            false => (None, None),
        };
        (uid, Known { definition, generation, version, until })
    });
    stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
}

async fn understood(workflow: &Workflow) -> Arc<Understood> {
    let spec = workflow.spec.clone();
    let understood = tokio::task::spawn_blocking(move || Definition::of(&spec)).await;
    Arc::new(understood.unwrap_or_else(|error| Err(DefinitionError::broken(&error.to_string()))))
}

/// Attends to one workflow until there is nothing to do for it; when there will be.
async fn attend_to(world: &World, cached: &Arc<Workflow>, definition: &Understood) -> Option<Timestamp> {
    let (namespace, name) = (cached.namespace().unwrap_or_default(), cached.name_any());
    let mut workflow = (**cached).clone();
    for _ in 0..MOST_TURNS {
        let active = world.runs.active(&namespace, &name);
        match attend(&world.cluster.objects, &workflow, definition, active.as_deref(), clock::now()).await {
            Ok((Attended::Until(until), told)) => {
                skipped(world, &workflow, told).await;
                return until;
            }
            Ok((Attended::Written(written), told)) => {
                skipped(world, &workflow, told).await;
                workflow = *written;
            }
            // The watch tells what it is now.
            Ok((Attended::Changed, _)) => return Some(clock::now() + PATIENCE),
            Ok((Attended::Refused(words), _)) => {
                tracing::error!(
                    namespace,
                    name,
                    "the API server does not take what the schedule of a workflow asks for: {words}"
                );
                return Some(clock::now() + PATIENCE);
            }
            Err(error) => {
                tracing::warn!(namespace, name, %error, "the schedule of a workflow could not be attended to; it is tried again");
                return Some(clock::now() + PATIENCE);
            }
        }
    }
    Some(clock::now() + PATIENCE)
}

/// A moment that passes without a run is told: a person would ask about it.
async fn skipped(world: &World, workflow: &Workflow, why: Option<String>) {
    if let Some(why) = why {
        tracing::warn!(namespace = workflow.namespace(), name = workflow.name_any(), "{why}");
        world.events.tell(&workflow.object_ref(&()), EventType::Warning, "RunSkipped", &why).await;
    }
}

/// One turn for a workflow: at most one write of its status, and the run that this write permits. What it was told besides.
///
/// # Errors
/// Where the API server does not answer. Whether the status was written is not known then, and the run is not made.
pub async fn attend(
    client: &Client,
    workflow: &Workflow,
    definition: &Understood,
    active: Option<&str>,
    now: Timestamp,
) -> Result<(Attended, Option<String>), ApiError> {
    let (status, run, told) = match tick(workflow, definition, active, now) {
        Tick::Rest(until) => return Ok((Attended::Until(until), None)),
        Tick::Say(status) => (status, None, None),
        Tick::Fire(status, run) => (status, Some(run), None),
        Tick::Skip(status, why) => (status, None, Some(why)),
    };
    let mut written = workflow.clone();
    match workflows::say::<Workflow>(client, &Version::of(workflow), &status).await? {
        Said::Stored(version) => written.metadata.resource_version = Some(version),
        Said::Conflict => return Ok((Attended::Changed, None)),
        Said::Refused(words) => return Ok((Attended::Refused(words), None)),
    }
    written.status = Some(*status);
    let told = match run {
        Some(run) => made(client, &run).await.err(),
        None => told,
    };
    Ok((Attended::Written(Box::new(written)), told))
}

/// Makes the run of a moment that was seen to. It is offered once: where it was not stored, or nobody knows, the moment passes.
async fn made(client: &Client, run: &WorkflowRun) -> Result<(), String> {
    let moment = run.spec.scheduled_time.as_ref().map(|moment| moment.0).unwrap_or_default();
    match workflows::create(client, run).await {
        Ok(Made::Stored | Made::There) => Ok(()),
        Ok(Made::Refused(words)) => Err(format!("No run is made for {moment}: the API server does not take it: {words}")),
        Err(error) => Err(format!("Nobody knows whether a run was made for {moment}, and none is made again: {error}.")),
    }
}
