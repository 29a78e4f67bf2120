//! `oauth-operator probe`, as `helm test` runs it: what it says of an operator that is not ready, that becomes ready, and that is gone.

use super::story;
use crate::testbed::operator::executable;
use crate::testbed::process::Process;
use crate::testbed::story::Story;
use crate::testbed::{Result, pages};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// Exit code and what was said.
async fn probe(url: &str, seconds: &str) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(executable());
    command.args(["probe", "--url", url, "--timeout-seconds", seconds]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    Ok((output.status.code(), String::from_utf8([output.stdout, output.stderr].concat())?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_waits_for_an_operator_to_be_ready_and_says_why_it_is_not() -> Result<()> {
    let (story, _) = story("probe").await?;
    // It may not watch accounts in its own namespace yet, so that its caches are not synced.
    let arguments = ["--namespace", &story.system, "--watch-namespaces", &story.system, "--listen", "127.0.0.1:0"];
    let arguments: Vec<String> = arguments.into_iter().chain(["--listen-tls", "127.0.0.1:0"]).map(Into::into).collect();
    let environment = [("KUBECONFIG", story.kubeconfig.display().to_string()), ("OAUTH_OPERATOR_LOG_FORMAT", "json".into())];
    let operator = Process::start("unready", &story.folder, &executable(), &arguments, &environment)?;
    let listening = || {
        let line = pages::log(&operator).into_iter().find(|line| line["msg"] == "listening")?;
        line["address"].as_str().map(|address| format!("http://{address}/readyz"))
    };
    operator.until("listening", Duration::from_secs(20), async || listening().is_some()).await?;
    let url = listening().ok_or("no address")?;

    let (code, said) = probe(&url, "2").await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("within 2 s"), "{said}");
    assert!(said.contains("503 Service Unavailable: caches are not synced yet"), "{said}");

    let (waited, permitted) = tokio::join!(probe(&url, "60"), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        permit(&story)
    });
    permitted?;
    let (code, said) = waited?;
    assert_eq!(code, Some(0), "{said}");

    operator.signal(Signal::KILL);
    operator.end_within(Duration::from_secs(5)).await.ok_or("it did not end")?;
    let began = Instant::now();
    let (code, said) = probe(&url, "2").await?;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Connection refused"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());

    let (code, said) = probe("https://127.0.0.1/readyz", "2").await?;
    assert_eq!((code, said.contains("without TLS")), (Some(2), true), "{said}");
    Ok(())
}

/// Gives the operator in its own namespace what it may do in the tenant's.
fn permit(story: &Story) -> Result<()> {
    let role: Value = serde_json::from_str(&story.kubectl().run(&["get", "role", "oauth-operator", "-o", "json"])?)?;
    let name = json!({"name": "watched", "namespace": story.system});
    let objects = json!([
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": name, "rules": role["rules"]},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": name,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "watched"},
            "subjects": [{"kind": "ServiceAccount", "name": "oauth-operator", "namespace": story.system}],
        },
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    story.cluster.kubectl().feed(&["apply", "-f", "-"], &list)?;
    Ok(())
}
