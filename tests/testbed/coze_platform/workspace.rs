//! Workflows and their runs, and what the platform makes of a request, without sending anything.

use super::behaviour::{Behaviour, Failure};
use super::execution::Execution;
use super::frame::Frame;
use super::{CozeRequest, Dialect};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What is to be sent.
pub enum Reply {
    Json(Value),
    Refused(Failure),
    Foreign { http: u16, media: &'static str, body: String },
    Stream { frames: Vec<Frame>, debug_url: String, then: Then },
    After(Duration, Box<Reply>),
    Lost,
}

/// What follows the frames of a stream.
pub enum Then {
    End,
    Break,
    /// A message each time.
    More(Duration),
}

#[derive(Default)]
pub struct Workspace {
    pub dialect: Dialect,
    pub behaviours: HashMap<String, Behaviour>,
    /// What a token that is not taken is answered with, where it is not the dialect's own.
    pub refusal: Option<Failure>,
    /// What the next questions for an execution are answered with.
    pub failing_polls: VecDeque<Failure>,
    /// What the next answers to an interrupt are answered with.
    pub failing_answers: VecDeque<Failure>,
    pub executions: Vec<Execution>,
    pub requests: Vec<CozeRequest>,
}

impl Workspace {
    /// Decides on a request, and writes it down.
    pub fn take(&mut self, request: CozeRequest) -> Reply {
        let reply = self.decide(&request).unwrap_or_else(Reply::Refused);
        self.requests.push(request);
        reply
    }

    fn decide(&mut self, request: &CozeRequest) -> Result<Reply, Failure> {
        if request.client.is_none() {
            let own = match self.dialect {
                Dialect::Coze => Failure::authentication(),
                Dialect::CozeStudio => Failure::wrong_session(),
            };
            return Err(self.refusal.clone().unwrap_or(own));
        }
        let behaviour = request.body["workflow_id"].as_str().and_then(|workflow| self.behaviours.get(workflow));
        if let Some(Behaviour::Gateway { http, media, body }) = behaviour {
            return Ok(Reply::Foreign { http: *http, media, body: body.clone() });
        }
        let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), path.as_slice(), self.dialect) {
            ("POST", ["v1", "workflow", "run"], _) => self.run(request),
            ("POST", ["v1", "workflow", "stream_run"], _) => self.stream(request),
            ("POST", ["v1", "workflow", "stream_resume"], _) => self.resume(request, true),
            ("POST", ["v1", "workflows", "resume"], Dialect::Coze) => self.resume(request, false),
            ("GET", ["v1", "workflows", workflow, "run_histories", execution], Dialect::Coze) => self.poll(workflow, execution),
            ("GET", ["v1", "workflow", "get_run_history"], Dialect::CozeStudio) => {
                let parameter = |name: &str| request.query.get(name).map(String::as_str).ok_or_else(Failure::bad_input);
                self.poll(parameter("workflow_id")?, parameter("execute_id")?)
            }
            (method, ..) => Err(Failure::no_such_path(method, &request.path)),
        }
    }

    fn run(&mut self, request: &CozeRequest) -> Result<Reply, Failure> {
        let asynchronous = request.body["is_async"] == true;
        let (behaviour, execution) = self.start(request, if asynchronous { 2 } else { 0 })?;
        let execution = &self.executions[execution];
        let answer = if asynchronous { execution.accepted(self.dialect) } else { execution.waited_for(self.dialect) };
        Ok(match behaviour {
            Behaviour::Lost | Behaviour::StreamCut(_) => Reply::Lost,
            Behaviour::Slow(delay) => Reply::After(delay, Box::new(Reply::Json(answer))),
            Behaviour::Interrupt { event_id, kind, .. } if !asynchronous => match self.dialect {
                Dialect::Coze => Reply::Json(execution.interrupted(&event_id, kind)),
                // ErrOpenAPIInterruptNotSupported of its types/errno/workflow.go.
                Dialect::CozeStudio => {
                    Reply::Refused(Failure::new(200, 6039, "Synchronous requests do not support interruption."))
                }
            },
            _ => Reply::Json(answer),
        })
    }

    fn stream(&mut self, request: &CozeRequest) -> Result<Reply, Failure> {
        let (behaviour, execution) = self.start(request, 1)?;
        let execution = &self.executions[execution];
        let debug_url = execution.debug_url.clone();
        let (frames, then) = match &behaviour {
            Behaviour::Lost => return Ok(Reply::Lost),
            Behaviour::Stream(frames) => (frames.clone(), Then::End),
            Behaviour::StreamCut(frames) => (frames.clone(), Then::Break),
            Behaviour::StreamEndless { every } => (vec![], Then::More(*every)),
            Behaviour::Interrupt { event_id, kind, .. } => {
                let (event_id, node_title) = (event_id.clone(), "Question".to_owned());
                let interrupt = Frame::Interrupt { event_id, kind: *kind, node_title };
                (vec![Frame::message("Question", 0, "Which city, and which day?"), interrupt], Then::End)
            }
            _ => (Frame::of(&execution.ending), Then::End),
        };
        let reply = Reply::Stream { frames, debug_url, then };
        Ok(if let Behaviour::Slow(delay) = behaviour { Reply::After(delay, Box::new(reply)) } else { reply })
    }

    /// Goes on with a workflow that has asked: only where it is told what asked, and by which event.
    fn resume(&mut self, request: &CozeRequest, streams: bool) -> Result<Reply, Failure> {
        if let Some(failure) = self.failing_answers.pop_front() {
            return Err(failure);
        }
        let text = |name: &str| request.body[name].as_str().ok_or_else(Failure::bad_input);
        let (workflow, event, _) = (text("workflow_id")?, text("event_id")?, text("resume_data")?);
        let Some(Behaviour::Interrupt { event_id, kind, then }) = self.behaviours.get(workflow) else {
            return Err(Failure::bad_input());
        };
        let execution = self.executions.iter().rfind(|execution| execution.workflow_id == workflow);
        let execution = execution.filter(|_| event == event_id && request.body["interrupt_type"] == *kind);
        let execution = execution.ok_or_else(Failure::bad_input)?;
        let debug_url = execution.debug_url.clone();
        Ok(if streams {
            Reply::Stream { frames: then.clone(), debug_url, then: Then::End }
        } else {
            Reply::Json(execution.waited_for(self.dialect))
        })
    }

    fn poll(&mut self, workflow: &str, execution: &str) -> Result<Reply, Failure> {
        if let Some(failure) = self.failing_polls.pop_front() {
            return Err(failure);
        }
        let mut all = self.executions.iter_mut();
        let found = all.find(|found| found.id == execution && found.workflow_id == workflow);
        Ok(Reply::Json(found.ok_or_else(Failure::not_published)?.polled(self.dialect)))
    }

    /// Starts the workflow that a request names: what it does, and which execution that is.
    fn start(&mut self, request: &CozeRequest, run_mode: u8) -> Result<(Behaviour, usize), Failure> {
        let body = &request.body;
        let input = &body["parameters"];
        let workflow_id = body["workflow_id"].as_str().filter(|id| !id.is_empty()).ok_or_else(Failure::bad_input)?;
        if !input.is_object() && !input.is_null() {
            return Err(Failure::bad_input());
        }
        let behaviour = self.behaviours.entry(workflow_id.to_owned()).or_default();
        match behaviour {
            Behaviour::Fail(failure) => return Err(failure.clone()),
            Behaviour::FailTimes(times, failure) if *times > 0 => {
                *times -= 1;
                return Err(failure.clone());
            }
            _ => {}
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let id = (7_431_040_978_805_850_001 + self.executions.len()).to_string();
        self.executions.push(Execution {
            debug_url: format!(
                "https://www.coze.cn/work_flow?execute_id={id}&space_id=7309760604397600001&workflow_id={workflow_id}"
            ),
            id,
            workflow_id: workflow_id.to_owned(),
            run_mode,
            logid: request.logid.clone(),
            input: input.clone(),
            bot_id: text(&body["bot_id"]),
            user: text(&body["ext"]["user_id"]),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
            running_polls: if let Behaviour::Async { running_polls, .. } = behaviour { *running_polls } else { 0 },
            ending: behaviour.ending(input),
            polls: 0,
        });
        Ok((behaviour.clone(), self.executions.len() - 1))
    }
}
