//! The sidecar with real clients in front of it and real servers behind it, and with what no real one would send.

mod bad_body;
mod bad_upstream;
mod corpus;
mod curl;
mod drain;
mod h2load;
mod http2_upstream;
mod limits;
mod nginx;
mod reload;
mod sdk;
mod streams;
mod websocket;

use crate::testbed::Result;
use crate::testbed::authorization_server::random;
use crate::testbed::proxy::Proxy;
use crate::testbed::story::merge;
use crate::testbed::token_volume::TokenVolume;
use serde_json::{Value, json};

/// A proxy with one route, and the token that it has.
struct Routed {
    proxy: Proxy,
    token: String,
}

/// A proxy in front of one upstream, with `patch` merged into its route.
async fn routed(name: &str, upstream: &str, patch: Value) -> Result<Routed> {
    let token = random();
    let volume = TokenVolume::with(name, "api", &token)?;
    let mut route = json!({"name": "api", "upstream": {"url": upstream}, "pool": [{"account": "api"}]});
    merge(&mut route, &patch);
    let routes = json!({
        "accounts": [{"name": "api", "directory": volume.path()}],
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [route]}],
    });
    let proxy = Proxy::routed(name, &routes).await?;
    proxy.until_ready().await?;
    Ok(Routed { proxy, token })
}
