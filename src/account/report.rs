//! What status says, as a function of what was seen and of `now`.

use super::backoff::next_attempt;
use super::login_faults::again;
use super::plan::token_secret_name;
use super::{Plan, Refusal, Seen, StateView, TokenSecretView, consent, health, lifetime, refresh, restart};
use crate::api::{
    Attempt, AttemptResult, ConditionType, CreationPolicy, LoginStatus, OAuthAccountStatus, Reason, TokenStatus, Trigger,
};
use crate::oauth::{Fault, FaultKind};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// How many attempts `status.history` keeps.
const HISTORY: usize = 5;

/// A failure that stands.
struct Failure {
    /// Its class; none where another version of the operator knew it by another name.
    kind: Option<FaultKind>,
    reason: String,
    message: String,
}

impl Failure {
    fn needs_a_person(&self) -> bool {
        self.kind.is_some_and(FaultKind::needs_a_person)
    }
}

/// The status that tells the truth about what was seen, at the end of a pass: the spec has been acted on.
pub fn report(seen: &Seen, now: Timestamp) -> OAuthAccountStatus {
    told(seen, Some(seen.generation()), true, now)
}

/// The same, where the spec is not acted on yet: what a pass before has attempted and could not tell, or an edit that waits for
/// something else.
pub fn unobserved(seen: &Seen, now: Timestamp) -> OAuthAccountStatus {
    told(seen, seen.status.observed_generation, true, now)
}

/// The same in the middle of a pass, or where one broke off: what the spec asks for may still have to be done, and whoever comes next,
/// also after a restart, must see that it is not yet; and so with a token Secret that was found damaged, and with a token that is in
/// no Secret yet, whose attempt is told with it.
pub fn interim(seen: &Seen, now: Timestamp) -> OAuthAccountStatus {
    let token_secret_resource_version = seen.status.token_secret_resource_version.clone();
    OAuthAccountStatus { token_secret_resource_version, ..told(seen, seen.status.observed_generation, false, now) }
}

fn told(seen: &Seen, observed_generation: Option<i64>, whole: bool, now: Timestamp) -> OAuthAccountStatus {
    let old = &seen.status;
    let whole = whole || seen.to_publish().is_none();
    let mut status = OAuthAccountStatus {
        observed_generation,
        provider: Some(provider(seen).to_owned()),
        grant: Some(grant(seen).to_owned()),
        token_secret_name: Some(token_secret_name(&seen.account)),
        token_secret_resource_version: match &seen.token_secret {
            None => old.token_secret_resource_version.clone(),
            // It is not as it should be, and is put right later.
            Some(_) if seen.pause_for_rivals(now).is_some() => old.token_secret_resource_version.clone(),
            Some(TokenSecretView::Ours { held, record: Some(_), .. }) => Some(held.resource_version.clone()),
            Some(_) => None,
        },
        next_refresh_time: seen.plan.as_ref().ok().and_then(|plan| next_refresh(seen, plan)),
        // What was published last: its fingerprint tells a forged Secret from ours also when there is no other token.
        token: seen.standing().or(old.token.as_ref()).cloned(),
        conditions: vec![],
        ..old.clone()
    };
    (status.login, status.refresh_token_expiration_time) = login(seen);
    // Also where the operator ended before it could say so.
    let requested = seen.plan.as_ref().ok().and_then(|plan| plan.requested);
    if let Some(answered) = seen.answered().filter(|answered| whole && Some(*answered) == requested) {
        status.last_handled_refresh_time = Some(Time(answered));
    }
    status.restart = match &seen.plan {
        Ok(plan) => restart::told(seen, plan),
        Err(_) => old.restart.clone(),
    };
    let (health, verdict) = health::told(seen, old);
    status.health = health;
    status.authorization = seen.plan.as_ref().ok().and_then(|plan| consent::authorization(seen, plan, now));
    if whole {
        count(&mut status, seen, now);
    }
    // A code that a person can enter now: whatever failed before is over, and their request is answered.
    let begun = matches!(seen.login.device, Some(Ok(_))) && seen.attempt.is_none();
    if begun && status.authorization.is_some() {
        forgive(&mut status);
    }
    if status.authorization.is_some() && seen.attempt.is_none() {
        status.last_handled_refresh_time = seen.requested().map(Time).or(status.last_handled_refresh_time);
    }
    let failure = failure(&status, seen);
    status.conditions = conditions(&status, seen, failure.as_ref(), verdict, now);
    status
}

/// What may be said of the refresh token: as read, or as status said before.
fn login(seen: &Seen) -> (Option<LoginStatus>, Option<Time>) {
    let old = &seen.status;
    match (&seen.plan, seen.login.stored()) {
        (Ok(plan), _) if !plan.spends() => (None, None),
        // Nobody has logged in yet.
        // A copy is not told of before it has proved itself: it would vouch for itself.
        _ if seen.login.state.as_ref().is_some_and(StateView::is_copy) => {
            (old.login.clone(), old.refresh_token_expiration_time.clone())
        }
        (_, Some((_, state))) if state.generation == 0 && old.login.is_none() && state.seed_digest.is_empty() => (None, None),
        // An old record says nothing of the refresh token that took its place.
        (_, Some((_, state))) if state.generation >= old.token.as_ref().map_or(0, |token| token.generation) => {
            let held = state.credential.as_ref();
            let told = LoginStatus {
                refresh_token_fingerprint: held
                    .filter(|credential| credential.is_refresh_token())
                    .map(|credential| credential.refresh_token.fingerprint()),
                seed_fingerprint: state.seed_digest.chars().take(8).collect(),
                start_time: state.since.map(|since| Time(floor(since))),
                expiration_time: seen.plan.as_ref().ok().and_then(|plan| lifetime::end(state, plan)).map(|end| Time(floor(end))),
            };
            (Some(told), held.and_then(|credential| credential.expires).map(|end| Time(floor(end))))
        }
        _ => (old.login.clone(), old.refresh_token_expiration_time.clone()),
    }
}

/// Whether status says that the Secret to publish in is someone else's.
pub fn conflicted(status: &OAuthAccountStatus) -> bool {
    find(status, ConditionType::SecretConflict).is_some()
}

/// The attempt of this turn, entered into the books.
fn count(status: &mut OAuthAccountStatus, seen: &Seen, now: Timestamp) {
    let Some(attempt) = &seen.attempt else {
        // What the API server has just refused to have written is not over because the token is well.
        let refused = seen.publish_refused || seen.write_refused(now);
        let settled = seen.to_publish().is_none() && !refused && !seen.login_in_question();
        if healthy(seen, now) && settled && !health::wants_fresh(seen, seen.record()) {
            forgive(status);
        }
        // An edit while the provider wants patience is tried when that is over.
        if seen.is_edited() && seen.asked_for_patience(now) {
            status.next_attempt_time = status.retry_after_time.clone();
        }
        // A token whose operator died before it could tell of it.
        let issued = seen.record().map(|record| record.public.issued_time.clone());
        status.last_success_time = status.last_success_time.take().max(issued);
        return;
    };
    let duration = attempt.finished.duration_since(attempt.started).as_millis();
    status.last_attempt_time = Some(Time(floor(attempt.started)));
    let entry = Attempt {
        start_time: Time(floor(attempt.started)),
        trigger: attempt.trigger,
        result: if attempt.fault.is_some() { AttemptResult::Failed } else { AttemptResult::Succeeded },
        reason: attempt.fault.as_ref().map(|fault| fault.kind.reason().as_str().to_owned()),
        fault: attempt.fault.as_ref().map(|fault| fault.kind.name()),
        duration_milliseconds: i32::try_from(duration.clamp(0, i128::from(i32::MAX))).unwrap_or(i32::MAX),
    };
    status.history.insert(0, entry);
    status.history.truncate(HISTORY);
    if let Some(requested) = seen.answering {
        status.last_handled_refresh_time = Some(Time(requested));
    }
    if attempt.issued {
        status.last_success_time = Some(Time(floor(attempt.finished)));
    }
    let wish = attempt.fault.as_ref().and_then(|fault| fault.retry_after);
    status.retry_after_time = wish.map(|wish| Time(ceiling(attempt.finished + wish)));
    match &attempt.fault {
        // A refresh that somebody asked for before its time: the token is as good as it was.
        Some(fault)
            if matches!(attempt.trigger, Trigger::Requested | Trigger::Demanded)
                && !attempt.issued
                && healthy(seen, now)
                && !fault.kind.touches_the_login() => {}
        Some(fault) => {
            status.failed_attempts = failures(seen, attempt.trigger, fault).saturating_add(1);
            let expires = seen.standing().map(|token| token.expiration_time.0);
            let next = next_attempt(fault, status.failed_attempts, seen.uid(), attempt.finished, expires);
            // A gamble waits until there is little left to lose, whatever the back-off says.
            let doubted = seen.plan.as_ref().ok().and_then(|plan| refresh::doubted_until(seen, plan, now));
            let next = Time(ceiling(doubted.map_or(next, |until| next.max(until))));
            let over = fault.kind.ends_the_login() && refresh::is_over(seen);
            status.next_attempt_time = (!over).then_some(next);
            status.observed_references = seen.inputs.as_ref().map(|inputs| inputs.references.clone());
        }
        None => forgive(status),
    }
}

/// Failures before this one that make the wait longer: those that wait for the same, a person or better times, with the same
/// spec and the same references.
/// A person who asks again and again does not make it longer.
fn failures(seen: &Seen, trigger: Trigger, fault: &Fault) -> i32 {
    let status = &seen.status;
    let same = super::seen::last_fault(status).is_some_and(|last| last.needs_a_person() == fault.kind.needs_a_person());
    match trigger {
        _ if seen.is_edited() || !same => 0,
        Trigger::ReferenceChanged => 0,
        Trigger::Requested => (status.failed_attempts - 1).max(0),
        _ => status.failed_attempts,
    }
}

/// Failures are over.
fn forgive(status: &mut OAuthAccountStatus) {
    status.failed_attempts = 0;
    status.next_attempt_time = None;
    status.observed_references = None;
}

/// The token Secret was read, is ours, and holds a token that need not be replaced yet.
fn healthy(seen: &Seen, now: Timestamp) -> bool {
    matches!((seen.record(), &seen.plan), (Some(record), Ok(plan)) if seen.serves(record, plan, now))
}

fn next_refresh(seen: &Seen, plan: &Plan) -> Option<Time> {
    let token = seen.standing().filter(|_| !plan.suspended)?;
    Some(Time(ceiling(seen.renewal(token, plan))))
}

/// The failure of this turn, or the one that status already tells of.
fn failure(status: &OAuthAccountStatus, seen: &Seen) -> Option<Failure> {
    if status.failed_attempts == 0 {
        return None;
    }
    if let Some(fault) = seen.attempt.as_ref().and_then(|attempt| attempt.fault.as_ref()) {
        return Some(Failure {
            kind: Some(fault.kind),
            reason: fault.kind.reason().as_str().to_owned(),
            message: fault.message.clone(),
        });
    }
    let told = find(&seen.status, ConditionType::RefreshFailing)?;
    Some(Failure { kind: super::seen::last_fault(&seen.status), reason: told.reason.clone(), message: told.message.clone() })
}

fn conditions(
    status: &OAuthAccountStatus,
    seen: &Seen,
    failure: Option<&Failure>,
    verdict: Option<(&'static str, Reason, String)>,
    now: Timestamp,
) -> Vec<Condition> {
    let mut all = Vec::with_capacity(4);
    let mut add = |type_: ConditionType, state: &str, reason: &str, message: String| {
        let before = find(&seen.status, type_).filter(|before| before.status == state);
        all.push(Condition {
            type_: type_.as_str().to_owned(),
            status: state.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: before.map_or_else(|| Time(floor(now)), |before| before.last_transition_time.clone()),
            observed_generation: status.observed_generation,
        });
    };
    let (state, reason, message) = ready(status, seen, failure, now);
    add(ConditionType::Ready, state, &reason, message.clone());
    let (authorized, why, words) = authorized(seen);
    add(ConditionType::Authorized, authorized, &why, words);
    let conflict = matches!(seen.token_secret, Some(TokenSecretView::Foreign(_)));
    let refusal = seen.plan.as_ref().err();
    let stalled = conflict || failure.is_some_and(Failure::needs_a_person);
    let special = failure.and_then(|failure| failure.kind).and_then(|kind| special(kind, seen));
    // The login itself is over or in question: no refresh to come can succeed, however well the token is now.
    let over = special.is_some_and(|type_| type_ != ConditionType::RefreshOutcomeUnknown);
    // What keeps Ready False may be an expiry; what keeps us from a new token is the failure.
    let (cause, sentence) = match failure {
        Some(failure) if !conflict => (&failure.reason, &failure.message),
        _ => (&reason, &message),
    };
    if let Some(refusal) = refusal {
        // Also while the token of the spec before is valid: the new spec is not acted on.
        add(ConditionType::Stalled, "True", Reason::Configuration.as_str(), refusal.sentence().to_owned());
    } else if over || (state != "True" && (conflict || !suspended(seen))) {
        let type_ = if stalled { ConditionType::Stalled } else { ConditionType::Reconciling };
        add(type_, "True", cause, sentence.clone());
    }
    if let Some(failure) = failure {
        add(ConditionType::RefreshFailing, "True", &failure.reason, failure.message.clone());
        if let Some(type_) = special {
            add(type_, "True", &failure.reason, failure.message.clone());
        }
    }
    if let Some(end) = status.login.as_ref().and_then(|login| lifetime::due(login, now)).filter(|_| !over) {
        let again = seen.plan.as_ref().map(|plan| again(seen, plan)).unwrap_or_default();
        let words = format!("This login ends at {end}, whatever its use. Before that, {again}.");
        add(ConditionType::ReauthorizationDue, "True", Reason::LoginEnds.as_str(), words);
    }
    if let Some((state, reason, message)) = verdict.or_else(|| health_before(seen)) {
        if status.health.as_ref().is_some_and(|health| health.rejected_tokens > 1) {
            add(ConditionType::TokenRejectedByResource, "True", reason.as_str(), message.clone());
        }
        add(ConditionType::Healthy, state, reason.as_str(), message);
    }
    if conflict {
        add(ConditionType::SecretConflict, "True", Reason::SecretConflict.as_str(), message);
    }
    all
}

/// The condition that a class of failure has to itself.
fn special(kind: FaultKind, seen: &Seen) -> Option<ConditionType> {
    if !seen.plan.as_ref().is_ok_and(Plan::spends) {
        return None;
    }
    match kind {
        FaultKind::InvalidGrant | FaultKind::RedeemedElsewhere | FaultKind::WrongSubject | FaultKind::DeviceCodeExpired => {
            Some(ConditionType::ReauthorizationRequired)
        }
        FaultKind::OutcomeUnknown => Some(ConditionType::RefreshOutcomeUnknown),
        FaultKind::DuplicateCredential => Some(ConditionType::DuplicateCredential),
        FaultKind::StateRolledBack => Some(ConditionType::StateRolledBack),
        _ => None,
    }
}

/// What the last check of the token's health said, as status tells it.
fn health_before(seen: &Seen) -> Option<(&'static str, Reason, String)> {
    seen.plan.as_ref().ok()?.health_check.as_ref()?;
    let before = find(&seen.status, ConditionType::Healthy)?;
    let (state, reason) = match before.status.as_str() {
        "True" => ("True", Reason::TokenAccepted),
        "False" => ("False", Reason::TokenRejected),
        _ => ("Unknown", Reason::ProviderError),
    };
    Some((state, reason, before.message.clone()))
}

fn suspended(seen: &Seen) -> bool {
    seen.plan.as_ref().is_ok_and(|plan| plan.suspended)
}

fn ready(status: &OAuthAccountStatus, seen: &Seen, failure: Option<&Failure>, now: Timestamp) -> (&'static str, String, String) {
    let told = |state, reason: Reason, message: String| (state, reason.as_str().to_owned(), message);
    let secret = status.token_secret_name.as_deref().unwrap_or_default();
    if let Some(TokenSecretView::Foreign(why)) = &seen.token_secret {
        let kept = seen.strays.first().map(|stray| format!(" The token published before stands in Secret {}.", stray.name));
        let merged = seen.account.spec.token_secret.creation_policy == CreationPolicy::Merge;
        let advice = "; choose another name in spec.tokenSecret.name, or remove that Secret if nobody needs it";
        let advice = if merged { "" } else { advice };
        let message = format!("Secret {secret} {why}{advice}.{}", kept.unwrap_or_default());
        return told("False", Reason::SecretConflict, message);
    }
    let refusal = seen.plan.as_ref().err();
    let because = refusal.map(Refusal::sentence).or(failure.map(|failure| failure.message.as_str()));
    let because = because.or(suspended(seen).then_some("spec.suspend keeps the operator from renewing it."));
    let because = because.map(|words| format!(" {words}")).unwrap_or_default();
    if let Some(TokenSecretView::Departing(why)) = &seen.token_secret {
        return told("False", Reason::Pending, format!("Secret {secret} {why}; the operator waits until it is gone."));
    }
    match seen.standing() {
        Some(token) if token.expiration_time.0 > now => {
            let paused = if suspended(seen) { " spec.suspend keeps the operator from renewing it." } else { "" };
            let ignored = seen.plan.as_ref().ok().and_then(|plan| plan.ignored.as_ref()).map(|words| format!(" {words}"));
            let ignored = ignored.unwrap_or_default();
            let unbound = seen.plan.as_ref().ok().and_then(|plan| otherwise_bound(token, plan)).unwrap_or_default();
            let message = format!("A valid access token is published in Secret {secret}.{unbound}{paused}{ignored}");
            told("True", Reason::TokenPublished, message)
        }
        Some(TokenStatus { expiration_time, .. }) => {
            let message = format!("The access token expired at {}.{because}", expiration_time.0);
            told("False", Reason::TokenExpired, message)
        }
        None if refusal.is_some() => told("False", Reason::Configuration, because.trim_start().to_owned()),
        None => match failure {
            Some(failure) => ("False", failure.reason.clone(), failure.message.clone()),
            None if seen.plan.as_ref().is_ok_and(|plan| plan.suspended) => told(
                "False",
                Reason::Suspended,
                "There is no token, and spec.suspend keeps the operator from asking for one.".into(),
            ),
            None if status.authorization.is_some() => {
                let words = status.authorization.as_ref().map(|awaited| consent::awaited(awaited, seen)).unwrap_or_default();
                told("False", Reason::AuthorizationPending, words)
            }
            None if status.token.is_some() => {
                let again = seen.pause_for_vandals().filter(|until| *until > now);
                let again =
                    again.map(|until| format!(" It vanished several times in a row; it is made again at {}.", ceiling(until)));
                let message =
                    format!("Secret {secret} does not hold the token that was published there.{}", again.unwrap_or_default());
                told("False", Reason::TokenMissing, message)
            }
            None => told("Unknown", Reason::Pending, "The first token has not been asked for yet.".into()),
        },
    }
}

/// What must be said of the key of a token, where it is not as the spec asks.
fn otherwise_bound(token: &TokenStatus, plan: &Plan) -> Option<&'static str> {
    match (plan.dpop, &token.dpop) {
        (Some(_), None) => Some(" The provider issued it as a bearer token; spec.dpop asks for one that is bound to a key."),
        (wanted, Some(held)) if plan.spends() && wanted != Some(held.algorithm) => {
            Some(" It is bound to the key that its login began with; what spec.dpop says counts from the next login on.")
        }
        _ => None,
    }
}

fn authorized(seen: &Seen) -> (&'static str, String, String) {
    let refused = [
        FaultKind::InvalidClient,
        FaultKind::InvalidGrant,
        FaultKind::NotAllowed,
        FaultKind::RedeemedElsewhere,
        FaultKind::WrongSubject,
    ];
    match seen.attempt.as_ref().map(|attempt| attempt.fault.as_ref().filter(|_| !attempt.issued)) {
        Some(None) => ("True", Reason::TokenIssued.as_str().to_owned(), "The provider issued a token.".into()),
        Some(Some(fault)) if refused.contains(&fault.kind) => {
            ("False", fault.kind.reason().as_str().to_owned(), fault.message.clone())
        }
        _ => match find(&seen.status, ConditionType::Authorized) {
            Some(before) if before.status == "True" => ("True", before.reason.clone(), before.message.clone()),
            Some(before) if before.status == "False" => ("False", before.reason.clone(), before.message.clone()),
            // A token whose operator died before it could tell of it.
            _ if seen.record().is_some() => {
                ("True", Reason::TokenIssued.as_str().to_owned(), "The provider issued a token.".into())
            }
            _ => ("Unknown", Reason::Pending.as_str().to_owned(), "The provider has not issued a token yet.".into()),
        },
    }
}

/// What the column Provider and the metrics call it.
pub fn provider(seen: &Seen) -> &str {
    let provider = &seen.account.spec.provider;
    match (&provider.preset, &provider.issuer) {
        (Some(preset), _) => preset,
        (None, Some(_)) => "Issuer",
        (None, None) => "Custom",
    }
}

/// What the column Grant and the metrics call it.
pub fn grant(seen: &Seen) -> &'static str {
    let grant = &seen.account.spec.grant;
    [
        (grant.client_credentials.is_some(), "ClientCredentials"),
        (grant.refresh_token.is_some(), "RefreshToken"),
        (grant.authorization_code.is_some(), "AuthorizationCode"),
        (grant.device_code.is_some(), "DeviceCode"),
        (grant.jwt_bearer.is_some(), "JWTBearer"),
        (grant.token_exchange.is_some(), "TokenExchange"),
        (grant.github_app.is_some(), "GitHubApp"),
        (grant.password.is_some(), "Password"),
    ]
    .into_iter()
    .find_map(|(set, name)| set.then_some(name))
    .unwrap_or("Unknown")
}

/// The condition of this type, if status has one.
pub(super) fn find(status: &OAuthAccountStatus, type_: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

fn floor(moment: Timestamp) -> Timestamp {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment)
}

fn ceiling(moment: Timestamp) -> Timestamp {
    let floor = floor(moment);
    if floor == moment { moment } else { Timestamp::from_second(moment.as_second() + 1).unwrap_or(moment) }
}
