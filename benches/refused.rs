//! What a refused token costs an app where its successor is there already: in the proxy's own volume, or in the token Secret alone, so that the
//! proxy asks the operator for it. Then it sends the request again.
//! `make bench-refused` runs it: the operator's own image binary, a real control plane, a proxy built for speed.
//!
//! `ACCOUNTS=60` says how many of either; each of them is refused once.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used, reason = "a program for a terminal")]

mod figures;
#[path = "../tests/testbed/mod.rs"]
mod testbed;

use figures::Figure;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::AUTHORIZATION;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testbed::Result;
use testbed::app_pod::AppPod;
use testbed::authorization_server::{Client, random};
use testbed::cluster::Cluster;
use testbed::proxy::Proxy;
use testbed::story::{Reach, Story};
use testbed::token_volume::TokenVolume;
use tokio::net::TcpListener;

/// What tokens begin with that the API refuses.
const STALE: &str = "stale-";
/// How long the API thinks before it refuses a token whose successor has just come into the volume: the proxy has seen it by then.
const THINKS: Duration = Duration::from_millis(300);

/// Volumes into which a successor comes while the stale token is on its way, by account; and for how long the API thought of it.
type Arriving = Arc<Mutex<HashMap<String, (TokenVolume, Duration)>>>;

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let count: usize = std::env::var("ACCOUNTS").unwrap_or_else(|_| "60".into()).parse()?;
    let figures = measure(count).await?;
    figures::conclude(&figures, &testbed::root().join("target/bench"), "refused")
}

async fn measure(count: usize) -> Result<Vec<Figure>> {
    let cluster = Cluster::start_silent("bench-refused").await?;
    let story = Story::begin(&cluster, "bench-refused", Reach::Tenant).await?;
    story.may_review()?;
    let endpoint = story.faulty_endpoint().await?;
    let oauth = Client { id: "bench".into(), secret: random() };
    let names: Vec<String> = (0..=count).map(|number| format!("account-{number}")).collect();
    for name in &names {
        story.account(name, &endpoint.at("/lifetime/36000"), &oauth, &json!({}))?;
    }
    // The name that its certificate is for.
    let operator = story
        .released_operator_with("oauth-operator", &["--allowed-cidrs", "127.0.0.0/8", "--consent-url", "https://127.0.0.1"])
        .await?;
    for name in &names {
        story.until_ready(name).await?;
    }
    let pod = AppPod::begin(&story, &names.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    let arriving = Arriving::default();
    let upstream = api(arriving.clone()).await?;
    let there: Vec<String> = (0..=count).map(|number| format!("there-{number}")).collect();
    let (mut accounts, mut routes) = (vec![], vec![]);
    for name in names.iter().chain(&there) {
        let volume = TokenVolume::with("bench-refused", name, &format!("{STALE}{}", random()))?;
        if there.contains(name) {
            arriving.lock().expect("nobody panics while holding it").insert(name.clone(), (volume.clone(), Duration::ZERO));
        }
        accounts.push(json!({"name": name, "directory": volume.path()}));
        routes.push(json!({
            "name": name, "path": format!("/{name}"), "upstream": {"url": format!("http://{upstream}")}, "pool": [{"account": name}],
        }));
    }
    let routes: Value = json!({
        "accounts": accounts,
        "listeners": [{"addresses": ["127.0.0.1:0"], "routes": routes}],
        "refresh": {
            "url": format!("https://127.0.0.1:{}", operator.tls_address.port()),
            "caFile": pod.ca, "tokenFile": pod.token, "namespace": story.apps,
        },
    });
    let proxy = Proxy::routed("bench-refused-proxy", &routes).await?;
    proxy.until_ready().await?;
    let app = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build()?;
    let ask = async |name: &str| -> Result<f64> {
        let began = Instant::now();
        let status = app.get(format!("{}/{name}", proxy.url())).send().await?.status();
        let took = began.elapsed().as_secs_f64() * 1000.0;
        if status == StatusCode::OK { Ok(took) } else { Err(format!("{name}: {status}").into()) }
    };
    // The first one opens connections.
    ask(&names[0]).await?;
    ask(&there[0]).await?;
    let (mut refused, mut plain, mut arrived) = (vec![], vec![], vec![]);
    for (name, there) in names.iter().zip(&there).skip(1) {
        refused.push(ask(name).await?);
        plain.push(ask(name).await?);
        let took = ask(there).await?;
        let thought = arriving.lock().expect("nobody panics while holding it")[there].1;
        arrived.push(took - thought.as_secs_f64() * 1000.0);
    }
    let given = proxy.metric(r#"oauth_proxy_refresh_requests_total{result="renewed"}"#).await?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    if given != Some(names.len() as f64) {
        return Err(format!("{} requests were refused, and {given:?} tokens were given", names.len()).into());
    }
    for all in [&mut refused, &mut plain, &mut arrived] {
        all.sort_by(f64::total_cmp);
    }
    let questions = questions(&cluster, &story, &std::fs::read_to_string(&pod.token)?, count).await?;
    let added = |all: &[f64], share: f64| all[((count - 1) as f64 * share) as usize] - plain[(count - 1) / 2];
    Ok(vec![
        Figure::alone("an ordinary request, p50".into(), "ms", plain[(count - 1) / 2]),
        Figure::at_most("refused, and its successor is in the volume: added, p50".into(), "ms", added(&arrived, 0.5), 5.0),
        Figure::alone("refused, and its successor is in the volume: added, p95".into(), "ms", added(&arrived, 0.95)),
        Figure {
            reference: Some((questions, "what the operator asks the API server for it, p50")),
            ..Figure::at_most("refused, and its successor is in the Secret: added, p50".into(), "ms", added(&refused, 0.5), 5.0)
        },
        Figure::alone("refused, and its successor is in the Secret: added, p95".into(), "ms", added(&refused, 0.95)),
    ])
}

/// Milliseconds that the API server alone takes for what the operator must ask it, one after the other: whose a token is, whether its Pod lives and
/// mounts the Secret, and what is in it. The median.
async fn questions(cluster: &Cluster, story: &Story<'_>, token: &str, count: usize) -> Result<f64> {
    let client = testbed::client::client(&cluster.kubeconfig).await?;
    let (pods, secrets): (Api<Pod>, Api<Secret>) =
        (Api::namespaced(client.clone(), &story.apps), Api::namespaced(client.clone(), &story.apps));
    let reviews: Api<TokenReview> = Api::all(client);
    let review = TokenReview {
        spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec!["oauth-operator".into()]) },
        ..TokenReview::default()
    };
    let mut all = vec![];
    for number in 1..=count {
        let began = Instant::now();
        let known = reviews.create(&PostParams::default(), &review).await?.status.and_then(|status| status.authenticated);
        if known != Some(true) {
            return Err("the API server does not know the Pod's token".into());
        }
        pods.get("app").await?;
        secrets.get(&format!("account-{number}-token")).await?;
        all.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    all.sort_by(f64::total_cmp);
    Ok(all[(count - 1) / 2])
}

/// An API that refuses what begins with [`STALE`].
async fn api(arriving: Arriving) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let arriving = arriving.clone();
            let answering = service_fn(move |request| answer(request, arriving.clone()));
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answering));
        }
    });
    Ok(address)
}

async fn answer(request: Request<Incoming>, arriving: Arriving) -> std::result::Result<Response<Empty<Bytes>>, Infallible> {
    let token = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let fresh = token.is_some_and(|token| !token.starts_with(STALE));
    let account = request.uri().path().trim_matches('/');
    let volume = arriving.lock().expect("nobody panics while holding it").get(account).map(|(volume, _)| volume.clone());
    if let Some(volume) = volume.filter(|_| !fresh) {
        let began = Instant::now();
        volume.publish(&random()).expect("the folder takes files");
        tokio::time::sleep(THINKS).await;
        let thought = (volume, began.elapsed());
        arriving.lock().expect("nobody panics while holding it").insert(account.to_owned(), thought);
    }
    let mut answer = Response::new(Empty::new());
    *answer.status_mut() = if fresh { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
    Ok(answer)
}
