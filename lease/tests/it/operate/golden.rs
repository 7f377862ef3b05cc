//! Stored bytes of what operators do, for ever: see `crate::golden`, whose files stay as they are.

use lease::audit::AuditKind;
use lease::command::*;
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::format::{self, Kind};
use lease::ids::*;
use lease::license::{AddClient, Claim};
use lease::limits::LedgerLimits;
use lease::offline::{Borrow, BorrowParty, OfflineTerms};
use lease::operate::*;
use lease::outcome::{Outcome, RefusalCode};
use lease::{Ledger, decode_audit_block};

use crate::golden::{check_read, check_written, hex, rows_text, write_missing};
use crate::license_script;
use crate::offline::entitle;
use crate::operate::{anchor, member, open_epoch, secret, signing_key, wrap};
use crate::world::*;

const NODE: Actor = Actor::Node(1);
const ADMIN: Actor = Actor::Operator(ROOT);
const SECOND_INCARNATION: u64 = 0xc0ff_ee00;

/// What the golden files are called and what stands in them.
fn golden() -> [(&'static str, String); 3] {
    let (entries, outcomes, store) = history();
    let entry_lines = entries.iter().map(|entry| hex(&entry.encode()) + "\n").collect();
    let outcomes = format::encode(Kind::Outcomes, 1, &outcomes);
    [
        ("operate-entries-v1.hex", entry_lines),
        ("operate-outcomes-v1.hex", hex(&outcomes) + "\n"),
        ("operate-rows-v1.hex", rows_text(&store)),
    ]
}

/// A history that uses every command of operating a cluster and leaves a row in each of its tables.
fn history() -> (Vec<Entry>, Vec<Vec<Outcome>>, Store) {
    let (mut ledger, mut store) = (Ledger::with_limits(LedgerLimits::PRODUCTION), Store::new());
    let (mut entries, mut outcomes) = (Vec::new(), Vec::new());
    let batches = [
        (0, 0, founding_batch()),
        (1, INCARNATION, working_batch()),
        (1, INCARNATION, removing_batch()),
        (1, INCARNATION, vec![envelope(Actor::Node(9), opening())]),
        (2, SECOND_INCARNATION, second_epoch_batch()),
    ];
    for (number, (epoch, incarnation, commands)) in (0_u64..).zip(batches) {
        // The grace and an hour of retired keys are longer than this.
        let later = number * 10_000;
        let stamp = Stamp { led_ms: 5000 + later, civil_ms: START_MS + later as i64 };
        let header = EntryHeader { group: 0, epoch, incarnation, stamp, origin: 1 };
        let entry = Entry { header, commands };
        outcomes.push(ledger.apply_entry(10 + number, &entry).expect("it belongs here"));
        entries.push(entry);
    }
    checkpoint(&mut ledger, &mut store);
    (entries, outcomes, store)
}

fn envelope(actor: Actor, command: Command) -> Envelope {
    Envelope { actor, request: None, trace: TraceId(0x0123_4567_89ab_cdef), cause: None, command }
}

fn founding_batch() -> Vec<Envelope> {
    let offline = OfflineTerms {
        tokens: false,
        borrow_max_ms: 3_600_000,
        borrow_seats_max: Some(2),
        online_reserve: 1,
    };
    let package = |name: &str| {
        let mut package = entitle(terms(name, "davinci", 3, 9), offline.clone());
        if let Command::ImportEntitlement(it) = &mut package {
            it.import.canonical = format!(r#"{{"package":"{name}"}}"#).into_bytes();
        }
        package
    };
    let mut license = license_script::license(1, Face::Device, "alpha");
    license.terms.client = Some(ClientId(1));
    let client = AddClient { client: ClientId(1), email: subject("anna@x.com") };
    vec![
        envelope(NODE, founding()),
        envelope(NODE, Command::PutMember(member(1, 101, "a"))),
        envelope(NODE, Command::WrapDataKey(wrap(1, 1))),
        envelope(NODE, Command::PublishSigningKey(signing_key("kid-1", 1))),
        envelope(NODE, Command::PutSecret(secret("ca-key", 1))),
        envelope(NODE, Command::PutSecret(secret("ca-key-0", 1))),
        envelope(NODE, Command::PutSecret(secret("operator-pepper", 1))),
        envelope(NODE, Command::AddOperator(operator(ROOT, Role::Admin, None))),
        envelope(ADMIN, Command::PinVendor(vendor("vector-de"))),
        envelope(ADMIN, package("alpha")),
        envelope(ADMIN, package("beta")),
        envelope(ADMIN, register(1000, "davinci")),
        envelope(ADMIN, Command::AddOperator(operator(OperatorId(7), Role::Operator, None))),
        envelope(ADMIN, Command::AddClient(client)),
        envelope(ADMIN, Command::IssueLicense(Box::new(license))),
    ]
}

fn ticket(mac: u8, replaces: Option<NodeId>) -> Command {
    let token_mac = [mac; 32];
    Command::AddTicket(AddTicket { token_mac, valid_ms: 900_000, learner: mac == 4, replaces })
}

fn join(node: NodeId, mac: u8, versions: &[u32]) -> Command {
    Command::JoinMember(Box::new(JoinMember {
        token_mac: [mac; 32],
        member: member(node, 100 + node, "b"),
        wraps: versions.iter().map(|version| wrap(node, *version)).collect(),
    }))
}

fn alarm(node: NodeId, kind: AlarmKind) -> Command {
    Command::RaiseAlarm(RaiseAlarm { node, kind, detail: "12 of 10".into() })
}

fn set_pool(pool: &str, reserved_for: Vec<PoolParty>) -> Command {
    Command::SetPool(Box::new(SetPool {
        package: "alpha".into(),
        pool: pool.into(),
        seats: Some(2),
        rule: Some(PoolRule { reserved_for, description: "for the lab".into() }),
    }))
}

fn checkout_of(lease: u64) -> Command {
    Command::Checkout(Box::new(checkout("alpha", "davinci", lease_id(lease))))
}

fn session(bytes: &[u8]) -> Sealed {
    Sealed { nonce: [9; 12], bytes: bytes.to_vec() }
}

/// Nodes, alarms, pools, roots of trust.
fn working_batch() -> Vec<Envelope> {
    let (app, second) = (app_actor(1000, 1), Actor::Node(2));
    let parties = vec![
        PoolParty::Party(BorrowParty::User("anna".into())),
        PoolParty::Party(BorrowParty::Host("wks-1".into())),
        PoolParty::App(AppId(1000)),
    ];
    let policy = AppPolicy {
        app: AppId(1000),
        certificate_bound: true,
        certificates: vec![[7; 32]],
        requests_per_second: Some(50),
        burst: 100,
        token_algorithm: SigningAlgorithm::EdDsa,
    };
    let mut crossed = anchor("second", AnchorState::Trusted);
    crossed.cross_signed_der = vec![0x30, 0x02];
    let mut ticket_again = envelope(ADMIN, ticket(2, None));
    ticket_again.request = Some(request("ticket", "t", "body", KeyOrigin::Caller));
    let identity = license_script::identity("anna@x.com", 1, 1);
    let claim = Claim::Device { identity, session: session(b"under one") };
    let activate = license_script::activate(Some(1), "fp-1", 1, claim);
    let face = Actor::Face(Face::Device);
    let borrow = Borrow { lease: lease_id(2), sequence: 1, duration_ms: 600_000 };
    vec![
        ticket_again.clone(),
        ticket_again,
        envelope(NODE, join(2, 2, &[1])),
        envelope(NODE, Command::CompleteJoin { node: 2 }),
        envelope(second, Command::PublishSigningKey(signing_key("kid-2", 2))),
        envelope(NODE, alarm(1, AlarmKind::NoSpace)),
        envelope(app, checkout_of(1)),
        envelope(ADMIN, Command::ClearAlarm { node: 1, kind: AlarmKind::NoSpace }),
        envelope(NODE, alarm(2, AlarmKind::Lag)),
        envelope(ADMIN, set_pool("lab", parties)),
        envelope(ADMIN, set_pool("spare", Vec::new())),
        envelope(ADMIN, Command::RemovePool { package: "alpha".into(), pool: "spare".into() }),
        envelope(app, checkout_of(1)),
        envelope(app, checkout_of(2)),
        envelope(app, checkout_of(3)),
        envelope(app, Command::Borrow(borrow)),
        envelope(face, Command::Activate(Box::new(activate))),
        envelope(ADMIN, Command::SetAppPolicy(Box::new(policy))),
        envelope(NODE, Command::PutTrustAnchor(Box::new(anchor("first", AnchorState::Issuing)))),
        envelope(NODE, Command::PutTrustAnchor(Box::new(crossed.clone()))),
        envelope(
            NODE,
            Command::PutTrustAnchor(Box::new(TrustAnchor {
                state: AnchorState::Issuing,
                ..crossed
            })),
        ),
    ]
}

/// What goes: keys, people, nodes, the far end of the log.
fn removing_batch() -> Vec<Envelope> {
    let rekey = ReplaceDataKey {
        version: 2,
        wraps: vec![wrap(1, 2), wrap(2, 2)],
        secrets: vec![secret("ca-key", 2), secret("ca-key-0", 2), secret("operator-pepper", 2)],
    };
    let reseal = ResealActivation {
        activation: ActivationId(1001),
        before: session(b"under one"),
        after: session(b"under two"),
    };
    let TrustAnchor { fingerprint, .. } = anchor("first", AnchorState::Retiring);
    let erase = EraseSubject { subject: subject("wks-1").candidate, reason: "asked for it".into() };
    let before = operator(OperatorId(7), Role::Operator, None).token_mac;
    let after = peppered(2, [5; 32]);
    let repepper = Repepper { row: Peppered::Operator(OperatorId(7)), before, after };
    let remove = |revoke_tokens| RemoveMember { node: 2, revoke_tokens, reason: "gone".into() };
    vec![
        envelope(ADMIN, Command::ReplaceDataKey(Box::new(rekey))),
        envelope(NODE, Command::ResealActivation(Box::new(reseal))),
        envelope(NODE, Command::RetireDataKey { version: 1 }),
        envelope(NODE, Command::PutSecret(secret("operator-pepper-2", 1))),
        envelope(NODE, Command::Repepper(repepper)),
        envelope(NODE, Command::RemoveTrustAnchor { fingerprint }),
        envelope(NODE, Command::RemoveSecret { name: "ca-key-0".into() }),
        envelope(ADMIN, Command::EraseSubject(erase)),
        envelope(ADMIN, Command::RemoveOperator(RemoveOperator { operator: OperatorId(7) })),
        envelope(ADMIN, Command::PruneAudit { upto_seq: 5, hash: [5; 32] }),
        envelope(ADMIN, Command::RemoveMember(remove(false))),
        envelope(NODE, Command::ForgetSigningKey { kid: "kid-2".into() }),
        envelope(NODE, Command::RetireSigningKey { kid: "kid-1".into() }),
        envelope(ADMIN, ticket(3, Some(1))),
    ]
}

fn opening() -> Command {
    Command::OpenEpoch(Box::new(open_epoch(2, SECOND_INCARNATION, 9, false, false, &["2"])))
}

fn second_epoch_batch() -> Vec<Envelope> {
    // Binding the application to a certificate began a new generation of its secret.
    let (app, first) = (app_actor(1000, 2), Actor::Node(9));
    let reclaim = |lease, sequence, package: &str| {
        let lease = lease_id(lease);
        let package = package.into();
        Command::Reclaim(Box::new(Reclaim { lease, sequence, former_epoch: 1, package }))
    };
    let release = Command::ReleaseReserved { package: "beta".into(), reason: "nothing was".into() };
    vec![
        envelope(app, checkout_of(20)),
        envelope(app, reclaim(1, 4, "alpha")),
        envelope(app, reclaim(21, 3, "alpha")),
        envelope(app, reclaim(22, 3, "gamma")),
        envelope(ADMIN, release),
        envelope(ADMIN, ticket(4, None)),
        envelope(first, join(10, 4, &[2])),
        envelope(Actor::Node(10), Command::PublishSigningKey(signing_key("kid-10", 10))),
        envelope(
            ADMIN,
            Command::RemoveMember(RemoveMember {
                node: 10,
                revoke_tokens: false,
                reason: "gone".into(),
            }),
        ),
        envelope(ADMIN, ticket(5, Some(9))),
        envelope(first, alarm(9, AlarmKind::Cert)),
    ]
}

#[test]
fn stored_bytes_of_operating_are_what_they_were() {
    check_written(golden());
}

#[test]
fn stored_bytes_of_operating_are_read_again() {
    let (entries, outcomes, store) = history();
    check_read("operate-", &entries, &outcomes, &store);
}

/// Every table has a row, every kind of event an event, and nothing was refused but what was to be.
#[test]
fn the_golden_files_of_operating_cover_everything() {
    let (entries, outcomes, store) = history();
    let refused = outcomes.iter().flatten().filter_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        _ => None,
    });
    let expected = [
        RefusalCode::NoSpace,
        RefusalCode::VersionConflict,
        RefusalCode::Grace,
        RefusalCode::UnknownPackage,
    ];
    assert_eq!(refused.collect::<Vec<_>>(), expected);
    let mut tables: Vec<u8> = store.keys().map(|(table, _)| *table).collect();
    tables.dedup();
    let missing: Vec<u8> = (35..=45).filter(|table| !tables.contains(table)).collect();
    assert_eq!(missing, Vec::<u8>::new());
    let commands = entries.iter().flat_map(|entry| &entry.commands);
    let mut variants: Vec<String> = commands
        .map(|envelope| format!("{:?}", envelope.command))
        .map(|text| text.split([' ', '(', '{']).next().unwrap_or_default().to_owned())
        .collect();
    variants.sort();
    variants.dedup();
    let of_operating = [
        "AddTicket",
        "ClearAlarm",
        "CompleteJoin",
        "EraseSubject",
        "ForgetSigningKey",
        "JoinMember",
        "OpenEpoch",
        "PruneAudit",
        "PutTrustAnchor",
        "RaiseAlarm",
        "Reclaim",
        "ReleaseReserved",
        "RemoveMember",
        "RemoveOperator",
        "RemovePool",
        "RemoveSecret",
        "RemoveTrustAnchor",
        "ReplaceDataKey",
        "Repepper",
        "RetireSigningKey",
        "ResealActivation",
        "RetireDataKey",
        "SetAppPolicy",
        "SetPool",
    ];
    let unused: Vec<&str> =
        of_operating.into_iter().filter(|it| !variants.iter().any(|used| used == it)).collect();
    assert_eq!(unused, Vec::<&str>::new());
    let blocks = store.iter().filter(|((table, _), _)| *table == 18);
    let events = blocks.flat_map(|(_, block)| decode_audit_block(block).expect("a block"));
    let kinds: Vec<AuditKind> = events.map(|event| event.kind).collect();
    for kind in EVENTS {
        assert!(kinds.contains(&kind), "no event {kind:?}");
    }
}

const EVENTS: [AuditKind; 23] = [
    AuditKind::MemberInvited,
    AuditKind::MemberJoined,
    AuditKind::MemberRemoved,
    AuditKind::EpochOpened,
    AuditKind::OperatorRemoved,
    AuditKind::AlarmRaised,
    AuditKind::AlarmCleared,
    AuditKind::SubjectErased,
    AuditKind::PoolSet,
    AuditKind::PoolRemoved,
    AuditKind::AuditPruned,
    AuditKind::AppPolicySet,
    AuditKind::TrustAnchorPut,
    AuditKind::TrustAnchorRemoved,
    AuditKind::DataKeyReplaced,
    AuditKind::DataKeyRetired,
    AuditKind::LeaseReclaimed,
    AuditKind::ReservedReleased,
    AuditKind::SigningKeyRetired,
    AuditKind::SecretRemoved,
    AuditKind::MemberPut,
    AuditKind::LeaseBorrowed,
    AuditKind::Activated,
];

/// Makes the files of a new version; those that exist are left alone.
#[test]
#[ignore = "writes files; run by hand when a format gets a new version"]
fn write_missing_operate_files() {
    write_missing(&golden());
}
