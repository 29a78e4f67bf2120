//! The proxy: everything started, kept up with the routes file, and ended in order.

use super::admin::{Board, control, probes};
use super::forward::Worker;
use super::listener::{Door, bind, serve};
use super::open_work::OpenWork;
use super::refresh::Refresher;
use super::request_id::RequestIds;
use super::routes::Routes;
use super::settings::Settings;
use super::table::{Gate, Place, Roster};
use super::volume::{self, Folders};
#[cfg(feature = "proxy-watch")]
use super::{account::Account, routes::AccountSource, watch::Watched};
use crate::telemetry::logs::LogLevel;
use crate::telemetry::proxy_metrics::ProxyMetrics;
use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How often the routes file, and the files it names, are looked at.
const ROUND: Duration = Duration::from_secs(2);
/// Time for what is cut to be told.
const LAST: Duration = Duration::from_millis(200);

/// Why the proxy ends.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until a signal asks it to end.
///
/// # Errors
/// What kept it from starting, or a thread that ended.
pub fn run(settings: Settings, level: LogLevel) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(settings, level))
}

/// A thread that serves.
struct Thread {
    doors: mpsc::UnboundedSender<(Door, Worker)>,
}

impl Thread {
    /// Starts one; `dead` learns when it ends.
    fn start(number: usize, dead: mpsc::UnboundedSender<String>) -> std::io::Result<Self> {
        let (doors, mut opened) = mpsc::unbounded_channel::<(Door, Worker)>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(async {
                while let Some((door, worker)) = opened.recv().await {
                    let dead = dead.clone();
                    tokio::spawn(async move {
                        if let Err(error) = serve(door, worker).await {
                            // Nobody is left to tell when the supervisor is gone.
                            let _ = dead.send(format!("a socket cannot be served: {error}"));
                        }
                    });
                }
                // The doors close when the process does.
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Self { doors })
    }
}

/// An address that is served.
struct Open {
    gate: Arc<ArcSwap<Gate>>,
    closing: CancellationToken,
}

/// Everything that lasts.
struct Proxy {
    settings: Settings,
    metrics: ProxyMetrics,
    roster: Roster,
    threads: Vec<Thread>,
    open: HashMap<Place, Open>,
    refresher: Option<Arc<Refresher>>,
    ids: Arc<RequestIds>,
    folders: watch::Sender<Folders>,
    #[cfg(feature = "proxy-watch")]
    secrets: watch::Sender<Vec<Watched>>,
    board: Board,
    open_work: OpenWork,
}

async fn supervise(settings: Settings, level: LogLevel) -> Result<(), Failure> {
    let metrics = ProxyMetrics::new()?;
    let routes = settings.read()?;
    let (dead, mut died) = mpsc::unbounded_channel();
    let count = settings.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let threads = (0..count).map(|number| Thread::start(number, dead.clone())).collect::<Result<Vec<_>, _>>()?;
    let (folders, followed) = watch::channel(vec![]);
    #[cfg(feature = "proxy-watch")]
    let (secrets, watched) = watch::channel(vec![]);
    let board = Board {
        metrics: metrics.clone(),
        accounts: Arc::default(),
        gates: Arc::default(),
        draining: CancellationToken::new(),
        level,
    };
    let mut proxy = Proxy {
        roster: Roster::new(metrics.clone(), count),
        metrics: metrics.clone(),
        threads,
        open: HashMap::new(),
        refresher: None,
        ids: Arc::default(),
        folders,
        #[cfg(feature = "proxy-watch")]
        secrets,
        board: board.clone(),
        open_work: OpenWork::default(),
        settings,
    };
    proxy.serve(&routes)?;
    tokio::spawn(volume::run(followed, metrics.clone()));
    #[cfg(feature = "proxy-watch")]
    {
        let dead = dead.clone();
        tokio::spawn(async move {
            if let Err(why) = super::watch::run(watched, metrics).await {
                let _ = dead.send(why);
            }
        });
    }
    let routers = [
        ("admin", proxy.settings.admin_listen, probes(board.clone())),
        ("control", proxy.settings.control_listen, control(board.clone())),
    ];
    for (name, address, router) in routers {
        let listener = TcpListener::bind(address).await.map_err(|error| format!("--{name}-listen {address}: {error}"))?;
        tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
        let dead = dead.clone();
        tokio::spawn(async move {
            let ended = axum::serve(listener, router).await;
            let _ = dead.send(format!("the {name} listener ended: {ended:?}"));
        });
    }
    let mut known = proxy.digest(&routes);
    let mut current = routes;
    let mut asked = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        tokio::select! {
            _ = asked.0.recv() => break,
            _ = asked.1.recv() => break,
            () = board.draining.cancelled() => break,
            why = died.recv() => return Err(why.unwrap_or_default().into()),
            () = tokio::time::sleep(ROUND) => {
                // A file that cannot be read counts as another one, so that it is told once.
                let digest = proxy.digest(&current);
                if digest != known {
                    known = digest;
                    match proxy.reload() {
                        Ok(routes) => {
                            // What the new routes name is what is looked at from now on.
                            known = proxy.digest(&routes);
                            current = routes;
                        }
                        Err(why) => tracing::error!("the routes stay as they were: {why}"),
                    }
                }
            }
        }
    }
    proxy.end().await;
    Ok(())
}

impl Proxy {
    /// Stands for everything that routes are made of.
    fn digest(&self, routes: &Routes) -> Vec<u8> {
        let mut digest = Sha256::new();
        for file in self.settings.routes.iter().chain(routes.files().iter()) {
            match std::fs::read(file) {
                Ok(bytes) => digest.update(Sha256::digest(bytes)),
                Err(error) => digest.update(error.to_string()),
            }
        }
        digest.finalize().to_vec()
    }

    fn reload(&mut self) -> Result<Routes, String> {
        let outcome = self.settings.read().and_then(|routes| self.serve(&routes).map(|()| routes));
        self.metrics.route_reloads.with_label_values(&[if outcome.is_ok() { "taken" } else { "refused" }]).inc();
        if outcome.is_ok() {
            tracing::info!("routes taken");
        }
        outcome
    }

    /// Serves these routes: all of them, or what was served before.
    fn serve(&mut self, routes: &Routes) -> Result<(), String> {
        let accounts = self.roster.accounts(routes);
        // One that asks as before goes on, with its connections.
        let known = self.refresher.clone().filter(|known| Some(known.settings()) == routes.refresh.as_ref());
        let new = |refresh| Refresher::new(refresh, self.metrics.clone(), tokio::runtime::Handle::current());
        let refresher = known.or_else(|| routes.refresh.clone().map(new));
        let gates = self.roster.gates(routes, &accounts, refresher.as_ref())?;
        let mut sockets = BTreeMap::new();
        for place in gates.keys().filter(|place| !self.open.contains_key(place)) {
            let address = place.0;
            let listeners = bind(address, self.threads.len()).map_err(|error| format!("{address}: {error}"))?;
            sockets.insert(*place, listeners);
        }
        // From here on nothing fails.
        self.refresher = refresher;
        let folders: Folders =
            accounts.iter().filter_map(|(source, account)| Some((source.directory.clone()?, account.clone()))).collect();
        for (folder, account) in &folders {
            volume::take(folder, account, &self.metrics);
        }
        #[cfg(feature = "proxy-watch")]
        self.secrets.send_replace(watched(&accounts));
        self.board.accounts.store(Arc::new(accounts.into_iter().map(|(_, account)| account).collect()));
        self.board.gates.store(Arc::new(gates.values().cloned().collect()));
        self.folders.send_replace(folders);
        self.open.retain(|address, open| {
            gates.contains_key(address) || {
                open.closing.cancel();
                false
            }
        });
        for (address, gate) in gates {
            if let Some(open) = self.open.get(&address) {
                open.gate.store(gate);
                continue;
            }
            let open = Open { gate: Arc::new(ArcSwap::new(gate)), closing: CancellationToken::new() };
            for (number, listener) in sockets.remove(&address).into_iter().flatten().enumerate() {
                if number == 0 {
                    let at = listener.local_addr().unwrap_or(address.0);
                    tracing::info!(listener = "data", address = %at, "listening");
                }
                let door = Door {
                    listener,
                    gate: open.gate.clone(),
                    closing: open.closing.clone(),
                    accepted: self.metrics.connections.clone(),
                    open: self.metrics.open_connections.clone(),
                };
                let worker = Worker { number, ids: self.ids.clone(), open: self.open_work.clone() };
                // A thread that is gone has said so to the supervisor.
                let _ = self.threads[number].doors.send((door, worker));
            }
            self.open.insert(address, open);
        }
        Ok(())
    }

    async fn end(self) {
        self.board.draining.cancel();
        tracing::info!(under_way = self.open_work.len(), "asked to end: no new connections are taken");
        for open in self.open.values() {
            open.closing.cancel();
        }
        let grace = Duration::from_secs(self.settings.drain_seconds);
        if tokio::time::timeout(grace, self.open_work.ended()).await.is_err() {
            tracing::warn!(under_way = self.open_work.len(), "the time to end is over: what is under way is cut");
            self.open_work.cut();
            let _ = tokio::time::timeout(LAST, self.open_work.ended()).await;
        }
    }
}

/// The Secrets that are to be watched.
#[cfg(feature = "proxy-watch")]
fn watched(accounts: &[(AccountSource, Arc<Account>)]) -> Vec<Watched> {
    let one = |(source, account): &(AccountSource, Arc<Account>)| {
        Some(Watched { namespace: source.namespace.clone(), secret: source.secret.clone()?, account: account.clone() })
    };
    accounts.iter().filter_map(one).collect()
}

impl Routes {
    /// Files that are read beside the routes file.
    fn files(&self) -> Vec<PathBuf> {
        let upstreams = self.listeners.iter().flat_map(|listener| &listener.routes).map(|route| &route.upstream);
        let of_upstreams =
            upstreams.flat_map(|upstream| [&upstream.ca_file, &upstream.client_certificate_file, &upstream.client_key_file]);
        let of_listeners = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let of_listeners = of_listeners.flat_map(|tls| [tls.certificate_file.clone(), tls.key_file.clone()]);
        of_upstreams.flatten().cloned().chain(of_listeners).collect()
    }
}
