//! Changed, cut, missing and foreign files: found, each by its name, and never read past.

use std::fs;
use std::path::PathBuf;

use lease::format::{self, Kind};

use super::super::generation::Current;
use super::super::view::Overlay;
use super::super::{generation, redo};
use super::fault::copy_tree;
use super::*;

/// A store whose directory was copied while a checkpoint waited in its redo file.
struct Crashed {
    scratch: tempfile::TempDir,
    model: Model,
}

impl Crashed {
    fn new() -> Self {
        let scratch = scratch();
        let path = scratch.path().join("live");
        let (store, _) = open(&path).unwrap();
        let mut model = Model::default();
        let mut pinned = None;
        for step in 1..=5 {
            let (rows, blocks) = step_rows(step, 12);
            model.apply(meta(step), &rows, &blocks);
            store.checkpoint(meta(step), rows, blocks).unwrap();
            if step == 3 {
                pinned = Some(store.snapshot());
            }
        }
        copy_tree(&path, &scratch.path().join("crashed"));
        drop(pinned);
        Self { scratch, model }
    }

    /// The directory as it was at the crash, anew.
    fn dir(&self) -> PathBuf {
        let dir = self.scratch.path().join("state");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        copy_tree(&self.scratch.path().join("crashed"), &dir);
        dir
    }
}

#[test]
fn a_whole_crash_is_replayed() {
    let crashed = Crashed::new();
    let (store, found) = open(&crashed.dir()).unwrap();
    assert_eq!(found, Some(meta(5)));
    check_reads(&store, &crashed.model);
    assert!(!redo::path(&crashed.scratch.path().join("state"), 4).exists());
}

#[test]
fn every_kind_of_lost_or_changed_file_is_damage() {
    type Change = fn(&Path);
    let cases: [(&str, Change); 13] = [
        ("the current generation is missing", |dir| {
            fs::remove_dir_all(generation::path(dir, 1)).unwrap();
        }),
        ("the meta row is missing", |dir| {
            fs::remove_dir_all(generation::path(dir, 1)).unwrap();
            fs::create_dir(generation::path(dir, 1)).unwrap();
        }),
        ("it is missing, but there are checkpoints", |dir| {
            fs::remove_file(dir.join("CURRENT")).unwrap();
        }),
        ("it is missing, but there is a generation", |dir| {
            fs::remove_file(dir.join("CURRENT")).unwrap();
            for number in 3..=5 {
                fs::remove_file(redo::path(dir, number)).unwrap();
            }
        }),
        ("it belongs to generation 1", |dir| {
            let current = Current { generation: 2, checkpoint: 0 };
            generation::set_current(&RealDisk, dir, current).unwrap();
            fs::rename(generation::path(dir, 1), generation::path(dir, 2)).unwrap();
        }),
        ("it went back from checkpoint 4 to 3", |dir| {
            let current = Current { generation: 1, checkpoint: 4 };
            generation::set_current(&RealDisk, dir, current).unwrap();
        }),
        ("frame is cut short", |dir| fs::write(dir.join("CURRENT"), b"LH").unwrap()),
        ("it has 100 bytes", |dir| fs::write(dir.join("CURRENT"), [0; 100]).unwrap()),
        ("checkpoint 4 before it is missing", |dir| {
            fs::remove_file(redo::path(dir, 4)).unwrap();
        }),
        ("its name is that of another checkpoint", |dir| {
            fs::rename(redo::path(dir, 5), redo::path(dir, 4)).unwrap();
        }),
        ("frame is cut short", |dir| cut(&redo::path(dir, 4), 5)),
        ("it has no header", |dir| fs::write(redo::path(dir, 5), b"").unwrap()),
        ("`blobs` is not empty", |dir| {
            fs::write(generation::path(dir, 1).join("blobs").join("1"), b"").unwrap();
        }),
    ];
    let crashed = Crashed::new();
    for (what, change) in cases {
        let dir = crashed.dir();
        change(&dir);
        match open(&dir) {
            Err(OpenError::Damaged(damage)) => {
                assert!(damage.what.contains(what), "{damage} instead of {what}");
            }
            Err(error) => panic!("{error:?} instead of {what}"),
            Ok(_) => panic!("opened instead of {what}"),
        }
    }
}

fn cut(path: &Path, bytes: usize) {
    let mut content = fs::read(path).unwrap();
    content.truncate(content.len() - bytes);
    fs::write(path, content).unwrap();
}

#[test]
fn a_newer_version_is_told_from_damage() {
    let crashed = Crashed::new();
    for (kind, name) in
        [(Kind::Directory, PathBuf::from("CURRENT")), (Kind::Redo, redo::path(Path::new(""), 4))]
    {
        let dir = crashed.dir();
        fs::write(dir.join(&name), format::encode(kind, 2, &(0_u8, 1_u8))).unwrap();
        let Err(OpenError::Newer { path, .. }) = open(&dir) else { panic!("{name:?}") };
        assert_eq!(path, dir.join(&name));
    }
}

#[test]
fn every_changed_bit_of_a_redo_file_is_found() {
    let crashed = Crashed::new();
    let dir = crashed.dir();
    let path = redo::path(&dir, 4);
    let whole = fs::read(&path).unwrap();
    assert!(redo::read(&RealDisk, &dir, 4).is_ok());
    let check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let read = redo::read(&RealDisk, &dir, 4);
        assert!(matches!(read, Err(Fault::Damaged(_))), "{what}: {read:?}");
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        check(&bytes, &format!("bit {} of byte {at}", at % 8));
        check(&whole[..at], &format!("cut at {at}"));
    }
    check(&[whole.as_slice(), &[0]].concat(), "a byte more");
    check(&[whole.as_slice(), &whole].concat(), "twice");
}

#[test]
fn a_redo_file_has_the_bytes_of_version_1() {
    let scratch = scratch();
    let totals = RowTotals { rows: 2, bytes: 300, sum: [9; 32] };
    let stored = Stored { number: 4, meta: meta(300), totals, fresh_bytes: 70_000 };
    let rows =
        Overlay::from([(row_key(1, b"lease"), Some(b"held".to_vec())), (row_key(2, b"app"), None)]);
    let length = redo::write(&RealDisk, scratch.path(), 1, &stored, &rows).unwrap();
    let bytes = fs::read(redo::path(scratch.path(), 4)).unwrap();
    assert_eq!(bytes.len() as u64, length);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = concat!(
        "4c4805015f000000375bfc3200010401fb2c01640301020307070707070707070707070707070707",
        "07070707070707070707070707070707082c0100000000000002fb2c010909090909090909090909",
        "090909090909090909090909090909090909090909fc7011010002",
        "4c48050115000000614505a1010206016c65617365010468656c64040261707000",
        "4c480501210000008e8b71b7022c6f3b56b3ee939eedcc22293010614968a824637fd0ab79854aff",
        "62bd405235"
    );
    assert_eq!(hex, expected);
    let redo = redo::read(&RealDisk, scratch.path(), 4).unwrap();
    assert_eq!((redo.generation, redo.stored, redo.rows), (1, stored, rows));
}

#[test]
fn leftovers_of_a_crash_are_cleared_away() {
    let crashed = Crashed::new();
    let dir = crashed.dir();
    fs::write(redo::path(&dir, 6).with_extension("tmp"), b"half").unwrap();
    fs::write(dir.join("CURRENT.tmp"), b"half").unwrap();
    fs::create_dir(generation::path(&dir, 9)).unwrap();
    fs::create_dir(dir.join("incoming")).unwrap();
    fs::write(dir.join("incoming").join("snapshot-1"), b"half").unwrap();
    let (store, _) = open(&dir).unwrap();
    check_reads(&store, &crashed.model);
    let mut names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["CURRENT", "generation-0000000000000001", "redo-00000000000000000005"]);
}

#[test]
fn redo_files_of_an_overtaken_generation_are_not_replayed() {
    let crashed = Crashed::new();
    let dir = crashed.dir();
    let (store, _) = open(&dir).unwrap();
    let handle = store.snapshot();
    let snapshot = snapshot_bytes(&handle);
    store.checkpoint(meta(6), vec![put(1, b"later", b"row")], Vec::new()).unwrap();
    let overtaken = fs::read(redo::path(&dir, 6)).unwrap();
    drop(handle);
    install(&store, &snapshot).unwrap();
    let copy = crashed.scratch.path().join("copy");
    copy_tree(&dir, &copy);
    // Its removal was not durable.
    fs::write(redo::path(&copy, 6), &overtaken).unwrap();
    let (store, found) = open(&copy).unwrap();
    assert_eq!(found, Some(meta(5)));
    check_reads(&store, &crashed.model);
}

/// sled's own checksums miss some of these: they show as rows that are missing or older, and the
/// sum over all rows finds them.
#[test]
fn a_changed_bit_in_the_engines_file_never_changes_a_row_unseen() {
    let crashed = Crashed::new();
    drop(open(&crashed.dir()).unwrap());
    let clean = crashed.scratch.path().join("clean");
    copy_tree(&crashed.scratch.path().join("state"), &clean);
    let database = generation::path(Path::new(""), 1).join("db");
    let bytes = fs::read(clean.join(&database)).unwrap();
    let (mut refused, mut caught, mut harmless) = (0, 0, 0);
    for at in (7..bytes.len()).step_by(bytes.len() / 60) {
        let dir = crashed.scratch.path().join(format!("flipped-{at}"));
        copy_tree(&clean, &dir);
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(dir.join(&database), flipped).unwrap();
        match open(&dir).map(|(store, _)| loaded(&store)) {
            Err(OpenError::Damaged(_)) => refused += 1,
            Ok(Err(LoadError::Read(ReadError::Damaged(_)))) => caught += 1,
            Ok(Ok(found)) => {
                assert!(found == crashed.model, "byte {at}: now {:?}", found.meta);
                harmless += 1;
            }
            Err(error) => panic!("byte {at}: {error:?}"),
            Ok(Err(error)) => panic!("byte {at}: {error:?}"),
        }
    }
    println!("{refused} did not open, {caught} did not load, {harmless} changed no row");
    assert!(refused + caught > 0);
}

#[test]
fn a_snapshot_that_is_not_whole_leaves_the_state_as_it_was() {
    let crashed = Crashed::new();
    let dir = crashed.dir();
    let (store, _) = open(&dir).unwrap();
    let handle = store.snapshot();
    let snapshot = snapshot_bytes(&handle);
    drop(handle);
    let mut changed = snapshot.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    for bad in [&snapshot[..snapshot.len() - 1], &changed, b"", b"LH\x06\x01"] {
        let refused = install(&store, bad);
        let corrupt = matches!(refused, Err(InstallError::Snapshot(SnapshotError::Corrupt { .. })));
        assert!(corrupt, "{refused:?}");
        check_reads(&store, &crashed.model);
        assert_eq!(fs::read_dir(dir.join("incoming")).unwrap().count(), 0);
        assert!(!generation::path(&dir, 2).exists());
    }
    store.checkpoint(meta(6), vec![put(1, b"after", b"it")], Vec::new()).unwrap();
}

#[test]
fn a_failed_write_poisons_the_store() {
    let scratch = scratch();
    let dir = scratch.path().join("state");
    let (store, _) = open(&dir).unwrap();
    store.checkpoint(meta(1), vec![put(1, b"key", b"value")], Vec::new()).unwrap();
    // A leftover in the way of the temporary file makes creating it fail.
    fs::write(redo::path(&dir, 2).with_extension("tmp"), b"").unwrap();
    let failed = store.checkpoint(meta(2), vec![put(1, b"key", b"other")], Vec::new());
    assert!(matches!(failed, Err(CheckpointError::Io { .. })), "{failed:?}");
    fs::remove_file(redo::path(&dir, 2).with_extension("tmp")).unwrap();
    let refused = store.checkpoint(meta(2), Vec::new(), Vec::new());
    assert!(matches!(refused, Err(CheckpointError::Poisoned)), "{refused:?}");
    assert!(matches!(store.maintain(0), Err(CheckpointError::Poisoned)));
    assert_eq!(store.get(1, b"key").unwrap(), Some(b"value".to_vec()));
}
