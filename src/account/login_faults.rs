//! What stands in the way of a login, in a sentence that says what to do.

use super::state::{Login, State};
use crate::api::KeyReference;
use crate::oauth::{Fault, FaultKind};

/// A refresh left, and no answer came.
pub(super) fn unknown(words: &str) -> Fault {
    let message = format!("{words} Whether the refresh token was spent is not known. The token published before stays.");
    Fault::new(FaultKind::OutcomeUnknown, message)
}

/// A new seed is of no use, and the login before it goes on.
pub(super) fn seed_refused(fault: &Fault) -> Fault {
    let message = format!("The new refresh token in the seed is of no use: {} The login held before goes on.", fault.message);
    Fault::new(FaultKind::SeedRefused, message)
}

/// A refresh token of the provider's own was refused.
pub(super) fn redeemed_elsewhere(fault: &Fault) -> Fault {
    let message = format!(
        "{} The refresh token came from the provider itself and was never used here: another cluster or program shares this login, or the provider has ended it. Log in again and put the new refresh token into the seed.",
        fault.message
    );
    Fault::new(FaultKind::RedeemedElsewhere, message)
}

/// There is no refresh token left.
pub(super) fn dead(seed: &KeyReference) -> Fault {
    let message = format!(
        "The provider has refused the refresh token, and key {} of Secret {} holds no other; log in again and put the new one there.",
        seed.key, seed.name
    );
    Fault::new(FaultKind::InvalidGrant, message)
}

/// Another account has it.
pub(super) fn duplicate(seed: &KeyReference, other: &str) -> Fault {
    let message = format!(
        "The refresh token in key {} of Secret {} is that of {other}: two accounts that redeem it would log each other out. Use the token Secret of one, or log in once more for the other.",
        seed.key, seed.name
    );
    Fault::new(FaultKind::DuplicateCredential, message)
}

/// The record is older than status.
pub(super) fn rolled_back(seed: &KeyReference) -> Fault {
    let message = format!(
        "The operator's record of this login is older than what status tells of: its refresh token was replaced since, and to use it would end the login. Restore the newest record, or log in again and put the new refresh token into key {} of Secret {}.",
        seed.key, seed.name
    );
    Fault::new(FaultKind::StateRolledBack, message)
}

/// There was a record.
pub(super) fn gone(record: &str, seed: &KeyReference) -> Fault {
    let message = format!(
        "The operator's record of this login, Secret {record} in its own namespace, is gone, and key {} of Secret {} holds the refresh token that was replaced long ago. Restore the record, or log in again and put the new refresh token there.",
        seed.key, seed.name
    );
    Fault::new(FaultKind::StateRolledBack, message)
}

/// The login is not that of the spec.
pub(super) fn login_changed(state: &State, login: &Login, seed: &KeyReference) -> Fault {
    let (what, before, now) = if state.login.origin == login.origin {
        ("client id", "another one", "the new one")
    } else {
        ("provider", state.login.origin.as_str(), login.origin.as_str())
    };
    let message = format!(
        "The login was made with {before} and the spec now names another {what}: its refresh token is not sent there. Put one of {now} into key {} of Secret {}, or set the spec back.",
        seed.key, seed.name
    );
    Fault::new(FaultKind::LoginChanged, message)
}
