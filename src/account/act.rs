//! One step, done: the only verb that changes the world.

use super::health::{Checked, Verdict};
use super::memory::Memory;
use super::report::find;
use super::{
    AttemptOutcome, Contents, Held, Next, Outcome, Record, Restarted, Seen, Settlement, Template, TokenSecretView, annotation,
    consent_steps, inputs, is_controlled, manifest, notices, patch, spend, view,
};
use crate::api::{ConditionType, NamespacedName, OAuthAccountStatus, RestartTarget, Trigger};
use crate::oauth::{Endpoint, Fault, FaultKind, Sensitive, TlsSettings, TokenRequest, read_introspection};
use crate::world::gate::Permit;
use crate::world::marks::{Mark, Marks};
use crate::world::resource_server::{self, Answer};
use crate::world::secrets::{Deleted, Written};
use crate::world::{ApiError, World, clock, key_pair, secrets, service_accounts, statuses, token_endpoint, workloads};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube_runtime::events::EventType;
use url::Url;

/// What a step needs beside what was seen.
pub struct Hands<'a> {
    /// Everything outside.
    pub world: &'a World,
    /// What the watch of Secrets has told.
    pub marks: &'a Marks,
    /// What the next pass must know.
    pub memory: &'a Memory,
    /// Identifies this pass in logs.
    pub reconcile_id: &'a str,
    /// Whether this instance may still ask for tokens.
    pub may_ask: &'a (dyn Fn() -> bool + Sync),
    /// Our turn at the provider's gate, once it has come, until the pass ends.
    pub turn: Option<Permit>,
}

/// Does one step.
///
/// # Errors
/// Only where the API server does not answer, or not as a server of this kind should: the pass is tried again.
pub async fn act(next: Next, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let world = hands.world;
    let namespace = seen.account.metadata.namespace.as_deref().unwrap_or_default();
    match next {
        Next::ReadTokenSecret(name) => {
            let secret = secrets::secret(&world.cluster.objects, namespace, &name).await?;
            Ok(Outcome::TokenSecretRead(view(secret, &seen.account, seen.status.token.as_ref())))
        }
        Next::ReadAll(plan) => {
            let secret = secrets::secret(&world.cluster.objects, namespace, &plan.token_secret_name);
            let (secret, inputs) = futures::try_join!(secret, inputs::read(world, namespace, &plan))?;
            Ok(Outcome::AllRead(view(secret, &seen.account, seen.status.token.as_ref()), inputs))
        }
        Next::ReadInputs(plan) => Ok(Outcome::InputsRead(inputs::read(world, namespace, &plan).await?)),
        Next::FindEndpoint { plan, tls } => Ok(Outcome::EndpointsFound(inputs::endpoints(world, &plan, &tls).await)),
        Next::MakeKey(algorithm) => Ok(Outcome::KeyMade(key_pair::make(algorithm))),
        Next::Register { request, tls } => Ok(consent_steps::register(&request, &tls, hands).await),
        Next::Record { state, over } => spend::record(state, over.as_ref(), seen, hands).await,
        Next::BeginDevice { request, tls } => Ok(consent_steps::begin_device(&request, &tls, hands).await),
        Next::ShowCode(device) => consent_steps::show_code(&device, seen, hands).await,
        Next::Poll { request, tls, armed, interval } => {
            Ok(consent_steps::poll(&request, &tls, armed, interval, seen, hands).await)
        }
        Next::ReadDeposit => consent_steps::read_deposit(seen, hands).await,
        Next::ForgetDeposit(version) => consent_steps::forget_deposit(&version, seen, hands).await,
        Next::MintSubjectToken(wanted) => {
            let minted = service_accounts::token(&world.cluster.objects, namespace, &wanted.name, &wanted.audience).await?;
            Ok(Outcome::SubjectTokenMinted(minted))
        }
        Next::Fail { trigger, fault } => failed(trigger, fault, seen, hands),
        Next::Heed { endpoint, client_id, trigger } => match token_endpoint::heed(&world.gates, &endpoint, &client_id) {
            Err(fault) if trigger != Trigger::Requested => failed(trigger, fault, seen, hands),
            Ok(()) | Err(_) => Ok(Outcome::Heeded),
        },
        Next::ReadState => spend::read_state(seen, hands).await,
        Next::ReadJournal { intent, armed } => Ok(spend::read_journal(&intent, &armed, hands)),
        Next::FindDuplicate { digests } => Ok(spend::find_duplicate(&digests, seen, hands)),
        Next::Introspect { request, tls } => {
            let exchange = token_endpoint::converse(world, &request, &tls).await;
            let read = |reply| read_introspection(&reply, &request.dialect, &request.secrets(), exchange.finished);
            Ok(Outcome::Introspected(exchange.result.and_then(read)))
        }
        Next::CheckHealth { url, access_token, dpop_key, generation, tls } => Ok(Outcome::HealthChecked(
            check_health(&url, (&access_token, dpop_key.as_ref()), generation, &tls, seen, hands).await,
        )),
        Next::Probe { probe, access_token, dpop_key, tls } => {
            Ok(spend::probe(&probe, &access_token, dpop_key.as_ref(), &tls, hands).await)
        }
        Next::Arm { state, over } => spend::arm(state, over.as_ref(), seen, hands).await,
        Next::Spend { request, tls, intent, armed, began } => {
            Ok(spend::spend(&request, &tls, intent, armed, began, seen, hands).await)
        }
        Next::Journal { intent, reply, sent, finished } => Ok(spend::journal(&intent, reply, sent, finished, hands)),
        Next::AnswerDemand { state, over } => spend::answer(state, &over, seen, hands).await,
        // The loop pauses before it looks again.
        Next::GiveWay => Ok(Outcome::KeepConflicted),
        Next::Keep { state, over, settlement } => spend::keep(state, over.as_ref(), settlement, seen, hands).await,
        Next::Redeem { trigger, request, tls } => Ok(redeem(trigger, &request, &tls, seen, hands).await),
        Next::Publish { name, record, contents, over } => publish(&name, record, contents, over.as_ref(), seen, hands).await,
        Next::Withhold(fault) => {
            warn(seen, &fault, hands);
            Ok(Outcome::PublishRefused { at: clock::now(), fault })
        }
        Next::Restart { targets, generation } => Ok(restart(&targets, generation, seen, hands).await),
        Next::Prune(stray) => {
            let version = Some(stray.resource_version.as_str());
            match secrets::delete(&world.cluster.objects, namespace, &stray.name, &stray.uid, version).await? {
                Deleted::Gone => {
                    hands.marks.set(NamespacedName::new(namespace, &stray.name), None);
                    tracing::info!(secret = stray.name, "token Secret under an old name deleted");
                }
                // The watch tells what it is now, and wakes us.
                Deleted::Changed => {}
                Deleted::Refused(words) => {
                    tracing::warn!(secret = stray.name, "token Secret under an old name not deleted: {words}")
                }
            }
            Ok(Outcome::Pruned(stray))
        }
        Next::Say(status) => say(status, seen, hands).await,
        Next::TakeTurn(_) | Next::Rest(_) => unreachable!("the loop waits, and does not act on it"),
    }
}

/// An attempt that ends without a request.
pub(super) fn failed(trigger: Trigger, fault: Fault, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    warn(seen, &fault, hands);
    let now = clock::now();
    Ok(Outcome::Failed(AttemptOutcome { trigger, started: now, finished: now, fault: Some(fault), issued: false }))
}

async fn redeem(trigger: Trigger, request: &TokenRequest, tls: &TlsSettings, seen: &Seen, hands: &Hands<'_>) -> Outcome {
    let exchange = token_endpoint::redeem(hands.world, request, tls, hands.turn.as_ref()).await;
    let (token, fault) = (exchange.result.as_ref().ok(), exchange.result.as_ref().err());
    let issued = token.map(|token| (token.access_token.fingerprint(), token.expiry.at));
    told(trigger, issued, fault, (exchange.sent, exchange.finished), seen, hands);
    Outcome::Redeemed { trigger, sent: exchange.sent, finished: exchange.finished, result: exchange.result }
}

/// Asks the resource server that the user names.
async fn check_health(
    url: &Url,
    (token, dpop_key): (&Sensitive, Option<&Sensitive>),
    generation: i64,
    tls: &TlsSettings,
    seen: &Seen,
    hands: &Hands<'_>,
) -> Checked {
    let verdict = match resource_server::ask(hands.world, "GET", url.as_str(), token, dpop_key, tls).await {
        Ok(Answer { status: 200..=299, .. }) => Verdict::Accepted,
        // The proof displeased it: that says nothing of the token.
        Ok(answer) if answer.refuses_the_proof() => Verdict::Unclear("it refuses the DPoP proof.".into()),
        Ok(Answer { status: 401, .. }) => Verdict::Rejected,
        Ok(Answer { status, .. }) => Verdict::Unclear(format!("it answers HTTP {status}.")),
        Err(fault) => Verdict::Unclear(fault.message),
    };
    if verdict == Verdict::Rejected {
        tracing::warn!(generation, "the resource server of the health check refuses the token");
    }
    let checked = Checked { at: clock::now(), generation, said: Some((url.clone(), verdict)) };
    hands.memory.check(seen.uid(), checked.clone());
    checked
}

/// Tells log and metrics what became of a refresh that is kept.
pub(super) fn tell_of_refresh(settlement: &Settlement, seen: &Seen, hands: &Hands<'_>) {
    let AttemptOutcome { trigger, started, finished, fault, .. } = &settlement.attempt;
    let issued = settlement.record.as_ref().map(|record| (record.public.fingerprint.clone(), record.public.expiration_time.0));
    told(*trigger, issued, fault.as_ref(), (*started, *finished), seen, hands);
}

fn told(
    trigger: Trigger,
    issued: Option<(String, Timestamp)>,
    fault: Option<&Fault>,
    (sent, finished): (Timestamp, Timestamp),
    seen: &Seen,
    hands: &Hands<'_>,
) {
    let world = hands.world;
    let (provider, grant) = (super::provider(seen), super::grant(seen));
    let result = fault.map_or("success", |fault| fault.kind.metric());
    // Nobody was asked.
    let unasked = matches!(fault, Some(Fault { kind: FaultKind::AddressRefused | FaultKind::HeldUp, .. }));
    if !unasked {
        if let (Trigger::Schedule, Some(planned)) = (trigger, &seen.status.next_refresh_time) {
            world.metrics.lateness.observe(sent.duration_since(planned.0).as_secs_f64().max(0.0));
        }
        world.metrics.token_requested(provider, grant, result, finished.duration_since(sent).unsigned_abs());
        world.health.token_request(fault.is_none_or(|fault| fault.kind.needs_a_person()), finished);
    }
    // Also what came to nothing was tried in somebody's name.
    if issued.is_some() || !unasked {
        let what = if issued.is_some() { "token obtained" } else { "no token obtained" };
        let (fingerprint, expires) = issued.map(|(fingerprint, expires)| (fingerprint, expires.to_string())).unzip();
        let found = seen.endpoints.as_ref().and_then(|found| found.as_ref().ok());
        let endpoint = found.and_then(|found| found.get(Endpoint::Token)).cloned();
        let origin = || seen.login.stored().and_then(|(_, state)| Url::parse(&state.login.origin).ok());
        let host = endpoint.or_else(origin).and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
        tracing::info!(
            target: "audit",
            who = world.identity,
            what,
            grant,
            trigger = format!("{trigger:?}"),
            host,
            result,
            fingerprint,
            expires,
            requestID = hands.reconcile_id,
            "{what}"
        );
    }
    if let Some(fault) = fault {
        warn(seen, fault, hands);
    }
}

fn warn(seen: &Seen, fault: &Fault, hands: &Hands<'_>) {
    hands.world.metrics.failed_attempts.with_label_values(&[fault.kind.reason().as_str()]).inc();
    let failures = seen.status.failed_attempts.saturating_add(1);
    tracing::warn!(reason = fault.kind.reason().as_str(), failures, "no token obtained: {fault}");
}

async fn publish(
    name: &str,
    record: Record,
    contents: Contents,
    over: Option<&Held>,
    seen: &Seen,
    hands: &Hands<'_>,
) -> Result<Outcome, ApiError> {
    let (client, account) = (&hands.world.cluster.objects, &seen.account);
    let namespace = account.metadata.namespace.as_deref().unwrap_or_default();
    let written = match over {
        Some(held) if held.unalterable => made_anew(client, held, &manifest(account, name, &contents)).await,
        Some(held) => {
            let obsolete = match &seen.token_secret {
                Some(TokenSecretView::Ours { contents: there, .. }) => Template::obsolete(there, &contents),
                _ => Template::default(),
            };
            secrets::patch(client, namespace, name, &patch(account, name, &contents, held, &obsolete)).await
        }
        None => secrets::create(client, &manifest(account, name, &contents)).await,
    };
    let count = |result: &str| hands.world.metrics.secret_writes.with_label_values(&[result]).inc();
    match written {
        Ok(Written::Stored { uid, resource_version }) => {
            count("success");
            if over.is_some() && seen.record().is_some_and(|there| there.access_token == record.access_token) {
                hands.memory.heal(seen.uid(), clock::now());
            }
            let owner = seen.uid().into();
            let controlled = is_controlled(account);
            let (id, version) = (uid.as_str().into(), resource_version.as_str().into());
            let mark = Mark { owner, uid: id, resource_version: version, controlled };
            let over = over.filter(|held| !held.unalterable).map(|held| held.resource_version.as_str());
            hands.marks.written(NamespacedName::new(namespace, name), over, mark);
            let expires = record.public.expiration_time.0;
            tracing::info!(secret = name, generation = record.public.generation, %expires, "token published");
            Ok(Outcome::Published { record, contents, held: Held { uid, resource_version, unalterable: false, disowned: false } })
        }
        Ok(Written::NamespaceGone) => {
            count("refused");
            hands.memory.gone(seen.uid());
            Ok(Outcome::Gone)
        }
        Ok(Written::Conflict) => {
            count("conflict");
            Ok(Outcome::PublishConflicted)
        }
        Ok(Written::Refused(words)) => {
            count("refused");
            let message = format!("The token could not be written to Secret {name}: {words}");
            let fault = Fault::new(FaultKind::ApiRefused, record.access_token.mask(&message));
            warn(seen, &fault, hands);
            Ok(Outcome::PublishRefused { at: clock::now(), fault })
        }
        Err(error) => {
            count("error");
            Err(error)
        }
    }
}

/// Another type, or an immutable Secret: it is deleted and made anew, if the API server would take it.
async fn made_anew(client: &kube::Client, held: &Held, secret: &Secret) -> Result<Written, ApiError> {
    let metadata = &secret.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    if let Some(words) = secrets::refusal_of(client, secret).await? {
        return Ok(Written::Refused(words));
    }
    match secrets::delete(client, namespace, name, &held.uid, Some(&held.resource_version)).await? {
        Deleted::Gone => secrets::create(client, secret).await,
        Deleted::Changed => Ok(Written::Conflict),
        Deleted::Refused(words) => Ok(Written::Refused(words)),
    }
}

async fn restart(targets: &[RestartTarget], generation: i64, seen: &Seen, hands: &Hands<'_>) -> Outcome {
    let metadata = &seen.account.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let key = annotation(name);
    let mut failures = vec![];
    for target in targets {
        let what = format!("{:?} {}", target.kind, target.name);
        // A generation may come again, where an account is made anew; its token does not.
        let fingerprint = seen.record().map(|record| record.public.fingerprint.clone()).unwrap_or_default();
        let value = format!("token {generation} {fingerprint}");
        match workloads::restart(&hands.world.cluster.objects, namespace, target, &key, &value).await {
            Ok(()) => tracing::info!(workload = what, generation, "restarted, so that it reads the new token"),
            Err(error) => failures.push(format!("{what}: {error}")),
        }
    }
    let failure = (!failures.is_empty()).then(|| {
        let text = format!("Not restarted with the new token: {}.", failures.join("; "));
        text.chars().take(1024).collect()
    });
    Outcome::Restarted(Restarted { at: clock::now(), generation, failure })
}

/// Writes status, and tells people by Events and log what is new in it.
///
/// # Errors
/// As [`act`].
pub async fn say(status: OAuthAccountStatus, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let account = &seen.account;
    let Some(version) = statuses::say(&hands.world.cluster.objects, account, &status).await? else {
        hands.memory.gone(seen.uid());
        return Ok(Outcome::Gone);
    };
    hands.memory.said(seen.uid(), account.metadata.resource_version.as_deref().unwrap_or_default(), &version, status.clone());
    if status.failed_attempts > seen.status.failed_attempts {
        let (next, token) = (status.next_attempt_time.as_ref(), status.token.as_ref());
        let again_at = next.map(|next| next.0.to_string());
        let token_expires = token.map(|token| token.expiration_time.0.to_string());
        match again_at {
            Some(again_at) => tracing::info!(again_at, token_expires, "it is tried again then"),
            None => tracing::warn!(token_expires, "it is not tried again before somebody changes something"),
        }
    }
    let of_attempt = find(&status, ConditionType::RefreshFailing).map(|failing| failing.message.clone());
    for notice in notices(&seen.status, &status) {
        let type_ = if notice.warning { EventType::Warning } else { EventType::Normal };
        // Events are gone after an hour. What came of an attempt has been told.
        let (reason, note) = (&notice.reason, &notice.note);
        match type_ {
            EventType::Normal => tracing::info!(reason, "{note}"),
            EventType::Warning if of_attempt.as_ref() == Some(note) => {}
            EventType::Warning => tracing::warn!(reason, "{note}"),
        }
        hands.world.events.tell(&account.object_ref(&()), type_, &notice.reason, &notice.note).await;
    }
    Ok(Outcome::Said(status))
}
