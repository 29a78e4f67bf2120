//! The platform as Coze Studio, whose histories Coze's SDK does not know: where its words are not Coze's.

use super::{ask, open};
use crate::testbed::Result;
use crate::testbed::authorization_server::random;
use crate::testbed::coze_platform::{Behaviour, Dialect, Ending, Failure};
use serde_json::{Value, json};

#[tokio::test]
async fn a_run_is_followed_at_another_path_and_in_other_words() -> Result<()> {
    let (platform, workflow) = (open().await?, json!({"workflow_id": "7001", "is_async": true, "parameters": {"a": 1}}));
    platform.speak(Dialect::CozeStudio);
    platform.behave("7001", Behaviour::Async { running_polls: 1, ending: Ending::Cancel });
    let run = |http: &reqwest::Client| http.post(format!("{}/v1/workflow/run", platform.url)).body(workflow.to_string());
    let (status, accepted) = ask(&platform.ca, run, &random()).await?;
    let id = accepted["execute_id"].as_str().ok_or_else(|| accepted.to_string())?;
    assert_eq!((status, &accepted["code"], &accepted["detail"]), (200, &json!(0), &Value::Null), "{accepted}");

    let url = format!("{}/v1/workflow/get_run_history?workflow_id=7001&execute_id={id}", platform.url);
    let mut statuses = vec![];
    for _ in 0..2 {
        let (_, history) = ask(&platform.ca, |http| http.get(&url), &random()).await?;
        // A number where Coze has a string, other names, and no code where nothing went wrong.
        assert_eq!(
            (&history["code"], &history["data"][0]["execute_id"]),
            (&Value::Null, &json!(id.parse::<i64>()?)),
            "{history}"
        );
        assert!(history["data"][0]["log_id"].is_string() && history["data"][0].get("logid").is_none(), "{history}");
        statuses.push(history["data"][0]["execute_status"].clone());
    }
    assert_eq!(statuses, ["Running", "Cancel"]);

    platform.fail_polls(1, &Failure::wrong_session());
    let failed = ask(&platform.ca, |http| http.get(&url), &random()).await?;
    assert_eq!(failed, (200, json!({"code": 700_012_006, "msg": "authentication failed: api key invalid"})));
    let elsewhere = format!("{}/v1/workflows/7001/run_histories/{id}", platform.url);
    let (status, _) = ask(&platform.ca, |http| http.get(elsewhere), &random()).await?;
    assert_eq!(status, 404, "the other dialect's path");
    Ok(())
}
