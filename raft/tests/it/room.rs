//! Nodes whose disk has no room: they follow, vote and answer reads, and store nothing more.

use lease::command::Command;
use lease::entry::Actor;
use raft::{Executed, SubmitErrorKind};

use crate::world::{World, by, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_room_falls_behind_and_comes_back() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let full = world.followers().await[0];
    world.settle().await;
    world.node(full).set_has_room(false);
    let before = world.node(full).status();
    assert!(!before.has_room);
    world.write(leader, 600).await;
    let after = world.node(full).status();
    // What was under way when the room went may still have been stored.
    let written = world.node(leader).status().last_log;
    assert!(after.last_log < written, "it stored what it has no room for");
    assert_eq!(after.term, before.term);
    // It hears its leader all the while, and so asks for no votes.
    let heard = |status: &raft::Status| status.leader_contact_age_ms.is_some_and(|age| age < 200);
    soon("it hears the leader", world.node(full).wait_until(heard)).await;
    assert_eq!(world.leader().await, leader);
    assert!(world.node(full).checkpoint_now().await.is_err());
    world.node(full).set_has_room(true);
    world.settle().await;
    assert!(world.has(full, 600).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_room_proposes_nothing_answers_reads_and_hands_over() {
    let world = World::ready(3, 5, 900_000).await;
    let full = world.leader().await;
    world.settle().await;
    world.node(full).set_has_room(false);
    let bound = world.node(full).failover_bound();
    let tick = || vec![by(Actor::Node(full), Command::Tick)];
    let refused = soon("an answer", world.node(full).submit(tick(), bound)).await.unwrap_err();
    assert_eq!(
        (refused.executed, refused.kind),
        (Executed::NotExecuted, SubmitErrorKind::NoQuorum)
    );
    soon("a read", world.node(full).read_barrier(bound)).await.expect("a quorum follows");
    let heir = soon("the hand-over", world.node(full).transfer_leader(None, bound)).await;
    assert_ne!(heir.expect("another voter has room"), full);
    world.write(full, 600).await;
    world.node(full).set_has_room(true);
    world.settle().await;
    assert!(world.has(full, 600).await);
}
