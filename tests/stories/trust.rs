//! What happens when a namespace is hostile.

mod rebinding;

use super::{cluster, issuer, provider, story};
use crate::testbed::Result;
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::kubectl::Kubectl;
use crate::testbed::operator::Operator;
use crate::testbed::process::Process;
use crate::testbed::proxy::Proxy;
use crate::testbed::story::{Reach, Story, eventually};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use serde_json::json;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn without_leave_nothing_inside_is_asked_by_whatever_name() -> Result<()> {
    let (story, provider) = story("inside").await?;
    let _operator = story.operator_with("operator-1", &[]).await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let port = provider.issuer.rsplit(':').next().unwrap_or_default();
    for (name, host) in [
        ("literal", "127.0.0.1"),
        ("name", "localhost"),
        ("mapped", "[::ffff:127.0.0.1]"),
        ("decimal", "2130706433"),
        ("metadata", "169.254.169.254"),
        ("cluster", "10.0.0.1"),
        ("v6", "[::1]"),
    ] {
        let provider =
            json!({"custom": {"tokenURL": format!("https://{host}:{port}/token")}, "caBundleRef": {"name": "provider-ca"}});
        story.account(name, &provider, &client, &json!({}))?;
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        assert!(message.contains("its address is not a public one"), "{name}: {message}");
        assert!(message.contains("--allowed-cidrs"), "{name}: {message}");
    }
    story.account("discovered", &issuer(provider), &client, &json!({}))?;
    story.until("discovered", "Stalled", "True", "Configuration").await?;
    assert_eq!(provider.token_requests(&client).await?, (0, 0));
    // What may be spent goes another way, on which names are resolved apart.
    for (name, host) in [("spent-literal", "127.0.0.1"), ("spent-name", "localhost"), ("spent-mapped", "[::ffff:127.0.0.1]")] {
        let (client, refresh_token) = provider.log_in(3600, "alice").await?;
        let provider_there =
            json!({"custom": {"tokenURL": format!("https://{host}:{port}/token")}, "caBundleRef": {"name": "provider-ca"}});
        story.login(name, &provider_there, &client, &refresh_token, &json!({}))?;
        let message = story.until(name, "Stalled", "True", "Configuration").await?;
        assert!(message.contains("its address is not a public one"), "{name}: {message}");
        assert!(provider.redemptions(&client).await?.is_empty(), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_that_names_its_hosts_goes_nowhere_else() -> Result<()> {
    let (story, provider) = story("hosts").await?;
    let _operator = story.operator("operator-1").await?;
    let thief = story.faulty_endpoint().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let host = provider.issuer.trim_start_matches("https://");
    story.secret("guarded", &[("client_secret", &client.secret)])?;
    story.kubectl().run(&[
        "annotate",
        "secret",
        "guarded",
        &format!("oauth-operator.dev/token-hosts=login.example.com, {host}"),
    ])?;
    let guarded = json!({"client": {"secretRef": {"name": "guarded"}}});
    story.account_alone("honest", &issuer(provider), &client, &guarded)?;
    story.until_ready("honest").await?;
    let stolen = thief.at("/lifetime/3600");
    story.account_alone("thief", &stolen, &client, &guarded)?;
    let message = story.until("thief", "Stalled", "True", "Configuration").await?;
    assert!(
        message.contains("Secret guarded does not permit its keys to be sent to") && message.contains(&thief.authority),
        "{message}"
    );
    assert_eq!(thief.requests("/lifetime/3600"), 0, "not a byte reached the thief");
    // The honest provider's own name, and one knob of it turned to the thief; for what is spent once and for what is not.
    let mut turned = issuer(provider);
    turned["overrides"] = json!({"tokenURL": stolen["custom"]["tokenURL"]});
    story.account_alone("turned", &turned, &client, &guarded)?;
    let (login, refresh_token) = provider.log_in(3600, "alice").await?;
    story.login("turned-login", &turned, &login, &refresh_token, &json!({}))?;
    let hosts = format!("oauth-operator.dev/token-hosts={host}");
    story.kubectl().run(&["annotate", "secret", "turned-login-seed", &hosts])?;
    for name in ["turned", "turned-login"] {
        story.until(name, "Stalled", "True", "Configuration").await.map_err(|error| format!("{name}: {error}"))?;
    }
    assert_eq!(thief.requests("/lifetime/3600"), 0, "not a byte reached the thief");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_hosts_are_required_a_seed_without_them_goes_nowhere() -> Result<()> {
    let (story, provider) = story("required").await?;
    let _operator = story.operator_with("operator-1", &["--allowed-cidrs", "127.0.0.0/8", "--require-token-hosts"]).await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("bare", &issuer(provider), &client, &json!({}))?;
    let message = story.until("bare", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("oauth-operator.dev/token-hosts"), "{message}");
    assert_eq!(provider.token_requests(&client).await?, (0, 0));
    let host = provider.issuer.trim_start_matches("https://");
    story.kubectl().run(&["annotate", "secret", "bare-client", &format!("oauth-operator.dev/token-hosts={host}")])?;
    story.until_ready("bare").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_may_do_what_it_must_and_nothing_else() -> Result<()> {
    let (story, _) = story("rights").await?;
    let user = format!("system:serviceaccount:{}:oauth-operator", story.system);
    let may =
        |verb: &str, resource: &str, namespace: &str| can(&story.cluster.kubectl().namespaced(namespace), &user, verb, resource);
    let (apps, system) = (story.apps.as_str(), story.system.as_str());
    for (verb, resource, namespace) in [
        ("watch", "oauthaccounts.oauth-operator.dev", apps),
        ("patch", "oauthaccounts.oauth-operator.dev#status", apps),
        ("create", "secrets", apps),
        ("delete", "secrets", apps),
        ("get", "pods", apps),
        ("create", "localsubjectaccessreviews.authorization.k8s.io", apps),
        ("create", "configmaps", apps),
        ("update", "configmaps/oauth-operator-ca", apps),
        ("get", "secrets", system),
        ("update", "secrets", system),
        ("create", "leases.coordination.k8s.io", system),
        ("update", "leases.coordination.k8s.io/oauth-operator", system),
    ] {
        assert!(may(verb, resource, namespace), "must: {verb} {resource} in {namespace}");
    }
    for (verb, resource, namespace) in [
        ("update", "oauthaccounts.oauth-operator.dev", apps),
        ("patch", "oauthaccounts.oauth-operator.dev", apps),
        ("delete", "oauthaccounts.oauth-operator.dev", apps),
        ("deletecollection", "secrets", apps),
        ("get", "secrets", "kube-system"),
        ("get", "secrets", "default"),
        ("patch", "secrets", system),
        ("deletecollection", "secrets", system),
        ("create", "pods", apps),
        ("list", "pods", apps),
        ("get", "pods", system),
        ("update", "configmaps/other", apps),
        ("delete", "configmaps/oauth-operator-ca", apps),
        ("create", "subjectaccessreviews.authorization.k8s.io", apps),
        ("create", "serviceaccounts#token", apps),
        ("update", "leases.coordination.k8s.io/other", system),
        ("get", "nodes", apps),
        ("create", "rolebindings.rbac.authorization.k8s.io", apps),
    ] {
        assert!(!may(verb, resource, namespace), "must not: {verb} {resource} in {namespace}");
    }
    Ok(())
}

/// Whether a user may; a resource is written `resource`, `resource#subresource` or `resource/name`.
fn can(kubectl: &Kubectl, user: &str, verb: &str, resource: &str) -> bool {
    let (resource, subresource) = resource.split_once('#').unwrap_or((resource, ""));
    let subresource = format!("--subresource={subresource}");
    let answer = kubectl.output(&["auth", "can-i", verb, resource, &subresource, "--as", user], "").expect("kubectl runs");
    match String::from_utf8_lossy(&answer.stdout).trim() {
        "yes" => true,
        // A reason may follow.
        text if text.starts_with("no") => false,
        text => panic!("can-i {verb} {resource}: {text:?} {}", String::from_utf8_lossy(&answer.stderr)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_who_may_view_or_edit_a_namespace_may_view_or_edit_its_accounts() -> Result<()> {
    let story = Story::begin(cluster().await?, "people", Reach::All).await?;
    let kubectl = story.kubectl();
    for role in ["view", "edit"] {
        kubectl.run(&["create", "rolebinding", role, &format!("--clusterrole={role}"), &format!("--user={role}er")])?;
    }
    let may = |user: &str, verb: &str, resource: &str| can(&kubectl, user, verb, resource);
    let mut aggregated = false;
    for _ in 0..100 {
        aggregated = may("viewer", "get", "oauthaccounts") && may("editer", "create", "oauthaccounts");
        if aggregated {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(aggregated, "the roles are aggregated");
    assert!(!may("viewer", "create", "oauthaccounts") && !may("viewer", "get", "secrets"));
    assert!(!may("editer", "patch", "oauthaccounts#status"), "status is the operator's word");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_told_to_watch_one_namespace_serves_no_other() -> Result<()> {
    let (provider, cluster) = (provider().await?, cluster().await?);
    let story = Story::begin(cluster, "scope", Reach::Tenant).await?;
    let other = Story::begin(cluster, "other-scope", Reach::Tenant).await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for story in [&other, &story] {
        story.ca("provider-ca", &provider.ca)?;
        story.account("one", &issuer(provider), &client, &json!({}))?;
    }
    story.until_ready("one").await?;
    assert_eq!(
        other.condition("one", "Ready")?.map(|(status, reason, _)| (status, reason)),
        Some(("Unknown".into(), "Pending".into()))
    );
    assert_eq!(other.read_secret("one-token")?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_told_to_watch_two_namespaces_serves_both() -> Result<()> {
    let (provider, cluster) = (provider().await?, cluster().await?);
    let story = Story::begin(cluster, "two-scopes", Reach::Tenant).await?;
    let other = Story::begin(cluster, "two-scopes-other", Reach::Tenant).await?;
    let subject = format!("--serviceaccount={}:oauth-operator", story.system);
    other.kubectl().run(&["create", "rolebinding", "both", "--role=oauth-operator", &subject])?;
    let folder = crate::testbed::process::folder("two-scopes")?;
    let both = format!("{},{}", story.apps, other.apps);
    let flags = ["--namespace", &story.system, "--watch-namespaces", &both, "--allowed-cidrs", "127.0.0.0/8"];
    let _operator =
        Operator::start(&crate::testbed::operator::executable(), &folder, "operator-1", &story.kubeconfig, &flags).await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for story in [&other, &story] {
        story.ca("provider-ca", &provider.ca)?;
        story.account("one", &issuer(provider), &client, &json!({}))?;
        story.until_ready("one").await?;
    }
    Ok(())
}

/// What users apply, as it is: rights, Pod Security and all.
#[tokio::test(flavor = "multi_thread")]
async fn the_plain_manifests_apply_and_their_pods_meet_the_restricted_standard() -> Result<()> {
    let cluster = crate::testbed::cluster::Cluster::start("manifests").await?;
    let kubectl = cluster.kubectl();
    let folder = |name: &str| crate::testbed::root().join(name).display().to_string();
    let said = kubectl.run(&["apply", "-f", &folder("crds"), "-f", &folder("deploy/operator.yaml")])?;
    assert!(said.contains("deployment.apps/oauth-operator created"), "{said}");
    let namespaced = kubectl.namespaced("oauth-operator-system");
    let two = || Ok((namespaced.run(&["get", "pods", "-o", "name"])?.lines().count() == 2).then_some(()));
    let made = eventually(Duration::from_secs(60), two).await?;
    let events = namespaced.run(&["get", "events"])?;
    assert!(made.is_some(), "the ReplicaSet must be let make its Pods: {events}");
    assert!(!events.contains("violates PodSecurity"), "{events}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_for_all_namespaces_serves_each_and_keeps_references_inside() -> Result<()> {
    // A cluster of its own: it serves the accounts of all stories.
    let cluster = crate::testbed::cluster::Cluster::start("all-namespaces").await?;
    let provider: &AuthorizationServer = provider().await?;
    let story = Story::begin(&cluster, "all", Reach::All).await?;
    let other = Story::begin(&cluster, "all-other", Reach::All).await?;
    let _operator = story.operator("operator-1").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    for story in [&other, &story] {
        story.ca("provider-ca", &provider.ca)?;
        story.account("one", &issuer(provider), &client, &json!({}))?;
    }
    story.until_ready("one").await?;
    other.until_ready("one").await?;
    // The same names in another namespace are other objects.
    story.account_alone("borrower", &issuer(provider), &client, &json!({"client": {"secretRef": {"name": "lender-client"}}}))?;
    other.secret("lender-client", &[("client_secret", &client.secret)])?;
    let message = story.until("borrower", "Ready", "False", "Configuration").await?;
    assert!(message.contains("does not exist in namespace all-apps"), "{message}");
    Ok(())
}

/// Every secret that was minted, sought in everything that was written.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_to_anybody() -> Result<()> {
    let (story, provider) = story("canary").await?;
    let operator = story.operator("operator-1").await?;
    let endpoint = story.faulty_endpoint().await?;
    let good = provider.register(6, "client_secret_basic").await?;
    let echoed = Client { id: "echo-client".into(), secret: "canary secret/with+odd&characters".into() };
    story.account("good", &issuer(provider), &good, &json!({}))?;
    let custom = endpoint.at("/echo");
    story.account("echo", &custom, &echoed, &json!({}))?;
    story.account("echo-post", &custom, &echoed, &json!({"client": {"authMethod": "ClientSecretPost"}}))?;
    let wrong = Client { secret: "canary-wrong-secret-0123456789".into(), ..good.clone() };
    story.account("wrong", &issuer(provider), &wrong, &json!({}))?;
    story.until_ready("good").await?;
    let (login, seed) = provider.log_in(6, "alice").await?;
    story.login("login", &issuer(provider), &login, &seed, &json!({}))?;
    story.until_generation("login", 2).await?;
    let mut secrets = vec![good.secret.clone(), echoed.secret.clone(), wrong.secret, story.key("good-token", "access_token")?];
    let state = story.state("login")?.ok_or("no record")?;
    let held = |value: &serde_json::Value| value.as_str().filter(|text| text.len() > 16).map(str::to_owned).ok_or("no secret");
    secrets.extend([seed, held(&state["credential"]["refreshToken"])?, held(&state["record"]["accessToken"])?]);
    story.until_generation("good", 2).await?;
    secrets.push(story.key("good-token", "access_token")?);
    for name in ["echo", "echo-post"] {
        let message = story.until(name, "Stalled", "True", "Authentication").await?;
        assert!(message.contains("[redacted]"), "the provider echoed it: {message}");
        let told = || Ok(story.kubectl().run(&["get", "events", "-o", "yaml"])?.contains(&format!("name: {name}")).then_some(()));
        eventually(Duration::from_secs(10), told).await?.ok_or("an Event must tell of it")?;
    }
    let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    secrets.push(format!("{}:{}", encoded(&echoed.id), encoded(&echoed.secret)));
    story.until("wrong", "Stalled", "True", "Authentication").await?;
    let base64 = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    for (place, text) in [
        ("log", operator.process.output()),
        ("metrics", operator.get("/metrics").await?.1),
        ("health", operator.get("/healthz?verbose").await?.1),
        ("accounts", story.kubectl().run(&["get", "oauthaccounts", "-o", "yaml"])?),
        ("events", story.kubectl().run(&["get", "events", "-o", "yaml"])?),
    ] {
        assert!(text.len() > 50, "{place}: there must be something to search");
        for secret in &secrets {
            let forms = [secret.clone(), base64(secret), url::form_urlencoded::byte_serialize(secret.as_bytes()).collect()];
            for form in forms {
                assert!(!text.contains(&form), "a secret stands in the {place}");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_macros, reason = "what cannot be tried is told to whoever runs it")]
async fn what_is_in_memory_is_in_no_core_dump() -> Result<()> {
    let (story, _) = story("core").await?;
    // All that begins from now on may leave one, as where somebody has set that up for a node.
    let most = getrlimit(Resource::Core).maximum;
    setrlimit(Resource::Core, Rlimit { current: most, maximum: most })?;
    let limit = Duration::from_secs(20);
    let dumped = async |process: &Process| -> Result<bool> {
        process.signal(Signal::ABORT);
        Ok(process.end_within(limit).await.ok_or("it does not end")?.core_dumped())
    };
    let other = Process::start("other", &story.folder, Path::new("sleep"), &["60".into()], &[])?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    if !dumped(&other).await? {
        println!("SKIPPED: no program leaves a core dump on this machine (limit {most:?}, or /proc/sys/kernel/core_pattern)");
        return Ok(());
    }
    let operator = story.operator("operator-1").await?;
    assert!(!dumped(&operator.process).await?, "the operator has left one");
    let folder = story.folder.display().to_string();
    let proxy = Proxy::start("core", &["--upstream", "http://127.0.0.1:9", "--account", &folder]).await?;
    assert!(!dumped(&proxy.process).await?, "the proxy has left one");
    Ok(())
}
