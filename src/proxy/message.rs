//! Messages of HTTP/1.1 towards an upstream (RFC 9112), as bytes: a request's head is written, an answer's head and body are read.
//! Pure: what has come is given, and what of it is used up is taken away.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::ext::ReasonPhrase;
use smallvec::SmallVec;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Bytes of an answer's head.
pub const LARGEST_HEAD: usize = 128 * 1024;
/// Fields of an answer's head, or trailers.
const FIELDS: usize = 128;
/// Bytes of the line before a chunk, its extensions included.
const LARGEST_CHUNK_LINE: usize = 4 * 1024;
/// Bytes of an answer's trailers.
const LARGEST_TRAILERS: usize = 16 * 1024;

/// Why what came is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl From<httparse::Error> for Malformed {
    fn from(error: httparse::Error) -> Self {
        Self(match error {
            httparse::Error::Version => "what it says is no HTTP/1",
            httparse::Error::Status => "its status is no number of three digits",
            httparse::Error::TooManyHeaders => "its head has more than 128 fields",
            _ => "its head is malformed",
        })
    }
}

/// How the end of an answer's body is known (RFC 9112 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// By chunks.
    Chunked(Chunked),
    /// By the connection's end.
    UntilClose,
}

/// Where in its chunks a body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunked {
    /// Before a chunk.
    Size,
    /// Within one, of which so many bytes are still to come.
    Data(u64),
    /// Behind one.
    DataEnd,
    /// Behind the last.
    Trailers,
    /// Behind all.
    Ended,
}

/// What comes next of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// Fields behind it.
    Trailers(HeaderMap),
    /// Nothing: it has ended.
    End,
    /// More has to be read.
    Missing,
}

/// An answer's head, and what follows from it.
#[derive(Debug)]
pub struct Head {
    /// Status and fields.
    pub response: Response<()>,
    /// How the end of its body is known.
    pub framing: Framing,
    /// Whether the connection can be used again once the body has ended.
    pub keeps: bool,
}

/// How a request's body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// There is none.
    Nothing,
    /// By its length.
    Length(u64),
    /// By chunks, as its length is not known.
    Chunked,
}

/// Writes a request's head. Fields of its framing are the proxy's own to write.
pub fn write_head<B>(request: &Request<B>, sent: Sent, to: &mut BytesMut) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    to.reserve(512);
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        to.put_slice(part.as_bytes());
    }
    let mut has_length = false;
    for (name, value) in request.headers() {
        if name == CONTENT_LENGTH {
            has_length = true;
            continue;
        }
        write_field(name, value, to);
    }
    match sent {
        // As the app has it: a POST of nothing says so (RFC 9110 §8.6).
        Sent::Nothing if has_length => to.put_slice(b"content-length: 0\r\n"),
        Sent::Nothing => {}
        Sent::Length(bytes) => {
            to.put_slice(b"content-length: ");
            to.put_slice(bytes.to_string().as_bytes());
            to.put_slice(b"\r\n");
        }
        Sent::Chunked => to.put_slice(b"transfer-encoding: chunked\r\n"),
    }
    to.put_slice(b"\r\n");
}

/// Writes one field.
pub fn write_field(name: &HeaderName, value: &HeaderValue, to: &mut BytesMut) {
    to.reserve(name.as_str().len() + value.len() + 4);
    to.put_slice(name.as_str().as_bytes());
    to.put_slice(b": ");
    to.put_slice(value.as_bytes());
    to.put_slice(b"\r\n");
}

/// Whether a head may be whole: only then it is worth to be read. The first `known` bytes were looked at before.
pub fn may_be_whole(bytes: &[u8], known: usize) -> bool {
    let rest = &bytes[known.saturating_sub(3).min(bytes.len())..];
    // What is no HTTP is found out at once.
    known == 0 || rest.windows(2).any(|pair| pair == b"\n\n") || rest.windows(3).any(|three| three == b"\n\r\n")
}

/// Reads an answer's head, or that of an interim one, and takes its bytes away; `None` where it is not whole.
///
/// # Errors
/// Where it is none, or says in two ways where its body ends.
pub fn read_head(bytes: &mut BytesMut, asked: &Method) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let parsing = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
    let httparse::Status::Complete(length) = parsing? else { return Ok(None) };
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default()).map_err(|_| Malformed("its status is none"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let reason = parsed.reason.filter(|reason| !reason.is_empty() && Some(*reason) != status.canonical_reason());
    let reason = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let lines = lines(parsed.headers, bytes)?;
    let whole = bytes.split_to(length).freeze();
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    if let Some(reason) = reason {
        response.extensions_mut().insert(reason);
    }
    *response.headers_mut() = header_map(lines, &whole)?;
    let (framing, keeps) = framing(&response, asked)?;
    Ok(Some(Head { response, framing, keeps }))
}

/// Names, and where their values are.
type Lines = SmallVec<[(HeaderName, Range<usize>); 24]>;

fn lines(fields: &[httparse::Header<'_>], bytes: &[u8]) -> Result<Lines, Malformed> {
    let start = bytes.as_ptr() as usize;
    let line = |field: &httparse::Header<'_>| {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Malformed("a field's name is malformed"))?;
        // An empty value need not lie within the bytes.
        let from = if field.value.is_empty() { 0 } else { field.value.as_ptr() as usize - start };
        Ok((name, from..from + field.value.len()))
    };
    fields.iter().map(line).collect()
}

/// Values share the memory that was read.
fn header_map(lines: Lines, bytes: &Bytes) -> Result<HeaderMap, Malformed> {
    let mut map = HeaderMap::with_capacity(lines.len());
    for (name, range) in lines {
        let value = HeaderValue::from_maybe_shared(bytes.slice(range)).map_err(|_| Malformed("a field's value is malformed"))?;
        map.append(name, value);
    }
    Ok(map)
}

fn framing(response: &Response<()>, asked: &Method) -> Result<(Framing, bool), Malformed> {
    let (status, headers) = (response.status(), response.headers());
    let mentions = |token: &str| {
        let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    };
    let keeps = if response.version() == Version::HTTP_11 { !mentions("close") } else { mentions("keep-alive") };
    let nothing = status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if nothing || asked == Method::HEAD {
        return Ok((Framing::Length(0), keeps && status != StatusCode::SWITCHING_PROTOCOLS));
    }
    if let Some(coding) = headers.get_all(TRANSFER_ENCODING).iter().next_back() {
        if response.version() == Version::HTTP_10 {
            return Err(Malformed("HTTP/1.0 has no transfer codings"));
        }
        let last = coding.as_bytes().rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii();
        let chunked = last.eq_ignore_ascii_case(b"chunked");
        return Ok(if chunked { (Framing::Chunked(Chunked::Size), keeps) } else { (Framing::UntilClose, false) });
    }
    Ok(length(headers)?.map_or((Framing::UntilClose, false), |length| (Framing::Length(length), keeps)))
}

/// All that say a length say the same (RFC 9112 §6.3).
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut known = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for part in value.as_bytes().split(|byte| *byte == b',') {
            let digits = part.trim_ascii();
            let length = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
            let length = length.and_then(|digits| digits.parse().ok()).ok_or(Malformed("its Content-Length is no number"))?;
            if known.is_some_and(|known| known != length) {
                return Err(Malformed("its Content-Lengths contradict each other"));
            }
            known = Some(length);
        }
    }
    Ok(known)
}

impl Framing {
    /// Whether nothing more is to come.
    pub fn is_ended(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunked(Chunked::Ended))
    }

    /// Takes what comes next from the bytes that have come. With [`Framing::UntilClose`] the end is the caller's to know.
    ///
    /// # Errors
    /// Where the chunks are none.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Piece, Malformed> {
        match self {
            Self::Length(0) => Ok(Piece::End),
            _ if bytes.is_empty() && !self.is_ended() => Ok(Piece::Missing),
            Self::Length(left) => Ok(data(left, bytes)),
            Self::UntilClose => Ok(Piece::Data(bytes.split().freeze())),
            Self::Chunked(state) => state.next(bytes),
        }
    }
}

/// As much as there is, and no more than is left.
fn data(left: &mut u64, bytes: &mut BytesMut) -> Piece {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= length as u64;
    Piece::Data(bytes.split_to(length).freeze())
}

impl Chunked {
    fn next(&mut self, bytes: &mut BytesMut) -> Result<Piece, Malformed> {
        loop {
            match self {
                Self::Ended => return Ok(Piece::End),
                Self::Size => {
                    let parsed = httparse::parse_chunk_size(bytes).map_err(|_| Malformed("a chunk's size is none"))?;
                    let httparse::Status::Complete((length, size)) = parsed else {
                        let endless = bytes.len() > LARGEST_CHUNK_LINE;
                        return if endless { Err(Malformed("the line before a chunk is too long")) } else { Ok(Piece::Missing) };
                    };
                    if length > LARGEST_CHUNK_LINE {
                        return Err(Malformed("the line before a chunk is too long"));
                    }
                    let _ = bytes.split_to(length);
                    *self = if size == 0 { Self::Trailers } else { Self::Data(size) };
                }
                Self::Data(left) => {
                    if bytes.is_empty() {
                        return Ok(Piece::Missing);
                    }
                    let piece = data(left, bytes);
                    if *left == 0 {
                        *self = Self::DataEnd;
                    }
                    return Ok(piece);
                }
                Self::DataEnd => {
                    if !b"\r\n".starts_with(&bytes[..bytes.len().min(2)]) {
                        return Err(Malformed("a chunk is longer than it says"));
                    }
                    if bytes.len() < 2 {
                        return Ok(Piece::Missing);
                    }
                    let _ = bytes.split_to(2);
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let trailers = read_trailers(bytes)?;
                    let Some(trailers) = trailers else { return Ok(Piece::Missing) };
                    *self = Self::Ended;
                    return Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) });
                }
            }
        }
    }
}

fn read_trailers(bytes: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let parsed = httparse::parse_headers(bytes, &mut fields).map_err(|_| Malformed("its trailers are malformed"))?;
    let httparse::Status::Complete((length, fields)) = parsed else {
        let endless = bytes.len() > LARGEST_TRAILERS;
        return if endless { Err(Malformed("its trailers are larger than 16 KiB")) } else { Ok(None) };
    };
    if length > LARGEST_TRAILERS {
        return Err(Malformed("its trailers are larger than 16 KiB"));
    }
    let lines = lines(fields, bytes)?;
    header_map(lines, &bytes.split_to(length).freeze()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, asked: &Method) -> Result<Option<Head>, Malformed> {
        read_head(&mut BytesMut::from(text), asked)
    }

    #[test]
    fn where_a_body_ends_is_known_from_its_head() {
        use super::Chunked::Size;
        use Framing::{Chunked, Length, UntilClose};
        for (lines, framing, keeps) in [
            ("1.1 200 OK\r\nContent-Length: 5", Length(5), true),
            ("1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5, 5", Length(5), true),
            ("1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close", Length(5), false),
            ("1.0 200 OK\r\nContent-Length: 5", Length(5), false),
            ("1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", Length(5), true),
            ("1.1 200 OK", UntilClose, false),
            ("1.1 204 None", Length(0), true),
            ("1.1 304 Same\r\nContent-Length: 5", Length(0), true),
            ("1.1 101 Switch\r\nUpgrade: x", Length(0), false),
            ("1.1 200 OK\r\nTransfer-Encoding: chunked", Chunked(Size), true),
            ("1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked", Chunked(Size), true),
            ("1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5", UntilClose, false),
        ] {
            let head = read(&format!("HTTP/{lines}\r\n\r\n"), &Method::GET).unwrap().unwrap();
            assert_eq!((head.framing, head.keeps), (framing, keeps), "{lines}");
        }
        let head = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &Method::HEAD).unwrap().unwrap();
        assert_eq!((head.framing, head.keeps), (Length(0), true));
        assert_eq!(head.response.headers()[CONTENT_LENGTH], "5");
    }

    #[test]
    fn what_says_two_things_of_its_end_or_is_no_http_is_no_answer() {
        for lines in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 6",
            "HTTP/1.1 200 OK\r\nContent-Length: +5",
            "HTTP/1.1 200 OK\r\nContent-Length: ",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
            "HTTP/1.1 99 Low",
            "HTTP/2 200 OK",
            "SSH-2.0-server",
            "HTTP/1.1 200 OK\r\nName : value",
            "HTTP/1.1 200 OK\r\nName: value\r\n folded",
        ] {
            assert!(read(&format!("{lines}\r\n\r\n"), &Method::GET).is_err(), "{lines}");
        }
        let many = "X: y\r\n".repeat(129);
        assert!(read(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), &Method::GET).is_err());
    }

    #[test]
    fn a_head_is_read_when_it_is_whole_and_what_is_behind_it_stays() {
        let text = "HTTP/1.1 299 Quite fine\r\nX-A: 1\r\nx-a: \r\nX-B:  two words \r\n\r\n";
        for length in 0..text.len() {
            assert!(read(&text[..length], &Method::GET).unwrap().is_none(), "{length}");
            assert!(length == 0 || !may_be_whole(&text.as_bytes()[..length], 1), "{length}");
        }
        for known in 0..text.len() {
            assert!(may_be_whole(text.as_bytes(), known), "{known}");
        }
        let mut bytes = BytesMut::from(&*format!("{text}body"));
        let head = read_head(&mut bytes, &Method::GET).unwrap().unwrap().response;
        assert_eq!(bytes, "body");
        assert_eq!(head.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
        assert_eq!(head.headers()["x-b"], "two words");
        assert_eq!(head.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Quite fine");
    }

    /// All of a body that comes in pieces of this size: its bytes, and its trailers.
    fn all(mut framing: Framing, body: &[u8], size: usize) -> Result<(Vec<u8>, HeaderMap, usize), Malformed> {
        let (mut bytes, mut data, mut trailers) = (BytesMut::new(), vec![], HeaderMap::new());
        let mut pieces = body.chunks(size);
        loop {
            match framing.next(&mut bytes)? {
                Piece::Data(piece) => {
                    assert!(!piece.is_empty(), "nothing is no piece");
                    data.extend_from_slice(&piece);
                }
                Piece::Trailers(fields) => trailers = fields,
                Piece::End => return Ok((data, trailers, bytes.len() + pieces.map(<[u8]>::len).sum::<usize>())),
                Piece::Missing => bytes.put_slice(pieces.next().ok_or(Malformed("cut"))?),
            }
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_comes() {
        let chunked = Framing::Chunked(Chunked::Size);
        let text = "5\r\nshort\r\n0A;why=not\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nHTTP/1.1";
        for size in 1..text.len() {
            let (data, trailers, left) = all(chunked.clone(), text.as_bytes(), size).unwrap();
            assert_eq!((data.as_slice(), left), (&b"short0123456789"[..], 8), "{size}");
            assert_eq!(trailers["x-sum"], "1");
            let (data, trailers, left) = all(Framing::Length(7), b"seven b and more", size).unwrap();
            assert_eq!((data.as_slice(), trailers.len(), left), (&b"seven b"[..], 0, 9), "{size}");
        }
    }

    #[test]
    fn chunks_that_are_none_are_told_from_those_that_are_cut() {
        let outcome = |text: &str| all(Framing::Chunked(Chunked::Size), text.as_bytes(), 1).map(|(data, ..)| data.len());
        assert_eq!(outcome("0\r\n\r\n"), Ok(0));
        for cut in ["", "5", "5\r\nsho", "5\r\nshort", "5\r\nshort\r\n", "5\r\nshort\r\n0\r\n", "0\r\nX-Sum: 1\r\n"] {
            assert_eq!(outcome(cut), Err(Malformed("cut")), "{cut:?}");
        }
        let long = format!("5;{}\r\nshort\r\n0\r\n\r\n", "x".repeat(5000));
        let trailers = format!("0\r\nX-Sum: {}\r\n\r\n", "x".repeat(20_000));
        for bad in [
            "x\r\n",
            "-1\r\n",
            "5\r\nshort0\r\n",
            "5\r\nshort\n0\r\n\r\n",
            "fffffffffffffffff\r\n",
            "0\r\nno field\r\n\r\n",
            &long,
            &trailers,
        ] {
            assert!(outcome(bad).is_err_and(|why| why != Malformed("cut")), "{bad:?}");
        }
    }

    #[test]
    fn a_head_is_written_with_one_framing() {
        let request = Request::post("/a?b=c").header("content-length", "5").header("content-length", "5").header("x-a", "1");
        let request = request.body(()).unwrap();
        for (sent, framing) in [
            (Sent::Nothing, "content-length: 0\r\n"),
            (Sent::Length(7), "content-length: 7\r\n"),
            (Sent::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let mut bytes = BytesMut::new();
            write_head(&request, sent, &mut bytes);
            assert_eq!(bytes, format!("POST /a?b=c HTTP/1.1\r\nx-a: 1\r\n{framing}\r\n"));
        }
        let mut bytes = BytesMut::new();
        write_head(&Request::new(()), Sent::Nothing, &mut bytes);
        assert_eq!(bytes, "GET / HTTP/1.1\r\n\r\n");
    }
}
