//! Where an answer's body ends on HTTP/1.1 (RFC 9112 §6.3), and its chunks (§7.1). Pure, as [`super::message`].

use super::message::{FIELDS, Malformed, header_map, lines};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// Bytes of the line before a chunk, its extensions included.
const LARGEST_CHUNK_LINE: usize = 4 * 1024;
/// Bytes of an answer's trailers.
const LARGEST_TRAILERS: usize = 16 * 1024;

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
                    // The parser takes a line without a digit for the last chunk's (RFC 9112 §7.1 wants one).
                    if bytes.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
                        return Err(Malformed("a chunk's size is none"));
                    }
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
    use bytes::BufMut;

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
            "\r\n\r\n",
            ";x\r\n\r\n",
            " \r\n\r\n",
            "5\r\nshort\r\n\r\n\r\n",
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
}
