//! Records of logins whose account is gone: deleted when two live looks, a grace apart, both find no such account. A record
//! is the only copy of a login: a cache, a failed list or a missing kind is no proof of absence. Where the account wanted it,
//! the provider is told at once, for as long as a deadline lets us; nothing waits for that, the account is gone already.
//! And records whose key is not the one that encrypts: written anew.

use super::leadership::Leadership;
use super::watches::Scope;
use crate::account::{State, StateView, consent_of, revocation_requests, state_manifest, state_view, version_of};
use crate::api::NamespacedName;
use crate::oauth::{Fault, GrantRequest};
use crate::world::logins::LoginEntry;
use crate::world::secrets::Deleted;
use crate::world::{ApiError, World, accounts, clock, entropy, secrets, token_endpoint};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How often is looked, at most.
const PERIOD: Duration = Duration::from_secs(60);

/// How long it is tried to tell the provider.
const REVOCATION_DEADLINE: Duration = Duration::from_secs(60);

/// How many records are encrypted anew between two looks for orphans.
const ENCRYPTED_AT_ONCE: usize = 500;

/// When accounts were first found gone, by UID of the record.
type Sightings = HashMap<Box<str>, Duration>;

/// Sweeps while we lead. Never ends.
pub async fn run(world: Arc<World>, scopes: Arc<Vec<Arc<Scope>>>, leadership: Leadership, grace: Duration) {
    let mut sightings = Sightings::new();
    // Who begins to lead looks at once: accounts may have gone while nobody did.
    let mut looked = false;
    loop {
        let period = if sightings.is_empty() && looked {
            PERIOD.min(grace / 4).max(Duration::from_secs(1))
        } else {
            Duration::from_secs(2)
        };
        tokio::select! {
            () = tokio::time::sleep(period) => {}
            () = world.logins.left() => {}
        }
        let synced = scopes.iter().all(|scope| scope.is_synced());
        if !leadership.is_held() || !synced {
            sightings.clear();
            looked = false;
            continue;
        }
        looked = true;
        let orphans: Vec<LoginEntry> = world.logins.all().into_iter().filter(|login| is_orphan(login, &scopes)).collect();
        sightings.retain(|uid, _| orphans.iter().any(|orphan| orphan.uid == *uid));
        for orphan in orphans {
            look(&orphan, &world, &mut sightings, grace).await;
        }
        encrypt_anew(&world, &leadership).await;
        for consent in world.consents.expired(clock::now()) {
            discard(&consent, &world).await;
        }
    }
}

/// Whether the caches say so: reason enough to look.
fn is_orphan(login: &LoginEntry, scopes: &[Arc<Scope>]) -> bool {
    let account = NamespacedName::new(&login.namespace, &login.name);
    let served = scopes.iter().find(|scope| scope.covers(&login.namespace));
    (login.deletable || login.revocable) && served.is_some_and(|scope| !scope.accounts.contains(&account))
}

async fn look(orphan: &LoginEntry, world: &World, sightings: &mut Sightings, grace: Duration) {
    match accounts::is_absent(&world.cluster.objects, &orphan.namespace, &orphan.name).await {
        Ok(true) => {}
        Ok(false) => {
            sightings.remove(&orphan.uid);
            return;
        }
        Err(error) => {
            tracing::debug!(%error, "it is not known whether an account is gone; its login is left alone");
            // An account that went with its kind, and was seen to, comes back later than its kind does.
            sightings.remove(&orphan.uid);
            return;
        }
    }
    let now = clock::uptime();
    let first = *sightings.entry(orphan.uid.clone()).or_insert(now);
    let age = now.saturating_sub(first);
    let mut unrevoked = false;
    if orphan.revocable {
        let patience = match revoke(orphan, world).await {
            Revoked::All => Duration::ZERO,
            Revoked::NotYet => REVOCATION_DEADLINE,
            // Its key may come back.
            Revoked::Unreadable(fault) => {
                if age.is_zero() {
                    let (namespace, name) = (&*orphan.namespace, &*orphan.name);
                    tracing::warn!(
                        namespace,
                        name,
                        "tokens of an account that is gone cannot be revoked; that is tried for {} s: {fault}",
                        grace.as_secs()
                    );
                }
                grace
            }
        };
        if age < patience {
            return;
        }
        unrevoked = !patience.is_zero();
        if !orphan.deletable {
            forget(orphan, world).await;
            sightings.remove(&orphan.uid);
            return;
        }
        // What is revoked is no login any more: nobody misses its record.
    } else if age < grace {
        return;
    }
    let (namespace, name) = (&*orphan.namespace, &*orphan.name);
    match delete(orphan, world).await {
        Ok(Deleted::Gone) => {
            sightings.remove(&orphan.uid);
            world.logins.set(&orphan.secret, None);
            if unrevoked {
                tracing::warn!(
                    namespace,
                    name,
                    "the tokens of an account that is gone could not be revoked and are good until they expire: revoke them at the provider"
                );
            }
            tracing::info!(
                namespace,
                name,
                secret = &*orphan.secret,
                "the account is gone, and the record of its login was deleted"
            );
        }
        Ok(Deleted::Changed) => {}
        Ok(Deleted::Refused(words)) => tracing::warn!(namespace, name, "the record of a login was not deleted: {words}"),
        Err(error) => tracing::warn!(namespace, name, %error, "the record of a login was not deleted"),
    }
}

/// Deletes a record as it was before the last look at its account: one that an account of the same name has adopted since
/// is another version.
async fn delete(orphan: &LoginEntry, world: &World) -> Result<Deleted, ApiError> {
    let client = &world.cluster.objects;
    let record = secrets::secret(client, &world.namespace, &orphan.secret).await?;
    let version = record.and_then(|record| record.metadata.resource_version);
    if version.is_none() || !accounts::is_absent(client, &orphan.namespace, &orphan.name).await? {
        return Ok(Deleted::Changed);
    }
    secrets::delete(client, &world.namespace, &orphan.secret, &orphan.uid, version.as_deref()).await
}

/// What became of a revocation.
enum Revoked {
    /// The provider knows all of it, or there is nothing to tell.
    All,
    /// It was not reached, or is in trouble.
    NotYet,
    /// Nobody can read what is to be revoked; why.
    Unreadable(Fault),
}

/// Tells the provider that the tokens are to end (RFC 7009).
async fn revoke(orphan: &LoginEntry, world: &World) -> Revoked {
    let (namespace, name) = (&*orphan.namespace, &*orphan.name);
    let record = match secrets::secret(&world.cluster.objects, &world.namespace, &orphan.secret).await {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(namespace, name, %error, "tokens of an account that is gone could not be revoked yet");
            return Revoked::NotYet;
        }
    };
    let state = match state_view(record, &world.keyring.current()) {
        StateView::Stored { state, .. } => state,
        StateView::Absent => return Revoked::All,
        StateView::Unreadable { fault, .. } => return Revoked::Unreadable(fault),
    };
    let Some((tls, requests)) = revocation_requests(&state) else { return Revoked::All };
    let mut all = true;
    for request in requests {
        let exchange = token_endpoint::converse(world, &request, &tls).await;
        let answer = exchange.result.map(|reply| reply.status);
        let GrantRequest::Revocation { token, hint } = &request.grant else { continue };
        // A server that does not revoke this kind of token says so with 400 (RFC 7009 §2.2.1), and will not change its mind.
        let (done, result) = match &answer {
            Ok(200..=299) => (true, "success".to_owned()),
            Ok(status @ 400..=499) if *status != 429 => (true, format!("refused with HTTP {status}")),
            Ok(status) => (false, format!("HTTP {status}")),
            Err(fault) => (false, fault.message.clone()),
        };
        all &= done;
        let (fingerprint, id) = (token.fingerprint(), entropy::request_id());
        let what = if matches!(answer, Ok(200..=299)) { "token revoked" } else { "token not revoked" };
        tracing::info!(
            target: "audit",
            who = world.identity, what, namespace, name, hint, fingerprint, result, requestID = id,
            "{what}"
        );
    }
    if all { Revoked::All } else { Revoked::NotYet }
}

/// Keeps the record of an account that is gone and takes from it what was revoked.
async fn forget(orphan: &LoginEntry, world: &World) {
    let client = &world.cluster.objects;
    let Ok(record) = secrets::secret(client, &world.namespace, &orphan.secret).await else { return };
    let StateView::Stored { state, version } = state_view(record, &world.keyring.current()) else { return };
    let state = State { record: None, revocation: None, displaced: None, ..state }.rejected();
    if let Err(error) =
        secrets::replace(client, &state_manifest(&world.namespace, &state, Some(&version), &world.keyring.sealing())).await
    {
        tracing::warn!(namespace = &*orphan.namespace, name = &*orphan.name, %error, "the record of a login was not brought up to date");
    }
}

/// Writes records anew that another key encrypts than the keyring's first, or none. What is under way is left to its next write.
async fn encrypt_anew(world: &World, leadership: &Leadership) {
    let keyring = world.keyring.current();
    let stale = |login: &LoginEntry| keyring.is_to_be_rewritten(login.encryption_key.as_deref());
    let client = &world.cluster.objects;
    for login in world.logins.all().into_iter().filter(stale).take(ENCRYPTED_AT_ONCE) {
        if !leadership.is_held() {
            return;
        }
        let Ok(record) = secrets::secret(client, &world.namespace, &login.secret).await else { continue };
        let StateView::Stored { state, version } = state_view(record, &keyring) else { continue };
        if state.intent.is_some() {
            continue;
        }
        let secret = state_manifest(&world.namespace, &state, Some(&version), &world.keyring.sealing());
        if let Err(error) = secrets::replace(client, &secret).await {
            tracing::warn!(namespace = &*login.namespace, name = &*login.name, %error, "the record of a login was not encrypted anew; it is tried again");
        }
    }
}

/// Deletes a consent that nobody can bring to its end any more, as it was when that was seen.
async fn discard(name: &str, world: &World) {
    let client = &world.cluster.objects;
    let Ok(found) = secrets::secret(client, &world.namespace, name).await else { return };
    let Some(secret) = found else { return world.consents.remove(name) };
    if consent_of(&secret).is_some_and(|consent| consent.expires > clock::now()) {
        return;
    }
    let version = version_of(&secret);
    let deleted = secrets::delete(client, &world.namespace, name, &version.uid, Some(&version.resource_version)).await;
    if matches!(deleted, Ok(Deleted::Gone)) {
        world.consents.remove(name);
    }
}
