//! The operator's own CA: one of all replicas, healed, and rotated under the eyes of its clients.

use super::cluster;
use crate::testbed::Result;
use crate::testbed::story::{Reach, Story, eventually};
use jiff::{SignedDuration, Timestamp};
use kube::config::{KubeConfigOptions, Kubeconfig};
use oauth_operator::world::authority::Authority;
use oauth_operator::world::certificate::make_ca;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const CA: &str = "oauth-operator-ca";

/// A replica's CA, with the rights of the operator's ServiceAccount.
async fn replica(story: &Story<'_>) -> Result<Arc<Authority>> {
    let kubeconfig = Kubeconfig::read_from(&story.kubeconfig)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let names = ["oauth-operator.test.svc", "127.0.0.1"].map(str::to_owned);
    Ok(Arc::new(Authority::new(kube::Client::try_from(config)?, &story.system, names.into())?))
}

/// kubectl in the operator's namespace.
fn kubectl(story: &Story<'_>, arguments: &[&str]) -> Result<String> {
    story.cluster.kubectl().namespaced(&story.system).run(arguments)
}

fn published(story: &Story<'_>) -> Result<Option<String>> {
    let text = kubectl(story, &["get", "configmap", CA, "-o", "json", "--ignore-not-found"])?;
    let map: Value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok(map["data"]["ca.crt"].as_str().map(str::to_owned))
}

/// The Secret: labels and type, and its keys as text.
fn stored(story: &Story<'_>) -> Result<(Value, impl Fn(&str) -> Option<String>)> {
    use base64::Engine;
    let secret: Value = serde_json::from_str(&kubectl(story, &["get", "secret", CA, "-o", "json"])?)?;
    let data = secret["data"].clone();
    let text = move |key: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(data[key].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    Ok((secret, text))
}

fn edit(story: &Story<'_>, key: &str, text: &str) -> Result<()> {
    let patch = json!({"stringData": {key: text}}).to_string();
    kubectl(story, &["patch", "secret", CA, "--type", "merge", "-p", &patch]).map(drop)
}

fn certificates(bundle: &str) -> usize {
    bundle.matches("BEGIN CERTIFICATE").count()
}

/// An echo under TLS, with the certificates that the CA has at the time.
async fn serve(config: Arc<ServerConfig>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut byte = [0];
                while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
            });
        }
    });
    Ok(address)
}

/// Connects as a client that trusts this bundle alone.
async fn connect(address: SocketAddr, bundle: &str) -> Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate?)?;
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (stream, name) = (TcpStream::connect(address).await?, ServerName::try_from("oauth-operator.test.svc")?);
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert!(echoes(&mut stream).await, "a connection without an echo");
    Ok(stream)
}

async fn echoes(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut byte).await.is_ok() && byte == *b"x"
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_one_ca_and_put_back_what_is_edited() -> Result<()> {
    let story = Story::begin(cluster().await?, "authority", Reach::Tenant).await?;
    let mut replicas = vec![];
    for _ in 0..6 {
        replicas.push(replica(&story).await?);
    }
    assert!(replicas[0].bundle().is_empty());
    for made in futures::future::join_all(replicas.iter().map(|replica| replica.ensure())).await {
        made?;
    }
    let bundle = published(&story)?.ok_or("nothing is published")?;
    assert_eq!(certificates(&bundle), 1, "{bundle}");
    for replica in &replicas {
        assert_eq!(String::from_utf8(replica.bundle())?, bundle, "two CAs");
        connect(serve(replica.server_config()).await?, &bundle).await?;
    }
    let (secret, text) = stored(&story)?;
    assert_eq!(text("ca.crt").as_ref(), Some(&bundle));
    assert_eq!(secret["type"], "oauth-operator.dev/ca");
    let labels =
        ["name", "managed-by", "component"].map(|label| &secret["metadata"]["labels"][format!("app.kubernetes.io/{label}")]);
    assert_eq!(labels, ["oauth-operator", "oauth-operator", "ca"]);

    let edits: [&[&str]; 3] = [
        &["patch", "configmap", CA, "--type", "merge", "-p", r#"{"data": {"ca.crt": "somebody else's", "other": "x"}}"#],
        &["patch", "configmap", CA, "--type", "merge", "-p", r#"{"data": {"ca.crt": null}, "binaryData": {"ca.crt": "eA=="}}"#],
        &["delete", "configmap", CA],
    ];
    for edit in edits {
        kubectl(&story, edit)?;
        assert_ne!(published(&story)?.as_ref(), Some(&bundle));
        replicas[1].ensure().await?;
        assert_eq!(published(&story)?.as_ref(), Some(&bundle), "after kubectl {edit:?}");
    }

    let before = story.writes_by_operator()?;
    replicas[2].ensure().await?;
    assert_eq!(story.writes_by_operator()?, before, "at rest nothing is written");

    // What nobody can read is made anew, by whoever looks first.
    let address = serve(replicas[0].server_config()).await?;
    tokio::spawn(replicas[0].clone().run(|_| ()));
    edit(&story, "ca.key", &text("ca.key").ok_or("no key")?.replace("MIG", "nonsense"))?;
    let anew = eventually(Duration::from_secs(60), || Ok(published(&story)?.filter(|now| *now != bundle))).await?;
    let anew = anew.ok_or("a destroyed Secret is not replaced")?;
    assert_eq!(certificates(&anew), 1, "{anew}");
    replicas[3].ensure().await?;
    assert_eq!(String::from_utf8(replicas[3].bundle())?, anew);
    connect(address, &anew).await?;
    assert!(connect(address, &bundle).await.is_err(), "the destroyed CA signs no more");

    // Somebody else's Secret is left alone.
    let story = Story::begin(cluster().await?, "authority-foreign", Reach::Tenant).await?;
    kubectl(&story, &["create", "secret", "generic", CA, "--from-literal", "ca.crt=mine"])?;
    let error = replica(&story).await?.ensure().await.expect_err("it is not ours").to_string();
    assert!(error.contains(&format!("Secret {}/{CA}", story.system)) && error.contains("\"Opaque\""), "{error}");
    let (_, text) = stored(&story)?;
    assert_eq!(text("ca.crt").as_deref(), Some("mine"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_read_the_bundle_lives_through_a_rotation() -> Result<()> {
    let story = Story::begin(cluster().await?, "authority-rotation", Reach::Tenant).await?;
    let ago = |hours| Timestamp::now() - SignedDuration::from_hours(hours);
    let old = make_ca(ago(9 * 30 * 24))?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "oauth-operator.dev/ca", "metadata": {"name": CA},
        "stringData": {"ca.crt": old.root.certificate, "ca.key": old.key.expose()},
    });
    story.cluster.kubectl().namespaced(&story.system).apply(&secret.to_string())?;
    let replica = replica(&story).await?;
    replica.ensure().await?;
    let address = serve(replica.server_config()).await?;
    let both = published(&story)?.ok_or("nothing is published")?;
    assert_eq!(certificates(&both), 2, "its successor is told of");
    assert!(both.starts_with(&old.root.certificate), "{both}");
    let mut open = connect(address, &old.root.certificate).await?;
    let (_, text) = stored(&story)?;
    let told: Timestamp = text("next.announced").ok_or("it is not noted that the bundle tells of it")?.parse()?;
    assert!(ago(0).duration_since(told).abs() < SignedDuration::from_mins(1), "{told}");
    replica.ensure().await?;
    connect(address, &old.root.certificate).await?;

    edit(&story, "next.announced", &ago(25).to_string())?;
    replica.ensure().await?;
    connect(address, &both).await?;
    assert!(connect(address, &old.root.certificate).await.is_err(), "the successor signs now");
    assert!(echoes(&mut open).await, "open connections go on");
    let (_, text) = stored(&story)?;
    assert_eq!(text("previous.crt").as_deref(), Some(old.root.certificate.as_str()));
    assert!(["next.crt", "next.key", "next.announced", "previous.key"].iter().all(|key| text(key).is_none()));
    assert_ne!(text("ca.key").as_deref(), Some(old.key.expose()));
    assert_eq!(certificates(&published(&story)?.unwrap_or_default()), 2, "the predecessor's leaves may still be met");

    edit(&story, "previous.since", &ago(8 * 24).to_string())?;
    replica.ensure().await?;
    assert_eq!(published(&story)?, text("ca.crt"));
    assert!(both.contains(text("ca.crt").ok_or("no certificate")?.trim()));
    Ok(())
}
