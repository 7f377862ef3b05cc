//! The audit log while checkpoints come and go: pages without a gap or a repeat, and what pruning
//! leaves.

use std::time::Duration;

use lease::command::Command;
use lease::entry::Actor;
use lease::rows::table;
use lease::{AuditHead, verify_chain};
use raft::{Cluster, ClusterConfig, StoredEvent};
use sha2::{Digest, Sha256};

use crate::world::{ROOT, World, by};

fn checkpoints_by_hand(config: &mut ClusterConfig) {
    config.checkpoint_interval = Duration::from_secs(3_600);
}

async fn world() -> World {
    World::ready_with(1, 5, 900_000, checkpoints_by_hand).await
}

/// Events from `from` on, page by page, and that they hang together up to the head.
async fn read_from(cluster: &Cluster, from: u64, limit: usize) -> Vec<StoredEvent> {
    let mut events: Vec<StoredEvent> = Vec::new();
    let mut next = from;
    loop {
        let page = cluster.audit_events(next, limit).await.expect("the log is whole");
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return events };
        next = last.seq + 1;
        events.extend(page);
    }
}

/// That events follow from the floor without a gap and end at the head.
fn check_chain(cluster: &Cluster, events: &[StoredEvent]) {
    let bounds = cluster.audit_bounds();
    let decoded: Vec<_> = events.iter().map(|event| event.decode().expect("an event")).collect();
    let floor = AuditHead { seq: bounds.floor.seq, hash: bounds.floor.hash };
    assert_eq!(verify_chain(floor, &decoded), Ok(bounds.head));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_have_every_event_once_wherever_it_stands() {
    let world = world().await;
    let cluster = world.node(1);
    for number in 2_000..2_060 {
        world.write(1, number).await;
        // Some are in blocks of one event, some in larger ones, some in memory.
        if number < 2_010 || number == 2_040 {
            cluster.checkpoint_now().await.unwrap();
        }
    }
    for limit in [1, 7, 1_000] {
        let events = read_from(cluster, 0, limit).await;
        check_chain(cluster, &events);
        assert_eq!(events[0].seq, 1);
        let tail = read_from(cluster, 50, limit).await;
        assert_eq!(tail, events[49..]);
    }
    let beyond = cluster.audit_bounds().head.seq + 1;
    assert_eq!(cluster.audit_events(beyond, 10).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_miss_nothing_while_checkpoints_run() {
    let world = world().await;
    let cluster = world.node(1);
    let writing = async {
        for number in 3_000..3_200 {
            world.write(1, number).await;
        }
    };
    let storing = async {
        for _ in 0..60 {
            cluster.checkpoint_now().await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        let mut longest = 0;
        for round in 0..60 {
            let events = read_from(cluster, 1, 1 + round * 3).await;
            let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{numbers:?}");
            assert!(numbers.len() >= longest, "an event that was there is gone");
            longest = numbers.len();
        }
    };
    tokio::join!(writing, storing, reading);
    check_chain(cluster, &read_from(cluster, 1, 1_000).await);
}

async fn prune(world: &World, upto_seq: u64) {
    let last = world.node(1).audit_events(upto_seq, 1).await.expect("the event").remove(0);
    let hash = Sha256::digest(&last.bytes).into();
    let command = Command::PruneAudit { upto_seq, hash };
    let submitted =
        world.submit(1, vec![by(Actor::Operator(ROOT), command)]).await.expect("applied");
    assert_eq!(submitted.outcomes, [lease::outcome::Outcome::Done]);
}

/// First sequence numbers of the stored blocks.
fn blocks(cluster: &Cluster) -> Vec<u64> {
    let rows = cluster.stored_rows(table::AUDIT, &[], 1_000).expect("rows");
    rows.iter()
        .map(|(key, _)| u64::from_be_bytes(key.as_slice().try_into().expect("8 bytes")))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pruned_is_gone_with_the_next_checkpoint_and_the_rest_hangs_together() {
    let mut world = world().await;
    for number in 4_000..4_040 {
        world.write(1, number).await;
        if number % 10 == 9 {
            world.node(1).checkpoint_now().await.unwrap();
        }
    }
    let before = blocks(world.node(1));
    assert_eq!(before.len(), 4);
    let all = read_from(world.node(1), 0, 1_000).await;
    // Into the third block: the first two are wholly below.
    let floor = before[2] + 3;
    prune(&world, floor).await;
    let after_prune = read_from(world.node(1), 0, 9).await;
    assert_eq!(after_prune[..all.len() - floor as usize], all[floor as usize..]);
    assert_eq!(blocks(world.node(1)), before, "nothing goes before a checkpoint");
    world.node(1).checkpoint_now().await.unwrap();
    assert_eq!(blocks(world.node(1))[..2], before[2..]);
    assert_eq!(blocks(world.node(1)).len(), 3);
    check_chain(world.node(1), &read_from(world.node(1), 1, 1_000).await);

    // All but the newest: the block that has it stays.
    let head = world.node(1).audit_bounds().head.seq;
    prune(&world, head - 1).await;
    world.node(1).checkpoint_now().await.unwrap();
    world.stop(1).await;
    world.start(1).await;
    world.leader().await;
    let events = read_from(world.node(1), 1, 1_000).await;
    check_chain(world.node(1), &events);
    assert_eq!(events[0].seq, head);
}
