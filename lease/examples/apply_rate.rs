//! How fast the ledger decides and how much memory a live lease takes: a measurement by hand.
//!
//! `cargo run --release -p lease --example apply_rate -- 1000000`

use std::time::Duration;

use lease::Ledger;
use lease::command::*;
use lease::entry::{Actor, Entry, EntryHeader, Envelope, Stamp};
use lease::ids::*;
use sha2::{Digest, Sha256};

const BATCH: u64 = 256;
const START_MS: i64 = 1_767_225_600_000;
const ROOT: OperatorId = OperatorId(1);

fn main() {
    let leases: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(200_000);
    let seats = u32::try_from(leases).unwrap_or(u32::MAX);
    let mut run = Run::new();
    run.found(seats);
    run.ledger.take_changes();
    let empty_kb = resident_kb();
    run.measure("checkouts, a gateway's keys", leases, |lease| {
        (Some(key(lease, 0)), checkout(lease))
    });
    let kb = resident_kb() - empty_kb;
    println!(
        "  {} bytes a live lease (resident set, allocator's slack included)",
        kb * 1024 / leases
    );
    run.ledger.take_changes();
    run.measure("heartbeats of one lease", leases, |lease| {
        let renewal = Renewal { lease: id(lease), sequence: 1, still_active: true };
        (None, Command::Heartbeat { leases: vec![renewal] })
    });
    let returns = leases / 4;
    run.measure("returns", returns, |lease| {
        let give_back = Return { lease: id(lease), usage: UsageReport::default() };
        (Some(key(lease, 1)), Command::Return(Box::new(give_back)))
    });
    drop(run);
    measure_load(leases);
}

/// One checkpoint of everything, and a fresh ledger from its rows.
fn measure_load(leases: u64) {
    let mut run = Run::new();
    run.found(u32::try_from(leases).unwrap_or(u32::MAX));
    let app = Actor::App { app: AppId(1), generation: 1 };
    for first in (0..leases).step_by(BATCH as usize) {
        let numbers = first..leases.min(first + BATCH);
        run.apply(
            numbers.map(|lease| envelope(app, Some(key(lease, 0)), checkout(lease))).collect(),
        );
    }
    let started = cpu_time();
    let changes = run.ledger.take_changes();
    let taking = cpu_time() - started;
    let rows = changes.into_rows();
    let encoding = cpu_time() - started - taking;
    println!("one checkpoint of {} rows: taken in {taking:?}, encoded in {encoding:?}", rows.len());
    let started = cpu_time();
    let mut loaded = Ledger::new();
    let read = rows.iter().try_for_each(|row| {
        loaded.load_row(row.table, &row.key, row.value.as_deref().unwrap_or_default())
    });
    let whole = read.and_then(|()| loaded.finish_load());
    println!("loading them: {:?}", cpu_time() - started);
    assert!(whole.is_ok() && loaded.state_sum() == run.ledger.state_sum(), "it is the same ledger");
}

struct Run {
    ledger: Ledger,
    index: u64,
    led_ms: u64,
    spent: Duration,
    /// Rows that checkpoints took, and how long that was.
    rows: usize,
    taking: Duration,
}

impl Run {
    fn new() -> Self {
        Self {
            ledger: Ledger::new(),
            index: 0,
            led_ms: 0,
            spent: Duration::ZERO,
            rows: 0,
            taking: Duration::ZERO,
        }
    }

    fn found(&mut self, seats: u32) {
        let node = Actor::Node(1);
        let root = Actor::Operator(ROOT);
        let public_der = vec![1];
        let fingerprint = Sha256::digest(&public_der).into();
        let vendor = Vendor { vendor: "vendor".into(), name: "".into(), public_der, fingerprint };
        let operator = Operator {
            operator: ROOT,
            name: "".into(),
            role: Role::Admin,
            token_mac: [0; 32],
            expires_at_ms: None,
        };
        let cluster = InitCluster {
            cluster_id: "c".into(),
            client_id: "client".into(),
            org_domain: "example.org".into(),
            epoch: 1,
            incarnation: 1,
        };
        let app = RegisterApp {
            app: AppId(1),
            client_id: "app".into(),
            name: "".into(),
            product: "product".into(),
            vendor: "vendor".into(),
            secret_mac: [0; 32],
        };
        let commands = vec![
            (node, Command::InitCluster(cluster)),
            (node, Command::AddOperator(operator)),
            (root, Command::PinVendor(vendor)),
            (root, Command::ImportPackage(Box::new(package(seats, fingerprint)))),
            (root, Command::RegisterApp(app)),
        ];
        let commands = commands.into_iter().map(|(actor, command)| envelope(actor, None, command));
        self.apply(commands.collect());
    }

    fn measure(
        &mut self,
        what: &str,
        count: u64,
        make: impl Fn(u64) -> (Option<RequestId>, Command),
    ) {
        self.spent = Duration::ZERO;
        let app = Actor::App { app: AppId(1), generation: 1 };
        for first in (0..count).step_by(BATCH as usize) {
            let numbers = first..count.min(first + BATCH);
            let commands = numbers.map(make_envelope(app, &make)).collect();
            self.apply(commands);
            if first % (BATCH * 64) == 0 {
                // A checkpoint now and then, as a node makes them.
                let started = cpu_time();
                self.rows += self.ledger.take_changes().into_rows().len();
                self.taking += cpu_time() - started;
            }
        }
        let rate = count as f64 / self.spent.as_secs_f64();
        println!("{what}: {count} in {:?}, {rate:.0} /s", self.spent);
        println!("  checkpoints on the way: {} rows in {:?}", self.rows, self.taking);
        (self.rows, self.taking) = (0, Duration::ZERO);
    }

    fn apply(&mut self, commands: Vec<Envelope>) {
        self.index += 1;
        self.led_ms += 1;
        let stamp = Stamp { led_ms: self.led_ms, civil_ms: START_MS + self.led_ms as i64 };
        let header = EntryHeader { group: 0, epoch: 1, incarnation: 1, stamp, origin: 1 };
        let entry = Entry { header, commands };
        let started = cpu_time();
        let outcomes = self.ledger.apply_entry(self.index, &entry);
        self.spent += cpu_time() - started;
        let refused = |outcome: &lease::outcome::Outcome| {
            matches!(outcome, lease::outcome::Outcome::Refused(_))
        };
        let outcomes = outcomes.unwrap_or_default();
        assert!(!outcomes.is_empty() && !outcomes.iter().any(refused), "all are done");
    }
}

fn make_envelope<'a>(
    app: Actor,
    make: &'a impl Fn(u64) -> (Option<RequestId>, Command),
) -> impl Fn(u64) -> Envelope + 'a {
    move |number| {
        let (request, command) = make(number);
        envelope(app, request, command)
    }
}

fn envelope(actor: Actor, request: Option<RequestId>, command: Command) -> Envelope {
    Envelope { actor, request, trace: TraceId(1), cause: None, command }
}

fn package(seats: u32, verified_by: [u8; 32]) -> ImportPackage {
    let until = START_MS + 365 * 86_400_000;
    let source = CapacitySource {
        seats,
        class: SeatClass::Commit,
        valid_from_ms: START_MS,
        valid_until_ms: until,
    };
    let terms = PackageTerms {
        package: "package".into(),
        vendor: "vendor".into(),
        product: "product".into(),
        product_name: "".into(),
        version_range: "".into(),
        client_id: "client".into(),
        org_domain: "example.org".into(),
        total: seats,
        sources: vec![source],
        pricing: Pricing::default(),
        features: vec![],
        valid_from_ms: START_MS,
        valid_until_ms: until,
        policy: Policy::default(),
    };
    ImportPackage { canonical: vec![1; 1000], signature: "s".into(), verified_by, terms }
}

fn checkout(lease: u64) -> Command {
    let subject = |name: String, number: u64| Subject {
        name: name.into(),
        candidate: SubjectRef(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
    };
    Command::Checkout(Box::new(Checkout {
        package: "package".into(),
        product: "product".into(),
        lease: id(lease),
        pool: None,
        quantity: 1,
        features: vec![],
        user: subject(format!("user-{}", lease % 5000), lease % 5000 + 1),
        host: subject(format!("host-{}", lease % 5000), lease % 5000 + 10_001),
        version: "".into(),
        session: "".into(),
    }))
}

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

/// CPU time of the main thread, from the scheduler: what other processes on the
/// machine do does not count.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    Duration::from_nanos(nanos)
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0)
}
