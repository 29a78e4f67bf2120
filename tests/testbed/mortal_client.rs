//! A client of the API server that dies at a chosen write of a schedule: its request, or the answer, never arrives, and whoever
//! waits for it is to be dropped.

use super::Result;
use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;

/// Where it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Before the status of the workflow is written.
    BeforeStatus,
    /// When it is written, before that is known.
    AfterStatus,
    /// Before the run is made.
    BeforeRun,
    /// When it is made, before that is known.
    AfterRun,
}

/// What came by, and where it is to end.
#[derive(Default)]
pub struct Wire {
    seen: Mutex<Seen>,
    died: Notify,
}

/// What came by.
#[derive(Default)]
pub struct Seen {
    /// Where the client dies next.
    pub death: Option<Death>,
    /// Statuses that were stored.
    pub stored: usize,
    /// Statuses that were not.
    pub conflicts: usize,
    /// Names of runs that a stored status has claimed, in order.
    pub claimed: Vec<String>,
    /// Names of runs that were claimed, and died before they were asked for.
    pub dropped: Vec<String>,
    /// How often it died.
    pub deaths: usize,
}

impl Wire {
    /// What came by.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("nobody panics while holding it")
    }

    /// Waits for the death that was chosen.
    pub async fn died(&self) {
        self.died.notified().await;
    }

    async fn reach(&self, death: Death, dropped: Option<String>) {
        {
            let mut seen = self.seen();
            if seen.death != Some(death) {
                return;
            }
            seen.death = None;
            seen.deaths += 1;
            seen.dropped.extend(dropped);
        }
        self.died.notify_one();
        std::future::pending().await
    }

    async fn pass(&self, client: Client, request: Request<Body>) -> std::result::Result<Response<Body>, kube::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        let method = head.method.clone();
        let request = Request::from_parts(head, Body::from(body.to_vec()));
        if method == Method::PATCH {
            self.reach(Death::BeforeStatus, None).await;
            let answer = client.send(request).await?;
            let claimed = claimed(&value).filter(|_| answer.status().is_success());
            {
                let mut seen = self.seen();
                let counted = if answer.status().is_success() { &mut seen.stored } else { &mut seen.conflicts };
                *counted += 1;
                seen.claimed.extend(claimed.clone());
            }
            self.reach(Death::AfterStatus, claimed).await;
            return Ok(answer);
        }
        if method == Method::POST {
            self.reach(Death::BeforeRun, value["metadata"]["name"].as_str().map(str::to_owned)).await;
            let answer = client.send(request).await?;
            self.reach(Death::AfterRun, None).await;
            return Ok(answer);
        }
        client.send(request).await
    }
}

/// Name of the run that a status claims: that of its last moment.
fn claimed(patch: &Value) -> Option<String> {
    let status = &patch.as_array()?.iter().find(|operation| operation["path"] == "/status")?["value"];
    let (moment, run) = (status["lastScheduleTime"].as_str()?, status["lastRunName"].as_str()?);
    let minute: String = moment.chars().filter(char::is_ascii_digit).take(12).collect();
    run.ends_with(&format!("-{minute}")).then(|| run.to_owned())
}

/// A client with these credentials, and the wire that it dies at.
pub async fn mortal_client(kubeconfig: &Path) -> Result<(Client, Arc<Wire>)> {
    let client = super::client::client(kubeconfig).await?;
    let namespace = client.default_namespace().to_owned();
    let wire = Arc::new(Wire::default());
    let at = wire.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, wire) = (client.clone(), at.clone());
        async move { wire.pass(client, request).await }
    });
    Ok((Client::new(service, namespace), wire))
}
