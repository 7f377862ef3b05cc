//! Histories that are right by construction: clients with random delays and lost answers, before a
//! ledger that is a page long.
//!
//! The ledger here is a third one, beside the product's and the model's: it has a clock, decides at
//! one moment of each operation, and writes an audit log. So what comes out is linearizable, and
//! every checker has to say so.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::audit::{Audit, Happened, Record};
use crate::check::{Run, sample};
use crate::evidence::{Evidence, FinalPackage};
use crate::history::{Act, Answer, Event, FaultEvent, FaultPhase, Header, History, Kind, Process};

/// What is generated.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) clients: u64,
    pub(super) operations: u64,
    pub(super) commit: u32,
    pub(super) overage: u32,
    pub(super) ttl_ms: u64,
    /// How many of 1,000 answers are lost.
    pub(super) lost: u64,
    /// Whether there are pools and transfers, and borrows.
    pub(super) rich: bool,
    /// Whether the clock stands still now and then.
    pub(super) pauses: bool,
}

impl Shape {
    /// A handful of operations that get in each other's way, and leases that soon end.
    pub(super) fn small(operations: u64, rich: bool) -> Self {
        Self {
            clients: 3,
            operations,
            commit: 1,
            overage: 1,
            ttl_ms: 22,
            lost: 150,
            rich,
            pauses: false,
        }
    }

    /// A run of eight clients on few seats.
    pub(super) fn large(operations: u64, rich: bool) -> Self {
        Self {
            clients: 8,
            operations,
            commit: 3,
            overage: 2,
            ttl_ms: 120,
            lost: 15,
            rich,
            pauses: true,
        }
    }
}

/// Numbers out of a seed: splitmix64.
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below a bound.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn is(&mut self, of_1000: u64) -> bool {
        self.below(1000) < of_1000
    }

    fn delay_ns(&mut self) -> u64 {
        let most_us = if self.is(30) { 40_000 } else { 3_000 };
        200_000 + self.below(most_us) * 1000
    }
}

/// A run that is right, with the evidence that a cluster would leave.
pub(super) fn generate(seed: u64, shape: &Shape) -> Run {
    let mut header = sample::header();
    let terms = &mut header.packages[0];
    (terms.commit, terms.overage, terms.ttl_ms) = (shape.commit, shape.overage, shape.ttl_ms);
    if shape.rich {
        terms.pools = vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    }
    let mut world = World::new(seed, shape, header);
    world.run();
    let World { header, mut events, server, .. } = world;
    events.sort_by_key(|event| (event.time_ns, event.index));
    for (event, index) in events.iter_mut().zip(0..) {
        event.index = index;
    }
    let finals = Some(vec![server.last_read()]);
    let audits = BTreeMap::from([(1, server.audit)]);
    let evidence = Evidence { audits, finals, ..Evidence::default() };
    Run::new(History { header, events }, evidence)
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Todo {
    Ask(usize),
    Happen(usize),
    Hear(usize),
    Lose(usize),
}

struct World<'a> {
    shape: &'a Shape,
    header: Header,
    random: Random,
    server: Server,
    clients: Vec<Client>,
    todo: BinaryHeap<std::cmp::Reverse<(u64, u64, Todo)>>,
    events: Vec<Event>,
    asked: Vec<Asked>,
    pauses: Vec<(u64, u64)>,
    rate: f64,
    next: u64,
}

struct Client {
    process: u64,
    /// Leases that it believes to have, with the token that it believes to be the newest.
    leases: Vec<(String, u32)>,
    last_key: Option<Act>,
}

struct Asked {
    client: usize,
    process: u64,
    act: Act,
    sent: u32,
    answer: Option<(Answer, u32)>,
}

impl<'a> World<'a> {
    fn new(seed: u64, shape: &'a Shape, header: Header) -> Self {
        let mut random = Random(seed);
        let rate = 0.991 + random.below(18) as f64 / 1000.0;
        let clients = (0..shape.clients)
            .map(|process| Client { process, leases: Vec::new(), last_key: None })
            .collect();
        let mut world = Self {
            server: Server::new(&header),
            shape,
            header,
            random,
            clients,
            todo: BinaryHeap::new(),
            events: Vec::new(),
            asked: Vec::new(),
            pauses: Vec::new(),
            rate,
            next: shape.clients,
        };
        let pauses = if shape.pauses { 6 } else { 0 };
        for number in 0..pauses {
            let start_ns = 700_000_000 * (number + 1) + world.random.below(300_000_000);
            let end_ns = start_ns + world.random.below(250_000_000);
            world.pauses.push((start_ns, end_ns));
            world.fault(start_ns, FaultPhase::Start);
            world.fault(end_ns, FaultPhase::End);
        }
        for client in 0..world.clients.len() {
            let at_ns = world.random.delay_ns();
            world.later(at_ns, Todo::Ask(client));
        }
        world
    }

    fn run(&mut self) {
        while let Some(std::cmp::Reverse((now_ns, _, todo))) = self.todo.pop() {
            match todo {
                Todo::Ask(client) if (self.asked.len() as u64) < self.shape.operations => {
                    self.ask(now_ns, client);
                }
                Todo::Ask(_) => {}
                Todo::Happen(place) => {
                    let led_ms = self.led_ms(now_ns);
                    let Asked { act, sent, .. } = &self.asked[place];
                    let answer = self.server.decide(led_ms, act, *sent);
                    self.asked[place].answer = Some(answer);
                }
                Todo::Hear(place) => self.hear(now_ns, place),
                Todo::Lose(place) => self.lose(now_ns, place),
            }
        }
    }

    /// The lease clock: real time at its rate, without the pauses.
    fn led_ms(&self, now_ns: u64) -> u64 {
        let stood = |(start, end): &(u64, u64)| now_ns.min(*end).saturating_sub(*start);
        let paused: u64 = self.pauses.iter().map(stood).sum();
        ((now_ns - paused) as f64 * self.rate / 1e6) as u64
    }

    fn later(&mut self, at_ns: u64, todo: Todo) {
        self.next += 1;
        self.todo.push(std::cmp::Reverse((at_ns, self.next, todo)));
    }

    fn ask(&mut self, now_ns: u64, client: usize) {
        let (act, sent) = self.choose(client);
        let place = self.asked.len();
        let process = self.clients[client].process;
        self.event(now_ns, process, Kind::Invoke, &act, None);
        self.asked.push(Asked { client, process, act, sent, answer: None });
        let happens_ns = now_ns + self.random.delay_ns();
        if self.random.is(self.shape.lost) {
            let gives_up_ns = now_ns + self.random.below(30_000_000) + 1;
            if self.random.is(600) {
                let late_ns = if self.random.is(200) { self.random.below(60_000_000) } else { 0 };
                self.later(happens_ns + late_ns, Todo::Happen(place));
            }
            self.later(gives_up_ns, Todo::Lose(place));
        } else {
            self.later(happens_ns, Todo::Happen(place));
            let heard_ns = happens_ns + self.random.delay_ns();
            self.later(heard_ns, Todo::Hear(place));
        }
    }

    fn hear(&mut self, now_ns: u64, place: usize) {
        let Asked { client, process, act, answer, .. } = &self.asked[place];
        let (client, process, act) = (*client, *process, act.clone());
        let Some((answer, sequence)) = answer.clone() else { return };
        let kind = if matches!(answer, Answer::Refused { .. }) { Kind::Fail } else { Kind::Ok };
        let leases = &mut self.clients[client].leases;
        match (&act, &answer) {
            (_, Answer::Granted { lease, .. }) => {
                leases.retain(|(of, _)| of != lease);
                leases.push((lease.clone(), sequence));
            }
            (_, Answer::Renewed { .. } | Answer::Borrowed { .. }) => {
                let lease = act.lease().unwrap();
                for (of, token) in leases.iter_mut().filter(|(of, _)| of == lease) {
                    (*token, *of) = (sequence, lease.to_owned());
                }
            }
            (Act::Return { lease, .. }, _) => leases.retain(|(of, _)| of != lease),
            (_, Answer::Refused { code, .. }) if code == "lease_ended" => {
                if let Some(lease) = act.lease() {
                    leases.retain(|(of, _)| of != lease);
                }
            }
            _ => {}
        }
        self.event(now_ns, process, kind, &act, Some(answer));
        self.go_on(now_ns, client);
    }

    fn lose(&mut self, now_ns: u64, place: usize) {
        let (client, process) = (self.asked[place].client, self.asked[place].process);
        let act = self.asked[place].act.clone();
        self.event(now_ns, process, Kind::Info, &act, None);
        self.next += 1;
        self.clients[client].process = self.next + 1_000_000;
        self.go_on(now_ns, client);
    }

    fn go_on(&mut self, now_ns: u64, client: usize) {
        let pause_ns = self.random.delay_ns();
        self.later(now_ns + pause_ns, Todo::Ask(client));
    }

    fn choose(&mut self, client: usize) -> (Act, u32) {
        let package = "P".to_owned();
        let number = self.asked.len();
        let kinds = if self.shape.rich { 1300 } else { 1000 };
        let draw = self.random.below(kinds);
        if self.random.is(40) {
            // Gone without a word, as programs are that crash.
            self.clients[client].leases.pop();
        }
        let leases = &self.clients[client].leases;
        let held = (!leases.is_empty())
            .then(|| self.random.0 as usize % leases.len())
            .map(|place| leases[place].clone());
        match (draw, held) {
            (0..250, _) | (_, None) if draw % 10 < 7 || draw < 250 => {
                let key = format!("k{number}");
                let pool = [None, None, Some("a"), Some("b")][self.random.below(4) as usize];
                let act = Act::Checkout {
                    holder: format!("holder of {key}"),
                    key,
                    package,
                    ttl_ms: None,
                    seats: 1 + u32::from(self.shape.rich && self.random.is(100)),
                    pool: pool.filter(|_| self.shape.rich).map(str::to_owned),
                };
                self.clients[client].last_key = Some(act.clone());
                (act, 0)
            }
            (250..330, _) if self.clients[client].last_key.is_some() => {
                (self.clients[client].last_key.clone().unwrap(), 0)
            }
            (250..560, Some((lease, sent))) => {
                let sequence_token = format!("{lease}-t{sent}");
                (Act::Heartbeat { package, lease, sequence_token }, sent)
            }
            (560..760, Some((lease, _))) => {
                let again = if self.random.is(150) { " again" } else { "" };
                let key = format!("return of {lease}{again}");
                (Act::Return { package, lease, key }, 0)
            }
            (760..830, Some((lease, _))) => (Act::ReadLease { package, lease, stale: false }, 0),
            (1000..1090, Some((lease, sent))) => {
                let duration_ms = self.shape.ttl_ms * (1 + self.random.below(4));
                (Act::Borrow { package, lease, key: format!("b{number}"), duration_ms }, sent)
            }
            (1090..1130, Some((lease, sent))) => {
                (Act::ReturnBorrow { package, lease, key: format!("u{number}") }, sent)
            }
            (1130..1250, _) => {
                let pools = ["", "a", "b"];
                let from = self.random.below(3) as usize;
                let to = (from + 1 + self.random.below(2) as usize) % 3;
                let (from, to) = (pools[from].to_owned(), pools[to].to_owned());
                let key = format!("m{number}");
                (Act::Transfer { package, from, to, seats: 1, key }, 0)
            }
            (1250.., _) => (Act::ReadPools { package, stale: false }, 0),
            _ => (Act::ReadPackage { package, stale: self.random.is(200) }, 0),
        }
    }

    fn event(&mut self, time_ns: u64, process: u64, kind: Kind, act: &Act, answer: Option<Answer>) {
        let index = self.events.len() as u64;
        let (act, process) = (act.clone(), Process::Client(process));
        let node = Some(1 + index % 3);
        self.events.push(Event { index, time_ns, process, kind, node, act, answer, note: None });
    }

    fn fault(&mut self, time_ns: u64, phase: FaultPhase) {
        let name = "pause".to_owned();
        let act = Act::Fault(FaultEvent { name, phase, targets: vec![], detail: String::new() });
        let index = self.events.len() as u64;
        let (process, kind) = (Process::Nemesis, Kind::Info);
        self.events.push(Event {
            index,
            time_ns,
            process,
            kind,
            node: None,
            act,
            answer: None,
            note: None,
        });
    }
}

#[derive(Debug, Clone)]
struct Row {
    key: String,
    fence: u32,
    class: &'static str,
    seats: u32,
    pool: String,
    ends_led_ms: u64,
    sequence: u32,
    borrowed: bool,
}

/// The ledger.
struct Server {
    header: Header,
    live: BTreeMap<String, Row>,
    made: BTreeMap<String, String>,
    returned: BTreeMap<String, String>,
    shares: BTreeMap<String, u32>,
    done: BTreeSet<String>,
    audit: Audit,
    fence: u32,
    index: u64,
}

impl Server {
    fn new(header: &Header) -> Self {
        let terms = &header.packages[0];
        let mut shares: BTreeMap<String, u32> = terms.pools.iter().cloned().collect();
        let pooled: u32 = shares.values().sum();
        shares.insert(String::new(), terms.total() - pooled);
        Self {
            header: header.clone(),
            live: BTreeMap::new(),
            made: BTreeMap::new(),
            returned: BTreeMap::new(),
            shares,
            done: BTreeSet::new(),
            audit: Audit { range: (1, 0), ..Audit::default() },
            fence: 0,
            index: 1,
        }
    }

    /// The answer, and the sequence of the renewal token that comes with it.
    fn decide(&mut self, led_ms: u64, act: &Act, sent: u32) -> (Answer, u32) {
        self.index += 1;
        let due = |row: &Row| row.ends_led_ms <= led_ms;
        let over: Vec<String> =
            self.live.iter().filter(|(_, row)| due(row)).map(|(lease, _)| lease.clone()).collect();
        for lease in over {
            self.live.remove(&lease);
            self.record(&lease, Happened::Expired, None);
        }
        match act {
            Act::Checkout { key, holder, seats, pool, .. } => {
                self.check_out(led_ms, key, holder, *seats, pool.as_deref().unwrap_or_default())
            }
            Act::Heartbeat { lease, .. } => self.heartbeat(led_ms, lease, sent),
            Act::Return { lease, key, .. } => (self.give_back(lease, key), 0),
            Act::Borrow { lease, duration_ms, .. } => self.borrow(led_ms, lease, *duration_ms),
            Act::ReturnBorrow { lease, .. } => self.return_borrow(led_ms, lease),
            Act::Transfer { from, to, seats, key, .. } => (self.transfer(from, to, *seats, key), 0),
            Act::ReadPackage { .. } => {
                let FinalPackage { in_use, total, leases, .. } = self.last_read();
                let leases = self.index.is_multiple_of(2).then_some(leases);
                (Answer::Package { in_use, total, index: self.index, leases }, 0)
            }
            Act::ReadLease { lease, .. } => {
                let left = self.live.get(lease).map(|row| row.ends_led_ms - led_ms);
                (Answer::Lease { live: left.is_some(), expires_in_ms: left }, 0)
            }
            Act::ReadPools { .. } => {
                let FinalPackage { pools: shares, .. } = self.last_read();
                (Answer::Pools { shares, index: self.index }, 0)
            }
            Act::Fault(_) => unreachable!("nobody asks for a fault"),
        }
    }

    fn last_read(&self) -> FinalPackage {
        let terms = &self.header.packages[0];
        let shares = self.shares.iter().filter(|(_, share)| **share > 0);
        FinalPackage {
            package: terms.name.clone(),
            in_use: self.live.values().map(|row| row.seats).sum(),
            total: terms.total(),
            leases: self.live.keys().cloned().collect(),
            pools: shares
                .map(|(pool, share)| (pool.clone(), *share, self.pool_in_use(pool)))
                .collect(),
        }
    }

    fn pool_in_use(&self, pool: &str) -> u32 {
        self.live.values().filter(|row| row.pool == pool).map(|row| row.seats).sum()
    }

    fn check_out(
        &mut self,
        led_ms: u64,
        key: &str,
        holder: &str,
        seats: u32,
        pool: &str,
    ) -> (Answer, u32) {
        if let Some(lease) = self.made.get(key).cloned() {
            return match self.live.get(&lease) {
                Some(row) => (granted(&lease, row, led_ms, true), row.sequence),
                None => (refused("lease_ended"), 0),
            };
        }
        let terms = self.header.packages[0].clone();
        let of = |class| {
            let rows = self.live.values().filter(|row| row.class == class);
            rows.map(|row| row.seats).sum::<u32>()
        };
        let class = if terms.commit - of("commit") >= seats {
            "commit"
        } else if terms.overage - of("overage") >= seats {
            "overage"
        } else {
            return (refused("max_overage_exceeded"), 0);
        };
        if self.shares.get(pool).copied().unwrap_or(0) < self.pool_in_use(pool) + seats {
            return (refused("pool_exhausted"), 0);
        }
        self.fence += 1;
        let lease = format!("L{}", self.fence);
        let row = Row {
            key: key.to_owned(),
            fence: self.fence,
            class,
            seats,
            pool: pool.to_owned(),
            ends_led_ms: led_ms + terms.ttl_ms,
            sequence: 1,
            borrowed: false,
        };
        let answer = granted(&lease, &row, led_ms, false);
        let what = Happened::Granted {
            fence: format!("{:08}", row.fence),
            class: class.to_owned(),
            seats,
            pool: Some(pool.to_owned()).filter(|pool| !pool.is_empty()),
        };
        self.made.insert(row.key.clone(), lease.clone());
        self.record(&lease, what, Some(holder.to_owned()));
        self.live.insert(lease, row);
        (answer, 1)
    }

    fn heartbeat(&mut self, led_ms: u64, lease: &str, sent: u32) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        if sent == row.sequence {
            row.sequence += 1;
            row.ends_led_ms = row.ends_led_ms.max(led_ms + ttl_ms);
        } else if sent + 1 != row.sequence {
            return (refused("renewal_token_replayed"), 0);
        }
        (renewed(lease, row, led_ms), row.sequence)
    }

    fn give_back(&mut self, lease: &str, key: &str) -> Answer {
        if self.live.remove(lease).is_some() {
            self.returned.insert(lease.to_owned(), key.to_owned());
            self.record(lease, Happened::Returned, None);
            return Answer::Returned;
        }
        match self.returned.get(lease) {
            Some(by) if by == key => Answer::Returned,
            _ => refused("already_ended"),
        }
    }

    fn borrow(&mut self, led_ms: u64, lease: &str, duration_ms: u64) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        row.sequence += 1;
        row.borrowed = true;
        row.ends_led_ms = row.ends_led_ms.max(led_ms + ttl_ms.max(duration_ms));
        let (until_in_ms, sequence) = (row.ends_led_ms - led_ms, row.sequence);
        self.record(lease, Happened::Borrowed, None);
        (Answer::Borrowed { until_in_ms, offline_ends_ms: 0 }, sequence)
    }

    fn return_borrow(&mut self, led_ms: u64, lease: &str) -> (Answer, u32) {
        let ttl_ms = self.header.packages[0].ttl_ms;
        let Some(row) = self.live.get_mut(lease) else { return (refused("lease_ended"), 0) };
        if !row.borrowed {
            return (refused("not_borrowed"), 0);
        }
        row.sequence += 1;
        row.borrowed = false;
        row.ends_led_ms = led_ms + ttl_ms;
        let answer = (renewed(lease, row, led_ms), row.sequence);
        self.record(lease, Happened::BorrowReturned, None);
        answer
    }

    fn transfer(&mut self, from: &str, to: &str, seats: u32, key: &str) -> Answer {
        if self.done.contains(key) {
            return Answer::Transferred;
        }
        let share = self.shares.get(from).copied().unwrap_or(0);
        if share < self.pool_in_use(from) + seats {
            return refused("not_enough_free");
        }
        self.done.insert(key.to_owned());
        self.shares.insert(from.to_owned(), share - seats);
        *self.shares.entry(to.to_owned()).or_default() += seats;
        let named = |pool: &str| Some(pool.to_owned()).filter(|pool| !pool.is_empty());
        self.record("", Happened::Transferred { from: named(from), to: named(to), seats }, None);
        Answer::Transferred
    }

    fn record(&mut self, lease: &str, what: Happened, user: Option<String>) {
        self.audit.range.1 += 1;
        let seq = self.audit.range.1;
        let (package, lease) = ("P".to_owned(), lease.to_owned());
        self.audit.records.push(Record { seq, what, package, lease, user });
    }
}

fn refused(code: &str) -> Answer {
    Answer::Refused { code: code.to_owned(), status: 409 }
}

fn granted(lease: &str, row: &Row, led_ms: u64, repeated: bool) -> Answer {
    Answer::Granted {
        lease: lease.to_owned(),
        fence: format!("{:08}", row.fence),
        class: row.class.to_owned(),
        expires_in_ms: row.ends_led_ms - led_ms,
        renewal_token: format!("{lease}-t{}", row.sequence),
        repeated,
        body_hash: format!("{lease} {} {}", row.class, row.sequence),
    }
}

fn renewed(lease: &str, row: &Row, led_ms: u64) -> Answer {
    Answer::Renewed {
        expires_in_ms: row.ends_led_ms - led_ms,
        renewal_token: format!("{lease}-t{}", row.sequence),
        offline_until_ms: None,
    }
}
