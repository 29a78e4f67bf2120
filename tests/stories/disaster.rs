//! A cluster is lost, and what was backed up comes into an empty one: accounts, seeds, records of logins and the keyring that these are
//! encrypted with. What is newest goes on, what is not says so, and nothing is redeemed twice.

use super::encryption::{key, write_keyring};
use super::login::{each_once, refresh};
use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::cluster::Cluster;
use crate::testbed::operator::Operator;
use crate::testbed::story::{Reach, Story, eventually};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

const NAME: &str = "disaster";
const SOON: Duration = Duration::from_secs(60);
/// Seconds that tokens live which are to be renewed here: half of it goes by before that, in which the first cluster is backed up.
const BRIEF: u32 = 90;

/// What `docs/operations.md` says is to be backed up, without what belongs to the cluster.
struct Backup {
    apps: String,
    records: String,
}

fn without_identity(list: &str) -> Result<String> {
    let mut list: Value = serde_json::from_str(list)?;
    for item in list["items"].as_array_mut().ok_or("no items")? {
        for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "ownerReferences"] {
            item["metadata"].as_object_mut().ok_or("no metadata")?.remove(field);
        }
    }
    Ok(list.to_string())
}

fn back_up(story: &Story<'_>) -> Result<Backup> {
    let apps = story.kubectl().run(&["get", "configmaps,secrets,oauthaccounts", "-o", "json"])?;
    // Token Secrets and the bundle are made again.
    let mut apps: Value = serde_json::from_str(&without_identity(&apps)?)?;
    let made = |item: &Value| {
        let metadata = &item["metadata"];
        metadata["labels"]["app.kubernetes.io/managed-by"] == json!("oauth-operator")
            || metadata["name"] == json!("kube-root-ca.crt")
    };
    apps["items"].as_array_mut().ok_or("no items")?.retain(|item| !made(item));
    let system = story.cluster.kubectl().namespaced(&story.system);
    let records = system.run(&["get", "secrets", "-l", "app.kubernetes.io/component=login-state", "-o", "json"])?;
    Ok(Backup { apps: apps.to_string(), records: without_identity(&records)? })
}

async fn operator(story: &Story<'_>, keyring: &Path) -> Result<Operator> {
    let keyring = keyring.display().to_string();
    story.operator_with("operator-1", &["--allowed-cidrs", "127.0.0.0/8", "--state-keyring", &keyring]).await
}

async fn login(story: &Story<'_>, provider: &AuthorizationServer, name: &str, seconds: u32, patch: Value) -> Result<Client> {
    let (client, refresh_token) = provider.log_in(seconds, "alice").await?;
    story.login(name, &issuer(provider), &client, &refresh_token, &patch)?;
    story.until_ready(name).await?;
    Ok(client)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_works_in_an_empty_cluster_or_says_why_not() -> Result<()> {
    let (before, provider) = story(NAME).await?;
    let keyring = before.folder.join("keyring.yaml");
    write_keyring(&keyring, &[&key("first")], "")?;
    let running = operator(&before, &keyring).await?;
    let machine = provider.register(3600, "client_secret_basic").await?;
    before.account("machine", &issuer(provider), &machine, &json!({}))?;
    let lasting = login(&before, provider, "lasting", 3600, json!({})).await?;
    let newest = login(&before, provider, "newest", BRIEF, json!({})).await?;
    let stale = login(&before, provider, "stale", BRIEF, json!({})).await?;
    before.until_ready("machine").await?;
    let token = before.key("lasting-token", "access_token")?;

    // The backup is taken; one login goes on before the cluster is lost.
    let backup = back_up(&before)?;
    assert!(!backup.records.contains("refreshToken"), "records are encrypted");
    refresh(&before, "stale", "2026-01-01T00:00:01Z")?;
    before.until_generation("stale", 2).await?;
    assert_eq!(each_once(provider, &stale).await?, 2);
    drop(running);

    let cluster = Cluster::start("restored").await?;
    let after = Story::begin(&cluster, NAME, Reach::Tenant).await?;
    let system = cluster.kubectl().namespaced(&after.system);
    system.feed(&["create", "-f", "-"], &backup.records)?;
    after.kubectl().feed(&["create", "-f", "-"], &backup.apps)?;
    assert!(after.get("stale")?.status.is_none_or(|status| status.login.is_none()), "status is in no backup");
    let running = operator(&after, &keyring).await?;

    // What needs nobody's login is obtained anew; what still lives in a record is published as it is.
    for name in ["machine", "lasting"] {
        after.until_ready(name).await?;
    }
    assert_eq!(after.key("lasting-token", "access_token")?, token);
    assert_eq!(each_once(provider, &lasting).await?, 1, "no refresh was due");

    // A refresh that is due, and nobody knows whether it is the first with this refresh token: it is not made, and that is said.
    for name in ["newest", "stale"] {
        let said = || Ok(after.condition(name, "StateRolledBack")?.filter(|(status, ..)| status == "True"));
        let (_, _, message) = eventually(Duration::from_secs(120), said).await?.ok_or_else(|| format!("{name}: not said"))?;
        assert!(message.contains("restored from a copy") && message.contains("refresh-requested-at"), "{message}");
    }
    assert_eq!((each_once(provider, &newest).await?, each_once(provider, &stale).await?), (1, 2), "nothing is redeemed twice");

    // Of one a person knows that nothing came after it.
    refresh(&after, "newest", "2026-01-01T00:00:02Z")?;
    after.until_generation("newest", 2).await?;
    assert_eq!(each_once(provider, &newest).await?, 2);
    let cleared = || Ok(after.condition("newest", "StateRolledBack")?.is_none_or(|(status, ..)| status == "False").then_some(()));
    eventually(SOON, cleared).await?.ok_or("the condition stays")?;
    // The other one needs a new login.
    let fresh = provider.log_in_again(&stale, "alice").await?;
    after.secret("stale-seed", &[("refresh_token", &fresh)])?;
    let cleared = || Ok(after.condition("stale", "StateRolledBack")?.is_none_or(|(status, ..)| status == "False").then_some(()));
    eventually(SOON, cleared).await?.ok_or("a new login does not clear the condition")?;
    assert_eq!(each_once(provider, &stale).await?, 3);
    drop(running);
    Ok(())
}

/// Somebody deletes the definition of the kind, and with it all accounts, and notices.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_whose_kind_was_gone_for_a_while_find_their_logins() -> Result<()> {
    const GRACE: Duration = Duration::from_secs(6);
    let (provider, cluster) = (super::provider().await?, Cluster::start("kindless").await?);
    let story = Story::begin(&cluster, "kindless", Reach::Tenant).await?;
    story.ca("provider-ca", &provider.ca)?;
    let grace = GRACE.as_secs().to_string();
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--orphan-grace-seconds", &grace];
    let _operator = story.operator_with("operator-1", &flags).await?;
    let client = login(&story, provider, "login", 3600, json!({})).await?;
    let token = story.key("login-token", "access_token")?;
    let accounts = without_identity(&story.kubectl().run(&["get", "oauthaccounts", "-o", "json"])?)?;
    cluster.kubectl().run(&["delete", "crd", "oauthaccounts.oauth-operator.dev"])?;
    tokio::time::sleep(2 * GRACE).await;
    assert!(story.state("login")?.is_some(), "a kind that is not there says nothing of its objects");
    cluster.define_kinds()?;
    // They come later than their kind, and are looked for meanwhile.
    tokio::time::sleep(GRACE / 2).await;
    story.kubectl().feed(&["create", "-f", "-"], &accounts)?;
    // Within the ten seconds after which a watch is begun again at the latest, and once more for a version that is too old.
    let ready = || Ok(story.condition("login", "Ready")?.filter(|(status, ..)| status == "True"));
    eventually(SOON, ready).await?.ok_or("the account does not find its login")?;
    // Another account of the name, which the same seed entitles to what its predecessor left.
    assert_ne!(story.key("login-token", "access_token")?, token);
    assert_eq!(each_once(provider, &client).await?, 2);
    Ok(())
}
