//! The sidecar with the real operator behind it: what an app sees of tokens that end before their time, and of accounts that
//! fail. The API checks every token at the authorization server.

use super::{issuer, story};
use crate::testbed::Result;
use crate::testbed::app_pod::{AppPod, CA, bundle};
use crate::testbed::authorization_server::{AuthorizationServer, Client};
use crate::testbed::operator::Operator;
use crate::testbed::proxy::Proxy;
use crate::testbed::resource_server::ResourceServer;
use crate::testbed::story::{Story, eventually};
use crate::testbed::token_volume::TokenVolume;
use reqwest::StatusCode;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(20);
/// Names the operator's certificate is for, so that it can be asked at its loopback address.
pub(super) const AT_LOOPBACK: [&str; 4] = ["--allowed-cidrs", "127.0.0.0/8", "--consent-url", "https://127.0.0.1"];

/// Everything that an app's request passes.
pub(super) struct Scene {
    pub(super) story: Story<'static>,
    pub(super) provider: &'static AuthorizationServer,
    pub(super) operator: Operator,
    pub(super) api: ResourceServer,
    accounts: Vec<(String, Client)>,
    /// File with the CA that the proxy believes.
    ca: PathBuf,
    pub(super) proxy: Proxy,
    pub(super) app: reqwest::Client,
}

/// What differs from scene to scene.
pub(super) struct Plan<'a> {
    pub(super) accounts: &'a [&'a str],
    /// What the route says beside its upstream and pool.
    pub(super) route: Value,
    /// Whether Secrets are watched in place of being mounted.
    pub(super) watched: bool,
    /// Accounts whose mounted Secrets are still empty.
    pub(super) late: &'a [&'a str],
}

impl Scene {
    pub(super) async fn begin(name: &str, plan: Plan<'_>) -> Result<Self> {
        let (story, provider) = story(name).await?;
        story.may_review()?;
        let operator = story.operator_with("operator-1", &AT_LOOPBACK).await?;
        let api = ResourceServer::start(provider).await?;
        let mut accounts = vec![];
        for account in plan.accounts {
            let client = provider.register(3600, "client_secret_basic").await?;
            story.account(account, &issuer(provider), &client, &json!({}))?;
            accounts.push(((*account).to_owned(), client));
        }
        for account in plan.accounts {
            story.until_ready(account).await?;
        }
        let pod = AppPod::begin(&story, plan.accounts).await?;
        let mut sources = vec![];
        for account in plan.accounts {
            if plan.watched {
                let secret = format!("{account}-token");
                sources.push(json!({"name": account, "secret": secret, "namespace": story.apps}));
            } else {
                // As after the kubelet's first round; its next is far away.
                let volume = TokenVolume::empty(name, account)?;
                if !plan.late.contains(account) {
                    volume.publish(&story.key(&format!("{account}-token"), "access_token")?)?;
                }
                sources.push(json!({"name": account, "directory": volume.path()}));
            }
        }
        let pool: Vec<Value> = plan.accounts.iter().map(|account| json!({"account": account})).collect();
        let mut route = json!({"name": "items", "upstream": {"url": api.url()}, "pool": pool});
        crate::testbed::story::merge(&mut route, &plan.route);
        let routes = json!({
            "accounts": sources,
            "listeners": [{"addresses": ["127.0.0.1:0"], "routes": [route]}],
            "refresh": {
                "url": format!("https://127.0.0.1:{}", operator.tls_address.port()),
                "caFile": pod.ca, "tokenFile": pod.token, "namespace": story.apps,
            },
        });
        let kubeconfig = if plan.watched { Some(reader(&story, plan.accounts)?) } else { None };
        let proxy = Proxy::routed_with(&format!("{name}/proxy"), &routes, kubeconfig.as_deref()).await?;
        proxy.until_ready().await?;
        let app = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
        Ok(Self { story, provider, operator, api, accounts, ca: pod.ca, proxy, app })
    }

    fn client(&self, account: &str) -> &Client {
        &self.accounts.iter().find(|(name, _)| name == account).expect("an account of the scene's").1
    }

    fn token(&self, account: &str) -> Result<String> {
        self.story.key(&format!("{account}-token"), "access_token")
    }

    /// Ends an account's published token at the provider.
    pub(super) async fn revoke(&self, account: &str) -> Result<()> {
        self.provider.revoke(self.client(account), &self.token(account)?).await
    }

    /// The provider refuses to give the account any more tokens.
    pub(super) async fn spoil(&self, account: &str) -> Result<()> {
        self.story.secret(&format!("{account}-client"), &[("client_secret", "spoilt")])
    }

    /// The provider gives tokens again.
    pub(super) fn restore(&self, account: &str) -> Result<()> {
        self.story.secret(&format!("{account}-client"), &[("client_secret", &self.client(account).secret)])
    }

    async fn get(&self) -> Result<(StatusCode, Value)> {
        let answer = self.app.get(format!("{}/items", self.proxy.url())).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    async fn issued(&self, account: &str) -> Result<u64> {
        Ok(self.provider.token_requests(self.client(account)).await?.0)
    }
}

/// Kubeconfig of somebody who may read the accounts' token Secrets by name, and nothing else.
fn reader(story: &Story<'_>, accounts: &[&str]) -> Result<std::path::PathBuf> {
    let secrets: Vec<String> = accounts.iter().map(|account| format!("{account}-token")).collect();
    let (meta, rights) = (json!({"name": "sidecar"}), "rbac.authorization.k8s.io/v1");
    let items = json!([
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {"apiVersion": rights, "kind": "Role", "metadata": meta, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get", "list", "watch"]},
        ]},
        {"apiVersion": rights, "kind": "RoleBinding", "metadata": meta,
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sidecar"},
         "subjects": [{"kind": "ServiceAccount", "name": "sidecar", "namespace": story.apps}]},
    ]);
    story.kubectl().apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string())?;
    let token = story.kubectl().run(&["create", "token", "sidecar"])?.trim().to_owned();
    story.cluster.kubeconfig_for(&story.folder, "sidecar", &crate::testbed::cluster::Credentials::Token(token))
}

fn one() -> Plan<'static> {
    Plan { accounts: &["bot"], route: json!({}), watched: false, late: &[] }
}

fn two() -> Plan<'static> {
    Plan { accounts: &["bot", "spare"], ..one() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_at_the_provider_costs_the_app_nothing() -> Result<()> {
    let scene = Scene::begin("sidecar-revoked", one()).await?;
    let bot = scene.client("bot").id.clone();
    assert_eq!(scene.get().await?, (StatusCode::OK, json!({"client": bot, "posted": null})));
    scene.revoke("bot").await?;
    let issued = scene.issued("bot").await?;
    // Many at once, some with a body: one token request for all of them.
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..40 {
        let request = if number % 2 == 0 {
            scene.app.get(format!("{}/items", scene.proxy.url()))
        } else {
            scene.app.post(format!("{}/items", scene.proxy.url())).body(format!("item {number}"))
        };
        asking.spawn(async move {
            let answer = request.send().await?;
            Ok::<_, reqwest::Error>((number, answer.status(), answer.text().await?))
        });
    }
    while let Some(answered) = asking.join_next().await {
        let (number, status, text) = answered??;
        let said: Value = serde_json::from_str(&text).map_err(|error| format!("{status} {text}: {error}"))?;
        let posted = if number % 2 == 0 { Value::Null } else { json!(format!("item {number}")) };
        assert_eq!((status, said), (StatusCode::OK, json!({"client": bot, "posted": posted})));
    }
    assert_eq!(scene.issued("bot").await?, issued + 1);
    assert_eq!(scene.proxy.metric(r#"oauth_proxy_refresh_requests_total{result="renewed"}"#).await?, Some(1.0));
    assert_eq!(scene.proxy.metric(r#"oauth_proxy_requests_total{account="bot",code="401",route="items"}"#).await?, None);
    let refused = scene.api.seen().into_iter().filter(|seen| seen.client.is_none()).count();
    assert!(refused > 0, "the API has refused the old token");
    let token = scene.token("bot")?;
    let log = scene.proxy.process.output();
    assert!(!log.contains(&token) && !log.contains(&token[..12]), "no token in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_begins_with_a_fresh_token_and_comes_whole() -> Result<()> {
    let scene = Scene::begin("sidecar-stream", one()).await?;
    scene.revoke("bot").await?;
    let answer = scene.app.get(format!("{}/events?count=50&every=20", scene.proxy.url())).send().await?;
    assert_eq!(answer.status(), StatusCode::OK);
    // A token that ends within the stream does not end the stream.
    scene.revoke("bot").await?;
    let expected: String = (0..50).map(|number| format!("data: {number}\n\n")).collect();
    assert_eq!(answer.text().await?, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_one_account_cannot_be_helped_another_is_used() -> Result<()> {
    let scene = Scene::begin("sidecar-failover", two()).await?;
    scene.spoil("bot").await?;
    scene.revoke("bot").await?;
    let spare = scene.client("spare").id.clone();
    for turn in 0..20 {
        assert_eq!(scene.get().await?, (StatusCode::OK, json!({"client": spare, "posted": null})), "turn {turn}");
    }
    let stream = scene.app.get(format!("{}/events?count=3&every=1", scene.proxy.url())).send().await?;
    assert_eq!((stream.status(), stream.text().await?), (StatusCode::OK, "data: 0\n\ndata: 1\n\ndata: 2\n\n".to_owned()));
    let failovers = scene.proxy.metric(r#"oauth_proxy_failovers_total{from="bot",reason="rejected"}"#).await?;
    assert_eq!(failovers, Some(1.0), "an account whose token is refused is spared");
    // Both are refused, and neither can be helped: the API's own words, unchanged.
    scene.spoil("spare").await?;
    scene.revoke("spare").await?;
    let answer = scene.app.get(format!("{}/items", scene.proxy.url())).send().await?;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["www-authenticate"], r#"Bearer realm="items", error="invalid_token""#);
    assert!(!answer.headers().contains_key("x-oauth-proxy-error"));
    assert_eq!(answer.text().await?, "who are you?");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_token_the_kubelet_has_not_brought_is_asked_for_before_the_app_is_refused() -> Result<()> {
    let scene = Scene::begin("sidecar-late", Plan { late: &["spare"], ..two() }).await?;
    let (bot, spare) = (scene.client("bot").id.clone(), scene.client("spare").id.clone());
    assert_eq!(scene.get().await?, (StatusCode::OK, json!({"client": bot, "posted": null})));
    scene.spoil("bot").await?;
    scene.revoke("bot").await?;
    assert_eq!(scene.get().await?, (StatusCode::OK, json!({"client": spare, "posted": null})));
    assert_eq!(scene.issued("spare").await?, 1, "its token was there, and is given without another");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_again_is_refused_once_and_helps_the_next() -> Result<()> {
    let plan = Plan { route: json!({"limits": {"replayBytes": 1000}}), ..one() };
    let scene = Scene::begin("sidecar-large", plan).await?;
    scene.revoke("bot").await?;
    let post = |bytes: usize| scene.app.post(format!("{}/items", scene.proxy.url())).body("x".repeat(bytes)).send();
    let refused = post(1001).await?;
    assert_eq!((refused.status(), refused.text().await?), (StatusCode::UNAUTHORIZED, "who are you?".to_owned()));
    let renewed = async || {
        scene.proxy.metric(r#"oauth_proxy_refresh_requests_total{result="renewed"}"#).await.is_ok_and(|count| count == Some(1.0))
    };
    scene.proxy.process.until("renewed", SOON, renewed).await?;
    assert_eq!(post(1001).await?.status(), StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_secret_is_followed_and_its_end_cuts_nobody() -> Result<()> {
    let scene = Scene::begin("sidecar-watch", Plan { watched: true, ..one() }).await?;
    assert_eq!(scene.get().await?.0, StatusCode::OK);
    let stream = scene.app.get(format!("{}/events?count=30&every=100", scene.proxy.url())).send().await?;
    // Nobody makes the Secret anew.
    scene.story.kubectl().run(&["delete", "oauthaccount", "bot", "--timeout=10s"])?;
    let gone = async || scene.proxy.get("/readyz").await.is_ok_and(|(status, _)| status == 503);
    scene.proxy.process.until("gone", SOON, gone).await?;
    let (_, why) = scene.proxy.get("/readyz").await?;
    assert!(why.contains("bot: there is no access_token yet"), "{why}");
    let (status, said) = scene.get().await?;
    assert_eq!((status, &said["error"]["code"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("credential_unavailable")));
    assert!(said["error"]["message"].as_str().is_some_and(|words| words.contains("bot: there is no access_token")), "{said}");
    let expected: String = (0..30).map(|number| format!("data: {number}\n\n")).collect();
    assert_eq!(stream.text().await?, expected, "what was under way is not cut");
    // The account comes back, and with it the token; nobody touches the proxy.
    let client = scene.client("bot");
    scene.story.account("bot", &issuer(scene.provider), client, &json!({}))?;
    scene.story.until_ready("bot").await?;
    scene.proxy.until_ready().await?;
    assert_eq!(scene.get().await?.0, StatusCode::OK);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_secret_is_followed_without_the_operator() -> Result<()> {
    let scene = Scene::begin("sidecar-volume", one()).await?;
    let Scene { story, operator, proxy, provider, .. } = &scene;
    // The operator refreshes, the kubelet delivers, and nobody has asked for anything.
    let before = scene.token("bot")?;
    story.kubectl().run(&["annotate", "oauthaccount", "bot", "oauth-operator.dev/refresh-requested-at=2026-01-01T00:00:00Z"])?;
    story.until_generation("bot", 2).await?;
    let after = scene.token("bot")?;
    assert_ne!(before, after);
    TokenVolume::empty("sidecar-volume", "bot")?.publish(&after)?;
    let began = Instant::now();
    let taken = || Ok(proxy.process.output().contains(&fingerprint(&after)).then_some(()));
    eventually(Duration::from_secs(5), taken).await?.ok_or("the new token is not taken")?;
    assert!(began.elapsed() < Duration::from_secs(3), "an event tells, not the next round");
    provider.revoke(scene.client("bot"), &before).await?;
    assert_eq!(scene.get().await?.0, StatusCode::OK);
    let (_, metrics) = operator.get("/metrics").await?;
    assert!(!metrics.contains("oauth_operator_refresh_requests_total{"), "nobody has asked the operator: {metrics}");
    Ok(())
}

fn fingerprint(token: &str) -> String {
    oauth_operator::oauth::Sensitive::new(token).fingerprint()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_operator_is_away_a_refused_token_is_the_upstreams_word_and_then_is_not() -> Result<()> {
    let mut scene = Scene::begin("sidecar-away", one()).await?;
    let port = scene.operator.tls_address.port();
    drop(std::mem::replace(&mut scene.operator, scene.story.operator_with("operator-2", &AT_LOOPBACK).await?));
    scene.revoke("bot").await?;
    // The first operator's port is nobody's: the proxy cannot ask.
    let (status, said) = scene.get().await?;
    assert_eq!((status, said), (StatusCode::UNAUTHORIZED, json!("who are you?")));
    let log = scene.proxy.process.output();
    assert!(log.contains("the operator does not answer"), "{log}");
    // It comes back there.
    let listen = format!("127.0.0.1:{port}");
    let flags = [&AT_LOOPBACK[..], &["--listen-tls", &listen]].concat();
    let _operator = scene.story.operator_with("operator-3", &flags).await?;
    let helped = async || scene.get().await.is_ok_and(|(status, _)| status == StatusCode::OK);
    scene.proxy.process.until("helped", Duration::from_secs(60), helped).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_with_another_ca_is_believed_as_soon_as_the_kubelet_has_brought_it() -> Result<()> {
    let mut scene = Scene::begin("sidecar-ca", one()).await?;
    let (first, port) = (bundle(&scene.story).await?, scene.operator.tls_address.port());
    // As after a restore into a cluster where the CA's Secret was not kept.
    scene.operator.process.signal(Signal::TERM);
    scene.operator.process.end_within(SOON).await.ok_or("it did not end")?;
    scene.story.cluster.kubectl().namespaced(&scene.story.system).run(&["delete", "secret", CA])?;
    let listen = format!("127.0.0.1:{port}");
    let flags = [&AT_LOOPBACK[..], &["--listen-tls", &listen]].concat();
    scene.operator = scene.story.operator_with("operator-2", &flags).await?;
    let another = || {
        let told = scene.story.kubectl().run(&["get", "configmap", CA, "-o", r"jsonpath={.data.ca\.crt}"])?;
        Ok(Some(told).filter(|told| !told.is_empty() && *told != first))
    };
    let another = eventually(SOON, another).await?.ok_or("the namespace is not told of the new CA")?;

    // Whoever answers there is a stranger: no question goes to it, and no ServiceAccount token.
    scene.revoke("bot").await?;
    assert_eq!(scene.get().await?, (StatusCode::UNAUTHORIZED, json!("who are you?")));
    let log = scene.proxy.process.output();
    assert!(log.contains("the operator does not answer") && log.contains("certificate"), "{log}");
    assert_eq!(scene.issued("bot").await?, 1);
    std::fs::write(&scene.ca, another)?;
    let helped = async || scene.get().await.is_ok_and(|(status, _)| status == StatusCode::OK);
    scene.proxy.process.until("helped", Duration::from_secs(60), helped).await?;
    assert_eq!(scene.issued("bot").await?, 2, "one for all who asked");
    Ok(())
}
