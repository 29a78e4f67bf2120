//! One leads, the next one takes over, and nobody works without the Lease.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::relay::{Passing, Point, Relay};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_leads_and_the_other_takes_over_when_it_dies() -> Result<()> {
    let (story, provider) = story("failover").await?;
    let first = story.operator("operator-1").await?;
    first.process.until("leading", Duration::from_secs(10), async || first.leads().await).await?;
    let second = story.operator("operator-2").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("before", &issuer(provider), &client, &json!({}))?;
    story.until_ready("before").await?;
    assert!(!second.leads().await, "two leaders");
    assert!(second.log().iter().all(|line| line["target"] != "audit"), "the other one asks for nothing");
    let (_, standby) = second.get("/metrics").await?;
    assert!(!standby.contains("oauth_operator_account_ready_status{"), "only the leader speaks of accounts");

    first.process.signal(Signal::KILL);
    let died = Instant::now();
    story.account("after", &issuer(provider), &client, &json!({}))?;
    story.until_ready("after").await?;
    assert!(died.elapsed() < Duration::from_secs(15), "the next leader works after {:?}", died.elapsed());
    assert!(second.leads().await);
    assert_eq!(provider.token_requests(&client).await?, (2, 0), "what had a token was left alone");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_finishes_what_is_under_way_and_gives_up_the_lease() -> Result<()> {
    let (story, provider) = story("shutdown").await?;
    let endpoint = story.faulty_endpoint().await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let first = story.operator("operator-1").await?;
    first.process.until("leading", Duration::from_secs(10), async || first.leads().await).await?;
    let second = story.operator("operator-2").await?;
    let slow = endpoint.at("/slow/3000");
    story.account("slow", &slow, &client, &json!({}))?;
    first.process.until("asking", Duration::from_secs(10), async || endpoint.requests("/slow/3000") == 1).await?;
    first.process.signal(Signal::TERM);
    let status = first.process.end_within(Duration::from_secs(20)).await.ok_or("it did not end")?;
    assert!(status.success(), "{status:?}");
    assert_eq!(story.key("slow-token", "generation")?, "1", "the answer under way was published");
    second.process.until("leading", Duration::from_secs(4), async || second.leads().await).await?;
    story.until_ready("slow").await?;
    assert_eq!(endpoint.requests("/slow/3000"), 1, "nobody asked twice");
    let holder = story.cluster.kubectl().namespaced(&story.system);
    let holder = holder.run(&["get", "lease", "oauth-operator", "-o", "jsonpath={.spec.holderIdentity}"])?;
    assert_eq!(holder, "operator-2");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_ends_instead_of_working_on() -> Result<()> {
    let (story, provider) = story("paused").await?;
    let client = provider.register(3600, "client_secret_basic").await?;
    let first = story.operator("operator-1").await?;
    first.process.until("leading", Duration::from_secs(10), async || first.leads().await).await?;
    let second = story.operator("operator-2").await?;
    first.process.pause();
    second.process.until("leading", Duration::from_secs(16), async || second.leads().await).await?;
    story.account("one", &issuer(provider), &client, &json!({}))?;
    story.until_ready("one").await?;
    first.process.signal(Signal::CONT);
    let status = first.process.end_within(Duration::from_secs(10)).await.ok_or("a leader without Lease goes on")?;
    assert!(!status.success(), "it must be restarted, and is told so by its exit code");
    let last = first.log().pop().ok_or("no log")?;
    assert!(last["error"].as_str().is_some_and(|error| error.contains("the Lease is lost")), "{last}");
    assert_eq!(provider.token_requests(&client).await?, (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_renewal_is_late_ends_although_nobody_took_its_lease() -> Result<()> {
    let (story, _) = story("late-renewal").await?;
    let relay = story.cluster.relay().await?;
    let first = story.operator_behind("operator-1", &relay).await?;
    first.process.until("leading", Duration::from_secs(10), async || first.leads().await).await?;
    // Read and written within their deadlines each, and both together too late.
    let of_lease = |method: &'static str| move |passing: &Passing| passing.method == method && passing.path.contains("/leases/");
    let (read, write) = (relay.hold(Point::Request, of_lease("GET")), relay.hold(Point::Request, of_lease("PUT")));
    read.hit(Duration::from_secs(5)).await?;
    tokio::time::sleep(Duration::from_millis(4000)).await;
    read.release();
    write.hit(Duration::from_secs(5)).await?;
    tokio::time::sleep(Duration::from_millis(4000)).await;
    write.release();
    let status =
        first.process.end_within(Duration::from_secs(5)).await.ok_or("it works on, and knows not what it left undone")?;
    assert!(!status.success());
    let last = first.log().pop().ok_or("no log")?;
    assert!(last["error"].as_str().is_some_and(|error| error.contains("the Lease is lost")), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_under_way_when_the_lease_is_lost_is_brought_home() -> Result<()> {
    let (story, provider) = story("lease-lost").await?;
    let (api, token_endpoint) = (story.cluster.relay().await?, Relay::before(&provider.issuer, &provider.ca).await?);
    story.ca("relay-ca", &token_endpoint.ca)?;
    let first = story.operator_behind("operator-1", &api).await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    let custom = json!({"custom": {"tokenURL": format!("{}/token", token_endpoint.url)}, "caBundleRef": {"name": "relay-ca"}});
    story.login("bot", &custom, &client, &refresh_token, &json!({}))?;
    story.until_ready("bot").await?;
    let reply = token_endpoint.hold(Point::Reply, |passing| passing.path == "/token");
    let renewals = api.lose(Point::Request, |passing| passing.path.contains("/leases/"));
    renewals.hit(Duration::from_secs(5)).await?;
    // So late that the Lease is lost, and no provider's time is over, when the reply comes.
    tokio::time::sleep(Duration::from_secs(3)).await;
    story.kubectl().run(&["annotate", "oauthaccount", "bot", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z"])?;
    reply.hit(Duration::from_secs(5)).await?;
    tokio::time::sleep(Duration::from_secs(9)).await;
    reply.release();
    let status = first.process.end_within(Duration::from_secs(20)).await.ok_or("a leader without Lease goes on")?;
    assert!(!status.success(), "{status}");
    renewals.release();
    let _second = story.operator_behind("operator-2", &api).await?;
    story.until_generation("bot", 2).await?;
    assert_eq!(story.condition("bot", "RefreshOutcomeUnknown")?, None);
    let redemptions = provider.redemptions(&client).await?;
    assert!(redemptions.len() == 2 && redemptions.iter().all(|(_, status)| *status == 200), "{redemptions:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_said_in_a_sentence() -> Result<()> {
    use std::process::Command;
    let said = |arguments: &[&str], kubeconfig: &str| -> Result<(Option<i32>, String)> {
        let output =
            Command::new(crate::testbed::operator::executable()).args(arguments).env("KUBECONFIG", kubeconfig).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (story, _) = story("start").await?;
    let kubeconfig = story.kubeconfig.display().to_string();
    let occupied = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = &*occupied.local_addr()?.to_string();
    for (arguments, kubeconfig, code, words) in [
        (&["--namespace", "a", "--allowed-cidrs", "everything"][..], kubeconfig.as_str(), 2, "--allowed-cidrs"),
        (&["--namespace", "a", "--log-level", "=="], kubeconfig.as_str(), 2, "--log-level"),
        (&["--namespace", "a", "--listen", "127.0.0.1"], kubeconfig.as_str(), 2, "--listen"),
        (&[], kubeconfig.as_str(), 2, "--namespace"),
        (
            &["--namespace", "a", "--listen", "127.0.0.1:0", "--listen-tls", taken],
            kubeconfig.as_str(),
            1,
            "--listen-tls 127.0.0.1:",
        ),
        (&["--namespace", "a", "--listen", "127.0.0.1:0"], "/does/not/exist", 1, "kubeconfig"),
        (
            &["--namespace", "a", "--listen", "127.0.0.1:0", "--listen-tls", "127.0.0.1:0", "--journal-dir", "/proc/journal"],
            kubeconfig.as_str(),
            1,
            "--journal-dir /proc/journal: ",
        ),
        (&["--namespace", "a", "--orphan-grace-seconds", "soon"], kubeconfig.as_str(), 2, "--orphan-grace-seconds"),
    ] {
        let (status, text) = said(arguments, kubeconfig)?;
        assert_eq!(status, Some(code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flag_has_its_twin_in_the_environment_and_proxies_there_are_ignored() -> Result<()> {
    use crate::testbed::operator::executable;
    use crate::testbed::process::Process;
    let (story, provider) = story("environment").await?;
    let environment = [
        ("KUBECONFIG", story.kubeconfig.display().to_string()),
        ("OAUTH_OPERATOR_NAMESPACE", story.system.clone()),
        ("OAUTH_OPERATOR_IDENTITY", "from-the-environment".into()),
        ("OAUTH_OPERATOR_WATCH_NAMESPACES", story.apps.clone()),
        ("OAUTH_OPERATOR_ALLOWED_CIDRS", "127.0.0.0/8, 10.0.0.0/8".into()),
        ("OAUTH_OPERATOR_REQUIRE_TOKEN_HOSTS", "1".into()),
        ("OAUTH_OPERATOR_LISTEN", "127.0.0.1:0".into()),
        ("OAUTH_OPERATOR_LISTEN_TLS", "127.0.0.1:0".into()),
        ("OAUTH_OPERATOR_JOURNAL_DIR", story.folder.join("journal-by-environment").display().to_string()),
        ("OAUTH_OPERATOR_ORPHAN_GRACE_SECONDS", "60".into()),
        ("OAUTH_OPERATOR_LOG_FORMAT", "json".into()),
        ("OAUTH_OPERATOR_LOG_LEVEL", "warn".into()),
        ("HTTPS_PROXY", "http://127.0.0.1:1".into()),
        ("HTTP_PROXY", "http://127.0.0.1:1".into()),
        ("ALL_PROXY", "http://127.0.0.1:1".into()),
    ];
    let process = Process::start("by-environment", &story.folder, &executable(), &[], &environment)?;
    let client = provider.register(3600, "client_secret_basic").await?;
    story.account("one", &issuer(provider), &client, &json!({}))?;
    let message = story.until("one", "Stalled", "True", "Configuration").await?;
    assert!(message.contains("token-hosts"), "REQUIRE_TOKEN_HOSTS=1 counts: {message}");
    let host = provider.issuer.trim_start_matches("https://");
    story.kubectl().run(&["annotate", "secret", "one-client", &format!("oauth-operator.dev/token-hosts={host}")])?;
    story.until_ready("one").await?;
    assert!(story.folder.join("journal-by-environment").is_dir(), "JOURNAL_DIR counts");
    let output = process.output();
    assert!(!output.contains("\"level\":\"debug\"") && !output.contains("elected leader"), "{output}");
    assert!(output.contains("\"target\":\"audit\""), "the audit line is written at every level: {output}");
    let named = output.lines().find(|line| line.contains("no token obtained")).ok_or("no warning")?;
    assert!(named.contains("\"name\":\"one\""), "a warning names its account at every level: {named}");
    let holder = story.cluster.kubectl().namespaced(&story.system);
    let holder = holder.run(&["get", "lease", "oauth-operator", "-o", "jsonpath={.spec.holderIdentity}"])?;
    assert_eq!(holder, "from-the-environment");
    Ok(())
}
