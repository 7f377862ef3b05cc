//! Nodes that were away: they catch up by log, by snapshot, or are told to rejoin.

use std::collections::BTreeSet;
use std::time::Duration;

use lease::command::{Command, Member};
use lease::entry::Actor;
use lease::outcome::Outcome;
use raft::{Alarm, Change, ClusterConfig, PeerCall, StartError};

use crate::world::{World, by, soon};

fn keeps_little(config: &mut ClusterConfig) {
    config.keep_log_entries = 5;
    config.checkpoint_interval = Duration::from_secs(3_600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_catches_up_by_log() {
    let mut world = World::ready(3, 5, 900_000).await;
    let away = world.followers().await[0];
    let at = world.leader().await;
    world.stop(away).await;
    for number in 800..900 {
        world.write(at, number).await;
    }
    world.start(away).await;
    world.settle().await;
    assert!(world.has(away, 899).await);
    assert_eq!(world.node(away).metrics().snapshots_installed, 0);
}

/// Stops a follower until the others have purged what it needs; gives it and the leader.
async fn left_behind(world: &mut World) -> (u64, u64) {
    let away = world.followers().await[0];
    let at = world.leader().await;
    world.write(at, 899).await;
    world.stop(away).await;
    write_and_cut(world, at, 900, &world.ids()).await;
    for number in 1_000..1_010 {
        world.write(at, number).await;
    }
    (away, at)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_too_long_catches_up_by_snapshot() {
    let mut world = World::ready_with(3, 5, 900_000, keeps_little).await;
    let (away, _) = left_behind(&mut world).await;
    world.start(away).await;
    world.settle().await;
    assert!(world.node(away).metrics().snapshots_installed > 0);
    for number in [899, 950, 1_009] {
        assert!(world.has(away, number).await, "{number} is not there");
    }
    // What was installed is what it starts from.
    world.stop(away).await;
    world.start(away).await;
    world.settle().await;
    assert!(world.has(away, 950).await);
}

/// Writes a hundred entries and checkpoints, and waits until these have cut their logs.
async fn write_and_cut(world: &World, at: u64, first: u64, cutting: &[u64]) {
    for number in first..first + 100 {
        world.write(at, number).await;
    }
    for node in BTreeSet::from_iter(cutting.iter().chain([&at])) {
        world.node(*node).checkpoint_now().await.expect("a checkpoint");
    }
    for node in cutting {
        cut(world, *node).await;
    }
}

/// Waits until a node has cut its log.
async fn cut(world: &World, node: u64) {
    let cluster = world.node(node);
    soon("a cut", cluster.wait_until(|_| cluster.metrics().log.entries < 50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_snapshot_took_long_goes_on_from_the_log() {
    let mut world = World::ready_with(3, 5, 900_000, keeps_little).await;
    let (away, at) = left_behind(&mut world).await;
    let other = world.ids().into_iter().find(|node| *node != at).unwrap();
    world.net.hold_snapshots(true);
    let begun = world.net.total(at, PeerCall::Snapshot);
    world.start(away).await;
    soon("a snapshot", world.net.wait_for_total(at, PeerCall::Snapshot, begun + 1)).await;
    // Twice, so that the leader, too, has looked what may go.
    write_and_cut(&world, at, 1_100, &[other]).await;
    write_and_cut(&world, at, 1_200, &[other]).await;
    let begun = world.net.total(at, PeerCall::Snapshot);
    world.net.hold_snapshots(false);
    world.settle().await;
    assert!(world.has(away, 1_299).await);
    assert_eq!(world.net.total(at, PeerCall::Snapshot), begun, "it needs another snapshot");
    // Nobody needs it any more.
    cut(&world, at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_to_a_process_that_is_gone_is_begun_anew() {
    let mut world = World::ready_with(3, 5, 900_000, keeps_little).await;
    let (away, at) = left_behind(&mut world).await;
    // It comes back behind a cut in which nothing is reset: the snapshot gets no answer, ever.
    let snapshots = world.net.total(at, PeerCall::Snapshot);
    world.net.cut_off(&[away]);
    world.start(away).await;
    let begun = world.net.wait_for_total(at, PeerCall::Snapshot, snapshots + 1);
    soon("a snapshot", begun).await;
    world.stop(away).await;
    world.net.cut_off(&[]);
    world.start(away).await;
    world.settle().await;
    assert!(world.has(away, 950).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_is_gone_is_refused_by_those_who_remember() {
    let mut world = World::ready(3, 5, 900_000).await;
    let lossy = world.followers().await[0];
    let at = world.leader().await;
    world.write(at, 1_100).await;
    world.settle().await;
    world.stop(lossy).await;
    std::fs::remove_dir_all(world.data_dir(lossy)).unwrap();
    world.start(lossy).await;
    let refused = |status: &raft::Status| status.alarms.contains(&Alarm::PeerRefused);
    soon("a refusal", world.node(at).wait_until(refused)).await;
    world.write(at, 1_101).await;
    assert!(!refused(&world.node(lossy).status()) || world.node(lossy).status().applied.is_none());
    assert!(world.node(lossy).ledger().cluster().is_none(), "it was given entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_speaks_from_another_directory_is_refused() {
    let world = World::ready(3, 5, 900_000).await;
    let at = world.leader().await;
    let followers = world.followers().await;
    let row = Command::PutMember(Member {
        node: followers[0],
        peer_address: "host:7411".into(),
        gateway_url: "https://host:7401".into(),
        region: "".into(),
        zone: "".into(),
        directory_incarnation: 1,
        kek_public: [0; 32],
    });
    let put = world.submit(at, vec![by(Actor::Node(at), row)]).await.unwrap();
    assert_eq!(put.outcomes, [Outcome::Done]);
    let refused = |status: &raft::Status| status.alarms.contains(&Alarm::PeerRefused);
    soon("a refusal", world.node(at).wait_until(refused)).await;
    // It has been told, and the others are a quorum.
    soon("a refusal", world.node(followers[0]).wait_until(refused)).await;
    let before = world.node(followers[0]).status();
    for number in 1_500..1_510 {
        world.write(followers[1], number).await;
    }
    let after = world.node(followers[0]).status();
    assert_eq!((before.last_log, before.applied), (after.last_log, after.applied));
    assert!(after.applied < world.node(at).status().applied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_added_promoted_and_removed() {
    let mut world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    world.start(4).await;
    let address = "host-4:7411".to_owned();
    let wait = Duration::from_secs(20);
    let add = Change::AddLearner { node: 4, address };
    world.node(leader).change(add, wait).await.unwrap();
    world.settle().await;
    world.node(4).change(Change::Promote { node: 4 }, wait).await.unwrap();
    world.write(4, 1_200).await;
    let voters = |status: &raft::Status| status.peers.iter().filter(|peer| peer.voter).count();
    soon("the vote", world.node(4).wait_until(|status| voters(status) == 4)).await;
    let other = world.ids().into_iter().find(|node| *node != leader && *node != 4).unwrap();
    world.node(other).change(Change::Remove { node: other }, wait).await.unwrap();
    // Told to whoever asked before the leader's own status says so.
    soon("the removal", world.node(leader).wait_until(|status| status.peers.len() == 3)).await;
    world.write(4, 1_201).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_a_changed_byte_does_not_start() {
    let mut world = World::ready(1, 5, 900_000).await;
    for number in 1_300..1_310 {
        world.write(1, number).await;
    }
    world.stop(1).await;
    let log = world.data_dir(1).join("log");
    let mut segments: Vec<_> = std::fs::read_dir(log)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("segment"))
        .collect();
    segments.sort();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    // The second group; the first kilobytes are the segment's header and the first vote.
    bytes[5_000] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let started = world.start_as(world.config(1)).await;
    assert!(matches!(started, Err(StartError::Damaged(_))), "{started:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_agree_on_the_sum_of_their_rows_every_thousand_entries() {
    let world = World::ready(3, 5, 900_000).await;
    let at = world.leader().await;
    // One entry each, since each is waited for.
    for number in 2_000..3_050 {
        world.write(at, number).await;
    }
    for node in world.ids() {
        let cluster = world.node(node);
        let index = || cluster.ledger().agreed_sum().map(|(index, _)| index);
        soon("agreement on the sum", cluster.wait_until(|_| index() == Some(1_000))).await;
        assert!(cluster.status().alarms.is_empty());
    }
}
