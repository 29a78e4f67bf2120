//! Outputs that are too large for status: each in a Secret that belongs to its run, written before the status that names it.

use super::failure::Failure;
use super::input::depth;
use super::seen::{Identity, Kept};
use super::sender::Sender;
use crate::api::vocabulary as v;
use crate::api::{OutputReference, RunReason, WorkflowRun, WorkflowRunStatus};
use crate::world::secrets::{self, Written};
use crate::world::{ApiError, World};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Bytes of an output that stands in status.
const INLINE: usize = 16 * 1024;
/// Bytes of all outputs of a run that stand in status.
const INLINE_IN_ALL: i64 = 256 * 1024;
/// Levels of an output. What a run keeps must be readable in the object around it: readers of JSON end at 128 (`serde_json`).
const DEEPEST: usize = 64;
/// Bytes of an output as JSON.
const LARGEST: usize = 8 * 1024 * 1024;
/// How long is waited before the API server is asked again, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Bytes that a Secret may hold.
const SECRET: usize = 1024 * 1024;

/// What status has room for still, of the outputs of a run's steps. A place that was taken for what was not stored stays taken.
pub struct Room(AtomicI64);

impl Room {
    /// Beside what stands there.
    pub fn beside(status: &WorkflowRunStatus) -> Self {
        let inline = status.steps.iter().filter(|step| step.output.is_some());
        Self(AtomicI64::new(INLINE_IN_ALL - inline.filter_map(|step| step.output_bytes).sum::<i64>()))
    }

    fn take(&self, bytes: i64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| (left >= bytes).then_some(left - bytes)).is_ok()
    }
}

/// Keeps an output: in status, where it may be there, else in a Secret of this name. What was done is not lost because the API
/// server is away: it is offered again until it is taken.
///
/// # Errors
/// Where it is too large, or may not be written.
pub async fn keep(sender: &Sender, run: &Identity, secret: &str, output: &Value, room: Option<&Room>) -> Result<Kept, Failure> {
    let too_large = |what: String| Failure::new(RunReason::OutputTooLarge, format!("{what}; keep less of it with output."));
    let levels = depth(output);
    if levels > DEEPEST {
        return Err(too_large(format!("The output is nested {levels} levels deep, and at most {DEEPEST} are kept")));
    }
    let json = output.to_string().into_bytes();
    let bytes = i64::try_from(json.len()).unwrap_or(i64::MAX);
    if json.len() <= INLINE && room.is_none_or(|room| room.take(bytes)) {
        return Ok(Kept::Inline { bytes });
    }
    if json.len() > LARGEST {
        return Err(too_large(format!("The output has {bytes} bytes, and at most {LARGEST} are kept")));
    }
    let sha256 = hex(&json);
    let packed = tokio::task::spawn_blocking(move || pack(&json)).await;
    let packed = packed
        .ok()
        .and_then(Result::ok)
        .ok_or_else(|| Failure::new(RunReason::StepFailed, "The output could not be compressed."))?;
    if packed.len() > SECRET {
        return Err(too_large(format!("The output has {bytes} bytes, compressed {}, and a Secret holds {SECRET}", packed.len())));
    }
    write(sender, manifest(run, secret, packed)).await?;
    Ok(Kept::Secret(OutputReference { secret_name: secret.to_owned(), key: v::OUTPUT_KEY.into(), bytes, sha256 }))
}

fn manifest(run: &Identity, name: &str, packed: Vec<u8>) -> Secret {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(run.namespace.clone()),
            labels: Some([label(v::MANAGED_BY_LABEL, v::MANAGER), label(v::COMPONENT_LABEL, v::OUTPUT_COMPONENT)].into()),
            owner_references: Some(vec![OwnerReference {
                api_version: WorkflowRun::api_version(&()).into(),
                kind: WorkflowRun::kind(&()).into(),
                name: run.name.clone(),
                uid: run.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(false),
            }]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some([(v::OUTPUT_KEY.to_owned(), ByteString(packed))].into()),
        ..Secret::default()
    }
}

/// An attempt before this one may have written it.
async fn write(sender: &Sender, mut secret: Secret) -> Result<(), Failure> {
    let client = &sender.world.cluster.objects;
    let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
    let trouble = |error: ApiError| Failure::new(RunReason::StepFailed, format!("The output could not be stored: {error}"));
    for _ in 0..3 {
        let written = patiently(|| match &secret.metadata.resource_version {
            None => secrets::create(client, &secret).boxed(),
            Some(_) => secrets::replace(client, &secret).boxed(),
        });
        match written.await.map_err(trouble)? {
            Written::Stored { .. } => return Ok(()),
            Written::Refused(words) => {
                let message = format!("The operator may not store the output in Secret {name}: {words}");
                return Err(Failure::new(RunReason::PermissionDenied, message));
            }
            Written::NamespaceGone => return Err(Failure::new(RunReason::StepFailed, "The namespace is being deleted.")),
            Written::Conflict => {}
        }
        let there = patiently(|| secrets::secret(client, &namespace, &name).boxed()).await.map_err(trouble)?;
        // Whoever leads now may have written it, and said in status what is in it.
        while !(sender.leads)() {
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        let ours = |there: &Secret| there.metadata.owner_references == secret.metadata.owner_references;
        match there {
            Some(there) if !ours(&there) => {
                let message = format!("The output cannot be stored: Secret {name} is there already, and is not of this run.");
                return Err(Failure::new(RunReason::StepFailed, message));
            }
            Some(there) => secret.metadata.resource_version = there.metadata.resource_version,
            None => secret.metadata.resource_version = None,
        }
    }
    Err(Failure::new(RunReason::StepFailed, format!("The output could not be stored: Secret {name} changes all the time.")))
}

/// An output that is kept in a Secret.
///
/// # Errors
/// Where it is gone, or is not what was kept.
pub async fn load(world: &World, namespace: &str, reference: &OutputReference) -> Result<Value, Failure> {
    let name = &reference.secret_name;
    let lost = |why: &str| Failure::new(RunReason::StepFailed, format!("The output in Secret {name} {why}."));
    let secret = patiently(|| secrets::secret(&world.cluster.objects, namespace, name).boxed()).await;
    let secret = secret.map_err(|error| lost(&format!("could not be read: {error}")))?;
    let packed = secret.and_then(|secret| secret.data?.remove(&reference.key)).ok_or_else(|| lost("is gone"))?;
    let (most, sha256) = (LARGEST as u64, reference.sha256.clone());
    let unpacked = tokio::task::spawn_blocking(move || {
        let mut json = vec![];
        GzDecoder::new(packed.0.as_slice()).take(most).read_to_end(&mut json).ok()?;
        (hex(&json) == sha256).then(|| serde_json::from_slice(&json).ok()).flatten()
    });
    unpacked.await.ok().flatten().ok_or_else(|| lost("is not what was kept: somebody has changed it"))
}

/// Asks the API server until it answers: what was done must not be lost because it is away for a moment. How long that may last
/// is the run's to say.
async fn patiently<'a, T>(ask: impl Fn() -> BoxFuture<'a, Result<T, ApiError>> + Send + Sync) -> Result<T, ApiError> {
    let mut pause = Duration::from_millis(100);
    loop {
        match ask().await {
            Err(error) if error.may_pass() => {
                tracing::debug!(%error, "an output could not be written or read; it is tried again");
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            answered => return answered,
        }
    }
}

fn pack(json: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(json)?;
    encoder.finish()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
