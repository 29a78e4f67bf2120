//! Sees to it that workflows run when their schedules say so, and that their status says whether they can be run.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::api::Workflow;
use crate::workflow::{Definition, DefinitionError, Tick, tick};
use crate::world::runs::RunEntry;
use crate::world::workflows::{Made, Said, Version};
use crate::world::{ApiError, World, clock, workflows};
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

type Understood = Result<Definition, DefinitionError>;

/// Definitions by UID and generation.
type Definitions = HashMap<(String, i64), Arc<Understood>>;

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
    let mut definitions = Definitions::new();
    loop {
        leadership.elected().await;
        changed.mark_unchanged();
        let workflows: Vec<_> = scopes.iter().flat_map(|scope| scope.workflows.state()).collect();
        let mut next = None;
        let mut kept = Definitions::new();
        for workflow in workflows {
            let key = (workflow.uid().unwrap_or_default(), workflow.metadata.generation.unwrap_or_default());
            let definition = match definitions.remove(&key) {
                Some(definition) => definition,
                None => understood(&workflow).await,
            };
            kept.insert(key, definition.clone());
            if !leadership.is_held() {
                break;
            }
            let until = attend_to(&world, &workflow, &definition).await;
            next = [next, until].into_iter().flatten().min();
        }
        definitions = kept;
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
        let active = active(&world.runs.all(), &namespace, &name);
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
        world.events.tell(&workflow.object_ref(&()), EventType::Warning, "RunSkipped", &why).await;
    }
}

fn active(runs: &[RunEntry], namespace: &str, name: &str) -> Option<String> {
    let of = |run: &&RunEntry| run.version.namespace == namespace && run.workflow.as_deref() == Some(name);
    let active = runs.iter().filter(of).filter(|run| !run.phase.is_final());
    active.min_by_key(|run| run.created).map(|run| run.version.name.clone())
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
    if let Some(run) = run
        && let Made::Refused(words) = workflows::create(client, &run).await?
    {
        return Ok((Attended::Refused(words), None));
    }
    Ok((Attended::Written(Box::new(written)), told))
}
