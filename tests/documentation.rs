//! Pages that say what there is say what there is: names of annotations, and tests that prove what is claimed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What ours begin with.
const DOMAIN: &str = "oauth-operator.dev/";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // Tests name what there is not, too.
        let tests = path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        match path.is_dir() {
            _ if tests => {}
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Names of ours in a text, whatever stands before and after them; kinds, which end with a version, are none.
fn names(text: &str) -> BTreeSet<String> {
    let part = |c: &char| c.is_ascii_alphanumeric() || "-.".contains(*c);
    let named = text.match_indices(DOMAIN).map(|(at, _)| {
        let before = text[..at].chars().rev().take_while(part).count();
        let after: String = text[at + DOMAIN.len()..].chars().take_while(part).collect();
        // A dot ends a sentence, and begins nothing.
        format!("{}{DOMAIN}{}", &text[at - before..at], after.split('.').next().unwrap_or_default())
    });
    // The names of restart annotations end with an account's: what they begin with is ours.
    let named = named.map(|name| if name.starts_with("restart.") { format!("restart.{DOMAIN}") } else { name });
    named.filter(|name| name != DOMAIN && name != &format!("{DOMAIN}v1alpha1")).collect()
}

#[test]
fn every_name_in_the_sources_is_documented_and_no_other() {
    let mut sources = vec![];
    files(&root().join("src"), &mut sources);
    files(&root().join("charts"), &mut sources);
    let read = |path: &PathBuf| std::fs::read_to_string(path).expect("a text of ours");
    let in_sources: BTreeSet<String> =
        sources.iter().flat_map(|path| names(read(path).split("#[cfg(test)]").next().unwrap_or_default())).collect();
    let documented = names(&read(&root().join("docs/annotations.md")));
    assert!(in_sources.len() > 20, "{in_sources:?}");
    let missing: Vec<_> = in_sources.difference(&documented).collect();
    assert!(missing.is_empty(), "docs/annotations.md does not have {missing:?}");
    let gone: Vec<_> = documented.difference(&in_sources).collect();
    assert!(gone.is_empty(), "docs/annotations.md has what no source names: {gone:?}");
}

/// Every test that docs/capabilities.md names is there.
#[test]
fn what_is_claimed_names_tests_that_there_are() {
    let page = std::fs::read_to_string(root().join("docs/capabilities.md")).expect("the page");
    let mut sources = vec![];
    for folder in ["tests/stories", "tools/chart"] {
        files(&root().join(folder), &mut sources);
    }
    let texts: Vec<_> = sources.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect();
    let quoted = page.split('`').skip(1).step_by(2);
    let tests: Vec<_> = quoted.filter(|name| name.starts_with("Test") || name.matches('_').count() > 2).collect();
    assert!(tests.len() > 20, "{tests:?}");
    for name in &tests {
        let heads = [format!("async fn {name}()"), format!("func {name}(t *testing.T)")];
        assert!(texts.iter().any(|text| heads.iter().any(|head| text.contains(head))), "there is no test {name}");
    }
    // What is claimed has a proof, and what has none is not claimed.
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| item") && !line.starts_with("| ---"));
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        let proof = tests.iter().any(|name| cells[2].contains(name)) || cells[2].contains("tests/");
        assert!(matches!((cells[1], proof), ("yes", true) | ("no", false)), "{row}");
    }
}
