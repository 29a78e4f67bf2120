//! A login by a person's consent: in a browser, whose code the consent pages deposit (RFC 6749 §4.1), or on another device,
//! which is polled for (RFC 8628). Until somebody consents there is nothing to try and nothing has failed.

use super::login::{Credential, CredentialKind, DeviceSession, Login, Registration};
use super::refresh::{account, bind, past};
use super::revocation::Revocation;
use super::state::State;
use super::state_secret::{StateView, Version};
use super::{Credentials, GrantPlan, Next, Plan, Seen, login_faults};
use crate::api::{Authorization, OAuthAccountStatus, Trigger};
use crate::oauth::{
    DeviceAuthorization, Endpoint, Endpoints, Fault, FaultKind, GrantRequest, RegisteredClient, Sensitive, TokenRequest,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::borrow::Cow;

/// Nobody is asked to log in with a client that ends so soon, or in the last tenth of its life.
const REGISTRATION_LEAD: SignedDuration = SignedDuration::from_mins(10);

/// What the consent pages have left for the leader: a code, and what it is redeemed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deposit {
    /// The Secret that it stands in.
    pub version: Version,
    /// UID of the account that it is for.
    pub uid: String,
    /// The code.
    pub code: Sensitive,
    /// What its challenge was made of.
    pub verifier: Option<Sensitive>,
    /// Where it was sent to.
    pub redirect_uri: String,
    /// When it was left there.
    pub at: Timestamp,
    /// Until when it is worth anything.
    pub expires: Timestamp,
    /// Whom it was asked of, as which client: it is sent to nobody else.
    pub login: Login,
}

/// When a device is polled next, and how much slower than it was told at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// When it is polled next.
    pub next: Timestamp,
    /// Seconds that the provider has asked for beside its interval (RFC 8628 §3.5).
    pub slower: i64,
}

/// What a login is to be refreshed or begun with.
pub enum Candidate {
    /// This state; whether its credential was just imported.
    Held(Box<State>, bool),
    /// Something comes first.
    Step(Box<Next>),
    /// It is a person's turn, or not yet time to ask whether they had it.
    Wait,
}

/// The credentials to ask with: those of the account, or of the client that the provider has registered for us.
///
/// # Errors
/// The step that comes first.
pub fn client<'a>(
    seen: &Seen,
    plan: &Plan,
    credentials: &'a Credentials,
    endpoints: &Endpoints,
    trigger: Trigger,
    now: Timestamp,
) -> Result<Cow<'a, Credentials>, Box<Next>> {
    if !plan.registers {
        return Ok(Cow::Borrowed(credentials));
    }
    let fail = |fault: Fault| Box::new(Next::Fail { trigger, fault });
    // What cannot be read is left alone: it may hold a login.
    if let Some(StateView::Unreadable { fault, .. }) = &seen.login.state {
        return Err(fail(fault.clone()));
    }
    let endpoint = endpoints.require(Endpoint::Registration).map_err(fail)?;
    let origin = endpoint.origin().ascii_serialization();
    let record = seen.login.stored().map(|(_, state)| state);
    // A login that was made with it goes on to its very end.
    let logged_in = record.is_some_and(|state| state.credential.as_ref().is_some_and(Credential::is_refresh_token));
    let alive = |registration: &&Registration| {
        let lead = |end: Timestamp| (end.duration_since(registration.since) / 10).min(REGISTRATION_LEAD);
        let lives = |end: Timestamp| end > now + if logged_in { SignedDuration::ZERO } else { lead(end) };
        registration.origin == origin && registration.expires.is_none_or(lives)
    };
    let held = record.and_then(|state| state.registration.as_ref()).filter(alive);
    if let Some(Registration { client_id, client_secret, .. }) = held {
        let (client_id, client_secret) = (client_id.clone(), client_secret.clone());
        return Ok(Cow::Owned(Credentials { client_id, client_secret, ..credentials.clone() }));
    }
    match &seen.login.registered {
        None => {
            let request = plan.request(endpoint.clone(), credentials, plan.registration(seen));
            Err(Box::new(Next::Register { request, tls: credentials.tls() }))
        }
        Some(Err(fault)) => Err(fail(fault.clone())),
        Some(Ok(RegisteredClient { client_id, client_secret, expires })) => {
            let (client_id, client_secret) = (client_id.clone(), client_secret.clone());
            let end = expires.or_else(|| plan.registration_lifetime.map(|lifetime| now + lifetime));
            let login = Login { origin: origin.clone(), client_id: client_id.clone() };
            let state = begun(seen, login);
            let registration = Some(Registration { client_id, client_secret, since: now, expires: end, origin });
            Err(Box::new(Next::Record { state: State { registration, ..state }, over: seen.login.version() }))
        }
    }
}

/// The state that goes on with what there is, with no login yet or one that is over.
fn begun(seen: &Seen, login: Login) -> State {
    match seen.login.stored() {
        Some((_, state)) if state.login == login => State { account: account(seen), ..state.clone() },
        stored => State::begun(account(seen), login, seen.generation_of_token(), stored.map(|(_, state)| state)),
    }
}

/// What the login goes on with, or how it begins.
///
/// # Errors
/// What stands in its way.
pub fn candidate(
    seen: &Seen,
    plan: &Plan,
    login: &Login,
    credentials: &Credentials,
    endpoints: &Endpoints,
    trigger: Trigger,
    now: Timestamp,
) -> Result<Candidate, Fault> {
    let again = login_faults::again(seen, plan);
    let state = match &seen.login.state {
        Some(StateView::Unreadable { fault, .. }) => return Err(fault.clone()),
        Some(StateView::Stored { state, .. }) => Some(state).filter(|state| state.login == *login),
        Some(StateView::Absent) | None => None,
    };
    let mirrored = |state: &State| {
        let revocation = Revocation::of(plan, credentials, endpoints, seen.policy.token_hosts_required);
        let state = State { account: account(seen), policy: plan.state_policy, revocation, ..state.clone() };
        Box::new(State { token_hosts: credentials.token_hosts.clone(), ..state })
    };
    match deposited(seen, login, state, now) {
        Some(Candidate::Held(state, imported)) => return Ok(Candidate::Held(mirrored(&state), imported)),
        Some(step) => return Ok(step),
        None => {}
    }
    match state.and_then(|state| Some((state, state.credential.as_ref()?))) {
        // Imported in this pass already.
        Some((state, _)) if state.intent.as_ref().is_some_and(|intent| intent.id == seen.instance.intent_id()) => {
            Ok(Candidate::Held(Box::new(state.clone()), false))
        }
        Some((state, Credential { kind: CredentialKind::DeviceCode(session), refresh_token, .. })) => {
            if session.expires <= now {
                return Ok(Candidate::Step(Box::new(expired(state, seen, now, &again))));
            }
            if seen.polled.is_some_and(|polled| polled.next > now) {
                return Ok(Candidate::Wait);
            }
            let grant = GrantRequest::DeviceCode(refresh_token.clone());
            let request = plan.request(endpoints.token(false)?.clone(), credentials, grant);
            Ok(Candidate::Step(Box::new(poll(state, session.interval, request, seen, plan, credentials))))
        }
        Some((state, _)) => match past(seen, plan, trigger, &again) {
            Some(fault) => Err(fault),
            None => Ok(Candidate::Held(mirrored(state), false)),
        },
        // A login there was: it does not begin anew by itself, and a person must hear of it.
        None if seen.generation_of_token() > 0 && trigger != Trigger::Requested && seen.login.device.is_none() => {
            let other = seen.login.stored().map(|(_, state)| state);
            let other = other.filter(|state| state.login != *login && state.credential.is_some());
            Err(other.map_or_else(|| login_faults::dead(&again), |state| login_faults::login_changed(state, login, &again)))
        }
        None if plan.grant == GrantPlan::DeviceCode => {
            let endpoint = endpoints.require(Endpoint::DeviceAuthorization)?;
            Ok(Candidate::Step(Box::new(match &seen.login.device {
                None => {
                    let request = plan.request(endpoint.clone(), credentials, GrantRequest::DeviceAuthorization);
                    Next::BeginDevice { request, tls: credentials.tls() }
                }
                Some(Err(fault)) => return Err(fault.clone()),
                Some(Ok(device)) if !seen.login.code_shown && is_hidden(seen, plan, state) => Next::ShowCode(device.clone()),
                Some(Ok(device)) => {
                    let mut credential = session(device);
                    bind(&mut credential, seen, plan).unwrap_or_else(|| {
                        let state = State { policy: plan.state_policy, ..begun(seen, login.clone()) };
                        Next::Record { state: State { credential: Some(credential), ..state }, over: seen.login.version() }
                    })
                }
            })))
        }
        None => Ok(Candidate::Wait),
    }
}

/// Asks whether the code was entered. The poll that says yes binds token and login to a key: it is written down before.
fn poll(state: &State, interval: i64, request: TokenRequest, seen: &Seen, plan: &Plan, credentials: &Credentials) -> Next {
    let mut armed = state.clone();
    if let Some(step) = armed.credential.as_mut().and_then(|credential| bind(credential, seen, plan)) {
        return step;
    }
    if armed != *state {
        return Next::Record { state: armed, over: seen.login.version() };
    }
    let dpop_key = armed.credential.as_ref().and_then(|credential| credential.dpop_key.clone());
    Next::Poll { request: TokenRequest { dpop_key, ..request }, tls: credentials.tls(), armed, interval }
}

/// What is to be done with a code that the consent pages have left.
fn deposited(seen: &Seen, login: &Login, state: Option<&State>, now: Timestamp) -> Option<Candidate> {
    if !seen.deposited {
        return None;
    }
    let Some(found) = &seen.login.deposit else { return Some(Candidate::Step(Box::new(Next::ReadDeposit))) };
    let deposit = found.as_ref().filter(|deposit| !is_stale(seen, deposit, now) && deposit.login == *login)?;
    let Deposit { code, verifier, redirect_uri, .. } = deposit;
    if state.is_some_and(|state| state.is_dead(code) || state.seed_digest == code.digest()) {
        return None;
    }
    let kind = CredentialKind::AuthorizationCode { redirect_uri: redirect_uri.clone(), verifier: verifier.clone() };
    let prior = seen.login.stored().map(|(_, state)| state);
    let seed = Credential::seed(code, kind);
    let imported = State::imported(account(seen), login.clone(), seed, seen.generation_of_token(), prior);
    Some(Candidate::Held(Box::new(imported), true))
}

/// Whether a deposit is for another account of this name, or too old.
fn is_stale(seen: &Seen, deposit: &Deposit, now: Timestamp) -> bool {
    deposit.uid != seen.uid() || deposit.expires <= now
}

/// Whether what the consent pages have left was tried, or is known not to be worth it: back-off holds for it from then on.
pub fn was_tried(seen: &Seen) -> bool {
    match &seen.login.deposit {
        None => false,
        Some(None) => true,
        Some(Some(deposit)) => seen.status.last_attempt_time.as_ref().is_some_and(|last| last.0 >= deposit.at),
    }
}

/// Whether what the consent pages have left is dealt with.
pub fn is_settled(seen: &Seen) -> bool {
    match &seen.login.deposit {
        None => false,
        Some(None) => true,
        Some(Some(deposit)) => {
            let held = seen.login.stored().and_then(|(_, state)| state.digest());
            let digest = deposit.code.digest();
            let known = seen.login.stored().is_some_and(|(_, state)| state.seed_digest == digest || state.is_dead(&deposit.code));
            known && held != Some(digest)
        }
    }
}

/// The deposit that nobody needs any more.
pub fn used_up(seen: &Seen, now: Timestamp) -> Option<Version> {
    let deposit = seen.login.deposit.as_ref()?.as_ref()?;
    // A code that was not sent is sent again while it lives.
    (is_stale(seen, deposit, now) || is_settled(seen)).then(|| deposit.version.clone())
}

/// Whether it is known who must log in: else whoever reads the code could log in as somebody else.
fn is_pinned(plan: &Plan, state: Option<&State>) -> bool {
    plan.expected_subject.is_some() || state.is_some_and(|state| state.subject.is_some())
}

/// Whether the code is shown neither by status nor by the consent pages.
fn is_hidden(seen: &Seen, plan: &Plan, state: Option<&State>) -> bool {
    !is_pinned(plan, state) && seen.policy.page(&seen.account).is_none()
}

fn session(device: &DeviceAuthorization) -> Credential {
    let session = DeviceSession {
        user_code: device.user_code.clone(),
        verification_url: device.verification_url.clone(),
        verification_url_complete: device.verification_url_complete.clone(),
        expires: device.expires,
        interval: device.interval,
    };
    Credential::seed(&device.device_code, CredentialKind::DeviceCode(session))
}

/// Nobody has entered the code in time: it is put aside, and that is said.
fn expired(state: &State, seen: &Seen, now: Timestamp, again: &str) -> Next {
    let message = format!("Nobody has entered the code in time; {again}.");
    let fault = Some(Fault::new(FaultKind::DeviceCodeExpired, message));
    let attempt = super::AttemptOutcome { trigger: Trigger::Consented, started: now, finished: now, fault, issued: false };
    let settlement = super::Settlement { attempt, record: None };
    Next::Keep { state: state.clone().rejected(), over: seen.login.version(), settlement }
}

/// Whether a device is being polled for.
pub fn is_polled(seen: &Seen) -> bool {
    let credential = seen.login.stored().and_then(|(_, state)| state.credential.as_ref());
    credential.is_some_and(|credential| matches!(credential.kind, CredentialKind::DeviceCode(_)))
}

/// Whether status tells of a code that is to be polled for now.
pub fn poll_is_due(seen: &Seen, now: Timestamp) -> bool {
    let open = seen.status.authorization.as_ref().and_then(|awaited| awaited.expiration_time.as_ref()).is_some();
    open && seen.polled.is_none_or(|polled| polled.next <= now)
}

/// When a device is to be polled next, as far as status and memory tell: also a pass that reads nothing must wake for it.
pub fn next_poll(seen: &Seen, status: &OAuthAccountStatus) -> Option<Timestamp> {
    let end = status.authorization.as_ref()?.expiration_time.as_ref()?.0;
    seen.polled.map(|polled| polled.next.min(end))
}

/// What a person must do, as status tells it: as read, or as status said before.
pub fn authorization(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Authorization> {
    if !plan.is_interactive() {
        return None;
    }
    let page = seen.policy.page(&seen.account);
    let told = seen.status.authorization.as_ref().filter(|told| told.expiration_time.as_ref().is_none_or(|end| end.0 > now));
    let state = match &seen.login.state {
        // A login that nobody looked at is as it was.
        None if seen.status.observed_generation.is_some() => return told.cloned(),
        None => return None,
        Some(StateView::Stored { state, .. }) => Some(state),
        Some(StateView::Absent | StateView::Unreadable { .. }) => None,
    };
    match state.and_then(|state| Some((state, state.credential.as_ref()?))) {
        Some((state, Credential { kind: CredentialKind::DeviceCode(session), .. })) => {
            if session.expires <= now {
                return None;
            }
            let pinned = is_pinned(plan, Some(state));
            let url = session.verification_url_complete.as_ref().unwrap_or(&session.verification_url);
            Some(Authorization {
                url: page,
                user_code: pinned.then(|| session.user_code.clone()),
                verification_url: pinned.then(|| url.clone()),
                expiration_time: Some(Time(session.expires)),
            })
        }
        Some(_) => None,
        None if matches!(plan.grant, GrantPlan::AuthorizationCode(_)) => {
            Some(Authorization { url: page, user_code: None, verification_url: None, expiration_time: None })
        }
        None => None,
    }
}

/// What is waited for, in a sentence.
pub fn awaited(authorization: &Authorization, seen: &Seen) -> String {
    match (&authorization.user_code, &authorization.verification_url, &authorization.url) {
        (Some(code), Some(url), _) => format!("A person must log in: open {url} and enter the code {code}."),
        (_, _, Some(page)) => format!("A person must connect this account: open {page}."),
        _ => format!(
            "A person must log in; the code to enter is in Secret {} of this namespace.",
            authorization_secret_name(&seen.account)
        ),
    }
}

/// Name of the Secret in the account's namespace that shows a code to those who may read the token too.
pub fn authorization_secret_name(account: &crate::api::OAuthAccount) -> String {
    format!("{}-authorization", account.metadata.name.as_deref().unwrap_or_default())
}
