//! The steps of a login by a person's consent, done: a client of our own, a device's code, what the consent pages have left.

use super::act::Hands;
use super::consent::{Polled, authorization_secret_name};
use super::login_seen::Redemption;
use super::{INTENT_LIFETIME, Intent, Outcome, Seen, State, Version, consent_secret_name, deposit};
use crate::api::{Trigger, vocabulary as v};
use crate::oauth::{
    DeviceAuthorization, Ending, Fault, FaultKind, Reply, Sensitive, TlsSettings, TokenRequest, judge, read_device_authorization,
    read_registration,
};
use crate::world::secrets::Written;
use crate::world::{ApiError, clock, secrets, token_endpoint};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::json;
use std::collections::BTreeMap;

/// Seconds that a device is polled more slowly after `slow_down` (RFC 8628 §3.5).
const SLOWER: i64 = 5;

/// Has the provider register a client for us.
pub async fn register(request: &TokenRequest, tls: &TlsSettings, hands: &Hands<'_>) -> Outcome {
    let exchange = token_endpoint::converse(hands.world, request, tls).await;
    let read = |reply: Reply| read_registration(&reply, &request.dialect, exchange.finished);
    let registered = exchange.result.and_then(read);
    if registered.is_ok() {
        tracing::info!("the provider has registered a client for this account");
    }
    Outcome::Registered(registered)
}

/// Asks for a code that a person enters on another device.
pub async fn begin_device(request: &TokenRequest, tls: &TlsSettings, hands: &Hands<'_>) -> Outcome {
    let exchange = token_endpoint::converse(hands.world, request, tls).await;
    let read = |reply: Reply| read_device_authorization(&reply, &request.dialect, &request.secrets(), exchange.sent);
    Outcome::DeviceBegun(exchange.result.and_then(read))
}

/// Polls, once.
pub async fn poll(
    request: &TokenRequest,
    tls: &TlsSettings,
    armed: State,
    interval: i64,
    seen: &Seen,
    hands: &Hands<'_>,
) -> Outcome {
    let exchange = token_endpoint::spend(hands.world, request, tls, hands.turn.as_ref(), clock::uptime(), hands.may_ask).await;
    let later = |slower: i64| {
        let polled = Polled { next: exchange.finished + SignedDuration::from_secs(interval + slower), slower };
        hands.memory.poll(seen.uid(), polled);
        Outcome::Polled(polled)
    };
    let before = seen.polled.map_or(0, |polled| polled.slower);
    match &exchange.result {
        Ending::Replied(reply) => {
            let answer = judge(reply, &request.dialect, &[], exchange.sent, exchange.finished);
            match answer.err().map(|fault| fault.kind) {
                Some(FaultKind::AuthorizationPending) => return later(before),
                Some(FaultKind::SlowDown | FaultKind::RateLimited | FaultKind::Unavailable | FaultKind::ServerError) => {
                    return later(before + SLOWER);
                }
                _ => {}
            }
        }
        // Nobody knows whether it was the poll that mattered: the next one tells.
        Ending::NotSent(fault) | Ending::Lost(fault) => {
            tracing::info!("a device was polled without an answer: {fault}");
            return later(before + SLOWER);
        }
    }
    // Whatever it was, the next poll is not before its time.
    later(before);
    let now = clock::now();
    let intent = Intent {
        id: seen.instance.intent_id(),
        digest: armed.digest().unwrap_or_default(),
        started: exchange.sent,
        deadline: now + INTENT_LIFETIME,
        holder: seen.instance.identity.clone(),
        trigger: Trigger::Consented,
        requested: None,
        journal_key: Sensitive::new(""),
    };
    Outcome::Spent(Redemption {
        armed,
        intent,
        sent: exchange.sent,
        finished: exchange.finished,
        // There is no intent by which the next process would find it.
        journalled: true,
        ending: exchange.result,
        secrets: request.secrets(),
    })
}

/// Shows a code to those who may read Secrets where the token will be.
pub async fn show_code(device: &DeviceAuthorization, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let client = &hands.world.cluster.objects;
    let name = authorization_secret_name(&seen.account);
    let namespace = seen.account.metadata.namespace.as_deref().unwrap_or_default();
    let wanted = code_secret(device, seen, &name);
    let written = match secrets::create(client, &wanted).await? {
        Written::Conflict => {
            let there = secrets::secret(client, namespace, &name).await?;
            let owned = |secret: &Secret| secret.metadata.labels.as_ref().and_then(|all| all.get(v::ACCOUNT_UID_LABEL)).cloned();
            match there {
                Some(there) if owned(&there).as_deref() == Some(seen.uid()) => {
                    let version = json!({"uid": there.metadata.uid, "resourceVersion": there.metadata.resource_version});
                    let patch = json!({"metadata": version, "stringData": wanted.string_data});
                    secrets::patch(client, namespace, &name, &patch).await?
                }
                _ => {
                    let message = format!(
                        "The code to log in with is to be shown in Secret {name}, which is there and not ours; remove or rename it."
                    );
                    return super::act::failed(Trigger::Missing, Fault::new(FaultKind::ReferenceInvalid, message), seen, hands);
                }
            }
        }
        written => written,
    };
    match written {
        Written::Stored { .. } => Ok(Outcome::CodeShown),
        Written::NamespaceGone => Ok(Outcome::Gone),
        Written::Conflict => Err(ApiError::Changed(name)),
        Written::Refused(words) => {
            let message = format!("The code to log in with could not be written to Secret {name}: {words}");
            super::act::failed(Trigger::Missing, Fault::new(FaultKind::ApiRefused, message), seen, hands)
        }
    }
}

fn code_secret(device: &DeviceAuthorization, seen: &Seen, name: &str) -> Secret {
    let text = |text: &str| text.to_owned();
    let metadata = &seen.account.metadata;
    let labels = [
        (v::NAME_LABEL, text(v::MANAGER)),
        (v::MANAGED_BY_LABEL, text(v::MANAGER)),
        (v::COMPONENT_LABEL, text(v::AUTHORIZATION_COMPONENT)),
        (v::ACCOUNT_UID_LABEL, text(seen.uid())),
    ];
    let data = [
        ("user_code", device.user_code.clone()),
        ("verification_url", device.verification_url.clone()),
        ("expires_at", device.expires.to_string()),
    ];
    let complete = device.verification_url_complete.as_ref().map(|url| ("verification_url_complete", url.clone()));
    let data: BTreeMap<String, String> = data.into_iter().chain(complete).map(|(key, value)| (text(key), value)).collect();
    Secret {
        metadata: ObjectMeta {
            name: Some(text(name)),
            namespace: metadata.namespace.clone(),
            labels: Some(labels.into_iter().map(|(key, value)| (text(key), value)).collect()),
            owner_references: seen.account.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        string_data: Some(data),
        ..Secret::default()
    }
}

/// Reads what the consent pages have left.
pub async fn read_deposit(seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let metadata = &seen.account.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let world = hands.world;
    let secret = secrets::secret(&world.cluster.objects, &world.namespace, &consent_secret_name(namespace, name)).await?;
    Ok(Outcome::DepositRead(secret.as_ref().and_then(deposit)))
}

/// Deletes what the consent pages have left: it is redeemed, or nobody can redeem it.
pub async fn forget_deposit(version: &Version, seen: &Seen, hands: &Hands<'_>) -> Result<Outcome, ApiError> {
    let metadata = &seen.account.metadata;
    let (namespace, name) = (metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
    let world = hands.world;
    let secret = consent_secret_name(namespace, name);
    // One that has changed meanwhile is another consent, which wakes us.
    secrets::delete(&world.cluster.objects, &world.namespace, &secret, &version.uid, Some(&version.resource_version)).await?;
    world.consents.remove(&secret);
    Ok(Outcome::DepositForgotten)
}
