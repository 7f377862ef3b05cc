//! Random histories of everything that operators and nodes do, among leases that come and go. Each
//! command is followed by every invariant, on a replica that never restarts and on one that does
//! after each command (see `world`); and what is sealed decides nothing.

use lease::audit::AuditHead;
use lease::command::{Command, SealedSecret, WrappedDataKey};
use lease::entry::Actor;
use lease::ids::LicenseId;
use lease::limits::LedgerLimits;
use lease::operate::{ReplaceDataKey, ResealActivation};
use lease::outcome::Outcome;
use proptest::prelude::*;

use crate::operate::{secret, wrap};
use crate::script::{check_in, say};
use crate::world::*;

/// One command, with numbers to put in the place of its letters: `N` a node, `L` a lease, `S` a
/// sequence, `V` a version, `T` a name.
fn line() -> impl Strategy<Value = String> {
    let templates = prop::sample::select(LINES);
    (templates, 1_u32..7, 1_u32..6, 1_u32..4, 1_u32..4, 0_usize..3).prop_map(
        |(template, node, lease, sequence, version, name)| {
            let words = template.split(' ').map(|word| match word {
                "N" => node.to_string(),
                "L" => format!("L{lease}"),
                "LS" => format!("L{lease}:{sequence}"),
                "V" => version.to_string(),
                "T" => ["one", "two", "three"][name].to_owned(),
                word if word.ends_with('#') => format!("{}{version}", word.trim_end_matches('#')),
                word => word.to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        },
    )
}

const LINES: &[&str] = &[
    "time +1s",
    "time +100s",
    "time +900s",
    "time civil=+3600s",
    "checkout L",
    "checkout L beta",
    "checkout L beta",
    "checkout L pool=two key=#",
    "heartbeat LS",
    "heartbeat LS",
    "borrow LS +600s",
    "unborrow LS",
    "return L",
    "release L",
    "reclaim LS",
    "reclaim LS beta",
    "reclaim LS beta",
    "unkeep beta",
    "unkeep alpha",
    "transfer alpha T V",
    "setpool alpha T V",
    "rmpool alpha T",
    "member N as=n#",
    "ticket mac=#",
    "ticket mac=# replaces=#",
    "join N mac=# keys=1,2,3",
    "join N mac=# keys=1",
    "join N mac=# keys=1,2",
    "completed N",
    "unmember N",
    "unmember N revoke=1",
    "kid T N as=n#",
    "kid T 2 as=n2",
    "forget T",
    "wrap N V",
    "alarm N lag",
    "alarm N nospace",
    "clear N nospace",
    "clear N lag",
    "anchor T issuing",
    "anchor T trusted",
    "unanchor T",
    "secret T",
    "unsecret T",
    "rekey V",
    "rekey V",
    "unkey V",
    "policy 1 rate=# burst=5",
    "policy 1",
    "prune V",
    "operator 7 admin",
    "operator-gone 7",
    "epoch 2 keys=1,2,3",
    "epoch 3 keys=1,2,3",
    "epoch 2 keys=1,2,3 borrows=none",
    "epoch 3 keys=1,2,3 why=recovered",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_holds_whatever_operators_do(
        lines in prop::collection::vec(line(), 1..100),
    ) {
        let mut world = check_in(
            World::ready(),
            "entitle beta davinci 1 2 ttl=+60s skew=+10s tokens=1 borrow=+1h seats=2 -> imported
             member 1
             wrap 1 1",
        );
        for line in lines {
            say(&mut world, &line);
        }
    }
}

/// A node that cannot open what is sealed decides as one that can: no rule looks inside.
#[test]
fn what_is_sealed_anew_decides_nothing() {
    fn with(bytes: u8) -> (Vec<Outcome>, AuditHead) {
        let mut world = World::founded(LedgerLimits::PRODUCTION);
        let mut outcomes = Vec::new();
        for line in ["member 1", "pin vector-de", "import alpha davinci 1 1", "client C1 a@x.com"] {
            outcomes.push(say(&mut world, line));
        }
        for line in ["issue K1 device client=C1", "device K1 fp-1 email=a@x.com"] {
            outcomes.push(say(&mut world, line));
        }
        assert!(outcomes.iter().all(|outcome| !outcome.starts_with("no ")), "{outcomes:?}");
        let wrapped = |version| WrappedDataKey { wrapped: vec![bytes; 48], ..wrap(1, version) };
        let sealed = |version| SealedSecret { sealed: vec![bytes; 48], ..secret("s", version) };
        let row = world.ledger.activation_of_holder(LicenseId(1), "fp-1").expect("activated");
        let before = row.session.clone().expect("a session");
        let mut after = before.clone();
        after.bytes = vec![bytes; 32];
        let reseal = ResealActivation { activation: row.activation, before, after };
        let replace =
            ReplaceDataKey { version: 2, wraps: vec![wrapped(2)], secrets: vec![sealed(2)] };
        let (node, root) = (Actor::Node(1), Actor::Operator(ROOT));
        let commands = [
            (node, Command::WrapDataKey(wrapped(1))),
            (node, Command::PutSecret(sealed(1))),
            (root, Command::ReplaceDataKey(Box::new(replace))),
            (node, Command::ResealActivation(Box::new(reseal))),
            (node, Command::RetireDataKey { version: 1 }),
        ];
        let outcomes = commands.map(|(actor, command)| world.apply(actor, None, command));
        (outcomes.to_vec(), world.ledger.audit_head())
    }
    let (outcomes, head) = with(1);
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Done), "{outcomes:?}");
    assert_eq!(with(2), (outcomes, head));
}
