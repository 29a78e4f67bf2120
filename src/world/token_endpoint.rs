//! Token endpoints.

use super::clock;
use super::gate::Gates;
use super::outbound::Outbound;
use crate::oauth::{Fault, FaultKind, Token, TokenRequest, host_and_port, judge};
use jiff::Timestamp;

/// Bytes of a reply that are read.
const MOST: usize = 256 * 1024;

/// An answer, with the moments between which it came about.
pub struct Exchange {
    /// When the request left.
    pub sent: Timestamp,
    /// When the answer was there.
    pub finished: Timestamp,
    /// The answer, judged.
    pub result: Result<Token, Fault>,
}

/// Asks for a token, once. `None`: by the time its turn at the gate came, we were no longer to ask.
pub async fn redeem(
    outbound: &Outbound,
    gates: &Gates,
    request: &TokenRequest,
    ca_bundle: Option<&[u8]>,
    still: impl Fn() -> bool,
) -> Option<Exchange> {
    let _permit = gates.enter(&host_and_port(&request.endpoint)).await;
    if !still() {
        return None;
    }
    let sent = clock::now();
    let result = ask(outbound, request, ca_bundle, sent).await;
    Some(Exchange { sent, finished: clock::now(), result })
}

async fn ask(outbound: &Outbound, request: &TokenRequest, ca_bundle: Option<&[u8]>, sent: Timestamp) -> Result<Token, Fault> {
    let composed =
        request.compose().map_err(|why| Fault::new(FaultKind::Misconfigured, format!("No request could be made: {why}.")))?;
    let reply = outbound.send(composed, ca_bundle, MOST).await?;
    judge(&reply, &request.secrets(), sent, clock::now())
}
