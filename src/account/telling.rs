//! What is to be told may wait: a token goes before it, where it is told of another one that is well already.

use super::{Plan, Seen};
use crate::api::OAuthAccount;
use crate::api::vocabulary::REFRESH_REQUESTED_ANNOTATION;
use jiff::Timestamp;
use std::time::Duration;

/// How long a token that is well is not told of, at most.
pub const LONGEST_TELLING: Duration = Duration::from_secs(120);

/// Whether all that is left of a pass is to tell that its token was obtained and is published, which the Secret says itself, so that another pass can
/// tell it as well as this one; and whether nobody and nothing needs that before the longest wait is over: no person who asked for it, no
/// consent, no app that was refused, no renewal, no token whose expiry status would tell of meanwhile.
pub fn may_wait(seen: &Seen, plan: &Plan, now: Timestamp) -> bool {
    let obtained = seen.attempt.as_ref().is_some_and(|attempt| attempt.issued && attempt.fault.is_none());
    let nothing_else = seen.to_publish().is_none() && seen.restarted.is_none() && !seen.publish_refused && seen.strays.is_empty();
    let nobody = seen.answering.is_none() && seen.requested().is_none() && !seen.deposited && seen.demanded.is_none();
    let (later, told) = (now + LONGEST_TELLING, seen.status.token.as_ref());
    // Read anew, it must be known for the one that follows what status tells of.
    let known = |generation: i64| told.is_none_or(|told| told.generation + 1 == generation);
    let lasts = seen.record().is_some_and(|record| known(record.public.generation) && seen.renewal(&record.public, plan) > later);
    let nothing_expires = told.is_none_or(|told| told.expiration_time.0 > later);
    seen.attempted && obtained && nothing_else && nobody && lasts && nothing_expires
}

/// What somebody changes of an account: its spec, a wish for another token, the account itself.
pub fn asked_of(account: &OAuthAccount) -> (Option<String>, Option<i64>, Option<String>) {
    let (metadata, annotations) = (&account.metadata, account.metadata.annotations.as_ref());
    let requested = annotations.and_then(|annotations| annotations.get(REFRESH_REQUESTED_ANNOTATION));
    (metadata.uid.clone(), metadata.generation, requested.cloned())
}
