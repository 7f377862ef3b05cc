//! Histories that are right by construction: clients with random delays and lost answers, before a
//! ledger that is a page long.
//!
//! What comes out is linearizable, and every checker has to say so.

use std::collections::{BTreeMap, BinaryHeap};

use super::ledger::Server;
use crate::check::{Run, sample};
use crate::evidence::Evidence;
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
