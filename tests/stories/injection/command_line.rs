//! `oauth-operator inject`, by whose output the real proxy starts, and which the real kubectl reads.

use super::pod;
use crate::cluster;
use crate::testbed::operator::executable;
use crate::testbed::process::folder;
use crate::testbed::proxy::Proxy;
use crate::testbed::token_volume::TokenVolume;
use crate::testbed::{Result, root};
use clap::Parser;
use jiff::Timestamp;
use oauth_operator::proxy::Settings;
use oauth_operator::world::certificate::make_ca;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// `oauth-operator` with these arguments, as a Pod's environment would have it: standard output, or standard error.
pub(super) fn run(arguments: &[&str], input: &str) -> Result<std::result::Result<String, String>> {
    let mut command = Command::new(executable());
    command.args(arguments).env("OAUTH_OPERATOR_NAMESPACE", "operators");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes);
    if output.status.success() {
        return Ok(Ok(text(output.stdout)?));
    }
    assert_eq!((output.status.code(), text(output.stdout)?.as_str()), (Some(1), ""), "no half of an answer");
    Ok(Err(text(output.stderr)?))
}

/// The arguments of the sidecar in this Pod, its files being found under a folder of ours.
fn arguments(pod: &Value, folder: &str) -> Vec<String> {
    let all = pod["spec"]["initContainers"][0]["args"].as_array().expect("arguments");
    let mapped = all.iter().map(|argument| argument.as_str().expect("a text").replace("$(POD_NAMESPACE)", "apps"));
    mapped.map(|argument| argument.replace("=/", &format!("={folder}/"))).collect()
}

fn injected(annotations: &Value) -> Result<std::result::Result<Value, String>> {
    let pod = pod("app", &json!({"metadata": {"annotations": annotations}}));
    Ok(match run(&["inject", "-f", "-"], &pod.to_string())? {
        Ok(text) => Ok(serde_saphyr::from_str(&text)?),
        Err(said) => Err(said),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_proxy_takes_what_is_injected() -> Result<()> {
    let folder = folder("injected")?.display().to_string();
    let at = |path: &str| format!("{folder}{path}");
    TokenVolume::with("injected/var/run/oauth", "reports", "a-token")?;
    let routes = json!({
        "accounts": [{"name": "reports", "directory": at("/var/run/oauth/reports")}],
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [
            {"name": "all", "upstream": {"url": "https://api.example.com"}, "pool": [{"account": "reports"}]},
        ]}],
    });
    let ca = make_ca(Timestamp::now())?.root.certificate;
    for (path, content) in [
        ("/var/run/oauth-operator/ca.crt", ca.as_str()),
        ("/var/run/oauth-operator/token", "token"),
        ("/etc/oauth-proxy-ca/ca.crt", ca.as_str()),
        ("/etc/oauth-proxy/routes.yaml", &routes.to_string()),
    ] {
        let path = std::path::PathBuf::from(at(path));
        std::fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        std::fs::write(path, content)?;
    }
    let upstream = json!({"oauth-operator.dev/proxy-envelope": "openai", "oauth-operator.dev/proxy-upstream-ca": "ca"});
    let routes = json!({"oauth-operator.dev/proxy-upstream": null, "oauth-operator.dev/proxy-routes": "routes"});
    for (name, annotations) in [("injected-upstream", upstream), ("injected-routes", routes)] {
        let arguments = arguments(&injected(&annotations)??, &folder);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        // A routes file says itself where to listen; the flag does not disturb it.
        Proxy::start(name, &arguments).await?.until_ready().await?;
    }
    Ok(())
}

#[test]
fn what_the_proxy_would_refuse_is_refused_at_injection() -> Result<()> {
    for upstream in [
        "https://api.example.com",
        "https://api.example.com/",
        "HTTPS://API.example.com:8443",
        "https://[2001:db8::1]:8443",
        "http://127.0.0.1:9000",
        "http://localhost:9000",
        "http://[::1]:9000",
        "http://api.example.com",
        "https://api.example.com/v1",
        "https://api.example.com?x",
        "https://api.example.com#x",
        "https://user@api.example.com",
        "https://user:word@api.example.com",
        "ftp://api.example.com",
        "api.example.com",
        "https://",
        "https://$(HOME)",
        "",
    ] {
        let taken = |upstream: &str| {
            let arguments = ["oauth-proxy", &format!("--upstream={upstream}"), "--account=/a"];
            Settings::try_parse_from(arguments).is_ok_and(|settings| settings.read().is_ok())
        };
        let result = injected(&json!({"oauth-operator.dev/proxy-upstream": upstream}))?;
        assert_eq!(result.is_ok(), taken(upstream), "{upstream}: {result:?}");
    }
    let all = json!({"oauth-operator.dev/inject": "a,b.c=d", "oauth-operator.dev/proxy-port": "8000", "oauth-operator.dev/proxy-envelope": "anthropic"});
    let all = arguments(&injected(&all)??, "");
    let settings = Settings::try_parse_from(["oauth-proxy".to_owned()].into_iter().chain(all))?;
    let served = settings.read()?;
    let addresses: Vec<_> = served.listeners[0].addresses.iter().map(|address| address.value.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:8000", "[::1]:8000"]);
    assert_eq!(served.accounts.iter().map(|account| account.name.value.as_str()).collect::<Vec<_>>(), ["a", "b.c"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_takes_what_the_command_line_writes() -> Result<()> {
    let kubectl = cluster().await?.kubectl();
    let read = |text: &str| -> Result<Value> {
        let said = kubectl.feed(&["create", "--dry-run=client", "-o", "json", "-f", "-"], text)?;
        Ok(serde_json::from_str(&said)?)
    };
    // As YAML 1.1 has them, which kubectl reads: all of these are texts.
    let odd = [
        "yes",
        "off",
        "null",
        "~",
        "0400",
        "0o17",
        "0x1F",
        "1_000",
        "1e3",
        "1:20",
        ".inf",
        "2001-01-01",
        "y",
        "",
        "two\nlines\n",
    ];
    let mut text = pod("odd", &json!({}));
    text["spec"]["containers"][0]["args"] = json!(odd);
    let by_hand = serde_json::to_string(&text)?;
    let written = run(&["inject", "-f", "-"], &by_hand)??;
    assert!(!written.starts_with('{'), "{written}");
    assert_eq!(read(&written)?["spec"]["containers"], read(&by_hand)?["spec"]["containers"]);

    // A mode as people write it, and one object of several that cannot be.
    let manifest = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: modes\n  annotations:\n    oauth-operator.dev/inject: a\n    oauth-operator.dev/proxy-upstream: https://api.example.com\nspec:\n  {more}\n  containers: [{{name: app, image: app}}]\n  volumes: [{{name: s, secret: {{secretName: s, defaultMode: 0400}}}}]\n"
        )
    };
    let written = run(&["inject", "-f", "-"], &manifest("hostPID: no"))??;
    let pod = read(&written)?;
    assert_eq!(
        (&pod["spec"]["volumes"][0]["secret"]["defaultMode"], &pod["spec"]["initContainers"][0]["name"]),
        (&json!(256), &json!("oauth-proxy"))
    );
    let sample = run(&["inject", "-f", &root().join("deploy/samples/sidecar-injected.yaml").display().to_string()], "")??;
    let containers = read(&sample)?["spec"]["template"]["spec"]["initContainers"].clone();
    assert_eq!(containers[0]["name"], "oauth-proxy", "{sample}");
    let file = folder("inject")?.join("two.yaml");
    std::fs::write(&file, format!("kind: ConfigMap\n---\n{}", manifest("hostNetwork: true")))?;
    let said =
        run(&["inject", "-f", &file.display().to_string(), "-f", "-"], &manifest("hostPID: no"))?.expect_err("it cannot be");
    assert!(said.contains("two.yaml: document 2, Pod modes: the sidecar oauth-proxy cannot be added: hostNetwork"), "{said}");
    let said = run(&["inject", "-f", "/nowhere/at-all.yaml"], "")?.expect_err("there is none");
    assert!(said.contains("/nowhere/at-all.yaml"), "{said}");
    Ok(())
}
