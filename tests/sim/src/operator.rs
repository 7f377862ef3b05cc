//! Whoever runs the cluster: founds it, imports packages, registers applications, moves seats,
//! suspends and resumes, and changes the members.
//!
//! Commands that no gateway gives (founding, members) go to a node as orders. Changes of membership
//! follow the steward of `node`: the member's row, learner, vote, the replaced one out, and a step
//! that failed is taken again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::Method;
use lease::command::{Command, InitCluster, Member, Operator, Role};
use lease::entry::{Actor, Envelope};
use lease::ids::{KeyOrigin, NodeId, OperatorId, RequestId, TraceId};
use lease::operate::{AddTicket, JoinMember, RemoveMember};
use lease::outcome::Outcome;
use protocol::package::{sample_document, sign_document};
use raft::{Change, Submitted};
use serde_json::{Value, json};
use storage::testing::SeededEntropy;
use tokio::sync::oneshot;

use crate::apps::{Apps, SKEW_MS};
use crate::http::{Ask, Asker, Reply};
use crate::node::{Order, directory_of, gateway_url};
use crate::plan::PackagePlan;
use crate::shared::{Phase, Shared};
use crate::time::BEGINNING_MS;
use crate::{keys, net};

/// What is to be done about members and leaders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// A new node takes the place of one.
    Replace(NodeId),
    /// A new node joins, and then one leaves.
    Grow(NodeId),
    /// Leadership is handed on, so many times.
    HandOver(u64),
}

/// Errands that wait, and hosts that are wanted for them.
#[derive(Default)]
pub(crate) struct Errands {
    /// What is to be done, with the number of the fault that it is.
    pub(crate) waiting: RefCell<Vec<(usize, Errand)>>,
    /// Faults whose errand was done.
    pub(crate) done: RefCell<Vec<usize>>,
    /// Nodes that are to be started on machines of their own.
    pub(crate) wanted: RefCell<Vec<NodeId>>,
    /// Nodes that are to leave, from when that began.
    pub(crate) leaving: RefCell<Vec<NodeId>>,
    /// Nodes that were removed.
    pub(crate) dismissed: RefCell<Vec<NodeId>>,
}

/// The operator of a run.
pub(crate) struct Admin {
    shared: Rc<Shared>,
    errands: Rc<Errands>,
    random: SeededEntropy,
    asker: Asker,
    token: String,
    acts: u64,
}

impl Admin {
    /// The operator, at one of several desks.
    pub(crate) fn new(shared: Rc<Shared>, errands: Rc<Errands>, desk: u64) -> Self {
        let random = SeededEntropy::new(shared.seed_for("operator", desk));
        let entropy = SeededEntropy::new(shared.seed_for("token", 0));
        let token = gateway::new_operator_token(&entropy).expose().to_owned();
        Self { shared, errands, random, asker: Asker::default(), token, acts: 1_000 * desk }
    }

    /// Founds the cluster and makes it ready for applications.
    pub(crate) async fn found(&mut self) -> Rc<Apps> {
        let nodes: Vec<NodeId> = self.shared.members.borrow().clone();
        let mut commands = vec![Command::InitCluster(InitCluster {
            cluster_id: "lh-sim".into(),
            client_id: "bmw-de-001".into(),
            org_domain: "bmw.com".into(),
            epoch: 1,
            incarnation: self.shared.seed_for("incarnation", 1) | 1,
        })];
        for node in nodes {
            commands.push(Command::PutMember(member(node)));
            commands.push(Command::WrapDataKey(keys::wrap(node, [node as u8; 32])));
            commands.extend(signing_keys(node));
        }
        commands.push(Command::AddOperator(Operator {
            operator: ADMIN,
            name: "the operator".into(),
            role: Role::Admin,
            token_mac: gateway::operator_token_mac(&keys::operator_pepper(), &self.token),
            expires_at_ms: None,
        }));
        for command in commands {
            let envelope = by(Actor::Node(1), command);
            while self.propose(vec![envelope.clone()]).await.is_none() {
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
        self.shared.tell("founded", "the ledger");
        self.set_up().await
    }

    async fn set_up(&mut self) -> Rc<Apps> {
        let vendor = keys::vendor();
        let public_key = vendor.public_key().map(|key| key.to_pem()).unwrap_or_default();
        let body = json!({ "vendor_id": "vector-de", "name": "Vector", "public_key": public_key });
        self.surely(Method::POST, "/admin/vendors", &body).await;
        let mut clients = Vec::new();
        for package in self.shared.plan.packages.clone() {
            let signed = signed(&package, &package.name);
            self.surely(Method::POST, "/admin/licenses/import", &json!({ "package": signed }))
                .await;
            for (pool, seats) in &package.pools {
                let body = json!({ "package_id": package.name, "pool": pool, "seats": seats });
                self.surely(Method::POST, "/admin/pools", &body).await;
            }
            let body = json!({
                "name": package.name, "product_id": package.name, "vendor_id": "vector-de",
            });
            let app = self.surely(Method::POST, "/admin/apps", &body).await;
            let text = |name: &str| app[name].as_str().unwrap_or_default().to_owned();
            clients.push((text("client_id"), text("client_secret")));
        }
        self.shared.tell("set up", format!("{} packages", clients.len()));
        Apps::new(clients)
    }

    /// Asks under one key until it is done.
    async fn surely(&mut self, method: Method, path: &str, body: &Value) -> Value {
        loop {
            match self.ask(method.clone(), path, body, 20).await {
                Some((200..=299, answer)) => return answer,
                Some((status, answer)) => {
                    self.shared.violate("setting_up_works", format!("{path}: {status} {answer}"));
                    std::future::pending().await
                }
                None => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }

    /// Asks under one key at most so often; `None`: nobody knows what became of it.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: &Value,
        attempts: u32,
    ) -> Option<(u16, Value)> {
        self.acts += 1;
        let key = format!("operator-{}", self.acts);
        let ask = Ask::new(method, path).bearer(&self.token).key(&key).json(body);
        for _ in 0..attempts {
            let node = {
                let members = self.shared.members.borrow();
                members[self.random.below(members.len() as u64) as usize]
            };
            match self.asker.ask(node, &ask).await {
                Reply::Answer(429 | 500.., ..) | Reply::Lost | Reply::NotSent => {
                    tokio::time::sleep(TRY_AGAIN).await;
                }
                Reply::Answer(status, body, _) => {
                    self.shared.totals.borrow_mut().acknowledged += u64::from(status < 300);
                    return Some((status, body));
                }
            }
        }
        None
    }

    /// Runs the cluster until everybody leaves.
    pub(crate) async fn run(mut self) {
        let mut imported = 0;
        let mut suspended = false;
        while self.shared.phase.get() < Phase::Leaving {
            let pause_ms = 150 + self.random.below(700);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            match self.random.below(6) {
                0..=2 => self.transfer().await,
                3 | 4 => {
                    let verb = if suspended { "resume" } else { "suspend" };
                    let path = format!("/admin/packages/changing/{verb}");
                    let body = json!({ "reason": "as it comes" });
                    if let Some((200..=299, _)) = self.ask(Method::POST, &path, &body, 6).await {
                        self.shared.history.borrow_mut().changes += 1;
                        suspended = !suspended;
                    }
                }
                _ => {
                    imported += 1;
                    let name = format!("further-{imported}");
                    let package = signed(&self.shared.plan.packages[0], &name);
                    let body = json!({ "package": package });
                    self.ask(Method::POST, "/admin/licenses/import", &body, 6).await;
                }
            }
        }
    }

    async fn transfer(&mut self) {
        let (from, to) = if self.random.below(2) == 0 { ("red", "blue") } else { ("blue", "red") };
        let body = json!({
            "package_id": "pools", "from_pool": from, "to_pool": to, "quantity": 1,
        });
        self.shared.history.borrow_mut().transfers.1 += 1;
        let answered = self.ask(Method::POST, "/admin/licenses/transfer", &body, 6).await;
        let mut history = self.shared.history.borrow_mut();
        // What was refused once may yet have been done by a message that came late.
        if let Some((200..=299, _)) = answered {
            history.transfers.0 += 1;
            history.transfers.1 -= 1;
        }
    }

    /// Runs errands, one after the other.
    pub(crate) async fn run_errands(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let next = self.errands.waiting.borrow_mut().pop();
            let Some((number, errand)) = next else { continue };
            self.shared.tell("errand", format!("{errand:?}"));
            let done = match errand {
                Errand::Replace(old) => self.replace(old, true).await,
                Errand::Grow(old) => self.replace(old, false).await,
                Errand::HandOver(times) => self.hand_over(times).await,
            };
            self.shared.tell("errand", format!("{errand:?} done: {}", done.is_some()));
            if done.is_some() {
                self.errands.done.borrow_mut().push(number);
            }
        }
    }

    async fn hand_over(&mut self, times: u64) -> Option<()> {
        for _ in 0..times {
            self.change(Change::TransferLeader { to: None }).await;
            let pause_ms = 100 + self.random.below(400);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
        Some(())
    }

    /// A new node joins, and `old` leaves.
    async fn replace(&mut self, old: NodeId, is_replacement: bool) -> Option<()> {
        let token_mac = {
            let mut mac = [0; 32];
            storage::seam::Entropy::fill(&self.random, &mut mac);
            mac
        };
        let replaces = is_replacement.then_some(old);
        let ticket = AddTicket { token_mac, valid_ms: 600_000, learner: false, replaces };
        let key = format!("ticket-{old}");
        let scope = RequestId::scope_of("the operator", "ticket", &key);
        let request = RequestId { scope, body: [0; 8], origin: KeyOrigin::Caller };
        let envelope = Envelope {
            request: Some(request),
            ..by(Actor::Operator(ADMIN), Command::AddTicket(ticket))
        };
        let Outcome::Ticket { node, .. } = self.decided(envelope).await? else { return None };
        let join = JoinMember {
            token_mac,
            member: member(node),
            wraps: vec![keys::wrap(node, [node as u8; 32])],
        };
        self.decided(by(Actor::Node(1), Command::JoinMember(Box::new(join)))).await?;
        for command in signing_keys(node) {
            self.decided(by(Actor::Node(node), command)).await?;
        }
        self.errands.wanted.borrow_mut().push(node);
        let address = format!("{}:{}", net::host(node), net::PEER_PORT);
        self.surely_change(Change::AddLearner { node, address }).await?;
        self.surely_change(Change::Promote { node }).await?;
        self.shared.members.borrow_mut().push(node);
        self.shared.totals.borrow_mut().members_added += 1;
        self.shared.tell("member", format!("node {node} votes"));
        let pause_ms = if is_replacement { 0 } else { self.random.below(2_000) };
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        self.errands.leaving.borrow_mut().push(old);
        self.surely_change(Change::Remove { node: old }).await?;
        let removal =
            RemoveMember { node: old, revoke_tokens: false, reason: "it was replaced".into() };
        self.decided(by(Actor::Operator(ADMIN), Command::RemoveMember(removal))).await?;
        self.decided(by(Actor::Node(node), Command::CompleteJoin { node })).await?;
        self.shared.members.borrow_mut().retain(|member| *member != old);
        self.errands.dismissed.borrow_mut().push(old);
        Some(())
    }

    async fn decided(&mut self, envelope: Envelope) -> Option<Outcome> {
        for _ in 0..ERRAND_ATTEMPTS {
            if let Some(submitted) = self.propose(vec![envelope.clone()]).await {
                let outcome = submitted.outcomes.into_iter().next()?;
                if let Outcome::Refused(refusal) = &outcome {
                    self.shared.tell("refused", format!("{refusal:?}"));
                    return None;
                }
                return Some(outcome);
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        None
    }

    async fn surely_change(&mut self, change: Change) -> Option<()> {
        for _ in 0..ERRAND_ATTEMPTS {
            if self.change(change.clone()).await {
                return Some(());
            }
            tokio::time::sleep(TRY_AGAIN).await;
        }
        None
    }

    async fn change(&mut self, change: Change) -> bool {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Change(change, answer), answered).await.is_some()
    }

    async fn propose(&mut self, commands: Vec<Envelope>) -> Option<Submitted> {
        let (answer, answered) = oneshot::channel();
        self.order(Order::Propose(commands, answer), answered).await
    }

    /// Gives an order to the leader, or to anybody.
    async fn order<T>(
        &mut self,
        order: Order,
        answered: oneshot::Receiver<Result<T, String>>,
    ) -> Option<T> {
        let members = self.shared.members.borrow().clone();
        let anybody = members[self.random.below(members.len() as u64) as usize];
        let node = self.shared.leader().unwrap_or(anybody);
        let orders = {
            let machine = self.shared.machine(node)?;
            let process = machine.process.borrow();
            process.as_ref()?.orders.clone()
        };
        orders.try_send(order).ok()?;
        match tokio::time::timeout(ORDER_WITHIN, answered).await {
            Ok(Ok(Ok(done))) => Some(done),
            Ok(Ok(Err(why))) => {
                self.shared.tell("order", format!("node {node}: {why}"));
                None
            }
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

fn by(actor: Actor, command: Command) -> Envelope {
    Envelope { actor, request: None, trace: TraceId(1), cause: None, command }
}

fn member(node: NodeId) -> Member {
    Member {
        node,
        peer_address: format!("{}:{}", net::host(node), net::PEER_PORT).as_str().into(),
        gateway_url: gateway_url(node).as_str().into(),
        region: "eu".into(),
        zone: format!("zone-{node}").as_str().into(),
        directory_incarnation: directory_of(node),
        kek_public: [node as u8; 32],
    }
}

fn signing_keys(node: NodeId) -> Vec<Command> {
    let signer = keys::token_signer(node);
    let keys = signer.into_iter().flat_map(|signer| signer.signing_keys(node));
    keys.map(Command::PublishSigningKey).collect()
}

/// A package with these terms under a name, signed by the vendor.
fn signed(package: &PackagePlan, name: &str) -> Value {
    let policy = [
        ("lease_ttl_seconds", package.ttl_s),
        ("borrow_max_seconds", package.borrow_s),
        ("offline_skew_seconds", (SKEW_MS / 1_000) as u32),
    ];
    let (from_ms, until_ms) = (BEGINNING_MS - YEAR_MS, BEGINNING_MS + YEAR_MS);
    let document = sample_document(from_ms, until_ms, &policy);
    let mut document: Value = serde_json::from_str(&document).unwrap_or_default();
    document["package_id"] = json!(name);
    document["product"]["product_id"] = json!(name);
    document["entitlement"]["total_licenses"] = json!(package.total());
    document["entitlement"]["commit_qty"] = json!(package.commit);
    document["entitlement"]["max_overage"] = json!(package.overage);
    let signed = sign_document(document.to_string().as_bytes(), &keys::vendor());
    serde_json::from_str(&signed.unwrap_or_default()).unwrap_or_default()
}

const ADMIN: OperatorId = OperatorId(1);
const YEAR_MS: i64 = 365 * 24 * 3_600_000;
const TRY_AGAIN: Duration = Duration::from_millis(200);
const ORDER_WITHIN: Duration = Duration::from_millis(3_000);
const ERRAND_ATTEMPTS: u32 = 40;
