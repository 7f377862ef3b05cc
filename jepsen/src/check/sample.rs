//! Small histories written by hand, for the tables of the checkers' tests.
//!
//! One line is one operation of a process of its own, of package `P`; times are milliseconds.
//!
//! ```text
//! 0..5   take k1 -> L1              granted; also: overage, fence=7, seq=2, in=900, hash=x
//! 0..5   take k1 seats=2 pool=a ttl=500 holder=h -> full | poolfull | ended | fail | CODE
//! 9..11  keep L1 1 -> 2             renewed, the next sequence is 2; also: in=900, off=1
//! 9..?   keep L1 2                  unknown; `9..20 keep L1 2 -> ?` gave up at 20
//! 9..11  give L1 key=r1 -> ok | already
//! 9..11  borrow L1 5000 -> ok       also: in=5000
//! 9..11  unborrow L1 -> ok | not_borrowed
//! 9..11  move a b 2 -> ok | few     `-` is no pool
//! 9..11  read -> 1 of=3 index=9 live=L1,L2      `stale` reads stale
//! 9..11  look L1 -> live in=700 | dead
//! 9..11  pools -> a:2:1,b:1:0
//! 9..11  fault kill hit nodes=1
//! ```
//!
//! `@2` says that node 2 was asked; `p7` that process 7 did.

use std::collections::BTreeMap;

use crate::check::Run;
use crate::evidence::Evidence;
use crate::history::{
    Act, Answer, Event, FaultEvent, FaultPhase, Header, History, Kind, PackageTerms, Process,
};

/// A package of one commit and one overage seat whose leases last a second, rate errors of 1 %.
pub(super) fn header() -> Header {
    let terms = PackageTerms {
        name: "P".to_owned(),
        commit: 1,
        overage: 1,
        ttl_ms: 1000,
        pools: vec![],
        rotation: true,
        offline_skew_ms: 0,
    };
    Header {
        workload: "sample".to_owned(),
        faults: vec![],
        seed: 1,
        commit: String::new(),
        nodes: vec![1, 2, 3],
        packages: vec![terms],
        election_timeout_ms: 200,
        epsilon: 0.01,
    }
}

/// The run of a text, without any evidence beside it.
pub(super) fn run(text: &str) -> Run {
    with(header(), text, Evidence::default())
}

/// The run of a text under a header, with evidence.
pub(super) fn with(header: Header, text: &str, evidence: Evidence) -> Run {
    Run::new(History { header, events: events(text) }, evidence)
}

/// The run of a text whose package has so many seats.
pub(super) fn seats(commit: u32, overage: u32, text: &str) -> Run {
    let mut header = header();
    (header.packages[0].commit, header.packages[0].overage) = (commit, overage);
    with(header, text, Evidence::default())
}

fn events(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for (line, process) in text.lines().map(str::trim).filter(|it| !it.is_empty()).zip(100..) {
        read_line(line, process, &mut events);
    }
    events.sort_by_key(|event| event.time_ns);
    for (event, index) in events.iter_mut().zip(0..) {
        event.index = index;
    }
    events
}

struct Line<'a> {
    words: Vec<&'a str>,
    options: BTreeMap<&'a str, &'a str>,
    told: Vec<&'a str>,
}

impl Line<'_> {
    fn word(&self, place: usize) -> String {
        (*self.words.get(place).unwrap_or(&"")).to_owned()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.options.get(name).and_then(|text| text.parse().ok())
    }

    fn text(&self, name: &str, otherwise: &str) -> String {
        (*self.options.get(name).unwrap_or(&otherwise)).to_owned()
    }
}

fn read_line(text: &str, process: u64, events: &mut Vec<Event>) {
    let (asked, told) = text.split_once("->").unwrap_or((text, ""));
    let mut line = Line { words: vec![], options: BTreeMap::new(), told: vec![] };
    let (mut node, mut process) = (None, process);
    for word in asked.split_whitespace().skip(1) {
        match word.split_once('=') {
            Some((name, value)) => drop(line.options.insert(name, value)),
            None if word.starts_with('@') => node = word[1..].parse().ok(),
            None if word.starts_with('p') && word[1..].parse::<u64>().is_ok() => {
                process = word[1..].parse().unwrap();
            }
            None => line.words.push(word),
        }
    }
    for word in told.split_whitespace() {
        match word.split_once('=') {
            Some((name, value)) => drop(line.options.insert(name, value)),
            None => line.told.push(word),
        }
    }
    let (from, to) = asked.split_whitespace().next().unwrap().split_once("..").unwrap();
    let ns = |ms: &str| (ms.parse::<f64>().unwrap() * 1e6) as u64;
    if line.words[0] == "fault" {
        return fault(&line, ns(from), (to != "?").then(|| ns(to)), events);
    }
    let act = act(&line);
    let answer = line.told.first().and_then(|told| answer(&line, told));
    let kind = match line.told.first() {
        None | Some(&"?") => Kind::Info,
        Some(&"fail") => Kind::Fail,
        Some(_) if matches!(answer, Some(Answer::Refused { .. })) => Kind::Fail,
        Some(_) => Kind::Ok,
    };
    let event = |time_ns, kind, answer| Event {
        index: 0,
        time_ns,
        process: Process::Client(process),
        kind,
        node,
        act: act.clone(),
        answer,
        note: None,
    };
    events.push(event(ns(from), Kind::Invoke, None));
    if to != "?" {
        events.push(event(ns(to), kind, answer));
    }
}

fn fault(line: &Line<'_>, from_ns: u64, to_ns: Option<u64>, events: &mut Vec<Event>) {
    let targets = line.text("nodes", "").split(',').filter_map(|it| it.parse().ok()).collect();
    let fault =
        FaultEvent { name: line.word(1), phase: FaultPhase::Start, targets, detail: String::new() };
    let mut add = |time_ns, phase| {
        let act = Act::Fault(FaultEvent { phase, ..fault.clone() });
        let (process, kind) = (Process::Nemesis, Kind::Info);
        events.push(Event {
            index: 0,
            time_ns,
            process,
            kind,
            node: None,
            act,
            answer: None,
            note: None,
        });
    };
    add(from_ns, FaultPhase::Start);
    if line.words.contains(&"hit") {
        add(from_ns + 1, FaultPhase::Hit);
    }
    if let Some(to_ns) = to_ns {
        add(to_ns, FaultPhase::End);
    }
}

fn act(line: &Line<'_>) -> Act {
    let package = "P".to_owned();
    let lease = line.word(1);
    let key = |kind: &str| line.text("key", &format!("{kind}-{}", line.word(1)));
    let pool = |place: usize| line.word(place).replace('-', "");
    match line.words[0] {
        "take" => Act::Checkout {
            package,
            key: line.word(1),
            holder: line.text("holder", &format!("holder of {}", line.word(1))),
            ttl_ms: line.number("ttl"),
            seats: line.number("seats").unwrap_or(1),
            pool: line.options.get("pool").map(|pool| (*pool).to_owned()),
        },
        "keep" => {
            let sequence_token = format!("{lease}-t{}", line.word(2));
            Act::Heartbeat { package, lease, sequence_token }
        }
        "give" => Act::Return { package, lease, key: key("give") },
        "borrow" => {
            let duration_ms = line.word(2).parse().unwrap();
            Act::Borrow { package, lease, key: key("borrow"), duration_ms }
        }
        "unborrow" => Act::ReturnBorrow { package, lease, key: key("unborrow") },
        "move" => {
            let seats = line.word(3).parse().unwrap();
            Act::Transfer { package, from: pool(1), to: pool(2), seats, key: key("move") }
        }
        "read" => Act::ReadPackage { package, stale: false },
        "stale" => Act::ReadPackage { package, stale: true },
        "look" => Act::ReadLease { package, lease, stale: false },
        "pools" => Act::ReadPools { package, stale: false },
        other => panic!("no act is called {other}"),
    }
}

fn answer(line: &Line<'_>, told: &str) -> Option<Answer> {
    let refused = |code: &str, status| Some(Answer::Refused { code: code.to_owned(), status });
    let expires_in_ms = line.number("in").unwrap_or(1000);
    match (line.words[0], told) {
        (_, "?" | "fail") => None,
        ("take", "full") => refused("max_overage_exceeded", 409),
        ("take", "poolfull") => refused("pool_exhausted", 409),
        ("take" | "keep", "ended") => refused("lease_ended", 410),
        ("keep", "replayed") => refused("renewal_token_replayed", 409),
        ("give", "already") => refused("already_ended", 409),
        ("move", "few") => refused("not_enough_free", 409),
        ("take", lease) if lease.starts_with('L') => {
            let number: u64 = lease[1..].parse().unwrap();
            let class = if line.told.contains(&"overage") { "overage" } else { "commit" };
            let sequence: u32 = line.number("seq").unwrap_or(1);
            Some(Answer::Granted {
                lease: lease.to_owned(),
                fence: format!("{:08}", line.number("fence").unwrap_or(number)),
                class: class.to_owned(),
                expires_in_ms,
                renewal_token: format!("{lease}-t{sequence}"),
                repeated: line.told.contains(&"repeated"),
                body_hash: line.text("hash", lease),
            })
        }
        ("keep", next) if next.parse::<u32>().is_ok() => Some(Answer::Renewed {
            expires_in_ms,
            renewal_token: format!("{}-t{next}", line.word(1)),
            offline_until_ms: line.number("off"),
        }),
        ("give", "ok") => Some(Answer::Returned),
        ("borrow", "ok") => {
            let until_in_ms = line.number("in").unwrap_or_else(|| line.word(2).parse().unwrap());
            Some(Answer::Borrowed { until_in_ms, offline_ends_ms: 0 })
        }
        ("unborrow", "ok") => Some(Answer::Returned),
        ("move", "ok") => Some(Answer::Transferred),
        ("read" | "stale", in_use) => Some(Answer::Package {
            in_use: in_use.parse().unwrap(),
            total: line.number("of").unwrap_or(2),
            index: line.number("index").unwrap_or(0),
            leases: line.options.get("live").map(|live| {
                live.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
            }),
        }),
        ("look", live @ ("live" | "dead")) => {
            Some(Answer::Lease { live: live == "live", expires_in_ms: line.number("in") })
        }
        ("pools", shares) => {
            let number = |text: &str| text.parse::<u32>().unwrap();
            let share = |text: &str| {
                let mut parts = text.split(':');
                let mut part = || parts.next().unwrap().to_owned();
                (part(), number(&part()), number(&part()))
            };
            let index = line.number("index").unwrap_or(0);
            Some(Answer::Pools { shares: shares.split(',').map(share).collect(), index })
        }
        (_, code) => refused(code, 409),
    }
}
