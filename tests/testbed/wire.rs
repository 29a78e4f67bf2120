//! A connection over which bytes go as they are.

use super::Result;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A client's side of a connection.
pub struct Wire {
    stream: TcpStream,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub bytes: Vec<u8>,
    /// Whether the other side ended the connection.
    pub closed: bool,
}

impl Heard {
    /// What came, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Status codes of all answers.
    pub fn statuses(&self) -> Vec<String> {
        let text = self.text();
        let heads = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 8..at + 12));
        heads.filter_map(|code| code.strip_prefix(' ')).map(str::to_owned).collect()
    }

    /// Status codes of all answers, and what became of the connection: `200 400 closed`. Bytes that are no answer are said to be so.
    pub fn line(&self) -> String {
        let mut words = self.statuses();
        if words.is_empty() && !self.bytes.is_empty() {
            words.push("headless".to_owned());
        }
        words.push(if self.closed { "closed" } else { "open" }.to_owned());
        words.join(" ")
    }
}

impl Wire {
    /// Connects.
    pub fn to(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream })
    }

    /// Sends bytes; whether the other side still takes them.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// What comes until the connection ends, or nothing has come for so long.
    pub fn hear(&mut self, silence: Duration) -> Result<Heard> {
        self.hear_until(silence, |_| false)
    }

    /// What comes until it is enough, the connection ends, or nothing has come for so long; half a minute at most.
    pub fn hear_until(&mut self, silence: Duration, enough: impl Fn(&[u8]) -> bool) -> Result<Heard> {
        let (began, mut bytes, mut buffer) = (Instant::now(), Vec::new(), [0; 16 * 1024]);
        self.stream.set_read_timeout(Some(silence))?;
        while !enough(&bytes) && began.elapsed() < Duration::from_secs(30) {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(Heard { bytes, closed: true }),
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(Heard { bytes, closed: true }),
            }
        }
        Ok(Heard { bytes, closed: false })
    }
}
