//! A run at Coze: requests, envelopes and events, as <https://docs.coze.cn/developer_guides/workflow_run> and its neighbours
//! (workflow_stream_run, workflow_history, resume_workflow) have them, and as the sources of Coze Studio differ. Judged by the
//! official SDK: see tests/stories/workflow/coze_platform.rs.

use super::answer::{Answer, Done, Judged};
use super::failure::Failure;
use super::request::{Call, CozePlan, address, invalid, push_key, unusable};
use crate::api::{CozeDialect, CozeMode, Interrupt, Method, RemoteStatus, RunReason, Usage};
use crate::expression::Scope;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

/// Authentication failed: the token is refused.
const AUTHENTICATION: i64 = 4100;
/// The token may not do this, or belongs to the other region.
const PERMISSION: i64 = 4101;
/// Too many requests.
const RATE_LIMIT: i64 = 4013;
/// A token that is not taken: Coze Studio on all of its paths, and Coze on some.
const INVALID_TOKEN: i64 = 700_012_006;
/// The workflow is not published: of Coze, and of Coze Studio.
const NOT_PUBLISHED: [i64; 2] = [4200, 6031];

/// What is asked of Coze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// To run the workflow.
    Begin,
    /// How a run goes that was begun.
    Progress {
        /// Its id.
        execute_id: String,
    },
    /// To go on with what a person has answered.
    Resume {
        /// Id of the interrupt.
        event_id: String,
        /// Its kind.
        kind: i64,
        /// The answer.
        data: String,
    },
}

impl CozePlan {
    /// The request for what is known now; `base` is where Coze is.
    ///
    /// # Errors
    /// An expression that cannot be evaluated, or an address that is none.
    pub fn compose(&self, question: &Question, base: &str, scope: &Scope, key: &str) -> Result<Call, Failure> {
        let base = base.trim_end_matches('/');
        let (method, path, body) = match question {
            Question::Begin if self.mode == CozeMode::Stream => {
                (Method::Post, "/v1/workflow/stream_run".to_owned(), self.begin(scope)?)
            }
            Question::Begin => (Method::Post, "/v1/workflow/run".to_owned(), self.begin(scope)?),
            Question::Resume { event_id, kind, data } => {
                let body =
                    json!({"workflow_id": self.workflow_id, "event_id": event_id, "resume_data": data, "interrupt_type": kind});
                let path = if self.mode == CozeMode::Stream { "/v1/workflow/stream_resume" } else { "/v1/workflows/resume" };
                (Method::Post, path.to_owned(), Some(body))
            }
            Question::Progress { execute_id } => (Method::Get, self.history(execute_id), None),
        };
        let mut headers = vec![];
        if body.is_some() {
            headers.push((CONTENT_TYPE, HeaderValue::from_static("application/json")));
        }
        push_key(&mut headers, key);
        Ok(Call {
            method,
            url: address(&format!("{base}{path}"))?,
            headers,
            body: body.map(|body| body.to_string().into_bytes()).unwrap_or_default(),
            account: Some(self.account.clone()),
            ca: self.ca.clone(),
            timeout: self.timeout,
            most: self.most,
        })
    }

    fn begin(&self, scope: &Scope) -> Result<Option<Value>, Failure> {
        let mut body = Map::from_iter([("workflow_id".to_owned(), json!(self.workflow_id))]);
        for (name, tree) in [("parameters", &self.parameters), ("ext", &self.ext)] {
            let Some(tree) = tree else { continue };
            body.insert(name.to_owned(), tree.evaluate(scope).map_err(|error| unusable(name, &error))?);
        }
        for (name, id) in [("bot_id", &self.bot_id), ("app_id", &self.app_id)] {
            body.extend(id.as_ref().map(|id| (name.to_owned(), json!(id))));
        }
        if self.mode == CozeMode::Async {
            body.insert("is_async".to_owned(), json!(true));
        }
        Ok(Some(Value::Object(body)))
    }

    fn history(&self, execute_id: &str) -> String {
        let encoded: String = url::form_urlencoded::byte_serialize(execute_id.as_bytes()).collect();
        match self.dialect {
            CozeDialect::Coze => format!("/v1/workflows/{}/run_histories/{encoded}", self.workflow_id),
            CozeDialect::CozeStudio => {
                format!("/v1/workflow/get_run_history?workflow_id={}&execute_id={encoded}", self.workflow_id)
            }
        }
    }

    /// What an answer that is no stream says. `idempotent`: whether the run may be begun again.
    pub fn judge(&self, question: &Question, answer: &Answer, idempotent: bool) -> Judged {
        let log_id = answer.header("x-tt-logid").or_else(|| answer.header("x-log-id")).map(str::to_owned);
        let envelope: Value = match serde_json::from_slice(&answer.body) {
            Ok(envelope @ Value::Object(_)) => envelope,
            _ => return not_coze(question, answer, idempotent),
        };
        let remote = remote(&envelope, log_id);
        // Coze Studio leaves the code of a history out where all is well; nobody does so for a run.
        let is_history = matches!(question, Question::Progress { .. }) && envelope["data"].is_array();
        let code = if envelope["code"].is_null() && is_history { Some(0) } else { envelope["code"].as_i64() };
        match code {
            Some(0) if answer.status < 300 => match question {
                Question::Progress { .. } => progress(&envelope, remote, answer.status, self.dialect),
                _ if envelope["interrupt_data"].is_object() => interrupted(&envelope, None, remote),
                Question::Begin if self.mode == CozeMode::Async => accepted(remote, answer.status),
                Question::Begin | Question::Resume { .. } => Judged::Completed(Done {
                    output: content(envelope["data"].as_str().map_or_else(|| envelope["data"].clone(), |text| json!(text))),
                    http_status: Some(answer.status),
                    usage: usage(&envelope),
                    remote: Some(Box::new(remote)),
                }),
            },
            Some(code) if code != 0 => refused(code, &envelope["msg"], answer, remote, idempotent),
            _ => not_coze(question, answer, idempotent),
        }
    }
}

/// An answer without Coze's envelope: a gateway's, or somebody else's.
fn not_coze(question: &Question, answer: &Answer, idempotent: bool) -> Judged {
    let status = answer.status;
    let failure = |reason, message: String| Failure::new(reason, message).answered(status);
    let patience = answer.retry_after();
    match status {
        401 => Judged::Unauthorized(failure(RunReason::AuthFailed, "Coze answered HTTP 401: the token is refused.".into())),
        403 => Judged::Failed(failure(RunReason::PermissionDenied, "Coze answered HTTP 403: the token may not do this.".into())),
        429 => {
            let limited = failure(RunReason::RateLimited, "Coze answered HTTP 429: too many requests.".into()).transient();
            Judged::Failed(Failure { retry_after: patience, ..limited })
        }
        _ => {
            let message = format!(
                "Coze answered HTTP {status} without its envelope of code, msg and data: is baseURL right, and no gateway before it?"
            );
            let failed = failure(RunReason::StepFailed, message);
            // What was begun goes on, whoever stands in the way of its history.
            let retry = status == 503 || (idempotent && status >= 500) || matches!(question, Question::Progress { .. });
            // A gateway that has waited long enough does not know what became of the run.
            Judged::Failed(Failure { retry, doubt: matches!(status, 502 | 504), retry_after: patience, ..failed })
        }
    }
}

fn refused(code: i64, words: &Value, answer: &Answer, remote: RemoteStatus, idempotent: bool) -> Judged {
    let words: String = words.as_str().unwrap_or_default().chars().take(300).collect();
    let told = |what: &str| format!("Coze answered code {code}, \"{words}\": {what}.");
    let failed = |reason, what: &str| {
        let failure = Failure::new(reason, told(what)).answered(answer.status);
        Failure { remote: Some(Box::new(remote.clone())), retry_after: answer.retry_after(), ..failure }
    };
    match code {
        AUTHENTICATION | INVALID_TOKEN => Judged::Unauthorized(failed(RunReason::AuthFailed, "the token is refused")),
        // Its words are "The token you entered is incorrect", but a fresh token may do no more than this one.
        PERMISSION => {
            let what = "the account may not do this; check its permissions at Coze, and whether it is of the same region";
            Judged::Failed(failed(RunReason::PermissionDenied, what))
        }
        _ if answer.status == 401 => Judged::Unauthorized(failed(RunReason::AuthFailed, "the token is refused")),
        RATE_LIMIT => Judged::Failed(failed(RunReason::RateLimited, "too many requests").transient()),
        _ if answer.status == 429 => Judged::Failed(failed(RunReason::RateLimited, "too many requests").transient()),
        4000 => Judged::Failed(failed(RunReason::StepFailed, "the parameters are not what the workflow takes")),
        code if NOT_PUBLISHED.contains(&code) => {
            Judged::Failed(failed(RunReason::StepFailed, "the workflow is not published, or there is none of this id"))
        }
        // Coze's own trouble: 5000, and codes of seven hundred millions.
        5000 | 700_000_000.. => {
            let failure = failed(RunReason::StepFailed, "it failed at Coze");
            Judged::Failed(Failure { retry: idempotent, ..failure })
        }
        _ => Judged::Failed(failed(RunReason::StepFailed, "it was not done")),
    }
}

fn accepted(remote: RemoteStatus, status: u16) -> Judged {
    if remote.execute_id.is_some() {
        return Judged::Accepted(Box::new(RemoteStatus { state: Some("Running".into()), ..remote }));
    }
    let message = "Coze has begun the run and did not say its execute_id, so that nobody can ask how it goes.";
    let failure = Failure::new(RunReason::StepFailed, message).answered(status).doubtful();
    Judged::Failed(Failure { remote: Some(Box::new(remote)), ..failure })
}

/// How a run goes that was begun: the first entry of its history.
fn progress(envelope: &Value, remote: RemoteStatus, status: u16, dialect: CozeDialect) -> Judged {
    let entry = match &envelope["data"] {
        Value::Array(entries) => entries.first().cloned().unwrap_or_default(),
        entry => entry.clone(),
    };
    let text =
        |names: &[&str]| names.iter().find_map(|name| entry[*name].as_str().filter(|text| !text.is_empty()).map(str::to_owned));
    let state = text(&["execute_status"]).unwrap_or_default();
    if entry["interrupt_data"].is_object() && state.eq_ignore_ascii_case("interrupted") {
        return interrupted(&entry, None, remote);
    }
    let short = |text: String, most: usize| text.chars().take(most).collect::<String>();
    let remote = RemoteStatus {
        log_id: text(&["logid", "log_id"]).map(|id| short(id, 256)).or(remote.log_id),
        debug_url: text(&["debug_url"]).map(|url| short(url, 2048)).or(remote.debug_url),
        state: Some(state.chars().take(64).collect()),
        ..RemoteStatus::default()
    };
    match state.to_ascii_lowercase().as_str() {
        "success" => Judged::Completed(Done {
            output: match dialect {
                CozeDialect::Coze => unwrapped(content(entry["output"].clone())),
                CozeDialect::CozeStudio => content(entry["output"].clone()),
            },
            http_status: Some(status),
            usage: usage(&entry),
            remote: Some(Box::new(remote)),
        }),
        "running" | "interrupted" | "" => Judged::Running(Box::new(remote)),
        "cancel" | "canceled" | "cancelled" => failed_there("The run was cancelled at Coze.".into(), remote, status),
        _ => {
            let words: String = text(&["error_message", "error_msg"]).unwrap_or_default().chars().take(300).collect();
            let code =
                entry["error_code"].as_i64().map(|code| code.to_string()).or_else(|| text(&["error_code"])).unwrap_or_default();
            failed_there(format!("The run failed at Coze, with code {code}, \"{words}\"."), remote, status)
        }
    }
}

fn failed_there(message: String, remote: RemoteStatus, status: u16) -> Judged {
    let failure = Failure::new(RunReason::StepFailed, message).answered(status);
    Judged::Failed(Failure { remote: Some(Box::new(remote)), ..failure })
}

fn remote(envelope: &Value, log_id: Option<String>) -> RemoteStatus {
    let text = |value: &Value, most: usize| {
        let text = value.as_str().filter(|text| !text.is_empty());
        text.map(|text| text.chars().take(most).collect::<String>())
    };
    RemoteStatus {
        execute_id: text(&envelope["execute_id"], 256),
        log_id: log_id.or_else(|| text(&envelope["detail"]["logid"], 256)).map(|id| id.chars().take(256).collect()),
        debug_url: text(&envelope["debug_url"], 2048),
        ..RemoteStatus::default()
    }
}

/// Coze's history wraps the text of the end node into an object (workflow_history).
fn unwrapped(output: Value) -> Value {
    match &output {
        Value::Object(fields) if fields.len() == 1 && fields.get("Output").is_some_and(Value::is_string) => {
            content(fields["Output"].clone())
        }
        _ => output,
    }
}

/// Coze writes JSON into texts. An end node gives variables, which are an object, or a text: one of digits stays a text.
fn content(value: Value) -> Value {
    let json = value.as_str().and_then(|text| serde_json::from_str(text).ok());
    json.filter(|json: &Value| json.is_object() || json.is_array()).unwrap_or(value)
}

/// Coze has `usage`, Coze Studio the sum alone.
fn usage(said: &Value) -> Option<Usage> {
    let count = |value: &Value| {
        let count = value.as_i64().or_else(|| value.as_str()?.parse().ok());
        count.unwrap_or(0).clamp(0, 1 << 53)
    };
    let (usage, sum) = (&said["usage"], count(&said["token"]));
    let usage = Usage {
        input_count: count(&usage["input_count"]),
        output_count: count(&usage["output_count"]),
        token_count: count(&usage["token_count"]).max(if usage.is_object() { 0 } else { sum }),
    };
    (usage != Usage::default()).then_some(usage)
}

/// A run that waits for an answer of a person's; `asked` is what it said before.
fn interrupted(said: &Value, asked: Option<&str>, remote: RemoteStatus) -> Judged {
    let data = &said["interrupt_data"];
    let event_id = data["event_id"].as_str().unwrap_or_default();
    if event_id.is_empty() {
        return Judged::Failed(invalid("Coze interrupts the run and does not say which event is to be answered.".into()));
    }
    let texts = [data["data"].as_str(), asked, said["node_title"].as_str()];
    let question = texts.into_iter().flatten().find(|text| !text.is_empty());
    let interrupt = Interrupt {
        event_id: event_id.chars().take(256).collect(),
        kind: data["type"].as_i64().unwrap_or_default().clamp(i64::from(i32::MIN), i64::from(i32::MAX)),
        question: question.map(|text| text.chars().take(1000).collect()),
        answered: false,
    };
    Judged::Interrupted(Box::new(RemoteStatus { interrupt: Some(interrupt), state: Some("Interrupted".into()), ..remote }))
}

/// What a stream has said so far.
#[derive(Debug, Default)]
pub struct Stream {
    /// Node whose content comes last, and whether it is the end of the workflow.
    node: Option<String>,
    ended: bool,
    /// Whether a node has said something: then the run has begun.
    begun: bool,
    content: String,
    usage: Option<Usage>,
    remote: RemoteStatus,
}

impl Stream {
    /// A stream whose answer began with this id.
    pub fn new(log_id: Option<String>) -> Self {
        let remote = RemoteStatus { log_id: log_id.map(|id| id.chars().take(256).collect()), ..RemoteStatus::default() };
        Self { remote, ..Self::default() }
    }

    /// Takes an event; what came of the run, once that is known. `idempotent`: whether it may be begun again.
    pub fn feed(&mut self, event: &str, data: &str, idempotent: bool) -> Option<Judged> {
        let said: Value = serde_json::from_str(data).unwrap_or_default();
        match event {
            "Message" => {
                self.message(&said);
                None
            }
            "Error" => {
                let code = said["error_code"].as_i64().unwrap_or_default();
                let answer = Answer { status: 200, headers: vec![], body: vec![] };
                let remote = RemoteStatus { debug_url: remote(&said, None).debug_url, ..self.remote.clone() };
                Some(match refused(code, &said["error_message"], &answer, remote, idempotent) {
                    // Nodes have run by then: to send it again, with whichever token, would run them twice.
                    Judged::Unauthorized(failure) | Judged::Failed(failure) if self.begun && !idempotent => {
                        Judged::Failed(Failure { retry: false, ..failure })
                    }
                    judged => judged,
                })
            }
            "Interrupt" => Some(interrupted(&said, Some(&self.content), std::mem::take(&mut self.remote))),
            "Done" => {
                let remote = RemoteStatus { debug_url: remote(&said, None).debug_url, ..std::mem::take(&mut self.remote) };
                Some(Judged::Completed(Done {
                    output: content(Value::String(std::mem::take(&mut self.content))),
                    http_status: Some(200),
                    usage: usage(&said).or(self.usage),
                    remote: Some(Box::new(remote)),
                }))
            }
            // PING, and what a later version says.
            _ => None,
        }
    }

    /// The output is what the last node says, the end of the workflow before any other.
    fn message(&mut self, said: &Value) {
        self.begun = true;
        let ends = [&said["node_type"], &said["node_title"]].iter().any(|name| **name == json!("End"));
        self.usage = usage(said).or(self.usage);
        if self.ended && !ends {
            return;
        }
        let node = said["node_id"].as_str().or_else(|| said["node_title"].as_str()).map(str::to_owned);
        if node != self.node || ends != self.ended {
            self.content.clear();
        }
        (self.node, self.ended) = (node, ends);
        self.content.push_str(said["content"].as_str().unwrap_or_default());
    }
}

#[cfg(test)]
#[path = "coze_tests.rs"]
mod tests;
