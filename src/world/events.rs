//! Events: what a person would ask about, through events.k8s.io.

use crate::api::vocabulary::MANAGER;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};

/// What the operator does with such an object.
fn action(about: &ObjectReference) -> &'static str {
    match about.kind.as_deref() {
        Some("Workflow" | "WorkflowRun") => "RunWorkflow",
        _ => "ObtainToken",
    }
}

/// Publishes Events about our objects.
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// As this instance of the operator.
    pub fn new(client: Client, identity: &str) -> Self {
        let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity.to_owned()) };
        Self { recorder: Recorder::new(client, reporter) }
    }

    /// Tells of a change. Best effort: status has said it already.
    pub async fn tell(&self, about: &ObjectReference, type_: EventType, reason: &str, note: &str) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // At most 1 kB (events.k8s.io/v1).
            note: Some(note.chars().take(500).collect()),
            action: action(about).to_owned(),
            secondary: None,
        };
        let told = super::call(self.recorder.publish(&event, about)).await;
        if let Err(error) = told {
            let (kind, namespace, name) = (&about.kind, &about.namespace, &about.name);
            tracing::info!(%error, reason, kind, namespace, name, "an Event could not be published; status has said it too");
        }
    }
}
