//! Why an attempt, a step or a run came to no good end.

use crate::api::{RemoteStatus, RunReason};
use jiff::SignedDuration;

/// Bytes of a sentence in status.
const LONGEST: usize = 1024;

/// An attempt that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Its class.
    pub reason: RunReason,
    /// What was wrong, where, and what to do. Without a secret.
    pub message: String,
    /// Whether another attempt may end better.
    pub retry: bool,
    /// Whether the request may have been carried out all the same.
    pub doubt: bool,
    /// How long the server wants to be left alone.
    pub retry_after: Option<SignedDuration>,
    /// Status of the answer, where there was one.
    pub http_status: Option<u16>,
    /// What the remote side calls it.
    pub remote: Option<Box<RemoteStatus>>,
}

impl Failure {
    /// One that no further attempt changes.
    pub fn new(reason: RunReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: shortened(message.into()),
            retry: false,
            doubt: false,
            retry_after: None,
            http_status: None,
            remote: None,
        }
    }

    /// One that may end better another time.
    #[must_use]
    pub fn transient(self) -> Self {
        Self { retry: true, ..self }
    }

    /// One after which nobody knows whether the request was carried out.
    #[must_use]
    pub fn doubtful(self) -> Self {
        Self { doubt: true, ..self }
    }

    /// With the status of the answer.
    #[must_use]
    pub fn answered(self, status: u16) -> Self {
        Self { http_status: Some(status), ..self }
    }
}

/// As much of a sentence as status holds.
pub fn shortened(mut sentence: String) -> String {
    if sentence.len() > LONGEST {
        let mut end = LONGEST - 4;
        while !sentence.is_char_boundary(end) {
            end -= 1;
        }
        sentence.truncate(end);
        sentence.push_str(" …");
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_fits_status_and_is_cut_between_characters() {
        assert_eq!(shortened("short".into()), "short");
        let cut = shortened("é".repeat(600));
        assert!(cut.len() <= LONGEST && cut.ends_with("é …"), "{}", cut.len());
    }
}
