//! Presets: what is known of a provider, as data. One file for each in `presets/`, one schema for all of them.

use crate::api::{Provider, ProviderOverrides};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// A placeholder in a preset's URLs.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Parameter {
    /// What it is, for a person.
    pub description: String,
    /// What it may be; the whole value must match.
    pub pattern: String,
    /// What it is where the account says nothing.
    #[serde(default)]
    pub default: Option<String>,
}

/// What is known of a provider.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preset {
    /// What it is for, and what to know.
    pub description: String,
    /// Pages that the facts come from.
    pub documentation: Vec<String>,
    /// Why it may not be relied on, where no page of the vendor's says what it claims.
    #[serde(default)]
    pub experimental: Option<String>,
    /// Placeholders.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// The knobs, with placeholders in braces.
    pub provider: ProviderOverrides,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("presets/", $name, ".yaml")))),*] };
}

/// Every preset, by name.
const FILES: [(&str, &str); 22] = files![
    "AWSSSO",
    "Anthropic",
    "Atlassian",
    "Auth0",
    "Box",
    "Coze",
    "CozeCN",
    "Discord",
    "GitHub",
    "GitHubApp",
    "GitLab",
    "Google",
    "HubSpot",
    "Keycloak",
    "MicrosoftEntra",
    "Notion",
    "Okta",
    "Salesforce",
    "Slack",
    "Spotify",
    "Xero",
    "Zoom",
];

static ALL: LazyLock<BTreeMap<&'static str, Preset>> = LazyLock::new(|| {
    // A file that is none fails the tests, which read every one.
    FILES.iter().filter_map(|(name, text)| Some((*name, read(text).ok()?))).collect()
});

fn read(text: &str) -> Result<Preset, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

/// Names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// A preset by its name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    ALL.get(name)
}

/// The knobs of a provider: its preset's, filled with the account's parameters, each replaced by what the account says itself.
///
/// # Errors
/// A sentence that names the field.
pub fn knobs(provider: &Provider) -> Result<ProviderOverrides, String> {
    let overrides = provider.overrides.as_deref();
    let Some(name) = &provider.preset else {
        if !provider.parameters.is_empty() {
            return Err("spec.provider.parameters fill a preset's placeholders, and there is no spec.provider.preset.".into());
        }
        return Ok(overrides.cloned().unwrap_or_default());
    };
    let preset = preset(name).ok_or_else(|| {
        let known = names().collect::<Vec<_>>().join(", ");
        format!("spec.provider.preset is none of this version: {name}. It knows {known}; any other provider works by spec.provider.issuer or spec.provider.custom.")
    })?;
    let mut filled = json(&preset.provider);
    fill(&mut filled, &values(preset, &provider.parameters, name)?);
    if let Some(overrides) = overrides {
        merge(&mut filled, json(overrides));
    }
    serde_json::from_value(filled).map_err(|error| format!("spec.provider.overrides cannot be used: {error}."))
}

fn json(knobs: &ProviderOverrides) -> Value {
    serde_json::to_value(knobs).unwrap_or_default()
}

/// The value of each placeholder.
fn values(preset: &Preset, given: &BTreeMap<String, String>, name: &str) -> Result<BTreeMap<String, String>, String> {
    if let Some(unknown) = given.keys().find(|key| !preset.parameters.contains_key(*key)) {
        return Err(format!("spec.provider.parameters[{unknown}] is no parameter of the preset {name}."));
    }
    let value = |(key, parameter): (&String, &Parameter)| {
        let field = format!("spec.provider.parameters[{key}]");
        let value = given.get(key).or(parameter.default.as_ref());
        let value = value.ok_or_else(|| format!("{field} must be set for the preset {name}: {}", parameter.description))?;
        let whole = regex_lite::Regex::new(&parameter.pattern).map_err(|_| format!("{field} cannot be checked."))?;
        match whole.find(value) {
            Some(found) if found.len() == value.len() => Ok((key.clone(), value.clone())),
            _ => Err(format!("{field} must match {}.", parameter.pattern)),
        }
    };
    preset.parameters.iter().map(value).collect()
}

fn fill(value: &mut Value, values: &BTreeMap<String, String>) {
    match value {
        Value::String(text) if text.contains('{') => {
            *text = values.iter().fold(text.clone(), |text, (key, value)| text.replace(&format!("{{{key}}}"), value));
        }
        Value::Object(object) => object.values_mut().for_each(|value| fill(value, values)),
        Value::Array(items) => items.iter_mut().for_each(|value| fill(value, values)),
        _ => {}
    }
}

/// Objects are merged, everything else is replaced.
fn merge(base: &mut Value, patch: Value) {
    match (base, patch) {
        (Value::Object(base), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(base.entry(key).or_insert_with(|| Value::Object(Map::new())), value);
            }
        }
        (base, patch) => *base = patch,
    }
}

#[cfg(test)]
#[path = "preset_tests.rs"]
mod tests;
