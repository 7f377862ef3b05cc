//! A state taken out of a stopped node, and a new epoch begun from it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lease::command::{Member, WrappedDataKey};
use lease::ids::{NodeId, OperatorId, TraceId};
use lease::operate::{EpochReason, OpenEpoch};
use raft::offline::{self, Established, Export, OfflineError, Opening};
use raft::{Change, ClusterConfig};
use storage::seam::{Disk, DiskFile, RealClock, RealDisk};

use crate::world::{World, soon};

/// Checkpoints only when asked to.
fn no_checkpoints(config: &mut ClusterConfig) {
    config.checkpoint_interval = Duration::from_secs(3_600);
}

/// What a power cut would leave, as nothing is being written.
fn image(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("a name");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            image(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn export(config: &ClusterConfig, scratch: &Path) -> Result<Export, OfflineError> {
    let (disk, clock) = (Arc::new(RealDisk), Arc::new(RealClock::new()));
    offline::export(config, disk, clock, scratch.to_owned())
}

fn opening(node: NodeId, epoch: u32, after_term: u64) -> Opening {
    let wrapped = WrappedDataKey {
        version: 1,
        node,
        ephemeral_public: [1; 32],
        nonce: [2; 12],
        wrapped: vec![3; 48],
    };
    let member = Member {
        node,
        peer_address: "host-9:7411".into(),
        gateway_url: "https://host-9:7401".into(),
        region: "".into(),
        zone: "".into(),
        directory_incarnation: 1_000 + node,
        kek_public: [4; 32],
    };
    let command = OpenEpoch {
        epoch,
        incarnation: 0xbeef,
        reason: EpochReason::Recovered,
        member,
        wraps: vec![wrapped],
        no_borrows_since: true,
    };
    Opening { command, trace: TraceId(7), after_term }
}

fn bytes_of(export: &Export) -> Vec<u8> {
    let mut bytes = Vec::new();
    export.snapshot.write_to(&mut bytes).expect("a snapshot");
    bytes
}

fn in_pieces(bytes: &[u8]) -> impl Iterator<Item = io::Result<Vec<u8>>> + use<> {
    let pieces: Vec<_> = bytes.chunks(1 << 16).map(|piece| Ok(piece.to_vec())).collect();
    pieces.into_iter()
}

fn establish(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    snapshot: &[u8],
    opening: Opening,
) -> Result<Established, OfflineError> {
    offline::establish(config, disk, Arc::new(RealClock::new()), in_pieces(snapshot), opening)
}

/// A cluster of three that wrote, and the image of a follower's disk.
async fn survivor(dir: &Path) -> (World, ClusterConfig) {
    let world = World::ready_with(3, 5, 900_000, no_checkpoints).await;
    let at = world.leader().await;
    for number in 3_000..3_020 {
        world.write(at, number).await;
    }
    let follower = world.followers().await[0];
    world.node(follower).checkpoint_now().await.expect("a checkpoint");
    for number in 3_020..3_040 {
        world.write(at, number).await;
    }
    world.settle().await;
    let data_dir = dir.join("image");
    image(&world.data_dir(follower), &data_dir);
    let config = ClusterConfig { data_dir, ..world.config(follower) };
    (world, config)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_holds_every_entry_of_the_log_and_leaves_the_node_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, config) = survivor(dir.path()).await;
    let scratch = dir.path().join("scratch");
    let first = export(&config, &scratch).unwrap();
    for number in [3_000, 3_020, 3_039] {
        assert!(first.ledger.operator(OperatorId(number)).is_some(), "{number} is not there");
    }
    assert_eq!(first.applied.index, first.snapshot.meta().applied.unwrap().index);
    assert_eq!(first.voters, [1, 2, 3]);
    assert!(first.committed <= Some(first.applied) && first.term >= first.applied.term);
    let bytes = bytes_of(&first);
    assert!(matches!(export(&config, &scratch), Err(OfflineError::NotEmpty { .. })), "in use");
    first.remove().unwrap();
    assert!(!scratch.exists());
    // Again the same, and the node it was taken from goes on as the member that it was.
    let second = export(&config, &scratch).unwrap();
    assert_eq!(bytes_of(&second), bytes);
    drop(second);
    assert!(!scratch.exists());
    let node = config.node;
    world.stop(node).await;
    world.start_as(config).await.unwrap();
    world.settle().await;
    assert!(world.has(node, 3_039).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_goes_on_above_all_that_was() {
    let dir = tempfile::tempdir().unwrap();
    let (mut world, config) = survivor(dir.path()).await;
    let taken = export(&config, &dir.path().join("scratch")).unwrap();
    for node in world.ids() {
        world.stop(node).await;
    }
    let opening = opening(4, 2, taken.term + 5);
    let made = establish(&world.config(4), Arc::new(RealDisk), &bytes_of(&taken), opening.clone())
        .unwrap();
    assert_eq!(made.position.index, taken.applied.index + 1);
    assert_eq!(made.position.term, taken.term + 6);
    assert_eq!(made.ledger.cluster().unwrap().epoch, 2);
    let again = establish(&world.config(4), Arc::new(RealDisk), &bytes_of(&taken), opening);
    assert!(matches!(again, Err(OfflineError::NotEmpty { .. })), "a directory in use");
    for _ in 0..2 {
        world.start(4).await;
        assert_eq!(world.leader().await, 4);
        let status = world.node(4).status();
        assert!(status.term > made.position.term, "{status:?}");
        assert!(world.has(4, 3_039).await);
        let members: Vec<NodeId> = world.node(4).ledger().members().map(|it| it.node).collect();
        assert_eq!(members, [4]);
        let number = 5_000 + status.term;
        assert!(world.write(4, number).await.index > made.position.index);
        assert!(world.has(4, number).await);
        world.stop(4).await;
    }
    // Another joins by snapshot: there is no log from before the epoch.
    world.start(4).await;
    world.leader().await;
    world.start(5).await;
    let wait = Duration::from_secs(30);
    let add = Change::AddLearner { node: 5, address: "host-5:7411".to_owned() };
    world.node(4).change(add, wait).await.unwrap();
    world.settle().await;
    world.node(4).change(Change::Promote { node: 5 }, wait).await.unwrap();
    world.write(5, 6_000).await;
    assert!(world.has(5, 3_000).await && world.has(5, 6_000).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_whole_snapshot_begins_no_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (_world, config) = survivor(dir.path()).await;
    let taken = export(&config, &dir.path().join("scratch")).unwrap();
    let bytes = bytes_of(&taken);
    let step = bytes.len() / 12;
    let mut flips: Vec<Vec<u8>> = (0..12)
        .map(|part| {
            let mut flipped = bytes.clone();
            flipped[part * step + step / 2] ^= 0x10;
            flipped
        })
        .collect();
    flips.push(bytes[..bytes.len() - 1].to_vec());
    flips.push(Vec::new());
    for (at, flipped) in flips.iter().enumerate() {
        let data_dir = dir.path().join(format!("new-{at}"));
        let new = ClusterConfig { node: 4, data_dir, ..config.clone() };
        let made = establish(&new, Arc::new(RealDisk), flipped, opening(4, 2, 0));
        let made = made.map(|made| made.position);
        assert!(matches!(made, Err(OfflineError::Snapshot(_))), "{at}: {made:?}");
    }
    let mut same_epoch = opening(4, 2, 0);
    same_epoch.command.incarnation = 0xfeed;
    for (what, wrong) in [("the same epoch again", opening(4, 1, 0)), ("no fork", same_epoch)] {
        let new = ClusterConfig { node: 4, data_dir: dir.path().join(what), ..config.clone() };
        let made = establish(&new, Arc::new(RealDisk), &bytes, wrong);
        let made = made.map(|made| made.position);
        assert!(matches!(made, Err(OfflineError::Refused(_))), "{what}: {made:?}");
    }
}

/// A disk whose operation number `at` fails, and every one after it.
struct Failing {
    at: u64,
    done: Arc<AtomicU64>,
}

impl Failing {
    fn count(&self) -> io::Result<()> {
        if self.done.fetch_add(1, Ordering::SeqCst) >= self.at {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(())
    }
}

impl Disk for Failing {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.count()?;
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        RealDisk.exists(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.count()?;
        RealDisk.create(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.count()?;
        RealDisk.open(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count()?;
        RealDisk.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.count()?;
        RealDisk.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.count()?;
        RealDisk.remove_dir_all(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.count()?;
        RealDisk.sync_dir(dir)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_anywhere_is_said_and_nothing_waits_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (_world, config) = survivor(dir.path()).await;
    let taken = export(&config, &dir.path().join("scratch")).unwrap();
    let bytes = bytes_of(&taken);
    let mut failed = 0;
    loop {
        let data_dir: PathBuf = dir.path().join(format!("new-{failed}"));
        let new = ClusterConfig {
            node: 4,
            data_dir: data_dir.clone(),
            log_segment_bytes: 64 << 10,
            ..config.clone()
        };
        let disk = Arc::new(Failing { at: failed, done: Arc::default() });
        let making = {
            let bytes = bytes.clone();
            tokio::task::spawn_blocking(move || establish(&new, disk, &bytes, opening(4, 2, 0)))
        };
        let made = soon("an end", making).await.unwrap();
        std::fs::remove_dir_all(&data_dir).unwrap_or_default();
        match made {
            Ok(_) => break,
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 10, "only {failed} operations could fail");
}
