//! The samples that people copy: the API server takes them, and they can be run.

use crate::story;
use crate::testbed::{Result, root};
use oauth_operator::api::WorkflowSpec;
use oauth_operator::workflow::Definition;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_taken_and_can_be_run() -> Result<()> {
    let (story, _) = story("wf-samples").await?;
    let mut workflows = 0;
    for file in std::fs::read_dir(root().join("deploy/samples"))? {
        let path = file?.path();
        let text = std::fs::read_to_string(&path)?;
        let said = story.kubectl().feed(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &text)?;
        assert!(said.contains("created"), "{}: {said}", path.display());
        for object in serde_saphyr::from_multiple::<Value>(&text)? {
            let spec = match object["kind"].as_str() {
                Some("Workflow") => &object["spec"],
                Some("WorkflowRun") => &object["spec"]["workflowSpec"],
                _ => continue,
            };
            if spec.is_null() {
                continue;
            }
            let spec: WorkflowSpec = serde_json::from_value(spec.clone())?;
            Definition::of(&spec).map_err(|error| format!("{}: {error}", path.display()))?;
            workflows += 1;
        }
    }
    assert!(workflows >= 6, "{workflows}");
    Ok(())
}
