//! A signed part of a cluster's audit log, as a file that outlives the cluster.
//!
//! JSON Lines; each line is read as it comes, so a segment of any length takes no memory:
//!
//! ```text
//! {"type":"header","format":"leasehold-audit","version":1,"cluster_id":…,"epoch":…,
//!  "from":"1","to":"800","previous":hash of the event before the first}
//! {"type":"event","event":{what people and programs read},"bytes":base64 of what was hashed}
//! …one for each event…
//! {"type":"trailer","count":"800","hash":hash of the last event,"kid":…,"signature":compact JWS}
//! ```
//!
//! The bytes of an event begin with the hash of the event before it, and the hash of an event is
//! SHA-256 over its bytes: so the chain is checked by anybody, without knowing what the bytes mean.
//! What people read beside them is vouched for by the signature, which covers the hash of every
//! byte of the file before the trailer; the trailer itself has one spelling only. So no byte of a
//! segment can be changed.
//!
//! What it leaves to others: what an event says (`cloud::admin::audit`), where segments are kept,
//! and which keys are believed ([`KeySet`]; the cluster publishes its own).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::keys::PrivateKey;
use crate::offline::jws::{self, JwsError, SignError};
use crate::offline::key_set::KeySet;
use crate::wire::Id64;

/// The media type of a segment.
pub const CONTENT_TYPE: &str = "application/jsonl";
/// The `typ` of a segment's signature.
pub const TOKEN_TYPE: &str = "leasehold-audit+jwt";
/// No line is longer; a longer one is refused before it is read.
pub const MAX_LINE_BYTES: usize = 256 * 1024;
/// The version of the format that this release writes.
const VERSION: u32 = 1;
const FORMAT: &str = "leasehold-audit";

/// SHA-256 of an event, in lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventHash(pub [u8; 32]);

impl EventHash {
    /// The hash of an event's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its text: 64 digits.
    pub fn text(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// Reads a text of 64 lower-case digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

impl Serialize for EventHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

impl<'de> Deserialize<'de> for EventHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("want 64 lower-case hex digits"))
    }
}

/// Which part of which log a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The cluster.
    pub cluster_id: String,
    /// Its epoch when the segment was made.
    pub epoch: u32,
    /// Number of the first event.
    pub from: u64,
    /// Number of the last; not below `from`.
    pub to: u64,
    /// Hash of the event before the first; zeros before event 1.
    pub previous: EventHash,
}

/// Why a segment was not made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The events are not those that the header promises, or do not hang together.
    #[error("audit event {seq} does not follow from the one before")]
    Broken {
        /// Number of the event that does not fit.
        seq: u64,
    },
    /// What people read of an event is no JSON.
    #[error("audit event {seq} cannot be written")]
    Unwritable {
        /// Number of the event.
        seq: u64,
    },
    /// Fewer events than the header promises.
    #[error("the segment lacks audit event {seq}")]
    Unfinished {
        /// Number of the first that is missing.
        seq: u64,
    },
    /// The key failed.
    #[error("the segment could not be signed")]
    Sign(#[from] SignError),
}

/// Why a text is not a segment, or not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SegmentError {
    /// A line is not what stands there in a segment.
    #[error("line {line} is not what an audit segment has there")]
    Line {
        /// Which, from 1.
        line: u64,
    },
    /// A later version of the format.
    #[error("the segment has version {found} of its format; this release reads {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
    /// An event does not follow from the one before.
    #[error("audit event {seq} does not follow from the one before")]
    Broken {
        /// Number of the event that does not fit.
        seq: u64,
    },
    /// The text ends before the segment does.
    #[error("the segment ends before its trailer")]
    Truncated,
    /// Something stands after the trailer.
    #[error("something follows the trailer")]
    Trailing,
    /// The trailer does not belong to these lines.
    #[error("the trailer is not that of these events")]
    Trailer,
    /// The signature does not belong to the segment, or not to a key that is believed.
    #[error("the segment's signature does not verify")]
    Signature(#[source] JwsError),
    /// The signature is genuine and was made over other bytes: some byte was changed.
    #[error("the segment was changed after it was signed")]
    Changed,
}

/// A segment that was read to its end and believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSegment {
    /// Which part of which log it holds.
    pub header: SegmentHeader,
    /// How many events.
    pub count: u64,
    /// Hash of the last.
    pub hash: EventHash,
    /// Hash of the event before the last.
    pub before_last: EventHash,
    /// The key that signed.
    pub key_id: String,
    /// When, in Unix seconds.
    pub issued_s: u64,
}

/// Writes a segment line by line.
#[derive(Debug)]
pub struct SegmentWriter {
    header: SegmentHeader,
    state: ChainState,
    lines: Sha256,
}

/// Where a chain of events stands.
#[derive(Debug, Clone, Copy)]
struct ChainState {
    next: u64,
    hash: EventHash,
    before_last: EventHash,
}

impl ChainState {
    fn before(header: &SegmentHeader) -> Self {
        Self { next: header.from, hash: header.previous, before_last: header.previous }
    }

    /// Takes the next event; `false` when it does not follow.
    fn follow(&mut self, bytes: &[u8]) -> bool {
        let follows = bytes.get(..32) == Some(&self.hash.0[..]);
        if follows {
            self.before_last = self.hash;
            self.hash = EventHash::of(bytes);
            self.next = self.next.saturating_add(1);
        }
        follows
    }
}

impl SegmentWriter {
    /// Begins a segment; gives its first line, with the line end.
    pub fn begin(header: SegmentHeader) -> (Self, String) {
        let line = text_line(&HeaderLine::of(&header));
        let mut writer = Self { state: ChainState::before(&header), header, lines: Sha256::new() };
        writer.lines.update(&line);
        (writer, line)
    }

    /// The line of the next event: what people read of it, and the bytes that were hashed.
    ///
    /// # Errors
    /// When it does not follow from the one before, or is beyond the last.
    pub fn event<T: Serialize>(&mut self, event: &T, bytes: &[u8]) -> Result<String, WriteError> {
        let seq = self.state.next;
        if seq > self.header.to || !self.state.follow(bytes) {
            return Err(WriteError::Broken { seq });
        }
        let unwritable = |_| WriteError::Unwritable { seq };
        let event = serde_json::value::to_raw_value(event).map_err(unwritable)?;
        let line = EventLine { tag: EventTag::Event, event, bytes: STANDARD.encode(bytes) };
        let line = text_line(&line);
        self.lines.update(&line);
        Ok(line)
    }

    /// The last line, signed.
    ///
    /// # Errors
    /// When events are missing, or the key is no Ed25519 key.
    pub fn finish(self, key: &PrivateKey, issued_s: u64) -> Result<String, WriteError> {
        let Self { header, state, lines } = self;
        if state.next <= header.to {
            return Err(WriteError::Unfinished { seq: state.next });
        }
        let claims = Claims::of(&header, &state, &lines.finalize(), issued_s);
        let signature = jws::sign(key, TOKEN_TYPE, &claims)?;
        let kid = jws::Unverified::parse(&signature).map_err(SignError::Claims)?.header.kid;
        let trailer = TrailerLine {
            tag: TrailerTag::Trailer,
            count: claims.count,
            hash: claims.hash,
            kid,
            signature,
        };
        Ok(text_line(&trailer))
    }
}

/// Reads a segment line by line and checks the chain as it goes.
#[derive(Debug, Default)]
pub struct SegmentReader {
    header: Option<SegmentHeader>,
    state: Option<ChainState>,
    trailer: Option<TrailerLine>,
    lines: Sha256,
    line: u64,
}

/// What a line holds.
#[derive(Debug, Clone)]
pub enum SegmentLine {
    /// Which part of which log follows.
    Header(SegmentHeader),
    /// An event: its number, what people read of it as JSON, and the bytes that were hashed.
    Event {
        /// Its number.
        seq: u64,
        /// JSON, not believed before the end.
        event: Box<RawValue>,
        /// What was hashed.
        bytes: Vec<u8>,
    },
    /// The end; [`SegmentReader::finish`] says whether all of it is to be believed.
    Trailer,
}

impl SegmentReader {
    /// Takes the next line, without its line end.
    ///
    /// # Errors
    /// When it is not what stands there, or an event does not follow from the one before.
    pub fn line(&mut self, line: &[u8]) -> Result<SegmentLine, SegmentError> {
        self.line += 1;
        let wrong = SegmentError::Line { line: self.line };
        if self.trailer.is_some() {
            return Err(SegmentError::Trailing);
        }
        let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= MAX_LINE_BYTES);
        let text = text.ok_or(wrong.clone())?;
        let (Some(header), Some(state)) = (&self.header, &mut self.state) else {
            return self.begin(text);
        };
        if state.next > header.to {
            let trailer: TrailerLine = serde_json::from_str(text).map_err(|_| wrong.clone())?;
            // One spelling only: nothing covers these bytes but their comparison.
            if text_line(&trailer).trim_end() != text {
                return Err(wrong);
            }
            self.trailer = Some(trailer);
            return Ok(SegmentLine::Trailer);
        }
        let EventLine { tag: _, event, bytes } =
            serde_json::from_str(text).map_err(|_| wrong.clone())?;
        let bytes = STANDARD.decode(bytes).map_err(|_| wrong)?;
        let seq = state.next;
        if !state.follow(&bytes) {
            return Err(SegmentError::Broken { seq });
        }
        self.note(text);
        Ok(SegmentLine::Event { seq, event, bytes })
    }

    /// How many events were read.
    pub fn count(&self) -> u64 {
        let state = self.header.as_ref().zip(self.state.as_ref());
        state.map_or(0, |(header, state)| state.next - header.from)
    }

    /// Whether the trailer was read.
    pub fn is_at_end(&self) -> bool {
        self.trailer.is_some()
    }

    /// Ends the reading: the text was whole, and a key of the set signed every byte of it.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn finish(self, keys: &KeySet) -> Result<VerifiedSegment, SegmentError> {
        let (Some(header), Some(state), Some(trailer)) = (self.header, self.state, self.trailer)
        else {
            return Err(SegmentError::Truncated);
        };
        let signed: Claims =
            jws::verify(&trailer.signature, TOKEN_TYPE, keys).map_err(SegmentError::Signature)?;
        let token = jws::Unverified::parse(&trailer.signature);
        let key_id = token.map_err(SegmentError::Signature)?.header.kid;
        let found = Claims::of(&header, &state, &self.lines.finalize(), signed.iat);
        let named = (trailer.count, trailer.hash, &trailer.kid);
        if named != (found.count, found.hash, &key_id) {
            return Err(SegmentError::Trailer);
        }
        if signed != found {
            return Err(SegmentError::Changed);
        }
        Ok(VerifiedSegment {
            count: found.count.0,
            hash: state.hash,
            before_last: state.before_last,
            key_id,
            issued_s: signed.iat,
            header,
        })
    }

    fn begin(&mut self, text: &str) -> Result<SegmentLine, SegmentError> {
        let wrong = SegmentError::Line { line: self.line };
        let line: HeaderLine = serde_json::from_str(text).map_err(|_| wrong.clone())?;
        if line.format != FORMAT {
            return Err(wrong);
        }
        if line.version != VERSION {
            return Err(SegmentError::Version { found: line.version });
        }
        let header = SegmentHeader {
            cluster_id: line.cluster_id,
            epoch: line.epoch,
            from: line.from.0,
            to: line.to.0,
            previous: line.previous,
        };
        // Nothing follows the greatest number.
        if header.from == 0 || header.to < header.from || header.to == u64::MAX {
            return Err(wrong);
        }
        self.note(text);
        self.state = Some(ChainState::before(&header));
        self.header = Some(header.clone());
        Ok(SegmentLine::Header(header))
    }

    fn note(&mut self, line: &str) {
        self.lines.update(line);
        self.lines.update("\n");
    }
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    /// The cluster.
    iss: String,
    epoch: u32,
    from: Id64,
    to: Id64,
    previous: EventHash,
    count: Id64,
    hash: EventHash,
    /// SHA-256 of every byte before the trailer.
    lines: EventHash,
    iat: u64,
}

impl Claims {
    fn of(header: &SegmentHeader, state: &ChainState, lines: &[u8], issued_s: u64) -> Self {
        let mut hash = EventHash::default();
        hash.0.copy_from_slice(lines);
        Self {
            iss: header.cluster_id.clone(),
            epoch: header.epoch,
            from: Id64(header.from),
            to: Id64(header.to),
            previous: header.previous,
            count: Id64(state.next - header.from),
            hash: state.hash,
            lines: hash,
            iat: issued_s,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    #[serde(rename = "type")]
    tag: HeaderTag,
    format: String,
    version: u32,
    cluster_id: String,
    epoch: u32,
    from: Id64,
    to: Id64,
    previous: EventHash,
}

impl HeaderLine {
    fn of(header: &SegmentHeader) -> Self {
        Self {
            tag: HeaderTag::Header,
            format: FORMAT.to_owned(),
            version: VERSION,
            cluster_id: header.cluster_id.clone(),
            epoch: header.epoch,
            from: Id64(header.from),
            to: Id64(header.to),
            previous: header.previous,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventLine {
    #[serde(rename = "type")]
    tag: EventTag,
    event: Box<RawValue>,
    bytes: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrailerLine {
    #[serde(rename = "type")]
    tag: TrailerTag,
    count: Id64,
    hash: EventHash,
    kid: String,
    signature: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HeaderTag {
    Header,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum EventTag {
    Event,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TrailerTag {
    Trailer,
}

#[expect(clippy::expect_used, reason = "texts, numbers and JSON that was written before")]
fn text_line<T: Serialize>(line: &T) -> String {
    serde_json::to_string(line).expect("a line is JSON") + "\n"
}
