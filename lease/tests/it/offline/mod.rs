//! Offline use, the classic face and budgets: words for scripts, tables, devices with clocks that
//! are off, stored bytes.
//!
//! ```text
//! entitle beta davinci 2 3 [tokens=1] [borrow=+1h] [seats=2] [reserve=1] [skew=+10s] [as import]
//! borrow L1:1 +60s · unborrow L1:2 · writeoff L1 · hold L1 · held beta · spent beta
//! rules beta [max=+1h] [seats=1] [reserve=1] [include=user:anna,host:wks-1] [exclude=user:bert]
//! budget beta 1000 · budget beta - · apikey 1 [mac=1] · no-apikey 1
//! classic L1 beta [ttl=+1h] [user=anna] [api=1] [key=K] · classic-return L1 [gw=K]
//! ```

mod devices;
mod golden;
mod verbs;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::money::Money;
use lease::offline::*;

use crate::script::{Line, answer, imported, lease_of, millis, renewal};
use crate::world::*;

/// What a line of this kind begins with.
pub(crate) const WORDS: [&str; 13] = [
    "entitle",
    "borrow",
    "unborrow",
    "writeoff",
    "hold",
    "held",
    "spent",
    "rules",
    "budget",
    "apikey",
    "no-apikey",
    "classic",
    "classic-return",
];

pub(crate) fn run(world: &mut World, line: &Line<'_>) -> String {
    let classic = Actor::Face(Face::Classic);
    let (actor, command) = match line.words[0] {
        "hold" => return hold(world, lease_of(line.word(1))),
        "held" => {
            let ledger = &world.ledger;
            let (held, out) =
                (ledger.held_seats(line.word(1)), ledger.borrowed_seats(line.word(1)));
            return format!("held {held} borrowed {out}");
        }
        "spent" => {
            let budget = world.ledger.budget(line.word(1));
            return budget.map_or("-".to_owned(), |budget| budget.charged.0.to_string());
        }
        "borrow" => {
            let renewal = renewal(line.word(1));
            let duration_ms = millis(line.word(2)) as u64;
            let borrow = Borrow { lease: renewal.lease, sequence: renewal.sequence, duration_ms };
            (line.app(), Command::Borrow(borrow))
        }
        "unborrow" => {
            let Renewal { lease, sequence, .. } = renewal(line.word(1));
            (line.app(), Command::ReturnBorrow(ReturnBorrow { lease, sequence }))
        }
        "classic" => (classic, classic_checkout(line)),
        "classic-return" => (classic, Command::ClassicReturn { lease: lease_of(line.word(1)) }),
        _ => (line.operator(), operators_command(line)),
    };
    answer(&world.apply(actor, line.request(), command))
}

fn hold(world: &World, lease: LeaseId) -> String {
    let Some(hold) = world.ledger.hold(lease) else { return "-".to_owned() };
    let ends = (hold.ends_ms - world.ledger.clock().civil_ms) as f64 / 1000.0;
    let borrowed = if hold.borrowed { " borrowed" } else { "" };
    format!("v{} ends={ends}s skew={}s{borrowed}", hold.version, hold.skew_ms / 1000)
}

fn classic_checkout(line: &Line<'_>) -> Command {
    let option = |name, otherwise| line.options.get(name).copied().unwrap_or(otherwise);
    Command::ClassicCheckout(Box::new(ClassicCheckout {
        package: line.words.get(2).copied().unwrap_or("alpha").into(),
        lease: lease_of(line.word(1)),
        user: subject(option("user", "anna")),
        api_key: line.options.contains_key("api").then(|| ApiKeyId(line.number("api", 0))),
        ttl_ms: millis(option("ttl", "+24h")) as u64,
    }))
}

fn operators_command(line: &Line<'_>) -> Command {
    let optional = |name: &str| line.options.get(name).copied();
    match line.words[0] {
        "entitle" => entitle(
            {
                let mut terms = imported(line);
                if let Some(skew) = optional("skew") {
                    terms.policy.offline_skew_ms = millis(skew) as u32;
                }
                terms
            },
            OfflineTerms {
                tokens: line.number("tokens", 0) == 1,
                borrow_max_ms: optional("borrow").map_or(0, |max| millis(max) as u64),
                borrow_seats_max: optional("seats").map(|seats| seats.parse().expect("a number")),
                online_reserve: line.number("reserve", 0) as u32,
            },
        ),
        "writeoff" => {
            let lease = lease_of(line.word(1));
            Command::WriteOff(WriteOff { lease, reason: "lost".into() })
        }
        "rules" => {
            let rules = BorrowRules {
                max_ms: optional("max").map(|max| millis(max) as u64),
                seats_max: optional("seats").map(|seats| seats.parse().expect("a number")),
                online_reserve: line.number("reserve", 0) as u32,
                include: parties(&line.list("include")),
                exclude: parties(&line.list("exclude")),
            };
            Command::SetBorrowRules(Box::new(SetBorrowRules {
                package: line.word(1).into(),
                rules,
            }))
        }
        "budget" => Command::SetBudget(SetBudget {
            package: line.word(1).into(),
            max_spend: line.word(2).parse().ok().map(Money),
        }),
        "apikey" => Command::AddApiKey(api_key(
            line.word(1).parse().expect("a number"),
            line.number("mac", 1) as u8,
        )),
        "no-apikey" => {
            let key = ApiKeyId(line.word(1).parse().expect("a number"));
            Command::RemoveApiKey { key }
        }
        other => panic!("no command {other}"),
    }
}

fn parties(words: &[&str]) -> Vec<BorrowParty> {
    let party = |word: &&str| match word.split_once(':') {
        Some(("user", name)) => BorrowParty::User(name.into()),
        Some(("host", name)) => BorrowParty::Host(name.into()),
        _ => panic!("no party {word}"),
    };
    words.iter().map(party).collect()
}

pub(crate) fn entitle(terms: PackageTerms, offline: OfflineTerms) -> Command {
    let Command::ImportPackage(package) = import(terms) else { unreachable!("it imports") };
    Command::ImportEntitlement(Box::new(ImportEntitlement { import: *package, offline }))
}

fn api_key(key: u64, mac: u8) -> ApiKeyRow {
    ApiKeyRow {
        key: ApiKeyId(key),
        mac: [mac; 32],
        name: "ci".into(),
        environment: "test".into(),
        tenant: "acme".into(),
        created_at_ms: 7,
    }
}
