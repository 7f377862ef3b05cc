//! What a healthy cluster does: elect, commit through any node, read what was written, stop and
//! start.

use std::time::Duration;

use futures_util::future::join_all;
use lease::outcome::Outcome;
use raft::{ChangeError, ClusterConfig, InitializeError, NodeRole, Preset};
use tokio::task::JoinSet;

use crate::world::{World, checkout, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_one_leader_and_commit_through_any() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    for at in world.ids() {
        let submitted = world.write(at, 100 + at).await;
        assert_eq!(submitted.outcomes.len(), 1);
    }
    let again = world.node(1).initialize(vec![(1, "host-1:7411".to_owned())]).await;
    assert!(matches!(again, Err(InitializeError::Already)), "{again:?}");
    assert!(world.node(1).is_initialized().await);
    world.settle().await;
    let roles: Vec<NodeRole> =
        world.ids().iter().map(|node| world.node(*node).status().role).collect();
    assert_eq!(roles.iter().filter(|role| **role == NodeRole::Leader).count(), 1);
    let status = world.node(leader).status();
    assert_eq!(status.peers.len(), 3);
    assert!(status.peers.iter().all(|peer| peer.voter), "{status:?}");
    assert!(status.alarms.is_empty(), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_on_any_node_sees_every_write_answered_before_it() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    for number in 200..260 {
        world.write(leader, number).await;
        for at in world.ids() {
            assert!(world.has(at, number).await, "node {at} does not see {number}");
        }
    }
    let metrics = world.node(leader).metrics();
    assert!(metrics.reads >= 60 && metrics.read_rounds > 0, "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_is_a_cluster() {
    let mut world = World::ready(1, 5, 900_000).await;
    world.write(1, 300).await;
    world.stop(1).await;
    world.start(1).await;
    assert_eq!(world.leader().await, 1);
    assert!(world.has(1, 300).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_entries_and_each_gets_its_own_outcome() {
    let world = World::ready(3, 50, 900_000).await;
    let at = world.followers().await[0];
    let submitting = (0..200_u64).map(|number| {
        let commands = vec![checkout(&number.to_string(), at, number)];
        world.submit(at, commands)
    });
    let mut granted = 0;
    for (number, submitted) in (0_u64..).zip(join_all(submitting).await) {
        let submitted = submitted.unwrap();
        match &submitted.outcomes[..] {
            [Outcome::Granted(grant)] => {
                granted += 1;
                assert_eq!(grant.lease.random[..8], number.to_le_bytes(), "not its own outcome");
            }
            [Outcome::Refused(_)] => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(granted, 50);
    let leader = world.leader().await;
    let metrics = world.node(leader).metrics();
    assert!(metrics.entries_proposed < metrics.commands_proposed, "nothing was batched");
    let metrics = world.node(at).metrics();
    assert!(metrics.forwarded >= 200, "{} commands went to the leader", metrics.forwarded);
    assert!(metrics.forwards < metrics.forwarded / 2, "{} calls to the leader", metrics.forwards);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_reach_the_peers_while_those_before_have_no_answer() {
    // Appends may go without an answer for long before they are given up.
    let patient = |config: &mut ClusterConfig| config.preset = Preset::Global;
    let world = World::ready_with(3, 5, 900_000, patient).await;
    let leader = world.leader().await;
    world.settle().await;
    let followers = world.followers().await;
    let stored = || followers.iter().map(|node| world.node(*node).metrics().log.entries).min();
    let streams = world.net.streams();
    world.net.hold_answers(true);
    let mut writing = JoinSet::new();
    for number in 1..=3 {
        let before = stored();
        let cluster = world.node(leader).clone();
        let write = vec![checkout(&number.to_string(), leader, number)];
        writing.spawn(async move { cluster.submit(write, Duration::from_secs(20)).await });
        soon("entries", async {
            while stored() <= before {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert!(writing.try_join_next().is_none(), "a write is done that no peer has acknowledged");
    assert_eq!(world.net.streams(), streams, "entries came by another way");
    world.net.hold_answers(false);
    for submitted in writing.join_all().await {
        assert!(matches!(submitted.unwrap().outcomes[0], Outcome::Granted(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_keeps_everything_answered() {
    let mut world = World::ready(3, 5, 900_000).await;
    for number in 400..430 {
        world.write(1 + number % 3, number).await;
        if number == 415 {
            world.node(2).checkpoint_now().await.unwrap();
        }
    }
    for node in world.ids() {
        world.stop(node).await;
    }
    for node in 1..=3 {
        world.start(node).await;
    }
    world.leader().await;
    for number in 400..430 {
        assert!(world.has(1 + number % 3, number).await, "{number} is gone");
    }
    for node in world.ids() {
        soon("recovery", world.node(node).wait_until(|status| status.recovered)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_a_sealed_node_does_not_take_it() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let followers = world.followers().await;
    let to = followers[0];
    let wait = Duration::from_secs(20);
    let now = world.node(leader).transfer_leader(Some(to), wait).await.unwrap();
    assert_eq!(now, to);
    assert_eq!(world.leader().await, to);
    world.write(leader, 500).await;
    assert!(world.node(leader).transfer_leader(None, wait).await.is_err(), "it does not lead");

    world.node(leader).set_may_lead(false);
    let other = followers[1];
    // The others wait a moment for it, and then one of them leads.
    match world.node(to).transfer_leader(Some(leader), Duration::from_secs(5)).await {
        Ok(now) => assert_eq!(now, other),
        Err(error) => assert!(matches!(error, ChangeError::Timeout), "{error:?}"),
    }
    let now = world.leader().await;
    assert_ne!(now, leader, "a sealed node leads");
    world.write(leader, 501).await;
    let (to, other) = if now == to { (to, other) } else { (other, to) };
    // Whoever is to lead needs what was written: a majority may be the leader and the sealed node.
    world.settle().await;
    world.net.cut_off(&[to]);
    assert_eq!(world.leader_among(&[leader, other]).await, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_tells_the_leaders_time_though_nothing_is_written() {
    let world = World::ready(3, 5, 900_000).await;
    world.settle().await;
    for at in world.ids() {
        let node = world.node(at);
        let wait = Duration::from_secs(20);
        let first = node.read_barrier(wait).await.unwrap();
        soon("time", async {
            loop {
                let next = node.read_barrier(wait).await.unwrap();
                assert!(next.clock.led_ms >= first.clock.led_ms, "{next:?} after {first:?}");
                if next.clock.led_ms > first.clock.led_ms + 100
                    && next.clock.civil_ms > first.clock.civil_ms + 100
                {
                    return;
                }
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_and_a_restarted_node_set_the_clocks_of_a_quiet_ledger() {
    let mut world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let index = world.settle().await;
    let before = world.node(leader).ledger().clock();
    let wait = Duration::from_secs(20);
    let new = world.node(leader).transfer_leader(None, wait).await.unwrap();
    let node = world.node(new);
    soon("a tick", node.wait_until(|_| node.ledger().clock().civil_ms > before.civil_ms)).await;

    for at in world.ids() {
        soon("recovery", world.node(at).wait_until(|status| status.recovered)).await;
    }
    let leader = world.leader().await;
    let at = world.followers().await[0];
    world.settle().await;
    let before = world.node(at).ledger().clock();
    world.stop(at).await;
    world.start(at).await;
    let status = soon("recovery", world.node(at).wait_until(|status| status.recovered)).await;
    let after = world.node(at).ledger().clock();
    assert!(after.civil_ms > before.civil_ms, "{after:?} is not after {before:?}");
    // One each, and a blank entry or two: it does not go on.
    assert!(status.applied.unwrap().index < index + 20, "{status:?}");
    assert!(world.node(leader).metrics().commands_proposed < 20);
}
