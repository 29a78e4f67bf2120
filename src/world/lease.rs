//! The Lease that makes one of several replicas the leader: a pure judgement, and a write that only one can win.

use super::ApiError;
use crate::api::vocabulary::{MANAGED_BY_LABEL, MANAGER, NAME_LABEL};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Client;
use kube::api::{Api, PostParams};
use std::time::Duration;

/// A leader that has not renewed for so long is none.
pub const DURATION: Duration = Duration::from_secs(10);
/// How often the leader renews and the others look.
pub const PERIOD: Duration = Duration::from_secs(2);

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is ours to take: there is none, its holder gave it up, or let it run out.
    Acquire,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// Judges a Lease that has not changed for `unchanged` on our own clock: the clocks of two nodes need not agree, so its
/// holder's times are not compared with ours (client-go does the same).
pub fn evaluate(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Judgement {
    let Some(lease) = lease else { return Judgement::Acquire };
    let duration =
        lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref() {
        Some(holder) if holder == me => Judgement::Renew,
        None | Some("") => Judgement::Acquire,
        Some(_) if unchanged > duration => Judgement::Acquire,
        Some(_) => Judgement::Wait,
    }
}

/// The Lease of one name.
pub struct LeaseStore {
    api: Api<Lease>,
    name: String,
}

impl LeaseStore {
    /// In the operator's namespace.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned() }
    }

    /// Reads it.
    ///
    /// # Errors
    /// Whatever the API server answers.
    pub async fn read(&self) -> Result<Option<Lease>, ApiError> {
        Ok(self.api.get_opt(&self.name).await?)
    }

    /// Makes `holder` (nobody: gives it up) its holder, provided it is still as `seen`; the resourceVersion sees to
    /// that, and a conflict is the lost race. `None`: lost.
    ///
    /// # Errors
    /// Whatever else the API server answers.
    pub async fn write(&self, seen: Option<&Lease>, holder: Option<&str>) -> Result<Option<Lease>, ApiError> {
        let now = MicroTime(super::clock::now());
        let before = seen.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let same = before.holder_identity.as_deref() == holder;
        let seconds = if holder.is_some() { i32::try_from(DURATION.as_secs()).unwrap_or(i32::MAX) } else { 1 };
        let spec = LeaseSpec {
            holder_identity: Some(holder.unwrap_or_default().to_owned()),
            lease_duration_seconds: Some(seconds),
            acquire_time: if same { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(!same && holder.is_some()))),
            ..before
        };
        let metadata = seen.map_or_else(
            || {
                let labels =
                    [(NAME_LABEL, MANAGER), (MANAGED_BY_LABEL, MANAGER)].map(|(key, value)| (key.to_owned(), value.to_owned()));
                ObjectMeta { name: Some(self.name.clone()), labels: Some(labels.into()), ..ObjectMeta::default() }
            },
            |lease| lease.metadata.clone(),
        );
        let lease = Lease { metadata, spec: Some(spec) };
        let params = PostParams::default();
        let written = match seen {
            Some(_) => self.api.replace(&self.name, &params, &lease).await,
            None => self.api.create(&params, &lease).await,
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: Option<&str>) -> LeaseSpec {
        LeaseSpec { holder_identity: holder.map(str::to_owned), lease_duration_seconds: Some(10), ..LeaseSpec::default() }
    }

    #[test]
    fn a_lease_is_taken_when_nobody_holds_it_and_waited_for_while_somebody_does() {
        let seconds = Duration::from_secs;
        for (spec, unchanged, judgement) in [
            (None, 0, Judgement::Acquire),
            (Some(lease(None)), 0, Judgement::Acquire),
            (Some(lease(Some(""))), 0, Judgement::Acquire),
            (Some(lease(Some("me"))), 60, Judgement::Renew),
            (Some(lease(Some("other"))), 10, Judgement::Wait),
            (Some(lease(Some("other"))), 11, Judgement::Acquire),
        ] {
            assert_eq!(evaluate(spec.as_ref(), "me", seconds(unchanged)), judgement, "{spec:?} for {unchanged} s");
        }
    }
}
