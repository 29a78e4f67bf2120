//! Token endpoints.

use super::connection::Connection;
use super::entropy;
use super::gate::{Bearing, Gates, Permit};
use super::{ApiError, World, clock};
use crate::oauth::{
    Ending, Fault, FaultKind, Moment, Reply, TlsSettings, Token, TokenRequest, hex, host_and_port, judge, wanted_nonce,
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;
use url::Url;

/// For how long a client is left alone by a 429 that names no time.
const LEAST_PATIENCE: SignedDuration = SignedDuration::from_secs(1);
/// How long a pass waits for its turn. Then it begins anew, with the spec and the Secrets as they are then.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a reply that are read.
const MOST: usize = 256 * 1024;
/// One exchange in all: an intent lives longer than that.
const EXCHANGE: Duration = Duration::from_secs(20);
/// How old an intent may be when the first byte leaves: a process that was paused in between does not post.
const FRESH: Duration = Duration::from_secs(10);

/// An answer, with the moments between which it came about.
pub struct Exchange<T> {
    /// When the request left.
    pub sent: Timestamp,
    /// When the answer was there.
    pub finished: Timestamp,
    /// The answer, judged.
    pub result: T,
}

/// Waits for a turn at the gate of a host, before the accounts whose token lives longer than `deadline`.
///
/// # Errors
/// [`ApiError::TurnNotCome`] where it has not come for a while, [`ApiError::LeaseLost`] where we are no longer to ask when it
/// comes.
pub async fn take_turn(gates: &Gates, host: &str, deadline: Timestamp, still: impl Fn() -> bool) -> Result<Permit, ApiError> {
    let permit = tokio::time::timeout(LONGEST_WAIT, gates.enter(host, deadline)).await.ok().flatten();
    if still() { permit.ok_or(ApiError::TurnNotCome) } else { Err(ApiError::LeaseLost) }
}

/// Whether the provider has asked this client for patience.
///
/// # Errors
/// [`FaultKind::RateLimited`], with the time that is left.
pub fn heed(gates: &Gates, endpoint: &Url, client_id: &str) -> Result<(), Fault> {
    let now = clock::now();
    let Some(until) = gates.cooling_until(&host_and_port(endpoint), client_id, now) else { return Ok(()) };
    let message = format!("The provider has asked this client for patience: it is not asked before {until:.0}.");
    Err(Fault { retry_after: Some(until.duration_since(now)), ..Fault::new(FaultKind::RateLimited, message) })
}

/// Asks for a token, once; and once more where the provider wants another nonce in the DPoP proof.
pub async fn redeem(
    world: &World,
    request: &TokenRequest,
    tls: &TlsSettings,
    permit: Option<&Permit>,
) -> Exchange<Result<Token, Fault>> {
    let sent = clock::now();
    let result = ask(world, request, tls, sent).await;
    let finished = clock::now();
    learn(&world.gates, request, permit, result.as_ref().err(), finished);
    Exchange { sent, finished, result }
}

/// Asks an endpoint what spends nothing, once.
///
/// # Errors
/// A fault that says what kept the answer away.
pub async fn converse(world: &World, request: &TokenRequest, tls: &TlsSettings) -> Exchange<Result<Reply, Fault>> {
    let sent = clock::now();
    let result = match request.compose(&moment(None)) {
        Ok(composed) => world.outbound.send(composed, tls, MOST).await,
        Err(fault) => Err(fault),
    };
    Exchange { sent, finished: clock::now(), result }
}

/// Posts what may be spent only once: after the connection stands, if the intent that began then is still fresh and we may
/// still post; and never again, but for a request that was refused for want of a nonce, which has spent nothing.
pub async fn spend(
    world: &World,
    request: &TokenRequest,
    tls: &TlsSettings,
    permit: Option<&Permit>,
    began: Duration,
    still: impl Fn() -> bool,
) -> Exchange<Ending> {
    let sent = clock::now();
    let result = post(world, request, tls, began, still).await;
    let finished = clock::now();
    let judged = match &result {
        Ending::NotSent(fault) | Ending::Lost(fault) => Some(fault.clone()),
        Ending::Replied(reply) => judge(reply, &request.dialect, &[], sent, finished).err(),
    };
    learn(&world.gates, request, permit, judged.as_ref(), finished);
    Exchange { sent, finished, result }
}

async fn post(world: &World, request: &TokenRequest, tls: &TlsSettings, began: Duration, still: impl Fn() -> bool) -> Ending {
    let deadline = Instant::now() + EXCHANGE;
    let first = post_once(world, request, tls, known_nonce(world, request), (began, deadline), &still).await;
    let wanted = match &first {
        Ending::Replied(reply) => another_nonce(request, reply),
        Ending::NotSent(_) | Ending::Lost(_) => None,
    };
    match wanted {
        None => first,
        // All of it anew, its connection and the look at the clock included: the intent stands, and nothing is spent.
        nonce => post_once(world, request, tls, nonce, (began, deadline), &still).await,
    }
}

async fn post_once(
    world: &World,
    request: &TokenRequest,
    tls: &TlsSettings,
    nonce: Option<String>,
    (began, deadline): (Duration, Instant),
    still: &impl Fn() -> bool,
) -> Ending {
    let composed = match request.compose(&moment(nonce)) {
        Ok(composed) => composed,
        Err(fault) => return Ending::NotSent(fault),
    };
    let connection = match Connection::open(&world.outbound, &request.endpoint, tls).await {
        Ok(connection) => connection,
        Err(fault) => return Ending::NotSent(fault),
    };
    let age = clock::uptime().saturating_sub(began);
    if age >= FRESH || !still() {
        let message = format!(
            "The operator was held up for {} s after it had written down that it would refresh, or is to end; nothing was sent.",
            age.as_secs()
        );
        return Ending::NotSent(Fault::new(FaultKind::HeldUp, message));
    }
    match tokio::time::timeout_at(deadline, connection.send(composed, MOST)).await {
        Ok(Ok(reply)) => {
            remember_nonce(world, request, &reply);
            Ending::Replied(reply)
        }
        Ok(Err(fault)) => Ending::Lost(fault),
        Err(_) => {
            let place = host_and_port(&request.endpoint);
            Ending::Lost(Fault::new(FaultKind::TimedOut, format!("{place} did not answer within {} s.", EXCHANGE.as_secs())))
        }
    }
}

/// Tells gate and cool-down what was learned of the host.
fn learn(gates: &Gates, request: &TokenRequest, permit: Option<&Permit>, fault: Option<&Fault>, now: Timestamp) {
    let patience = fault.and_then(|fault| match fault.kind {
        FaultKind::RateLimited => Some(fault.retry_after.unwrap_or(LEAST_PATIENCE)),
        // A service that is away may say for how long (RFC 9110 §10.2.3).
        FaultKind::Unavailable if request.client_id.is_some() => fault.retry_after,
        _ => None,
    });
    if let Some(patience) = patience {
        let client = request.client_id.as_deref().unwrap_or_default();
        gates.cool(&host_and_port(&request.endpoint), client, now + patience, now);
    }
    if let Some(permit) = permit {
        permit.learn(match fault.map(|fault| fault.kind) {
            None => Bearing::Well,
            Some(FaultKind::RateLimited | FaultKind::Unavailable | FaultKind::TimedOut) => Bearing::Overloaded,
            Some(_) => Bearing::Indifferent,
        });
    }
}

async fn ask(world: &World, request: &TokenRequest, tls: &TlsSettings, sent: Timestamp) -> Result<Token, Fault> {
    let once = async |nonce| {
        let reply = world.outbound.send(request.compose(&moment(nonce))?, tls, MOST).await?;
        remember_nonce(world, request, &reply);
        Ok::<_, Fault>(reply)
    };
    let mut reply = once(known_nonce(world, request)).await?;
    if let Some(nonce) = another_nonce(request, &reply) {
        reply = once(Some(nonce)).await?;
    }
    judge(&reply, &request.dialect, &request.secrets(), sent, clock::now())
}

/// The nonce that the proof of a request is made with at first.
fn known_nonce(world: &World, request: &TokenRequest) -> Option<String> {
    world.nonces.of(&request.endpoint).filter(|_| request.dpop_key.is_some())
}

/// Remembers the nonce that a reply names, so that the next proof is made with it.
fn remember_nonce(world: &World, request: &TokenRequest, reply: &Reply) {
    if request.dpop_key.is_some() {
        world.nonces.learn(&request.endpoint, reply);
    }
}

/// The nonce for want of which a request was refused.
fn another_nonce(request: &TokenRequest, reply: &Reply) -> Option<String> {
    // Who proves no key is asked for no nonce.
    request.dpop_key.as_ref()?;
    wanted_nonce(reply, &request.dialect).map(str::to_owned)
}

/// Now, what no other request has, and the nonce that the server wants.
pub fn moment(dpop_nonce: Option<String>) -> Moment {
    Moment { now: clock::now(), id: hex(&entropy::bytes::<16>()), dpop_nonce }
}
