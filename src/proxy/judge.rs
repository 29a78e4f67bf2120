//! What is done after an attempt. Pure: how it ended, and how far the request has come, are given.

use super::head::is_transient;
use http::StatusCode;

/// Accounts that a request goes on to after its first.
const SWITCHES: usize = 2;
/// How often a request is sent again that the upstream said it did nothing with.
const UNPROCESSED: usize = 6;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered(StatusCode),
    /// Nothing was sent.
    Unsent,
    /// The upstream said that it did nothing with it (RFC 9113 §6.8 and §8.7).
    Unprocessed,
    /// Something may have been received, and no answer came. `kept`: the connection had been used before, and may have ended
    /// at the very moment.
    Unanswered {
        /// Whether it had.
        kept: bool,
    },
    /// The app itself has failed: its body broke off.
    ByApp,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// Whether all of it can be sent again.
    pub replayable: bool,
    /// Whether it may be executed twice (RFC 9110 §9.2.1).
    pub safe: bool,
    /// Whether the route sends safe requests again that the upstream has failed with.
    pub retry_idempotent: bool,
    /// Accounts that it was sent with, this one included.
    pub accounts: usize,
    /// Whether this account's token was renewed for it.
    pub renewed: bool,
    /// Whether it was sent again with the same token.
    pub repeated: bool,
    /// How often the upstream said that it did nothing with it.
    pub unprocessed: usize,
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The app gets what there is.
    Settle,
    /// The same, and the token is renewed for the next request.
    SettleAndRenew,
    /// The operator is asked for a fresh token, with which the request is sent again.
    Renew,
    /// It is sent again as it is.
    Repeat,
    /// It goes on to another account.
    Switch(Reason),
}

/// Why a request goes on to another account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The token was refused.
    Rejected,
    /// There was no connection.
    Connect,
    /// The upstream has failed.
    Failed,
}

impl Reason {
    /// As metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Connect => "connect",
            Self::Failed => "failed",
        }
    }
}

/// Judges an attempt. `rejected` are the status codes that refuse a token: what was refused was not executed, so that any
/// method may be sent again.
pub fn judge(outcome: Outcome, rejected: &[StatusCode], course: &Course) -> Verdict {
    let switch = |reason| if course.accounts > SWITCHES { Verdict::Settle } else { Verdict::Switch(reason) };
    let may_fail_over = course.retry_idempotent && course.safe;
    match outcome {
        Outcome::ByApp => Verdict::Settle,
        Outcome::Answered(status) if rejected.contains(&status) => match (course.replayable, course.renewed) {
            (false, false) => Verdict::SettleAndRenew,
            (false, true) => Verdict::Settle,
            (true, false) => Verdict::Renew,
            // A fresh token that is refused too is not renewed: no recursion.
            (true, true) => switch(Reason::Rejected),
        },
        _ if !course.replayable => Verdict::Settle,
        Outcome::Answered(status) if is_transient(status) && may_fail_over => switch(Reason::Failed),
        Outcome::Answered(_) => Verdict::Settle,
        Outcome::Unsent => switch(Reason::Connect),
        // Not one more, so that it ends with an upstream that refuses all.
        Outcome::Unprocessed if course.unprocessed <= UNPROCESSED => Verdict::Repeat,
        Outcome::Unprocessed => Verdict::Settle,
        Outcome::Unanswered { kept: true } if course.safe && !course.repeated => Verdict::Repeat,
        Outcome::Unanswered { .. } if may_fail_over => switch(Reason::Failed),
        Outcome::Unanswered { .. } => Verdict::Settle,
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Answered, ByApp, Unanswered, Unprocessed, Unsent};
    use super::Reason::{Connect, Failed, Rejected};
    use super::Verdict::{Renew, Repeat, Settle, SettleAndRenew, Switch};
    use super::*;

    /// A GET on its first attempt.
    const GET: Course = Course {
        replayable: true,
        safe: true,
        retry_idempotent: false,
        accounts: 1,
        renewed: false,
        repeated: false,
        unprocessed: 0,
    };
    const POST: Course = Course { safe: false, ..GET };

    #[test]
    fn each_outcome_has_its_verdict() {
        let status = |code| Answered(StatusCode::from_u16(code).unwrap());
        let (kept, new) = (Unanswered { kept: true }, Unanswered { kept: false });
        let opted = Course { retry_idempotent: true, ..GET };
        for (outcome, course, verdict) in [
            (status(200), GET, Settle),
            // Refused: renewed once, whatever the method, then another account, two at most.
            (status(401), GET, Renew),
            (status(401), POST, Renew),
            (status(401), Course { renewed: true, ..POST }, Switch(Rejected)),
            (status(401), Course { renewed: true, accounts: 2, ..POST }, Switch(Rejected)),
            (status(401), Course { renewed: true, accounts: 3, ..POST }, Settle),
            (status(401), Course { accounts: 3, ..POST }, Renew),
            (status(401), Course { replayable: false, ..POST }, SettleAndRenew),
            (status(401), Course { replayable: false, renewed: true, ..POST }, Settle),
            // Passed on untouched.
            (status(429), opted, Settle),
            (status(403), opted, Settle),
            (status(500), opted, Settle),
            (status(503), GET, Settle),
            (status(503), opted, Switch(Failed)),
            (status(503), Course { safe: false, ..opted }, Settle),
            (status(503), Course { replayable: false, ..opted }, Settle),
            (status(503), Course { accounts: 3, ..opted }, Settle),
            // Nothing was sent: anything may be sent elsewhere.
            (Unsent, POST, Switch(Connect)),
            (Unsent, Course { accounts: 3, ..POST }, Settle),
            (Unsent, Course { replayable: false, ..POST }, Settle),
            // Nothing was done with it: sent again, whatever the method, a few times.
            (Unprocessed, Course { unprocessed: 1, ..POST }, Repeat),
            (Unprocessed, Course { unprocessed: 6, repeated: true, ..POST }, Repeat),
            (Unprocessed, Course { unprocessed: 7, ..POST }, Settle),
            (Unprocessed, Course { replayable: false, unprocessed: 1, ..GET }, Settle),
            // Something may have been received.
            (kept, GET, Repeat),
            (kept, POST, Settle),
            (kept, Course { repeated: true, ..GET }, Settle),
            (kept, Course { repeated: true, ..opted }, Switch(Failed)),
            (new, GET, Settle),
            (new, opted, Switch(Failed)),
            (new, Course { safe: false, ..opted }, Settle),
            (ByApp, opted, Settle),
        ] {
            assert_eq!(judge(outcome, &[StatusCode::UNAUTHORIZED], &course), verdict, "{outcome:?} {course:?}");
        }
    }

    #[test]
    fn a_request_ends_whatever_happens() {
        let (rejected, failed) = (Answered(StatusCode::UNAUTHORIZED), Answered(StatusCode::BAD_GATEWAY));
        let outcomes = [Unprocessed, rejected, failed, Unsent, Unanswered { kept: true }];
        // Every history of outcomes, as a number whose digits they are.
        for history in 0..outcomes.len().pow(9) {
            let (mut course, mut attempts, mut rest) = (Course { retry_idempotent: true, ..GET }, 0, history);
            loop {
                attempts += 1;
                // With each of three accounts: sent, repeated, sent with a fresh token, repeated; and what was not processed.
                assert!(attempts <= 12 + UNPROCESSED, "{history}");
                let outcome = outcomes[rest % outcomes.len()];
                rest /= outcomes.len();
                course.unprocessed += usize::from(outcome == Unprocessed);
                match judge(outcome, &[StatusCode::UNAUTHORIZED], &course) {
                    Settle | SettleAndRenew => break,
                    Renew => course = Course { renewed: true, repeated: false, ..course },
                    Repeat if outcome == Unprocessed => {}
                    Repeat => course.repeated = true,
                    Switch(_) => course = Course { accounts: course.accounts + 1, renewed: false, repeated: false, ..course },
                }
            }
        }
    }
}
