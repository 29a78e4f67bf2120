//! Messages of HTTP/1.1 towards an upstream (RFC 9112), as bytes: a request's head is written, an answer's head and body are read.
//! Pure: what has come is given, and what of it is used up is taken away.

use super::framing::{Chunked, Framing};
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
pub(super) const FIELDS: usize = 128;

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
pub enum RequestFraming {
    /// There is none.
    Nothing,
    /// By its length.
    Length(u64),
    /// By chunks, as its length is not known.
    Chunked,
}

/// Writes a request's head. Fields of its framing are the proxy's own to write.
pub fn write_head<B>(request: &Request<B>, sent: RequestFraming, to: &mut BytesMut) {
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
        RequestFraming::Nothing if has_length => to.put_slice(b"content-length: 0\r\n"),
        RequestFraming::Nothing => {}
        RequestFraming::Length(bytes) => {
            to.put_slice(b"content-length: ");
            to.put_slice(bytes.to_string().as_bytes());
            to.put_slice(b"\r\n");
        }
        RequestFraming::Chunked => to.put_slice(b"transfer-encoding: chunked\r\n"),
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
pub(super) type Lines = SmallVec<[(HeaderName, Range<usize>); 24]>;

pub(super) fn lines(fields: &[httparse::Header<'_>], bytes: &[u8]) -> Result<Lines, Malformed> {
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
pub(super) fn header_map(lines: Lines, bytes: &Bytes) -> Result<HeaderMap, Malformed> {
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

    #[test]
    fn a_head_is_written_with_one_framing() {
        let request = Request::post("/a?b=c").header("content-length", "5").header("content-length", "5").header("x-a", "1");
        let request = request.body(()).unwrap();
        for (sent, framing) in [
            (RequestFraming::Nothing, "content-length: 0\r\n"),
            (RequestFraming::Length(7), "content-length: 7\r\n"),
            (RequestFraming::Chunked, "transfer-encoding: chunked\r\n"),
        ] {
            let mut bytes = BytesMut::new();
            write_head(&request, sent, &mut bytes);
            assert_eq!(bytes, format!("POST /a?b=c HTTP/1.1\r\nx-a: 1\r\n{framing}\r\n"));
        }
        let mut bytes = BytesMut::new();
        write_head(&Request::new(()), RequestFraming::Nothing, &mut bytes);
        assert_eq!(bytes, "GET / HTTP/1.1\r\n\r\n");
    }
}
