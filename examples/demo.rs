//! The product before one's eyes, in two minutes: `make demo`.
//!
//! Every step is checked; with `CI=true` it ends by itself, and its exit code is the truth. With `KUBECONFIG` set it uses
//! that cluster, in four namespaces of its own, which it deletes.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program for a terminal")]

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use oauth_operator::api::Phase;
use rustix::process::Signal;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::Result;
use testbed::app_pod::AppPod;
use testbed::authorization_server::{AuthorizationServer, Client};
use testbed::cluster::Cluster;
use testbed::operator::Operator;
use testbed::proxy::Proxy;
use testbed::relay::Point;
use testbed::story::{Reach, Story, account, login};
use testbed::token_volume::TokenVolume;
use testbed::workflows::{Workflows, said};

/// Seconds that the tokens of the first account live.
const LIFETIME: u32 = 20;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shown = show().await;
    match shown {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<()> {
    let own = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
    let cluster = match &own {
        Some(path) => {
            title("Your cluster");
            Cluster::of(Path::new(path))?
        }
        None => {
            title("A Kubernetes control plane: etcd, kube-apiserver and kube-controller-manager");
            Cluster::start("cluster").await?
        }
    };
    println!("{}", cluster.kubectl().run(&["version"])?.trim_end());

    title("An authorization server: oidc-provider, a certified OpenID provider, under TLS by a private CA");
    let provider = AuthorizationServer::start("provider").await?;
    println!("issuer {}", provider.issuer);

    title("The operator, as its own ServiceAccount with the rights of deploy/operator.yaml and no others");
    let story = Story::begin(&cluster, "oauth-demo", Reach::Tenant).await?;
    // The name of its consent pages is one of its certificate's, so that the sidecar can ask it at its loopback address.
    let flags = ["--allowed-cidrs", "127.0.0.0/8", "--consent-url", "https://127.0.0.1"];
    let operator = story.operator_with("oauth-operator", &flags).await?;
    println!("log     {}\nmetrics http://{}/metrics", operator.process.log.display(), operator.address);
    operator.process.until("leading", Duration::from_secs(30), async || operator.leads().await).await?;

    let logins = Story::begin(&cluster, "oauth-demo-login", Reach::Tenant).await?;
    let shown = async {
        killed_in_mid_refresh(&logins, &provider).await?;
        app_beside_the_sidecar(&story, &provider, &operator).await?;
        a_workflow(&story, &provider).await?;
        accounts(&story, &provider, &operator).await
    };
    let result = tokio::select! {
        result = shown => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if own.is_some() {
        title("Leaving your cluster as it was, but for the CRD");
        let namespaces = [&story.apps, &story.system, &logins.apps, &logins.system];
        namespaces.iter().try_for_each(|name| cluster.kubectl().run(&["delete", "namespace", name, "--wait=false"]).map(drop))?;
    }
    result
}

async fn accounts(story: &Story<'_>, provider: &AuthorizationServer, operator: &Operator) -> Result<()> {
    title("Two accounts: one in order, whose tokens live for 20 seconds, and one with a wrong secret");
    let client = provider.register(LIFETIME, "client_secret_basic").await?;
    let wrong = Client { secret: "not-the-secret".into(), ..client.clone() };
    story.ca("provider-ca", &provider.ca)?;
    let issuer = json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}});
    println!("{}", serde_saphyr::to_string(&account("short-lived", &issuer, &client, &json!({"scopes": ["read"]})))?);
    story.secret("short-lived-client", &[("client_secret", &client.secret)])?;
    story.account("wrong-secret", &issuer, &wrong, &json!({}))?;
    let applied = Instant::now();
    story.account_alone("short-lived", &issuer, &client, &json!({"scopes": ["read"]}))?;
    println!("kubectl apply took {} ms", applied.elapsed().as_millis());
    let accepted = Instant::now();
    story.kubectl().run(&["wait", "--for=condition=Ready", "--timeout=30s", "oauthaccount/short-lived"])?;
    println!("kubectl wait --for=condition=Ready returned {} ms later", accepted.elapsed().as_millis());
    check(accepted.elapsed() < Duration::from_secs(1), "a token stood in the Secret within a second of the apply")?;

    title("What a person sees");
    story.until("wrong-secret", "Stalled", "True", "Authentication").await?;
    table(story)?;
    let (_, _, message) = story.condition("wrong-secret", "Ready")?.ok_or("no condition")?;
    println!("\nwrong-secret says: {message}");
    println!("\n{}", story.kubectl().run(&["describe", "secret", "short-lived-token"])?.trim_end());
    let said = provider.introspect(&client, &story.key("short-lived-token", "access_token")?).await?;
    check(said["active"] == json!(true), "the provider calls the published token active")?;

    title("Renewal: a new token before the old one expires");
    for generation in 2..=3 {
        story.until_generation("short-lived", generation).await?;
        table(story)?;
        let (status, _, _) = story.condition("short-lived", "Ready")?.ok_or("no condition")?;
        check(status == "True", "Ready is True with the new token")?;
    }

    title("What Prometheus sees");
    let (_, metrics) = operator.get("/metrics").await?;
    let interesting =
        ["oauth_operator_account_ready", "oauth_operator_access_token_exp", "oauth_operator_token_requests", "leader_election"];
    metrics.lines().filter(|line| interesting.iter().any(|start| line.starts_with(start))).for_each(|line| println!("{line}"));
    check(metrics.contains("result=\"invalid_client\"} 1\n"), "the wrong secret was tried once and not again")?;

    title("What the operator at night sees");
    let log = operator.process.output();
    let lines: Vec<&str> = log.lines().collect();
    lines.iter().rev().take(4).rev().for_each(|line| println!("{line}"));
    if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        println!("\nCI=true: the demo ends here, and all of it was as it should be.");
        return Ok(());
    }
    println!("\nIt goes on until you press Ctrl-C. In another terminal:\n");
    println!("  export KUBECONFIG={}", story.cluster.kubeconfig.display());
    println!("  kubectl -n {} get oauthaccounts -o wide --watch", story.apps);
    println!("  kubectl -n {} delete secret short-lived-token   # and see it made again\n", story.apps);
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        table(story)?;
    }
}

/// The hard part: a refresh token that is good for one use, and an operator that is killed when it is spent and its
/// successor is in nobody's hands but its own.
async fn killed_in_mid_refresh(story: &Story<'_>, provider: &AuthorizationServer) -> Result<()> {
    title("A login: each refresh spends its refresh token, and the provider ends the login when one comes twice");
    let relay = story.cluster.relay().await?;
    let mut operator = story.operator_behind("oauth-operator", &relay).await?;
    let (client, refresh_token) = provider.log_in(3600, "alice").await?;
    story.ca("provider-ca", &provider.ca)?;
    let issuer = json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}});
    println!("{}", serde_saphyr::to_string(&login("alice", &issuer, &client, &json!({})))?);
    story.login("alice", &issuer, &client, &refresh_token, &json!({}))?;
    story.until_ready("alice").await?;
    table(story)?;

    title("kill -9 in the middle of a refresh: when the provider has answered, and nothing of that is stored");
    let stored = relay.hold(Point::Request, |passing| passing.state().is_some_and(|state| state["intent"].is_null()));
    story.kubectl().run(&[
        "annotate",
        "oauthaccount",
        "alice",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z",
    ])?;
    stored.hit(Duration::from_secs(20)).await?;
    let spent = provider.redemptions(&client).await?;
    println!("refresh tokens that came to the provider, by the head of their digest: {spent:?}");
    check(spent.len() == 2, "the second one is spent, and its successor is on its way into the record, held up by us")?;
    operator.process.signal(Signal::KILL);
    operator.process.end_within(Duration::from_secs(5)).await.ok_or("SIGKILL does not end it")?;
    println!("the operator is dead; what it left is one sealed file in its journal:");
    for file in std::fs::read_dir(story.folder.join("oauth-operator.journal"))?.flatten() {
        println!("  {} ({} bytes)", file.file_name().display(), file.metadata()?.len());
    }
    stored.abandon();
    operator = story.operator_behind("oauth-operator", &relay).await?;
    story.until_generation("alice", 2).await?;
    table(story)?;
    let found = operator.log().into_iter().find(|line| line["msg"].as_str().is_some_and(|msg| msg.contains("journal")));
    println!("{}", found.ok_or("the journal was not read")?["msg"].as_str().unwrap_or_default());
    let said = provider.introspect(&client, &story.key("alice-token", "access_token")?).await?;
    check(said["active"] == json!(true), "the token of that very reply is published")?;
    story.kubectl().run(&[
        "annotate",
        "--overwrite",
        "oauthaccount",
        "alice",
        "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:01Z",
    ])?;
    story.until_generation("alice", 3).await?;
    let spent = provider.redemptions(&client).await?;
    let mut digests: Vec<&String> = spent.iter().map(|(digest, _)| digest).collect();
    digests.dedup();
    check(
        digests.len() == 3 && spent.iter().all(|(_, status)| *status == 200),
        "each refresh token came once, and the login lives",
    )
}

/// An app that knows nothing of OAuth, and does not notice that its token was revoked.
async fn app_beside_the_sidecar(story: &Story<'_>, provider: &AuthorizationServer, operator: &Operator) -> Result<()> {
    title("An app beside the sidecar: plain HTTP to loopback, and the proxy brings the token");
    let client = provider.register(3600, "client_secret_basic").await?;
    story.ca("provider-ca", &provider.ca)?;
    let issuer = json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}});
    story.account("beside", &issuer, &client, &json!({}))?;
    story.until_ready("beside").await?;
    let pod = AppPod::begin(story, &["beside"]).await?;
    let token = story.key("beside-token", "access_token")?;
    let volume = TokenVolume::with("oauth-demo", "beside", &token)?;
    let ca = story.folder.join("provider-ca.crt");
    std::fs::write(&ca, &provider.ca)?;
    let refresh = format!("https://127.0.0.1:{}", operator.tls_address.port());
    let (account, ca, refresh_ca, refresh_token) =
        (volume.path(), ca.display().to_string(), pod.ca.display().to_string(), pod.token.display().to_string());
    let flags = [
        ["--upstream", &provider.issuer],
        ["--account", &account],
        ["--upstream-ca", &ca],
        ["--refresh-url", &refresh],
        ["--refresh-ca", &refresh_ca],
        ["--refresh-token", &refresh_token],
        ["--namespace", &story.apps],
    ]
    .concat();
    let proxy = Proxy::start("oauth-demo/proxy", &flags).await?;
    proxy.until_ready().await?;
    let url = format!("{}/testbed/resource", proxy.url());
    let app = reqwest::Client::builder().no_proxy().build()?;
    let ask = async || -> Result<(u16, String)> {
        let answer = app.get(&url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    };
    let (status, text) = ask().await?;
    println!("GET {url}\n{status} {text}");
    check(status == 200, "the API answers the app, which has sent no credential")?;
    provider.revoke(&client, &token).await?;
    check(provider.resource(&token).await?.is_none(), "the token is revoked at the provider, and the API refuses it")?;
    let asked = Instant::now();
    let (status, text) = ask().await?;
    println!("GET {url}\n{status} {text}   ({} ms)", asked.elapsed().as_millis());
    check(status == 200, "the app sees no error: the operator was asked for another token, and the request sent again")?;
    let (issued, _) = provider.token_requests(&client).await?;
    check(issued == 2, "for one token request")?;
    story.kubectl().run(&["delete", "oauthaccount", "beside", "--timeout=10s"]).map(drop)
}

/// Three requests, one after another, with the token of an account; what one gives, the next one takes.
async fn a_workflow(story: &Story<'_>, provider: &AuthorizationServer) -> Result<()> {
    title("A workflow: three steps with an account's token, and the record of a run");
    story.ca("provider-ca", &provider.ca)?;
    let workflows = Workflows::begin(story.clone(), provider).await?;
    let issuer = json!({"issuer": provider.issuer, "caBundleRef": {"name": "provider-ca"}});
    workflows.account("reports", provider, &issuer).await?;
    let fetch = workflows.step("fetch", "/items?topic=${input.topic}", &json!({"output": "${response.body.items.map(i, i.id)}"}));
    let total = json!({"dependsOn": ["fetch"], "http": {"method": "POST", "body": {"ids": "${steps.fetch.output}"}}, "output": "${size(response.body.body.ids)}"});
    let total = workflows.step("count", "/echo/count", &total);
    let told = json!({"dependsOn": ["count"], "when": "steps.count.output > 0", "http": {"method": "PUT", "body": "${string(steps.count.output)} items"}});
    let told = workflows.step("tell", "/echo/tell", &told);
    let spec = json!({
        "inputs": {"schema": {"type": "object", "required": ["topic"]}},
        "defaults": {"accountRef": {"name": "reports"}, "retry": {"limit": 2}},
        "steps": [fetch, total, told],
        "outputs": {"count": "${steps.count.output}", "told": "${steps.tell.output.body}"},
    });
    println!("{}", serde_saphyr::to_string(&spec)?);
    workflows.workflow("report", &spec)?;
    workflows.run("first", &json!({"workflowRef": {"name": "report"}, "input": {"topic": "returns"}}))?;
    let kubectl = workflows.story.kubectl();
    kubectl.run(&["wait", "--for=condition=Succeeded", "--timeout=30s", "workflowrun/first"])?;
    println!("{}", kubectl.run(&["get", "workflows,workflowruns"])?.trim_end());
    let status = workflows.status("first")?;
    println!("\n{}", serde_saphyr::to_string(&json!({"steps": status.steps, "outputs": status.outputs}))?);
    check(status.outputs == Some(json!({"count": 3, "told": "3 items"})), "what one step gave, the next one took")?;
    let requests = workflows.api.requests();
    let tokens = requests.iter().filter(|request| request.client.is_some()).count();
    check(
        (requests.len(), tokens) == (3, 3),
        "three requests came to the API, each with a token that the provider calls active",
    )?;
    workflows.run("wrong", &json!({"workflowRef": {"name": "report"}, "input": {}}))?;
    let refused = workflows.until_ended("wrong", Phase::Failed).await?;
    println!("wrong says: {}", said(&refused).1);
    check(workflows.api.requests().len() == 3, "a run whose input is not as its schema says sends nothing")
}

fn table(story: &Story<'_>) -> Result<()> {
    println!("{}", story.kubectl().run(&["get", "oauthaccounts", "-o", "wide"])?.trim_end());
    Ok(())
}

fn title(text: &str) {
    println!("\n\x1b[1m== {text}\x1b[0m");
}

fn check(holds: bool, what: &str) -> Result<()> {
    if !holds {
        return Err(format!("not so: {what}").into());
    }
    println!("   checked: {what}");
    Ok(())
}
