//! Writes what is generated from the sources: `crdgen crds/ docs/providers.md docs/api.md`. It is committed, and CI fails on a difference.

use oauth_operator::api::schema;
use oauth_operator::oauth::{Preset, preset, preset_names};
use serde_json::Value;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(page), Some(reference)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: crdgen FOLDER PROVIDERS REFERENCE".into());
    };
    std::fs::create_dir_all(&folder)?;
    let mut kinds = String::from(REFERENCE);
    for (file, definition) in schema::definitions() {
        kinds += &kind(&serde_json::to_value(&definition)?);
        let yaml = serde_saphyr::to_string(&definition)?;
        let header = "# GENERATED from the Rust types in src/api by `make crds`; do not edit.\n";
        std::fs::write(folder.join(file), format!("{header}{yaml}"))?;
    }
    std::fs::write(page, providers())?;
    std::fs::write(reference, kinds)?;
    Ok(())
}

const REFERENCE: &str = "<!-- GENERATED from the Rust types in src/api by `make crds`; do not edit. -->\n\n# API reference\n\n\
    Every field of every kind, as `kubectl explain` tells of them, with bounds, defaults and rules. `[]` is each item of a list, `{}` each value of a map.\n\
    Examples are in [deploy/samples](../deploy/samples).\n";

/// One kind, for people.
fn kind(definition: &Value) -> String {
    let spec = &definition["spec"];
    let (name, version) = (text(&spec["names"]["kind"]), &spec["versions"][0]);
    let short: Vec<_> = spec["names"]["shortNames"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut page = format!(
        "\n## {name}\n\n`{}/{}`, namespaced, `kubectl get {}`. {}\n\n| field | type | what it says |\n| --- | --- | --- |\n",
        text(&spec["group"]),
        text(&version["name"]),
        short.join(", "),
        sentence(schema),
    );
    fields(schema, "", &mut page);
    page
}

/// The fields of an object, each with what is in it.
fn fields(schema: &Value, path: &str, page: &mut String) {
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        // The API server's own.
        if path.is_empty() && ["apiVersion", "kind", "metadata"].contains(&name.as_str()) {
            continue;
        }
        let dot = if path.is_empty() { "" } else { "." };
        field_row(field, &format!("{path}{dot}{name}"), required.contains(&name.as_str()), page);
    }
}

fn field_row(field: &Value, path: &str, required: bool, page: &mut String) {
    let type_ = match (field["format"].as_str(), field["x-kubernetes-int-or-string"].as_bool()) {
        (_, Some(true)) => "integer or string".to_owned(),
        (Some(format), _) if format != "int32" && format != "int64" => format!("{}, {format}", text(&field["type"])),
        _ if field["type"].is_null() => "anything".to_owned(),
        _ => text(&field["type"]).to_owned(),
    };
    let required = if required { ", **required**" } else { "" };
    page.push_str(&format!("| `{path}` | {type_}{required} | {} |\n", cell(&[sentence(field), bounds(field)].join(" "))));
    fields(field, path, page);
    for (more, inner) in [("[]", &field["items"]), ("{}", &field["additionalProperties"])] {
        let plain = inner["properties"].is_null() && bounds(inner).is_empty() && sentence(inner).is_empty();
        match inner.is_object() {
            true if inner["properties"].is_object() && bounds(inner).is_empty() => fields(inner, &format!("{path}{more}"), page),
            true if !plain => field_row(inner, &format!("{path}{more}"), false, page),
            _ => {}
        }
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn sentence(schema: &Value) -> String {
    text(&schema["description"]).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a value is held to.
fn bounds(field: &Value) -> String {
    let shown = |key: &str, words: &str| (!field[key].is_null()).then(|| format!("{words} `{}`.", field[key]));
    let words = field["enum"].as_array().map(|all| {
        let all: Vec<_> = all.iter().map(text).filter(|word| !word.is_empty()).map(|word| format!("`{word}`")).collect();
        format!("One of {}.", all.join(", "))
    });
    let between = |least: &str, most: &str, of: &str| match (field[least].as_f64(), field[most].as_f64()) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}{of}.")),
        (Some(least), None) => Some(format!("At least {least}{of}.")),
        (None, Some(most)) => Some(format!("At most {most}{of}.")),
        (None, None) => None,
    };
    let rules = field["x-kubernetes-validations"].as_array().into_iter().flatten();
    let rules: Vec<_> = rules.filter_map(|rule| rule["message"].as_str().map(|message| format!("Rule: {message}."))).collect();
    let all = [
        shown("default", "Default"),
        words,
        between("minimum", "maximum", ""),
        between("minLength", "maxLength", " characters"),
        between("minItems", "maxItems", " items"),
        between("minProperties", "maxProperties", " entries"),
        field["pattern"].as_str().map(|pattern| format!("Pattern `{pattern}`.")),
        (!rules.is_empty()).then(|| rules.join(" ")),
    ];
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Within a table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

/// What is known of providers, for people.
fn providers() -> String {
    let mut text = String::from(
        "<!-- GENERATED from src/oauth/presets by `make crds`; do not edit. -->\n\n# Providers\n\n\
         `spec.provider.preset` names one of these. Each is a file of data in `src/oauth/presets`, tested against the wire shapes in\n\
         `tests/wire-shapes`, which cite where they come from. Every knob can be replaced in `spec.provider.overrides`, and a provider\n\
         that is not here works by `spec.provider.issuer` or `spec.provider.custom`.\n",
    );
    for (name, preset) in preset_names().filter_map(|name| Some((name, preset(name)?))) {
        text += &section(name, preset);
    }
    text
}

fn section(name: &str, preset: &Preset) -> String {
    let mut text = format!("\n## {name}\n\n{}\n", preset.description);
    if let Some(why) = &preset.experimental {
        text += &format!("\n**Experimental:** {why}\n");
    }
    for (name, parameter) in &preset.parameters {
        let default = parameter.default.as_ref().map(|default| format!(" Default: `{default}`.")).unwrap_or_default();
        text += &format!("\n- parameter `{name}`: {}{default}", parameter.description);
    }
    if !preset.parameters.is_empty() {
        text += "\n";
    }
    if !preset.documentation.is_empty() {
        let pages: Vec<_> = preset.documentation.iter().map(|page| format!("<{page}>")).collect();
        text += &format!("\nSources: {}\n", pages.join(", "));
    }
    text
}
