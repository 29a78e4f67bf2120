//! What people are told by an Event, as a function of two statuses.

use super::report::find;
use crate::api::{AttemptResult, ConditionType, OAuthAccountStatus, Reason, Trigger};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Something a person would ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a warning.
    pub warning: bool,
    /// Reason of the Event.
    pub reason: String,
    /// What happened, in a sentence.
    pub note: String,
}

/// What is told when status changes: failure, recovery, conflict, refusal and expiry; nothing for routine.
pub fn notices(old: &OAuthAccountStatus, new: &OAuthAccountStatus) -> Vec<Notice> {
    let mut all = vec![];
    let began = |type_| find(new, type_).filter(|now| find(old, type_).is_none_or(|before| before.reason != now.reason));
    if let Some(failing) = began(ConditionType::RefreshFailing) {
        all.push(warning(failing));
    }
    if let Some(conflict) = began(ConditionType::SecretConflict) {
        all.push(warning(conflict));
    }
    let told = |condition: &&Condition, reason: Reason| condition.reason == reason.as_str();
    let refused = began(ConditionType::Stalled).filter(|_| find(new, ConditionType::RefreshFailing).is_none());
    if let Some(refused) = refused.filter(|stalled| !told(stalled, Reason::SecretConflict) && !told(stalled, Reason::Suspended)) {
        all.push(warning(refused));
    }
    let ready = find(new, ConditionType::Ready);
    let ended = ready.filter(|ready| ready.status == "False" && told(ready, Reason::TokenExpired));
    if let Some(expired) = ended.filter(|now| find(old, ConditionType::Ready).is_some_and(|before| before.reason != now.reason)) {
        all.push(warning(expired));
    }
    let requested =
        new.history.first().filter(|attempt| attempt.trigger == Trigger::Requested && old.history.first() != Some(attempt));
    if let Some(attempt) = requested.filter(|attempt| attempt.result == AttemptResult::Failed) {
        let fault = attempt.fault.as_deref().unwrap_or_default();
        let note = format!("The refresh that was asked for failed: {fault}. The published token is left as it is.");
        all.push(Notice { warning: true, reason: attempt.reason.clone().unwrap_or_default(), note });
    }
    let lost = ready.filter(|ready| told(ready, Reason::TokenMissing));
    if let Some(lost) = lost.filter(|now| find(old, ConditionType::Ready).is_some_and(|before| before.reason != now.reason)) {
        all.push(warning(lost));
    }
    let unrestarted = |status: &OAuthAccountStatus| status.restart.as_ref().and_then(|restart| restart.message.clone());
    if let Some(note) = unrestarted(new).filter(|note| unrestarted(old).as_ref() != Some(note)) {
        all.push(Notice { warning: true, reason: Reason::RestartFailed.as_str().to_owned(), note });
    }
    let ignored = |status| find(status, ConditionType::Ready).is_some_and(|ready| ready.message.contains(" is ignored: "));
    if let Some(ready) = ready.filter(|_| ignored(new) && !ignored(old)) {
        all.push(Notice { warning: true, reason: Reason::Configuration.as_str().to_owned(), note: ready.message.clone() });
    }
    if let Some(ready) = ready.filter(|ready| ready.status == "True" && troubled(old) && !troubled(new)) {
        all.push(Notice { warning: false, reason: Reason::Recovered.as_str().to_owned(), note: ready.message.clone() });
    }
    all
}

fn warning(condition: &Condition) -> Notice {
    Notice { warning: true, reason: condition.reason.clone(), note: condition.message.clone() }
}

/// Whether status tells of something that a person was told of by an Event.
fn troubled(status: &OAuthAccountStatus) -> bool {
    let told = [ConditionType::RefreshFailing, ConditionType::SecretConflict, ConditionType::Stalled];
    let lost = [Reason::TokenExpired, Reason::TokenMissing];
    told.iter().any(|type_| find(status, *type_).is_some())
        || find(status, ConditionType::Ready).is_some_and(|ready| lost.iter().any(|reason| reason.as_str() == ready.reason))
}
