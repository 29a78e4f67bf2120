//! The routes as they are served: made of the routes file and what it names, all of it or nothing.

use super::account::Account;
use super::clients::Clients;
use super::refresh::Refresher;
use super::routes::{AccountSource, Listener, Route, Routes, Upstream as UpstreamSettings};
use super::standing::Standing;
use super::tape::Budget;
use super::tls;
use super::upstream::{Upstream, UpstreamTls};
use super::way::{Member, Meters, Way};
use crate::telemetry::proxy_metrics::ProxyMetrics;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// What is served at one address.
pub struct Gate {
    /// Who may ask; `None`: everybody.
    pub clients: Option<Clients>,
    /// TLS.
    pub tls: Option<TlsAcceptor>,
    /// Bytes of bodies that may be kept.
    pub budget: Arc<Budget>,
    /// Where fresh tokens are asked for.
    pub refresher: Option<Arc<Refresher>>,
    /// Wakes who waits for a token.
    pub changed: Arc<Notify>,
    /// The longest path first.
    ways: Vec<Arc<Way>>,
}

/// Why no route was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// None has this path.
    NoPath,
    /// None with this path has this method.
    NoMethod,
}

impl Gate {
    /// The route of a request.
    ///
    /// # Errors
    /// What there is none for.
    pub fn way(&self, method: &Method, path: &str) -> Result<&Arc<Way>, Lost> {
        let mut lost = Lost::NoPath;
        for way in &self.ways {
            if way.leads(path) {
                if way.takes(method) {
                    return Ok(way);
                }
                lost = Lost::NoMethod;
            }
        }
        Err(lost)
    }

    /// Its routes.
    pub fn ways(&self) -> &[Arc<Way>] {
        &self.ways
    }
}

/// What outlives a change of the routes: accounts with their tokens, and how they do.
pub struct Roster {
    /// Accounts by where their tokens come from.
    accounts: HashMap<AccountKey, Arc<Account>>,
    standings: HashMap<(String, String), Arc<Standing>>,
    /// By the files of CA, certificate and key; read anew with the routes.
    tls: HashMap<[Option<std::path::PathBuf>; 3], Arc<UpstreamTls>>,
    changed: Arc<Notify>,
    metrics: ProxyMetrics,
    workers: usize,
}

/// An address, and a number where there are several of it.
pub type Place = (SocketAddr, usize);

type AccountKey = (String, Option<std::path::PathBuf>, Option<String>, Option<String>);

fn key(source: &AccountSource) -> AccountKey {
    (source.name.value.clone(), source.directory.clone(), source.secret.clone(), source.namespace.clone())
}

impl Roster {
    /// An empty one, for so many workers.
    pub fn new(metrics: ProxyMetrics, workers: usize) -> Self {
        Self {
            accounts: HashMap::new(),
            standings: HashMap::new(),
            tls: HashMap::new(),
            changed: Arc::default(),
            metrics,
            workers,
        }
    }

    /// Accounts of these routes with their sources. Those that were known stay, with what they hold.
    pub fn accounts(&mut self, routes: &Routes) -> Vec<(AccountSource, Arc<Account>)> {
        let known = |source: &AccountSource| {
            let new = || Arc::new(Account::new(&source.name.value, source.namespace.clone(), self.changed.clone()));
            (source.clone(), self.accounts.get(&key(source)).cloned().unwrap_or_else(new))
        };
        routes.accounts.iter().map(known).collect()
    }

    /// The routes as they are served, by address; of several with a port of the kernel's choice, each has its number. Nothing is kept of what fails.
    ///
    /// # Errors
    /// A sentence that says what is wrong, and where.
    pub fn gates(
        &mut self,
        routes: &Routes,
        accounts: &[(AccountSource, Arc<Account>)],
        refresher: Option<&Arc<Refresher>>,
    ) -> Result<BTreeMap<Place, Arc<Gate>>, String> {
        self.tls.clear();
        let budget = Budget::new(routes.replay_budget_bytes);
        let by_name: HashMap<&str, &Arc<Account>> =
            accounts.iter().map(|(source, account)| (source.name.value.as_str(), account)).collect();
        let mut gates = BTreeMap::new();
        for listener in &routes.listeners {
            let mut gate = self.gate(listener, &by_name, &budget)?;
            gate.refresher = refresher.cloned();
            let gate = Arc::new(gate);
            for address in &listener.addresses {
                let place = (0..).map(|number| (address.value, number)).find(|place| !gates.contains_key(place));
                gates.extend(place.map(|place| (place, gate.clone())));
            }
        }
        self.accounts = accounts.iter().map(|(source, account)| (key(source), account.clone())).collect();
        Ok(gates)
    }

    fn gate(
        &mut self,
        listener: &Listener,
        accounts: &HashMap<&str, &Arc<Account>>,
        budget: &Arc<Budget>,
    ) -> Result<Gate, String> {
        let mut ways = vec![];
        for route in &listener.routes {
            let way = self.way(route, accounts).map_err(|why| format!("route {}: {why}", route.name.value))?;
            ways.push(Arc::new(way));
        }
        ways.sort_by_key(|way| std::cmp::Reverse(way.path.len()));
        let tls = listener.tls.as_ref().map(tls::acceptor).transpose()?;
        let clients = Clients::new(&listener.clients);
        Ok(Gate { clients, tls, budget: budget.clone(), refresher: None, changed: self.changed.clone(), ways })
    }

    /// TLS with these certificates: one for all routes that have the same, for the platform's are many.
    fn tls(&mut self, upstream: &UpstreamSettings) -> Result<Arc<UpstreamTls>, String> {
        let key = [&upstream.ca_file, &upstream.client_certificate_file, &upstream.client_key_file].map(Clone::clone);
        if let Some(tls) = self.tls.get(&key) {
            return Ok(tls.clone());
        }
        let tls = Arc::new(UpstreamTls::of(upstream)?);
        self.tls.insert(key, tls.clone());
        Ok(tls)
    }

    fn way(&mut self, route: &Route, accounts: &HashMap<&str, &Arc<Account>>) -> Result<Way, String> {
        let url = &route.upstream.url.value;
        let tls = if url.scheme() == "https" { Some(self.tls(&route.upstream)?) } else { None };
        let upstream = Upstream::new(url, tls, route.upstream.http2, route.timeouts.connect_seconds, self.workers);
        let upstream = Arc::new(upstream.ok_or_else(|| format!("{url} names no host"))?);
        let mut members = vec![];
        for entry in &route.pool {
            let name = entry.account.value.as_str();
            let account = accounts.get(name).copied().cloned().ok_or_else(|| format!("there is no account {name}"))?;
            account.prepare(&route.credential.prefix);
            let standing = self.standings.entry((name.to_owned(), upstream.place.clone())).or_default().clone();
            members.push(Member { account, standing, weight: entry.weight, priority: entry.priority });
        }
        let header = |name: &str| name.parse::<HeaderName>().map_err(|_| format!("{name} is no header's name"));
        let mut set = vec![];
        for (name, value) in &route.headers.set {
            set.push((
                header(name)?,
                HeaderValue::from_str(value).map_err(|_| format!("no header may have the value of {name}"))?,
            ));
        }
        let mut strip = route.headers.strip.iter().map(|name| header(name)).collect::<Result<Vec<_>, _>>()?;
        strip.push(route.credential.header.clone());
        Ok(Way {
            name: route.name.value.clone(),
            path: route.path.value.trim_end_matches('/').to_owned(),
            methods: route.methods.clone(),
            strip_prefix: route.strip_prefix,
            upstream,
            members,
            turns: Mutex::default(),
            sticky: route.sticky_header.clone(),
            header: route.credential.header.clone(),
            prefix: route.credential.prefix.clone(),
            set,
            strip,
            timeouts: route.timeouts,
            limits: route.limits,
            rejected: route.rejected_statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok()).collect(),
            ignore_retry_after: route.ignore_retry_after,
            retry_idempotent: route.retry_idempotent,
            envelope: route.envelope,
            meters: Meters::new(&self.metrics, &route.name.value),
        })
    }
}
