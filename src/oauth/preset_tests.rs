//! Every preset, as data and against the wire shapes that its provider documents.

use super::*;

#[test]
fn every_preset_is_read() {
    for (name, text) in FILES {
        let preset = read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(preset.documentation.iter().all(|page| page.starts_with("https://")), "{name}");
        assert!(!preset.documentation.is_empty() || preset.experimental.is_some(), "{name} cites nothing");
    }
}
