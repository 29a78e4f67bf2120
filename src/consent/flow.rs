//! How a consent goes on, as a function of how far it has come; pure.

use crate::account::{Account, Consent, Login, Phase, Plan};
use crate::oauth::{Endpoint, Endpoints, Fault, Sensitive};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use url::Url;

/// How long a link works.
pub const TICKET_LIFETIME: SignedDuration = SignedDuration::from_mins(15);
/// How long a person may take at the provider.
const VISIT: SignedDuration = SignedDuration::from_mins(15);
/// How long a code is kept for the leader: RFC 6749 §4.1.2 lets it live ten minutes at most.
const CODE_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

/// Why a consent does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The link has no ticket, and this account needs one.
    NoTicket,
    /// The ticket is not the one that was given out last, or was used.
    TicketInvalid,
    /// Too much time has passed.
    Expired,
    /// Nothing was begun here: another browser, a cookie that was not kept, or a page that was opened twice.
    NotBegun,
    /// The answer names another provider than the one that was asked (RFC 9207 §2.4).
    WrongIssuer,
    /// The provider says no: its code and words.
    Denied(String, Option<String>),
    /// The answer holds neither a code nor an error.
    Empty,
    /// Another login of the account is being completed at this moment.
    Busy,
}

/// Secrets of one visit, of which only digests are kept where they must come back to us.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// Parameter `state`.
    pub state: Sensitive,
    /// The cookie that binds the answer to the browser.
    pub cookie: Sensitive,
    /// Code verifier (RFC 7636 §4.1).
    pub verifier: Sensitive,
}

impl Secrets {
    /// Made of bytes that nobody else has.
    pub fn new(entropy: &[u8; 96]) -> Self {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Self {
            state: Sensitive::new(part(&entropy[..32])),
            cookie: Sensitive::new(part(&entropy[32..64])),
            verifier: Sensitive::new(part(&entropy[64..])),
        }
    }
}

/// The consent that begins with a link for `by`.
pub fn ticketed(account: Account, ticket: &Sensitive, by: &str, now: Timestamp) -> Consent {
    Consent { account, phase: Phase::Ticket { ticket: ticket.digest() }, expires: now + TICKET_LIFETIME, by: Some(by.to_owned()) }
}

/// Who may go on: whoever has the ticket, or anybody where it is known who must log in.
///
/// # Errors
/// Why not.
pub fn admit(
    prior: Option<&Consent>,
    account: &Account,
    ticket: Option<&str>,
    anybody: bool,
    now: Timestamp,
) -> Result<Option<String>, Refusal> {
    // What came back is redeemed first.
    let busy = |prior: &Consent| matches!(prior.phase, Phase::Deposited { .. }) && prior.expires > now;
    if prior.is_some_and(busy) {
        return Err(Refusal::Busy);
    }
    if anybody {
        // Whoever has a link all the same is told of as who they are.
        let by = prior.filter(|prior| ticket.is_some_and(|ticket| has_ticket(prior, ticket))).and_then(|prior| prior.by.clone());
        return Ok(by);
    }
    let ticket = ticket.filter(|ticket| !ticket.is_empty()).ok_or(Refusal::NoTicket)?;
    let prior = prior.filter(|prior| prior.account == *account).ok_or(Refusal::TicketInvalid)?;
    match has_ticket(prior, ticket) {
        true if prior.expires > now => Ok(prior.by.clone()),
        true => Err(Refusal::Expired),
        false => Err(Refusal::TicketInvalid),
    }
}

fn has_ticket(consent: &Consent, ticket: &str) -> bool {
    matches!(&consent.phase, Phase::Ticket { ticket: digest } if Sensitive::new(ticket).digest() == *digest)
}

/// What a browser is sent to the provider with.
pub struct Asked<'a> {
    /// Whether the code is challenged (RFC 7636).
    pub pkce: bool,
    /// Where the code is to be sent to.
    pub redirect_uri: &'a str,
    /// Who is asked.
    pub endpoints: &'a Endpoints,
    /// Whom the code will be redeemed with.
    pub login: Login,
}

/// The consent of a browser that is sent to the provider.
pub fn started(account: Account, secrets: &Secrets, asked: Asked<'_>, by: Option<String>, now: Timestamp) -> Consent {
    let Asked { pkce, redirect_uri, endpoints, login } = asked;
    let phase = Phase::Started {
        state: secrets.state.digest(),
        cookie: secrets.cookie.digest(),
        verifier: pkce.then(|| secrets.verifier.clone()),
        redirect_uri: redirect_uri.to_owned(),
        issuer: endpoints.issuer.clone(),
        names_issuer: endpoints.names_issuer,
        login,
    };
    Consent { account, phase, expires: now + VISIT, by }
}

/// What came back with a browser.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Parameter `state`.
    pub state: String,
    /// Parameter `code`.
    pub code: Option<Sensitive>,
    /// Parameter `iss` (RFC 9207).
    pub issuer: Option<String>,
    /// Parameters `error` and `error_description` (RFC 6749 §4.1.2.1).
    pub error: Option<(String, Option<String>)>,
}

/// The consent with the code that came back, for the leader to redeem.
///
/// # Errors
/// Why it is not taken: state, browser and issuer must be those that were begun with.
pub fn deposited(prior: Option<&Consent>, cookie: Option<&str>, answer: &Answer, now: Timestamp) -> Result<Consent, Refusal> {
    let prior = prior.ok_or(Refusal::NotBegun)?;
    let Phase::Started { state, cookie: bound, verifier, redirect_uri, issuer, names_issuer, login } = &prior.phase else {
        return Err(Refusal::NotBegun);
    };
    let digest = |text: &str| Sensitive::new(text).digest();
    if digest(&answer.state) != *state || cookie.map(digest).as_ref() != Some(bound) {
        return Err(Refusal::NotBegun);
    }
    if prior.expires <= now {
        return Err(Refusal::Expired);
    }
    match (&answer.issuer, issuer) {
        (Some(theirs), Some(ours)) if theirs != ours => return Err(Refusal::WrongIssuer),
        (None, _) if *names_issuer => return Err(Refusal::WrongIssuer),
        _ => {}
    }
    if let Some((code, words)) = &answer.error {
        return Err(Refusal::Denied(code.clone(), words.clone()));
    }
    let code = answer.code.clone().ok_or(Refusal::Empty)?;
    let (verifier, redirect_uri, cookie) = (verifier.clone(), redirect_uri.clone(), bound.clone());
    let phase = Phase::Deposited { code, verifier, redirect_uri, cookie, at: now, login: login.clone() };
    Ok(Consent { phase, expires: now + CODE_LIFETIME, ..prior.clone() })
}

/// Parameters of the authorization request (RFC 6749 §4.1.1, RFC 7636 §4.3).
pub fn request_parameters(
    plan: &Plan,
    client_id: &str,
    redirect_uri: &str,
    secrets: &Secrets,
    pkce: bool,
) -> Vec<(String, String)> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(secrets.verifier.expose().as_bytes()));
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut parameters = vec![
        text("response_type", "code"),
        text("client_id", client_id),
        text("redirect_uri", redirect_uri),
        text("state", secrets.state.expose()),
    ];
    if !plan.scopes.is_empty() {
        parameters.push(text("scope", &plan.scopes.join(&plan.dialect.scope_delimiter)));
    }
    if pkce {
        parameters.extend([text("code_challenge", &challenge), text("code_challenge_method", "S256")]);
    }
    parameters.extend(plan.audience.iter().map(|audience| text("audience", audience)));
    parameters.extend(plan.resources.iter().map(|resource| text("resource", resource)));
    for (name, value) in &plan.dialect.parameters.authorize {
        parameters.retain(|(there, _)| there != name);
        parameters.extend((!value.is_empty()).then(|| text(name, value)));
    }
    parameters
}

/// Where the browser is sent. `pushed` is what the provider gave for parameters that were pushed (RFC 9126 §4).
///
/// # Errors
/// Where the provider has no authorization endpoint.
pub fn authorization_url(
    endpoints: &Endpoints,
    client_id: &str,
    parameters: &[(String, String)],
    pushed: Option<&str>,
) -> Result<Url, Fault> {
    let mut url = endpoints.require(Endpoint::Authorization)?.clone();
    match pushed {
        Some(request_uri) => {
            url.query_pairs_mut().append_pair("client_id", client_id).append_pair("request_uri", request_uri);
        }
        None => {
            url.query_pairs_mut().extend_pairs(parameters);
        }
    }
    Ok(url)
}

/// Whether a text is a name that an object of Kubernetes may have (RFC 1123): nothing else is looked up, or shown in a command.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    text.len() <= 253 && bytes.iter().all(|byte| fits(*byte)) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
