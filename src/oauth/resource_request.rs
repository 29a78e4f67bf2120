//! What is sent to a resource server: a request with an access token (RFC 6750 §2.1, RFC 9449 §7.1).

use super::{DPOP, DPoPKey, Fault, FaultKind, Moment, Sensitive};
use http::header::AUTHORIZATION;
use url::Url;

/// A request without a body, with this token; with a proof, where the token is bound to a key.
///
/// # Errors
/// [`FaultKind::Misconfigured`] where it cannot be composed, [`FaultKind::StateUnreadable`] where the key cannot sign.
pub fn resource_request(
    method: &str,
    url: &str,
    access_token: &Sensitive,
    dpop_key: Option<&Sensitive>,
    moment: &Moment,
) -> Result<http::Request<Vec<u8>>, Fault> {
    let useless = || Fault::new(FaultKind::Misconfigured, "The request with the access token could not be composed.");
    let request = http::Request::builder().method(method).uri(url);
    let token = access_token.expose();
    let request = match dpop_key {
        None => request.header(AUTHORIZATION, format!("Bearer {token}")),
        Some(key) => {
            let url = Url::parse(url).map_err(|_| useless())?;
            let proof = DPoPKey::read(key).and_then(|key| key.proof(method, &url, Some(access_token), moment));
            let proof = proof.map_err(unproven)?;
            request.header(AUTHORIZATION, format!("{DPOP} {token}")).header("dpop", proof)
        }
    };
    request.body(vec![]).map_err(|_| useless())
}

/// A key of the operator's own that cannot sign.
pub(super) fn unproven(why: &str) -> Fault {
    Fault::new(FaultKind::StateUnreadable, format!("The key that the token is bound to {why}."))
}
