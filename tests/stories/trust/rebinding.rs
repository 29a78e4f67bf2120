//! Names whose server answers as it suits an attacker: the address that was judged is the one that is dialled.

use crate::story;
use crate::testbed::Result;
use crate::testbed::authorization_server::{Client, random};
use crate::testbed::name_server::NameServer;
use crate::testbed::story::eventually;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// The operator may talk to this one, as if it were public.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// And not to this one, which stands for what is inside.
const INSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Counts who connects.
async fn door(address: Ipv4Addr, port: u16) -> Result<(Arc<AtomicUsize>, u16)> {
    let listener = TcpListener::bind((address, port)).await?;
    let port = listener.local_addr()?.port();
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok((count, port))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::disallowed_macros, reason = "what cannot be tried is told to whoever runs it")]
async fn the_address_that_was_judged_is_the_one_that_is_dialled() -> Result<()> {
    let answer = |name: &str, time: usize| -> Vec<IpAddr> {
        match name.split('-').next() {
            // Another one each time.
            Some("turning") if time % 2 == 1 => vec![OUTSIDE.into()],
            Some("turning") => vec![INSIDE.into()],
            Some("both") => vec![INSIDE.into(), OUTSIDE.into()],
            Some("mapped") => vec![INSIDE.to_ipv6_mapped().into()],
            _ => vec![],
        }
    };
    let Some(names) = NameServer::start(answer).await? else {
        eprintln!(
            "NOT RUN: DNS rebinding. It needs root, whose port 53 is, and who may give a process a resolv.conf of its own."
        );
        return Ok(());
    };
    let (story, _) = story("rebinding").await?;
    let (outside, port) = door(OUTSIDE, 0).await?;
    let (inside, port) = door(INSIDE, port).await?;
    let _operator = story.operator_asking(&names, "operator-1", &["--allowed-cidrs", "127.0.0.2/32"]).await?;
    let client = Client { id: "client".into(), secret: random() };
    // What is asked for tokens again and again, what may be spent once, and what is found by discovery go different ways.
    let apply = |kind: &str, way: &str| -> Result<String> {
        let (name, host) = (format!("{kind}-{way}"), format!("{kind}-{way}.test:{port}"));
        let token_url: Value = json!({"custom": {"tokenURL": format!("https://{host}/token")}});
        match way {
            "asked" => story.account(&name, &token_url, &client, &json!({}))?,
            "spent" => story.login(&name, &token_url, &client, &random(), &json!({}))?,
            _ => story.account(&name, &json!({"issuer": format!("https://{host}")}), &client, &json!({}))?,
        }
        Ok(name)
    };
    let ways = ["asked", "spent", "discovered"];
    for way in ways {
        // Only what is outside is tried of an answer with both, and what is tried does not speak TLS.
        let name = apply("both", way)?;
        let before = || Ok((names.asked(&format!("{name}.test")) > 0).then_some(()));
        eventually(Duration::from_secs(20), before).await?.ok_or("its name is not asked for")?;
    }
    for way in ways {
        let name = apply("turning", way)?;
        let message = story.until(&name, "Stalled", "True", "Configuration").await?;
        assert!(message.contains("its address is not a public one"), "{name}: {message}");
        assert_eq!(names.asked(&format!("{name}.test")), 2, "{name}: one question for each attempt");
    }
    for way in ways {
        let name = apply("mapped", way)?;
        let message = story.until(&name, "Stalled", "True", "Configuration").await?;
        assert!(message.contains("its address is not a public one"), "{name}: {message}");
    }
    for way in ways {
        assert_eq!(story.condition(&format!("both-{way}"), "Stalled")?.filter(|(status, ..)| status == "True"), None);
    }
    assert!(outside.load(Ordering::Relaxed) >= 6, "what is outside was dialled");
    assert_eq!(inside.load(Ordering::Relaxed), 0, "and what is inside never");
    Ok(())
}
