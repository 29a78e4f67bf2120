//! The same for manifests: Pods and the Pod templates of Kubernetes' own workloads get the sidecar, everything else passes as it
//! stands, to the byte.

use super::pod::asks;
use super::{Outcome, Sidecar, inject};
use crate::api::vocabulary::INJECT;
use serde_json::Value;

/// What is wrong with one object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("document {document}{object}: {why}")]
pub struct Fault {
    /// Which document of the stream it is, from 1.
    document: usize,
    /// Kind and name, where they are known.
    object: String,
    why: String,
}

/// Manifests, one or several documents of YAML or JSON, with the sidecar in what asks for it. The Secret of an account is
/// `<account>-token`, unless the annotation says another.
///
/// # Errors
/// Every object that asks for what cannot be, and every document that cannot be read and seems to ask.
pub fn inject_manifests(text: &str, sidecar: &Sidecar) -> Result<String, Vec<Fault>> {
    let (mut injected, mut faults) = (String::with_capacity(text.len()), vec![]);
    for (index, (line, document)) in documents(text).into_iter().enumerate() {
        match inject_document(document, sidecar) {
            Ok(None) => injected.push_str(document),
            Ok(Some(changed)) => {
                if is_marker(document.lines().next().unwrap_or_default()) {
                    injected.push_str("---\n");
                }
                injected.push_str(&changed);
            }
            Err((object, why)) => {
                let object = if object.is_empty() { format!(" (from line {line} on)") } else { format!(", {object}") };
                faults.push(Fault { document: index + 1, object, why });
            }
        }
    }
    if faults.is_empty() { Ok(injected) } else { Err(faults) }
}

/// The documents of a stream, each with its marker and the number of its first line. What precedes the first marker and says
/// nothing belongs to the first document.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let (mut documents, mut start, mut first, mut at, mut says_something) = (vec![], 0, 1, 0, false);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if is_marker(line) {
            if says_something {
                documents.push((first, &text[start..at]));
                (start, first) = (at, number);
            }
            says_something = true;
        } else {
            let content = line.trim();
            says_something |= !content.is_empty() && !content.starts_with(['#', '%']);
        }
        at += line.len();
    }
    documents.push((first, &text[start..]));
    documents
}

/// Whether a document begins with this line (YAML 1.2.2 §9.1.2).
fn is_marker(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// A document with the sidecar; `None` where it stays as it is.
fn inject_document(text: &str, sidecar: &Sidecar) -> Result<Option<String>, (String, String)> {
    // What does not speak of us needs no reading.
    if !text.contains(INJECT) {
        return Ok(None);
    }
    // As kubectl reads it, where YAML 1.1 and 1.2 differ: 0400 is a file's mode. A snippet would repeat what may be secret.
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let unreadable = |error: serde_saphyr::Error| (String::new(), format!("it cannot be read: {error}"));
    let mut object: Value = serde_saphyr::from_str_with_options(text, options).map_err(unreadable)?;
    if !inject_object(&mut object, ("", ""), sidecar)? {
        return Ok(None);
    }
    // Never folded: a long line stays one.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    let written = serde_saphyr::to_string_with_options(&object, options);
    written.map(Some).map_err(|error| (String::new(), format!("it cannot be written: {error}")))
}

/// Puts the sidecar into an object or the items of a list; whether it has changed. Items of a list of one kind need not say which.
fn inject_object(object: &mut Value, usual: (&str, &str), sidecar: &Sidecar) -> Result<bool, (String, String)> {
    let text = |key: &str, usual: &str| object.get(key).and_then(Value::as_str).unwrap_or(usual).to_owned();
    let (version, kind) = (text("apiVersion", usual.0), text("kind", usual.1));
    if let (Some(item), Some(items)) = (kind.strip_suffix("List"), object.get_mut("items").and_then(Value::as_array_mut)) {
        let mut changed = false;
        for object in items {
            changed |= inject_object(object, (&version, item), sidecar)?;
        }
        return Ok(changed);
    }
    let Some(place) = template(&version, &kind) else { return Ok(false) };
    let name = || {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().or(metadata["generateName"].as_str()).unwrap_or("without a name");
        let namespace = metadata["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        format!("{kind} {namespace}{name}")
    };
    let Some(pod) = object.pointer(place) else { return Ok(false) };
    if !asks(pod) && asks(object) {
        let field = format!("{}/metadata/annotations", place).trim_start_matches('/').replace('/', ".");
        return Err((name(), format!("the annotation {INJECT} stands at the {kind} itself; its place is {field}")));
    }
    match inject(pod, sidecar, |_| None).map_err(|refusal| (name(), refusal.to_string()))? {
        Outcome::Left => Ok(false),
        Outcome::Injected(injection) => {
            let with = injection.into_pod(pod.clone()).ok_or_else(|| (name(), "it is no object".to_owned()))?;
            if let Some(pod) = object.pointer_mut(place) {
                *pod = with;
            }
            Ok(true)
        }
    }
}

/// Where a kind has its Pod (RFC 6901).
fn template(version: &str, kind: &str) -> Option<&'static str> {
    Some(match (version, kind) {
        ("v1", "Pod") => "",
        ("v1", "PodTemplate") => "/template",
        ("v1", "ReplicationController")
        | ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job") => "/spec/template",
        ("batch/v1", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
