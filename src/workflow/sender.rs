//! One request to somebody's API, with an account's token: got when it is sent, got anew once where it is refused, and taken out
//! of what comes back.

use super::answer::{Answer, Judged};
use super::failure::Failure;
use super::request::Call;
use crate::account::{Plan, Record};
use crate::api::{CABundleKind, CABundleReference, OAuthAccount, RunReason};
use crate::oauth::{Reply, Sensitive, TlsSettings, resource_request};
use crate::refresh_endpoint::flight::{Ending, Flights};
use crate::world::remote_api::{Events, Opened, Unanswered};
use crate::world::token_endpoint::moment;
use crate::world::{ApiError, World, clock};
use futures::future::BoxFuture;
use http::header::AUTHORIZATION;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// What stands where a token was.
const MASK: &str = "***";

/// How long is waited before the API server is asked again for what a request needs.
const PAUSE: Duration = Duration::from_secs(1);

/// What an answer means, found out when it begins.
pub type Judge = dyn Fn(Begun) -> BoxFuture<'static, Judged> + Send + Sync;
/// Whether this process leads.
pub type Leads = dyn Fn() -> bool + Send + Sync;

/// Sends requests of workflows.
pub struct Sender {
    /// Everything outside.
    pub world: Arc<World>,
    /// Where tokens come from.
    pub flights: Arc<Flights>,
    /// Whether this process leads.
    pub leads: Box<Leads>,
}

/// An answer that begins, and the token that must not be in it.
pub struct Begun {
    opened: Opened,
    token: Option<Sensitive>,
    most: usize,
}

impl Sender {
    /// Asks, and judges what is answered: where the token is refused, another one is got, and it is asked once more. `once`: it
    /// must not be sent twice by accident.
    pub async fn ask(&self, namespace: &str, call: &Call, once: bool, judge: &Judge) -> Judged {
        let mut rejected: Option<String> = None;
        loop {
            let needed = self.needed(namespace, call, rejected.as_deref()).await;
            // Getting it may have taken until the Lease was somebody else's, who resolves the step without us.
            if !(self.leads)() {
                return Judged::Withheld;
            }
            let (token, tls) = match needed {
                Ok(needed) => needed,
                Err(failure) => return Judged::Failed(failure),
            };
            let fingerprint = token.as_ref().map(|record| record.access_token.fingerprint());
            let exchange = async {
                match self.open(call, once, token, &tls).await {
                    Ok(begun) => judge(begun).await,
                    Err(failure) => Judged::Failed(failure),
                }
            };
            let judged = tokio::time::timeout(call.timeout, exchange).await;
            let Ok(judged) = judged else {
                let message = format!("{} did not answer within timeoutSeconds ({}).", host(call), call.timeout.as_secs());
                return Judged::Failed(Failure::new(RunReason::Timeout, message).doubtful());
            };
            match (judged, fingerprint) {
                (Judged::Unauthorized(_), Some(fingerprint)) if rejected.is_none() => rejected = Some(fingerprint),
                (Judged::Unauthorized(failure), _) => {
                    let fresh = if rejected.is_some() {
                        " A fresh one was refused as well: see what the account may do there."
                    } else {
                        ""
                    };
                    return Judged::Failed(Failure { message: format!("{}{fresh}", failure.message), ..failure });
                }
                (judged, _) => return judged,
            }
        }
    }

    /// What a request needs beside itself: a token that is not the refused one, and whom to trust.
    async fn needed(
        &self,
        namespace: &str,
        call: &Call,
        rejected: Option<&str>,
    ) -> Result<(Option<Box<Record>>, TlsSettings), Failure> {
        let token = match &call.account {
            None => None,
            Some(account) => Some(self.token(namespace, account, rejected).await?),
        };
        Ok((token, self.tls(namespace, call).await?))
    }

    /// A token of the account that is not the refused one.
    async fn token(&self, namespace: &str, account: &str, rejected: Option<&str>) -> Result<Box<Record>, Failure> {
        let mut found = self.flights.search(namespace, account, rejected).await;
        // Nothing is sent yet, and that the API server is away for a while is no fault of the step's.
        while matches!(found, Ending::Unreachable) && (self.leads)() {
            tokio::time::sleep(PAUSE).await;
            found = self.flights.search(namespace, account, rejected).await;
        }
        let now = clock::now();
        let (why, again) = match found {
            Ending::Token(record, _) => return Ok(record),
            Ending::Refused(obstacle, again) => (obstacle.sentence, again),
            Ending::TookTooLong => ("no token came within 20 s.".to_owned(), Some(now)),
            Ending::Gone => ("there is no such account.".to_owned(), None),
            Ending::Unreachable => ("the API server does not answer.".to_owned(), Some(now)),
        };
        let (reason, message) = match rejected {
            None => (RunReason::AccountNotReady, format!("OAuthAccount {account}: {why}")),
            Some(_) => {
                (RunReason::AuthFailed, format!("The token is refused, and OAuthAccount {account} has no other one: {why}"))
            }
        };
        // Nothing was carried out so far: not even with the token that was refused.
        let retry_after = again.map(|again| again.duration_since(now));
        Err(Failure { retry: again.is_some(), retry_after, ..Failure::new(reason, message) })
    }

    /// Sends it; where the token is bound to a key and the server wants another nonce in the proof, once more: it has done
    /// nothing yet (RFC 9449 §9).
    async fn open(&self, call: &Call, once: bool, token: Option<Box<Record>>, tls: &TlsSettings) -> Result<Begun, Failure> {
        let proves = token.as_ref().is_some_and(|record| record.dpop_key.is_some());
        let known = self.world.nonces.of(&call.url).filter(|_| proves);
        let send = async |nonce: Option<String>| {
            let request = composed(call, token.as_deref(), nonce)?;
            self.world.outbound.open(request, tls, once).await.map_err(failure)
        };
        let mut opened = send(known.clone()).await?;
        if proves {
            let told = opened.headers.get("dpop-nonce").and_then(|value| value.to_str().ok()).map(str::to_owned);
            let reply = Reply { status: opened.status, retry_after: None, dpop_nonce: told, body: vec![] };
            self.world.nonces.learn(&call.url, &reply);
            let newest = self.world.nonces.of(&call.url);
            if opened.status == 401 && reply.dpop_nonce.is_some() && newest != known {
                opened = send(newest).await?;
            }
        }
        Ok(Begun { opened, token: token.map(|record| record.access_token), most: call.most })
    }

    /// Whether the API server is asked again: while we lead, until it answers.
    fn waits(&self, error: &ApiError) -> bool {
        !error.is_forbidden() && (self.leads)()
    }

    /// Whom the step trusts.
    async fn tls(&self, namespace: &str, call: &Call) -> Result<TlsSettings, Failure> {
        let Some(reference) = &call.ca else { return Ok(TlsSettings::default()) };
        let CABundleReference { kind, name, key } = reference;
        let client = &self.world.cluster.objects;
        let transient =
            |error| Failure::new(RunReason::StepFailed, format!("The CA bundle could not be read: {error}")).transient();
        let bundle = match kind {
            CABundleKind::ConfigMap => {
                let map = loop {
                    match self.world.recent.config_map(client, namespace, name).await {
                        Err(error) if self.waits(&error) => tokio::time::sleep(PAUSE).await,
                        read => break read.map_err(transient)?,
                    }
                };
                map.and_then(|map| map.data.as_ref()?.get(key).map(|text| text.clone().into_bytes()))
            }
            CABundleKind::Secret => {
                let secret = loop {
                    match self.world.recent.secret(client, namespace, name).await {
                        Err(error) if self.waits(&error) => tokio::time::sleep(PAUSE).await,
                        read => break read.map_err(transient)?,
                    }
                };
                secret.and_then(|secret| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.clone()))
            }
        };
        let bundle = bundle.ok_or_else(|| {
            let message =
                format!("{kind:?} {name} with the key {key}, which caBundleRef names, does not exist in namespace {namespace}.");
            Failure::new(RunReason::InvalidDefinition, message).transient()
        })?;
        let settings = TlsSettings { ca_bundle: Some(bundle), identity: None };
        if !self.world.outbound.accepts(&settings) {
            let message = format!("Key {key} of {kind:?} {name} holds no PEM certificate that can be read.");
            return Err(Failure::new(RunReason::InvalidDefinition, message));
        }
        Ok(settings)
    }
}

/// The request, with the token and a proof where that is bound to a key.
fn composed(call: &Call, token: Option<&Record>, nonce: Option<String>) -> Result<http::Request<Vec<u8>>, Failure> {
    let (method, url) = (call.method.as_str(), call.url.as_str());
    let useless = || Failure::new(RunReason::InvalidDefinition, "The request could not be composed.");
    let mut request = match token {
        Some(record) => resource_request(method, url, &record.access_token, record.dpop_key.as_ref(), &moment(nonce))
            .map_err(|fault| Failure::new(RunReason::AuthFailed, fault.message))?,
        None => http::Request::builder().method(method).uri(url).body(vec![]).map_err(|_| useless())?,
    };
    request.headers_mut().extend(call.headers.iter().cloned());
    request.headers_mut().get_mut(AUTHORIZATION).into_iter().for_each(|value| value.set_sensitive(true));
    *request.body_mut() = call.body.clone();
    Ok(request)
}

fn host(call: &Call) -> String {
    crate::oauth::host_and_port(&call.url)
}

/// What it means for a step that there is no answer.
fn failure(unanswered: Unanswered) -> Failure {
    match unanswered {
        Unanswered::NotPermitted(why) => Failure::new(RunReason::PermissionDenied, why),
        Unanswered::NotSent(why) => Failure::new(RunReason::StepFailed, why).transient(),
        Unanswered::Lost(why) => Failure::new(RunReason::StepFailed, why).doubtful(),
        Unanswered::TooLarge(why) => Failure::new(RunReason::OutputTooLarge, why),
    }
}

impl Begun {
    /// Whether it is a stream of events.
    pub fn is_stream(&self) -> bool {
        let media = self.opened.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        media.is_some_and(|media| media.trim_start().to_ascii_lowercase().starts_with("text/event-stream"))
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.opened.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    }

    /// The whole answer, without the token.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn whole(self) -> Result<Answer, Failure> {
        let Self { opened, token, most } = self;
        let status = opened.status;
        let headers =
            opened.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
        let headers: Vec<_> = headers.map(|(name, value)| (name, masked_text(value, token.as_ref()))).collect();
        let body = opened.body(most).await.map_err(|unanswered| failure(unanswered).answered(status))?;
        let body = if body.len() < LONG {
            masked(body, token.as_ref())
        } else {
            // Off the threads that everybody waits on.
            let done = tokio::task::spawn_blocking(move || masked(body, token.as_ref())).await;
            done.map_err(|_| Failure::new(RunReason::StepFailed, "The answer could not be read.").answered(status))?
        };
        Ok(Answer { status, headers, body })
    }

    /// The answer as events; the token is to be taken out of each.
    pub fn events(self) -> (Events, Option<Sensitive>) {
        (self.opened.events(self.most), self.token)
    }
}

/// Bytes of a body that takes its time to be looked through.
const LONG: usize = 64 * 1024;
/// JSON in a string of JSON, and so on, is looked into so often.
const WITHIN: usize = 4;

/// A text without the token that was just sent: some services repeat what they are sent.
pub fn masked_text(text: String, token: Option<&Sensitive>) -> String {
    let Some(token) = token.map(Sensitive::expose).filter(|token| !token.is_empty()) else { return text };
    let text = if text.contains(token) { text.replace(token, MASK) } else { text };
    unescaped(&text, token, WITHIN).unwrap_or(text)
}

/// JSON that spells the token otherwise than it is (RFC 8259 §7: `\/`, `\u002B`), without it; nothing where it does not.
fn unescaped(text: &str, token: &str, within: usize) -> Option<String> {
    if within == 0 || !text.contains('\\') {
        return None;
    }
    let mut value: Value = serde_json::from_str(text).ok()?;
    taken_out(&mut value, token, within).then(|| value.to_string())
}

/// Takes the token out of every string and every name; whether there was one.
fn taken_out(value: &mut Value, token: &str, within: usize) -> bool {
    match value {
        Value::String(text) => {
            let held = text.contains(token);
            if held {
                *text = text.replace(token, MASK);
            }
            let inner = unescaped(text, token, within - 1);
            let changed = held || inner.is_some();
            if let Some(inner) = inner {
                *text = inner;
            }
            changed
        }
        Value::Array(items) => items.iter_mut().map(|item| usize::from(taken_out(item, token, within))).sum::<usize>() > 0,
        Value::Object(fields) => {
            let named: Vec<_> = fields.keys().filter(|name| name.contains(token)).cloned().collect();
            for name in &named {
                let field = fields.remove(name).unwrap_or_default();
                fields.insert(name.replace(token, MASK), field);
            }
            fields.values_mut().map(|field| usize::from(taken_out(field, token, within))).sum::<usize>() + named.len() > 0
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn masked(body: Vec<u8>, token: Option<&Sensitive>) -> Vec<u8> {
    let Some(token) = token.filter(|token| !token.expose().is_empty()) else { return body };
    let body = without(body, token.expose().as_bytes());
    match std::str::from_utf8(&body).ok().and_then(|text| unescaped(text, token.expose(), WITHIN)) {
        Some(masked) => masked.into_bytes(),
        None => body,
    }
}

fn without(body: Vec<u8>, token: &[u8]) -> Vec<u8> {
    let mut masked = Vec::with_capacity(body.len());
    let mut rest = body.as_slice();
    while let Some(at) = find(rest, token) {
        masked.extend_from_slice(&rest[..at]);
        masked.extend_from_slice(MASK.as_bytes());
        rest = &rest[at + token.len()..];
    }
    masked.extend_from_slice(rest);
    masked
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| *byte == part[0]) {
        let at = from + at;
        if text[at..].starts_with(part) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// What it means for a step that a stream broke off.
pub fn broken(unanswered: Unanswered) -> Failure {
    failure(unanswered)
}

/// Whether a token of this account may be sent to the place of a call.
///
/// # Errors
/// Why not, and what to do.
pub fn permitted(account: &OAuthAccount, name: &str, call: &Call) -> Result<(), Failure> {
    let host = host(call);
    // Its own, or those of its preset.
    let plan = Plan::of(account).map_err(|refusal| Failure::new(RunReason::AccountNotReady, refusal.sentence()))?;
    if plan.extra.allowed_hosts().iter().any(|pattern| crate::oauth::host_matches(pattern, &host)) {
        return Ok(());
    }
    let message = format!(
        "OAuthAccount {name} does not let its token go to {host}: whoever owns the account can list that host in its spec.allowedHosts."
    );
    Err(Failure::new(RunReason::PermissionDenied, message))
}

/// Where the API of an account's preset is, of those that run workflows.
pub fn coze_of(account: &OAuthAccount) -> Option<&'static str> {
    match account.spec.provider.preset.as_deref() {
        Some("Coze") => Some("https://api.coze.com"),
        Some("CozeCN") => Some("https://api.coze.cn"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out_of_an_answer_wherever_it_stands() {
        let token = Sensitive::new("s3cret");
        let text = |body: &str| String::from_utf8(masked(body.into(), Some(&token))).unwrap();
        assert_eq!(text("s3cret, ss3crets3cret s3cre"), "***, s****** s3cre");
        assert_eq!(text(""), "");
        assert_eq!(masked(b"s3cret".to_vec(), None), b"s3cret");
        assert_eq!(masked_text("Bearer s3cret".into(), Some(&token)), "Bearer ***");
    }

    #[test]
    fn however_json_spells_the_token_it_is_taken_out() {
        let token = Sensitive::new("a/b+c");
        let text = |body: &str| String::from_utf8(masked(body.into(), Some(&token))).unwrap();
        assert_eq!(text(r#"{"said":"Bearer a\/b+c","n":1}"#), r#"{"n":1,"said":"Bearer ***"}"#);
        assert_eq!(text(r#"["\u0061/b\u002bc",{"a\/b\u002Bc":null}]"#), r#"["***",{"***":null}]"#);
        let within = serde_json::json!({"data": r#"{"echo":["a\/b+c"]}"#}).to_string();
        assert_eq!(text(&within), r#"{"data":"{\"echo\":[\"***\"]}"}"#);
        // What holds none stays as it came, byte by byte.
        let other = r#"{ "path": "a\/b", "n": 1.0 }"#;
        assert_eq!((text(other), masked_text(other.into(), Some(&token))), (other.to_owned(), other.to_owned()));
        assert_eq!(masked_text(r#"{"e":"a\/b+c"}"#.into(), Some(&token)), r#"{"e":"***"}"#);
    }

    #[test]
    fn a_preset_says_where_coze_is_and_its_token_may_go_there() {
        for (preset, base) in [("Coze", Some("https://api.coze.com")), ("CozeCN", Some("https://api.coze.cn")), ("GitHub", None)]
        {
            let account: OAuthAccount = serde_json::from_value(serde_json::json!({
                "apiVersion": "oauth-operator.dev/v1alpha1", "kind": "OAuthAccount", "metadata": {"name": "coze", "namespace": "apps"},
                "spec": {
                    "provider": {"preset": preset}, "client": {"id": "1", "authMethod": "None"},
                    "grant": {"refreshToken": {"secretRef": {"name": "seed", "key": "refresh_token"}}},
                },
            }))
            .unwrap();
            assert_eq!(coze_of(&account), base, "{preset}");
            let Some(base) = base else { continue };
            let call = |base: &str| Call {
                method: crate::api::Method::Post,
                url: format!("{base}/v1/workflow/run").parse().unwrap(),
                headers: vec![],
                body: vec![],
                account: Some("coze".into()),
                ca: None,
                timeout: std::time::Duration::from_secs(1),
                most: 1,
            };
            assert_eq!(permitted(&account, "coze", &call(base)), Ok(()), "{preset}");
            let elsewhere = permitted(&account, "coze", &call("https://studio.example:8888")).unwrap_err();
            assert_eq!(elsewhere.reason, RunReason::PermissionDenied);
            assert!(elsewhere.message.contains("studio.example:8888") && elsewhere.message.contains("spec.allowedHosts"));
        }
    }
}
