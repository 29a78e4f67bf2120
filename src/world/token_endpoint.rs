//! Token endpoints.

use super::clock;
use super::gate::{Bearing, Gates};
use super::outbound::Outbound;
use crate::oauth::{Fault, FaultKind, Token, TokenRequest, host_and_port, judge};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// For how long a client is left alone by a 429 that names no time.
const LEAST_PATIENCE: SignedDuration = SignedDuration::from_secs(1);
/// How long a pass waits for its turn. Then it begins anew, with the spec and the Secrets as they are then.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of a reply that are read.
const MOST: usize = 256 * 1024;

/// An answer, with the moments between which it came about.
pub struct Exchange {
    /// When the request left.
    pub sent: Timestamp,
    /// When the answer was there.
    pub finished: Timestamp,
    /// Whether anybody was asked.
    pub asked: bool,
    /// The answer, judged.
    pub result: Result<Token, Fault>,
}

/// When somebody's turn has come.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Before the accounts whose token lives longer than that.
    pub deadline: Timestamp,
    /// Also while the provider wants patience: a person has asked.
    pub insists: bool,
}

/// Why nobody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAsked {
    /// When its turn came, we were no longer to ask.
    NotOurs,
    /// Its turn has not come for a while: what it would send may have changed meanwhile.
    NotYet,
}

/// Asks for a token, once, when its turn has come.
///
/// # Errors
/// Where nobody was asked.
pub async fn redeem(
    outbound: &Outbound,
    gates: &Gates,
    request: &TokenRequest,
    ca_bundle: Option<&[u8]>,
    turn: Turn,
    still: impl Fn() -> bool,
) -> Result<Exchange, NotAsked> {
    let host = host_and_port(&request.endpoint);
    let permit = tokio::time::timeout(LONGEST_WAIT, gates.enter(&host, turn.deadline)).await.map_err(|_| NotAsked::NotYet)?;
    if !still() {
        return Err(NotAsked::NotOurs);
    }
    let sent = clock::now();
    // Another account of this client was told to wait, while this one waited for its turn or before.
    if let Some(until) = gates.cooling_until(&host, &request.client_id, sent).filter(|_| !turn.insists) {
        let message = "The provider has asked this client for patience; nothing is asked until then.";
        let wait = Some(until.duration_since(sent));
        let fault = Fault { retry_after: wait, ..Fault::new(FaultKind::RateLimited, message) };
        return Ok(Exchange { sent, finished: sent, asked: false, result: Err(fault) });
    }
    let result = ask(outbound, request, ca_bundle, sent).await;
    let finished = clock::now();
    if let Err(Fault { kind: FaultKind::RateLimited, retry_after, .. }) = &result {
        gates.cool(&host, &request.client_id, finished + retry_after.unwrap_or(LEAST_PATIENCE), finished);
    }
    if let Some(permit) = permit {
        permit.leave(bearing(&result));
    }
    let refused = matches!(&result, Err(Fault { kind: FaultKind::AddressRefused, .. }));
    Ok(Exchange { sent, finished, asked: !refused, result })
}

fn bearing(result: &Result<Token, Fault>) -> Bearing {
    match result.as_ref().map_err(|fault| fault.kind) {
        Ok(_) => Bearing::Well,
        Err(FaultKind::RateLimited | FaultKind::Unavailable | FaultKind::TimedOut) => Bearing::Overloaded,
        Err(_) => Bearing::Indifferent,
    }
}

async fn ask(outbound: &Outbound, request: &TokenRequest, ca_bundle: Option<&[u8]>, sent: Timestamp) -> Result<Token, Fault> {
    let composed =
        request.compose().map_err(|why| Fault::new(FaultKind::Misconfigured, format!("No request could be made: {why}.")))?;
    let reply = outbound.send(composed, ca_bundle, MOST).await?;
    judge(&reply, &request.secrets(), sent, clock::now())
}
