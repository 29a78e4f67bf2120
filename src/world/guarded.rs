//! Objects of a list or a watch, each read by itself: whatever somebody has put into one of them, the others are told.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An object as the API server tells it. [`kube::core::DeserializeGuard`] is meant for the same, but reads with the list's own reader, whose
/// limit of 128 levels (`serde_json`) ends the whole list at one object that is nested deeper; the API server takes 10,000.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Box<Unreadable>>);

/// One that this version cannot read.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// Why, in the reader's words.
    pub error: String,
    /// Which it is; its managed fields are left out.
    pub metadata: ObjectMeta,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Text is passed over without recursion.
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(text.get()).or_else(|_| without_managed_fields(text.get()))))
    }
}

/// Anybody who may write an object may put anything into its managed fields, and nobody needs them here.
fn without_managed_fields<K: DeserializeOwned>(text: &str) -> Result<K, Box<Unreadable>> {
    let told = |error: serde_json::Error, metadata| Box::new(Unreadable { error: error.to_string(), metadata });
    let unreadable = |error| told(error, ObjectMeta::default());
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).map_err(unreadable)?;
    let mut metadata: BTreeMap<String, &RawValue> = match fields.get("metadata") {
        Some(metadata) => serde_json::from_str(metadata.get()).map_err(unreadable)?,
        None => BTreeMap::new(),
    };
    metadata.remove("managedFields");
    let metadata = serde_json::value::to_raw_value(&metadata).map_err(unreadable)?;
    fields.insert("metadata".into(), &metadata);
    let read = serde_json::to_string(&fields).and_then(|text| serde_json::from_str(&text));
    read.map_err(|error| told(error, serde_json::from_str(metadata.get()).unwrap_or_default()))
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    /// Of Secrets and ConfigMaps nothing else is asked for, and nothing else may be.
    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkflowRun;
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt;
    use kube::core::{ObjectList, PartialObjectMeta, WatchEvent};

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    fn run(name: &str, input: &str, managed: &str) -> String {
        format!(
            r#"{{"apiVersion":"oauth-operator.dev/v1alpha1","kind":"WorkflowRun","metadata":{{"name":"{name}","namespace":"apps","managedFields":[{{"manager":"m","fieldsV1":{managed}}}]}},"spec":{{"workflowRef":{{"name":"w"}},"input":{input}}}}}"#
        )
    }

    #[test]
    fn where_metadata_are_enough_nothing_else_is_asked_for() {
        assert!(Guarded::<PartialObjectMeta<Secret>>::metadata_api());
        assert!(!Guarded::<WorkflowRun>::metadata_api());
    }

    #[test]
    fn a_list_is_read_whatever_is_in_one_of_its_objects() {
        let items =
            [run("deep", &nested(5000), "{}"), run("marked", "{}", &nested(5000)), run("plain", &nested(3), "{}")].join(",");
        let text =
            format!(r#"{{"kind":"WorkflowRunList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}},"items":[{items}]}}"#);
        let list: ObjectList<Guarded<WorkflowRun>> = serde_json::from_str(&text).unwrap();
        assert_eq!(list.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["deep", "marked", "plain"]);
        let read: Vec<_> = list.items.iter().map(|run| run.0.is_ok()).collect();
        assert_eq!(read, [false, true, true]);
        let error = &list.items[0].0.as_ref().unwrap_err().error;
        assert!(error.contains("recursion limit"), "{error}");
    }

    #[test]
    fn a_watch_is_told_whatever_is_in_an_object() {
        let secret = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"s","resourceVersion":"8","labels":{"a":"b"},"managedFields":[{"fieldsV1":DEEP}]}}"#;
        let line = format!(r#"{{"type":"ADDED","object":{}}}"#, secret.replace("DEEP", &nested(5000)));
        let event: WatchEvent<Guarded<PartialObjectMeta<Secret>>> = serde_json::from_str(&line).unwrap();
        let WatchEvent::Added(Guarded(Ok(secret))) = event else { panic!("{event:?}") };
        assert_eq!((secret.name_any(), secret.labels().len()), ("s".into(), 1));
        let event: WatchEvent<Guarded<WorkflowRun>> =
            serde_json::from_str(&format!(r#"{{"type":"MODIFIED","object":{}}}"#, run("deep", &nested(200), &nested(200))))
                .unwrap();
        let WatchEvent::Modified(deep) = event else { panic!("{event:?}") };
        assert!(deep.0.is_err() && deep.name_any() == "deep" && deep.namespace().as_deref() == Some("apps"));
    }
}
