//! Reads one HTTP/1.1 answer at a time from bytes as they come.
//!
//! A client that shares two cores with what it measures has to be lean: heads are read by
//! `httparse` in place, a body of known length is not copied, and the buffer is used again for the
//! next answer. There is no pipelining here, so nothing may follow an answer.
//!
//! What it leaves to others: sockets ([`super::http`]), and what a body means.

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};

/// Collects an answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerReader {
    bytes: Vec<u8>,
    filled: usize,
    head: Option<Head>,
    /// The body of an answer that came in chunks.
    joined: Vec<u8>,
    body: Body,
}

/// What a head says.
#[derive(Debug, Clone, Copy)]
struct Head {
    status: u16,
    bytes: usize,
    framing: Framing,
    ends_connection: bool,
}

#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
}

/// Where the body of the whole answer is.
#[derive(Debug, Default)]
enum Body {
    #[default]
    None,
    InPlace(Range<usize>),
    Joined,
}

/// A whole answer; its body is [`AnswerReader::body`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Whether the server closes the connection behind it.
    pub(crate) ends_connection: bool,
}

impl AnswerReader {
    /// Where the next bytes go; never empty.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.filled < LEAST_ROOM {
            self.bytes.resize((self.bytes.len() * 2).max(FIRST_ROOM), 0);
        }
        &mut self.bytes[self.filled..]
    }

    /// Notes that so many bytes came; gives the answer once it is whole.
    pub(crate) fn came(&mut self, count: usize) -> Result<Option<Answer>> {
        self.filled += count;
        loop {
            let head = match self.head {
                Some(head) => head,
                None => match read_head(&self.bytes[..self.filled])? {
                    // "Go on": the answer itself is still to come.
                    Some(head) if (100..200).contains(&head.status) => {
                        self.bytes.copy_within(head.bytes..self.filled, 0);
                        self.filled -= head.bytes;
                        continue;
                    }
                    Some(head) => *self.head.insert(head),
                    None => {
                        ensure!(self.filled <= MAX_HEAD_BYTES, "an answer's head does not end");
                        return Ok(None);
                    }
                },
            };
            let answer = Answer { status: head.status, ends_connection: head.ends_connection };
            return Ok(self.ends_with(head)?.then_some(answer));
        }
    }

    /// The body of the whole answer.
    pub(crate) fn body(&self) -> &[u8] {
        match &self.body {
            Body::None => &[],
            Body::InPlace(range) => &self.bytes[range.clone()],
            Body::Joined => &self.joined,
        }
    }

    /// Makes ready for the next answer.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
        self.head = None;
        self.joined.clear();
        self.body = Body::None;
    }

    /// Whether the answer with this head is whole.
    fn ends_with(&mut self, head: Head) -> Result<bool> {
        let end = match head.framing {
            Framing::Length(length) => {
                let end = head.bytes + length;
                self.body = Body::InPlace(head.bytes..end);
                end
            }
            Framing::Chunked => {
                self.joined.clear();
                self.body = Body::Joined;
                match join_chunks(&self.bytes[head.bytes..self.filled], &mut self.joined)? {
                    Some(taken) => head.bytes + taken,
                    None => return Ok(false),
                }
            }
        };
        ensure!(self.filled <= end, "{} bytes follow an answer", self.filled - end);
        Ok(self.filled == end)
    }
}

fn read_head(bytes: &[u8]) -> Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes).context("no HTTP/1.1 answer")? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = response.code.context("an answer without a status")?;
    let mut framing = None;
    let mut ends_connection = response.version == Some(0);
    for header in response.headers.iter() {
        let value = header.value.trim_ascii();
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(value).context("odd Content-Length")?;
            let bytes: usize = text.parse().with_context(|| format!("Content-Length {text}"))?;
            ensure!(bytes <= MAX_BODY_BYTES, "an answer of {bytes} bytes");
            let before = framing.replace(Framing::Length(bytes));
            ensure!(before.is_none(), "an answer with two lengths");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            ensure!(value.eq_ignore_ascii_case(b"chunked"), "an encoding that is not chunked");
            let before = framing.replace(Framing::Chunked);
            ensure!(before.is_none(), "an answer with two lengths");
        } else if header.name.eq_ignore_ascii_case("connection") {
            ends_connection |= value.eq_ignore_ascii_case(b"close");
        }
    }
    let has_body = !matches!(status, 100..=199 | 204 | 304);
    let framing = match framing {
        _ if !has_body => Framing::Length(0),
        Some(framing) => framing,
        None => bail!("an answer ({status}) that does not say its length"),
    };
    Ok(Some(Head { status, bytes: length, framing, ends_connection }))
}

/// Joins chunks (RFC 9112, section 7.1); how many bytes they took, once the last is there.
fn join_chunks(bytes: &[u8], joined: &mut Vec<u8>) -> Result<Option<usize>> {
    let mut at = 0;
    loop {
        let Some(line) = line_at(bytes, at)? else { return Ok(None) };
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let size = std::str::from_utf8(size.trim_ascii()).context("odd chunk size")?;
        let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk size {size}"))?;
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        ensure!(joined.len() + size <= MAX_BODY_BYTES, "an answer of more than 64 MiB");
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        ensure!(chunk.ends_with(b"\r\n"), "a chunk that does not end");
        joined.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
    // Trailers, up to an empty line.
    loop {
        let Some(line) = line_at(bytes, at)? else { return Ok(None) };
        at += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(at));
        }
    }
}

/// The line that begins at a place, without its end; `None` while it has not come whole.
fn line_at(bytes: &[u8], at: usize) -> Result<Option<&[u8]>> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest) else {
        ensure!(rest.len() <= MAX_HEAD_BYTES, "a line of a chunked answer does not end");
        return Ok(None);
    };
    let line = rest[..end].strip_suffix(b"\r").context("a line that ends without CR")?;
    Ok(Some(line))
}

const FIRST_ROOM: usize = 8 << 10;
const LEAST_ROOM: usize = 4 << 10;
const MAX_HEADERS: usize = 64;
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_BODY_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds bytes in pieces of a size; the answer's status and body.
    fn read(bytes: &[u8], piece: usize) -> Result<Option<(u16, Vec<u8>)>> {
        let mut reader = AnswerReader::default();
        let mut answer = None;
        for part in bytes.chunks(piece) {
            ensure!(answer.is_none(), "whole before its end");
            reader.room()[..part.len()].copy_from_slice(part);
            answer = reader.came(part.len())?;
        }
        Ok(answer.map(|answer| (answer.status, reader.body().to_vec())))
    }

    /// However it is cut, it says the same.
    fn check(bytes: &str, status: u16, body: &str) {
        for piece in 1..=bytes.len() {
            let got = read(bytes.as_bytes(), piece).unwrap();
            assert_eq!(got, Some((status, body.as_bytes().to_vec())), "in pieces of {piece}");
        }
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello");
        check("HTTP/1.1 200 OK\r\ncontent-length:0\r\n\r\n", 200, "");
        check("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 C\r\nContent-Length: 1\r\n\r\nx",
            201,
            "x",
        );
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&format!("{chunked}5\r\nhello\r\n0\r\n\r\n"), 200, "hello");
        check(
            &format!("{chunked}5;a=b\r\nhello\r\nA\r\n, my world\r\n0\r\n\r\n"),
            200,
            "hello, my world",
        );
        check(&format!("{chunked}1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n"), 200, "\n");
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bytes in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        ] {
            assert!(read(bytes.as_bytes(), bytes.len()).is_err(), "{bytes}");
        }
    }

    #[test]
    fn what_has_not_come_whole_is_waited_for() {
        for bytes in ["HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            assert_eq!(read(bytes.as_bytes(), 3).unwrap(), None);
        }
    }

    #[test]
    fn a_connection_that_ends_says_so() {
        let mut reader = AnswerReader::default();
        let bytes = b"HTTP/1.1 503 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        reader.room()[..bytes.len()].copy_from_slice(bytes);
        let answer = reader.came(bytes.len()).unwrap();
        assert_eq!(answer, Some(Answer { status: 503, ends_connection: true }));
    }

    #[test]
    fn the_buffer_serves_the_next_answer() {
        let mut reader = AnswerReader::default();
        for body in ["one", "three", ""] {
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            reader.room()[..text.len()].copy_from_slice(text.as_bytes());
            assert!(reader.came(text.len()).unwrap().is_some());
            assert_eq!(reader.body(), body.as_bytes());
            reader.clear();
        }
    }
}
