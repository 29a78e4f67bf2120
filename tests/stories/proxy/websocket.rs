//! A real WebSocket client and server, joined by the proxy.

use super::routed;
use crate::testbed::process::{Process, folder, free_port};
use crate::testbed::{Result, authorization_server::random, root, sdk};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_websocket_is_joined_both_ways_to_its_close() -> Result<()> {
    if sdk::skip() {
        return Ok(());
    }
    let port = free_port()?;
    let routed = routed("websocket", &format!("http://127.0.0.1:{port}"), json!({})).await?;
    let script = root().join("tests/sdk/websocket.py").display().to_string();
    let serve = |token: &str| [script.clone(), "serve".into(), port.to_string(), token.to_owned()];
    let server = Process::start("server", &folder("websocket")?, &sdk::python(), &serve(&routed.token), &[])?;
    let listens = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
    server.until("listening", Duration::from_secs(20), listens).await?;
    let url = format!("ws://{}/chat", routed.proxy.data[0]);
    let seen: Value = serde_json::from_str(&sdk::run("websocket.py", &["talk".into(), url.clone()]).await?)?;
    assert_eq!(
        seen,
        json!({"protocol": "chat", "echoes": [true, true, true, true], "closed": {"code": 4001, "reason": "as told"}})
    );

    // A server that refuses the token refuses the upgrade, and its own answer says so.
    drop(server);
    let server = Process::start("stranger", &folder("websocket")?, &sdk::python(), &serve(&random()), &[])?;
    server.until("listening", Duration::from_secs(20), listens).await?;
    let refused = sdk::run("websocket.py", &["talk".into(), url]).await.err().ok_or("the token was taken")?;
    assert!(refused.to_string().contains("server rejected WebSocket connection: HTTP 401"), "{refused}");
    Ok(())
}
