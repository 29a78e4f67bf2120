//! The API as kubectl and other controllers meet it.

use super::{cluster, issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::Client;
use crate::testbed::story::account;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn before_an_operator_looked_an_account_says_that_it_waits() -> Result<()> {
    let (story, _) = story("pending").await?;
    let client = Client { id: "app".into(), secret: "secret".into() };
    story.account("waiting", &json!({"issuer": "https://login.example.com"}), &client, &json!({}))?;
    let told = |type_: &str| story.condition("waiting", type_).map(|found| found.map(|(status, reason, _)| (status, reason)));
    assert_eq!(told("Ready")?, Some(("Unknown".into(), "Pending".into())));
    assert_eq!(told("Authorized")?, Some(("Unknown".into(), "Pending".into())));
    assert_eq!(told("Reconciling")?, Some(("True".into(), "Pending".into())));
    let waited = story.kubectl().try_run(&["wait", "--for=condition=Ready", "--timeout=1s", "oauthaccount/waiting"]);
    assert!(waited.is_err_and(|error| error.contains("timed out")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_explains_selects_and_names() -> Result<()> {
    let (story, provider) = story("kubectl").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let kubectl = story.kubectl();
    story.account("shown", &issuer(provider), &client, &json!({}))?;
    story.account("other", &issuer(provider), &client, &json!({}))?;
    story.until_ready("shown").await?;

    let table = kubectl.run(&["get", "oacc", "shown", "-o", "wide"])?;
    let (head, row) = table.split_once('\n').ok_or("a table")?;
    let heads: Vec<_> = head.split_whitespace().collect();
    assert_eq!(heads, ["NAME", "READY", "PROVIDER", "GRANT", "EXPIRES", "SECRET", "REASON", "REFRESHED", "NEXT", "AGE"]);
    let row: Vec<_> = row.split_whitespace().collect();
    assert_eq!(
        (row[1], row[2], row[3], row[5], row[6]),
        ("True", "Issuer", "ClientCredentials", "shown-token", "TokenPublished")
    );
    assert!(row[4].parse::<jiff::Timestamp>().is_ok() && row[8].parse::<jiff::Timestamp>().is_ok(), "{row:?}");
    assert!(kubectl.run(&["get", "oauth"])?.contains("shown"), "the category lists them");

    let explained = kubectl.run(&["explain", "oauthaccount.spec", "--recursive"])?;
    for field in ["provider", "clientCredentials", "caBundleRef", "tokenSecret", "allowedHosts"] {
        assert!(explained.contains(field), "{field}: {explained}");
    }
    let one = kubectl.run(&["explain", "oauthaccount.spec.refresh.beforeExpirySeconds"])?;
    assert!(one.contains("Lead before expiry in seconds"), "{one}");

    let selected =
        kubectl.run(&["get", "oauthaccounts", "--field-selector", "spec.client.secretRef.name=other-client", "-o", "name"])?;
    assert_eq!(selected.trim(), "oauthaccount.oauth-operator.dev/other");

    let mut generated =
        account("unused", &issuer(provider), &client, &json!({"client": {"secretRef": {"name": "shown-client"}}}));
    generated["metadata"] = json!({"generateName": "shown-"});
    let created = kubectl.feed(&["create", "-f", "-", "-o", "name"], &generated.to_string())?;
    let name = created.trim().rsplit('/').next().ok_or("a name")?.to_owned();
    story.until_ready(&name).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_the_operators_word_and_spec_the_users() -> Result<()> {
    let (story, provider) = story("ownership").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("owned", &issuer(provider), &client, &json!({}))?;
    story.until_ready("owned").await?;
    let before: Value =
        serde_json::from_str(&story.kubectl().run(&["get", "oauthaccount", "owned", "-o", "json", "--show-managed-fields"])?)?;
    let managers = before["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours: Vec<_> = managers.iter().filter(|entry| entry["manager"] == "oauth-operator").collect();
    assert_eq!(ours.len(), 1, "one field manager: {managers:?}");
    assert_eq!((&ours[0]["subresource"], &ours[0]["operation"]), (&json!("status"), &json!("Update")));
    let fields: Vec<_> = ours[0]["fieldsV1"].as_object().ok_or("fields")?.keys().cloned().collect();
    assert_eq!(fields, ["f:status"], "no controller writes to spec or metadata");

    // A write to the object does not reach status.
    let lie = json!({"status": {"failedAttempts": 7, "conditions": []}}).to_string();
    story.kubectl().run(&["patch", "oauthaccount", "owned", "--type=merge", "-p", &lie])?;
    let status = story.get("owned")?.status.ok_or("no status")?;
    assert_eq!(status.failed_attempts, 0);

    // What somebody with the right to it writes into status is put right.
    story.kubectl().run(&["patch", "oauthaccount", "owned", "--type=merge", "--subresource=status", "-p", &lie])?;
    story.until_ready("owned").await?;
    let mut healed = false;
    for _ in 0..50 {
        healed = story.get("owned")?.status.is_some_and(|status| status.failed_attempts == 0);
        if healed {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(healed, "a lie in status is put right");
    assert_eq!(provider.token_requests(&client).await?, (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_are_pruned_and_the_definition_has_no_warnings() -> Result<()> {
    let kubectl = cluster().await?.kubectl();
    let client = Client { id: "app".into(), secret: "secret".into() };
    let odd = account("odd", &json!({"issuer": "https://login.example.com"}), &client, &json!({"colour": "red"}));
    let stored = kubectl.feed(&["apply", "--dry-run=server", "--validate=false", "-o", "json", "-f", "-"], &odd.to_string())?;
    let stored: Value = serde_json::from_str(&stored)?;
    assert!(stored["spec"]["colour"].is_null(), "{stored}");
    assert_eq!(stored["spec"]["tokenSecret"]["creationPolicy"], "Owner", "defaults are visible");
    let crd: Value = serde_json::from_str(&kubectl.run(&["get", "crd", "oauthaccounts.oauth-operator.dev", "-o", "json"])?)?;
    let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let states: Vec<_> =
        conditions.iter().map(|c| (c["type"].as_str().unwrap_or_default(), c["status"].as_str().unwrap_or_default())).collect();
    assert!(states.contains(&("Established", "True")) && states.contains(&("NamesAccepted", "True")), "{states:?}");
    assert!(!states.iter().any(|(type_, status)| *type_ == "NonStructuralSchema" && *status == "True"), "{states:?}");
    Ok(())
}
