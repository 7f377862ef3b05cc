//! What is to be done next, for every standing of ledger and consensus: a table.

use lease::Ledger;
use lease::command::{InitCluster, Member, Operator, Role, WrappedDataKey};
use lease::entry::{Entry, EntryHeader, Stamp};
use lease::ids::OperatorId;
use lease::operate::{AddTicket, JoinMember};
use raft::{NodeRole, PeerStatus};

use super::*;

const ADMIN: OperatorId = OperatorId(1);

fn member(node: NodeId) -> Member {
    Member {
        node,
        peer_address: format!("host-{node}:7411").into(),
        gateway_url: format!("https://host-{node}:7401").into(),
        region: "".into(),
        zone: "".into(),
        directory_incarnation: 100 + node,
        kek_public: [0; 32],
    }
}

fn wrap(node: NodeId) -> WrappedDataKey {
    let (ephemeral_public, nonce) = ([0; 32], [0; 12]);
    WrappedDataKey { version: 1, node, ephemeral_public, nonce, wrapped: vec![1; 48] }
}

/// A ledger, entry by entry.
struct Book {
    ledger: Ledger,
    index: u64,
}

impl Book {
    /// Founded by nodes 1 to 3.
    fn founded() -> Self {
        let mut book = Self { ledger: Ledger::new(), index: 0 };
        book.apply(
            Actor::Node(1),
            Command::InitCluster(InitCluster {
                cluster_id: "lh-test".into(),
                client_id: "bmw-de-001".into(),
                org_domain: "bmw.com".into(),
                epoch: 1,
                incarnation: 7,
            }),
        );
        for node in 1..=3 {
            book.apply(Actor::Node(1), Command::PutMember(member(node)));
            book.apply(Actor::Node(1), Command::WrapDataKey(wrap(node)));
        }
        let operator = Operator {
            operator: ADMIN,
            name: "admin".into(),
            role: Role::Admin,
            token_mac: [1; 32],
            expires_at_ms: None,
        };
        book.apply(Actor::Node(1), Command::AddOperator(operator));
        book
    }

    fn apply(&mut self, actor: Actor, command: Command) -> Outcome {
        self.index += 1;
        let known = self.ledger.cluster().map(|it| (it.epoch, it.incarnation));
        let (epoch, incarnation) = known.unwrap_or((0, 0));
        let stamp = Stamp { led_ms: self.index, civil_ms: 1_000_000 + self.index as i64 };
        let header = EntryHeader { group: 0, epoch, incarnation, stamp, origin: 1 };
        let envelope =
            Envelope { actor, request: None, trace: TraceId::default(), cause: None, command };
        let entry = Entry { header, commands: vec![envelope] };
        let outcome = self.ledger.apply_entry(self.index, &entry).unwrap().remove(0);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        outcome
    }

    /// Lets a node in; its id.
    fn join(&mut self, learner: bool, replaces: Option<NodeId>) -> NodeId {
        let ticket = AddTicket { token_mac: [9; 32], valid_ms: 60_000, learner, replaces };
        let node = match self.apply(Actor::Operator(ADMIN), Command::AddTicket(ticket)) {
            Outcome::Ticket { node, .. } => node,
            other => panic!("{other:?}"),
        };
        let join = JoinMember { token_mac: [9; 32], member: member(node), wraps: vec![wrap(node)] };
        self.apply(Actor::Node(1), Command::JoinMember(Box::new(join)));
        node
    }
}

/// Node 1 leads; the others are voters or learners with so many entries to catch up.
fn status(voters: &[NodeId], learners: &[(NodeId, u64)]) -> Status {
    let last = 10_000;
    let peer = |id: NodeId, voter: bool, behind: u64| PeerStatus {
        id,
        address: format!("host-{id}:7411"),
        voter,
        matched: Some(last - behind),
        ack_age_ms: Some(10),
        clock_offset_ms: Some(0),
        refused: false,
        agrees: None,
    };
    let mut peers: Vec<PeerStatus> = voters.iter().map(|id| peer(*id, true, 0)).collect();
    peers.extend(learners.iter().map(|(id, behind)| peer(*id, false, *behind)));
    peers.sort_by_key(|peer| peer.id);
    Status {
        node: 1,
        role: NodeRole::Leader,
        leader: Some(1),
        term: 1,
        last_log: Some(last),
        committed: None,
        applied: None,
        checkpoint: None,
        peers,
        is_settled: true,
        quorum_ack_age_ms: Some(1),
        leader_contact_age_ms: None,
        alarms: Vec::new(),
        recovered: true,
        has_room: true,
        state_sum: None,
    }
}

fn add(node: NodeId) -> Option<Step> {
    let address = format!("host-{node}:7411");
    Some(Step::Consensus(Change::AddLearner { node, address }))
}

fn promote(node: NodeId) -> Option<Step> {
    Some(Step::Consensus(Change::Promote { node }))
}

fn remove(node: NodeId) -> Option<Step> {
    Some(Step::Consensus(Change::Remove { node }))
}

fn complete(node: NodeId) -> Option<Step> {
    Some(Step::Ledger(Command::CompleteJoin { node }))
}

#[test]
fn a_node_that_joins_is_brought_in_step_by_step() {
    let mut book = Book::founded();
    assert_eq!(next_step(&book.ledger, &status(&[1, 2, 3], &[])), None);
    let four = book.join(false, None);
    assert_eq!(four, 4);
    for (standing, want) in [
        (status(&[1, 2, 3], &[]), add(4)),
        (status(&[1, 2, 3], &[(4, MAX_LAG + 1)]), None),
        (status(&[1, 2, 3], &[(4, MAX_LAG)]), promote(4)),
        (status(&[1, 2, 3, 4], &[]), complete(4)),
    ] {
        assert_eq!(next_step(&book.ledger, &standing), want, "{:?}", standing.peers);
    }
    let mut silent = status(&[1, 2, 3], &[(4, 0)]);
    for peer in &mut silent.peers {
        peer.ack_age_ms = None;
    }
    assert_eq!(next_step(&book.ledger, &silent), None, "one that does not answer gets no vote");
    let half_way = Status { is_settled: false, ..status(&[1, 2, 3, 4], &[]) };
    assert_eq!(next_step(&book.ledger, &half_way), promote(4));
    book.apply(Actor::Node(1), Command::CompleteJoin { node: 4 });
    assert_eq!(next_step(&book.ledger, &status(&[1, 2, 3, 4], &[])), None);
}

#[test]
fn a_learner_stays_one_and_an_invited_node_is_waited_for() {
    let mut book = Book::founded();
    let four = book.join(true, None);
    for (standing, want) in [
        (status(&[1, 2, 3], &[]), add(four)),
        (status(&[1, 2, 3], &[(four, 9_000)]), None),
        (status(&[1, 2, 3], &[(four, 0)]), complete(four)),
    ] {
        assert_eq!(next_step(&book.ledger, &standing), want);
    }
    book.apply(Actor::Node(1), Command::CompleteJoin { node: four });
    let ticket = AddTicket { token_mac: [8; 32], valid_ms: 60_000, learner: false, replaces: None };
    book.apply(Actor::Operator(ADMIN), Command::AddTicket(ticket));
    assert_eq!(next_step(&book.ledger, &status(&[1, 2, 3], &[(four, 0)])), None);
}

#[test]
fn the_replaced_node_goes_only_when_the_new_one_votes() {
    let mut book = Book::founded();
    let four = book.join(false, Some(3));
    for (standing, want) in [
        (status(&[1, 2, 3], &[]), add(four)),
        (status(&[1, 2, 3], &[(four, 0)]), promote(four)),
        (status(&[1, 2, 3, four], &[]), remove(3)),
    ] {
        assert_eq!(next_step(&book.ledger, &standing), want);
    }
    let gone = status(&[1, 2, four], &[]);
    match next_step(&book.ledger, &gone) {
        Some(Step::Ledger(command @ Command::RemoveMember(_))) => {
            book.apply(Actor::Node(1), command);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(next_step(&book.ledger, &gone), complete(four));
    book.apply(Actor::Node(1), Command::CompleteJoin { node: four });
    assert_eq!(next_step(&book.ledger, &gone), None);
}

#[test]
fn what_a_removal_left_behind_is_cleared_away() {
    let mut book = Book::founded();
    // Out of consensus, and the ledger does not know yet.
    assert_eq!(next_step(&book.ledger, &status(&[1, 2], &[])), Some(Step::Lonely(3)));
    book.apply(Actor::Node(1), removal(3, "test"));
    assert_eq!(next_step(&book.ledger, &status(&[1, 2], &[])), None);
    // Out of the ledger, and consensus does not know yet.
    assert_eq!(next_step(&book.ledger, &status(&[1, 2, 3], &[])), remove(3));
}
