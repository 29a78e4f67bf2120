//! A refresh that may spend what it is made with: nothing is posted that was not written down before, and nothing is done
//! with a reply before its refresh token is durable.
//!
//! ARM writes the intent by compare-and-swap; REDEEM posts once; JOURNAL seals the reply where the process's end does not
//! reach it; JUDGE says what it means; KEEP writes that down; PUBLISH follows from what is kept.

use super::consent::{self, Candidate};
use super::login::{Credential, CredentialKind, Login, Source};
use super::login_faults::{again, copied, dead, duplicate, gone, login_changed, rolled_back, unknown};
use super::login_seen::{Instance, Liveness, Redemption, Settlement};
use super::revocation::Revocation;
use super::settle::{lost, settle};
use super::state::{self, INTENT_LIFETIME, Intent, State};
use super::state_secret::{StateView, state_secret_name};
use super::unknown::{Resolution, postponed, resolve};
use super::{AttemptOutcome, Credentials, GrantPlan, Next, Plan, Record, Seen};
use crate::api::{RotationMode, Trigger};
use crate::oauth::{Ending, Endpoint, Endpoints, Fault, FaultKind, GrantRequest, Sensitive, TokenRequest};
use jiff::Timestamp;

/// What must come before anything else: a reply in hand is kept, and an intent that somebody left is settled.
pub fn unfinished(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Next> {
    let Some(view) = &seen.login.state else { return Some(Next::ReadState) };
    if let Some(redemption) = &seen.login.redemption {
        return Some(match &redemption.ending {
            Ending::Replied(reply) if !redemption.journalled => Next::Journal {
                intent: redemption.intent.clone(),
                reply: reply.clone(),
                sent: redemption.sent,
                finished: redemption.finished,
            },
            _ => keep(seen, plan, view, redemption),
        });
    }
    let (version, state) = seen.login.stored()?;
    let intent = state.intent.as_ref()?;
    let never_posted = seen.instance.unposted.as_ref() == Some(&intent.id);
    if never_posted || intent.id == seen.instance.intent_id() || binding_until(seen, intent, now).is_some() {
        return None;
    }
    if !seen.login.journal_read {
        return Some(Next::ReadJournal { intent: intent.clone(), armed: state.clone() });
    }
    let ended = Fault::new(FaultKind::NotConnected, "The operator ended, or lost its way, in the middle of a refresh.");
    let (settled, result) = lost(state.clone(), &ended, plan, seen);
    let fault = result.err();
    let attempt = AttemptOutcome { trigger: intent.trigger, started: intent.started, finished: now, fault, issued: false };
    let settlement = Settlement { attempt, record: None };
    Some(Next::Keep { state: settled, over: Some(version.clone()), settlement })
}

/// Until when an intent keeps us from acting: while its holder may still be at work, counted from when we knew of it first, because
/// the deadline in it is by the holder's clock. One of our own that is not of this pass is of a process that is dead.
fn binding_until(seen: &Seen, intent: &Intent, now: Timestamp) -> Option<Timestamp> {
    let Instance { identity, armed, unsteady_until, .. } = &seen.instance;
    if intent.holder == *identity {
        return None;
    }
    // Where the watch has not told of it yet, it was armed just now.
    let armed = armed.as_ref().filter(|(id, _)| **id == *intent.id).map_or(now, |(_, since)| *since);
    let until = armed + INTENT_LIFETIME;
    let until = unsteady_until.map_or(until, |unsteady| unsteady.max(until));
    (until > now).then_some(until)
}

/// Whether an intent of somebody else keeps us from acting.
pub fn is_bound(seen: &Seen, now: Timestamp) -> bool {
    seen.login.stored().and_then(|(_, state)| binding_until(seen, state.intent.as_ref()?, now)).is_some()
}

/// The moment for which a login that could be refreshed waits: the end of somebody else's intent, or of doubt.
pub fn waits_until(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let (_, state) = seen.login.stored()?;
    if let Some(until) = state.intent.as_ref().and_then(|intent| binding_until(seen, intent, now)) {
        return Some(until);
    }
    doubted_until(seen, plan, now)
}

/// Until when a refresh token of which nobody knows whether it was spent is not posted again.
pub fn doubted_until(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Timestamp> {
    let (_, state) = seen.login.stored()?;
    let doubt = state.credential.as_ref()?.doubt?;
    match resolve(&plan.rotation, doubt, seen.standing(), now) {
        Resolution::Wait(until) => Some(until),
        Resolution::Post | Resolution::Probe => None,
    }
}

/// Whether nothing is left: without another seed or consent there is nothing to try.
pub fn is_over(seen: &Seen) -> bool {
    seen.login.stored().is_some_and(|(_, state)| state.credential.is_none())
}

/// Whether nobody knows if the refresh token that is held was spent.
pub fn doubted(seen: &Seen) -> bool {
    seen.login.stored().and_then(|(_, state)| state.credential.as_ref()).is_some_and(|credential| credential.doubt.is_some())
}

/// The next step of a refresh that is due.
pub fn attempt(
    seen: &Seen,
    plan: &Plan,
    trigger: Trigger,
    credentials: &Credentials,
    endpoints: &Endpoints,
    now: Timestamp,
) -> Option<Next> {
    let view = seen.login.state.as_ref()?;
    if is_bound(seen, now) {
        return None;
    }
    let fail = |fault: Fault| Some(Next::Fail { trigger, fault });
    let again = again(seen, plan);
    let credentials = match consent::client(seen, plan, credentials, endpoints, trigger, now) {
        Ok(credentials) => credentials,
        Err(step) => return Some(*step),
    };
    let credentials = &*credentials;
    let origin = match endpoints.token(false) {
        Ok(endpoint) => endpoint,
        Err(fault) => return fail(fault),
    };
    let login = Login::of(origin, &credentials.client_id);
    // Before anything is sent anywhere with what the Secrets hold.
    let mirrored = seen.login.stored().map_or(&[][..], |(_, state)| &state.token_hosts);
    let used = [Endpoint::Token, Endpoint::Refresh, Endpoint::DeviceAuthorization];
    for endpoint in used.into_iter().filter_map(|endpoint| endpoints.get(endpoint)) {
        if let Err(fault) = credentials.permit(mirrored, endpoint, seen.policy.token_hosts_required) {
            return fail(fault);
        }
    }
    let candidate = match &plan.grant {
        GrantPlan::RefreshToken(_) => {
            let revocation = Revocation::of(plan, credentials, endpoints, seen.policy.token_hosts_required);
            candidate(seen, plan, credentials, &login, view, trigger, &again)
                .map(|(state, new)| (State { revocation, ..state }, new))
        }
        _ => match consent::candidate(seen, plan, &login, credentials, endpoints, trigger, now) {
            Ok(Candidate::Held(state, imported)) => Ok((*state, imported)),
            Ok(Candidate::Step(step)) => return Some(*step),
            Ok(Candidate::Wait) => return None,
            Err(fault) => Err(fault),
        },
    };
    let (mut state, imported) = match candidate {
        Ok(candidate) => candidate,
        Err(fault) => return adoption(seen, plan, credentials, &login).or_else(|| fail(fault)),
    };
    let Some(credential) = &state.credential else { return fail(dead(&again)) };
    let endpoint = match endpoints.token(credential.is_refresh_token()) {
        Ok(endpoint) => endpoint,
        Err(fault) => return fail(fault),
    };
    if let Err(fault) = credentials.permit(&state.token_hosts, endpoint, seen.policy.token_hosts_required) {
        return fail(fault);
    }
    let tls = credentials.tls();
    if let Some(doubt) = credential.doubt.filter(|_| trigger != Trigger::Requested) {
        let mut resolution = resolve(&plan.rotation, doubt, seen.standing(), now);
        if let (Resolution::Probe, None, None, Some(record)) = (resolution, &seen.login.probed, &plan.probe, seen.record()) {
            match super::decide::introspection(seen, plan, &record.access_token) {
                Some(introspect) => return Some(introspect),
                // There is nobody to ask.
                None => resolution = postponed(seen.standing(), now),
            }
        }
        match (resolution, &seen.login.probed, &plan.probe, seen.record()) {
            // The operator ended before it could say so.
            (Resolution::Wait(_), ..) if seen.status.failed_attempts == 0 => {
                return fail(unknown("The operator ended in the middle of a refresh, or lost its way."));
            }
            (Resolution::Wait(_), ..) => return None,
            (Resolution::Probe, None, Some(probe), Some(record)) => {
                let Record { access_token, dpop_key, .. } = record.clone();
                return Some(Next::Probe { probe: probe.clone(), access_token, dpop_key, tls });
            }
            (Resolution::Probe, Some(Liveness::Unclear(fault)), ..) => {
                let words = format!("The probe does not tell whether the access token lives: {}", fault.message);
                return fail(unknown(&words));
            }
            // Alive: the refresh did not happen. Dead: its successor is lost, and one more post costs nothing.
            (Resolution::Post | Resolution::Probe, ..) => {}
        }
    }
    // A code is nobody else's.
    if imported && credential.is_refresh_token() {
        match &seen.login.duplicate {
            None => return Some(Next::FindDuplicate { digests: vec![credential.refresh_token.digest()] }),
            Some(Some(other)) => return fail(duplicate(&plan.grant, other)),
            Some(None) => {}
        }
    }
    if !seen.heeded {
        let (endpoint, client_id) = (endpoint.clone(), credentials.client_id.clone());
        return Some(Next::Heed { endpoint, client_id, trigger });
    }
    if let Some(step) = state.credential.as_mut().and_then(|credential| bind(credential, seen, plan)) {
        return Some(step);
    }
    let ours = state.intent.clone().filter(|intent| intent.id == seen.instance.intent_id());
    let (Some(began), Some(intent), Some(credential)) = (seen.login.armed, ours, &state.credential) else {
        return Some(arm(seen, view, state, trigger, now));
    };
    let secret = credential.refresh_token.clone();
    let grant = match &credential.kind {
        CredentialKind::RefreshToken => GrantRequest::RefreshToken(secret),
        CredentialKind::DeviceCode(_) => GrantRequest::DeviceCode(secret),
        CredentialKind::AuthorizationCode { redirect_uri, verifier } => {
            GrantRequest::AuthorizationCode { code: secret, redirect_uri: redirect_uri.clone(), verifier: verifier.clone() }
        }
    };
    let request = plan.request(endpoint.clone(), credentials, grant);
    let request = TokenRequest { dpop_key: credential.dpop_key.clone(), ..request };
    Some(Next::Spend { request, tls, intent, armed: state, began })
}

/// Gives a login the key that its tokens are to be bound to, written down before anything is sent with it; the step that
/// makes one, where there is none yet.
///
/// A login keeps the key that it has: the refresh token of a public client is bound to it (RFC 9449 §5), whatever the spec
/// says now.
pub fn bind(credential: &mut Credential, seen: &Seen, plan: &Plan) -> Option<Next> {
    let (Some(algorithm), None) = (plan.dpop, &credential.dpop_key) else { return None };
    credential.dpop_key.clone_from(&seen.dpop_key);
    seen.dpop_key.is_none().then_some(Next::MakeKey(algorithm))
}

fn arm(seen: &Seen, view: &StateView, state: State, trigger: Trigger, now: Timestamp) -> Next {
    let intent = Intent {
        id: seen.instance.intent_id(),
        digest: state.digest().unwrap_or_default(),
        started: now,
        deadline: now + INTENT_LIFETIME,
        holder: seen.instance.identity.clone(),
        trigger,
        requested: seen.requested(),
        journal_key: seen.instance.journal_key(),
    };
    let over = match view {
        StateView::Stored { version, .. } => Some(version.clone()),
        StateView::Absent | StateView::Unreadable { .. } => None,
    };
    Next::Arm { state: state.armed(intent), over }
}

/// The state to refresh with, and whether its refresh token was just taken from the seed.
fn candidate(
    seen: &Seen,
    plan: &Plan,
    credentials: &Credentials,
    login: &Login,
    view: &StateView,
    trigger: Trigger,
    again: &str,
) -> Result<(State, bool), Fault> {
    let read = credentials.seed.as_ref().ok_or_else(|| Fault::new(FaultKind::ReferenceMissing, "No seed was read."))?;
    let mirrored = |mut state: State| {
        state.policy = plan.state_policy;
        if read.is_ok() {
            state.token_hosts.clone_from(&credentials.token_hosts);
        }
        state
    };
    let import = |token: &Sensitive, prior: Option<&State>| {
        let account = account(seen);
        let seed = Credential::seed(token, CredentialKind::RefreshToken);
        let state = State::imported(account, login.clone(), seed, seen.generation_of_token(), prior);
        if state.is_dead(token) { Err(dead(again)) } else { Ok((mirrored(state), true)) }
    };
    let state = match view {
        StateView::Unreadable { fault, .. } => return Err(fault.clone()),
        StateView::Absent => {
            let token = read.as_ref().map_err(Clone::clone)?;
            return if record_is_lost(seen, plan, token) { Err(gone(&record_name(seen), again)) } else { import(token, None) };
        }
        StateView::Stored { state, .. } => state,
    };
    let adopted = state.account.uid == seen.uid();
    let past = past(seen, plan, trigger, again);
    match read {
        // Imported in this pass already.
        _ if state.intent.as_ref().is_some_and(|intent| intent.id == seen.instance.intent_id()) => Ok((state.clone(), false)),
        // One that is spent or was refused, put there again, does not stand in the way of the login that lives.
        Ok(token) if state.is_dead(token) && adopted && state.login == *login && state.credential.is_some() => {
            past.map_or_else(|| Ok((mirrored(state.clone()), false)), Err)
        }
        Ok(token) if token.digest() != state.seed_digest => import(token, Some(state)),
        _ if past.is_some() => past.map_or_else(|| Ok((mirrored(state.clone()), false)), Err),
        Ok(token) if state.login != *login => {
            // The seed itself, never replaced by a reply, may go where its owner now sends it.
            let unused = state.credential.as_ref().is_none_or(|credential| credential.source == Source::Seed);
            if unused { import(token, Some(state)) } else { Err(login_changed(state, login, again)) }
        }
        Err(fault) if !adopted || state.login != *login || state.credential.is_none() => Err(fault.clone()),
        // The same seed entitles an account of the same name to what its predecessor left.
        Ok(_) | Err(_) => Ok((mirrored(State { account: account(seen), ..state.clone() }), false)),
    }
}

/// A copy of what an account of this name had, which the same seed entitles this one to: its access token may still be good, and can be
/// published, also where its refresh token is not to be used.
fn adoption(seen: &Seen, plan: &Plan, credentials: &Credentials, login: &Login) -> Option<Next> {
    let (version, state) = seen.login.stored()?;
    let GrantPlan::RefreshToken(_) = &plan.grant else { return None };
    let seed = credentials.seed.as_ref()?.as_ref().ok()?;
    let entitled = state.login == *login && seed.digest() == state.seed_digest;
    let copy = seen.login.state.as_ref().is_some_and(StateView::is_copy);
    (copy && entitled && state.account.uid != seen.uid())
        .then(|| Next::Record { state: State { account: account(seen), ..state.clone() }, over: Some(version.clone()) })
}

/// Name of the Secret that holds the record.
fn record_name(seen: &Seen) -> String {
    let account = account(seen);
    state_secret_name(&account.namespace, &account.name)
}

/// The account that a record is of.
pub fn account(seen: &Seen) -> state::Account {
    let metadata = &seen.account.metadata;
    state::Account {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: seen.uid().to_owned(),
    }
}

/// Why the refresh token that is held may be one that was replaced: status tells of one that came after it; or the record was put
/// there from a backup, and status, which a backup seldom has, does not tell of this one. A person who asks says that it is the newest.
pub fn past(seen: &Seen, plan: &Plan, trigger: Trigger, again: &str) -> Option<Fault> {
    let (_, state) = seen.login.stored()?;
    let held = state.credential.as_ref().map(|credential| credential.refresh_token.fingerprint());
    let told = seen.status.login.as_ref().and_then(|login| login.refresh_token_fingerprint.clone());
    if (told.is_some() && told == held) || plan.rotation.mode == RotationMode::Never {
        return None;
    }
    let newer = seen.status.token.as_ref().is_some_and(|token| token.generation > state.generation);
    let copy = held.is_some() && seen.login.state.as_ref().is_some_and(StateView::is_copy);
    if newer && told.is_some() {
        Some(rolled_back(again))
    } else if copy && trigger != Trigger::Requested {
        Some(copied(seen, again))
    } else {
        None
    }
}

/// Whether there was a state, whose refresh token had taken the place of the one in the seed.
fn record_is_lost(seen: &Seen, plan: &Plan, seed: &Sensitive) -> bool {
    let fingerprint = seed.fingerprint();
    let spent = seen.status.login.as_ref().is_some_and(|login| {
        login.seed_fingerprint == fingerprint && login.refresh_token_fingerprint.as_ref() != Some(&fingerprint)
    });
    spent && plan.rotation.mode != RotationMode::Never
}

/// KEEP, with what the redemption means.
fn keep(seen: &Seen, plan: &Plan, view: &StateView, redemption: &Redemption) -> Next {
    let intent = &redemption.intent;
    let (state, over) = match view {
        // Deleted or scribbled over meanwhile: what it held is known.
        StateView::Absent => (redemption.armed.clone(), None),
        StateView::Unreadable { version, .. } => (redemption.armed.clone(), version.clone()),
        StateView::Stored { version, state } => (state.clone(), Some(version.clone())),
    };
    let ours = state.intent.as_ref().is_some_and(|there| there.id == intent.id);
    // Given up for lost by another, who has not posted it since: the reply ends the doubt.
    let held = state.digest().as_ref() == Some(&intent.digest);
    // Or posted once more and refused, for it was this reply that had spent it.
    let buried = state.credential.is_none() && state.tombstones.contains(&intent.digest);
    let unclaimed = state.intent.is_none() && (held || buried);
    // It spent what our reply has the successor of: however that ends but with a successor of its own, ours is the only one.
    if !ours && state.intent.as_ref().is_some_and(|there| there.digest == intent.digest) && held {
        return Next::GiveWay;
    }
    if state.settled.as_ref() == Some(&intent.id) && !(unclaimed && (doubted(seen) || buried)) {
        // Our own write, whose answer was lost.
        let (_, mut settlement) = settle(redemption.armed.clone(), redemption, plan, seen);
        settlement.record = settlement.record.and(state.record.clone());
        return Next::Keep { state, over, settlement };
    }
    if !ours && !unclaimed {
        let message = "Another instance of the operator went on with this login meanwhile.";
        return Next::Fail { trigger: intent.trigger, fault: Fault::new(FaultKind::HeldUp, message) };
    }
    let credential = state.credential.clone().or_else(|| redemption.armed.credential.clone());
    let (state, settlement) = settle(State { credential, ..state }.armed(intent.clone()), redemption, plan, seen);
    Next::Keep { state, over, settlement }
}
