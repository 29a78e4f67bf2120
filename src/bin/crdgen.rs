//! Writes what is generated from the sources: `crdgen crds/ docs/providers.md`. It is committed, and CI fails on a difference.

use oauth_operator::api::schema;
use oauth_operator::oauth::{Preset, preset, preset_names};
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(folder), Some(page)) = (arguments.next(), arguments.next()) else {
        return Err("usage: crdgen FOLDER PAGE".into());
    };
    std::fs::create_dir_all(&folder)?;
    for (file, definition) in schema::definitions() {
        let yaml = serde_saphyr::to_string(&definition)?;
        let header = "# GENERATED from the Rust types in src/api by `make crds`; do not edit.\n";
        std::fs::write(folder.join(file), format!("{header}{yaml}"))?;
    }
    std::fs::write(page, providers())?;
    Ok(())
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
