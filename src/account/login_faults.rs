//! What stands in the way of a login, in a sentence that says what to do.

use super::login::Login;
use super::state::State;
use super::{GrantPlan, Plan, Seen};
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use crate::oauth::{Fault, FaultKind};

/// How a login is made anew, in a clause.
pub(super) fn again(seen: &Seen, plan: &Plan) -> String {
    let name = seen.account.metadata.name.as_deref().unwrap_or_default();
    match (&plan.grant, seen.policy.page(&seen.account)) {
        (GrantPlan::RefreshToken(seed), _) => {
            format!("log in again and put the new refresh token into key {} of Secret {}", seed.key, seed.name)
        }
        (GrantPlan::AuthorizationCode(_), Some(page)) => format!("connect the account again: open {page}"),
        _ => format!(
            "ask for a new code to log in with: kubectl annotate oauthaccount {name} --overwrite {REFRESH_REQUESTED_ANNOTATION}=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
        ),
    }
}

/// Where the first refresh token is read.
fn place(grant: &GrantPlan) -> String {
    match grant.secret() {
        Some((_, seed)) => format!("key {} of Secret {}", seed.key, seed.name),
        None => "the record of the login".to_owned(),
    }
}

/// A refresh left, and no answer came.
pub(super) fn unknown(words: &str) -> Fault {
    let message = format!("{words} Whether the refresh token was spent is not known. The token published before stays.");
    Fault::new(FaultKind::OutcomeUnknown, message)
}

/// A new seed is of no use, and the login before it goes on.
pub(super) fn seed_refused(fault: &Fault, grant: &GrantPlan) -> Fault {
    let what = if grant.secret().is_some() { "refresh token in the seed" } else { "consent" };
    let message = format!("The new {what} is of no use: {} The login held before goes on.", fault.message);
    Fault::new(FaultKind::SeedRefused, message)
}

/// A refresh token of the provider's own was refused.
pub(super) fn redeemed_elsewhere(fault: &Fault, again: &str) -> Fault {
    let message = format!(
        "{} The refresh token came from the provider itself and was never used here: another cluster or program shares this login, or the provider has ended it. To have it back, {again}.",
        fault.message
    );
    Fault::new(FaultKind::RedeemedElsewhere, message)
}

/// What a person consented to came to nothing.
pub(super) fn login_over(fault: &Fault, again: &str) -> Fault {
    let kind = if fault.kind == FaultKind::DeviceCodeExpired { fault.kind } else { FaultKind::InvalidGrant };
    Fault::new(kind, format!("{} To begin anew, {again}.", fault.message))
}

/// There is no refresh token left.
pub(super) fn dead(again: &str) -> Fault {
    let message = format!("The provider has refused the refresh token, and there is no other; {again}.");
    Fault::new(FaultKind::InvalidGrant, message)
}

/// Another account has it.
pub(super) fn duplicate(grant: &GrantPlan, other: &str) -> Fault {
    let message = format!(
        "The refresh token in {} is that of {other}: two accounts that redeem it would log each other out. Use the token Secret of one, or log in once more for the other.",
        place(grant)
    );
    Fault::new(FaultKind::DuplicateCredential, message)
}

/// The record is older than status.
pub(super) fn rolled_back(again: &str) -> Fault {
    let message = format!(
        "The operator's record of this login is older than what status tells of: its refresh token was replaced since, and to use it would end the login. Restore the newest record, or {again}."
    );
    Fault::new(FaultKind::StateRolledBack, message)
}

/// The record was put there from a backup.
pub(super) fn copied(seen: &Seen, again: &str) -> Fault {
    let name = seen.account.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "The operator's record of this login was restored from a copy, and nothing tells whether it is the newest: if its refresh token was replaced since, to use it would end the login. If you know that it is, say so: kubectl annotate oauthaccount {name} --overwrite {REFRESH_REQUESTED_ANNOTATION}=$(date -u +%Y-%m-%dT%H:%M:%SZ). Else, {again}."
    );
    Fault::new(FaultKind::StateRolledBack, message)
}

/// There was a record.
pub(super) fn gone(record: &str, again: &str) -> Fault {
    let message = format!(
        "The operator's record of this login, Secret {record} in its own namespace, is gone, and the seed holds the refresh token that was replaced long ago. Restore the record, or {again}."
    );
    Fault::new(FaultKind::StateRolledBack, message)
}

/// The login is not that of the spec.
pub(super) fn login_changed(state: &State, login: &Login, again: &str) -> Fault {
    let (what, before, now) = if state.login.origin == login.origin {
        ("client id", "another one", "the new one")
    } else {
        ("provider", state.login.origin.as_str(), login.origin.as_str())
    };
    let message = format!(
        "The login was made with {before} and the spec now names another {what}: its refresh token is not sent there. For {now}, {again}; or set the spec back."
    );
    Fault::new(FaultKind::LoginChanged, message)
}
