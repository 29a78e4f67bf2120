//! Resource servers: asked with an access token, to learn whether they take it.

use super::World;
use super::token_endpoint::moment;
use crate::oauth::{Fault, FaultKind, Sensitive, TlsSettings, resource_request, told_nonce};
use http::header::WWW_AUTHENTICATE;
use url::Url;

/// Bytes of an answer that are read.
const MOST: usize = 256 * 1024;

/// What a resource server says to a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header `WWW-Authenticate`; empty where there is none.
    pub challenge: String,
}

impl Answer {
    /// Whether it is the DPoP proof that is refused, and not the token (RFC 9449 §7.1 and §9).
    pub fn refuses_the_proof(&self) -> bool {
        self.status == 401 && ["invalid_dpop_proof", "use_dpop_nonce"].iter().any(|error| self.challenge.contains(error))
    }
}

/// Asks with an access token, and a proof where it is bound to a key; once more where the server wants another nonce in
/// it.
///
/// # Errors
/// A fault that says what kept the answer away.
pub async fn ask(
    world: &World,
    method: &str,
    url: &str,
    access_token: &Sensitive,
    dpop_key: Option<&Sensitive>,
    tls: &TlsSettings,
) -> Result<Answer, Fault> {
    let place = Url::parse(url).map_err(|_| Fault::new(FaultKind::Misconfigured, "The resource server's address is none."))?;
    let known = world.nonces.of(&place).filter(|_| dpop_key.is_some());
    let once = async |nonce: Option<String>| {
        let request = resource_request(method, url, access_token, dpop_key, &moment(nonce))?;
        let (reply, headers) = world.outbound.exchange(request, tls, MOST).await?;
        let challenge = headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let told = told_nonce(&reply).filter(|_| dpop_key.is_some()).map(str::to_owned);
        if told.is_some() {
            world.nonces.learn(&place, &reply);
        }
        Ok::<_, Fault>((Answer { status: reply.status, challenge }, told))
    };
    match once(known.clone()).await? {
        (Answer { status: 401, .. }, Some(told)) if known.as_ref() != Some(&told) => Ok(once(Some(told)).await?.0),
        (answer, _) => Ok(answer),
    }
}
