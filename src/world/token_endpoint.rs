//! Token endpoints.

use super::connection::Connection;
use super::entropy;
use super::gate::{Bearing, Gates, Permit};
use super::outbound::Outbound;
use super::{ApiError, World, clock};
use crate::oauth::{Ending, Fault, FaultKind, Moment, Reply, TlsSettings, Token, TokenRequest, hex, host_and_port, judge};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
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
    let message = "The provider has asked this client for patience; nothing is asked until then.";
    Err(Fault { retry_after: Some(until.duration_since(now)), ..Fault::new(FaultKind::RateLimited, message) })
}

/// Asks for a token, once.
pub async fn redeem(
    world: &World,
    request: &TokenRequest,
    tls: &TlsSettings,
    permit: Option<&Permit>,
) -> Exchange<Result<Token, Fault>> {
    let sent = clock::now();
    let result = ask(&world.outbound, request, tls, sent).await;
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
    let result = match request.compose(&moment()) {
        Ok(composed) => world.outbound.send(composed, tls, MOST).await,
        Err(fault) => Err(fault),
    };
    Exchange { sent, finished: clock::now(), result }
}

/// Posts what may be spent only once: after the connection stands, if the intent that began then is still fresh and we may
/// still post; and never again.
pub async fn spend(
    world: &World,
    request: &TokenRequest,
    tls: &TlsSettings,
    permit: Option<&Permit>,
    began: Duration,
    still: impl Fn() -> bool,
) -> Exchange<Ending> {
    let sent = clock::now();
    let result = post(&world.outbound, request, tls, began, still).await;
    let finished = clock::now();
    let judged = match &result {
        Ending::NotSent(fault) | Ending::Lost(fault) => Some(fault.clone()),
        Ending::Replied(reply) => judge(reply, &request.dialect, &[], sent, finished).err(),
    };
    learn(&world.gates, request, permit, judged.as_ref(), finished);
    Exchange { sent, finished, result }
}

async fn post(
    outbound: &Outbound,
    request: &TokenRequest,
    tls: &TlsSettings,
    began: Duration,
    still: impl Fn() -> bool,
) -> Ending {
    let composed = match request.compose(&moment()) {
        Ok(composed) => composed,
        Err(fault) => return Ending::NotSent(fault),
    };
    let deadline = tokio::time::Instant::now() + EXCHANGE;
    let connection = match Connection::open(outbound, &request.endpoint, tls).await {
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
        Ok(Ok(reply)) => Ending::Replied(reply),
        Ok(Err(fault)) => Ending::Lost(fault),
        Err(_) => {
            let place = host_and_port(&request.endpoint);
            Ending::Lost(Fault::new(FaultKind::TimedOut, format!("{place} did not answer within {} s.", EXCHANGE.as_secs())))
        }
    }
}

/// Tells gate and cool-down what was learned of the host.
fn learn(gates: &Gates, request: &TokenRequest, permit: Option<&Permit>, fault: Option<&Fault>, now: Timestamp) {
    if let Some(Fault { kind: FaultKind::RateLimited, retry_after, .. }) = fault {
        let until = now + retry_after.unwrap_or(LEAST_PATIENCE);
        gates.cool(&host_and_port(&request.endpoint), request.client_id.as_deref().unwrap_or_default(), until, now);
    }
    if let Some(permit) = permit {
        permit.learn(match fault.map(|fault| fault.kind) {
            None => Bearing::Well,
            Some(FaultKind::RateLimited | FaultKind::Unavailable | FaultKind::TimedOut) => Bearing::Overloaded,
            Some(_) => Bearing::Indifferent,
        });
    }
}

async fn ask(outbound: &Outbound, request: &TokenRequest, tls: &TlsSettings, sent: Timestamp) -> Result<Token, Fault> {
    let reply = outbound.send(request.compose(&moment())?, tls, MOST).await?;
    judge(&reply, &request.dialect, &request.secrets(), sent, clock::now())
}

/// Asks a resource server with an access token: the HTTP status of its answer.
///
/// # Errors
/// A fault that says what kept the answer away.
pub async fn probe(outbound: &Outbound, method: &str, url: &str, access_token: &str, tls: &TlsSettings) -> Result<u16, Fault> {
    let request = http::Request::builder().method(method).uri(url).header("authorization", format!("Bearer {access_token}"));
    let request = request.body(vec![]).map_err(|_| Fault::new(FaultKind::Misconfigured, "The probe could not be composed."))?;
    Ok(outbound.send(request, tls, MOST).await?.status)
}

/// Now, and what no other request has.
fn moment() -> Moment {
    Moment { now: clock::now(), id: hex(&entropy::bytes::<16>()) }
}
