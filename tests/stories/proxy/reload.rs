//! A routes file that changes while the proxy runs.

use crate::testbed::Result;
use crate::testbed::authorization_server::random;
use crate::testbed::process::folder;
use crate::testbed::proxy::Proxy;
use crate::testbed::raw_upstream::{Next, RawUpstream, response};
use crate::testbed::token_volume::TokenVolume;
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// Looked at each two seconds.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_keeps_what_was_and_its_correction_is_taken() -> Result<()> {
    let name = "reload";
    let says = |body: &'static str| {
        RawUpstream::answering(move |_, stream| {
            stream.write_all(response("200 OK", &[], body).as_bytes())?;
            Ok(Next::Keep)
        })
    };
    let (first, second) = (says("first")?, says("second")?);
    let volume = TokenVolume::with(name, "api", &random())?;
    let routes = |upstream: &str, account: &str| {
        json!({
            "accounts": [{"name": "api", "directory": volume.path()}],
            "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [
                {"name": "api", "upstream": {"url": upstream}, "pool": [{"account": account}]},
            ]}],
        })
    };
    let proxy = Proxy::routed(name, &routes(&first.url(), "api")).await?;
    proxy.until_ready().await?;
    let file = folder(name)?.join("routes.yaml");
    let write = |routes: &Value| {
        std::fs::write(&file, serde_json::to_string_pretty(routes)?).map_err(Box::<dyn std::error::Error + Send + Sync>::from)
    };
    let get = async || -> Result<String> {
        Ok(reqwest::Client::builder().no_proxy().build()?.get(proxy.url()).send().await?.text().await?)
    };
    assert_eq!(get().await?, "first");
    write(&routes(&second.url(), "nobody"))?;
    let refused = r#"oauth_proxy_routes_reloads_total{result="refused"}"#;
    proxy.process.until("refused", SOON, async || proxy.metric(refused).await.is_ok_and(|count| count == Some(1.0))).await?;
    assert_eq!(get().await?, "first", "the old routes stay");
    let told = proxy.log().into_iter().filter_map(|line| line["msg"].as_str().map(str::to_owned));
    let told: Vec<String> = told.filter(|msg| msg.contains("routes stay as they were")).collect();
    assert!(told.len() == 1 && told[0].contains("line ") && told[0].contains("\"nobody\" is not among `accounts`"), "{told:?}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(proxy.metric(refused).await?, Some(1.0), "one mistake is told once");
    write(&routes(&second.url(), "api"))?;
    let taken = async || get().await.is_ok_and(|said| said == "second");
    proxy.process.until("the correction", SOON, taken).await
}
