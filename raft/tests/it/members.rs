//! Members that come and go while the cluster works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lease::command::{Command, Member};
use lease::entry::Actor;
use lease::ids::NodeId;
use lease::operate::{AddTicket, RemoveMember};
use lease::outcome::Outcome;
use raft::{Change, ChangeError, Status};
use tokio::task::JoinSet;

use crate::world::{ROOT, World, by, soon};

const WAIT: Duration = Duration::from_secs(20);

fn address(node: NodeId) -> String {
    format!("host-{node}:7411")
}

fn voters(status: &Status) -> Vec<NodeId> {
    status.peers.iter().filter(|peer| peer.voter).map(|peer| peer.id).collect()
}

async fn change(world: &World, at: NodeId, change: Change) {
    let named = format!("{change:?}");
    world.node(at).change(change, WAIT).await.unwrap_or_else(|error| panic!("{named}: {error}"));
}

/// Adds a node that runs, learner first, and waits until all that run count its vote.
async fn add(world: &mut World, at: NodeId, node: NodeId) {
    world.start(node).await;
    change(world, at, Change::AddLearner { node, address: address(node) }).await;
    change(world, at, Change::Promote { node }).await;
    soon("a vote", world.node(node).wait_until(|status| voters(status).contains(&node))).await;
}

/// Writes without end, through one node after the other; gives how many were acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: JoinSet<()>,
}

impl Load {
    fn on(world: &World, nodes: &[NodeId], first: u64) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for (at, node) in nodes.iter().enumerate() {
            let (cluster, node) = (world.node(*node).clone(), *node);
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            tasks.spawn(async move {
                let mut lease = first + 1_000_000 * at as u64;
                while !stop.load(Ordering::Relaxed) {
                    lease += 1;
                    let command = crate::world::checkout(&lease.to_string(), node, lease);
                    let done = cluster.submit(vec![command], WAIT).await;
                    done.expect("a quorum stays");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { stop, written, tasks }
    }

    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        soon("load", async {
            while self.written.load(Ordering::Relaxed) < before + 20 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no write fails");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_to_five_and_shrinks_to_three_under_load() {
    let mut world = World::ready(3, 100_000, 900_000).await;
    let load = Load::on(&world, &[1, 2, 3], 0);
    load.goes_on().await;
    for node in [4, 5] {
        add(&mut world, 1, node).await;
        load.goes_on().await;
    }
    // Whoever leads goes too: it hands leadership on first.
    let leader = world.leader().await;
    assert!(leader <= 3 || world.ids().contains(&leader));
    for node in [4, 5] {
        change(&world, 1, Change::Remove { node }).await;
        load.goes_on().await;
    }
    load.end().await;
    assert_eq!(voters(&world.node(1).status()), [1, 2, 3]);
    for node in [4, 5] {
        world.stop(node).await;
    }
    world.settle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_voter_of_three_is_replaced_under_load() {
    let mut world = World::ready(3, 100_000, 900_000).await;
    let dead = world.followers().await[0];
    world.stop(dead).await;
    let alive = world.ids();
    let load = Load::on(&world, &alive, 0);
    add(&mut world, alive[0], 4).await;
    load.goes_on().await;
    change(&world, alive[1], Change::Remove { node: dead }).await;
    load.goes_on().await;
    load.end().await;
    let mut want = alive.clone();
    want.push(4);
    assert_eq!(voters(&world.node(4).status()), want);
    // The new one counts: with it, one more may fail.
    world.stop(alive[0]).await;
    world.leader().await;
    world.write(4, 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_removed_hands_over_first() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let rest = world.followers().await;
    change(&world, leader, Change::Remove { node: leader }).await;
    let new = world.leader_among(&rest).await;
    assert_ne!(new, leader);
    assert_eq!(voters(&world.node(new).status()), rest);
    world.write(rest[0], 2_100).await;
    let term = world.node(new).status().term;
    // It hears of nobody and asks; it raises no term and gets no entry.
    soon("questions", world.net.wait_for_calls(leader, raft::PeerCall::ReadIndex, 1)).await;
    assert_eq!(world.node(new).status().term, term);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_while_it_was_away_is_told_so() {
    let mut world = World::ready(3, 5, 900_000).await;
    let away = 3;
    change(&world, 1, Change::TransferLeader { to: Some(1) }).await;
    let row = Member {
        node: 2,
        peer_address: address(2).into(),
        gateway_url: "https://x:1".into(),
        region: "".into(),
        zone: "".into(),
        directory_incarnation: 1_002,
        kek_public: [0; 32],
    };
    // The ledger counts ids on from there: the next that it gives, and takes back, is 3.
    let invitation =
        AddTicket { token_mac: [1; 32], valid_ms: 60_000, learner: false, replaces: None };
    let commands = vec![
        by(Actor::Node(2), Command::PutMember(row)),
        by(Actor::Operator(ROOT), Command::AddTicket(invitation)),
    ];
    let outcomes = world.submit(1, commands).await.expect("a quorum is there").outcomes;
    assert_eq!(outcomes[1], Outcome::Ticket { node: away, token_matches: true });
    world.settle().await;
    world.stop(away).await;
    add(&mut world, 1, 4).await;
    change(&world, 1, Change::Remove { node: away }).await;
    let removal = RemoveMember { node: away, revoke_tokens: false, reason: "test".into() };
    let removed = by(Actor::Operator(ROOT), Command::RemoveMember(removal));
    let outcomes = world.submit(1, vec![removed]).await.expect("a quorum is there").outcomes;
    assert_eq!(outcomes, [Outcome::Done]);
    world.settle().await;
    // Its own log still counts it in.
    world.start(away).await;
    let told = soon("being told", world.node(away).fatal()).await;
    assert!(told.contains("was removed"), "{told}");
    assert!(world.node(away).is_removed() && !world.node(away).is_damaged());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_so_already_is_done_and_what_cannot_be_is_said() {
    let world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let at = world.followers().await[0];
    let log_ends_at = world.settle().await;
    for so_already in [
        Change::Promote { node: 2 },
        Change::Remove { node: 9 },
        Change::AddLearner { node: 3, address: address(3) },
        Change::SetAddress { node: 1, address: address(1) },
        Change::TransferLeader { to: Some(leader) },
    ] {
        let led_by = world.node(at).change(so_already.clone(), WAIT).await;
        assert_eq!(led_by, Ok(leader), "{so_already:?}");
    }
    assert!(world.settle().await <= log_ends_at + 3, "something was proposed");
    for cannot in [
        Change::Promote { node: 9 },
        Change::SetAddress { node: 9, address: address(9) },
        Change::TransferLeader { to: Some(9) },
    ] {
        let refused = world.node(at).change(cannot.clone(), WAIT).await;
        assert!(matches!(refused, Err(ChangeError::NotPossible(_))), "{cannot:?}: {refused:?}");
    }
    change(&world, at, Change::SetAddress { node: at, address: "elsewhere:1".to_owned() }).await;
    for node in world.ids() {
        let knows = |status: &Status| {
            status.peers.iter().any(|peer| peer.id == at && peer.address == "elsewhere:1")
        };
        soon("the new address", world.node(node).wait_until(knows)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_does_not_answer_gets_no_vote() {
    let mut world = World::ready(3, 5, 900_000).await;
    let leader = world.leader().await;
    let at = world.followers().await[0];
    change(&world, at, Change::AddLearner { node: 4, address: address(4) }).await;
    let soon_given_up = Duration::from_secs(2);
    for asked in [leader, at] {
        let refused = world.node(asked).change(Change::Promote { node: 4 }, soon_given_up).await;
        let Err(ChangeError::NotPossible(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("node 4 does not answer"), "{why}");
    }
    let status = world.node(leader).status();
    assert!(status.is_settled && voters(&status) == [1, 2, 3], "{status:?}");
    // Nothing is left behind: writes and other changes go on, and so does it once it runs.
    world.write(at, 1_000).await;
    world.start(4).await;
    change(&world, at, Change::Promote { node: 4 }).await;
    let votes = |status: &Status| status.is_settled && voters(status) == [1, 2, 3, 4];
    soon("the vote", world.node(4).wait_until(votes)).await;
}
