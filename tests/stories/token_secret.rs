//! The contract of the token Secret: made, healed, pruned, and never taken from anybody.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::story::eventually;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn it_is_healed_when_it_is_edited_and_made_again_when_it_is_deleted() -> Result<()> {
    let (story, provider) = story("healing").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("healed", &issuer(provider), &client, &json!({}))?;
    story.until_ready("healed").await?;
    let first = story.key("healed-token", "access_token")?;
    let kubectl = story.kubectl();
    let limit = Duration::from_secs(15);

    // Labels and public keys are put back without a request.
    let damage = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}, "data": {"expires_at": "c29vbg==", "token_type": null}});
    kubectl.run(&["patch", "secret", "healed-token", "--type=merge", "-p", &damage.to_string()])?;
    let healed = || -> Result<Option<()>> {
        let secret = story.read_secret("healed-token")?.ok_or("gone")?;
        let label = secret.metadata.labels.unwrap_or_default()["app.kubernetes.io/managed-by"] == "oauth-operator";
        Ok((label && story.key("healed-token", "token_type").is_ok_and(|type_| type_ == "Bearer")).then_some(()))
    };
    eventually(limit, healed).await?.ok_or("edits must be healed")?;
    assert!(story.key("healed-token", "expires_at")?.ends_with('Z'));
    assert_eq!(story.key("healed-token", "access_token")?, first);
    assert_eq!(provider.token_requests(&client).await?, (1, 0));

    // So is an owner that was taken away.
    kubectl.run(&[
        "patch",
        "secret",
        "healed-token",
        "--type=json",
        "-p",
        r#"[{"op": "remove", "path": "/metadata/ownerReferences"}]"#,
    ])?;
    let owned = || -> Result<Option<()>> {
        let owners = story.read_secret("healed-token")?.ok_or("gone")?.metadata.owner_references;
        Ok(owners.filter(|owners| !owners.is_empty()).map(drop))
    };
    eventually(limit, owned).await?.ok_or("the ownerReference must be put back")?;
    assert_eq!(provider.token_requests(&client).await?, (1, 0));

    // Keys that somebody adds are theirs.
    kubectl.run(&["patch", "secret", "healed-token", "--type=merge", "-p", r#"{"data": {"extra": "eA=="}}"#])?;

    // A forged token is replaced by a new one.
    kubectl.run(&["patch", "secret", "healed-token", "--type=merge", "-p", r#"{"data": {"access_token": "Zm9yZ2Vk"}}"#])?;
    story.until_generation("healed", 2).await?;
    let second = story.key("healed-token", "access_token")?;
    assert!(second != "forged" && second != first);
    assert_eq!(story.key("healed-token", "extra")?, "x");

    kubectl.run(&["delete", "secret", "healed-token"])?;
    story.until_generation("healed", 3).await?;
    let said = provider.introspect(&client, &story.key("healed-token", "access_token")?).await?;
    assert_eq!(said["active"], json!(true));

    // What cannot be changed in place is deleted and made anew.
    kubectl.run(&["patch", "secret", "healed-token", "--type=merge", "-p", r#"{"immutable": true}"#])?;
    story.until_generation("healed", 4).await?;
    assert_ne!(story.read_secret("healed-token")?.ok_or("gone")?.immutable, Some(true));
    story.until_ready("healed").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_done_while_no_operator_runs_is_healed_at_its_start() -> Result<()> {
    let (story, provider) = story("damage").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for name in ["kept", "forged", "deleted"] {
        story.account(name, &issuer(provider), &client, &json!({}))?;
        story.until_ready(name).await?;
    }
    operator.process.signal(rustix::process::Signal::TERM);
    assert!(operator.process.end_within(Duration::from_secs(10)).await.is_some_and(|status| status.success()), "an orderly end");
    story.kubectl().run(&[
        "patch",
        "secret",
        "forged-token",
        "--type=merge",
        "-p",
        r#"{"data": {"access_token": "Zm9yZ2Vk"}}"#,
    ])?;
    story.kubectl().run(&["delete", "secret", "deleted-token"])?;
    let kept = story.read_secret("kept-token")?;
    let reads = || -> Result<usize> {
        Ok(story.requests_by_operator()?.iter().filter(|request| *request == "get secrets kept-token").count())
    };
    let reads_before = reads()?;
    assert!(reads_before > 0, "reads are audited");
    let _operator = story.operator("operator-2").await?;
    story.until_generation("forged", 2).await?;
    story.until_generation("deleted", 2).await?;
    assert_eq!(story.read_secret("kept-token")?, kept, "what is whole is left alone");
    assert_eq!(reads()?, reads_before, "and not even read");
    assert_eq!(provider.token_requests(&client).await?, (5, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_follows_its_name_and_its_labels_and_goes_with_its_account() -> Result<()> {
    let (story, provider) = story("rename").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account(
        "moving",
        &issuer(provider),
        &client,
        &json!({"tokenSecret": {"labels": {"team": "a"}, "annotations": {"note": "hello"}}}),
    )?;
    story.until_ready("moving").await?;
    let secret = story.read_secret("moving-token")?.ok_or("no Secret")?;
    assert_eq!(secret.metadata.labels.unwrap_or_default()["team"], "a");
    assert_eq!(secret.metadata.annotations.unwrap_or_default()["note"], "hello");
    let patch =
        |patch: Value| story.kubectl().run(&["patch", "oauthaccount", "moving", "--type=merge", "-p", &patch.to_string()]);
    let limit = Duration::from_secs(15);

    patch(json!({"spec": {"tokenSecret": {"labels": null}}}))?;
    let unlabelled = || -> Result<Option<()>> {
        let labels = story.read_secret("moving-token")?.ok_or("gone")?.metadata.labels.unwrap_or_default();
        Ok((!labels.contains_key("team")).then_some(()))
    };
    eventually(limit, unlabelled).await?.ok_or("a label taken out of the spec must go")?;
    assert_eq!(provider.token_requests(&client).await?, (1, 0));

    patch(json!({"spec": {"tokenSecret": {"name": "elsewhere"}}}))?;
    let moved = || -> Result<Option<()>> {
        Ok((story.read_secret("elsewhere")?.is_some() && story.read_secret("moving-token")?.is_none()).then_some(()))
    };
    eventually(limit, moved).await?.ok_or("the old Secret must be pruned once the new one is there")?;
    assert_eq!(story.get("moving")?.status.and_then(|status| status.token_secret_name).as_deref(), Some("elsewhere"));

    story.kubectl().run(&["delete", "oauthaccount", "moving", "--timeout=10s"])?;
    let collected = || -> Result<Option<()>> { Ok(story.read_secret("elsewhere")?.is_none().then_some(())) };
    eventually(Duration::from_secs(60), collected).await?.ok_or("the Secret must go with its account")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_somebody_else_is_refused_and_left_as_it_is() -> Result<()> {
    let (story, provider) = story("conflict").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.secret("precious", &[("password", "mine")])?;
    let precious = story.read_secret("precious")?;
    story.account("greedy", &issuer(provider), &client, &json!({"tokenSecret": {"name": "precious"}}))?;
    let message = story.until("greedy", "SecretConflict", "True", "SecretConflict").await?;
    assert!(message.contains("precious") && message.contains("was not made by the operator"), "{message}");
    story.until("greedy", "Ready", "False", "SecretConflict").await?;
    story.until("greedy", "Stalled", "True", "SecretConflict").await?;
    assert_eq!(story.read_secret("precious")?, precious);
    assert_eq!(provider.token_requests(&client).await?, (0, 0), "nothing is asked for that cannot be published");

    // Labels that claim it for the account change nothing.
    let uid = story.get("greedy")?.metadata.uid.unwrap_or_default();
    story.kubectl().run(&[
        "label",
        "secret",
        "precious",
        &format!("oauth-operator.dev/account-uid={uid}"),
        "app.kubernetes.io/managed-by=oauth-operator",
    ])?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(story.key("precious", "password")?, "mine");

    // Two accounts, one name: the first has it.
    story.account("first", &issuer(provider), &client, &json!({"tokenSecret": {"name": "shared"}}))?;
    story.until_ready("first").await?;
    story.account("second", &issuer(provider), &client, &json!({"tokenSecret": {"name": "shared"}}))?;
    let message = story.until("second", "SecretConflict", "True", "SecretConflict").await?;
    assert!(message.contains("OAuthAccount first"), "{message}");

    // The way is free as soon as the Secret is gone.
    story.kubectl().run(&["delete", "secret", "precious"])?;
    story.until_ready("greedy").await?;
    assert_eq!(story.condition("greedy", "SecretConflict")?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_its_accounts_also_when_the_operator_is_gone() -> Result<()> {
    let (story, provider) = story("leaving").await?;
    let operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("one", &issuer(provider), &client, &json!({}))?;
    story.until_ready("one").await?;
    operator.process.signal(rustix::process::Signal::TERM);
    assert!(operator.process.end_within(Duration::from_secs(10)).await.is_some());
    story.cluster.kubectl().run(&["delete", "namespace", &story.apps, "--timeout=60s"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_replaced_by_one_of_its_name_waits_for_its_predecessors_secret() -> Result<()> {
    let (story, provider) = story("replaced").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("again", &issuer(provider), &client, &json!({}))?;
    story.until_ready("again").await?;
    let first = story.get("again")?.metadata.uid;
    story.kubectl().run(&["delete", "oauthaccount", "again"])?;
    story.account("again", &issuer(provider), &client, &json!({}))?;
    assert_ne!(story.get("again")?.metadata.uid, first);
    let own = || -> Result<Option<()>> {
        assert_eq!(story.condition("again", "SecretConflict")?, None, "our own predecessor is no stranger");
        let owners = story.read_secret("again-token")?.and_then(|secret| secret.metadata.owner_references);
        let uid = story.get("again")?.metadata.uid;
        Ok(owners.filter(|owners| Some(&owners[0].uid) == uid.as_ref()).map(drop))
    };
    eventually(Duration::from_secs(60), own).await?.ok_or("the new account must have a Secret of its own")?;
    story.until_ready("again").await
}

#[tokio::test(flavor = "multi_thread")]
async fn further_keys_are_made_of_the_token_as_apps_want_them() -> Result<()> {
    let (story, provider) = story("templates").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let data = json!({
        "header": "Bearer ${token.accessToken}",
        ".npmrc": "//registry.example.com/:_authToken=${token.accessToken}\n# ${account.namespace}/${account.name} ${token.scope}",
    });
    story.account("app", &issuer(provider), &client, &json!({"scopes": ["read"], "tokenSecret": {"data": data}}))?;
    story.until_ready("app").await?;
    let token = story.key("app-token", "access_token")?;
    assert_eq!(story.key("app-token", "header")?, format!("Bearer {token}"));
    let npmrc = format!("//registry.example.com/:_authToken={token}\n# {}/app read", story.apps);
    assert_eq!(story.key("app-token", ".npmrc")?, npmrc);
    // A key that is no longer asked for goes, and no token is asked for because of it.
    story.account_alone(
        "app",
        &issuer(provider),
        &client,
        &json!({"scopes": ["read"], "tokenSecret": {"data": {"other": "x"}}}),
    )?;
    let changed = || Ok(story.key("app-token", "other").is_ok().then_some(()));
    eventually(Duration::from_secs(10), changed).await?.ok_or("the new key is not there")?;
    assert!(story.key("app-token", "header").is_err());
    assert_eq!(provider.token_requests(&client).await?, (1, 0));

    let auth = r#"{"auths":{"ghcr.io":{"auth":"${base64.encode(bytes('bot:' + token.accessToken))}"}}}"#;
    let docker = json!({"tokenSecret": {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": auth}}});
    story.account("images", &issuer(provider), &client, &docker)?;
    story.until_ready("images").await?;
    let secret = story.read_secret("images-token")?.ok_or("no Secret")?;
    assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
    let config: serde_json::Value = serde_json::from_str(&story.key("images-token", ".dockerconfigjson")?)?;
    let text = config["auths"]["ghcr.io"]["auth"].as_str().ok_or("no auth")?;
    use base64::Engine;
    let decoded = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(text)?)?;
    assert_eq!(decoded, format!("bot:{}", story.key("images-token", "access_token")?));
    // Another type is another Secret.
    let basic = json!({"tokenSecret": {"type": "kubernetes.io/basic-auth", "data": {"username": "bot", "password": "${token.accessToken}"}}});
    story.account_alone("images", &issuer(provider), &client, &basic)?;
    let changed =
        || Ok(story.read_secret("images-token")?.filter(|secret| secret.type_.as_deref() == Some("kubernetes.io/basic-auth")));
    eventually(Duration::from_secs(10), changed).await?.ok_or("the type is not changed")?;
    assert!(!story.key("images-token", "password")?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_to_stay_stays_and_is_taken_up_again() -> Result<()> {
    let (story, provider) = story("retain").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for (name, policy) in [("orphaned", json!({"creationPolicy": "Orphan"})), ("retained", json!({"deletionPolicy": "Retain"}))] {
        let spec = json!({"tokenSecret": policy});
        story.account(name, &issuer(provider), &client, &spec)?;
        story.until_ready(name).await?;
        let secret = format!("{name}-token");
        assert_eq!(story.read_secret(&secret)?.ok_or("no Secret")?.metadata.owner_references, None);
        // Healed like any other.
        story.kubectl().run(&["patch", "secret", &secret, "--type=merge", "-p", r#"{"stringData":{"expires_at":"never"}}"#])?;
        let healed = || Ok((story.key(&secret, "expires_at")? != "never").then_some(()));
        eventually(Duration::from_secs(10), healed).await?.ok_or("not healed")?;
        let token = story.key(&secret, "access_token")?;
        story.kubectl().run(&["delete", "oauthaccount", name])?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(story.key(&secret, "access_token")?, token, "it stays");
        story.account_alone(name, &issuer(provider), &client, &spec)?;
        story.until_ready(name).await?;
        assert_eq!(story.key(&secret, "access_token")?, token, "and is taken up by the next account of that name");
    }
    assert_eq!(provider.token_requests(&client).await?, (2, 0));
    // Taken back into ownership, it goes with the account.
    story.account_alone("retained", &issuer(provider), &client, &json!({}))?;
    let owned = || Ok(story.read_secret("retained-token")?.and_then(|secret| secret.metadata.owner_references));
    eventually(Duration::from_secs(10), owned).await?.ok_or("no owner")?;
    story.kubectl().run(&["delete", "oauthaccount", "retained"])?;
    let gone = || Ok(story.read_secret("retained-token")?.is_none().then_some(()));
    eventually(Duration::from_secs(30), gone).await?.ok_or("not collected")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_merged_into_a_secret_that_permits_it_and_its_own_are_left() -> Result<()> {
    let (story, provider) = story("merge").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let spec =
        json!({"tokenSecret": {"name": "app", "creationPolicy": "Merge", "data": {"header": "Bearer ${token.accessToken}"}}});
    story.account("merging", &issuer(provider), &client, &spec)?;
    let message = story.until("merging", "SecretConflict", "True", "SecretConflict").await?;
    assert!(message.contains("Secret app does not exist, and creationPolicy Merge makes none."), "{message}");
    story.secret("app", &[("password", "its own")])?;
    story.kubectl().run(&["label", "secret", "app", "app.kubernetes.io/managed-by=Helm"])?;
    let refused = || {
        let told = story.condition("merging", "SecretConflict")?;
        Ok(told.filter(|(_, _, message)| message.contains("does not permit this account to merge its keys into it")))
    };
    eventually(Duration::from_secs(10), refused).await?.ok_or("not told what is missing")?;
    assert_eq!(provider.token_requests(&client).await?, (0, 0), "nothing is asked for that cannot be published");
    story.kubectl().run(&["annotate", "secret", "app", "oauth-operator.dev/merge-from=merging"])?;
    story.until_ready("merging").await?;
    assert_eq!(story.key("app", "header")?, format!("Bearer {}", story.key("app", "access_token")?));
    assert_eq!(story.key("app", "password")?, "its own");
    let labels = story.read_secret("app")?.ok_or("no Secret")?.metadata.labels.unwrap_or_default();
    assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm", "its own tools still know it");
    story.kubectl().run(&["delete", "oauthaccount", "merging"])?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(story.key("app", "password")?, "its own", "a Secret that is not ours outlives us");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_restarted_for_a_new_token_where_the_operator_may() -> Result<()> {
    let (story, provider) = story("restart").await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "legacy-app"},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "legacy"}}, "template": {
            "metadata": {"labels": {"app": "legacy"}}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}}
    });
    story.kubectl().apply(&deployment.to_string())?;
    let targets = json!({"restartTargets": [{"kind": "Deployment", "name": "legacy-app"}], "restartIntervalSeconds": 60});
    story.account("app", &issuer(provider), &client, &targets)?;
    story.until_ready("app").await?;
    let refresh = |second: u8| -> Result<()> {
        let annotation = format!("oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:0{second}Z");
        story.kubectl().run(&["annotate", "--overwrite", "oauthaccount", "app", &annotation]).map(drop)
    };
    let restarted = || -> Result<Option<String>> {
        let path = r"jsonpath={.spec.template.metadata.annotations.restart\.oauth-operator\.dev/app}";
        Ok(Some(story.kubectl().run(&["get", "deployment", "legacy-app", "-o", path])?).filter(|value| !value.is_empty()))
    };
    assert_eq!(restarted()?, None, "the first token is there when it starts");
    refresh(1)?;
    let told = || Ok(story.get("app")?.status.and_then(|status| status.restart).and_then(|restart| restart.message));
    let message = eventually(Duration::from_secs(10), told).await?.ok_or("without the right to it, that is not told")?;
    assert!(message.contains("Deployment legacy-app") && message.contains("forbidden"), "{message}");
    assert_eq!(story.condition("app", "Ready")?.ok_or("no Ready")?.0, "True");

    let text = std::fs::read_to_string(crate::testbed::root().join("deploy/restart-targets.yaml"))?;
    let mut objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text)?;
    objects[0]["kind"] = json!("Role");
    objects[1]["kind"] = json!("RoleBinding");
    objects[1]["roleRef"]["kind"] = json!("Role");
    objects[1]["subjects"][0]["namespace"] = json!(story.system);
    objects.iter_mut().for_each(|object| object["metadata"]["namespace"] = json!(story.apps));
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    // An account whose first restart is to come.
    let other = json!({"restartTargets": [{"kind": "Deployment", "name": "legacy-app"}], "restartIntervalSeconds": 60});
    story.account("second", &issuer(provider), &client, &other)?;
    story.until_ready("second").await?;
    story.kubectl().run(&[
        "annotate",
        "oauthaccount",
        "second",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z",
    ])?;
    let path = r"jsonpath={.spec.template.metadata.annotations.restart\.oauth-operator\.dev/second}";
    let rolled =
        || Ok((story.kubectl().run(&["get", "deployment", "legacy-app", "-o", path])?.starts_with("token 2 ")).then_some(()));
    eventually(Duration::from_secs(10), rolled).await?.ok_or("not restarted")?;
    let sets = || Ok((story.kubectl().run(&["get", "replicasets", "-o", "name"])?.lines().count() == 2).then_some(()));
    eventually(Duration::from_secs(20), sets).await?.ok_or("the Deployment did not roll")?;
    // The interval keeps the next token from restarting it at once.
    story.kubectl().run(&[
        "annotate",
        "--overwrite",
        "oauthaccount",
        "second",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:02Z",
    ])?;
    story.until_generation("second", 3).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(story.kubectl().run(&["get", "deployment", "legacy-app", "-o", path])?.starts_with("token 2 "));
    Ok(())
}
