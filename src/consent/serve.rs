//! The pages, served: which request does what, and in which words it is answered.

use super::desk::{Desk, Obstacle, Visit};
use super::flow::{self, Answer, Asked, Refusal, Secrets, TICKET_LIFETIME};
use super::pages::{self, Page, Subject};
use crate::account::{Account, Consent, CredentialKind, GrantPlan, Login, Phase, consent_id};
use crate::api::{AttemptResult, ConditionType, OAuthAccount, Pkce, Trigger};
use crate::oauth::{Endpoint, Endpoints, Sensitive, host_and_port};
use crate::world::access::Target;
use crate::world::{ApiError, access, accounts, clock, entropy};
use axum::extract::{DefaultBodyLimit, Form, Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;

/// Bytes of a form.
const LARGEST_FORM: usize = 16 * 1024;
/// How long a browser is kept waiting for what comes of its code.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests at once: people are few, and what keeps tokens fresh must not wait behind those who only knock.
const AT_ONCE: usize = 16;

/// Lets a request in, if there is room.
async fn in_turn(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_place) = places.try_acquire() else {
        return Obstacle::Unavailable("Too many at once", "Try again in a moment.".into()).into_response();
    };
    next.run(request).await
}

/// The pages of one operator.
pub fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/consent/{namespace}/{name}", get(show).post(begin))
        .route("/consent/{namespace}/{name}/code", get(code))
        .route("/consent/{namespace}/{name}/result", get(result))
        .route("/callback/{namespace}/{name}", get(callback))
        .route("/tickets/{namespace}/{name}", post(ticket))
        .layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(AT_ONCE)), in_turn))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .with_state(desk)
}

impl IntoResponse for Obstacle {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => respond(StatusCode::FORBIDDEN, pages::refused(&refusal)),
            Self::Unavailable(title, why) => respond(StatusCode::SERVICE_UNAVAILABLE, pages::unavailable(title, &why)),
        }
    }
}

fn respond(status: StatusCode, page: Page) -> Response {
    let mut response = (status, page.html).into_response();
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(header::CONTENT_SECURITY_POLICY, &page.policy);
    set(header::CACHE_CONTROL, "no-store");
    // A ticket or code in the address is nobody else's business; our own forms say where they come from.
    set(header::REFERRER_POLICY, "same-origin");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(header::X_FRAME_OPTIONS, "DENY");
    set(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    response
}

#[derive(Deserialize)]
struct Link {
    ticket: Option<String>,
}

async fn show(
    State(desk): State<Arc<Desk>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(link): Query<Link>,
) -> Result<Response, Obstacle> {
    if !flow::is_name(&namespace) || !flow::is_name(&name) {
        return Ok((StatusCode::NOT_FOUND, "There is no such page.\n").into_response());
    }
    // Whoever has no ticket learns nothing, not even whether there is such an account or what is wrong with it.
    let stranger = || respond(StatusCode::FORBIDDEN, pages::needs_ticket(&namespace, &name, desk.base()));
    let ticket = link.ticket.as_deref();
    let visit = match desk.visit(&namespace, &name).await {
        Ok(Some(visit)) => visit,
        Ok(None) => return Ok(stranger()),
        Err(_) if ticket.is_none() => return Ok(stranger()),
        Err(obstacle) => return Err(obstacle),
    };
    let has_ticket = flow::admit(visit.consent(), &visit.account, ticket, false, clock::now());
    let open = has_ticket.is_err() && desk.is_open(&visit).await;
    match has_ticket {
        Ok(_) => {}
        Err(_) if open => {}
        Err(Refusal::NoTicket) => return Ok(stranger()),
        Err(refusal) => return Err(refusal.into()),
    }
    let admitted = has_ticket.is_ok();
    if visit.plan.grant == GrantPlan::DeviceCode {
        return Ok(respond(StatusCode::OK, pages::start(&visit.subject(String::new(), admitted), ticket, false)));
    }
    let (_, endpoints) = desk.client(&visit).await?;
    let host = host_and_port(endpoints.require(Endpoint::Authorization)?);
    Ok(respond(StatusCode::OK, pages::start(&visit.subject(host, admitted), ticket, true)))
}

async fn begin(
    State(desk): State<Arc<Desk>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    Form(link): Form<Link>,
) -> Result<Response, Obstacle> {
    // Another site's form must not begin a login in this browser.
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    let origin = headers.get(header::ORIGIN).and_then(|value| value.to_str().ok());
    let foreign = site.is_some_and(|site| !["same-origin", "none"].contains(&site));
    if foreign || origin.is_some_and(|origin| origin != desk.base()) {
        return Err(Refusal::NotBegun.into());
    }
    let now = clock::now();
    let Some(visit) = desk.visit(&namespace, &name).await? else { return Err(Refusal::TicketInvalid.into()) };
    let open = desk.is_open(&visit).await;
    let by = flow::admit(visit.consent(), &visit.account, link.ticket.as_deref(), open, now)?;
    let id = consent_id(&namespace, &name);
    let secrets = Secrets::new(&entropy::bytes());
    let over = visit.consent.as_ref().map(|(version, _)| version);
    let callback = desk.policy.callback(&namespace, &name).unwrap_or_default();
    let (target, endpoints, login, pkce) = if let GrantPlan::AuthorizationCode(pkce) = visit.plan.grant {
        let pkce = pkce == Pkce::S256;
        let (credentials, endpoints) = desk.client(&visit).await?;
        let client_id = &credentials.client_id;
        let parameters = flow::request_parameters(&visit.plan, client_id, &callback, &secrets, pkce);
        let pushed = desk.push(&visit, &credentials, &endpoints, &parameters).await?;
        let url = flow::authorization_url(&endpoints, client_id, &parameters, pushed.as_deref())?;
        let login = visit.asked(&credentials, &endpoints)?;
        (url.to_string(), endpoints, login, pkce)
    } else {
        (format!("{}/consent/{namespace}/{name}/code", desk.base()), Endpoints::default(), Login::default(), false)
    };
    let consent =
        flow::started(visit.account, &secrets, Asked { pkce, redirect_uri: &callback, endpoints: &endpoints, login }, by, now);
    desk.write(&consent, over).await?;
    told("login begun", &consent, None);
    Ok(see_other(&target, Some((&id, secrets.cookie.expose()))))
}

fn see_other(target: &str, cookie: Option<(&str, &str)>) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    if let Ok(target) = HeaderValue::from_str(target) {
        headers.insert(header::LOCATION, target);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Lax: it comes back with the provider's redirect, and with nothing that another site sends (RFC 6265bis §4.1.2.7).
    let cookie =
        cookie.map(|(id, value)| format!("{}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=1800", cookie_name(id)));
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::from_str(&cookie).ok()) {
        headers.insert(header::SET_COOKIE, cookie);
    }
    response
}

/// `__Host-` cookies come from this very host over TLS, and from no other (RFC 6265bis §4.1.3.2).
fn cookie_name(id: &str) -> String {
    format!("__Host-consent-{id}")
}

fn cookie(headers: &HeaderMap, id: &str) -> Option<String> {
    let name = cookie_name(id);
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    pairs.filter_map(|pair| pair.trim().split_once('=')).find(|(there, _)| *there == name).map(|(_, value)| value.to_owned())
}

#[derive(Deserialize)]
struct Returned {
    #[serde(default)]
    state: String,
    code: Option<String>,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

async fn callback(
    State(desk): State<Arc<Desk>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    Query(returned): Query<Returned>,
) -> Result<Response, Obstacle> {
    let id = consent_id(&namespace, &name);
    // Who has no cookie of ours has begun nothing here.
    let cookie = cookie(&headers, &id).ok_or(Refusal::NotBegun)?;
    let Some((version, Some(prior))) = desk.consent(&id).await? else { return Err(Refusal::NotBegun.into()) };
    let short = |text: String| text.chars().filter(|c| !c.is_control()).take(300).collect::<String>();
    let answer = Answer {
        state: returned.state,
        code: returned.code.map(Sensitive::new),
        issuer: returned.iss,
        error: returned.error.map(|error| (short(error), returned.error_description.map(short))),
    };
    let consent = flow::deposited(Some(&prior), Some(&cookie), &answer, clock::now());
    // What somebody only pretends to bring back is no word of whoever began it.
    if !matches!(consent, Err(Refusal::NotBegun)) {
        told("login came back", &prior, consent.as_ref().err());
    }
    let consent = consent?;
    desk.write(&consent, Some(&version)).await?;
    // Not where it is loaded again: the code in this address works once.
    Ok(see_other(&format!("{}/consent/{namespace}/{name}/result", desk.base()), None))
}

async fn result(
    State(desk): State<Arc<Desk>>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Obstacle> {
    let id = consent_id(&namespace, &name);
    if cookie(&headers, &id).is_none() {
        return Err(Refusal::NotBegun.into());
    }
    let Some(visit) = desk.visit(&namespace, &name).await? else { return Err(Refusal::NotBegun.into()) };
    let subject = visit.subject(String::new(), false);
    let (since, code) = match visit.consent() {
        Some(Consent { phase: Phase::Deposited { cookie: bound, code, at, .. }, .. }) => {
            let own = cookie(&headers, &id).is_some_and(|cookie| Sensitive::new(cookie).digest() == *bound);
            if !own {
                return Err(Refusal::NotBegun.into());
            }
            (*at, code.fingerprint())
        }
        // The leader was faster than the browser, and nobody can tell any more whose the cookie is: no more is told than whether
        // it worked a moment ago.
        _ => {
            // As it is now: the cache may be behind what has ended the consent.
            let account = accounts::account(&desk.world.cluster.objects, &namespace, &name).await.ok().flatten();
            let since = clock::now() - SignedDuration::from_secs(60);
            let page = account.and_then(|account| outcome(&account, &subject, since, None));
            let worked = page.as_ref().is_some_and(|(worked, _)| *worked);
            let unsaid = "The provider gave no token for this login; the account’s status says why.";
            let page = match page {
                Some(_) if worked => pages::connected(&subject),
                Some(_) => pages::failed(&subject, unsaid),
                None => pages::forgotten(&subject),
            };
            return Ok(respond(StatusCode::OK, page));
        }
    };
    let began = clock::uptime();
    loop {
        let account = (desk.find)(&namespace, &name);
        if let Some((_, page)) = account.and_then(|account| outcome(&account, &subject, since, Some(&code))) {
            return Ok(respond(StatusCode::OK, page));
        }
        if clock::uptime().saturating_sub(began) > PATIENCE {
            return Ok(respond(StatusCode::OK, pages::working(&subject)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the leader has made of a code, as status tells it, and whether it worked. It is the code of this fingerprint, or what was tried since
/// then: of two logins one after another each is told its own end.
fn outcome(account: &OAuthAccount, subject: &Subject, since: Timestamp, code: Option<&str>) -> Option<(bool, Page)> {
    let status = account.status.as_ref()?;
    let attempt = status.history.first()?;
    let redeemed = status.login.as_ref().map(|login| login.seed_fingerprint.as_str());
    // Status has whole seconds.
    let later = attempt.start_time.0.as_second() >= since.as_second();
    let ours = attempt.trigger == Trigger::Consented && (later || (code.is_some() && redeemed == code));
    if !ours {
        return None;
    }
    if attempt.result == AttemptResult::Succeeded {
        return Some((true, pages::connected(subject)));
    }
    let failing = status.conditions.iter().find(|condition| condition.type_ == ConditionType::RefreshFailing.as_str());
    let why = failing.map_or("The provider gave no token for this login.", |condition| condition.message.as_str());
    Some((false, pages::failed(subject, why)))
}

/// Whether a person says that they have entered the code.
#[derive(Deserialize)]
struct Entered {
    entered: Option<String>,
}

async fn code(
    State(desk): State<Arc<Desk>>,
    Path((namespace, name)): Path<(String, String)>,
    Query(entered): Query<Entered>,
    headers: HeaderMap,
) -> Result<Response, Obstacle> {
    let Some(mut visit) = desk.visit(&namespace, &name).await? else { return Err(Refusal::NotBegun.into()) };
    let cookie = cookie(&headers, &consent_id(&namespace, &name)).map(|cookie| Sensitive::new(cookie).digest());
    let own = matches!(visit.consent(), Some(Consent { phase: Phase::Started { cookie: bound, .. }, .. }) if cookie.as_ref() == Some(bound));
    if !own {
        return Err(Refusal::NotBegun.into());
    }
    let subject = visit.subject(String::new(), true);
    let waits = |visit: &Visit| {
        let credential = visit.login.as_ref().and_then(|login| login.credential.as_ref());
        matches!(credential.map(|credential| &credential.kind), Some(CredentialKind::DeviceCode(_)))
    };
    let began = clock::uptime();
    while entered.entered.is_some() && waits(&visit) && clock::uptime().saturating_sub(began) < PATIENCE {
        tokio::time::sleep(Duration::from_millis(500)).await;
        visit = desk.visit(&namespace, &name).await?.ok_or(Refusal::NotBegun)?;
    }
    let now = clock::now();
    let credential = visit.login.as_ref().and_then(|login| login.credential.as_ref());
    match credential.map(|credential| &credential.kind) {
        Some(CredentialKind::DeviceCode(session)) if session.expires > now => {
            Ok(respond(StatusCode::OK, pages::device(&subject, session, entered.entered.is_some(), now)))
        }
        Some(CredentialKind::RefreshToken) => Ok(respond(StatusCode::OK, pages::connected(&subject))),
        _ => {
            let since = visit.consent().map_or(now, |consent| consent.expires - SignedDuration::from_mins(15));
            let account = (desk.find)(&namespace, &name);
            let page = account.and_then(|account| outcome(&account, &subject, since, None));
            Ok(respond(StatusCode::OK, page.map_or_else(|| pages::no_code(&subject), |(_, page)| page)))
        }
    }
}

/// Gives out a link that works once.
async fn ticket(State(desk): State<Arc<Desk>>, Path((namespace, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let refuse = |status: StatusCode, why: &str| (status, Json(json!({"error": why}))).into_response();
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(token) = bearer.and_then(|value| value.strip_prefix("Bearer ")) else {
        return refuse(StatusCode::UNAUTHORIZED, "Send a token of the cluster: Authorization: Bearer …");
    };
    let client = &desk.world.cluster.objects;
    let unasked = |error: ApiError| {
        tracing::warn!(%error, "it could not be found out who asks for a consent link; is deploy/consent.yaml applied?");
        refuse(StatusCode::SERVICE_UNAVAILABLE, "The operator cannot find out who you are; ask whoever runs it.")
    };
    let person = match access::authenticate(client, token, desk.base()).await {
        Ok(Some(person)) => person,
        Ok(None) => return refuse(StatusCode::UNAUTHORIZED, "The cluster does not know this token."),
        Err(error) => return unasked(error),
    };
    match access::may(client, &person, "authorize", Target::account(&namespace, &name)).await {
        Ok(true) => {}
        Ok(false) => {
            audit(&person.name, "link refused", &namespace, &name, "forbidden");
            let why = format!("{} may not authorize oauthaccounts/{name} in namespace {namespace}.", person.name);
            return refuse(StatusCode::FORBIDDEN, &why);
        }
        Err(error) => return unasked(error),
    }
    let made = async {
        let Some(visit) = desk.visit(&namespace, &name).await? else { return Ok(None) };
        let ticket = Sensitive::new(crate::oauth::hex(&entropy::bytes::<32>()));
        let consent = flow::ticketed(visit.account, &ticket, &person.name, clock::now());
        desk.write(&consent, visit.consent.as_ref().map(|(version, _)| version)).await?;
        told("link given out", &consent, None);
        Ok::<_, Obstacle>(Some((ticket, consent.expires)))
    };
    match made.await {
        Ok(Some((ticket, expires))) => {
            let url =
                Url::parse_with_params(&format!("{}/consent/{namespace}/{name}", desk.base()), [("ticket", ticket.expose())]);
            let url = url.map(|url| url.to_string()).unwrap_or_default();
            let body = json!({"url": url, "expirationTime": expires.to_string(), "seconds": TICKET_LIFETIME.as_secs()});
            let mut response = (StatusCode::CREATED, Json(body)).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response
        }
        Ok(None) => refuse(StatusCode::NOT_FOUND, &format!("There is no OAuthAccount {name} in namespace {namespace}.")),
        Err(Obstacle::Refused(_)) => refuse(StatusCode::CONFLICT, "Somebody else asks for a link at the same time; try again."),
        Err(Obstacle::Unavailable(_, why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

/// Who did what, for the audit.
fn told(what: &str, consent: &Consent, refusal: Option<&Refusal>) {
    let Account { namespace, name, .. } = &consent.account;
    let who = consent.by.as_deref().unwrap_or("anybody who logs in as the expected subject");
    let result = match refusal {
        None => "success",
        Some(Refusal::Denied(..)) => "denied",
        Some(_) => "refused",
    };
    audit(who, what, namespace, name, result);
}

fn audit(who: &str, what: &str, namespace: &str, name: &str, result: &str) {
    tracing::info!(target: "audit", who, what, namespace, name, result, requestID = entropy::request_id(), "{what}");
}
