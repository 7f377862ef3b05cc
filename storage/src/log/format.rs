//! The stored layout of the log: segment header, group, record and durable mark.
//!
//! Laid out by hand and not through a serializer, because recovery has to judge bytes that may be
//! torn at any sector, and must find the next group after a bad one. All integers are little
//! endian.
//!
//! ```text
//! segment = header (4,096 bytes), then groups, then zeros to its length
//!
//! header   0  8  magic "LHWALSEG"          group     0  4  magic "LHWG"
//!          8  4  format version                      4  4  length of the body
//!         12  4  CRC-32C, see below                  8  8  group number, from 1
//!         16 16  identity of the log                16  8  hash of the group before
//!         32  8  segment number, from 1             24  4  records in the body
//!         40  8  length of the file                 28  4  CRC-32C, see below
//!         48  8  number of its first group          32  n  body: records, end to end
//!         56  8  hash of the group before               p  zeros to a multiple of 512
//!         64  1  which of the next are there
//!         65  3  zero                       record   0  1  tag
//!         68  2  length of the vote                  1  1  kind of the entry, or a flag
//!         70  2  length of `committed`               2  2  zero
//!         72 16  purged (index, term)                4  4  length of the payload
//!         88 16  last (index, term)                  8  8  index
//!        104 16  highest ever (index, term)         16  8  term
//!        120  n  vote, then `committed`             24  4  CRC-32C of 0..24 and the payload
//!                                                   28  n  payload
//! mark     0  8  magic "LHWALMRK"
//!          8  4  format version
//!         12  4  CRC-32C of the rest
//!         16 16  identity of the log
//!         32  8  segment number
//!         40  8  group number: it and all before it are durable
//!         48  8  hash of that group
//! ```
//!
//! * A group starts at a multiple of the sector, so no sector holds bytes of two groups: a torn
//!   write cannot reach a group that was acknowledged, and recovery looks for groups only there.
//! * Every CRC starts with the log's random identity, so a group of another log, or one that sits
//!   inside a payload, is not taken for one of ours. The group's CRC covers its padding too.
//! * The hash of a group is the first 8 bytes of SHA-256 over its 32-byte header, which commits to
//!   the body through the CRC and to all groups before through their hashes. It finds a whole and
//!   valid group in the wrong place. It guards against accidents, not against an attacker.
//! * A record has a CRC of its own, so that one entry can be read and checked without its group.
//! * A segment's header is also a durable mark: all groups before its first one were synced before
//!   it was written.

use sha2::{Digest, Sha256};

use super::LogPosition;

/// Version of everything in this module.
pub(crate) const VERSION: u32 = 1;
/// Groups start at multiples of this.
pub(crate) const SECTOR: usize = 512;
/// Bytes of a segment before its first group.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 4096;
/// Bytes of a group before its body.
pub(crate) const GROUP_HEADER_BYTES: usize = 32;
/// Bytes of a record before its payload.
pub(crate) const RECORD_HEADER_BYTES: usize = 28;
/// Bytes of the durable mark's file.
pub(crate) const MARK_BYTES: usize = 56;
/// No vote and no `committed` is longer, so both fit into a segment's header.
pub(crate) const MAX_MARKER_BYTES: usize = 1024;

/// No log counts its groups or entries so far. Whoever reads adds one to what it read; a number
/// above this was made by no writer, whatever its sum says.
const MAX_COUNT: u64 = u64::MAX >> 1;

const SEGMENT_MAGIC: [u8; 8] = *b"LHWALSEG";
const MARK_MAGIC: [u8; 8] = *b"LHWALMRK";
const GROUP_MAGIC: [u8; 4] = *b"LHWG";

const TAG_ENTRY: u8 = 1;
const TAG_VOTE: u8 = 2;
const TAG_COMMITTED: u8 = 3;
const TAG_TRUNCATE: u8 = 4;
const TAG_PURGE: u8 = 5;

/// The random name of one log, chosen when its directory was made.
pub(crate) type Identity = [u8; 16];

/// What the log amounts to beside its entries: repeated at the head of each segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Summary {
    pub(crate) vote: Option<Vec<u8>>,
    pub(crate) committed: Option<Vec<u8>>,
    pub(crate) purged: Option<LogPosition>,
    pub(crate) last: Option<LogPosition>,
    /// The greatest (term, index) that was ever durable, truncated or not.
    pub(crate) highest: Option<LogPosition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) identity: Identity,
    pub(crate) segment: u64,
    pub(crate) len: u64,
    pub(crate) first_group: u64,
    pub(crate) hash_before: u64,
    pub(crate) summary: Summary,
}

/// The durable mark: this group and all before it are on disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) identity: Identity,
    pub(crate) segment: u64,
    pub(crate) group: u64,
    pub(crate) hash: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Entry {
        index: u64,
        term: u64,
        kind: u8,
        payload: &'a [u8],
    },
    Vote(&'a [u8]),
    Committed(&'a [u8]),
    /// Nothing after this entry is in the log; `None`: nothing at all.
    Truncate(Option<LogPosition>),
    /// This entry and all before it are forgotten.
    Purge(LogPosition),
}

/// A whole and valid group inside a segment's bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) number: u64,
    pub(crate) hash_before: u64,
    pub(crate) hash: u64,
    pub(crate) records: u32,
    pub(crate) body: &'a [u8],
    /// Bytes with header and padding.
    pub(crate) len: usize,
}

/// Why bytes are not the header, group or record that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    #[error("the {0} is cut short")]
    Short(&'static str),
    #[error("no {0} starts here")]
    Magic(&'static str),
    #[error("the checksum of the {0} does not match")]
    Checksum(&'static str),
    #[error("the {0} has format version {1}")]
    Version(&'static str, u32),
    #[error("the {0} belongs to another log")]
    Identity(&'static str),
    #[error("the {0} has a field that cannot be")]
    Field(&'static str),
}

/// Rounds a length up to whole sectors.
pub(crate) fn to_sectors(len: usize) -> usize {
    len.div_ceil(SECTOR) * SECTOR
}

impl SegmentHeader {
    /// The header's 4,096 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; SEGMENT_HEADER_BYTES];
        let Summary { vote, committed, purged, last, highest } = &self.summary;
        put(&mut out, 0, &SEGMENT_MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 16, &self.identity);
        put(&mut out, 32, &self.segment.to_le_bytes());
        put(&mut out, 40, &self.len.to_le_bytes());
        put(&mut out, 48, &self.first_group.to_le_bytes());
        put(&mut out, 56, &self.hash_before.to_le_bytes());
        for (bit, (at, position)) in [(72, purged), (88, last), (104, highest)].iter().enumerate() {
            if let Some(position) = position {
                out[64] |= 1 << bit;
                put_position(&mut out, *at, *position);
            }
        }
        let mut at = 120;
        for (bit, (len_at, bytes)) in [(68, vote), (70, committed)].iter().enumerate() {
            if let Some(bytes) = bytes {
                assert!(bytes.len() <= MAX_MARKER_BYTES, "a vote or committed is over its limit");
                out[64] |= 8 << bit;
                put(&mut out, *len_at, &(bytes.len() as u16).to_le_bytes());
                put(&mut out, at, bytes);
                at += bytes.len();
            }
        }
        let sum = checksum(&self.identity, &[&out[..12], &out[16..]]);
        put(&mut out, 12, &sum.to_le_bytes());
        out
    }

    /// Reads a header of the log named `identity`.
    pub(crate) fn decode(bytes: &[u8], identity: &Identity) -> Result<Self, FormatError> {
        const WHAT: &str = "segment header";
        if bytes.len() < SEGMENT_HEADER_BYTES {
            return Err(FormatError::Short(WHAT));
        }
        let bytes = &bytes[..SEGMENT_HEADER_BYTES];
        let found = check_head(bytes, SEGMENT_MAGIC, WHAT)?;
        if found != *identity {
            return Err(FormatError::Identity(WHAT));
        }
        let flags = bytes[64];
        let position = |bit: u8, at| (flags & (1 << bit) != 0).then(|| get_position(bytes, at));
        let vote_len = usize::from(u16::from_le_bytes(get(bytes, 68)));
        let committed_len = usize::from(u16::from_le_bytes(get(bytes, 70)));
        if vote_len > MAX_MARKER_BYTES || committed_len > MAX_MARKER_BYTES {
            return Err(FormatError::Field(WHAT));
        }
        let committed_at = 120 + vote_len;
        let committed = bytes[committed_at..committed_at + committed_len].to_vec();
        let first_group = u64::from_le_bytes(get(bytes, 48));
        let mut indexes = [(0, 72), (1, 88), (2, 104)]
            .into_iter()
            .filter_map(|(bit, at)| position(bit, at).map(|position: LogPosition| position.index));
        if first_group == 0 || first_group > MAX_COUNT || indexes.any(|index| index > MAX_COUNT) {
            return Err(FormatError::Field(WHAT));
        }
        Ok(Self {
            identity: found,
            segment: u64::from_le_bytes(get(bytes, 32)),
            len: u64::from_le_bytes(get(bytes, 40)),
            first_group,
            hash_before: u64::from_le_bytes(get(bytes, 56)),
            summary: Summary {
                vote: (flags & 8 != 0).then(|| bytes[120..committed_at].to_vec()),
                committed: (flags & 16 != 0).then_some(committed),
                purged: position(0, 72),
                last: position(1, 88),
                highest: position(2, 104),
            },
        })
    }
}

impl Mark {
    /// The mark's 56 bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; MARK_BYTES];
        put(&mut out, 0, &MARK_MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 16, &self.identity);
        put(&mut out, 32, &self.segment.to_le_bytes());
        put(&mut out, 40, &self.group.to_le_bytes());
        put(&mut out, 48, &self.hash.to_le_bytes());
        let sum = checksum(&self.identity, &[&out[..12], &out[16..]]);
        put(&mut out, 12, &sum.to_le_bytes());
        out
    }

    /// Reads a mark; whose it is, is in it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "durable mark";
        if bytes.len() != MARK_BYTES {
            return Err(FormatError::Short(WHAT));
        }
        let identity = check_head(bytes, MARK_MAGIC, WHAT)?;
        Ok(Self {
            identity,
            segment: u64::from_le_bytes(get(bytes, 32)),
            group: u64::from_le_bytes(get(bytes, 40)),
            hash: u64::from_le_bytes(get(bytes, 48)),
        })
    }
}

/// Starts a group in an empty buffer; records are pushed behind it.
pub(crate) fn start_group(out: &mut Vec<u8>) {
    out.clear();
    out.resize(GROUP_HEADER_BYTES, 0);
}

/// Appends one record to a started group.
pub(crate) fn push_record(out: &mut Vec<u8>, record: &Record<'_>) {
    let none = LogPosition { index: 0, term: 0 };
    let (tag, kind, position, payload): (u8, u8, LogPosition, &[u8]) = match *record {
        Record::Entry { index, term, kind, payload } => {
            (TAG_ENTRY, kind, LogPosition { index, term }, payload)
        }
        Record::Vote(bytes) => (TAG_VOTE, 0, none, bytes),
        Record::Committed(bytes) => (TAG_COMMITTED, 0, none, bytes),
        Record::Truncate(kept) => {
            (TAG_TRUNCATE, u8::from(kept.is_some()), kept.unwrap_or(none), &[])
        }
        Record::Purge(upto) => (TAG_PURGE, 0, upto, &[]),
    };
    let mut head = [0; RECORD_HEADER_BYTES];
    head[0] = tag;
    head[1] = kind;
    put(&mut head, 4, &(payload.len() as u32).to_le_bytes());
    put_position(&mut head, 8, position);
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..24]), payload);
    put(&mut head, 24, &sum.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
}

/// Pads a group, fills in its header, and gives its hash.
pub(crate) fn finish_group(
    out: &mut Vec<u8>,
    identity: &Identity,
    number: u64,
    hash_before: u64,
    records: u32,
) -> u64 {
    let body_len = out.len() - GROUP_HEADER_BYTES;
    out.resize(to_sectors(out.len()), 0);
    put(out, 0, &GROUP_MAGIC);
    put(out, 4, &(body_len as u32).to_le_bytes());
    put(out, 8, &number.to_le_bytes());
    put(out, 16, &hash_before.to_le_bytes());
    put(out, 24, &records.to_le_bytes());
    let sum = checksum(identity, &[&out[..28], &out[GROUP_HEADER_BYTES..]]);
    put(out, 28, &sum.to_le_bytes());
    hash_of(&out[..GROUP_HEADER_BYTES])
}

/// Reads the group that starts at the first of `bytes`.
pub(crate) fn read_group<'a>(
    bytes: &'a [u8],
    identity: &Identity,
) -> Result<Group<'a>, FormatError> {
    const WHAT: &str = "group";
    if bytes.len() < GROUP_HEADER_BYTES {
        return Err(FormatError::Short(WHAT));
    }
    if bytes[..4] != GROUP_MAGIC {
        return Err(FormatError::Magic(WHAT));
    }
    let body_len = u32::from_le_bytes(get(bytes, 4)) as usize;
    let len = to_sectors(GROUP_HEADER_BYTES + body_len);
    if bytes.len() < len {
        return Err(FormatError::Short(WHAT));
    }
    let sum = checksum(identity, &[&bytes[..28], &bytes[GROUP_HEADER_BYTES..len]]);
    if u32::from_le_bytes(get(bytes, 28)) != sum {
        return Err(FormatError::Checksum(WHAT));
    }
    Ok(Group {
        number: u64::from_le_bytes(get(bytes, 8)),
        hash_before: u64::from_le_bytes(get(bytes, 16)),
        hash: hash_of(&bytes[..GROUP_HEADER_BYTES]),
        records: u32::from_le_bytes(get(bytes, 24)),
        body: &bytes[GROUP_HEADER_BYTES..GROUP_HEADER_BYTES + body_len],
        len,
    })
}

/// The number in what looks like a group's header, without checking the group.
pub(crate) fn group_number(bytes: &[u8]) -> Option<u64> {
    let looks_like_one = bytes.len() >= GROUP_HEADER_BYTES && bytes[..4] == GROUP_MAGIC;
    looks_like_one.then(|| u64::from_le_bytes(get(bytes, 8)))
}

/// Reads the record that starts at the first of `bytes`, and tells its length.
pub(crate) fn read_record(bytes: &[u8]) -> Result<(Record<'_>, usize), FormatError> {
    const WHAT: &str = "record";
    if bytes.len() < RECORD_HEADER_BYTES {
        return Err(FormatError::Short(WHAT));
    }
    let len = RECORD_HEADER_BYTES + u32::from_le_bytes(get(bytes, 4)) as usize;
    if bytes.len() < len {
        return Err(FormatError::Short(WHAT));
    }
    let payload = &bytes[RECORD_HEADER_BYTES..len];
    let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..24]), payload);
    if u32::from_le_bytes(get(bytes, 24)) != sum {
        return Err(FormatError::Checksum(WHAT));
    }
    let position = get_position(bytes, 8);
    if position.index > MAX_COUNT {
        return Err(FormatError::Field(WHAT));
    }
    let record = match (bytes[0], bytes[1]) {
        (TAG_ENTRY, kind) => {
            Record::Entry { index: position.index, term: position.term, kind, payload }
        }
        (TAG_VOTE, 0) => Record::Vote(payload),
        (TAG_COMMITTED, 0) => Record::Committed(payload),
        (TAG_TRUNCATE, 0) => Record::Truncate(None),
        (TAG_TRUNCATE, 1) => Record::Truncate(Some(position)),
        (TAG_PURGE, 0) => Record::Purge(position),
        _ => return Err(FormatError::Field(WHAT)),
    };
    Ok((record, len))
}

fn check_head(bytes: &[u8], magic: [u8; 8], what: &'static str) -> Result<Identity, FormatError> {
    if bytes[..8] != magic {
        return Err(FormatError::Magic(what));
    }
    let identity: Identity = get(bytes, 16);
    let sum = checksum(&identity, &[&bytes[..12], &bytes[16..]]);
    if u32::from_le_bytes(get(bytes, 12)) != sum {
        return Err(FormatError::Checksum(what));
    }
    let version = u32::from_le_bytes(get(bytes, 8));
    if version == 0 || version > VERSION {
        return Err(FormatError::Version(what, version));
    }
    Ok(identity)
}

fn checksum(identity: &Identity, parts: &[&[u8]]) -> u32 {
    parts.iter().fold(crc32c::crc32c(identity), |sum, part| crc32c::crc32c_append(sum, part))
}

fn hash_of(header: &[u8]) -> u64 {
    let digest = Sha256::digest(header);
    u64::from_le_bytes(get(digest.as_slice(), 0))
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn put_position(out: &mut [u8], at: usize, position: LogPosition) {
    put(out, at, &position.index.to_le_bytes());
    put(out, at + 8, &position.term.to_le_bytes());
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

fn get_position(bytes: &[u8], at: usize) -> LogPosition {
    LogPosition {
        index: u64::from_le_bytes(get(bytes, at)),
        term: u64::from_le_bytes(get(bytes, at + 8)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDENTITY: Identity = *b"0123456789abcdef";

    fn header() -> SegmentHeader {
        SegmentHeader {
            identity: IDENTITY,
            segment: 7,
            len: 64 << 20,
            first_group: 300,
            hash_before: 0x1122_3344_5566_7788,
            summary: Summary {
                vote: Some(b"vote".to_vec()),
                committed: Some(b"committed".to_vec()),
                purged: Some(LogPosition { index: 10, term: 2 }),
                last: Some(LogPosition { index: 99, term: 4 }),
                highest: Some(LogPosition { index: 120, term: 4 }),
            },
        }
    }

    /// Written with a right sum, and still made by no writer.
    #[test]
    fn numbers_that_no_log_reaches_are_refused() {
        let refused = |change: &dyn Fn(&mut SegmentHeader)| {
            let mut header = header();
            change(&mut header);
            let read = SegmentHeader::decode(&header.encode(), &IDENTITY);
            assert!(matches!(read, Err(FormatError::Field(_))), "{header:?}");
        };
        let far = LogPosition { index: u64::MAX, term: 2 };
        refused(&|header| header.first_group = 0);
        refused(&|header| header.first_group = u64::MAX);
        refused(&|header| header.summary.purged = Some(far));
        refused(&|header| header.summary.last = Some(far));
        refused(&|header| header.summary.highest = Some(far));
        for record in [
            Record::Entry { index: u64::MAX, term: 5, kind: 3, payload: b"payload" },
            Record::Truncate(Some(far)),
            Record::Purge(far),
        ] {
            let mut out = Vec::new();
            push_record(&mut out, &record);
            assert!(matches!(read_record(&out), Err(FormatError::Field(_))), "{record:?}");
        }
    }

    /// A group with one record of every kind.
    fn group() -> (Vec<u8>, u64) {
        let mut out = Vec::new();
        start_group(&mut out);
        let position = LogPosition { index: 100, term: 5 };
        for record in [
            Record::Entry { index: 101, term: 5, kind: 3, payload: b"payload" },
            Record::Vote(b"v"),
            Record::Truncate(Some(position)),
            Record::Truncate(None),
            Record::Purge(position),
            Record::Committed(b"c"),
        ] {
            push_record(&mut out, &record);
        }
        let hash = finish_group(&mut out, &IDENTITY, 300, 0x1122_3344_5566_7788, 6);
        (out, hash)
    }

    fn hex(bytes: &[u8]) -> String {
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[..used].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn check_golden(bytes: &[u8], len: usize, expected: &[&str]) {
        assert_eq!(bytes.len(), len);
        assert_eq!(hex(bytes), expected.concat());
    }

    #[test]
    fn golden_bytes_of_a_segment_header_of_version_one() {
        check_golden(
            &header().encode(),
            SEGMENT_HEADER_BYTES,
            &[
                "4c4857414c53454701000000e250c378",
                "30313233343536373839616263646566",
                "07000000000000000000000400000000",
                "2c010000000000008877665544332211",
                "1f00000004000900",
                "0a000000000000000200000000000000",
                "63000000000000000400000000000000",
                "78000000000000000400000000000000",
                "766f7465636f6d6d6974746564",
            ],
        );
    }

    #[test]
    fn golden_bytes_of_a_group_of_version_one() {
        let (bytes, hash) = group();
        check_golden(
            &bytes,
            SECTOR,
            &[
                "4c485747b10000002c01000000000000",
                "887766554433221106000000570fd708",
                "0103000007000000650000000000000005000000000000008f93694d",
                "7061796c6f6164",
                "020000000100000000000000000000000000000000000000b2e6eb1b",
                "76",
                "0401000000000000640000000000000005000000000000002f5b3ec9",
                "040000000000000000000000000000000000000000000000340b1c66",
                "0500000000000000640000000000000005000000000000009969a206",
                "0300000001000000000000000000000000000000000000005cfe7010",
                "63",
            ],
        );
        assert_eq!(hash, 0xe378_3909_c16a_f047);
    }

    #[test]
    fn golden_bytes_of_a_durable_mark_of_version_one() {
        let mark = Mark { identity: IDENTITY, segment: 7, group: 300, hash: 0x1122_3344 };
        check_golden(
            &mark.encode(),
            MARK_BYTES,
            &[
                "4c4857414c4d524b010000000cd42089",
                "30313233343536373839616263646566",
                "07000000000000002c01000000000000",
                "44332211",
            ],
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(SegmentHeader::decode(&header().encode(), &IDENTITY), Ok(header()));
        let bare = SegmentHeader { summary: Summary::default(), ..header() };
        assert_eq!(SegmentHeader::decode(&bare.encode(), &IDENTITY), Ok(bare));
        let mark = Mark { identity: IDENTITY, segment: 7, group: 300, hash: 9 };
        assert_eq!(Mark::decode(&mark.encode()), Ok(mark));

        let (bytes, hash) = group();
        let group = read_group(&bytes, &IDENTITY).unwrap();
        assert_eq!((group.number, group.records, group.len), (300, 6, SECTOR));
        assert_eq!((group.hash_before, group.hash), (0x1122_3344_5566_7788, hash));
        let (record, len) = read_record(group.body).unwrap();
        let entry = Record::Entry { index: 101, term: 5, kind: 3, payload: b"payload" };
        assert_eq!((record, len), (entry, RECORD_HEADER_BYTES + 7));
        assert_eq!(read_record(&group.body[len..]).unwrap().0, Record::Vote(b"v"));
    }

    #[test]
    fn a_group_of_another_log_is_none() {
        let (bytes, _) = group();
        let mut other = IDENTITY;
        other[0] ^= 1;
        assert_eq!(read_group(&bytes, &other).unwrap_err(), FormatError::Checksum("group"));
        let result = SegmentHeader::decode(&header().encode(), &other);
        assert_eq!(result, Err(FormatError::Identity("segment header")));
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let sum = checksum(&IDENTITY, &[&bytes[..12], &bytes[16..]]);
        put(&mut bytes, 12, &sum.to_le_bytes());
        let result = SegmentHeader::decode(&bytes, &IDENTITY);
        assert_eq!(result, Err(FormatError::Version("segment header", 2)));
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_found(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let (mut bytes, _) = group();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(read_group(&bytes, &IDENTITY).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            magic in any::<bool>(),
        ) {
            if magic && bytes.len() >= 4 {
                put(&mut bytes, 0, &GROUP_MAGIC);
            }
            let _ = read_group(&bytes, &IDENTITY);
            let _ = read_record(&bytes);
            let _ = Mark::decode(&bytes);
            bytes.resize(SEGMENT_HEADER_BYTES, 0);
            let _ = SegmentHeader::decode(&bytes, &IDENTITY);
        }
    }
}
