//! The one module that knows how bytes are laid out: framed bincode.
//!
//! Every value that reaches a disk or a peer is a frame:
//!
//! ```text
//! offset  bytes  what
//! 0       2      magic "LH"
//! 2       1      kind (what is inside, `Kind`)
//! 3       1      version of that kind
//! 4       4      length of the body, little endian
//! 8       4      CRC-32C of bytes 0..8 and the body
//! 12      n      body: bincode 2, standard configuration (little endian, variable-length integers)
//! ```
//!
//! The length is capped before anything is allocated, lengths inside a body are held to a limit as
//! they are read (`DECODE_LIMIT`), and every byte of the body must be consumed.
//! Enums inside are append-only: a variant is never removed, reordered or given another meaning.
//! An unknown kind or version is an error, never skipped. bincode is pinned at `=2.0.1`.

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use bincode::enc::write::SizeWriter;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a frame holds. The numbers are stored; never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// One log entry: header and commands (`lease::Entry`).
    Entry = 1,
    /// One row of the ledger.
    Row = 2,
    /// One block of audit events.
    AuditBlock = 3,
    /// One block of ended request ids.
    RequestBlock = 4,
    /// Header of a checkpoint's redo file.
    Redo = 5,
    /// Header or section header of a snapshot file.
    Snapshot = 6,
    /// A message between peers.
    Peer = 7,
    /// Metadata of a data directory.
    Directory = 8,
    /// Raft vote, membership and the like inside log records and checkpoints.
    Raft = 9,
    /// Outcomes sent back to a forwarding node.
    Outcomes = 10,
}

/// Bytes before the body.
pub const HEADER_BYTES: usize = 12;
/// No frame's body is longer than this: an entry is at most 256 KiB of commands, a snapshot chunk
/// at most 1 MiB; the rest is room for headers.
pub const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// Room for a row of the ledger, so that encoding one allocates once.
const TYPICAL_BYTES: usize = 192;
const MAGIC: [u8; 2] = *b"LH";

/// Bytes a decoder may claim, so that a length inside a well-summed body cannot make it allocate
/// without bound. bincode counts a number by the width of its type before it reads it, and a
/// `u128` may take one byte: less than sixteen times the longest body would refuse what `encode`
/// made. Reading alone is limited; no byte depends on it.
const DECODE_LIMIT: usize = 16 * MAX_BODY_BYTES;

type Config = Configuration<LittleEndian, Varint, Limit<DECODE_LIMIT>>;
const CONFIG: Config = standard().with_limit::<DECODE_LIMIT>();

/// Why bytes are not the frame that was expected. Always damage or a newer version, never a value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// Fewer bytes than the header or its length field say.
    #[error("frame is cut short: {have} bytes of {want}")]
    Short {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        want: usize,
    },
    /// The first bytes are not ours.
    #[error("not a Leasehold frame")]
    Magic,
    /// Another kind than the reader expected.
    #[error("frame is of kind {found}, expected {expected}")]
    Kind {
        /// Kind byte found.
        found: u8,
        /// Kind byte expected.
        expected: u8,
    },
    /// A version this build does not read.
    #[error("frame of kind {kind} has version {found}, this build reads up to {known}")]
    Version {
        /// Kind byte.
        kind: u8,
        /// Version found.
        found: u8,
        /// Newest version this build knows.
        known: u8,
    },
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("frame body of {0} bytes is over the limit")]
    TooLong(usize),
    /// The checksum does not match.
    #[error("frame checksum does not match")]
    Checksum,
    /// Bytes remain after the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
    /// The body is not the value.
    #[error("frame body does not decode: {0}")]
    Body(String),
}

/// Encodes a value into a frame.
///
/// # Panics
/// When the value cannot be encoded or is over [`MAX_BODY_BYTES`]: sizes are bounded where values
/// enter, so this is a bug.
pub fn encode<T: Serialize>(kind: Kind, version: u8, value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(TYPICAL_BYTES);
    out.resize(HEADER_BYTES, 0);
    encode_body_into(value, &mut out);
    let body = out.len() - HEADER_BYTES;
    assert!(body <= MAX_BODY_BYTES, "a {kind:?} frame of {body} bytes is over the limit");
    out[0..2].copy_from_slice(&MAGIC);
    out[2] = kind as u8;
    out[3] = version;
    out[4..8].copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
    let sum = checksum(&out);
    out[8..12].copy_from_slice(&sum.to_le_bytes());
    out
}

/// Decodes a frame that must be of `kind` and of `version` or older, and must end with the bytes.
pub fn decode<T: DeserializeOwned>(
    kind: Kind,
    version: u8,
    bytes: &[u8],
) -> Result<T, FormatError> {
    let body = open(kind, version, bytes)?;
    decode_body(body)
}

/// Checks a frame's header, length and checksum, and gives its body.
pub fn open(kind: Kind, version: u8, bytes: &[u8]) -> Result<&[u8], FormatError> {
    if bytes.len() < HEADER_BYTES {
        return Err(FormatError::Short { have: bytes.len(), want: HEADER_BYTES });
    }
    if bytes[0..2] != MAGIC {
        return Err(FormatError::Magic);
    }
    let body_len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    if body_len > MAX_BODY_BYTES {
        return Err(FormatError::TooLong(body_len));
    }
    let want = HEADER_BYTES + body_len;
    if bytes.len() < want {
        return Err(FormatError::Short { have: bytes.len(), want });
    }
    if bytes.len() > want {
        return Err(FormatError::Trailing(bytes.len() - want));
    }
    let stored = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if stored != checksum(bytes) {
        return Err(FormatError::Checksum);
    }
    if bytes[2] != kind as u8 {
        return Err(FormatError::Kind { found: bytes[2], expected: kind as u8 });
    }
    if bytes[3] == 0 || bytes[3] > version {
        return Err(FormatError::Version { kind: bytes[2], found: bytes[3], known: version });
    }
    Ok(&bytes[HEADER_BYTES..])
}

/// Encodes a value without a frame, for rows and events that live inside a framed block.
pub fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(TYPICAL_BYTES);
    encode_body_into(value, &mut out);
    out
}

/// How many bytes [`encode_body`] would give.
#[expect(clippy::expect_used, reason = "counting cannot fail and every type is ours")]
pub fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    let mut size = SizeWriter::default();
    bincode::serde::encode_into_writer(value, &mut size, CONFIG).expect("a value of ours encodes");
    size.bytes_written
}

/// Decodes a value without a frame; every byte must be consumed.
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FormatError> {
    let (value, used) = bincode::serde::decode_from_slice::<T, Config>(body, CONFIG)
        .map_err(|error| FormatError::Body(error.to_string()))?;
    if used != body.len() {
        return Err(FormatError::Trailing(body.len() - used));
    }
    Ok(value)
}

#[expect(clippy::expect_used, reason = "writing to a vector cannot fail and every type is ours")]
fn encode_body_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, out, CONFIG).expect("a value of ours encodes");
}

fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[0..8]), &frame[HEADER_BYTES..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes_of_version_one() {
        let frame = encode(Kind::Row, 1, &(7_u64, "seat".to_owned()));
        assert_eq!(
            frame,
            [
                b'L', b'H', 2, 1, 6, 0, 0, 0, frame[8], frame[9], frame[10], frame[11], 7, 4, b's',
                b'e', b'a', b't'
            ]
        );
    }

    /// A body of a length and some of the bytes it promises, well framed.
    fn framed(inner: u64, rest: usize) -> Vec<u8> {
        let mut body = encode_body(&inner);
        body.resize(body.len() + rest, b'x');
        let mut frame = encode(Kind::Row, 1, &());
        frame.extend_from_slice(&body);
        frame[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
        let sum = checksum(&frame);
        frame[8..12].copy_from_slice(&sum.to_le_bytes());
        frame
    }

    #[test]
    fn an_inner_length_allocates_no_more_than_the_limit() {
        let refused = |inner, rest| match decode::<String>(Kind::Row, 1, &framed(inner, rest)) {
            Err(FormatError::Body(text)) => text,
            other => panic!("{inner}: {other:?}"),
        };
        let over = DECODE_LIMIT as u64;
        for inner in [over, 1 << 40, i64::MAX as u64, u64::MAX] {
            assert!(refused(inner, 3).contains("LimitExceeded"), "{inner}");
        }
        // Within the limit the bytes themselves are missed.
        assert!(refused(4, 3).contains("UnexpectedEnd"));
        assert_eq!(decode::<String>(Kind::Row, 1, &framed(3, 3)).as_deref(), Ok("xxx"));
    }

    /// What `encode` takes `decode` gives back, however thin the bytes are: the decoder counts a
    /// number by its type, not by the bytes it takes.
    #[test]
    fn the_longest_body_decodes() {
        let bytes = "x".repeat(MAX_BODY_BYTES - 5);
        assert_eq!(decode::<String>(Kind::Row, 1, &encode(Kind::Row, 1, &bytes)), Ok(bytes));
        let numbers = vec![1_u128; MAX_BODY_BYTES - 5];
        assert_eq!(decode::<Vec<u128>>(Kind::Row, 1, &encode(Kind::Row, 1, &numbers)), Ok(numbers));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(
            text in ".{0,64}",
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut frame = encode(Kind::Row, 1, &text);
            let position = at.index(frame.len());
            frame[position] ^= 1 << bit;
            prop_assert!(decode::<String>(Kind::Row, 1, &frame).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = decode::<Vec<String>>(Kind::Row, 1, &bytes);
        }
    }
}
