//! What a run is to do: its workflow as it was when the run began, and its input.

use super::definition::Definition;
use super::input;
use super::seen::{Task, Unclear};
use crate::api::vocabulary as v;
use crate::api::{InputSource, Workflow, WorkflowRun, WorkflowSpec};
use crate::world::revisions::Made;
use crate::world::{ApiError, World, revisions, secrets, workflows};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Definitions that are kept beside those in use.
const KEPT: usize = 256;
/// Runs whose workflow is read at once. Each holds it twice until it is understood, and of a thousand that begin together the
/// first ones understand it for the others.
const AT_ONCE: usize = 16;

/// Workflows that were understood, by namespace and name of their ControllerRevision: a thousand runs of one share it.
pub struct Definitions {
    known: Mutex<HashMap<(String, String), Arc<Definition>>>,
    turns: Semaphore,
}

impl Default for Definitions {
    fn default() -> Self {
        Self { known: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

/// A workflow and where it comes from.
struct Found {
    definition: Arc<Definition>,
    workflow: Option<String>,
    generation: Option<i64>,
    revision: Option<String>,
}

type Result<T> = std::result::Result<T, Stop>;

/// Why a run is not understood now.
enum Stop {
    Unclear(Unclear),
    Api(ApiError),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

fn refused(why: impl Into<String>) -> Stop {
    Stop::Unclear(Unclear::Refused(why.into()))
}

fn missing(why: impl Into<String>) -> Stop {
    Stop::Unclear(Unclear::Missing(why.into()))
}

impl Definitions {
    /// What a run is to do.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn understand(
        &self,
        world: &World,
        run: &WorkflowRun,
    ) -> std::result::Result<std::result::Result<Task, Unclear>, ApiError> {
        match self.task(world, run).await {
            Ok(task) => Ok(Ok(task)),
            Err(Stop::Unclear(unclear)) => Ok(Err(unclear)),
            Err(Stop::Api(error)) => Err(error),
        }
    }

    async fn task(&self, world: &World, run: &WorkflowRun) -> Result<Task> {
        let Found { definition, workflow, generation, revision } = {
            // The semaphore is never closed.
            let _turn = self.turns.acquire().await;
            self.definition(world, run).await?
        };
        let value = given(world, run).await?;
        let (checked, begun) = (definition.clone(), run.status.as_ref().and_then(|status| status.input_digest.clone()));
        let looked = tokio::task::spawn_blocking(move || {
            input::check(&value).map_err(|error| error.to_string())?;
            let digest = input::digest(&value);
            if begun.is_some_and(|begun| begun != digest) {
                return Err("the input has changed since the run began".to_owned());
            }
            if let Some(schema) = &checked.schema {
                schema.validate(&value).map_err(|error| error.to_string())?;
            }
            Ok((value, digest))
        });
        let looked = looked.await.unwrap_or_else(|error| Err(error.to_string()));
        let (value, digest) = looked.map_err(|why| refused(format!("The input cannot be used: {why}.")))?;
        Ok(Task { definition, workflow, generation, revision, input: Arc::new(value), digest })
    }

    async fn definition(&self, world: &World, run: &WorkflowRun) -> Result<Found> {
        if let Some(spec) = &run.spec.workflow_spec {
            let bytes = json!(run.spec).to_string().len();
            if bytes > input::LARGEST_SPEC {
                let most = input::LARGEST_SPEC;
                return Err(refused(format!(
                    "The run's spec has {bytes} bytes of JSON, and at most {most} leave room for its record: make a Workflow of it, and name that in workflowRef."
                )));
            }
            let definition = compiled(spec.clone()).await.map_err(refused)?;
            return Ok(Found { definition, workflow: None, generation: None, revision: None });
        }
        let name = run.spec.workflow_ref.as_ref().map(|workflow| workflow.name.clone()).unwrap_or_default();
        let namespace = run.namespace().unwrap_or_default();
        if let Some(status) = &run.status
            && let Some(revision) = &status.revision_name
        {
            let definition = self.revised(world, &namespace, revision).await?;
            return Ok(Found {
                definition,
                workflow: Some(name),
                generation: status.workflow_generation,
                revision: Some(revision.clone()),
            });
        }
        let client = &world.cluster.objects;
        let workflow = workflows::read::<Workflow>(client, &namespace, &name).await?;
        let workflow =
            workflow.ok_or_else(|| missing(format!("Workflow {name} does not exist in namespace {namespace}; create it.")))?;
        let (spec, generation) = (workflow.spec, workflow.metadata.generation.unwrap_or_default());
        let data = json!(spec);
        let revision = revision_name(&name, &data);
        let definition = match self.known(&namespace, &revision) {
            Some(definition) => definition,
            None => {
                let definition = compiled(spec).await.map_err(|why| refused(format!("Workflow {name} cannot be run: {why}")))?;
                match revisions::make(client, &namespace, &revision, &name, generation, &data).await? {
                    Made::There => {}
                    Made::Refused(words) => {
                        return Err(refused(format!(
                            "The operator may not store the workflow as it is now, in ControllerRevision {revision}: {words}"
                        )));
                    }
                }
                self.learn(&namespace, &revision, definition)
            }
        };
        Ok(Found { definition, workflow: Some(name), generation: Some(generation), revision: Some(revision) })
    }

    /// The workflow of a run that has begun.
    async fn revised(&self, world: &World, namespace: &str, revision: &str) -> Result<Arc<Definition>> {
        if let Some(definition) = self.known(namespace, revision) {
            return Ok(definition);
        }
        let gone =
            |why: &str| refused(format!("ControllerRevision {revision}, the workflow as it was when the run began, {why}."));
        let data = revisions::read(&world.cluster.objects, namespace, revision).await?.ok_or_else(|| gone("is gone"))?;
        let spec: WorkflowSpec = serde_json::from_value(data.clone())
            .map_err(|_| gone("is no workflow that this version of the operator can read"))?;
        let name = revision.rsplit_once('-').map_or("", |(name, _)| name);
        if revision_name(name, &data) != revision {
            return Err(gone("holds something else than its name says"));
        }
        let definition = compiled(spec).await.map_err(|why| gone(&format!("cannot be run: {why}")))?;
        Ok(self.learn(namespace, revision, definition))
    }

    fn known(&self, namespace: &str, revision: &str) -> Option<Arc<Definition>> {
        // Each change is whole before its lock is let go.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&(namespace.to_owned(), revision.to_owned())).cloned()
    }

    fn learn(&self, namespace: &str, revision: &str, definition: Arc<Definition>) -> Arc<Definition> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, definition| Arc::strong_count(definition) > 1);
        }
        known.entry((namespace.to_owned(), revision.to_owned())).or_insert(definition).clone()
    }

    /// A revision is no more: runs that begin from now on make it anew.
    pub fn forget(&self, namespace: &str, revision: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), revision.to_owned()));
    }
}

/// The workflow's name, and what tells what is in it.
pub fn revision_name(workflow: &str, data: &Value) -> String {
    format!("{workflow}-{}", &input::digest(data)[..16])
}

async fn compiled(spec: WorkflowSpec) -> std::result::Result<Arc<Definition>, String> {
    let compiled = tokio::task::spawn_blocking(move || Definition::of(&spec)).await;
    compiled.map_err(|error| error.to_string())?.map(Arc::new).map_err(|error| error.to_string())
}

/// The input as it stands in the run, or where the run says.
async fn given(world: &World, run: &WorkflowRun) -> Result<Value> {
    let Some(source) = &run.spec.input_from else {
        let input = run.spec.input.clone().unwrap_or_else(|| json!({}));
        let (bytes, most) = (input::canonical(&input).len(), input::LARGEST_INLINE);
        if bytes > most {
            return Err(refused(format!(
                "spec.input has {bytes} bytes of JSON, and at most {most} are taken there: put it into a Secret or a ConfigMap, and name that in inputFrom."
            )));
        }
        return Ok(input);
    };
    let namespace = run.namespace().unwrap_or_default();
    let client = &world.cluster.objects;
    let (kind, name, key, bytes) = match source {
        InputSource { secret_key_ref: Some(reference), .. } => {
            let secret = secrets::secret(client, &namespace, &reference.name).await?;
            // Whoever may make runs need not be one who may read Secrets.
            let closed = |secret: &Secret| secret.annotations().get(v::RUN_INPUT_ANNOTATION).is_none_or(|value| value != "true");
            if secret.as_ref().is_some_and(closed) {
                let name = &reference.name;
                let why = format!(
                    "Secret {name}, which inputFrom names, is no input of runs: whoever owns it can permit that by its annotation {}: \"true\".",
                    v::RUN_INPUT_ANNOTATION
                );
                return Err(missing(why));
            }
            let bytes = secret.and_then(|secret| secret.data?.remove(&reference.key)).map(|bytes| bytes.0);
            ("Secret", &reference.name, &reference.key, bytes)
        }
        InputSource { config_map_key_ref: Some(reference), .. } => {
            let map = secrets::config_map(client, &namespace, &reference.name).await?;
            let bytes = map.and_then(|map| map.data?.remove(&reference.key)).map(String::into_bytes);
            ("ConfigMap", &reference.name, &reference.key, bytes)
        }
        _ => return Err(refused("inputFrom must name a Secret or a ConfigMap.")),
    };
    let bytes = bytes.ok_or_else(|| {
        missing(format!(
            "{kind} {name} with the key {key}, which inputFrom names, does not exist in namespace {namespace}; create it."
        ))
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        refused(format!(
            "Key {key} of {kind} {name}, which inputFrom names, is no JSON: line {}, column {}.",
            error.line(),
            error.column()
        ))
    })
}
