//! Members, epochs, alarms, keys and roots of trust: words for scripts, tables, random histories,
//! and a restore among them.
//!
//! ```text
//! member 2 [dir=2] [zone=b] [as=n2] · ticket [mac=1] [valid=+15m] [replaces=1] [key=K]
//! join 2 [mac=1] [dir=2] [keys=1,2] · completed 2 · unmember 2 [revoke=1] [as=1]
//! members · kid k1 2 [as=n2] · forget k1 · retired k1 · wrap 1 2
//! alarm 1 nospace [text=full] · clear 1 nospace [as=1] · alarms
//! anchor a issuing [other=1] · unanchor a · anchors · prune 3 · operator-gone 7 · unsecret s1
//! rekey 2 [nodes=1,2] [secrets=s1:2,s2:2] · unkey 1 · keys · policy 1 [rate=5] [burst=5] [certs=1]
//! reseal K1 fp-1 from to · epoch 2 [node=9] [why=recovered] [borrows=none] [keys=1] [same=1]
//! reclaim L1:2 [alpha] [epoch=1] [app=1] · grace · kept alpha · unkeep alpha
//! ```
//! Nodes do what is theirs to do as node 1; everything else is the first administrator's.

mod golden;
mod random;
mod restore;
mod verbs;

use lease::command::*;
use lease::entry::Actor;
use lease::ids::*;
use lease::operate::*;
use sha2::{Digest, Sha256};

use crate::script::{Line, answer, millis, renewal};
use crate::world::*;

/// What a line of this kind begins with.
pub(crate) const WORDS: [&str; 29] = [
    "member",
    "ticket",
    "join",
    "completed",
    "unmember",
    "members",
    "kid",
    "forget",
    "retired",
    "wrap",
    "alarm",
    "clear",
    "alarms",
    "anchor",
    "unanchor",
    "anchors",
    "prune",
    "operator-gone",
    "unsecret",
    "rekey",
    "unkey",
    "keys",
    "policy",
    "reseal",
    "epoch",
    "reclaim",
    "grace",
    "kept",
    "unkeep",
];

pub(crate) fn run(world: &mut World, line: &Line<'_>) -> String {
    let number = |at: usize| line.word(at).parse::<u64>().expect("a number");
    let ledger = &world.ledger;
    let (actor, command) = match line.words[0] {
        "members" => return members(world),
        "retired" => {
            let end = ledger.retired_key(line.word(1)).map(|key| key.verifies_until_ms);
            let wait = end.map(|end| (end - world.clock.civil_ms) / 1000);
            return wait.map_or("-".to_owned(), |wait| format!("{wait}s"));
        }
        "alarms" => {
            let alarms = ledger.alarms().map(|it| format!("{}:{}", it.node, it.kind.name()));
            return listed(alarms);
        }
        "anchors" => {
            let anchors = ledger.trust_anchors();
            let mut states: Vec<_> = anchors
                .map(|it| format!("{}:{:?}", it.certificate_der[0] as char, it.state))
                .collect();
            states.sort();
            return listed(states.into_iter());
        }
        "keys" => {
            let wraps = ledger.wrapped_data_keys().map(|it| format!("{}:{}", it.node, it.version));
            let secrets = ledger.secrets().map(|it| format!("{}:{}", it.name, it.version));
            return listed(wraps.chain(secrets));
        }
        "grace" => {
            let wait = ledger.grace().map(|it| it.until_led_ms - ledger.clock().led_ms);
            return wait.map_or("-".to_owned(), |wait| format!("{}s", wait / 1000));
        }
        "kept" => {
            let kept = ledger.reserved(line.word(1));
            return kept.map_or("-".to_owned(), |row| {
                format!("{} for={}s", row.seats, (row.until_ms - world.clock.civil_ms) / 1000)
            });
        }
        "reclaim" => (line.app(), reclaim(line)),
        "member" | "join" | "completed" | "kid" | "forget" | "alarm" | "epoch" | "wrap"
        | "reseal" => {
            let actor =
                if line.options.contains_key("as") { line.operator() } else { Actor::Node(1) };
            (actor, nodes_command(world, line))
        }
        "prune" => {
            let hash = [number(1) as u8; 32];
            (line.operator(), Command::PruneAudit { upto_seq: number(1), hash })
        }
        _ => (line.operator(), operators_command(world, line)),
    };
    answer(&world.apply(actor, line.request(), command))
}

fn listed(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "-".to_owned() } else { items.join(" ") }
}

fn members(world: &World) -> String {
    let ledger = &world.ledger;
    let members = ledger.members().map(|it| it.node.to_string());
    let tickets = ledger
        .tickets()
        .map(|it| format!("ticket:{}{}", it.node, if it.joined { "+" } else { "" }));
    let former = ledger.former_members().map(|it| format!("former:{}", it.node));
    listed(members.chain(tickets).chain(former))
}

fn reclaim(line: &Line<'_>) -> Command {
    let Renewal { lease, sequence, .. } = renewal(line.word(1));
    let package = line.words.get(2).copied().unwrap_or("alpha").into();
    let former_epoch = line.number("epoch", 1) as u32;
    Command::Reclaim(Box::new(Reclaim { lease, sequence, former_epoch, package }))
}

fn nodes_command(world: &World, line: &Line<'_>) -> Command {
    let number = |at: usize| line.word(at).parse::<u64>().expect("a number");
    let ticket_mac = || [line.number("mac", 1) as u8; 32];
    match line.words[0] {
        "member" => Command::PutMember(member_of(line, number(1))),
        "join" => Command::JoinMember(Box::new(JoinMember {
            token_mac: ticket_mac(),
            member: member_of(line, number(1)),
            wraps: wraps(number(1), &line.list("keys")),
        })),
        "completed" => Command::CompleteJoin { node: number(1) },
        "kid" => Command::PublishSigningKey(signing_key(line.word(1), number(2))),
        "forget" => Command::ForgetSigningKey { kid: line.word(1).into() },
        "wrap" => Command::WrapDataKey(wrap(number(1), number(2) as u32)),
        "alarm" => Command::RaiseAlarm(RaiseAlarm {
            node: number(1),
            kind: AlarmKind::from_name(line.word(2)).expect("an alarm"),
            detail: line.options.get("text").copied().unwrap_or("full").into(),
        }),
        "reseal" => {
            let license = LicenseId(crate::license_script::number(line.word(1)));
            let holder = Name::from(line.word(2));
            let row = world.ledger.activation_of_holder(license, &holder).expect("an activation");
            Command::ResealActivation(Box::new(ResealActivation {
                activation: row.activation,
                before: sealed(line.word(3), row.session.as_ref()),
                after: sealed(line.word(4), None),
            }))
        }
        "epoch" => {
            let epoch = number(1) as u32;
            let next = world.ledger.next_node_id().expect("a next");
            let node = line.number("node", next);
            let same = line.options.contains_key("same");
            Command::OpenEpoch(Box::new(open_epoch(
                epoch,
                if same { INCARNATION } else { u64::from(epoch) },
                node,
                line.options.get("why") == Some(&"recovered"),
                line.options.contains_key("borrows"),
                &line.list("keys"),
            )))
        }
        other => panic!("no command {other}"),
    }
}

pub(crate) fn open_epoch(
    epoch: u32,
    incarnation: u64,
    node: NodeId,
    recovered: bool,
    no_borrows_since: bool,
    keys: &[&str],
) -> OpenEpoch {
    OpenEpoch {
        epoch,
        incarnation,
        reason: if recovered { EpochReason::Recovered } else { EpochReason::Restored },
        member: member(node, 100 + node, ""),
        wraps: wraps(node, if keys.is_empty() { &["1"] } else { keys }),
        no_borrows_since,
    }
}

fn sealed(word: &str, present: Option<&Sealed>) -> Sealed {
    match present {
        Some(present) if word == "present" => present.clone(),
        _ => Sealed { nonce: [1; 12], bytes: word.into() },
    }
}

fn operators_command(world: &World, line: &Line<'_>) -> Command {
    let number = |at: usize| line.word(at).parse::<u64>().expect("a number");
    match line.words[0] {
        "ticket" => Command::AddTicket(AddTicket {
            token_mac: [line.number("mac", 1) as u8; 32],
            valid_ms: line.options.get("valid").map_or(900_000, |wait| millis(wait) as u64),
            learner: line.options.contains_key("learner"),
            replaces: line.options.get("replaces").map(|node| node.parse().expect("a number")),
        }),
        "unmember" => Command::RemoveMember(RemoveMember {
            node: number(1),
            revoke_tokens: line.options.contains_key("revoke"),
            reason: "because".into(),
        }),
        "clear" => Command::ClearAlarm {
            node: number(1),
            kind: AlarmKind::from_name(line.word(2)).expect("an alarm"),
        },
        "anchor" => {
            let state = match line.word(2) {
                "trusted" => AnchorState::Trusted,
                "issuing" => AnchorState::Issuing,
                _ => AnchorState::Retiring,
            };
            let mut anchor = anchor(line.word(1), state);
            if line.options.contains_key("other") {
                anchor.key_version += 1;
            }
            Command::PutTrustAnchor(Box::new(anchor))
        }
        "unanchor" => {
            let TrustAnchor { fingerprint, .. } = anchor(line.word(1), AnchorState::Retiring);
            Command::RemoveTrustAnchor { fingerprint }
        }
        "operator-gone" => {
            Command::RemoveOperator(RemoveOperator { operator: OperatorId(number(1)) })
        }
        "unsecret" => Command::RemoveSecret { name: line.word(1).into() },
        "rekey" => rekey(world, line),
        "unkey" => Command::RetireDataKey { version: number(1) as u32 },
        "policy" => Command::SetAppPolicy(Box::new(AppPolicy {
            requests_per_second: line.name("rate").map(|rate| rate.parse().expect("a number")),
            burst: line.number("burst", 0) as u32,
            certificates: vec![[1; 32]; line.number("certs", 0) as usize],
            ..AppPolicy::plain(AppId(number(1)))
        })),
        "unkeep" => {
            Command::ReleaseReserved { package: line.word(1).into(), reason: "because".into() }
        }
        other => panic!("no command {other}"),
    }
}

/// Without options: exactly what is asked for.
fn rekey(world: &World, line: &Line<'_>) -> Command {
    let version = line.word(1).parse().expect("a number");
    let nodes: Vec<NodeId> = match line.options.get("nodes") {
        Some(_) => line.list("nodes").iter().map(|it| it.parse().expect("a number")).collect(),
        None => world.ledger.members().map(|member| member.node).collect(),
    };
    let secrets: Vec<SealedSecret> = match line.options.get("secrets") {
        Some(_) => {
            let named = line.list("secrets");
            let parts = named.iter().filter_map(|it| it.split_once(':'));
            parts.map(|(name, at)| secret(name, at.parse().expect("a number"))).collect()
        }
        None => world.ledger.secrets().map(|it| secret(&it.name, it.version + 1)).collect(),
    };
    let wraps = nodes.into_iter().map(|node| wrap(node, version)).collect();
    Command::ReplaceDataKey(Box::new(ReplaceDataKey { version, wraps, secrets }))
}

fn member_of(line: &Line<'_>, node: NodeId) -> Member {
    let zone = line.options.get("zone").copied().unwrap_or_default();
    member(node, line.number("dir", 100 + node), zone)
}

pub(crate) fn member(node: NodeId, directory_incarnation: u64, zone: &str) -> Member {
    Member {
        node,
        peer_address: format!("127.0.0.1:{}", 7410 + node).into(),
        gateway_url: format!("https://127.0.0.1:{}", 7400 + node).into(),
        region: "eu".into(),
        zone: zone.into(),
        directory_incarnation,
        kek_public: [node as u8; 32],
    }
}

pub(crate) fn wrap(node: NodeId, version: u32) -> WrappedDataKey {
    WrappedDataKey {
        version,
        node,
        ephemeral_public: [6; 32],
        nonce: [7; 12],
        wrapped: vec![version as u8; 48],
    }
}

fn wraps(node: NodeId, versions: &[&str]) -> Vec<WrappedDataKey> {
    versions.iter().map(|version| wrap(node, version.parse().expect("a number"))).collect()
}

pub(crate) fn secret(name: &str, version: u32) -> SealedSecret {
    SealedSecret { name: name.into(), version, nonce: [4; 12], sealed: vec![version as u8; 48] }
}

pub(crate) fn signing_key(kid: &str, node: NodeId) -> SigningKey {
    let algorithm = SigningAlgorithm::Rs256;
    SigningKey { kid: kid.into(), node, algorithm, public_der: vec![0x30, node as u8] }
}

pub(crate) fn anchor(name: &str, state: AnchorState) -> TrustAnchor {
    let certificate_der = name.as_bytes().to_vec();
    let fingerprint = Sha256::digest(&certificate_der).into();
    TrustAnchor {
        fingerprint,
        certificate_der,
        cross_signed_der: Vec::new(),
        key_version: 1,
        state,
    }
}
