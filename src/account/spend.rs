//! The steps of a refresh that may spend what it is made with, done: the state Secret, the journal, the one POST.

use super::act::Hands;
use super::login_seen::{Liveness, Redemption, Settlement};
use super::{Intent, Outcome, Seen, State, StateView, Version, state_manifest, state_secret_name, state_view};
use crate::api::{Probe, Trigger};
use crate::oauth::{Ending, Fault, FaultKind, Reply, Sensitive, TlsSettings, TokenRequest};
use crate::world::logins::LoginEntry;
use crate::world::resource_server::{self, Answer};
use crate::world::secrets::Written;
use crate::world::{ApiError, World, clock, secrets, token_endpoint};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// An entry of the journal.
#[derive(Serialize, Deserialize)]
struct Entry {
    reply: Reply,
    sent: Timestamp,
    finished: Timestamp,
}

/// Counts a reply that is not durable yet, or that is waited for, for as long as it lives.
pub struct ReplyInHand<W: Deref<Target = World>>(W);

impl<W: Deref<Target = World>> ReplyInHand<W> {
    /// A reply has come, or what asks for it is about to be sent.
    pub fn new(world: W) -> Self {
        world.replies_in_hand.fetch_add(1, Ordering::AcqRel);
        Self(world)
    }
}

impl<W: Deref<Target = World>> Drop for ReplyInHand<W> {
    fn drop(&mut self) {
        self.0.replies_in_hand.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads the operator's record of the login.
pub async fn read_state(seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let metadata = &seen.account.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let name = state_secret_name(namespace, name);
    let world = hands.world;
    match secrets::secret(&world.cluster.objects, &world.namespace, &name).await {
        Ok(secret) => {
            let view = state_view(secret, &world.keyring.current());
            // The process that kept it may have ended before it could tidy up.
            if let StateView::Stored { state: State { intent: None, settled: Some(id), .. }, .. } = &view {
                world.journal.remove(id);
            }
            Ok(Outcome::StateRead(view))
        }
        Err(error) => match error.refusal() {
            Some(words) => {
                let message = format!("The operator may not read its record of this login: {words}");
                let fault = Fault::new(FaultKind::ApiRefused, message);
                Ok(Outcome::StateRead(StateView::Unreadable { fault, version: None }))
            }
            None => Err(error),
        },
    }
}

/// Looks into the journal for the reply to an intent that was left.
pub fn read_journal(intent: &Intent, armed: &State, hands: &Hands<'_>) -> Outcome {
    let entry = hands.world.journal.read(&intent.id, intent.journal_key.expose());
    let entry = entry.and_then(|entry| serde_json::from_slice::<Entry>(&entry).ok());
    if entry.is_some() {
        tracing::info!(intent = intent.id, "a reply is found in the journal that nobody has kept; it is kept now");
    }
    Outcome::JournalRead(entry.map(|Entry { reply, sent, finished }| Redemption {
        armed: armed.clone(),
        intent: intent.clone(),
        sent,
        finished,
        ending: Ending::Replied(reply),
        secrets: armed.credential.iter().map(|credential| credential.refresh_token.clone()).collect(),
        journalled: true,
    }))
}

/// Asks who else has a refresh token, and claims it.
pub fn find_duplicate(digests: &[String], seen: &Seen, hands: &Hands<'_>) -> Outcome {
    let metadata = &seen.account.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let other = hands.world.logins.claim(&format!("{namespace}/{name}"), digests);
    Outcome::DuplicateSought(other.map(|other| match other.split_once('/') {
        Some((there, name)) if there == namespace => format!("the account {name}"),
        // Names of other namespaces are not this tenant's to know.
        _ => {
            tracing::warn!(other, "the seed's refresh token is that of an account in another namespace");
            "an account in another namespace".to_owned()
        }
    }))
}

/// Asks a resource server whether the published token lives.
pub async fn probe(
    probe: &Probe,
    access_token: &Sensitive,
    dpop_key: Option<&Sensitive>,
    tls: &TlsSettings,
    hands: &Hands<'_>,
) -> Outcome {
    let Probe { method, url, .. } = probe;
    let unclear = |what: String| Liveness::Unclear(Fault::new(FaultKind::Malformed, what));
    Outcome::Probed(match resource_server::ask(hands.world, method, url, access_token, dpop_key, tls).await {
        Ok(Answer { status: 200..=299, .. }) => Liveness::Alive,
        // The proof displeased it: that says nothing of the token.
        Ok(answer) if answer.refuses_the_proof() => unclear("the DPoP proof was refused.".into()),
        Ok(Answer { status: 401, .. }) => Liveness::Dead,
        Ok(Answer { status, .. }) => unclear(format!("it was answered with HTTP {status}.")),
        Err(fault) => Liveness::Unclear(fault),
    })
}

/// ARM.
pub async fn arm(state: State, over: Option<&Version>, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let began = clock::uptime();
    let id = state.intent.as_ref().map(|intent| intent.id.clone()).unwrap_or_default();
    let trigger = state.intent.as_ref().map_or(Trigger::Missing, |intent| intent.trigger);
    hands.memory.arming(seen.uid(), &id);
    match store(&state, over, hands).await {
        Ok(Written::Stored { uid, resource_version }) => {
            Ok(Outcome::Armed { version: Version { uid, resource_version }, state, began })
        }
        Ok(Written::Conflict) => Ok(Outcome::ArmUnclear { began }),
        Ok(Written::NamespaceGone) => Err(ApiError::KeepRefused("the operator's own namespace is being deleted".into())),
        Ok(Written::Refused(words)) => {
            let message = format!("The operator could not write its record of this login: {words}");
            let fault = Fault::new(FaultKind::ApiRefused, message);
            super::act::failed(trigger, fault, seen, hands)
        }
        // Its answer may be all that was lost.
        Err(error) => {
            tracing::warn!(%error, "it is not known whether the intent to refresh was written; it is looked up");
            Ok(Outcome::ArmUnclear { began })
        }
    }
}

/// REDEEM.
pub async fn spend(
    request: &TokenRequest,
    tls: &TlsSettings,
    intent: Intent,
    armed: State,
    began: Duration,
    seen: &Seen,
    hands: &Hands<'_>,
) -> Outcome {
    let permit = hands.turn.as_ref();
    // From here on nobody may take it for surely not posted.
    hands.memory.posting(seen.uid());
    let exchange = token_endpoint::spend(hands.world, request, tls, permit, began, hands.may_ask).await;
    if matches!(exchange.result, Ending::NotSent(_)) {
        hands.memory.arming(seen.uid(), &intent.id);
    }
    Outcome::Spent(Redemption {
        armed,
        intent,
        sent: exchange.sent,
        finished: exchange.finished,
        journalled: false,
        ending: exchange.result,
        secrets: request.secrets(),
    })
}

/// JOURNAL. What cannot be journalled is kept all the same.
pub fn journal(intent: &Intent, reply: Reply, sent: Timestamp, finished: Timestamp, hands: &Hands<'_>) -> Outcome {
    let entry = serde_json::to_vec(&Entry { reply, sent, finished }).unwrap_or_default();
    if let Err(error) = hands.world.journal.write(&intent.id, intent.journal_key.expose(), &entry) {
        tracing::warn!(%error, "the reply could not be written to the journal; it is kept without");
    }
    Outcome::Journalled
}

/// Writes the record of a login that begins.
pub async fn record(state: State, over: Option<&Version>, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    match store(&state, over, hands).await? {
        Written::Stored { uid, resource_version } => Ok(Outcome::Recorded { version: Version { uid, resource_version }, state }),
        Written::Conflict => Ok(Outcome::KeepConflicted),
        Written::NamespaceGone => Err(ApiError::KeepRefused("the operator's own namespace is being deleted".into())),
        Written::Refused(words) => {
            let message = format!("The operator could not write its record of this login: {words}");
            super::act::failed(Trigger::Missing, Fault::new(FaultKind::ApiRefused, message), seen, hands)
        }
    }
}

/// Writes down what came of somebody's wish for a newer token. They time out where it cannot be written.
pub async fn answer(state: State, over: &Version, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let failure = state.demand.as_ref().and_then(|demand| demand.failure.as_ref());
    if let Some(failure) = failure {
        tracing::info!(because = failure.because.code(), "a newer token was wanted, and there is none: {}", failure.sentence);
    }
    Ok(Outcome::DemandAnswered(match store(&state, Some(over), hands).await? {
        Written::Stored { uid, resource_version } => Some((Version { uid, resource_version }, state)),
        Written::Conflict | Written::NamespaceGone => None,
        Written::Refused(words) => {
            tracing::warn!(uid = seen.uid(), "whoever waits for a newer token could not be answered: {words}");
            None
        }
    }))
}

/// KEEP.
pub async fn keep(
    state: State,
    over: Option<&Version>,
    settlement: Settlement,
    seen: &Seen,
    hands: &Hands<'_>,
) -> Result<Outcome, ApiError> {
    match store(&state, over, hands).await? {
        Written::Stored { uid, resource_version } => {
            if let Some(id) = &state.settled {
                hands.world.journal.remove(id);
            }
            hands.memory.posting(seen.uid());
            super::act::tell_of_refresh(&settlement, seen, hands);
            Ok(Outcome::Kept { version: Version { uid, resource_version }, state, settlement })
        }
        Written::Conflict => Ok(Outcome::KeepConflicted),
        Written::NamespaceGone => Err(ApiError::KeepRefused("the operator's own namespace is being deleted".into())),
        Written::Refused(words) => Err(ApiError::KeepRefused(words)),
    }
}

async fn store(state: &State, over: Option<&Version>, hands: &Hands<'_>) -> Result<Written, ApiError> {
    let world = hands.world;
    let secret: Secret = state_manifest(&world.namespace, state, over, &world.keyring.sealing());
    let written = match over {
        Some(_) => secrets::replace(&world.cluster.objects, &secret).await,
        None => secrets::create(&world.cluster.objects, &secret).await,
    };
    if let Ok(Written::Stored { uid, .. }) = &written {
        let mut metadata = secret.metadata;
        metadata.uid = Some(uid.clone());
        let name = metadata.name.clone().unwrap_or_default();
        world.logins.set(&name, LoginEntry::of(&metadata));
    }
    let result = match &written {
        Ok(Written::Stored { .. }) => "success",
        Ok(Written::Conflict) => "conflict",
        Ok(Written::NamespaceGone | Written::Refused(_)) => "refused",
        Err(_) => "error",
    };
    world.metrics.state_writes.with_label_values(&[result]).inc();
    written
}
