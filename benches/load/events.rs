//! Server-sent events as they come out of a body, and what their numbers say.

use super::failure::Failure;
use std::time::{Duration, SystemTime};

/// What one event says, by its data: `data: <n>`, or `data: <n> <stamp>` where the upstream stamps it with the nanoseconds
/// since 1970 at which it was sent. Stamps compare the clocks of two machines where the upstream is on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub number: Option<u64>,
    pub stamp: Option<u64>,
}

impl Event {
    fn parse(data: &str) -> Self {
        let mut words = data.split_ascii_whitespace();
        let number = words.next().and_then(|word| word.parse().ok());
        Self { number, stamp: number.and_then(|_| words.next()?.parse().ok()) }
    }

    /// How long ago it was sent; a clock that is behind the upstream's says zero.
    pub fn age(&self) -> Option<Duration> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(now.saturating_sub(Duration::from_nanos(self.stamp?)))
    }
}

/// Cuts a body into events (WHATWG HTML, "server-sent events": lines end with LF or CRLF here, an empty line ends an event,
/// lines that begin with a colon are comments).
#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    data: Option<String>,
}

impl Parser {
    /// Takes the next bytes, and gives each event that they complete to `each`.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Event)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                if let Some(event) = self.end_of_line() {
                    each(event);
                }
                self.line.clear();
            }
        }
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let line = String::from_utf8_lossy(&self.line);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            return self.data.take().map(|data| Event::parse(&data));
        }
        if let Some(data) = line.strip_prefix("data:") {
            self.data.get_or_insert_default().push_str(data);
        }
        None
    }
}

/// The order of one stream. It may begin at any number.
#[derive(Default)]
pub struct Order {
    last: Option<u64>,
}

impl Order {
    /// What is wrong with this number after the last one, and how many times.
    pub fn follow(&mut self, number: u64) -> Option<(Failure, u64)> {
        let last = self.last.replace(number)?;
        match number.checked_sub(last) {
            Some(1) => None,
            Some(step @ 2..) => Some((Failure::EventLost, step - 1)),
            _ => Some((Failure::EventOutOfOrder, 1)),
        }
    }
}
