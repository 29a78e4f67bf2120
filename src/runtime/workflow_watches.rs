//! The watches of workflows and of their runs.

use super::told_watch::told;
use super::watches::{Scope, readable};
use crate::api::{Workflow, WorkflowRun};
use crate::world::World;
use crate::world::guarded::Guarded;
use crate::world::runs::RunEntry;
use futures::StreamExt;
use kube::ResourceExt;
use kube::api::Api;
use kube_runtime::reflector::store::Writer;
use kube_runtime::watcher as watch;
use kube_runtime::watcher::{self, Event};
use std::pin::pin;
use std::sync::Arc;

/// Runs of one page of a list: each may hold an input of 256 KiB.
const PAGE: u32 = 50;

/// Watches workflows: fills the store, and tells who waits for one.
pub async fn workflows(scope: Arc<Scope>, mut writer: Writer<Workflow>, world: Arc<World>) {
    let api: Api<Guarded<Workflow>> = scope.api(world.cluster.watches.clone());
    let stream = watch(api, watcher::Config::default());
    let mut events = pin!(told(stream, scope.component("workflows"), || scope.is_synced(), &world));
    let mut first = true;
    while let Some(event) = events.next().await {
        let event = readable(event, &world);
        writer.apply_watcher_event(&event);
        match &event {
            Event::Apply(workflow) | Event::Delete(workflow) => {
                world.runs.workflow_changed(&workflow.namespace().unwrap_or_default(), &workflow.name_any());
            }
            Event::Init | Event::InitApply(_) => {}
            Event::InitDone => {
                scope.count_listed(&mut first);
                world.runs.workflow_changed("", "");
            }
        }
    }
}

/// Watches runs, of which a few bytes are kept.
pub async fn runs(scope: Arc<Scope>, world: Arc<World>) {
    let api: Api<Guarded<WorkflowRun>> = scope.api(world.cluster.watches.clone());
    let stream = watch(api, watcher::Config::default().page_size(PAGE));
    let mut events = pin!(told(stream, scope.component("workflowruns"), || scope.is_synced(), &world));
    let mut listing: Vec<RunEntry> = vec![];
    let mut first = true;
    while let Some(event) = events.next().await {
        match readable(event, &world) {
            Event::Init => listing.clear(),
            Event::InitApply(run) => listing.push(RunEntry::of(&run)),
            Event::InitDone => {
                world.runs.replace(|namespace| scope.covers(namespace), std::mem::take(&mut listing));
                scope.count_listed(&mut first);
            }
            Event::Apply(run) => world.runs.set(RunEntry::of(&run)),
            Event::Delete(run) => world.runs.remove(&run.namespace().unwrap_or_default(), &run.name_any()),
        }
    }
}
