//! A strict HTTP/1.1 server: it writes down every request as it came over the wire, holds against RFC 9112 what a server could
//! misread, and answers with whatever bytes a test wants.

use super::Result;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request that came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Which of the connections brought it, from 0.
    pub connection: usize,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether its body came to its end.
    pub whole: bool,
}

impl Seen {
    /// All values of a header, in lower case as its name is asked for.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect()
    }

    /// Method, target and bytes of the body; a body that did not end is said to be cut.
    pub fn line(&self) -> String {
        let cut = if self.whole { "" } else { " cut" };
        format!("{} {} {}{cut}", self.method, self.target, self.body.len())
    }
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Keep,
    Close,
}

type Answer = Arc<dyn Fn(&Seen, &mut TcpStream) -> std::io::Result<Next> + Send + Sync>;

#[derive(Default)]
struct Record {
    connections: usize,
    seen: Vec<Seen>,
    faults: Vec<String>,
}

/// The server, for as long as the process.
pub struct RawUpstream {
    pub address: SocketAddr,
    record: Arc<Mutex<Record>>,
}

/// An answer with a status line, these header lines and a body of a known length.
pub fn response(status: &str, headers: &[&str], body: &str) -> String {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl RawUpstream {
    /// One that says `ok` to everything.
    pub fn start() -> Result<Self> {
        Self::answering(|_, stream| {
            stream.write_all(response("200 OK", &[], "ok").as_bytes())?;
            Ok(Next::Keep)
        })
    }

    /// One that answers a whole request by writing to its connection.
    pub fn answering(answer: impl Fn(&Seen, &mut TcpStream) -> std::io::Result<Next> + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let record: Arc<Mutex<Record>> = Arc::default();
        let (shared, answer): (_, Answer) = (record.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (record, answer) = (shared.clone(), answer.clone());
                std::thread::spawn(move || {
                    let connection = Connection::new(stream, &record);
                    if let Err(fault) = connection.and_then(|mut connection| connection.serve(&answer)) {
                        record.lock().expect("nobody panics while holding it").faults.extend(fault.sentence());
                    }
                });
            }
        });
        Ok(Self { address, record })
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("nobody panics while holding it")
    }

    /// Its address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in the order in which their heads came.
    pub fn seen(&self) -> Vec<Seen> {
        self.record().seen.clone()
    }

    /// The same, each in one line.
    pub fn lines(&self) -> Vec<String> {
        self.record().seen.iter().map(Seen::line).collect()
    }

    /// What was wrong with what came.
    pub fn faults(&self) -> Vec<String> {
        self.record().faults.clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.record().connections
    }
}

/// Why a connection ended.
enum Fault {
    /// It closed, or broke.
    Ended,
    /// What came must not come.
    Wrong(String),
}

impl Fault {
    fn sentence(self) -> Option<String> {
        match self {
            Self::Ended => None,
            Self::Wrong(sentence) => Some(sentence),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(_: std::io::Error) -> Self {
        Self::Ended
    }
}

fn wrong<T>(what: &str, bytes: &[u8]) -> std::result::Result<T, Fault> {
    Err(Fault::Wrong(format!("{what}: {:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(200)]))))
}

struct Connection<'a> {
    number: usize,
    reader: BufReader<TcpStream>,
    stream: TcpStream,
    record: &'a Mutex<Record>,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, record: &'a Mutex<Record>) -> std::result::Result<Self, Fault> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let reader = BufReader::new(stream.try_clone()?);
        let number = {
            let mut record = record.lock().expect("nobody panics while holding it");
            record.connections += 1;
            record.connections - 1
        };
        Ok(Self { number, reader, stream, record })
    }

    fn serve(&mut self, answer: &Answer) -> std::result::Result<(), Fault> {
        loop {
            let mut seen = self.head()?;
            let index = self.note(None, &seen);
            if seen.all("expect").iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
                self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            self.body(&mut seen, index)?;
            seen.whole = true;
            self.note(Some(index), &seen);
            if answer(&seen, &mut self.stream)? == Next::Close {
                let _ = self.stream.shutdown(std::net::Shutdown::Both);
                return Ok(());
            }
        }
    }

    /// Writes a request down, or what is known of it by now.
    fn note(&self, index: Option<usize>, seen: &Seen) -> usize {
        let mut record = self.record.lock().expect("nobody panics while holding it");
        if let Some(index) = index {
            record.seen[index] = seen.clone();
            return index;
        }
        record.seen.push(seen.clone());
        record.seen.len() - 1
    }

    /// A line without its CRLF.
    fn line(&mut self) -> std::result::Result<Vec<u8>, Fault> {
        let mut line = Vec::new();
        self.reader.read_until(b'\n', &mut line)?;
        match line.as_slice() {
            [] => Err(Fault::Ended),
            [text @ .., b'\r', b'\n'] if !text.iter().any(|byte| matches!(byte, b'\r' | 0)) => Ok(text.to_vec()),
            [.., b'\n'] => wrong("a bare CR or LF, or a NUL", &line),
            _ => Err(Fault::Ended),
        }
    }

    fn fields(&mut self) -> std::result::Result<Vec<(String, String)>, Fault> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { return wrong("no colon", &line) };
            let (name, value) = line.split_at(colon);
            let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            if name.is_empty() || !name.iter().all(token) {
                return wrong("no header's name", &line);
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            fields.push((text(name).to_ascii_lowercase(), text(&value[1..])));
        }
    }

    fn head(&mut self) -> std::result::Result<Seen, Fault> {
        let line = self.line()?;
        let text = String::from_utf8_lossy(&line).into_owned();
        let parts: Vec<&str> = text.split(' ').collect();
        let [method, target, "HTTP/1.1"] = parts.as_slice() else { return wrong("no request line of HTTP/1.1", &line) };
        let (method, target) = ((*method).to_owned(), (*target).to_owned());
        Ok(Seen { connection: self.number, method, target, headers: self.fields()?, ..Seen::default() })
    }

    fn body(&mut self, seen: &mut Seen, index: usize) -> std::result::Result<(), Fault> {
        let head = format!("{:?}", seen.headers);
        let (lengths, codings) = (seen.all("content-length"), seen.all("transfer-encoding"));
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(()),
            ([length], []) if !length.is_empty() && length.bytes().all(|digit| digit.is_ascii_digit()) => {
                let Ok(length) = length.parse() else { return wrong("a length beyond all lengths", head.as_bytes()) };
                self.bytes(length, seen, index)
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => self.chunks(seen, index),
            _ => wrong("a length that can be read in two ways", head.as_bytes()),
        }
    }

    fn chunks(&mut self, seen: &mut Seen, index: usize) -> std::result::Result<(), Fault> {
        loop {
            let line = self.line()?;
            let text = String::from_utf8_lossy(&line).into_owned();
            let size = usize::from_str_radix(&text, 16).ok().filter(|_| text.bytes().all(|digit| digit.is_ascii_hexdigit()));
            let Some(size) = size else { return wrong("no chunk's size", &line) };
            if size == 0 {
                seen.trailers = self.fields()?;
                return Ok(());
            }
            self.bytes(size, seen, index)?;
            if !self.line()?.is_empty() {
                return wrong("a chunk that is longer than its size", &line);
            }
        }
    }

    fn bytes(&mut self, count: usize, seen: &mut Seen, index: usize) -> std::result::Result<(), Fault> {
        let mut left = count;
        let mut buffer = [0; 64 * 1024];
        while left > 0 {
            let limit = left.min(buffer.len());
            match self.reader.read(&mut buffer[..limit]) {
                Ok(0) => return Err(Fault::Ended),
                Ok(read) => {
                    seen.body.extend_from_slice(&buffer[..read]);
                    left -= read;
                    // A body that is under way is written down at once only while it is small.
                    if seen.body.len() < 4096 {
                        self.note(Some(index), seen);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Fault::Ended),
            }
        }
        Ok(())
    }
}
