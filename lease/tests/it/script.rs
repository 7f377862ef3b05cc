//! A small language for tables of commands and what they answer, and the one `check` that runs it.
//!
//! Each line is `command -> answer`; a line without an arrow must be done. Words are positional,
//! `name=value` are options. `#` begins a comment.
//!
//! ```text
//! time +60s [led=+1s] [civil=+1s]   both clocks move, then a Tick
//! checkout L1 [alpha] [app=1] [gen=1] [qty=1] [pool=team] [features=can,lin] [key=K|gw=K] [body=B]
//! heartbeat L1:1 [L2:3:idle] [app=1] [gen=1]
//! return L1 [app=1] [gen=1] [key=K|gw=K] [body=B] [seconds=60] [files=2] [used=can,lin]
//! release L1 · suspend alpha · resume alpha · revoke alpha · transfer alpha team 3 [from=x]
//! import beta davinci 1 2 · pin vector-de · register 2 davinci · rotate 1 · remove 1
//! setpool alpha team [3] [for=user:anna,host:wks-1,app:1] [text=note] · rmpool alpha team
//! pooluse alpha [team] · operator 7 admin [until=+60s] · seats alpha · usage alpha · audit ·
//! refusals · rows · due
//! ```
//! Operators' commands take `as=ID` (default: the first administrator).

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::offline::OfflineProof;
use lease::outcome::{Outcome, Refusal, RenewalOutcome, SatisfiedBy};

use crate::license_script;
use crate::pools;
use crate::world::*;

/// Runs a script against a world in which package `alpha` (5 commit, 15 overage seats of product
/// `davinci`) and application 1 exist.
#[track_caller]
pub(crate) fn check(script: &str) {
    check_in(World::ready(), script);
}

#[track_caller]
pub(crate) fn check_in(mut world: World, script: &str) -> World {
    world.audit();
    let mut actual = String::new();
    let mut expected = String::new();
    for line in script.lines() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let (command, answer) = line.split_once("->").unwrap_or((line, "done"));
        let (command, answer) = (command.trim(), answer.trim());
        let got = run(&mut world, &Line::parse(command));
        expected.push_str(&format!("{command} -> {answer}\n"));
        actual.push_str(&format!("{command} -> {got}\n"));
    }
    assert_eq!(actual, expected, "\n--- actual ---\n{actual}--- expected ---\n{expected}");
    world
}

/// One line's answer.
pub(crate) fn say(world: &mut World, line: &str) -> String {
    run(world, &Line::parse(line))
}

pub(crate) struct Line<'a> {
    pub(crate) words: Vec<&'a str>,
    pub(crate) options: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    pub(crate) fn parse(line: &'a str) -> Self {
        let (mut words, mut options) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((name, value)) => {
                    options.insert(name, value);
                }
                None => words.push(word),
            }
        }
        Self { words, options }
    }

    pub(crate) fn word(&self, at: usize) -> &'a str {
        self.words.get(at).copied().unwrap_or_else(|| panic!("word {at} of {:?}", self.words))
    }

    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.options.get(name).map_or(default, |value| value.parse().expect("a number"))
    }

    pub(crate) fn name(&self, name: &str) -> Option<Name> {
        self.options.get(name).map(|value| Name::from(*value))
    }

    pub(crate) fn list(&self, name: &str) -> Vec<&'a str> {
        self.options.get(name).map_or_else(Vec::new, |value| value.split(',').collect())
    }

    pub(crate) fn request(&self) -> Option<RequestId> {
        let body = self.options.get("body").copied().unwrap_or("body");
        let operation = self.words[0];
        let key = self.options.get("key").map(|key| (key, KeyOrigin::Caller));
        let key = key.or(self.options.get("gw").map(|key| (key, KeyOrigin::Gateway)));
        key.map(|(key, origin)| request(operation, key, body, origin))
    }

    pub(crate) fn app(&self) -> Actor {
        app_actor(self.number("app", 1), self.number("gen", 1) as u32)
    }

    pub(crate) fn operator(&self) -> Actor {
        match self.options.get("as") {
            Some(node) if node.starts_with('n') => Actor::Node(node[1..].parse().expect("a node")),
            Some(app) if app.starts_with('a') => app_actor(app[1..].parse().expect("an app"), 1),
            _ => Actor::Operator(OperatorId(self.number("as", ROOT.0))),
        }
    }
}

fn run(world: &mut World, line: &Line<'_>) -> String {
    if let Some(answer) = license_script::run(world, line) {
        return answer;
    }
    let (actor, command) = match line.words[0] {
        "time" => return pass(world, line),
        "seats" => return seats(world, line.word(1)),
        "usage" => return usage(world, line.word(1)),
        "audit" => return audit(world),
        "pooluse" => return pools::usage(world, line),
        "refusals" => return refusals(world),
        "rows" => return world.ledger.request_rows().to_string(),
        "due" => return due(world),
        "checkout" => (line.app(), checkout_of(line)),
        "heartbeat" => {
            let leases = line.words[1..].iter().map(|word| renewal(word)).collect();
            (line.app(), Command::Heartbeat { leases })
        }
        "return" => (line.app(), return_of(line)),
        word if crate::operate::WORDS.contains(&word) => return crate::operate::run(world, line),
        word if crate::offline::WORDS.contains(&word) => return crate::offline::run(world, line),
        _ => (line.operator(), operators_command(world, line)),
    };
    answer(&world.apply(actor, line.request(), command))
}

fn checkout_of(line: &Line<'_>) -> Command {
    let package = line.words.get(2).copied().unwrap_or("alpha");
    let product = line.options.get("product").copied().unwrap_or("davinci");
    let mut checkout = checkout(package, product, lease_of(line.word(1)));
    checkout.quantity = line.number("qty", 1) as u32;
    checkout.pool = line.name("pool");
    checkout.features = line.list("features").into_iter().map(Name::from).collect();
    if let Some(user) = line.options.get("user") {
        checkout.user = subject(user);
    }
    if let Some(host) = line.options.get("host") {
        checkout.host = subject(host);
    }
    if let Some(session) = line.options.get("session") {
        checkout.session = (*session).into();
    }
    Command::Checkout(Box::new(checkout))
}

fn return_of(line: &Line<'_>) -> Command {
    Command::Return(Box::new(Return {
        lease: lease_of(line.word(1)),
        usage: UsageReport {
            session_duration_s: line.number("seconds", 0),
            features_used: line.list("used").into_iter().map(Box::from).collect(),
            files_processed: line.number("files", 0),
        },
    }))
}

fn operators_command(world: &World, line: &Line<'_>) -> Command {
    let change = || PackageChange { package: line.word(1).into(), reason: "because".into() };
    let number = |at: usize| line.word(at).parse::<u64>().expect("a number");
    match line.words[0] {
        "release" => Command::Release { lease: lease_of(line.word(1)), reason: "because".into() },
        "suspend" => Command::SuspendPackage(change()),
        "resume" => Command::ResumePackage(change()),
        "revoke" => Command::RevokePackage(change()),
        "transfer" => Command::TransferSeats(TransferSeats {
            package: line.word(1).into(),
            from: line.name("from"),
            to: (line.word(2) != "-").then(|| line.word(2).into()),
            quantity: number(3) as u32,
        }),
        "setpool" => pools::set(line),
        "rmpool" => pools::remove(line),
        "import" => import(imported(line)),
        "pin" => {
            let mut vendor = vendor(line.word(1));
            if line.options.contains_key("other") {
                vendor.public_der.push(1);
                vendor.fingerprint = sha2::Digest::finalize(sha2::Digest::chain_update(
                    <sha2::Sha256 as sha2::Digest>::new(),
                    &vendor.public_der,
                ))
                .into();
            }
            Command::PinVendor(vendor)
        }
        "register" => {
            let mut command = register(number(1), line.word(2));
            if let Command::RegisterApp(app) = &mut command {
                app.vendor = line.name("vendor").unwrap_or(app.vendor.clone());
                app.secret_mac[1] = line.number("secret", 0) as u8;
            }
            command
        }
        "rotate" => Command::RotateAppSecret(RotateAppSecret {
            app: AppId(number(1)),
            secret_mac: [line.number("secret", 99) as u8; 32],
        }),
        "remove" => Command::RemoveApp { app: AppId(number(1)) },
        "operator" => {
            let role = match line.word(2) {
                "admin" => Role::Admin,
                "operator" => Role::Operator,
                _ => Role::Auditor,
            };
            let until = line.options.get("until").map(|wait| world.clock.civil_ms + millis(wait));
            Command::AddOperator(operator(OperatorId(number(1)), role, until))
        }
        other => panic!("no command {other}"),
    }
}

pub(crate) fn imported(line: &Line<'_>) -> PackageTerms {
    let number = |at: usize| line.word(at).parse::<u32>().expect("a number");
    let mut terms = terms(line.word(1), line.word(2), number(3), number(4));
    terms.total = line.number("total", terms.total.into()) as u32;
    terms.client_id = line.name("client").unwrap_or(terms.client_id);
    terms.org_domain = line.name("domain").unwrap_or(terms.org_domain);
    terms.vendor = line.name("vendor").unwrap_or(terms.vendor);
    terms.policy.renewal_rotation = line.number("rotation", 1) == 1;
    if let Some(ttl) = line.options.get("ttl") {
        terms.policy.lease_ttl_ms = millis(ttl) as u32;
    }
    if let Some(from) = line.options.get("from") {
        terms.valid_from_ms = START_MS + millis(from);
    }
    if let Some(until) = line.options.get("until") {
        terms.valid_until_ms = START_MS + millis(until);
    }
    if let Some(until) = line.options.get("commit_until") {
        terms.sources[0].valid_until_ms = START_MS + millis(until);
    }
    let extra = line.number("extra", 0) as u32;
    if extra > 0 {
        // Commit seats that are there as long as the package.
        let (seats, valid_until_ms) = (extra, terms.valid_until_ms);
        terms.sources.push(CapacitySource { seats, valid_until_ms, ..terms.sources[0].clone() });
    }
    terms
}

pub(crate) fn lease_of(word: &str) -> LeaseId {
    lease_id(word.trim_start_matches('L').parse().expect("L and a number"))
}

pub(crate) fn renewal(word: &str) -> Renewal {
    let mut parts = word.split(':');
    let lease = lease_of(parts.next().expect("a lease"));
    let sequence = parts.next().map_or(1, |sequence| sequence.parse().expect("a number"));
    Renewal { lease, sequence, still_active: parts.next() != Some("idle") }
}

/// `+60s`, `+15m`, `+1ms`, `-1s`.
pub(crate) fn millis(text: &str) -> i64 {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("no unit {other}"),
    };
    digits.parse::<i64>().expect("a number") * unit
}

fn pass(world: &mut World, line: &Line<'_>) -> String {
    let both = line.words.get(1).map_or(0, |wait| millis(wait));
    let led = line.options.get("led").map_or(both, |wait| millis(wait));
    let civil = line.options.get("civil").map_or(both, |wait| millis(wait));
    world.clock.led_ms = world.clock.led_ms.saturating_add_signed(led);
    world.clock.civil_ms += civil;
    answer(&world.apply(Actor::Node(1), None, Command::Tick))
}

fn seats(world: &World, package: &str) -> String {
    let view = world.ledger.package(package).expect("the package");
    let seats = view.seats();
    let pools = seats.pools.iter().map(|pool| {
        let name = pool.pool.as_deref().unwrap_or("-");
        format!(" {name}:{}/{}", pool.in_use, pool.share)
    });
    format!(
        "commit {}+{} overage {}+{} total+{}{}",
        seats.commit_in_use,
        seats.commit_free,
        seats.overage_in_use,
        seats.overage_free,
        seats.total_free,
        pools.collect::<String>()
    )
}

fn usage(world: &World, package: &str) -> String {
    let usage = world.ledger.usage(package).expect("the package");
    let features = world.ledger.package(package).expect("the package").feature_usage();
    let features = features.map(|(name, count)| format!(" {name}:{count}")).collect::<String>();
    format!(
        "checkouts {}+{} charged {} peak {} ends {}+{}+{} sessions {} {}s files {} other {}{}",
        usage.commit_checkouts,
        usage.overage_checkouts,
        usage.overage_charged.0,
        usage.peak_concurrent,
        usage.returned,
        usage.expired,
        usage.released,
        usage.sessions,
        usage.session_duration_s,
        usage.files_processed,
        usage.other_features,
        features
    )
}

fn audit(world: &mut World) -> String {
    let kinds = world.audit();
    kinds.iter().map(|event| format!("{:?}", event.kind)).collect::<Vec<_>>().join(" ")
}

fn refusals(world: &World) -> String {
    let counts = world.ledger.refusals();
    let counts = counts.map(|(package, code, count)| format!("{package}:{code:?}={count}"));
    counts.collect::<Vec<_>>().join(" ")
}

fn due(world: &World) -> String {
    let due = world.ledger.next_due();
    let clock = world.ledger.clock();
    let led = due.led_ms.map_or("-".to_owned(), |at| (at - clock.led_ms).to_string());
    let civil = due.civil_ms.map_or("-".to_owned(), |at| {
        at.checked_sub(clock.civil_ms).map_or("now".to_owned(), |wait| wait.to_string())
    });
    format!("{led} {civil}")
}

/// An outcome in a few words.
pub(crate) fn answer(outcome: &Outcome) -> String {
    let again = |repeated: bool| if repeated { " again" } else { "" };
    match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Unchanged => "unchanged".to_owned(),
        Outcome::Refused(refusal) => refused(refusal),
        Outcome::Granted(grant) => {
            let class = format!("{:?}", grant.class).to_lowercase();
            let cost = grant.cost.map_or(String::new(), |cost| format!(" cost={}", cost.0));
            let (sequence, seconds) = (grant.sequence, grant.expires_in_ms as f64 / 1000.0);
            format!("{class} seq={sequence} in={seconds}s{cost}{}", again(grant.repeated))
        }
        Outcome::Renewed(outcomes) => {
            let outcomes = outcomes.iter().map(|outcome| match outcome {
                RenewalOutcome::Renewed { expires_in_ms, sequence, .. } => {
                    format!("seq={sequence} in={}s", *expires_in_ms as f64 / 1000.0)
                }
                RenewalOutcome::Refused(refusal) => refused(refusal),
                RenewalOutcome::RenewedOffline(renewed) => {
                    let (sequence, wait) = (renewed.sequence, renewed.expires_in_ms);
                    let token = token(&renewed.proof);
                    format!("seq={sequence} in={}s {token}", wait as f64 / 1000.0)
                }
            });
            outcomes.collect::<Vec<_>>().join("; ")
        }
        Outcome::Borrowed(renewed) => {
            let (sequence, wait) = (renewed.sequence, renewed.expires_in_ms);
            let token = token(&renewed.proof);
            format!("borrowed seq={sequence} in={}s {token}", wait as f64 / 1000.0)
        }
        Outcome::Activated(activated) => license_script::activated(activated),
        Outcome::Counted(totals) => license_script::counted(totals),
        Outcome::Returned(receipt) => {
            let (cost, held) = (receipt.total_cost.0, receipt.duration_ms as f64 / 1000.0);
            format!("cost={cost} held={held}s{}", again(receipt.repeated))
        }
        Outcome::Ticket { node, token_matches } => {
            format!("node {node}{}", if *token_matches { "" } else { " other token" })
        }
        Outcome::Imported { already } => format!("imported{}", again(*already)),
        Outcome::App(app) => {
            let matches = if app.secret_matches { "" } else { " other secret" };
            format!("app {} gen={}{matches}", app.app.0, app.generation)
        }
    }
}

fn token(proof: &OfflineProof) -> String {
    let good_for_ms = proof.ends_ms - proof.issued_ms;
    format!("token v{} for={}s", proof.version, good_for_ms as f64 / 1000.0)
}

fn refused(refusal: &Refusal) -> String {
    let mut text = format!("no {:?}", refusal.code);
    if let Some(wait) = refusal.retry_in_ms {
        text.push_str(&format!(" in={}s", wait as f64 / 1000.0));
    }
    match &refusal.satisfied_by {
        None => {}
        Some(SatisfiedBy::Quantity(quantity)) => text.push_str(&format!(" qty={quantity}")),
        Some(SatisfiedBy::WithoutFeatures(names)) => {
            text.push_str(&format!(" without={}", names.join(",")));
        }
        Some(SatisfiedBy::Pool(pool)) => {
            text.push_str(&format!(" pool={}", pool.as_deref().unwrap_or("-")));
        }
    }
    text
}
