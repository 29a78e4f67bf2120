//! Runs that the platform has accepted, and what it answers of them: docs.coze.cn/developer_guides/{workflow_run,
//! workflow_history}, and Coze Studio's OpenAPIRun and OpenAPIGetWorkflowRunHistory (application/workflow/workflow.go).

use super::behaviour::{CANCELLED, Ending};
use super::{Dialect, usage};
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub struct Execution {
    /// More digits than a double holds, as theirs.
    pub id: String,
    pub workflow_id: String,
    /// 0 sync, 1 stream, 2 async.
    pub run_mode: u8,
    /// Of the request that started it.
    pub logid: String,
    pub debug_url: String,
    /// The parameters.
    pub input: Value,
    pub bot_id: Option<String>,
    /// `user_id` of `ext`.
    pub user: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// At how many more questions it is still running.
    pub running_polls: usize,
    pub ending: Ending,
    /// Questions for it so far.
    pub polls: usize,
}

impl Execution {
    /// The answer to a call that waits for the end.
    pub fn waited_for(&self, dialect: Dialect) -> Value {
        let data = match &self.ending {
            Ending::Success(output) => Ending::text(output),
            Ending::Fail { code, message } => {
                return json!({"code": code, "msg": message, "debug_url": self.debug_url});
            }
            Ending::Cancel => return json!({"code": CANCELLED.0, "msg": CANCELLED.1, "debug_url": self.debug_url}),
        };
        match dialect {
            Dialect::Coze => json!({"code": 0, "msg": "", "data": data, "debug_url": self.debug_url, "usage": usage()}),
            // Its fields are pointers that are written even where they are nil.
            Dialect::CozeStudio => json!({
                "code": 0, "msg": null, "data": data, "debug_url": self.debug_url, "execute_id": self.id,
                "token": usage()["token_count"], "cost": "0.00000",
            }),
        }
    }

    /// The answer to a call that does not wait.
    pub fn accepted(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::Coze => json!({"code": 0, "msg": "", "debug_url": self.debug_url, "execute_id": self.id}),
            Dialect::CozeStudio => json!({
                "code": 0, "msg": null, "data": null, "debug_url": self.debug_url, "execute_id": self.id, "token": null,
                "cost": null,
            }),
        }
    }

    /// The answer to a call that waits, of a workflow that asks: only Coze has it, with the way to go on at
    /// /v1/workflows/resume (docs.coze.cn/developer_guides/resume_workflow).
    pub fn interrupted(&self, event_id: &str, kind: u64) -> Value {
        let interrupt = json!({"data": "", "event_id": event_id, "type": kind});
        json!({"code": 0, "msg": "", "debug_url": self.debug_url, "execute_id": self.id, "interrupt_data": interrupt})
    }

    /// The answer to a question for it, which counts.
    pub fn polled(&mut self, dialect: Dialect) -> Value {
        self.polls += 1;
        let running = self.running_polls > 0;
        self.running_polls = self.running_polls.saturating_sub(1);
        match dialect {
            Dialect::Coze => json!({"code": 0, "msg": "", "data": [self.history(running)]}),
            // On success it sets neither code nor msg.
            Dialect::CozeStudio => json!({"data": [self.studio_history(running)]}),
        }
    }

    fn history(&self, running: bool) -> Value {
        let (status, output, code, message) = match &self.ending {
            _ if running => ("Running", String::new(), String::new(), ""),
            // The end node's output is a string in an object in a string.
            Ending::Success(output) => ("Success", json!({"Output": Ending::text(output)}).to_string(), String::new(), ""),
            Ending::Fail { code, message } => ("Fail", String::new(), code.to_string(), message.as_str()),
            Ending::Cancel => ("Fail", String::new(), CANCELLED.0.to_string(), CANCELLED.1),
        };
        json!({
            "execute_id": self.id, "execute_status": status, "bot_id": self.bot_id.as_deref().unwrap_or("0"),
            "connector_id": "1024", "connector_uid": self.user.as_deref().unwrap_or("2236870734640001"),
            "run_mode": self.run_mode, "output": output, "create_time": self.created, "update_time": self.created,
            "token": "0", "cost": "0.00000", "usage": usage(), "error_code": code, "error_message": message,
            "debug_url": self.debug_url, "logid": self.logid, "is_output_trimmed": false,
        })
    }

    fn studio_history(&self, running: bool) -> Value {
        let (status, output, code, message) = match &self.ending {
            _ if running => ("Running", None, None, None),
            Ending::Success(output) => ("Success", Some(Ending::text(output)), None, None),
            Ending::Fail { code, message } => ("Fail", None, Some(code.to_string()), Some(message.as_str())),
            Ending::Cancel => ("Cancel", None, Some(CANCELLED.0.to_string()), Some(CANCELLED.1)),
        };
        let number = |text: &str| text.parse::<i64>().ok();
        json!({
            "execute_id": number(&self.id), "execute_status": status, "bot_id": self.bot_id.as_deref().and_then(number),
            "connector_id": 1024, "connector_uid": self.user, "run_mode": self.run_mode, "log_id": self.logid,
            "create_time": self.created, "update_time": self.created, "debug_url": self.debug_url,
            "input": self.input.to_string(), "output": output, "token": usage()["token_count"], "cost": "0.00000",
            "cost_unit": null, "ext": null, "error_code": code, "error_msg": message,
        })
    }
}
