//! The operator: everything started, and ended in order.

use super::CONCURRENT_RECONCILES;
use super::bundles;
use super::controller::{self, Controller};
use super::history;
use super::injection;
use super::leadership::{LEASE, Leadership, strive};
use super::recovery;
use super::schedules;
use super::server::{Board, serve};
use super::settings::Settings;
use super::sweep;
use super::tls_server;
use super::watches::{self, Scope};
use super::workflow_runs;
use super::workflow_watches;
use crate::account::{Policy, token_secret_name};
use crate::api::{NamespacedName, OAuthAccount, Workflow};
use crate::consent::desk::Desk;
use crate::consent::serve::routes;
use crate::injection::serve::{Webhook, routes as injection_routes};
use crate::oauth::OutboundPolicy;
use crate::refresh_endpoint;
use crate::refresh_endpoint::flight::Flights;
use crate::refresh_endpoint::serve::Endpoint;
use crate::telemetry::metrics::{ACCOUNT_CONTROLLER, Metrics};
use crate::workflow::driver::Tools;
use crate::workflow::limits::Limits;
use crate::workflow::sender::Sender;
use crate::workflow::understand::Definitions;
use crate::world::World;
use crate::world::authority::{Authority, AuthorityError};
use crate::world::bundles::Bundles;
use crate::world::cluster::Cluster;
use crate::world::consents::Consents;
use crate::world::discovery::Discovery;
use crate::world::events::Events;
use crate::world::gate::Gates;
use crate::world::health::{Condition, Health};
use crate::world::issuer::Issuer;
use crate::world::journal::Journal;
use crate::world::keyring::KeyringFile;
use crate::world::lease::LeaseStore;
use crate::world::logins::Logins;
use crate::world::nonces::Nonces;
use crate::world::outbound::Outbound;
use crate::world::recent::Recent;
use crate::world::runs::Runs;
use axum::Router;
use kube_runtime::reflector::store::Writer;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long passes under way may take when the process is asked to end; a Pod has 30 s.
const DRAIN: Duration = Duration::from_secs(25);

/// Name of the operator's own CA on the health board.
const CA: &str = "ca";

/// Why the operator ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until a signal asks it to end.
///
/// # Errors
/// What kept it from starting, a task that ended, or the lost Lease.
pub async fn run(settings: Settings) -> Result<(), Failure> {
    let metrics = Metrics::new(CONCURRENT_RECONCILES)?;
    let cluster = Cluster::connect(&metrics).await?;
    let listener = TcpListener::bind(settings.listen).await.map_err(|error| format!("--listen {}: {error}", settings.listen))?;
    tracing::info!(address = %listener.local_addr()?, version = env!("CARGO_PKG_VERSION"), "listening");
    let address = settings.listen_tls;
    let tls_listener = TcpListener::bind(address).await.map_err(|error| format!("--listen-tls {address}: {error}"))?;
    tracing::info!(address = %tls_listener.local_addr()?, "listening for TLS");
    let webhook_listener = match &settings.injection_webhook {
        Some(_) => Some(webhook_listener(settings.listen_webhook).await?),
        None => None,
    };
    let journal = Journal::open(settings.journal_dir.clone());
    let folder = settings.journal_dir.as_deref().unwrap_or(std::path::Path::new("")).display();
    let journal = journal.map_err(|error| format!("--journal-dir {folder}: {error}"))?;
    let file = settings.state_keyring.as_deref().unwrap_or(std::path::Path::new("")).display();
    let keyring =
        KeyringFile::open(settings.state_keyring.clone()).map_err(|error| format!("--state-keyring {file}: {error}"))?;
    let world = Arc::new(World {
        outbound: Outbound::new(OutboundPolicy { allowed_cidrs: settings.allowed_cidrs.0.clone() }),
        gates: Gates::default(),
        nonces: Nonces::default(),
        discovery: Discovery::default(),
        events: Events::new(cluster.objects.clone(), &settings.identity),
        metrics,
        health: Health::default(),
        recent: Recent::default(),
        journal,
        keyring,
        logins: Logins::default(),
        runs: Runs::default(),
        consents: Consents::default(),
        bundles: Bundles::default(),
        issuer: Issuer::default(),
        identity: settings.identity.clone(),
        started: crate::world::clock::now(),
        namespace: settings.namespace.clone(),
        replies_in_hand: AtomicUsize::new(0),
        cluster,
    });
    let (work, rest) = (CancellationToken::new(), CancellationToken::new());
    let leadership = Leadership::default();
    let passes = TaskTracker::new();
    let mut tasks: JoinSet<(&'static str, Result<(), Failure>)> = JoinSet::new();
    let (mut scopes, mut loops) = (vec![], vec![]);
    let mut controllers = JoinSet::new();
    let policy = Policy {
        token_hosts_required: settings.require_token_hosts,
        password_grant: settings.allow_password_grant,
        consent_url: settings.consent_url.as_deref().map(Into::into),
    };
    for namespace in settings.scopes() {
        let workflows = Writer::<Workflow>::default();
        let adds = world.metrics.queue_adds.with_label_values(&[ACCOUNT_CONTROLLER]);
        let scope = Arc::new(Scope::new(namespace, &workflows, adds));
        spawn(&mut tasks, "watch of accounts", watches::accounts(scope.clone(), world.clone()));
        spawn(&mut tasks, "watch of Secrets", watches::secrets(scope.clone(), world.clone()));
        spawn(&mut tasks, "watch of ConfigMaps", watches::config_maps(scope.clone(), world.clone()));
        spawn(&mut tasks, "watch of workflows", workflow_watches::workflows(scope.clone(), workflows, world.clone()));
        spawn(&mut tasks, "watch of runs", workflow_watches::runs(scope.clone(), world.clone()));
        let controller = Controller {
            world: world.clone(),
            scope: scope.clone(),
            leadership: leadership.clone(),
            policy: policy.clone(),
            stop: work.clone(),
            passes: passes.clone(),
        };
        let controller = Arc::new(controller);
        loops.push(controller.clone());
        controllers.spawn(controller::run(controller));
        let elected = leadership.clone();
        scopes.push(scope.clone());
        // Once, when the Lease is ours: what was woken before was not reconciled.
        spawn(&mut tasks, "wake-up at election", async move {
            elected.elected().await;
            scope.wake_all();
            std::future::pending().await
        });
    }
    let scopes = Arc::new(scopes);
    passes.spawn(recovery::run(loops));
    spawn(&mut tasks, "watch of logins", watches::logins(scopes.clone(), world.clone()));
    spawn(&mut tasks, "watch of consents", watches::consents(scopes.clone(), world.clone()));
    let grace = Duration::from_secs(settings.orphan_grace_seconds);
    spawn(&mut tasks, "sweep", sweep::run(world.clone(), scopes.clone(), leadership.clone(), grace));
    let flights = flights(&policy, &world, &scopes);
    let tools = Arc::new(tools(&settings, &world, &scopes, &flights, &leadership, &work));
    spawn(&mut tasks, "schedules", schedules::run(world.clone(), scopes.clone(), leadership.clone()));
    spawn(&mut tasks, "history", history::run(tools.clone(), scopes.clone(), leadership.clone()));
    controllers.spawn(workflow_runs::run(tools, scopes.clone(), leadership.clone(), passes.clone()));
    let board = Board { world: world.clone(), scopes: scopes.clone(), leadership: leadership.clone(), scrape: Arc::default() };
    let serving = rest.clone();
    tasks.spawn(async move { ("server", serve(listener, board, serving).await.map_err(Into::into)) });
    let authority = Arc::new(Authority::new(world.cluster.objects.clone(), &settings.namespace, settings.tls_names())?);
    spawn(&mut tasks, "operator's own CA", look_after(authority.clone(), world.clone()));
    spawn(&mut tasks, "bundles", bundles::run(world.clone(), scopes.clone(), leadership.clone(), authority.clone()));
    if let Some((name, listener)) = settings.injection_webhook.clone().zip(webhook_listener) {
        spawn(&mut tasks, "webhook's CA", injection::run(world.clone(), leadership.clone(), authority.clone(), name));
        let (routes, scopes) = (webhook(&settings, &world, &scopes), scopes.clone());
        let (authority, serving) = (authority.clone(), rest.clone());
        tasks.spawn(async move {
            injection::until_synced(&scopes).await;
            until_signed(&authority).await;
            let served = tls_server::serve(listener, authority.server_config(), routes, serving);
            ("webhook", served.await.map_err(Into::into))
        });
    }
    let (served, serving) = (served(&settings, &policy, &world, &scopes, flights), rest.clone());
    tasks.spawn(async move {
        // Whoever comes before there is a certificate waits for it.
        until_signed(&authority).await;
        let served = tls_server::serve(tls_listener, authority.server_config(), served, serving);
        ("TLS server", served.await.map_err(Into::into))
    });
    let store = LeaseStore::new(world.cluster.lease.clone(), &settings.namespace, LEASE);
    let lease = strive(store, settings.identity, leadership, rest.clone());
    tasks.spawn(async move { ("leader election", lease.await.map_err(Into::into)) });

    let ended = tokio::select! {
        signal = asked_to_end() => { signal?; None }
        Some(ended) = tasks.join_next() => Some(ended),
        Some(ended) = controllers.join_next() => Some(ended.map(|()| ("controller", Ok(())))),
    };
    if let Some(ended) = ended {
        // A dead task is a dead process: half an operator looks well and does nothing. Only what a provider has answered is
        // brought home first: it is fenced by its intent, with or without the Lease.
        work.cancel();
        passes.close();
        if world.replies_in_hand.load(Ordering::Acquire) > 0 {
            let _ = tokio::time::timeout(DRAIN, passes.wait()).await;
        }
        let (task, result) = ended?;
        return Err(result.err().unwrap_or_else(|| format!("the {task} ended").into()));
    }
    tracing::info!("asked to end: no new work is taken");
    work.cancel();
    passes.close();
    let drained = tokio::time::timeout(DRAIN, async {
        while controllers.join_next().await.is_some() {}
        passes.wait().await;
    });
    if drained.await.is_err() {
        // The Lease is not given up: it runs out, and until then nobody works beside them.
        return Err(format!("some passes did not end within {} s", DRAIN.as_secs()).into());
    }
    rest.cancel();
    let given_up = tokio::time::timeout(Duration::from_secs(3), async {
        while let Some(Ok((task, result))) = tasks.join_next().await {
            if task == "leader election" {
                return result;
            }
        }
        Ok(())
    });
    given_up.await.unwrap_or(Ok(()))?;
    tracing::info!("ended");
    Ok(())
}

/// An account as the caches have it.
fn found(scopes: &[Arc<Scope>], namespace: &str, name: &str) -> Option<Arc<OAuthAccount>> {
    scopes.iter().find(|scope| scope.covers(namespace))?.accounts.get(&NamespacedName::new(namespace, name))
}

/// What works on runs of workflows.
fn tools(
    settings: &Settings,
    world: &Arc<World>,
    scopes: &Arc<Vec<Arc<Scope>>>,
    flights: &Arc<Flights>,
    leadership: &Leadership,
    stop: &CancellationToken,
) -> Tools {
    let (here, leadership) = (scopes.clone(), leadership.clone());
    let leads = Box::new(move || leadership.is_held());
    Tools {
        sender: Sender { world: world.clone(), flights: flights.clone(), leads },
        definitions: Definitions::default(),
        limits: Limits::new(settings.max_concurrent_steps),
        find: Box::new(move |namespace, name| found(&here, namespace, name)),
        stop: stop.clone(),
    }
}

/// Searches for tokens: for whoever asks at the refresh endpoint, and for workflows.
fn flights(policy: &Policy, world: &Arc<World>, scopes: &Arc<Vec<Arc<Scope>>>) -> Arc<Flights> {
    let (here, marked) = (scopes.clone(), scopes.clone());
    let find = move |namespace: &str, name: &str| found(&here, namespace, name);
    let mark = move |account: &OAuthAccount, secret: &str| {
        let metadata = &account.metadata;
        let (uid, namespace) = (metadata.uid.as_deref()?, metadata.namespace.as_deref()?);
        let mark = marked.iter().find(|scope| scope.covers(namespace))?.marks.of(uid, &NamespacedName::new(namespace, secret))?;
        Some(mark.resource_version.into_string())
    };
    Arc::new(Flights::new(world.clone(), policy.clone(), Box::new(find), Box::new(mark)))
}

/// What is served under TLS: the refresh endpoint, and the consent pages where they are to be.
fn served(
    settings: &Settings,
    policy: &Policy,
    world: &Arc<World>,
    scopes: &Arc<Vec<Arc<Scope>>>,
    flights: Arc<Flights>,
) -> Router {
    let there = scopes.clone();
    let endpoint = refresh_endpoint::serve::routes(Endpoint::new(flights));
    if settings.consent_url.is_none() {
        return endpoint;
    }
    tracing::info!(url = settings.consent_url, "consent pages are served");
    let find = move |namespace: &str, name: &str| found(&there, namespace, name);
    let desk = Desk { world: world.clone(), policy: policy.clone(), find: Box::new(find) };
    endpoint.merge(routes(Arc::new(desk)))
}

async fn webhook_listener(address: std::net::SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| format!("--listen-webhook {address}: {error}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening for new Pods");
    Ok(listener)
}

/// What puts the sidecar into new Pods.
fn webhook(settings: &Settings, world: &Arc<World>, scopes: &Arc<Vec<Arc<Scope>>>) -> Router {
    let here = scopes.clone();
    let secret_of = move |namespace: &str, name: &str| found(&here, namespace, name).map(|account| token_secret_name(&account));
    let sidecar = settings.proxy_image.clone().sidecar(settings.namespace.clone());
    injection_routes(Webhook::new(sidecar, Box::new(secret_of), world.metrics.clone()))
}

/// Looks after the operator's own CA. Without it nothing is served under TLS, which the health board says; accounts are served
/// all the same.
async fn look_after(authority: Arc<Authority>, world: Arc<World>) {
    let served = authority.clone();
    let told = move |error: Option<&AuthorityError>| match error {
        None => world.health.set(CA, Condition::Healthy, "certificates are signed"),
        Some(error) if served.bundle().is_empty() => {
            world.health.set(CA, Condition::Unhealthy, format!("nothing is served under TLS: {error}"));
        }
        Some(error) => world.health.set(CA, Condition::Degraded, error.to_string()),
    };
    authority.run(told).await;
}

/// Waits until there is a certificate, for a moment: without one, whoever comes is turned away at the handshake.
async fn until_signed(authority: &Authority) {
    for _ in 0..500 {
        if !authority.bundle().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn spawn(
    tasks: &mut JoinSet<(&'static str, Result<(), Failure>)>,
    name: &'static str,
    task: impl Future<Output = ()> + Send + 'static,
) {
    tasks.spawn(async move {
        task.await;
        (name, Ok(()))
    });
}

async fn asked_to_end() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
