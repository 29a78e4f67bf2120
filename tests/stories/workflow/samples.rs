//! The samples that people copy: the API server takes them, and they can be run.

use crate::story;
use crate::testbed::{Result, root};
use oauth_operator::account::Plan;
use oauth_operator::api::{OAuthAccount, WorkflowSpec};
use oauth_operator::workflow::Definition;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_is_taken_and_can_be_run() -> Result<()> {
    let (story, _) = story("wf-samples").await?;
    let (mut workflows, mut accounts) = (0, 0);
    for file in std::fs::read_dir(root().join("deploy/samples"))? {
        let path = file?.path();
        let text = std::fs::read_to_string(&path)?;
        let said = story.kubectl().feed(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &text)?;
        assert!(said.contains("created"), "{}: {said}", path.display());
        for mut object in serde_saphyr::from_multiple::<Value>(&text)? {
            let spec = match object["kind"].as_str() {
                Some("OAuthAccount") => {
                    object["metadata"]["namespace"] = Value::from(story.apps.as_str());
                    let account: OAuthAccount = serde_json::from_value(object)?;
                    Plan::of(&account).map_err(|refusal| format!("{}: {}", path.display(), refusal.sentence()))?;
                    accounts += 1;
                    continue;
                }
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
    assert!(workflows >= 6 && accounts >= 16, "{workflows} workflows and {accounts} accounts");
    Ok(())
}
