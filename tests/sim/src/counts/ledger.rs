//! The ledger by itself: what `apply` costs per verb, and an entry's way to bytes and back.
//!
//! Everything that changes is done to a ledger in which some thousand leases live, in entries of a
//! size that a busy cluster has.

use std::hint::black_box;

use anyhow::{Context, Result, ensure};
use lease::Ledger;
use lease::command::*;
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::ids::*;
use lease::license::*;
use lease::offline::{Borrow, ImportEntitlement, OfflineTerms, ReturnBorrow};
use lease::outcome::Outcome;
use sha2::{Digest, Sha256};

use super::Meter;
use crate::time::BEGINNING_MS;

/// Counts every case.
pub(crate) fn count(meter: &mut dyn Meter) -> Result<()> {
    let mut run = Run::new()?;
    run.verb(meter, "apply_checkout", |lease| (Some(key(lease, 0)), checkout(lease)))?;
    run.verb(meter, "apply_heartbeat", |lease| {
        (None, Command::Heartbeat { leases: vec![renewal(lease, 1)] })
    })?;
    run.bulk_heartbeats(meter)?;
    run.verb(meter, "apply_borrow", |lease| {
        let borrow = Borrow { lease: id(lease), sequence: 3, duration_ms: 3_600_000 };
        (Some(key(lease, 1)), Command::Borrow(borrow))
    })?;
    run.verb(meter, "apply_return_borrow", |lease| {
        let give_back = ReturnBorrow { lease: id(lease), sequence: 4 };
        (Some(key(lease, 2)), Command::ReturnBorrow(give_back))
    })?;
    run.verb(meter, "apply_return", |lease| {
        let give_back = Return { lease: id(lease), usage: UsageReport::default() };
        (Some(key(lease, 3)), Command::Return(Box::new(give_back)))
    })?;
    run.operators(meter)?;
    run.activations(meter)?;
    run.expiry(meter)?;
    codec(meter);
    Ok(())
}

/// A ledger and its clocks.
struct Run {
    ledger: Ledger,
    index: u64,
    led_ms: u64,
}

impl Run {
    fn new() -> Result<Self> {
        let mut run = Self { ledger: Ledger::new(), index: 0, led_ms: 1_000 };
        let (node, root) = (Actor::Node(1), Actor::Operator(ROOT));
        let founding = founding().into_iter().map(|command| envelope(node, None, command));
        run.apply(&run.entry(founding.collect()))?;
        let setting_up = setting_up().into_iter().map(|command| envelope(root, None, command));
        run.apply(&run.entry(setting_up.collect()))?;
        Ok(run)
    }

    /// An entry under the next stamp.
    fn entry(&self, commands: Vec<Envelope>) -> Entry {
        let stamp = Stamp { led_ms: self.led_ms, civil_ms: BEGINNING_MS };
        Entry {
            header: EntryHeader { group: 0, epoch: 1, incarnation: 1, stamp, origin: 1 },
            commands,
        }
    }

    fn apply(&mut self, entry: &Entry) -> Result<()> {
        self.index += 1;
        let outcomes = self.ledger.apply_entry(self.index, entry)?;
        for outcome in outcomes {
            ensure!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        }
        Ok(())
    }

    fn entries(&self, commands: Vec<Envelope>) -> Vec<Entry> {
        commands.chunks(BATCH).map(|batch| self.entry(batch.to_vec())).collect()
    }

    /// Applies entries as one case.
    fn measure(
        &mut self,
        meter: &mut dyn Meter,
        case: &'static str,
        operations: u64,
        entries: &[Entry],
    ) -> Result<()> {
        let mut done = Ok(());
        meter.measure(case, operations, &mut || {
            done = entries.iter().try_for_each(|entry| self.apply(entry));
        });
        done.with_context(|| case)?;
        // As a checkpoint takes them; what has to be written next is another case's.
        self.ledger.take_changes();
        Ok(())
    }

    fn verb(
        &mut self,
        meter: &mut dyn Meter,
        case: &'static str,
        make: impl Fn(u64) -> (Option<RequestId>, Command),
    ) -> Result<()> {
        let app = Actor::App { app: APP, generation: 1 };
        let commands = (0..LEASES).map(|lease| {
            let (request, command) = make(lease);
            envelope(app, request, command)
        });
        let entries = self.entries(commands.collect());
        self.measure(meter, case, LEASES, &entries)
    }

    /// A hundred leases in a command; each lease is an operation.
    fn bulk_heartbeats(&mut self, meter: &mut dyn Meter) -> Result<()> {
        let app = Actor::App { app: APP, generation: 1 };
        let commands = (0..LEASES / IN_BULK).map(|part| {
            let leases = (part * IN_BULK..(part + 1) * IN_BULK).map(|lease| renewal(lease, 2));
            envelope(app, None, Command::Heartbeat { leases: leases.collect() })
        });
        let entries = self.entries(commands.collect());
        self.measure(meter, "apply_heartbeat_in_bulk", LEASES, &entries)
    }

    fn operators(&mut self, meter: &mut dyn Meter) -> Result<()> {
        let root = Actor::Operator(ROOT);
        let transfers = (0..TRANSFERS).map(|number| {
            let pool = Some(Name::from("lab"));
            let (from, to) = if number % 2 == 0 { (None, pool) } else { (pool, None) };
            let transfer = TransferSeats { package: PACKAGE.into(), from, to, quantity: 10 };
            envelope(root, Some(key(number, 4)), Command::TransferSeats(transfer))
        });
        let entries = self.entries(transfers.collect());
        self.measure(meter, "apply_transfer", TRANSFERS, &entries)
    }

    fn activations(&mut self, meter: &mut dyn Meter) -> Result<()> {
        let face = Actor::Face(Face::Device);
        let commands = (0..ACTIVATIONS).map(|number| {
            let activate = Activate {
                key_mac: Some([7; 32]),
                address: AddressTag(0),
                holder: format!("device-{number}").into(),
                activation: ActivationId(1_000 + u128::from(number)),
                lease: id(LEASES + number),
                claim: device(),
            };
            envelope(face, None, Command::Activate(Box::new(activate)))
        });
        let entries = self.entries(commands.collect());
        self.measure(meter, "apply_activate", ACTIVATIONS, &entries)
    }

    /// Leases that nobody renews, ended by the passing of time.
    fn expiry(&mut self, meter: &mut dyn Meter) -> Result<()> {
        let app = Actor::App { app: APP, generation: 1 };
        let fresh = 2 * LEASES..3 * LEASES;
        let commands = fresh.map(|lease| envelope(app, Some(key(lease, 0)), checkout(lease)));
        for entry in self.entries(commands.collect()) {
            self.apply(&entry)?;
        }
        self.ledger.take_changes();
        self.led_ms += 24 * 3_600_000;
        // An entry ends so many at most.
        let ticks = vec![self.entry(Vec::new()); 64];
        let live = self.ledger.live_leases();
        self.measure(meter, "apply_expiry", LEASES, &ticks)?;
        let ended = live - self.ledger.live_leases();
        ensure!(ended as u64 == LEASES, "{ended} of {LEASES} leases expired");
        Ok(())
    }
}

/// A full entry of checkouts to the bytes of log and wire, and back; each command an operation.
fn codec(meter: &mut dyn Meter) {
    let app = Actor::App { app: APP, generation: 1 };
    let commands =
        (0..BATCH as u64).map(|lease| envelope(app, Some(key(lease, 0)), checkout(lease)));
    let header = EntryHeader {
        group: 0,
        epoch: 1,
        incarnation: 1,
        stamp: Stamp { led_ms: 1, civil_ms: BEGINNING_MS },
        origin: 1,
    };
    let entry = Entry { header, commands: commands.collect() };
    let operations = BATCH as u64 * REPEATS;
    let mut bytes = Vec::new();
    meter.measure("entry_encode", operations, &mut || {
        (0..REPEATS).for_each(|_| bytes = black_box(&entry).encode());
    });
    meter.take_down("entry_encode", "bytes", bytes.len() as f64 / BATCH as f64);
    meter.measure("entry_decode", operations, &mut || {
        (0..REPEATS).for_each(|_| drop(black_box(Entry::decode(black_box(&bytes)))));
    });
}

fn founding() -> Vec<Command> {
    vec![
        Command::InitCluster(InitCluster {
            cluster_id: "counts".into(),
            client_id: "client".into(),
            org_domain: "example.org".into(),
            epoch: 1,
            incarnation: 1,
        }),
        Command::AddOperator(Operator {
            operator: ROOT,
            name: "root".into(),
            role: Role::Admin,
            token_mac: [0; 32],
            expires_at_ms: None,
        }),
    ]
}

fn setting_up() -> Vec<Command> {
    let public_der = vec![1];
    let fingerprint = Sha256::digest(&public_der).into();
    let vendor = "vendor".into();
    let vendor = Vendor { vendor, name: "Vendor".into(), public_der, fingerprint };
    let app = RegisterApp {
        app: APP,
        client_id: "app".into(),
        name: "app".into(),
        product: PRODUCT.into(),
        vendor: "vendor".into(),
        secret_mac: [0; 32],
    };
    let offline = OfflineTerms {
        tokens: true,
        borrow_max_ms: 24 * 3_600_000,
        borrow_seats_max: None,
        online_reserve: 0,
    };
    let import = package(fingerprint);
    let license = LicenseTerms {
        license: LicenseId(1),
        face: Face::Device,
        package: PACKAGE.into(),
        client: Some(CLIENT),
        organisation: "".into(),
        plan: plan(),
        valid_from_ms: BEGINNING_MS - 1,
        valid_until_ms: None,
        open: false,
    };
    let client = AddClient { client: CLIENT, email: buyer() };
    let key = KeyRow { mac: [7; 32], hint: "ABCD".into() };
    vec![
        Command::PinVendor(vendor),
        Command::ImportEntitlement(Box::new(ImportEntitlement { import, offline })),
        Command::RegisterApp(app),
        Command::AddClient(client),
        Command::IssueLicense(Box::new(IssueLicense { terms: license, key })),
    ]
}

fn plan() -> Plan {
    Plan {
        slug: "gold".into(),
        id: 0,
        product: "".into(),
        product_id: None,
        kind: "standard".into(),
        features: Vec::new(),
        max_activations: 0,
        max_nodes: 0,
        seats_per_activation: 1,
        check: CheckMode::EachExecution,
        check_interval_s: 0,
        activation_ms: 0,
        slot_ttl_ms: 0,
        offline_ms: 0,
        trial: false,
        quotas: Vec::new(),
    }
}

fn package(verified_by: [u8; 32]) -> ImportPackage {
    let (from, until) = (BEGINNING_MS - 1, BEGINNING_MS + 365 * 86_400_000);
    let source = CapacitySource {
        seats: SEATS,
        class: SeatClass::Commit,
        valid_from_ms: from,
        valid_until_ms: until,
    };
    let terms = PackageTerms {
        package: PACKAGE.into(),
        vendor: "vendor".into(),
        product: PRODUCT.into(),
        product_name: "".into(),
        version_range: "".into(),
        client_id: "client".into(),
        org_domain: "example.org".into(),
        total: SEATS,
        sources: vec![source],
        pricing: Pricing::default(),
        features: Vec::new(),
        valid_from_ms: from,
        valid_until_ms: until,
        policy: Policy::default(),
    };
    ImportPackage { canonical: vec![1; 1_000], signature: "s".into(), verified_by, terms }
}

fn envelope(actor: Actor, request: Option<RequestId>, command: Command) -> Envelope {
    Envelope { actor, request, trace: TraceId(1), cause: None, command }
}

/// The buyer's own device.
fn device() -> Claim {
    let session = Sealed { nonce: [1; 12], bytes: vec![2; 48] };
    let identity = DeviceIdentity {
        product: None,
        client: Some(CLIENT),
        email: buyer(),
        subject_client: CLIENT,
    };
    Claim::Device { identity, session }
}

fn buyer() -> Subject {
    subject("buyer@example.org".to_owned(), 1)
}

/// A person or a host, with the reference it gets if it is new.
fn subject(name: String, number: u64) -> Subject {
    let candidate = SubjectRef(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    Subject { name: name.into(), candidate }
}

fn renewal(lease: u64, sequence: u32) -> Renewal {
    Renewal { lease: id(lease), sequence, still_active: true }
}

fn checkout(lease: u64) -> Command {
    let person = lease % PEOPLE;
    Command::Checkout(Box::new(Checkout {
        package: PACKAGE.into(),
        product: PRODUCT.into(),
        lease: id(lease),
        pool: None,
        quantity: 1,
        features: Vec::new(),
        user: subject(format!("user-{person:05}@example.org"), person + 1),
        host: subject(format!("host-{person:05}"), person + PEOPLE + 1),
        version: "8.2.1".into(),
        session: "".into(),
    }))
}

/// An id as random as those that a gateway draws.
fn id(number: u64) -> LeaseId {
    let digest = Sha256::digest(number.to_le_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    LeaseId { group: 0, random }
}

fn key(number: u64, operation: u8) -> RequestId {
    let digest = Sha256::digest([&number.to_le_bytes()[..], &[operation]].concat());
    let (mut scope, mut body) = ([0; 16], [0; 8]);
    scope.copy_from_slice(&digest[..16]);
    body.copy_from_slice(&digest[16..24]);
    RequestId { scope, body, origin: KeyOrigin::Gateway }
}

const ROOT: OperatorId = OperatorId(1);
const CLIENT: ClientId = ClientId(1);
const APP: AppId = AppId(1);
const PACKAGE: &str = "package";
const PRODUCT: &str = "product";
const SEATS: u32 = 100_000;
/// Leases that a verb is done to.
const LEASES: u64 = 4_000;
const IN_BULK: u64 = 100;
const TRANSFERS: u64 = 1_000;
const ACTIVATIONS: u64 = 1_000;
const PEOPLE: u64 = 5_000;
/// Commands of an entry.
const BATCH: usize = 40;
/// How often an entry is encoded and decoded.
const REPEATS: u64 = 50;
