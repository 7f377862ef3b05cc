//! The snapshot file against changes of every byte, and its bytes against what they were.

use lease::format::{self, HEADER_BYTES, Kind};
use proptest::prelude::*;

use super::*;

type TestRow = (u8, Vec<u8>, Vec<u8>);

fn meta() -> CheckpointMeta {
    CheckpointMeta {
        applied: Some(Applied { index: 300, term: 2 }),
        membership: vec![1, 2, 3],
        state_sum: [9; 32],
        epoch: vec![4],
    }
}

fn totals(rows: &[TestRow]) -> RowTotals {
    let mut totals = RowTotals::default();
    for (table, key, value) in rows {
        totals.add(*table, key, value);
    }
    totals
}

fn write(rows: &[TestRow], totals: RowTotals) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), &meta(), totals).unwrap();
    for (table, key, value) in rows {
        writer.row(*table, key.clone(), value.clone()).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> Result<(Option<CheckpointMeta>, Vec<TestRow>), SnapshotError> {
    let mut reader = SnapshotReader::new(bytes);
    let (mut meta, mut rows) = (None, Vec::new());
    while let Some(item) = reader.next()? {
        match item {
            SnapshotItem::Meta(found, _) => meta = Some(found),
            SnapshotItem::Row { table, key, value } => rows.push((table, key, value)),
        }
    }
    Ok((meta, rows))
}

fn some_rows() -> Vec<TestRow> {
    vec![
        (1, b"a".to_vec(), b"one".to_vec()),
        (1, b"b".to_vec(), b"two".to_vec()),
        (7, Vec::new(), vec![5; 300]),
    ]
}

/// The frames of a snapshot one by one.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        frames.push(bytes[at..at + HEADER_BYTES + length].to_vec());
        at += HEADER_BYTES + length;
    }
    frames
}

fn check_corrupt(bytes: &[u8], what: &str) {
    let found = read(bytes);
    assert!(matches!(found, Err(SnapshotError::Corrupt { .. })), "{what}: {found:?}");
}

#[test]
fn the_first_frames_have_the_bytes_of_version_1() {
    let bytes = write(&some_rows(), totals(&some_rows()));
    let frames = frames(&bytes);
    let hex = |frame: &[u8]| -> String { frame.iter().map(|byte| format!("{byte:02x}")).collect() };
    let found: Vec<String> = [0, 1, 2, 5].iter().map(|at| hex(&frames[*at])).collect();
    let expected = [
        "4c48060101000000963667f600",
        "4c480601030000003f260f2c010100",
        concat!(
            "4c48060150000000f851950a0201fb2c010203010203",
            "0909090909090909090909090909090909090909090909090909090909090909",
            "01040",
            "3fb340158f9e484f539d7f78254b862d6d6b31889e2b10a0fa39057cb4612829a20c7bd"
        ),
        "4c4806010e000000730f26f803020161036f6e6501620374776f",
    ];
    assert_eq!(found, expected);
}

#[test]
fn every_changed_bit_and_every_cut_is_found() {
    let rows = some_rows();
    let whole = write(&rows, totals(&rows));
    assert_eq!(read(&whole).unwrap(), (Some(meta()), rows));
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            check_corrupt(&bytes, &format!("bit {bit} of byte {at}"));
        }
        check_corrupt(&whole[..at], &format!("cut at {at}"));
    }
    check_corrupt(&[whole.as_slice(), b"L"].concat(), "a byte more");
    check_corrupt(&[whole.as_slice(), &whole].concat(), "twice");
}

#[test]
fn a_frame_that_is_lost_doubled_or_moved_is_found() {
    let rows = some_rows();
    let frames = frames(&write(&rows, totals(&rows)));
    for at in 0..frames.len() {
        let mut lost = frames.clone();
        lost.remove(at);
        check_corrupt(&lost.concat(), &format!("without frame {at}"));
        let mut doubled = frames.clone();
        doubled.insert(at, frames[at].clone());
        check_corrupt(&doubled.concat(), &format!("frame {at} twice"));
        for other in at + 1..frames.len() {
            let mut moved = frames.clone();
            moved.swap(at, other);
            if moved != frames {
                check_corrupt(&moved.concat(), &format!("frames {at} and {other} swapped"));
            }
        }
    }
}

#[test]
fn rows_that_are_not_what_the_sender_counted_are_found() {
    let rows = some_rows();
    for kept in 0..rows.len() {
        check_corrupt(&write(&rows[..kept], totals(&rows)), &format!("{kept} rows"));
    }
    let mut other = rows.clone();
    other[1].2 = b"too".to_vec();
    check_corrupt(&write(&other, totals(&rows)), "another value");
    let mut swapped = rows.clone();
    swapped.swap(0, 1);
    check_corrupt(&write(&swapped, totals(&rows)), "keys out of order");
}

#[test]
fn what_a_newer_build_wrote_is_not_called_corrupt() {
    let header = format::encode(Kind::Snapshot, VERSION, &Record::Header);
    let section = format::encode(Kind::Snapshot, VERSION, &Record::Section { tag: 3, table: 0 });
    let newer_header = format::encode(Kind::Snapshot, VERSION + 1, &Record::Header);
    for bytes in [[header, section].concat(), newer_header] {
        let found = read(&bytes);
        assert!(matches!(found, Err(SnapshotError::Newer { .. })), "{found:?}");
    }
}

#[test]
fn a_failing_source_is_not_called_corrupt() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let found = SnapshotReader::new(Failing).next();
    assert!(matches!(found, Err(SnapshotError::Io(_))), "{found:?}");
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        rows in prop::collection::btree_map(
            (1_u8.., prop::collection::vec(any::<u8>(), 0..20)),
            prop::collection::vec(any::<u8>(), 0..100),
            0..60,
        ),
    ) {
        let rows: Vec<TestRow> =
            rows.into_iter().map(|((table, key), value)| (table, key, value)).collect();
        let bytes = write(&rows, totals(&rows));
        prop_assert_eq!(read(&bytes).unwrap(), (Some(meta()), rows));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(read(&bytes).is_err());
    }
}
