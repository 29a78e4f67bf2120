//! A route, ready to be used: everything made beforehand that a request needs.

use super::account::Account;
use super::clock::{Moment, moment, now};
use super::credential::Credential;
use super::fault::Envelope;
use super::pool::{Draw, Obstacle, Turns, View, choose};
use super::routes::{Limits, Timeouts};
use super::standing::Standing;
use super::upstream::Upstream;
use crate::telemetry::proxy_metrics::ProxyMetrics;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use prometheus::{Histogram, IntCounter, IntGauge};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A route.
pub struct Way {
    /// Its name.
    pub name: String,
    /// Beginning of its paths, without the last `/`.
    pub path: String,
    /// Methods; empty: all.
    pub methods: Vec<Method>,
    /// Whether the path is sent on without its beginning.
    pub strip_prefix: bool,
    /// Where it leads.
    pub upstream: Arc<Upstream>,
    /// With whose credentials.
    pub members: Vec<Member>,
    /// Whose turn it is.
    pub turns: Mutex<Turns>,
    /// Header by whose value requests stay with one account.
    pub sticky: Option<HeaderName>,
    /// Header of the credential.
    pub header: HeaderName,
    /// What stands before the token in it.
    pub prefix: String,
    /// Headers that are set.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Headers that are taken away.
    pub strip: Vec<HeaderName>,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How much.
    pub limits: Limits,
    /// Status codes that refuse the token.
    pub rejected: Vec<StatusCode>,
    /// Whether accounts are not spared after 429.
    pub ignore_retry_after: bool,
    /// Whether safe requests are sent once more with another account.
    pub retry_idempotent: bool,
    /// Shape of errors.
    pub envelope: Envelope,
    /// What is counted.
    pub meters: Meters,
}

/// An account of a pool.
pub struct Member {
    /// The account.
    pub account: Arc<Account>,
    /// How it does at this upstream.
    pub standing: Arc<Standing>,
    /// Its share.
    pub weight: u32,
    /// Lower is used first.
    pub priority: u32,
}

/// Handles of metrics, looked up once.
pub struct Meters {
    /// All of them.
    pub all: ProxyMetrics,
    /// From a request's head to the end of its answer.
    pub duration: Histogram,
    /// Answers under way.
    pub open: IntGauge,
    route: String,
    /// Second in which a fault was logged last, and how many were not since.
    told: AtomicU64,
    untold: AtomicU64,
    /// By index of the member and status code. There are few.
    counted: Mutex<Vec<(Option<usize>, u16, IntCounter)>>,
}

impl Meters {
    /// Of a route.
    pub fn new(all: &ProxyMetrics, route: &str) -> Self {
        Self {
            duration: all.duration.with_label_values(&[route]),
            open: all.open_streams.with_label_values(&[route]),
            route: route.to_owned(),
            told: AtomicU64::new(0),
            untold: AtomicU64::new(0),
            counted: Mutex::default(),
            all: all.clone(),
        }
    }

    /// Counts an answer.
    pub fn count(&self, member: Option<(usize, &str)>, status: StatusCode) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (index, code) = (member.map(|(index, _)| index), status.as_u16());
        if let Some((.., counter)) = counted.iter().find(|(one, other, _)| *one == index && *other == code) {
            counter.inc();
            return;
        }
        let account = member.map_or("", |(_, name)| name);
        let counter = self.all.requests.with_label_values(&[account, &self.route, status.as_str()]);
        counter.inc();
        counted.push((index, code, counter));
    }

    /// Whether a fault is to be logged: one a second is. With how many were not since the last.
    pub fn tell(&self, now: Moment) -> Option<u64> {
        let second = now / 1000 + 1;
        if self.told.swap(second, Ordering::Relaxed) == second {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.untold.swap(0, Ordering::Relaxed))
    }

    /// An answer was cut.
    pub fn abort(&self, side: &str) {
        self.all.aborts.with_label_values(&[&self.route, side]).inc();
    }
}

impl Way {
    /// Whether it serves this path.
    pub fn leads(&self, path: &str) -> bool {
        path.strip_prefix(self.path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether it serves this method.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty() || self.methods.contains(method)
    }

    /// The next account for a request, that it was not sent with yet.
    ///
    /// # Errors
    /// What keeps all of them.
    pub fn pick(&self, headers: &HeaderMap, tried: &[usize]) -> Result<(usize, Arc<Credential>), Obstacle> {
        let held: SmallVec<[_; 4]> = self.members.iter().map(|member| member.account.credential()).collect();
        let (now, moment) = (now(), moment());
        let view = |(index, member): (usize, &Member)| {
            let obstacle = match &held[index] {
                _ if tried.contains(&index) => Some(Obstacle::Tried),
                None => Some(Obstacle::NoCredential),
                Some(credential) if !credential.allows(&self.upstream.place) => Some(Obstacle::HostNotAllowed),
                Some(credential) if !credential.is_live(now) => Some(Obstacle::NoCredential),
                Some(_) if self.is_full(member) => Some(Obstacle::Saturated),
                Some(_) => None,
            };
            let (broken, health) = member.standing.state(moment);
            View {
                obstacle,
                broken,
                cooling: !self.ignore_retry_after && member.standing.is_cooling(moment),
                refused: held[index].as_ref().is_some_and(|credential| member.account.is_rejected(credential, moment)),
                priority: member.priority,
                weight: member.weight,
                health,
                in_flight: member.standing.in_flight(),
            }
        };
        let views: SmallVec<[View; 4]> = self.members.iter().enumerate().map(view).collect();
        let index = if let [only] = views[..] {
            only.obstacle.map_or(Ok(0), Err)?
        } else {
            let sticky = self.sticky.as_ref().and_then(|name| headers.get(name)).map(HeaderValue::as_bytes);
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            choose(
                &views,
                |index| self.members[index].account.name.as_str(),
                &mut turns,
                &Draw { random: fastrand::u64(..), sticky },
            )?
        };
        held[index].clone().map(|credential| (index, credential)).ok_or(Obstacle::NoCredential)
    }

    fn is_full(&self, member: &Member) -> bool {
        let most = self.limits.in_flight_per_account;
        most > 0 && member.standing.in_flight() >= most
    }
}
