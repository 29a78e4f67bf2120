//! Token endpoints.

use super::clock;
use super::gate::{Bearing, Gates};
use super::outbound::Outbound;
use crate::oauth::{Fault, FaultKind, Token, TokenRequest, host_and_port, judge};
use jiff::{SignedDuration, Timestamp};

/// For how long a client is left alone by a 429 that names no time.
const LEAST_PATIENCE: SignedDuration = SignedDuration::from_secs(1);
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

/// Asks for a token, once, when its turn has come: before the accounts whose token lives longer than until `deadline`.
/// `None`: by then we were no longer to ask.
pub async fn redeem(
    outbound: &Outbound,
    gates: &Gates,
    request: &TokenRequest,
    ca_bundle: Option<&[u8]>,
    deadline: Timestamp,
    still: impl Fn() -> bool,
) -> Option<Exchange> {
    let host = host_and_port(&request.endpoint);
    let permit = gates.enter(&host, deadline).await;
    if !still() {
        return None;
    }
    let sent = clock::now();
    // Another account of this client was told to wait, while this one waited for its turn or before.
    if let Some(until) = gates.cooling_until(&host, &request.client_id, sent) {
        let message = "The provider has asked this client for patience; nothing is asked until then.";
        let wait = Some(until.duration_since(sent));
        let fault = Fault { retry_after: wait, ..Fault::new(FaultKind::RateLimited, message) };
        return Some(Exchange { sent, finished: sent, asked: false, result: Err(fault) });
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
    Some(Exchange { sent, finished, asked: !refused, result })
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
