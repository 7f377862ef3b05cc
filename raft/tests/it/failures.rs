//! What happens when nodes are cut off from each other.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use lease::command::Command;
use lease::entry::Actor;
use lease::outcome::Outcome;
use raft::{Executed, HandleError, PeerCall, ReadError, SubmitErrorKind};

use tokio::task::JoinSet;

use crate::world::{World, by, checkout, soon};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_says_so_and_the_others_go_on() {
    let world = World::ready(3, 5, 900_000).await;
    let old = world.leader().await;
    let rest = world.followers().await;
    world.net.cut_off(&[old]);

    let bound = world.node(old).failover_bound();
    let tick = || vec![by(Actor::Node(old), Command::Tick)];
    let written = soon("an answer", world.node(old).submit(tick(), bound)).await;
    let failed = written.unwrap_err();
    assert_eq!(failed.kind, SubmitErrorKind::NoQuorum);
    let read = soon("an answer", world.node(old).read_barrier(bound)).await;
    assert_eq!(read, Err(ReadError::NoQuorum));

    let new = world.leader_among(&rest).await;
    world.write(rest[0], 600).await;
    assert!(world.has(rest[1], 600).await);

    // By now the old leader knows that no quorum follows it: what it is asked is never sent.
    let written = soon("an answer", world.node(old).submit(tick(), bound)).await;
    let failed = written.unwrap_err();
    assert_eq!((failed.executed, failed.kind), (Executed::NotExecuted, SubmitErrorKind::NoQuorum));

    world.net.cut_off(&[]);
    assert_ne!(new, old);
    world.settle().await;
    assert!(world.has(old, 600).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_in_flight_when_the_leader_is_cut_off_are_unknown_or_done_never_lost() {
    let world = World::ready(3, 1_000, 900_000).await;
    let old = world.leader().await;
    let rest = world.followers().await;
    let mut tasks = JoinSet::new();
    for number in 0..64_u64 {
        let at = [old, rest[0], rest[1]][(number % 3) as usize];
        let cluster = world.node(at).clone();
        tasks.spawn(async move {
            let mut answered = Vec::new();
            for round in 0..20 {
                let number = number * 100 + round;
                let commands = vec![checkout(&number.to_string(), at, number)];
                if let Ok(done) = cluster.submit(commands, Duration::from_secs(2)).await {
                    answered.push((number, done.outcomes));
                }
            }
            answered
        });
    }
    world.net.cut_off(&[old]);
    world.leader_among(&rest).await;
    world.net.cut_off(&[]);
    let mut granted = Vec::new();
    for answered in tasks.join_all().await {
        for (number, outcomes) in answered {
            if let [Outcome::Granted(grant)] = &outcomes[..] {
                granted.push((number, grant.lease));
            }
        }
    }
    assert!(!granted.is_empty());
    world.settle().await;
    for node in world.ids() {
        let ledger = world.node(node).ledger();
        for (number, lease) in &granted {
            assert!(ledger.lease(lease).is_some(), "node {node} lost the lease of {number}");
        }
        assert!(ledger.live_leases() <= 1_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_is_cut_off_for_ten_timeouts_does_not_raise_the_term() {
    let world = World::ready(3, 5, 900_000).await;
    let lonely = world.followers().await[0];
    world.settle().await;
    let before = world.node(lonely).status().term;
    world.net.cut_off(&[lonely]);
    // Each round asks both others.
    soon("ten rounds", world.net.wait_for_calls(lonely, PeerCall::PreVote, 20)).await;
    assert_eq!(world.node(lonely).status().term, before, "it raised its term alone");
    world.net.cut_off(&[]);
    world.settle().await;
    world.write(lonely, 700).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_through_two_nodes_at_once_makes_one_lease() {
    let world = World::ready(3, 50, 900_000).await;
    let followers = world.followers().await;
    for number in 0..20_u64 {
        let key = number.to_string();
        let wait = Duration::from_secs(20);
        let one = checkout(&key, followers[0], number);
        let other = checkout(&key, followers[1], number);
        let (one, other) = tokio::join!(
            world.node(followers[0]).submit(vec![one], wait),
            world.node(followers[1]).submit(vec![other], wait),
        );
        let grants = [one.unwrap(), other.unwrap()].map(|it| match &it.outcomes[..] {
            [Outcome::Granted(grant)] => grant.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(grants[0].lease, grants[1].lease, "two leases for one request");
        assert_ne!(grants[0].repeated, grants[1].repeated);
    }
    world.settle().await;
    assert_eq!(world.node(1).ledger().live_leases(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_expires_no_lease_and_a_lease_left_alone_expires() {
    let ttl = Duration::from_secs(4);
    let world = World::ready(3, 5, ttl.as_millis() as u32).await;
    let leader = world.leader().await;
    let taken = world.submit(leader, vec![checkout("a", leader, 1)]).await.unwrap();
    assert!(matches!(taken.outcomes[0], Outcome::Granted(_)), "{taken:?}");
    world.net.cut_off(&world.ids());
    // Time has to pass for this; nothing is waited for.
    tokio::time::sleep(ttl * 2).await;
    world.net.cut_off(&[]);
    let at = world.leader().await;
    let later = world.submit(at, vec![by(Actor::Node(at), Command::Tick)]).await.unwrap();
    assert_eq!(world.node(at).ledger().live_leases(), 1, "the outage ended a lease");
    assert!(later.clock.led_ms < taken.clock.led_ms + ttl.as_millis() as u64);
    // With a quorum, time passes again, and the leader lets it pass on its own.
    let cluster = world.node(at);
    soon("expiry", cluster.wait_until(|_| cluster.ledger().live_leases() == 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_never_be_proposed_is_refused_at_once() {
    let world = World::ready(1, 5, 900_000).await;
    let tick = by(Actor::Node(1), Command::Tick);
    let failed = world.submit(1, vec![tick; 1_025]).await.unwrap_err();
    assert_eq!(failed.executed, Executed::NotExecuted);
    assert!(matches!(failed.kind, SubmitErrorKind::TooLarge(_)), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_turns_away_before_deadlines_pass() {
    let world = World::ready(3, 5, 900_000).await;
    let old = world.leader().await;
    world.net.cut_off(&[old]);
    let wait = world.node(old).failover_bound();
    let ticks = || vec![by(Actor::Node(old), Command::Tick); 1_024];
    let submitting = (0..64).map(|_| world.node(old).submit(ticks(), wait));
    let failed: Vec<_> = soon("the answers", join_all(submitting))
        .await
        .into_iter()
        .map(Result::unwrap_err)
        .collect();
    let is_overload = |kind: &SubmitErrorKind| matches!(kind, SubmitErrorKind::Overloaded { .. });
    assert!(failed.iter().any(|it| is_overload(&it.kind)), "{failed:?}");
    for error in failed {
        if is_overload(&error.kind) {
            assert_eq!(error.executed, Executed::NotExecuted);
        } else {
            assert_eq!(error.kind, SubmitErrorKind::NoQuorum);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_messages_are_refused_and_harm_nobody() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    for call in PeerCall::ALL {
        for body in [Bytes::new(), Bytes::from_static(b"LH\x07\x01\xff\xff\xff\xff0000")] {
            let answer = world.node(leader).handle(2, call, body.clone()).await;
            assert!(
                matches!(answer, Err(HandleError::Malformed(_) | HandleError::WrongCall(_))),
                "{call:?}: {answer:?}"
            );
            let requests = futures_util::stream::iter([body.clone(), body]).boxed();
            let answers = world.node(leader).handle_stream(2, call, requests);
            let answers: Vec<_> = answers.collect().await;
            assert!(
                matches!(answers[..], [Err(HandleError::Malformed(_) | HandleError::WrongCall(_))]),
                "{call:?}: {answers:?}"
            );
        }
    }
    let chunks = futures_util::stream::empty().boxed();
    let answer = world.node(leader).handle_snapshot(2, Bytes::new(), chunks).await;
    assert!(matches!(answer, Err(HandleError::Malformed(_))), "{answer:?}");
    world.write(leader, 1_400).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_dies_is_replaced_while_its_clients_try_again() {
    let mut world = World::ready(3, 5, 900_000).await;
    for number in 0..3_u64 {
        let old = world.leader().await;
        let at = world.followers().await[0];
        let cluster = world.node(at).clone();
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            let commands = vec![checkout(&number.to_string(), at, number)];
            cluster.submit(commands, Duration::from_secs(20)).await
        });
        world.stop(old).await;
        let submitted = writing.join_all().await.remove(0).unwrap();
        assert!(matches!(submitted.outcomes[0], Outcome::Granted(_)), "{submitted:?}");
        world.start(old).await;
        world.settle().await;
    }
    assert_eq!(world.node(1).ledger().live_leases(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_any_more_leaves_the_queue_though_more_keeps_coming() {
    let world = World::ready(3, 5, 900_000).await;
    let old = world.leader().await;
    let node = world.node(old);
    let tick = || vec![by(Actor::Node(old), Command::Tick)];
    world.net.cut_off(&[old]);
    // From here on its acknowledgements are too old to propose by.
    let lifetime = Duration::from_millis(300);
    soon("silence", node.wait_until(|status| !status.leads_with_quorum(lifetime))).await;
    soon("room in the queue", async {
        let mut most = 0;
        loop {
            // Much less than a heartbeat: there is never a pause.
            let failed = node.submit(tick(), Duration::from_millis(5)).await.unwrap_err();
            assert_eq!(failed.kind, SubmitErrorKind::NoQuorum);
            let queued = node.metrics().commands_queued;
            if queued < most {
                return;
            }
            most = queued;
        }
    })
    .await;
}
