//! The product before one's eyes, in two minutes: `make demo`.
//!
//! Every step is checked; with `CI=true` it ends by itself, and its exit code is the truth. With `KUBECONFIG` set it uses
//! that cluster, in two namespaces of its own, which it deletes.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, reason = "a program for a terminal")]

#[path = "../tests/testbed/mod.rs"]
mod testbed;

use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use testbed::Result;
use testbed::authorization_server::{AuthorizationServer, Client};
use testbed::cluster::Cluster;
use testbed::operator::Operator;
use testbed::story::{Reach, Story, account};

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
    let operator = story.operator("oauth-operator").await?;
    println!("log     {}\nmetrics http://{}/metrics", operator.process.log.display(), operator.address);
    operator.process.until("leading", Duration::from_secs(30), async || operator.leads().await).await?;

    let result = tokio::select! {
        result = accounts(&story, &provider, &operator) => result,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    if own.is_some() {
        title("Leaving your cluster as it was, but for the CRD");
        cluster.kubectl().run(&["delete", "namespace", &story.apps, &story.system, "--wait=false"])?;
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
