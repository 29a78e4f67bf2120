//! The CustomResourceDefinition as the cluster gets it: the derived schema, finished to the Kubernetes API conventions.

use super::{OAuthAccount, Workflow, WorkflowRun};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Every CustomResourceDefinition of this version, with its file name under `crds/`.
///
/// # Panics
/// Never at run time with a schema that the tests have seen: the derived schema is a constant of the program.
pub fn definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("oauthaccounts.yaml", finished(OAuthAccount::crd(), &pending_account())),
        ("workflows.yaml", finished(Workflow::crd(), &json!({"conditions": [pending("Ready", "Unknown")]}))),
        (
            "workflowruns.yaml",
            finished(WorkflowRun::crd(), &json!({"phase": "Pending", "conditions": [pending("Succeeded", "Unknown")]})),
        ),
    ]
}

/// Schema of `status.conditions`: metav1.Condition with its bounds, a list-map by type.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "description": "One condition of the object.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {"description": "Type of the condition.", "type": "string", "maxLength": 316, "pattern": "^[A-Z][A-Za-z]*$"},
                "status": {"description": "Whether it holds.", "type": "string", "enum": ["True", "False", "Unknown"]},
                "reason": {"description": "Class of the cause, one CamelCase word.", "type": "string", "minLength": 1, "maxLength": 1024, "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                "message": {"description": "The cause in a sentence.", "type": "string", "maxLength": 32768},
                "lastTransitionTime": {"description": "When the status last flipped.", "type": "string", "format": "date-time"},
                "observedGeneration": {"description": "Generation of the spec that this condition speaks of.", "type": "integer", "format": "int64", "minimum": 0}
            }
        }
    })
}

/// Schema of free JSON objects (documented exceptions to pruning).
pub(super) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "maxProperties": 64, "x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of any JSON value (the same exception).
pub(super) fn free_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Schema of a free JSON object that may not be changed.
pub(super) fn immutable_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 1024, "x-kubernetes-preserve-unknown-fields": true,
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "a run may not be changed but for `cancel`; it must be made anew"}]
    })
}

/// `status` is what it says before the operator has looked, at no write.
fn finished(crd: CustomResourceDefinition, status: &Value) -> CustomResourceDefinition {
    #[expect(clippy::expect_used, reason = "a CRD is JSON by construction")]
    let mut tree = serde_json::to_value(crd).expect("a CRD is JSON");
    for version in tree["spec"]["versions"].as_array_mut().into_iter().flatten() {
        let schema = &mut version["schema"]["openAPIV3Schema"];
        absent_not_null(schema);
        schema["properties"]["status"]["default"] = status.clone();
    }
    #[expect(clippy::expect_used, reason = "only names and values that a CRD may have were changed; the tests see every one")]
    serde_json::from_value(tree).expect("what came from a CRD is one")
}

/// Optional means absent (API conventions): `nullable`, which an `Option` derives to, goes.
fn absent_not_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.remove("nullable");
            object.values_mut().for_each(absent_not_null);
        }
        Value::Array(items) => items.iter_mut().for_each(absent_not_null),
        _ => {}
    }
}

/// `kubectl wait` and kstatus see work ahead.
fn pending_account() -> Value {
    json!({"conditions": [pending("Ready", "Unknown"), pending("Authorized", "Unknown"), pending("Reconciling", "True")]})
}

fn pending(type_: &str, status: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": super::Reason::Pending.as_str(),
        "message": "Waiting for the operator", "lastTransitionTime": "1970-01-01T00:00:00Z"
    })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
