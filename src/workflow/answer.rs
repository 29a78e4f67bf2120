//! What an answer means for a step. Pure.

use super::definition::StepPlan;
use super::failure::Failure;
use super::request::{RequestPlan, unusable};
use crate::api::{RemoteStatus, RunReason, Usage};
use crate::expression::Scope;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;

/// An answer, read to its end. Without the token that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Judged {
    /// It was done.
    Completed(Done),
    /// It was begun, and goes on there.
    Accepted(Box<RemoteStatus>),
    /// It goes on there.
    Running(Box<RemoteStatus>),
    /// It waits for an answer of a person's.
    Interrupted(Box<RemoteStatus>),
    /// The token is refused.
    Unauthorized(Failure),
    /// It was not asked: this process leads no more.
    Withheld,
    /// It was not done.
    Failed(Failure),
}

/// What a step gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// Its output.
    pub output: Value,
    /// Status of the answer.
    pub http_status: Option<u16>,
    /// Tokens of language models that were used.
    pub usage: Option<Usage>,
    /// What the remote side calls it.
    pub remote: Option<Box<RemoteStatus>>,
}

impl Answer {
    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }

    /// How long the server wants to be left alone (RFC 9110 §10.2.3): seconds, or a date by its own clock; a day at most.
    pub fn retry_after(&self) -> Option<SignedDuration> {
        let moment = |date: &str| jiff::fmt::rfc2822::parse(date).ok().map(|date| date.timestamp());
        let asked = self.header("retry-after")?.trim();
        let wait = match asked.parse() {
            Ok(seconds) => SignedDuration::from_secs(seconds),
            Err(_) => moment(asked)?.duration_since(moment(self.header("date")?)?),
        };
        (wait > SignedDuration::ZERO).then(|| wait.min(SignedDuration::from_hours(24)))
    }

    /// As expressions see it: JSON where it is JSON, else a text. What is no success is often no JSON either, whatever it says.
    fn seen(&self) -> Result<Value, String> {
        let headers: serde_json::Map<_, _> = self.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let media = self.header("content-type").unwrap_or_default().to_ascii_lowercase();
        let media = media.split(';').next().unwrap_or_default().trim();
        let claims = (media == "application/json" || media.ends_with("+json")) && (200..300).contains(&self.status);
        let body = match serde_json::from_slice(&self.body) {
            _ if self.body.is_empty() => Value::Null,
            Ok(body) => body,
            Err(error) if claims => {
                return Err(format!("says that it is JSON and is none, in line {} column {}", error.line(), error.column()));
            }
            Err(_) => Value::String(String::from_utf8_lossy(&self.body).into_owned()),
        };
        Ok(json!({"status": self.status, "headers": headers, "body": body}))
    }
}

impl RequestPlan {
    /// What an answer to this request means; `step` is the step that it is of, none for one beside the steps.
    pub fn judge(&self, step: Option<&StepPlan>, answer: &Answer, scope: &Scope) -> Judged {
        let status = answer.status;
        if status == 401 && self.account.is_some() {
            let message = "The server answered HTTP 401: the token is refused.";
            return Judged::Unauthorized(Failure::new(RunReason::AuthFailed, message).answered(status));
        }
        let seen = match answer.seen() {
            Ok(seen) => Arc::new(seen),
            Err(why) => {
                let failure = Failure::new(RunReason::StepFailed, format!("The answer, HTTP {status}, {why}."));
                return Judged::Failed(failure.answered(status));
            }
        };
        let scope = scope.clone().with("response", seen.clone());
        let broken = |what: &str, error| Judged::Failed(unusable(what, &error).answered(status));
        let success = match &self.success_when {
            None => (200..300).contains(&status),
            Some(condition) => match condition.holds(&scope) {
                Ok(success) => success,
                Err(error) => return broken("successWhen", error),
            },
        };
        if !success {
            let mut failure = refusal(answer, self.success_when.is_some());
            match step.and_then(|step| step.retry_when.as_ref()).map(|condition| condition.holds(&scope)) {
                Some(Ok(retry)) => failure.retry = retry,
                Some(Err(error)) => return broken("retryWhen", error),
                None => {
                    failure.retry =
                        matches!(status, 429 | 503) || (self.method.is_idempotent() && matches!(status, 500 | 502 | 504))
                }
            }
            return Judged::Failed(failure);
        }
        let output = match step.and_then(|step| step.output.as_ref()) {
            Some(tree) => tree.evaluate(&scope),
            None => Ok(seen["body"].clone()),
        };
        match output {
            Ok(output) => Judged::Completed(Done { output, http_status: Some(status), usage: None, remote: None }),
            // It was done; that its answer is not as expected does not undo it.
            Err(error) => broken("output", error),
        }
    }
}

impl StepPlan {
    /// A failure, after the step's own word on whether such an answer is worth another attempt.
    pub fn reconsider(&self, judged: Judged, answer: &Answer, scope: &Scope) -> Judged {
        let (Judged::Failed(failure), Some(condition), Ok(seen)) = (&judged, &self.retry_when, answer.seen()) else {
            return judged;
        };
        match condition.holds(&scope.clone().with("response", Arc::new(seen))) {
            Ok(retry) => Judged::Failed(Failure { retry, ..failure.clone() }),
            Err(error) => Judged::Failed(unusable("retryWhen", &error).answered(answer.status)),
        }
    }
}

fn refusal(answer: &Answer, judged: bool) -> Failure {
    let status = answer.status;
    let (reason, message) = match status {
        200..=299 if judged => (RunReason::StepFailed, format!("successWhen is false for the answer, HTTP {status}.")),
        300..=399 => (
            RunReason::StepFailed,
            format!(
                "The server answered HTTP {status}, a redirect, which is not followed: put the address it leads to into url."
            ),
        ),
        403 => (RunReason::PermissionDenied, "The server answered HTTP 403: the token may not do this.".to_owned()),
        429 => (RunReason::RateLimited, "The server answered HTTP 429: too many requests.".to_owned()),
        401 => {
            (RunReason::AuthFailed, "The server answered HTTP 401: it wants a token; name an account in accountRef.".to_owned())
        }
        _ => (RunReason::StepFailed, format!("The server answered HTTP {status}.")),
    };
    Failure { retry_after: answer.retry_after(), ..Failure::new(reason, message).answered(status) }
}

/// What a request `verify` tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Verified {
    /// It was carried out.
    CarriedOut(Done),
    /// It was not.
    NotCarriedOut,
    /// The token is refused.
    Unauthorized(Failure),
    /// That is not known now.
    Unknown(Failure),
}

impl RequestPlan {
    /// What an answer to a request `verify` says of the step: without `successWhen`, 2xx that it was carried out and 404 or 410
    /// that it was not.
    pub fn verify(&self, step: &StepPlan, answer: &Answer, scope: &Scope) -> Verified {
        let (status, judged) = (answer.status, self.judge(Some(step), answer, scope));
        // Of an answer that cannot be read nothing can be told.
        let readable = answer.seen().is_ok();
        match judged {
            Judged::Failed(failure) if !readable => Verified::Unknown(failure),
            Judged::Completed(done) => Verified::CarriedOut(done),
            Judged::Unauthorized(failure) => Verified::Unauthorized(failure),
            Judged::Failed(failure) if failure.reason == RunReason::InvalidDefinition => Verified::Unknown(failure),
            Judged::Failed(_) if self.success_when.is_some() && (200..300).contains(&status) => Verified::NotCarriedOut,
            Judged::Failed(_) if matches!(status, 404 | 410) => Verified::NotCarriedOut,
            Judged::Failed(failure) => Verified::Unknown(failure),
            Judged::Accepted(_) | Judged::Running(_) | Judged::Interrupted(_) | Judged::Withheld => Verified::NotCarriedOut,
        }
    }
}
