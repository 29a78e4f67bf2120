//! JUDGE: what the end of a POST means for the record of a login.

use super::login::{Credential, Source};
use super::login_faults::{again, login_over, redeemed_elsewhere, seed_refused, unknown};
use super::login_seen::{Redemption, Settlement};
use super::state::State;
use super::{AttemptOutcome, Plan, Record, Seen, demand};
use crate::oauth::{Ending, Fault, FaultKind, Reply, Token, judge, successor};

/// The state that follows from one that was armed, and what became of the refresh.
pub fn settle(state: State, redemption: &Redemption, plan: &Plan, seen: &Seen) -> (State, Settlement) {
    let (mut state, result) = match &redemption.ending {
        Ending::NotSent(fault) => (state.unspent(), Err(fault.clone())),
        Ending::Lost(fault) => lost(state, fault, plan, seen),
        Ending::Replied(reply) => judged(state, reply, redemption, plan, seen),
    };
    let (record, fault) = match result {
        Ok(record) => (Some(record), None),
        Err(fault) => (None, Some(fault)),
    };
    let Redemption { sent, finished, intent, .. } = redemption;
    let issued = record.is_some();
    // Whoever waits is told of a failure by the same write; of a token when it is published: a process that ends before that
    // finds the demand, and by it the token.
    if let Some(fault) = &fault {
        let failure = demand::failed(fault);
        state.demand = state.demand.take().map(|demand| if demand.pending { demand.answered(Some(failure)) } else { demand });
    }
    let attempt = AttemptOutcome { trigger: intent.trigger, started: *sent, finished: *finished, fault, issued };
    (state, Settlement { attempt, record })
}

/// No answer came. Sent again, a code would end what came of it (RFC 6749 §4.1.2): it is given up.
pub fn lost(state: State, fault: &Fault, plan: &Plan, seen: &Seen) -> (State, Result<Record, Fault>) {
    if state.credential.as_ref().is_none_or(Credential::is_refresh_token) {
        return (state.doubted(), Err(unknown(&fault.message)));
    }
    let given_up = Fault::new(FaultKind::InvalidGrant, format!("{} A code works once, and is not sent again.", fault.message));
    let fault = match state.displaced {
        Some(_) => seed_refused(&given_up, &plan.grant),
        None => login_over(&given_up, &again(seen, plan)),
    };
    (state.rejected(), Err(fault))
}

fn judged(state: State, reply: &Reply, redemption: &Redemption, plan: &Plan, seen: &Seen) -> (State, Result<Record, Fault>) {
    let answer = judge(reply, &plan.dialect, &redemption.secrets, redemption.sent, redemption.finished);
    let code = state.credential.as_ref().is_some_and(|held| !held.is_refresh_token());
    let (from_reply, displaced) = (
        state.credential.as_ref().is_some_and(|held| held.source == Source::Reply && held.doubt.is_none()),
        state.displaced.is_some(),
    );
    match (answer, successor(reply, &plan.dialect)) {
        (Ok(token), _) => issued(state, token, redemption, plan, seen),
        // What is wrong with the rest of the reply does not make its refresh token any less the only one.
        (Err(fault), Some(successor)) => (state.spent(Some(successor), None), Err(fault)),
        (Err(fault), None) if ends(&fault, code) => {
            let fault = match (displaced, from_reply) {
                (true, _) => seed_refused(&fault, &plan.grant),
                (false, true) => redeemed_elsewhere(&fault, &again(seen, plan)),
                (false, false) if code => login_over(&fault, &again(seen, plan)),
                (false, false) => fault,
            };
            (state.rejected(), Err(fault))
        }
        (Err(fault), None) => {
            let unparsable = fault.kind == FaultKind::Malformed && (200..300).contains(&reply.status);
            if unparsable || fault.kind == FaultKind::ServerError {
                let (state, result) = lost(state, &fault, plan, seen);
                (state, result.map_err(|unknown: Fault| Fault { retry_after: fault.retry_after, ..unknown }))
            } else {
                (state.unspent(), Err(fault))
            }
        }
    }
}

/// Whether what was sent is of no use any more. A code is also given up when its person said no.
fn ends(fault: &Fault, code: bool) -> bool {
    fault.kind == FaultKind::InvalidGrant || (code && matches!(fault.kind, FaultKind::NotAllowed | FaultKind::DeviceCodeExpired))
}

fn issued(state: State, token: Token, redemption: &Redemption, plan: &Plan, seen: &Seen) -> (State, Result<Record, Fault>) {
    if let Some(fault) = wrong_subject(plan, &state, &token) {
        if state.displaced.is_some() {
            return (state.rejected(), Err(seed_refused(&fault, &plan.grant)));
        }
        // Somebody else has consented: their login is none of ours.
        if state.credential.as_ref().is_some_and(|held| !held.is_refresh_token()) {
            return (state.rejected(), Err(Fault::new(fault.kind, format!("{} Then, {}.", fault.message, again(seen, plan)))));
        }
        // The login is another's, and its refresh token the only one there is: it is kept, and nothing is published.
        let subject = state.subject.clone();
        return (State { subject, ..state.spent(token.refresh_token.clone(), Some(&token)) }, Err(fault));
    }
    let dpop_key = state.credential.as_ref().and_then(|held| held.dpop_key.clone());
    let mut state = state.spent(token.refresh_token.clone(), Some(&token));
    state.generation = seen.generation_of_token().max(state.generation).saturating_add(1);
    let record = Record::issued(&token, plan, state.generation, redemption.sent, dpop_key.as_ref());
    state.record = Some(record.clone());
    (state, Ok(record))
}

fn wrong_subject(plan: &Plan, state: &State, token: &Token) -> Option<Fault> {
    let fault = |message: String| Some(Fault::new(FaultKind::WrongSubject, message));
    let consented = state.credential.as_ref().is_some_and(|held| !held.is_refresh_token());
    let wanted = plan.expected_subject.as_ref();
    match (wanted.or(state.subject.as_ref()), &token.subject) {
        (Some(wanted), Some(subject)) if wanted != subject => fault(
            "The provider's reply is about another user than the one this account is for; log in as that user, or set spec.expectedSubject to the new one.".into(),
        ),
        // Whoever consents must say who they are, each time; a refresh is of the login that it is of.
        (Some(_), None) if consented || (wanted.is_some() && state.subject.as_ref() != wanted) => fault(
            "It is known who must log in here, and the provider's reply has no ID token that says who did; ask for the scope openid in spec.scopes.".into(),
        ),
        _ => None,
    }
}
