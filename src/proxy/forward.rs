//! One request: judged, given a credential, sent, and its answer judged; until it passes or nothing more can be done.

use super::account::Account;
use super::body::{Exchange, Passing, ResponseBody};
use super::breaker::Ending;
use super::clock::{moment, now};
use super::credential::Credential;
use super::fault::{Code, Fault};
use super::head;
use super::judge::{Course, Outcome, Reason, Verdict, judge};
use super::open_work::OpenWork;
use super::pool::Obstacle;
use super::table::Gate;
use super::tape::{RequestBody, Tape};
use super::tunnel;
use super::upstream::{ConnectError, Held, SendError, UpstreamBody};
use super::way::{Member, Way};
use http::header::{CONNECTION, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Accounts that are asked for at once where none has a token.
const ASKED: usize = 3;
/// How long a request is held where no account has a token.
const HOLD: Duration = Duration::from_secs(5);
/// How long it waits for a token that the upstream has refused to be replaced.
const RENEWAL: Duration = Duration::from_secs(20);

/// One of the threads that serve.
#[derive(Clone)]
pub struct Worker {
    /// Its number.
    pub number: usize,
    /// What is under way.
    pub open: OpenWork,
    /// Names of requests.
    pub ids: Arc<super::request_id::RequestIds>,
}

/// An answer of the upstream's that has not been passed on yet.
struct Reply {
    response: Response<UpstreamBody>,
    held: Held,
    exchange: Exchange,
    member: usize,
}

/// How an attempt failed.
enum Failure {
    /// Nothing was sent.
    Unsent(Fault),
    /// The upstream said that it did nothing with it.
    Unprocessed(Fault),
    /// Something may have been received; whether the connection had been used before.
    Unanswered(Fault, bool),
    /// It is the app's own fault.
    App(Fault),
}

/// How an attempt ended.
type Ended = Result<Reply, Failure>;

/// The same, as it is judged.
fn outcome(ended: &Ended) -> Outcome {
    match ended {
        Ok(reply) => Outcome::Answered(reply.response.status()),
        Err(Failure::Unsent(_)) => Outcome::Unsent,
        Err(Failure::Unprocessed(_)) => Outcome::Unprocessed,
        Err(Failure::Unanswered(_, kept)) => Outcome::Unanswered { kept: *kept },
        Err(Failure::App(_)) => Outcome::ByApp,
    }
}

/// What is passed on when nothing better comes: the upstream's own words before ours, and the last before the first.
fn better(before: Option<Ended>, now: Ended) -> Ended {
    match (before, now) {
        (Some(Ok(reply)), Err(Failure::Unsent(_) | Failure::Unprocessed(_) | Failure::Unanswered(..))) => Ok(reply),
        (_, now) => now,
    }
}

/// A request on its way.
pub struct Job<'a> {
    gate: &'a Gate,
    way: &'a Arc<Way>,
    worker: &'a Worker,
    began: Instant,
    method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    tape: Option<Arc<Tape>>,
    upgrade: Option<OnUpgrade>,
    tried: Vec<usize>,
    unprocessed: usize,
}

impl<'a> Job<'a> {
    /// One that may take this way.
    pub fn new(gate: &'a Gate, way: &'a Arc<Way>, worker: &'a Worker, mut request: Request<Incoming>, id: &HeaderValue) -> Self {
        let wanted = head::wanted_upgrade(request.version(), request.headers());
        let upgrade = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let (Parts { method, uri, version, mut headers, .. }, body) = request.into_parts();
        if version == http::Version::HTTP_2 {
            head::join_cookies(&mut headers);
        }
        head::strip_hop_by_hop(&mut headers);
        head::strip_credentials(&mut headers, &way.strip);
        for (name, value) in &way.set {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert(head::REQUEST_ID, id.clone());
        if let Some(wanted) = wanted {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, wanted);
        }
        let target = head::target(&uri, way.strip_prefix.then_some(way.path.as_str()));
        let tape = (!body.is_end_stream()).then(|| Tape::new(body, way, gate.budget.clone()));
        Self { gate, way, worker, began: Instant::now(), method, target, headers, tape, upgrade, tried: vec![], unprocessed: 0 }
    }

    /// Sends it until it is settled.
    ///
    /// # Errors
    /// Why there is no answer of the upstream's.
    pub async fn run(mut self) -> Result<Response<ResponseBody>, Fault> {
        let mut best = None;
        let mut waited = false;
        loop {
            let (member, credential) = match self.way.pick(&self.headers, &self.tried) {
                Ok(picked) => picked,
                Err(Obstacle::NoCredential) if !waited => {
                    waited = true;
                    Box::pin(self.wait_for_credential(best.is_some())).await;
                    continue;
                }
                Err(obstacle) => return self.settle(best, obstacle),
            };
            self.tried.push(member);
            let (ended, reason) = self.with_account(member, credential).await;
            best = Some(better(best, ended));
            let (Some(reason), true) = (reason, self.is_replayable()) else {
                return self.settle(best, Obstacle::Tried);
            };
            let from = self.way.members[member].account.name.as_str();
            self.way.meters.all.failovers.with_label_values(&[from, reason.name()]).inc();
        }
    }

    /// The request with one account, until it is settled, or goes on to another account for a reason.
    async fn with_account(&mut self, member: usize, mut credential: Arc<Credential>) -> (Ended, Option<Reason>) {
        let account = &self.way.members[member].account;
        let (mut renewed, mut repeated) = (false, false);
        loop {
            let ended = self.attempt(member, &credential).await;
            let unprocessed = matches!(ended, Err(Failure::Unprocessed(_)));
            self.unprocessed += usize::from(unprocessed);
            let course = Course {
                replayable: self.is_replayable(),
                safe: head::is_safe(&self.method),
                retry_idempotent: self.way.retry_idempotent,
                accounts: self.tried.len(),
                renewed,
                repeated,
                unprocessed: self.unprocessed,
            };
            match judge(outcome(&ended), &self.way.rejected, &course) {
                Verdict::Settle => return (ended, None),
                Verdict::Switch(reason) => {
                    if reason == Reason::Rejected {
                        account.rejected(&credential);
                    }
                    return (ended, Some(reason));
                }
                Verdict::Repeat => repeated |= !unprocessed,
                Verdict::SettleAndRenew => {
                    // The next request has the fresh token.
                    drop(self.renew(account, &credential));
                    return (ended, None);
                }
                Verdict::Renew => {
                    renewed = true;
                    match Box::pin(tokio::time::timeout(RENEWAL, self.renew(account, &credential))).await {
                        Ok(Some(fresh)) => (credential, repeated) = (fresh, false),
                        _ => {
                            account.rejected(&credential);
                            let course = Course { renewed, replayable: self.is_replayable(), ..course };
                            return match judge(outcome(&ended), &self.way.rejected, &course) {
                                Verdict::Switch(reason) => (ended, Some(reason)),
                                _ => (ended, None),
                            };
                        }
                    }
                }
            }
        }
    }

    /// A token in place of one that was refused. What is begun here goes on when nobody waits for it.
    fn renew(&self, account: &Arc<Account>, refused: &Arc<Credential>) -> impl Future<Output = Option<Arc<Credential>>> + use<> {
        // What comes of it is told by the refresher, once for all who ask.
        tracing::debug!(
            route = self.way.name,
            account = account.name,
            fingerprint = refused.fingerprint(),
            "the upstream refuses the token"
        );
        let (account, refused) = (account.clone(), refused.clone());
        let asking = self.gate.refresher.as_ref().map(|refresher| refresher.renew(&account, Some(&refused)));
        async move {
            match asking {
                Some(asking) => asking.await.ok().flatten(),
                None => account.credential().filter(|held| held.fingerprint() != refused.fingerprint() && held.is_live(now())),
            }
        }
    }

    /// What the app gets: what there is, or that there is nothing, and why.
    fn settle(mut self, best: Option<Ended>, obstacle: Obstacle) -> Result<Response<ResponseBody>, Fault> {
        let fault = match best {
            Some(Ok(reply)) => return Ok(self.pass(reply)),
            Some(Err(
                Failure::Unsent(fault) | Failure::Unprocessed(fault) | Failure::Unanswered(fault, _) | Failure::App(fault),
            )) => fault,
            None => self.obstructed(obstacle),
        };
        if let Some(tape) = &self.tape {
            tape.hear_out();
        }
        Err(fault)
    }

    async fn attempt(&mut self, member: usize, credential: &Arc<Credential>) -> Ended {
        let way = self.way;
        let unprepared = || Failure::App(Fault::new(Code::CredentialUnavailable, "The token makes no header."));
        let value = credential.value(&way.prefix).ok_or_else(unprepared)?;
        let mut request = Request::new(self.tape.as_ref().map_or(RequestBody::Empty, |tape| RequestBody::Taped(tape.reader())));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(way.header.clone(), value);
        let mut exchange = Exchange::begin(way, member);
        let sending = std::pin::pin!(way.upstream.send(self.worker.number, request, self.upgrade.is_some()));
        match self.in_time(sending).await {
            Some(Ok((response, held))) => {
                let status = response.status();
                if let Err(why) = head::judge_answer(status, response.headers(), self.upgrade.is_some()) {
                    exchange.note(Ending::Failure);
                    let words = format!("{} answers what is not passed on: {}", way.upstream.place, why.0);
                    return Err(Failure::Unanswered(Fault::new(Code::UpstreamBroken, words), false));
                }
                exchange.note(if status.is_server_error() { Ending::Failure } else { Ending::Success });
                if status == StatusCode::TOO_MANY_REQUESTS && !way.ignore_retry_after {
                    way.members[member].standing.cool(head::retry_after(response.headers(), now()).unwrap_or(1));
                }
                Ok(Reply { response, held, exchange, member })
            }
            Some(Err(SendError::NotConnected(error))) => {
                exchange.note(Ending::Failure);
                let code = match error {
                    ConnectError::Unreachable(..) => Code::UpstreamUnreachable,
                    ConnectError::Tls(..) => Code::UpstreamTlsFailed,
                    ConnectError::Late(_) => Code::UpstreamTimeout,
                };
                Err(Failure::Unsent(Fault::new(code, sentence(&error.to_string()))))
            }
            Some(Err(SendError::Broken { .. })) if self.tape.as_ref().is_some_and(|tape| tape.was_cut()) => {
                let stalled = self.tape.as_ref().is_some_and(|tape| tape.has_stalled());
                Err(Failure::App(if stalled {
                    Fault::new(Code::RequestTimeout, "The request's body stalled.")
                } else {
                    Fault::new(Code::BadRequest, "The request's body broke off, or is not what its head says.")
                }))
            }
            Some(Err(SendError::Unprocessed)) => {
                exchange.note(Ending::Neither);
                let words =
                    format!("{} ends connections, or refuses streams, and did nothing with the request.", way.upstream.place);
                Err(Failure::Unprocessed(Fault::new(Code::UpstreamBroken, words)))
            }
            Some(Err(SendError::Broken { error, reused })) => {
                exchange.note(Ending::Failure);
                let words = format!("{} broke off before its answer: {error}.", way.upstream.place);
                Err(Failure::Unanswered(Fault::new(Code::UpstreamBroken, words), reused))
            }
            None => {
                exchange.note(Ending::Failure);
                let words =
                    format!("{} did not answer in time; the route's timeouts say how long is waited.", way.upstream.place);
                Err(Failure::Unanswered(Fault::new(Code::UpstreamTimeout, words), false))
            }
        }
    }

    /// Waits for an answer's head as long as the route permits: counted from when the body last moved.
    async fn in_time<T>(&self, mut sending: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let timeouts = &self.way.timeouts;
        let total = (timeouts.total_seconds > 0).then(|| self.began + Duration::from_secs(timeouts.total_seconds));
        let patience = (timeouts.response_headers_seconds > 0).then(|| Duration::from_secs(timeouts.response_headers_seconds));
        let mut until = [patience.map(|patience| Instant::now() + patience), total].into_iter().flatten().min();
        loop {
            let Some(end) = until else { return Some(sending.await) };
            if let Ok(outcome) = tokio::time::timeout_at(end, sending.as_mut()).await {
                return Some(outcome);
            }
            if total.is_some_and(|total| Instant::now() >= total) {
                return None;
            }
            let quiet = self.tape.as_ref().map(|tape| Duration::from_millis(moment().saturating_sub(tape.progress())));
            match (quiet, patience) {
                (Some(quiet), Some(patience)) if quiet < patience => {
                    until = [Some(Instant::now() + patience - quiet), total].into_iter().flatten().min();
                }
                _ => return None,
            }
        }
    }

    /// The upstream's answer, passed on.
    fn pass(&mut self, reply: Reply) -> Response<ResponseBody> {
        let Reply { mut response, held, exchange, member } = reply;
        let way = self.way;
        way.meters.count(Some((member, &way.members[member].account.name)), response.status());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(app) = self.upgrade.take()
        {
            return tunnel::join(app, response, held, exchange, way, &self.worker.open);
        }
        head::strip_hop_by_hop(response.headers_mut());
        let (mut parts, incoming) = response.into_parts();
        parts.version = http::Version::HTTP_11;
        let body = Passing::new(incoming, held, exchange, self.began, self.tape.take());
        Response::from_parts(parts, ResponseBody::passing(body))
    }

    fn is_replayable(&self) -> bool {
        self.tape.as_ref().is_none_or(|tape| tape.is_replayable())
    }

    /// Asks for tokens for the accounts that have none, and waits a little for one: where there is something to answer already,
    /// no longer than the operator takes.
    async fn wait_for_credential(&self, answered: bool) {
        let until = Instant::now() + HOLD;
        let untried = || self.way.members.iter().enumerate().filter(|(index, _)| !self.tried.contains(index));
        let usable = || untried().any(|(_, member)| member.account.is_usable(now()));
        let mut asked = vec![];
        if let Some(refresher) = &self.gate.refresher {
            let mut lacking: Vec<_> =
                untried().map(|(_, member)| member).filter(|member| !member.account.is_usable(now())).collect();
            lacking.sort_by_key(|member| member.priority);
            let ask = |member: &&Member| refresher.renew(&member.account, member.account.credential().as_ref());
            asked = lacking.iter().take(ASKED).map(ask).collect();
        }
        if answered {
            for asking in asked {
                let over = tokio::time::timeout_at(until, asking).await.is_err();
                if over || usable() {
                    return;
                }
            }
            return;
        }
        loop {
            let mut changed = std::pin::pin!(self.gate.changed.notified());
            changed.as_mut().enable();
            if usable() || tokio::time::timeout_at(until, changed).await.is_err() {
                return;
            }
        }
    }

    /// Why no account can be used.
    fn obstructed(&self, obstacle: Obstacle) -> Fault {
        let way = self.way;
        let each = |say: &dyn Fn(&Account) -> String| {
            let all = way.members.iter().map(|member| format!("{}: {}", member.account.name, say(&member.account)));
            all.collect::<Vec<_>>().join("; ")
        };
        match obstacle {
            Obstacle::NoCredential | Obstacle::Tried => {
                let why = each(&|account| account.problem(now()));
                let words = format!(
                    "No account of this route has a token that can be sent ({why}). Look at the OAuthAccount's conditions."
                );
                Fault::new(Code::CredentialUnavailable, words).after(5)
            }
            Obstacle::Saturated => {
                let words = "All accounts of this route have as many requests under way as inFlightPerAccount permits.";
                Fault::new(Code::AccountSaturated, words).after(1)
            }
            Obstacle::HostNotAllowed => {
                let words = format!(
                    "{} is not among the hosts that the accounts of this route allow; spec.allowedHosts of the OAuthAccount names them.",
                    way.upstream.place
                );
                Fault::new(Code::HostNotAllowed, words)
            }
        }
    }
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let mut characters = words.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}
