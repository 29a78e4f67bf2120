//! Writes the CustomResourceDefinitions into a folder: `crdgen crds/`. What it writes is committed, and CI fails on a
//! difference.

use oauth_operator::api::schema;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: crdgen FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for (file, definition) in schema::definitions() {
        let yaml = serde_saphyr::to_string(&definition)?;
        let header = "# GENERATED from the Rust types in src/api by `make crds`; do not edit.\n";
        std::fs::write(folder.join(file), format!("{header}{yaml}"))?;
    }
    Ok(())
}
