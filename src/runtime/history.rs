//! Deletes runs that are kept no longer, and workflows as they were that no run needs any more.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::api::{History, Workflow};
use crate::workflow::driver::Tools;
use crate::workflow::understand::revision_name;
use crate::workflow::{Ended, expiry, is_outdated, surplus};
use crate::world::runs::RunEntry;
use crate::world::secrets::Deleted;
use crate::world::{World, clock, revisions, workflows};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How often is looked, at least.
const PERIOD: Duration = Duration::from_secs(60);
/// How often revisions are looked at.
const REVISIONS: Duration = Duration::from_secs(600);
/// Many runs end together.
const PAUSE: Duration = Duration::from_millis(500);

/// Deletes what is kept no longer, while we lead. Never ends.
pub async fn run(tools: Arc<Tools>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership) {
    let world = tools.world().clone();
    for scope in scopes.iter() {
        scope.until_synced().await;
    }
    let mut changed = world.runs.subscribe();
    let mut swept: Option<Duration> = None;
    loop {
        leadership.elected().await;
        changed.mark_unchanged();
        let next = prune(&world, &scopes, &leadership).await;
        let now = clock::uptime();
        if swept.is_none_or(|swept| now.saturating_sub(swept) >= REVISIONS) {
            swept = Some(now);
            sweep(&tools, &scopes, &leadership).await;
        }
        let rest = next.map(|next| Duration::try_from(next.duration_since(clock::now())).unwrap_or_default());
        tokio::select! {
            _ = changed.changed() => tokio::time::sleep(PAUSE).await,
            () = tokio::time::sleep(rest.unwrap_or(PERIOD).min(PERIOD)) => {}
        }
    }
}

/// Deletes runs; when the next one goes.
async fn prune(world: &World, scopes: &[Arc<Scope>], leadership: &Leadership) -> Option<Timestamp> {
    let now = clock::now();
    let histories: HashMap<(String, String), History> = scopes
        .iter()
        .flat_map(|scope| scope.workflows.state())
        .map(|workflow| ((workflow.namespace().unwrap_or_default(), workflow.name_any()), workflow.spec.history.clone()))
        .collect();
    let mut ended: HashMap<(String, String), Vec<Ended<String>>> = HashMap::new();
    let mut versions = HashMap::new();
    let mut going = vec![];
    let mut next: Option<Timestamp> = None;
    for run in world.runs.all().into_iter().filter(|run| run.is_over && !run.going) {
        let at = run.completed.unwrap_or(run.created);
        match (&run.workflow, run.ttl) {
            (Some(workflow), _) => {
                let place = (run.version.namespace.clone(), workflow.clone());
                ended.entry(place).or_default().push(Ended { run: run.version.name.clone(), phase: run.phase, at });
                versions.insert((run.version.namespace.clone(), run.version.name.clone()), run.version);
            }
            (None, Some(ttl)) if expiry(at, ttl) <= now => going.push(run.version),
            (None, Some(ttl)) => next = [next, Some(expiry(at, ttl))].into_iter().flatten().min(),
            (None, None) => {}
        }
    }
    for ((namespace, workflow), runs) in ended {
        // Of a workflow that is gone nobody says how many are kept.
        let Some(history) = histories.get(&(namespace.clone(), workflow)) else { continue };
        let (surplus, later) = surplus(runs, history, now);
        next = [next, later].into_iter().flatten().min();
        going.extend(surplus.into_iter().filter_map(|name| versions.remove(&(namespace.clone(), name))));
    }
    for run in going {
        if !leadership.is_held() {
            return None;
        }
        match workflows::delete(&world.cluster.objects, &run).await {
            Ok(Deleted::Gone | Deleted::Changed) => {}
            Ok(Deleted::Refused(words)) => tracing::warn!(
                namespace = run.namespace,
                name = run.name,
                "a run that is kept no longer was not deleted: {words}"
            ),
            Err(error) => {
                tracing::warn!(namespace = run.namespace, name = run.name, %error, "a run that is kept no longer was not deleted")
            }
        }
    }
    next
}

/// Deletes revisions that neither a run nor the workflow as it is now needs.
async fn sweep(tools: &Tools, scopes: &[Arc<Scope>], leadership: &Leadership) {
    let world = tools.world();
    for scope in scopes {
        let revisions = match revisions::all(&world.cluster.objects, scope.namespace.as_deref()).await {
            Ok(revisions) => revisions,
            Err(error) => {
                tracing::warn!(%error, "revisions of workflows could not be listed");
                continue;
            }
        };
        // Looked at after them: a run that has named one of them by now is seen.
        let workflows = scope.workflows.state();
        let current = workflows.iter().map(|workflow| current(workflow));
        let needed: HashSet<(String, String)> = world.runs.all().into_iter().filter_map(revision).chain(current).collect();
        for found in revisions {
            let place = (found.namespace().unwrap_or_default(), found.name_any());
            let now = clock::now();
            let made = found.metadata.creation_timestamp.as_ref().map_or(now, |at| at.0);
            if !is_outdated(&place, made, &needed, now) || !leadership.is_held() {
                continue;
            }
            tools.definitions.forget(&place.0, &place.1);
            match revisions::delete(&world.cluster.objects, &found).await {
                Ok(Deleted::Gone | Deleted::Changed) => {}
                Ok(Deleted::Refused(words)) => {
                    tracing::warn!(namespace = place.0, name = place.1, "a revision was not deleted: {words}")
                }
                Err(error) => tracing::warn!(namespace = place.0, name = place.1, %error, "a revision was not deleted"),
            }
        }
    }
}

fn revision(run: RunEntry) -> Option<(String, String)> {
    Some((run.version.namespace, run.revision?))
}

fn current(workflow: &Workflow) -> (String, String) {
    (workflow.namespace().unwrap_or_default(), revision_name(&workflow.name_any(), &json!(workflow.spec)))
}
