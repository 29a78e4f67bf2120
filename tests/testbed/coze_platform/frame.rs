//! Events of a workflow's stream, as docs.coze.cn/developer_guides/workflow_stream_run has them, and as Coze Studio's
//! `convertStreamRunEvent` does.

use super::Dialect;
use super::behaviour::{CANCELLED, Ending};
use super::usage;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub enum Frame {
    /// `seq` counts the messages of one node from 0; `last` is its last.
    Message {
        content: String,
        node_title: String,
        seq: u64,
        last: bool,
    },
    Error {
        code: i64,
        message: String,
    },
    Interrupt {
        event_id: String,
        kind: u64,
        node_title: String,
    },
    Done,
    /// Keeps the connection; means nothing.
    Ping,
}

impl Frame {
    pub fn message(node_title: &str, seq: u64, content: &str) -> Self {
        Self::Message { content: content.to_owned(), node_title: node_title.to_owned(), seq, last: false }
    }

    /// What the end node says, which is the output.
    pub fn output(output: &Value) -> Self {
        Self::Message { content: Ending::text(output), node_title: "End".into(), seq: 0, last: true }
    }

    /// The stream of an execution that ends so.
    pub fn of(ending: &Ending) -> Vec<Self> {
        match ending {
            Ending::Success(output) => vec![Self::output(output), Self::Done],
            Ending::Fail { code, message } => vec![Self::Error { code: *code, message: message.clone() }],
            Ending::Cancel => vec![Self::Error { code: CANCELLED.0, message: CANCELLED.1.into() }],
        }
    }

    /// How an execution ends whose stream this is.
    pub fn ending(frames: &[Self]) -> Ending {
        let mut ending = Ending::Success(Value::Null);
        for frame in frames {
            match frame {
                Self::Message { content, .. } => ending = Ending::Success(content.as_str().into()),
                Self::Error { code, message } => return Ending::Fail { code: *code, message: message.clone() },
                _ => {}
            }
        }
        ending
    }

    /// On the wire. All three lines are always there: Coze's own SDK counts on them, and on nothing else, comments included.
    pub fn wire(&self, id: usize, dialect: Dialect, debug_url: &str) -> String {
        format!("id: {id}\nevent: {}\ndata: {}\n\n", self.event(), self.data(dialect, debug_url))
    }

    pub fn event(&self) -> &'static str {
        match self {
            Self::Message { .. } => "Message",
            Self::Error { .. } => "Error",
            Self::Interrupt { .. } => "Interrupt",
            Self::Done => "Done",
            Self::Ping => "PING",
        }
    }

    pub fn data(&self, dialect: Dialect, debug_url: &str) -> Value {
        let studio = dialect == Dialect::CozeStudio;
        let mut data = match self {
            Self::Message { content, node_title, seq, last } => json!({
                "content": content, "content_type": "text", "node_title": node_title, "node_seq_id": seq.to_string(),
                "node_is_finish": last,
            }),
            Self::Error { code, message } => json!({"error_code": code, "error_message": message}),
            Self::Interrupt { event_id, kind, .. } => {
                json!({"interrupt_data": {"data": "", "event_id": event_id, "type": kind}})
            }
            Self::Done | Self::Ping => json!({}),
        };
        match self {
            // Here the dialects part: Studio counts tokens and names nodes by id, Coze has usage.
            Self::Message { node_title, .. } if studio => {
                let (id, kind) = if node_title == "End" { ("900001", "End") } else { ("100002", "Message") };
                data["node_id"] = id.into();
                data["node_type"] = kind.into();
                data["token"] = usage()["token_count"].clone();
            }
            Self::Message { last: true, .. } => data["usage"] = usage(),
            // Which node asks, Studio does not say.
            Self::Interrupt { node_title, .. } if !studio => data["node_title"] = node_title.as_str().into(),
            Self::Error { .. } | Self::Interrupt { .. } if studio => data["debug_url"] = debug_url.into(),
            Self::Done => data["debug_url"] = debug_url.into(),
            _ => {}
        }
        data
    }
}
