//! A founded cluster in a ledger, with short ways to drive it. Every command is followed by a
//! check of all invariants, and a twin ledger that is stored and loaded again after every command
//! must stay equal to the one that never is.

use std::collections::BTreeMap;

use lease::command::*;
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::ids::*;
use lease::invariants::{Before, check_all};
use lease::limits::LedgerLimits;
use lease::money::Money;
use lease::outcome::Outcome;
use lease::rows::{Changes, table};
use lease::{AuditEvent, AuditHead, Ledger, decode_audit_block, verify_chain};
use sha2::{Digest, Sha256};

/// 2026-01-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// A year.
pub(crate) const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;
pub(crate) const ROOT: OperatorId = OperatorId(1);
pub(crate) const INCARNATION: u64 = 0xfeed_beef;

/// Rows as `storage` would keep them.
pub(crate) type Store = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

/// Stores what changed since the last time.
pub(crate) fn checkpoint(ledger: &mut Ledger, store: &mut Store) {
    keep(ledger.take_changes(), store);
}

/// Stores what was taken out of a ledger.
pub(crate) fn keep(changes: Changes, store: &mut Store) {
    let rows = changes.into_rows();
    let keys: Vec<_> = rows.iter().map(|row| (row.table, row.key.clone())).collect();
    assert!(keys.is_sorted_by(|one, other| one < other), "rows come in order");
    for row in rows {
        match row.value {
            Some(value) => {
                assert!(value.len() <= 64 * 1024, "a row fits into 64 KiB");
                store.insert((row.table, row.key), value);
            }
            None => {
                let gone = store.remove(&(row.table, row.key));
                assert!(gone.is_some(), "what was never stored is never removed");
            }
        }
    }
}

/// A fresh ledger from stored rows.
pub(crate) fn load(store: &Store, limits: LedgerLimits) -> Ledger {
    let mut ledger = Ledger::with_limits(limits);
    for ((table, key), value) in store {
        ledger.load_row(*table, key, value).expect("a stored row loads");
    }
    ledger.finish_load().expect("stored rows are a ledger");
    ledger
}

/// All audit events that were stored.
pub(crate) fn stored_events(store: &Store) -> Vec<AuditEvent> {
    let blocks = store.iter().filter(|((table, _), _)| *table == table::AUDIT);
    blocks.flat_map(|(_, block)| decode_audit_block(block).expect("a block decodes")).collect()
}

pub(crate) struct World {
    pub ledger: Ledger,
    /// Stored and loaded again after every command.
    pub twin: Ledger,
    pub store: Store,
    pub limits: LedgerLimits,
    pub clock: Stamp,
    pub index: u64,
    /// Audit events that `ledger` has handed out.
    pub events: Vec<AuditEvent>,
}

impl World {
    /// Founded, one administrator, nothing else.
    pub(crate) fn founded(limits: LedgerLimits) -> Self {
        let mut world = Self {
            ledger: Ledger::with_limits(limits),
            twin: Ledger::with_limits(limits),
            store: Store::new(),
            limits,
            clock: Stamp { led_ms: 1_000_000, civil_ms: START_MS },
            index: 0,
            events: Vec::new(),
        };
        let node = Actor::Node(1);
        assert_eq!(world.apply(node, None, founding()), Outcome::Done);
        let root = operator(ROOT, Role::Admin, None);
        assert_eq!(world.apply(node, None, Command::AddOperator(root)), Outcome::Done);
        world
    }

    /// Founded, with a vendor, the sample package and an application.
    pub(crate) fn ready() -> Self {
        let mut world = Self::founded(LedgerLimits::PRODUCTION);
        world.root(Command::PinVendor(vendor("vector-de")));
        world.root(import(terms("alpha", "davinci", 5, 15)));
        world.root(register(1, "davinci"));
        world
    }

    /// A command of the first administrator that must be done.
    pub(crate) fn root(&mut self, command: Command) -> Outcome {
        let outcome = self.apply(Actor::Operator(ROOT), None, command);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        outcome
    }

    pub(crate) fn apply(
        &mut self,
        actor: Actor,
        request: Option<RequestId>,
        command: Command,
    ) -> Outcome {
        let trace = TraceId(u128::from(self.index) + 1);
        let envelope = Envelope { actor, request, trace, cause: None, command };
        self.apply_batch(vec![envelope]).remove(0)
    }

    pub(crate) fn apply_batch(&mut self, commands: Vec<Envelope>) -> Vec<Outcome> {
        self.index += 1;
        let entry = Entry { header: self.header(), commands };
        assert_eq!(Entry::decode(&entry.encode()).as_ref(), Ok(&entry));
        let before = Before::of(&self.ledger);
        let outcomes = self.ledger.apply_entry(self.index, &entry).expect("it belongs here");
        check_all(&before, &self.ledger).expect("every rule holds");
        let of_twin = self.twin.apply_entry(self.index, &entry).expect("it belongs here");
        assert_eq!(outcomes, of_twin, "a replica that restarted answers the same");
        self.restart_twin();
        assert_eq!(self.ledger.state_sum(), self.twin.state_sum(), "and holds the same");
        outcomes
    }

    /// Audit events since this was last asked.
    pub(crate) fn audit(&mut self) -> Vec<AuditEvent> {
        let recent = self.ledger.audit_recent().expect("events decode");
        let known = self.events.len();
        let new = recent[known..].to_vec();
        self.events = recent;
        new
    }

    pub(crate) fn header(&self) -> EntryHeader {
        let cluster = self.ledger.cluster();
        EntryHeader {
            group: 0,
            epoch: cluster.map_or(0, |cluster| cluster.epoch),
            incarnation: cluster.map_or(0, |cluster| cluster.incarnation),
            stamp: self.clock,
            origin: 1,
        }
    }

    fn restart_twin(&mut self) {
        checkpoint(&mut self.twin, &mut self.store);
        let twin = load(&self.store, self.limits);
        check_all(&Before::of(&self.twin), &twin).expect("every rule holds after a restart");
        let head = verify_chain(AuditHead::default(), &stored_events(&self.store));
        assert_eq!(head, Ok(twin.audit_head()), "stored events end at the head");
        self.twin = twin;
    }
}

pub(crate) fn founding() -> Command {
    Command::InitCluster(InitCluster {
        cluster_id: "lh-test".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        epoch: 1,
        incarnation: INCARNATION,
    })
}

pub(crate) fn operator(id: OperatorId, role: Role, expires_at_ms: Option<i64>) -> Operator {
    let token_mac = Sha256::digest(id.0.to_le_bytes()).into();
    Operator { operator: id, name: "somebody".into(), role, token_mac, expires_at_ms }
}

pub(crate) fn vendor(name: &str) -> Vendor {
    let public_der = format!("key of {name}").into_bytes();
    let fingerprint = Sha256::digest(&public_der).into();
    Vendor { vendor: name.into(), name: "".into(), public_der, fingerprint }
}

pub(crate) fn terms(package: &str, product: &str, commit: u32, overage: u32) -> PackageTerms {
    let source = |seats, class| CapacitySource {
        seats,
        class,
        valid_from_ms: START_MS,
        valid_until_ms: START_MS + YEAR_MS,
    };
    PackageTerms {
        package: package.into(),
        vendor: "vector-de".into(),
        product: product.into(),
        product_name: "A product".into(),
        version_range: ">=8.0.0".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        total: commit + overage,
        sources: vec![source(commit, SeatClass::Commit), source(overage, SeatClass::Overage)],
        pricing: Pricing {
            commit_fee_monthly: Money::default(),
            overage_per_use: Money("500.0".parse().expect("a number")),
            currency: "EUR".into(),
        },
        features: vec!["can".into(), "lin".into()],
        valid_from_ms: START_MS,
        valid_until_ms: START_MS + YEAR_MS,
        policy: Policy::default(),
    }
}

pub(crate) fn import(terms: PackageTerms) -> Command {
    Command::ImportPackage(Box::new(ImportPackage {
        canonical: format!("{terms:?}").into_bytes(),
        signature: "SHA256-RSA:c2ln".into(),
        verified_by: vendor(&terms.vendor).fingerprint,
        terms,
    }))
}

pub(crate) fn register(app: u64, product: &str) -> Command {
    Command::RegisterApp(RegisterApp {
        app: AppId(app),
        client_id: format!("client-{app}").into(),
        name: "An application".into(),
        product: product.into(),
        vendor: "vector-de".into(),
        secret_mac: [app as u8; 32],
    })
}

pub(crate) fn lease_id(number: u64) -> LeaseId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    LeaseId { group: 0, random }
}

pub(crate) fn subject(name: &str) -> Subject {
    let digest = Sha256::digest(name);
    let mut candidate = [0; 8];
    candidate.copy_from_slice(&digest[..8]);
    Subject { name: name.into(), candidate: SubjectRef(u64::from_le_bytes(candidate)) }
}

pub(crate) fn checkout(package: &str, product: &str, lease: LeaseId) -> Checkout {
    Checkout {
        package: package.into(),
        product: product.into(),
        lease,
        pool: None,
        quantity: 1,
        features: Vec::new(),
        user: subject("anna"),
        host: subject("wks-1"),
        version: "".into(),
        session: "".into(),
    }
}

pub(crate) fn app_actor(app: u64, generation: u32) -> Actor {
    Actor::App { app: AppId(app), generation }
}

pub(crate) fn request(operation: &str, key: &str, body: &str, origin: KeyOrigin) -> RequestId {
    RequestId {
        scope: RequestId::scope_of("principal", operation, key),
        body: RequestId::body_of(body.as_bytes()),
        origin,
    }
}
