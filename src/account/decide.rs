//! What to do next, as a function of what was seen and of `now`.

use super::login::Login;
use super::revocation::Revocation;
use super::{
    Next, Plan, Record, Seen, State, TokenSecretView, consent, demand, health, lifetime, refresh, report, restart,
    token_secret_name,
};
use crate::api::{ExpirySource, Trigger};
use crate::oauth::{Endpoint, Fault, FaultKind, GrantRequest, Sensitive, TlsSettings, TokenRequest};
use jiff::{SignedDuration, Timestamp};

/// Longest rest: a clock that was set is noticed within it.
const LONGEST_REST: SignedDuration = SignedDuration::from_mins(5);

/// The next step. Called again with its outcome until it rests.
pub fn decide(seen: &Seen, now: Timestamp) -> Next {
    if seen.gone || seen.account.metadata.deletion_timestamp.is_some() {
        return Next::Rest(None);
    }
    let Ok(plan) = &seen.plan else {
        // The token is left alone; whether it is still there must be known to be told.
        let look = seen.token_secret.is_none() && (!in_place(seen) || report::conflicted(&seen.status));
        return if look { Next::ReadTokenSecret(token_secret_name(&seen.account)) } else { say_or_rest(seen, now) };
    };
    let Some(view) = &seen.token_secret else {
        return match undisturbed(seen, plan, now) {
            Quiet::Yes => say_or_rest(seen, now),
            Quiet::AskReferences => Next::ReadInputs(plan.clone()),
            Quiet::No if !seen.turn && attempt_is_due(seen, plan, now) => Next::TakeTurn(plan.gate()),
            Quiet::No if only_a_token_is_missing(seen, plan) => Next::ReadAll(plan.clone()),
            Quiet::No => Next::ReadTokenSecret(plan.token_secret_name.clone()),
        };
    };
    if plan.spends()
        && let Some(step) = refresh::unfinished(seen, plan, now)
    {
        return step;
    }
    if demand::is_unread(seen) {
        return Next::ReadState;
    }
    if seen.deposited && plan.is_interactive() && seen.login.deposit.is_none() {
        return Next::ReadDeposit;
    }
    if let Some(publish) = publication(seen, plan, view, now) {
        return publish;
    }
    // With a failure it is told which Secrets it was met with, or a new seed would not be known for one.
    if seen.attempt.as_ref().is_some_and(|attempt| attempt.fault.is_some()) && seen.inputs.is_none() {
        return Next::ReadInputs(plan.clone());
    }
    // Of a pass that broke off, with another spec: first it is told, so that back-off and patience count from it.
    if seen.attempt.is_some() && !seen.attempted {
        return Next::Say(report::unobserved(seen, now));
    }
    if let Some(step) = attempt(seen, plan, view, now) {
        return step;
    }
    // All was done for it that can be done now.
    if let Some(answer) = demand::answer(seen, now) {
        return answer;
    }
    // First it is said what came of it: the page that waits for that knows by the deposit whose login it was.
    if let Some(version) = consent::used_up(seen, now).filter(|_| seen.attempt.is_none()) {
        return Next::ForgetDeposit(version);
    }
    match (seen.strays.first(), seen.record()) {
        (Some(stray), Some(_)) => Next::Prune(stray.clone()),
        // First it is said which token the workloads are to have.
        (None, Some(record)) if restart_is_due(seen, plan, now) && seen.attempt.is_none() => {
            Next::Restart { targets: plan.restart_targets.clone(), generation: record.public.generation }
        }
        (None, Some(record)) if seen.attempt.is_none() => health_check(seen, plan, record, now),
        _ => say_or_rest(seen, now),
    }
}

/// Whether the cache and status alone say that nothing is to be done.
enum Quiet {
    Yes,
    AskReferences,
    No,
}

/// Whether status alone says that the provider is to be asked: then the turn comes first, and nothing is read and held while
/// it is waited for.
fn attempt_is_due(seen: &Seen, plan: &Plan, now: Timestamp) -> bool {
    let status = &seen.status;
    let due = status.token.is_none() || status.next_refresh_time.as_ref().is_some_and(|next| next.0 <= now);
    // What is nowhere but in its Secret went with it. A Secret that is not the account's alone may be there without a mark.
    let nowhere = seen.mark.is_none() && !plan.spends() && super::is_controlled(&seen.account);
    let lost = nowhere && seen.pause_for_vandals().is_none_or(|until| until <= now);
    let due = due || lost || health::wants_fresh(seen, None) || demand::is_due(seen, now);
    let may = !plan.suspended && !seen.waits(now) && !seen.asked_for_patience(now) && !report::conflicted(status);
    (may || seen.deposited)
        && seen.unpublished.is_none()
        && seen.attempt.is_none()
        && (due || seen.requested().is_some() || seen.deposited)
}

/// Whether there is no Secret, as far as is known, and it is tried now, or was never: all is read at once that it takes. Whoever
/// may have spent something looks for that first.
fn only_a_token_is_missing(seen: &Seen, plan: &Plan) -> bool {
    let begins = (seen.turn && !plan.spends()) || seen.status.last_attempt_time.is_none();
    begins && seen.mark.is_none() && seen.inputs.is_none() && !plan.suspended
}

fn restart_is_due(seen: &Seen, plan: &Plan, now: Timestamp) -> bool {
    seen.restarted.is_none() && restart::due(seen, plan).is_some_and(|due| due <= now)
}

fn health_is_due(seen: &Seen, plan: &Plan, now: Timestamp) -> bool {
    health::due(seen, plan, now).is_some_and(|due| due <= now)
}

/// The check of the token's health, where it is due.
fn health_check(seen: &Seen, plan: &Plan, record: &Record, now: Timestamp) -> Next {
    let Some(check) = plan.health_check.as_ref().filter(|_| health_is_due(seen, plan, now)) else {
        return say_or_rest(seen, now);
    };
    if plan.ca_bundle.is_some() && seen.inputs.is_none() {
        return Next::ReadInputs(plan.clone());
    }
    let credentials = seen.inputs.as_ref().and_then(|inputs| inputs.credentials.as_ref().ok());
    Next::CheckHealth {
        url: check.url.clone(),
        access_token: record.access_token.clone(),
        dpop_key: record.dpop_key.clone(),
        generation: record.public.generation,
        // Our certificate is for the provider alone.
        tls: TlsSettings { identity: None, ..credentials.map(super::Credentials::tls).unwrap_or_default() },
    }
}

/// Whether the watch shows the token Secret as it was published.
fn in_place(seen: &Seen) -> bool {
    seen.status.token_secret_resource_version.as_ref() == seen.mark.as_ref().map(|mark| &mark.resource_version)
}

fn undisturbed(seen: &Seen, plan: &Plan, now: Timestamp) -> Quiet {
    let status = &seen.status;
    if seen.is_edited()
        || seen.unpublished.is_some()
        || seen.attempt.is_some()
        || !in_place(seen)
        || !seen.strays.is_empty()
        || (seen.requested().is_some() && !plan.suspended)
        || restart_is_due(seen, plan, now)
        || report::conflicted(status)
        || seen.deposited
        || seen.demanded.is_some()
        || health_is_due(seen, plan, now)
        || (consent::poll_is_due(seen, now) && !seen.waits(now) && !plan.suspended)
        || (health::wants_fresh(seen, None) && !seen.waits(now) && !plan.suspended)
    {
        return Quiet::No;
    }
    // Nothing but a person's consent changes it.
    let awaited = status.authorization.as_ref().is_some_and(|awaited| awaited.expiration_time.is_none());
    if awaited && status.token.is_none() && status.failed_attempts == 0 && plan.is_interactive() {
        return Quiet::Yes;
    }
    if seen.waits(now) {
        return match &seen.inputs {
            None => Quiet::AskReferences,
            Some(_) if seen.references_changed() => Quiet::No,
            Some(_) => Quiet::Yes,
        };
    }
    if status.failed_attempts > 0 {
        return Quiet::No;
    }
    let due = match (&status.token, &status.next_refresh_time) {
        (Some(_), Some(next)) => next.0 <= now,
        _ => true,
    };
    if due && !plan.suspended { Quiet::No } else { Quiet::Yes }
}

/// The write that the token Secret needs: a token that is in no Secret yet, or our contents where somebody changed them.
fn publication(seen: &Seen, plan: &Plan, view: &TokenSecretView, now: Timestamp) -> Option<Next> {
    if seen.publish_refused {
        return None;
    }
    let unpublished = seen.to_publish().filter(|record| record.answers(plan, now));
    let (contents, record, over) = match (view, unpublished) {
        (TokenSecretView::Foreign(_) | TokenSecretView::Departing(_), _) => return None,
        (TokenSecretView::Ours { held, .. }, Some(record)) => (None, record, Some(held)),
        (TokenSecretView::Absent, Some(record)) => (None, record, None),
        (TokenSecretView::Ours { .. }, None) if seen.pause_for_rivals(now).is_some() && !seen.is_edited() => return None,
        (TokenSecretView::Ours { held, contents, record: Some(record) }, None) => {
            ((!held.disowned).then_some(contents), record, Some(held))
        }
        _ => return None,
    };
    // What the API server refused to have written is not offered again before its time.
    if seen.write_refused(now) {
        return None;
    }
    // What is to be revoked one day must be known then.
    if let Some(unpublished) = unpublished.filter(|_| plan.revokes && !plan.spends())
        && let Some(step) = remembered(seen, plan, unpublished)
    {
        return Some(step);
    }
    // Nobody has said when it expires: its provider may know.
    if unpublished.is_some() && record.public.expiry_source == ExpirySource::Default && seen.introspected.is_none() {
        let introspect = introspection(seen, plan, &record.access_token);
        if introspect.is_some() {
            return introspect;
        }
    }
    let wanted = match record.published(&seen.account, &plan.extra) {
        Ok(wanted) => wanted,
        // The next token may fit where this one does not: a template of one edit with the scopes that it needs.
        Err(_) if unpublished.is_none() && !seen.attempted && cause(seen, plan, now).is_some() => return None,
        Err(fault) => return Some(Next::Withhold(fault)),
    };
    if contents.is_some_and(|contents| wanted.stands_in(contents)) {
        return None;
    }
    let name = plan.token_secret_name.clone();
    Some(Next::Publish { name, record: record.clone(), contents: wanted, over: over.cloned() })
}

/// The step by which a token that is not refreshed is written down, so that it can be revoked when its account is gone.
fn remembered(seen: &Seen, plan: &Plan, record: &Record) -> Option<Next> {
    let endpoints = seen.endpoints.as_ref()?.as_ref().ok()?;
    let credentials = seen.inputs.as_ref()?.credentials.as_ref().ok()?;
    let revocation = Revocation::of(plan, credentials, endpoints, seen.policy.token_hosts_required)?;
    if seen.login.state.is_none() {
        return Some(Next::ReadState);
    }
    let stored = seen.login.stored().map(|(_, state)| state);
    if stored.and_then(|state| state.record.as_ref()).is_some_and(|there| there.access_token == record.access_token) {
        return None;
    }
    let login = Login::of(endpoints.token(false).ok()?, &credentials.client_id);
    let state = State::begun(refresh::account(seen), login, record.public.generation, stored);
    let (record, revocation, policy) = (Some(record.clone()), Some(revocation), plan.state_policy);
    Some(Next::Record { state: State { record, revocation, policy, ..state }, over: seen.login.version() })
}

/// Asks the provider what it says of a token, where it can be asked.
pub(super) fn introspection(seen: &Seen, plan: &Plan, token: &Sensitive) -> Option<Next> {
    let endpoint = seen.endpoints.as_ref()?.as_ref().ok()?.get(Endpoint::Introspection)?;
    let credentials = seen.inputs.as_ref()?.credentials.as_ref().ok()?;
    let permitted = credentials.permit(&[], endpoint, seen.policy.token_hosts_required).is_ok();
    let request = plan.request(endpoint.clone(), credentials, GrantRequest::Introspection(token.clone()));
    (permitted && !plan.registers).then(|| Next::Introspect { request, tls: credentials.tls() })
}

/// The next step towards a token, where one is due.
fn attempt(seen: &Seen, plan: &Plan, view: &TokenSecretView, now: Timestamp) -> Option<Next> {
    let unpublished = seen.to_publish().is_some_and(|record| record.answers(plan, now));
    if seen.attempted || unpublished || matches!(view, TokenSecretView::Foreign(_) | TokenSecretView::Departing(_)) {
        return None;
    }
    let cause = cause(seen, plan, now)?;
    // What was read says whether the wait is over.
    if seen.waits(now) && seen.inputs.is_none() {
        return Some(Next::ReadInputs(plan.clone()));
    }
    let trigger = trigger(seen, cause, now)?;
    if !seen.turn {
        return Some(Next::TakeTurn(plan.gate()));
    }
    let Some(inputs) = &seen.inputs else { return Some(Next::ReadInputs(plan.clone())) };
    let fail = |fault: &Fault| Some(Next::Fail { trigger, fault: fault.clone() });
    let credentials = match &inputs.credentials {
        Ok(credentials) => credentials,
        Err(fault) => return fail(fault),
    };
    let tls = credentials.tls();
    let endpoints = match &seen.endpoints {
        None => return Some(Next::FindEndpoint { plan: plan.clone(), tls }),
        Some(Ok(endpoints)) => endpoints,
        Some(Err(fault)) => return fail(fault),
    };
    if plan.spends() {
        return refresh::attempt(seen, plan, trigger, credentials, endpoints, now);
    }
    let endpoint = match endpoints.token(false) {
        Ok(endpoint) => endpoint,
        Err(fault) => return fail(&fault),
    };
    if let Err(fault) = credentials.permit(&[], endpoint, seen.policy.token_hosts_required) {
        return fail(&fault);
    }
    if !seen.heeded {
        let client_id = credentials.client_id.clone();
        return Some(Next::Heed { endpoint: endpoint.clone(), client_id, trigger });
    }
    let minted = match (plan.service_account(), &seen.subject_token) {
        (None, _) => None,
        (Some(account), None) => return Some(Next::MintSubjectToken(account.clone())),
        (Some(_), Some(Err(fault))) => return fail(fault),
        (Some(_), Some(Ok(token))) => Some(token),
    };
    let Some(grant) = credentials.grant_request(plan, minted) else {
        return fail(&Fault::new(FaultKind::ReferenceMissing, "What the grant is made with was not read."));
    };
    // A key for this token alone: what spends nothing is bound to nothing.
    let dpop_key = match (plan.dpop, &seen.dpop_key) {
        (Some(algorithm), None) => return Some(Next::MakeKey(algorithm)),
        (Some(_), made) => made.clone(),
        (None, _) => None,
    };
    let request = TokenRequest { dpop_key, ..plan.request(endpoint.clone(), credentials, grant) };
    Some(Next::Redeem { trigger, request, tls })
}

/// Why another token is needed, if it is.
fn cause(seen: &Seen, plan: &Plan, now: Timestamp) -> Option<Trigger> {
    if plan.suspended {
        return None;
    }
    if seen.deposited && plan.is_interactive() && !consent::is_settled(seen) {
        return Some(Trigger::Consented);
    }
    if plan.is_interactive() && consent::is_polled(seen) {
        return Some(Trigger::Consented);
    }
    match seen.record() {
        None => Some(Trigger::Missing),
        Some(record) if record.request_digest != plan.request_digest() => Some(Trigger::SpecChanged),
        Some(record) if !seen.serves(record, plan, now) => Some(Trigger::Schedule),
        Some(_) if seen.requested().is_some() => Some(Trigger::Requested),
        Some(record) if demand::wanted(seen, record, now) => Some(Trigger::Demanded),
        Some(record) if health::wants_fresh(seen, Some(record)) => Some(Trigger::Rejected),
        // Also a doubt that nobody has told of yet.
        Some(_) => (seen.login_in_question() || refresh::doubted(seen)).then_some(Trigger::Retry),
    }
}

/// What lets the attempt be made now; `None` while it has to wait after a failure that nothing has changed since.
fn trigger(seen: &Seen, cause: Trigger, now: Timestamp) -> Option<Trigger> {
    if cause == Trigger::Consented && seen.deposited && !consent::was_tried(seen) {
        return Some(cause);
    }
    let requested = seen.requested().is_some();
    if !requested && seen.asked_for_patience(now) {
        return None;
    }
    if seen.status.failed_attempts == 0 {
        let paused = cause == Trigger::Missing && seen.pause_for_vandals().is_some_and(|until| until > now);
        return (!paused).then_some(cause);
    }
    match seen.waits(now) {
        _ if seen.is_edited() => Some(cause),
        _ if requested => Some(Trigger::Requested),
        true if seen.references_changed() => Some(Trigger::ReferenceChanged),
        true => None,
        false => Some(Trigger::Retry),
    }
}

/// Whether an edit asks for another token, which is not asked for yet because somebody else's intent binds or the provider wants
/// patience. It is not observed before: nothing else would remember it.
fn edit_waits(seen: &Seen, now: Timestamp) -> bool {
    let Ok(plan) = &seen.plan else { return false };
    let waits = refresh::is_bound(seen, now) || (seen.status.failed_attempts == 0 && seen.asked_for_patience(now));
    seen.is_edited() && waits && !seen.attempted && cause(seen, plan, now) == Some(Trigger::SpecChanged)
}

fn say_or_rest(seen: &Seen, now: Timestamp) -> Next {
    let status = if edit_waits(seen, now) { report::unobserved(seen, now) } else { report::report(seen, now) };
    if status != seen.status {
        return Next::Say(status);
    }
    let paused = seen.record().is_none().then(|| seen.pause_for_vandals()).flatten();
    let moments = [
        status.token.as_ref().map(|token| token.expiration_time.0),
        status.next_refresh_time.as_ref().filter(|_| status.failed_attempts == 0).map(|next| next.0),
        status.next_attempt_time.as_ref().map(|next| next.0),
        status.retry_after_time.as_ref().map(|until| until.0),
        paused,
        seen.plan.as_ref().ok().and_then(|plan| refresh::waits_until(seen, plan, now)),
        seen.plan.as_ref().ok().and_then(|plan| restart::due(seen, plan)),
        seen.plan.as_ref().ok().and_then(|plan| health::due(seen, plan, now)),
        status.login.as_ref().and_then(lifetime::told_from),
        seen.pause_for_rivals(now).filter(|_| !in_place(seen)),
        consent::next_poll(seen, &status),
        status.authorization.as_ref().and_then(|awaited| awaited.expiration_time.as_ref()).map(|end| end.0),
    ];
    let next = moments.into_iter().flatten().filter(|moment| *moment > now).min();
    // A token that was due when it came: the next pass asks again, and not at once.
    let due = status.failed_attempts == 0 && status.next_refresh_time.as_ref().is_some_and(|next| next.0 <= now);
    let soon = (seen.attempted && due).then(|| now + SignedDuration::from_secs(1));
    Next::Rest([next, soon, Some(now + LONGEST_REST)].into_iter().flatten().min())
}

#[cfg(test)]
#[path = "decide_tests/mod.rs"]
mod tests;
