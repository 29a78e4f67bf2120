//! The endpoint, served: which answer is given in which words.

use super::caller::{AUDIENCE, Caller, Reviews, Right};
use super::flight::{Ending, Flights};
use super::turnstile::Turnstile;
use crate::account::{Record, token_secret_name};
use crate::api::OAuthAccount;
use crate::consent::flow::is_name;
use crate::world::access::PodReference;
use crate::world::{ApiError, clock, entropy, pods};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of a request's body.
const LARGEST_BODY: usize = 4 * 1024;
/// Bytes of a token that is shown: those of ServiceAccounts have one to two thousand.
const LARGEST_TOKEN: usize = 16 * 1024;
/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds after which to ask again, where nothing tells better.
const SOON: u64 = 5;
const LATER: u64 = 60;

/// What the endpoint is made of.
pub struct Endpoint {
    flights: Arc<Flights>,
    turnstile: Turnstile,
    reviews: Reviews,
}

impl Endpoint {
    /// An endpoint that searches with these.
    pub fn new(flights: Arc<Flights>) -> Arc<Self> {
        Arc::new(Self { flights, turnstile: Turnstile::default(), reviews: Reviews::default() })
    }
}

/// The endpoint of one replica.
pub fn routes(endpoint: Arc<Endpoint>) -> Router {
    Router::new().route("/v1/namespaces/{namespace}/accounts/{name}/refresh", post(answer)).with_state(endpoint)
}

/// What is asked.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    /// The first eight hex digits of the SHA-256 of the token that was refused; absent: there was none, or it has expired.
    #[serde(default)]
    rejected_fingerprint: Option<String>,
}

impl Asked {
    /// What a body says; nothing is said by none.
    fn read(body: &[u8]) -> Result<Self, &'static str> {
        let wrong = r#"The body must be JSON such as {"rejectedFingerprint": "ba7816bf"}, the first eight hex digits of the token's SHA-256, in lower case."#;
        let said = body.trim_ascii();
        let asked: Self = match said.first() {
            None => Self::default(),
            Some(b'{') => serde_json::from_slice(said).map_err(|_| wrong)?,
            Some(_) => return Err(wrong),
        };
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let fits = |text: &String| text.len() == 8 && text.bytes().all(digit);
        if asked.rejected_fingerprint.as_ref().is_none_or(fits) { Ok(asked) } else { Err(wrong) }
    }
}

/// Somebody who may have the token of an account.
struct Admitted {
    caller: Caller,
    right: Right,
    /// The published one, where it is not the one that was refused.
    at_hand: Option<Record>,
}

/// What was read before it was known who asks.
struct Ahead {
    pod: Option<(PodReference, Option<Pod>)>,
    at_hand: Option<Record>,
}

/// An answer without a token.
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds after which to ask again.
    again: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), again: None }
    }

    fn again(self, seconds: u64) -> Self {
        Self { again: Some(seconds), ..self }
    }

    fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many ask at once; ask again in a moment.").again(1)
    }

    fn unreachable() -> Self {
        let message = "The cluster's API server does not answer the operator; ask again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", message).again(SOON)
    }

    /// The same for whoever may not and for an account that does not exist.
    fn stranger(who: &str, namespace: &str, name: &str) -> Self {
        let message = format!(
            "{who} may not have the token of OAuthAccount {name} in namespace {namespace}, or there is no such account: its Pod must mount the account's token Secret, or it must be allowed the verb refresh on the account and get on that Secret."
        );
        Self::new(StatusCode::FORBIDDEN, "not_entitled", message)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        if error.is_forbidden() {
            tracing::error!(
                %error,
                "the operator lacks a right that its refresh endpoint needs: apply deploy/operator.yaml of this version"
            );
            let message = "The operator may not find out who you are or what you may do; whoever runs it finds in its log which right it lacks.";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "operator_lacks_rights", message).again(LATER);
        }
        tracing::warn!(%error, "it could not be found out who asks for a newer token");
        Self::unreachable()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message}});
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.again {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

async fn answer(
    State(endpoint): State<Arc<Endpoint>>,
    Path((namespace, name)): Path<(String, String)>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let answered = endpoint.answer((&namespace, &name), from.ip(), &parts.headers, body).await;
    let result = match &answered {
        Ok((_, true)) => "refreshed",
        Ok((_, false)) => "newer",
        Err(refusal) => refusal.code,
    };
    endpoint.flights.world.metrics.refresh_requests.with_label_values(&[result]).inc();
    match answered {
        Ok((record, _)) => token(&record),
        Err(refusal) => refusal.into_response(),
    }
}

/// The answer with a token.
fn token(record: &Record) -> Response {
    let public = &record.public;
    let mut response = Json(json!({
        "accessToken": record.access_token.expose(),
        "tokenType": public.token_type,
        "expiresAt": public.expiration_time.0.to_string(),
        "generation": public.generation,
    }))
    .into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Endpoint {
    /// A token, and whether it had to be waited for.
    async fn answer(
        &self,
        (namespace, name): (&str, &str),
        from: IpAddr,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<(Record, bool), Refusal> {
        if !is_name(namespace) || !is_name(name) {
            let message = "The path must name a namespace and an account: /v1/namespaces/{namespace}/accounts/{name}/refresh.";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "malformed", message));
        }
        let shown = bearer(headers).ok_or_else(|| {
            let message =
                format!("Show a ServiceAccount token of this cluster with the audience {AUDIENCE}: Authorization: Bearer …");
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
        })?;
        let malformed = |message| Refusal::new(StatusCode::BAD_REQUEST, "malformed", message);
        let body = tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await;
        let body = body.map_err(|_| malformed("The body did not come in time."))?;
        let body = body.map_err(|_| malformed("The body is cut off, or larger than 4 KiB."))?;
        let asked = Asked::read(&body).map_err(malformed)?;
        let rejected = asked.rejected_fingerprint.as_deref();
        let Admitted { caller, right, at_hand } = self.admit(shown, from, (namespace, name), rejected).await?;
        let found = match at_hand {
            Some(record) => Ok((record, false)),
            None => self.searched(&caller, namespace, name, rejected).await,
        };
        match &found {
            Ok((record, _)) => told(&caller, &right, namespace, name, record),
            Err(refusal) => refused(&caller, namespace, name, refusal),
        }
        found
    }

    /// What a search ends with.
    async fn searched(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
        rejected: Option<&str>,
    ) -> Result<(Record, bool), Refusal> {
        let _place = self.turnstile.enter(namespace).ok_or_else(Refusal::busy)?;
        match self.flights.search(namespace, name, rejected).await {
            Ending::Token(record, waited) => Ok((*record, waited)),
            Ending::Refused(obstacle, again) => {
                let status = StatusCode::from_u16(obstacle.because.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                let refusal = Refusal::new(status, obstacle.because.code(), obstacle.sentence);
                Err(refusal.again(again.map_or(LATER, |again| seconds_until(again, clock::now()))))
            }
            Ending::TookTooLong => {
                let message = "No newer token came in time. The wish for one stands for a minute; ask again.";
                Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "took_too_long", message).again(SOON))
            }
            Ending::Gone => Err(Refusal::stranger(caller.name(), namespace, name)),
            Ending::Unreachable => Err(Refusal::unreachable()),
        }
    }

    /// Who shows this token, and by what right they have that of the account. In place of one that was refused the published
    /// one is read meanwhile: it is likely to be newer.
    async fn admit(
        &self,
        shown: &str,
        from: IpAddr,
        (namespace, name): (&str, &str),
        rejected: Option<&str>,
    ) -> Result<Admitted, Refusal> {
        let _asked = self.turnstile.knock(from).await.ok_or_else(Refusal::busy)?;
        let world = &self.flights.world;
        let found = (self.flights.find)(namespace, name);
        let caller = async {
            self.reviews.caller(world, shown).await?.ok_or_else(|| {
                let message =
                    format!("This token is nobody's in this cluster, has ended, or is not made for the audience {AUDIENCE}.");
                Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
            })
        };
        let ahead = async {
            let Some(found) = &found else { return Ok(None) };
            Ok(self.read_ahead(shown, namespace, found, rejected).await)
        };
        let (caller, ahead) = tokio::try_join!(caller, ahead)?;
        let stranger = || {
            let refusal = Refusal::stranger(caller.name(), namespace, name);
            refused(&caller, namespace, name, &refusal);
            refusal
        };
        let found = found.ok_or_else(stranger)?;
        let secret = token_secret_name(&found);
        let (pod, read) = ahead.map_or((None, None), |ahead| (ahead.pod, Some(ahead.at_hand)));
        let right = async { caller.right(world, (namespace, name), &secret, pod).await?.ok_or_else(stranger) };
        let at_hand = async {
            match read {
                Some(read) => Ok(read),
                None => Ok(self.at_hand(&found, rejected).await),
            }
        };
        let (right, at_hand) = tokio::try_join!(right, at_hand)?;
        Ok(Admitted { caller, right, at_hand })
    }

    /// What will be needed if the API server says that the token is its Pod's: read while that is asked, and for nobody whose token the
    /// cluster has not signed.
    async fn read_ahead(&self, shown: &str, namespace: &str, found: &OAuthAccount, rejected: Option<&str>) -> Option<Ahead> {
        let world = &self.flights.world;
        let of = self.reviews.likely_pod(world, shown).filter(|of| of.namespace == namespace)?;
        let pod = pods::pod(&world.cluster.objects, namespace, &of.name);
        let (pod, at_hand) = tokio::join!(pod, self.at_hand(found, rejected));
        // A Pod that could not be read is read again, and then it is said why.
        Some(Ahead { pod: pod.ok().map(|pod| (of, pod)), at_hand })
    }

    /// The published token in place of one that was refused. Where it cannot be read, the search says so.
    async fn at_hand(&self, found: &OAuthAccount, rejected: Option<&str>) -> Option<Record> {
        rejected?;
        self.flights.at_hand(found, rejected).await.ok().flatten()
    }
}

/// The bearer token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= LARGEST_TOKEN).then_some(token)
}

/// Whole seconds, rounded up: whoever comes then does not come too soon.
fn seconds_until(moment: Timestamp, now: Timestamp) -> u64 {
    let wait = Duration::try_from(moment.duration_since(now)).unwrap_or_default();
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// Who was given which token, for the audit.
fn told(caller: &Caller, right: &Right, namespace: &str, name: &str, record: &Record) {
    let (right, pod) = match right {
        Right::Mount(pod) => ("mount", pod.as_str()),
        Right::Grant => ("grant", ""),
    };
    let public = &record.public;
    tracing::info!(
        target: "audit",
        who = caller.name(),
        what = "token handed out",
        namespace,
        name,
        right,
        pod,
        result = "success",
        fingerprint = public.fingerprint,
        generation = public.generation,
        requestID = entropy::request_id(),
        "token handed out"
    );
}

/// Who was not given one, for the audit: whoever the cluster does not know is only counted.
fn refused(caller: &Caller, namespace: &str, name: &str, refusal: &Refusal) {
    let (who, result, what) = (caller.name(), refusal.code, "token refused");
    tracing::info!(target: "audit", who, what, namespace, name, result, requestID = entropy::request_id(), "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_a_fingerprint_or_nothing() {
        let fingerprint = |text: &str| Asked::read(text.as_bytes()).map(|asked| asked.rejected_fingerprint);
        assert_eq!(fingerprint(r#"{"rejectedFingerprint": "ba7816bf"}"#), Ok(Some("ba7816bf".into())));
        for nothing in ["", "{}", r#"{"rejectedFingerprint": null}"#] {
            assert_eq!(fingerprint(nothing), Ok(None), "{nothing}");
        }
        for wrong in [
            "null",
            "[]",
            "ba7816bf",
            r#"{"rejectedFingerprint": "BA7816BF"}"#,
            r#"{"rejectedFingerprint": "ba7816b"}"#,
            r#"{"rejectedFingerprint": "ba7816bfa"}"#,
            r#"{"rejectedFingerprint": 12345678}"#,
            r#"{"rejectedToken": "secret"}"#,
        ] {
            let error = fingerprint(wrong).unwrap_err();
            assert!(error.contains("rejectedFingerprint") && !error.contains("secret"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_token_is_shown_as_rfc_6750_says() {
        let shown = |text: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(text).unwrap())]);
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(shown("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(shown("bearer abc").as_deref(), Some("abc"));
        for wrong in ["Bearer", "Bearer ", "Basic abc", "abc", &format!("Bearer {}", "x".repeat(LARGEST_TOKEN + 1))] {
            assert_eq!(shown(wrong), None, "{}", &wrong[..8.min(wrong.len())]);
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn whoever_comes_when_they_were_told_does_not_come_too_soon() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-01-01T00:00:00.250Z");
        assert_eq!(seconds_until(at("2026-01-01T00:00:30Z"), now), 30);
        assert_eq!(seconds_until(at("2026-01-01T00:00:30.250Z"), now), 30);
        assert_eq!(seconds_until(at("2026-01-01T00:00:30.251Z"), now), 31);
        assert_eq!(seconds_until(at("2025-01-01T00:00:00Z"), now), 1);
    }
}
