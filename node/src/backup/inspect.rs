//! Reading a snapshot file: all of it, always, and every check there is.
//!
//! A frame's checksum, a section's length and hash, the hash over the whole, the sum over all rows
//! and the ledger's own sum each find what the others might let pass; then the rows must make a
//! ledger, its rules must hold, and the audit events in the file must lead from where it was pruned
//! to its head. A file that fails any of it is no backup.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use cli::Exit;
use cli::local::{Told, ToldPart, Trouble};
use data_encoding::HEXLOWER;
use lease::audit::{AuditHead, decode_audit_block, verify_chain};
use lease::format::FormatError;
use lease::ids::NodeId;
use lease::invariants::{Before, check_all};
use lease::operate::AuditFloor;
use lease::rows::table;
use lease::{Ledger, LoadError};
use protocol::wire::UtcTime;
use serde_json::json;
use sha2::{Digest, Sha256};
use storage::snapshot::{CheckpointMeta, RowTotals, SnapshotItem, SnapshotReader};

use super::{fact, io_trouble, snapshot_trouble, told, unusable};

/// A snapshot file that was read to its end and found whole.
pub(crate) struct Inspection {
    path: PathBuf,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Of the file.
    pub(crate) sha256: [u8; 32],
    meta: CheckpointMeta,
    totals: RowTotals,
    tables: BTreeMap<u8, u64>,
    /// What its rows make.
    pub(crate) ledger: Ledger,
    /// Audit events that are in the file.
    audit_events: u64,
}

/// Reads and checks a file.
pub(crate) fn read(path: &Path) -> Result<Inspection, Trouble> {
    let file = File::open(path).map_err(|error| io_trouble(path, &error))?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Err(unusable("file", format!("{}: is not a file", path.display())));
    }
    let input = Hashing {
        input: BufReader::with_capacity(READ_BYTES, file),
        bytes: 0,
        hasher: Sha256::new(),
    };
    read_from(path, input)
}

fn read_from<R: Read>(path: &Path, mut input: Hashing<R>) -> Result<Inspection, Trouble> {
    let (mut ledger, mut audit) = (Ledger::new(), AuditTrail::default());
    let (mut found, mut tables) = (None, BTreeMap::new());
    let mut reader = SnapshotReader::new(&mut input);
    while let Some(item) = reader.next().map_err(|error| snapshot_trouble(path, &error))? {
        match item {
            SnapshotItem::Meta(meta, totals) => found = Some((meta, totals)),
            SnapshotItem::Row { table, key, value } => {
                *tables.entry(table).or_default() += 1;
                if table == table::AUDIT {
                    audit.add(&value).map_err(|what| broken(path, &what))?;
                }
                ledger.load_row(table, &key, &value).map_err(|error| not_a_ledger(path, &error))?;
            }
        }
    }
    ledger.finish_load().map_err(|error| not_a_ledger(path, &error))?;
    let Some((meta, totals)) = found else { return Err(broken(path, "it has no meta section")) };
    if ledger.state_sum() != meta.state_sum {
        return Err(broken(path, "the rows do not add up to the ledger's own sum"));
    }
    check_all(&Before::of(&ledger), &ledger).map_err(|rule| broken(path, &rule.to_string()))?;
    audit.check(ledger.audit_floor(), ledger.audit_head()).map_err(|what| broken(path, &what))?;
    Ok(Inspection {
        path: path.to_owned(),
        bytes: input.bytes,
        sha256: input.hasher.finalize().into(),
        meta,
        totals,
        tables,
        ledger,
        audit_events: audit.events,
    })
}

/// `snapshot verify`
pub(crate) fn verify(path: &Path) -> Result<Told, Trouble> {
    let found = read(path)?;
    let line = format!(
        "{}: whole and consistent: {} rows, {} audit events, index {}",
        path.display(),
        found.totals.rows,
        found.audit_events,
        found.index(),
    );
    let mut json = found.json();
    json["verified"] = json!(true);
    let parts =
        vec![ToldPart::Line(line), ToldPart::Facts(vec![fact("sha-256", found.sha256_hex())])];
    Ok(told(json, parts, found.sha256_hex()))
}

/// `snapshot list`
pub(crate) fn list(dir: &Path) -> Result<Told, Trouble> {
    let mut files = files_of(dir)?;
    files.sort();
    let columns = vec![
        ("FILE", false),
        ("EPOCH", true),
        ("INDEX", true),
        ("BYTES", true),
        ("WRITTEN", false),
    ];
    let (mut rows, mut items, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    for SnapshotFile { epoch, index, modified_ms, bytes, name, .. } in files {
        let written = UtcTime::from_unix_ms(modified_ms).to_string();
        items.push(json!({
            "file": name, "epoch": epoch, "index": index.to_string(),
            "bytes": bytes, "written_at": written,
        }));
        rows.push(vec![
            name.clone(),
            epoch.to_string(),
            index.to_string(),
            bytes.to_string(),
            written,
        ]);
        ids.push(name);
    }
    Ok(Told {
        json: json!({ "directory": dir, "snapshots": items }),
        parts: vec![ToldPart::Table(columns, rows)],
        ids,
    })
}

/// A file of a directory that has the name of a snapshot. In order of epoch, then index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SnapshotFile {
    pub(super) epoch: u32,
    pub(super) index: u64,
    /// When it was written last, Unix milliseconds.
    pub(super) modified_ms: i64,
    pub(super) bytes: u64,
    pub(super) name: String,
    pub(super) cluster_id: String,
    /// The node that took it by itself; `None`: somebody saved it.
    pub(super) node: Option<NodeId>,
}

/// The files of a directory that are named like snapshots; others are none of ours.
pub(super) fn files_of(dir: &Path) -> Result<Vec<SnapshotFile>, Trouble> {
    let failed = |error: io::Error| io_trouble(dir, &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Some(Named { cluster_id, epoch, index, node }) = Named::of(&name) else { continue };
        let metadata = entry.metadata().map_err(failed)?;
        let modified = metadata.modified().ok();
        let since = modified.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let modified_ms = since.and_then(|it| i64::try_from(it.as_millis()).ok()).unwrap_or(0);
        let bytes = metadata.len();
        files.push(SnapshotFile { epoch, index, modified_ms, bytes, name, cluster_id, node });
    }
    Ok(files)
}

/// What the name of a snapshot file says.
pub(super) struct Named {
    pub(super) cluster_id: String,
    pub(super) epoch: u32,
    pub(super) index: u64,
    pub(super) node: Option<NodeId>,
}

impl Named {
    /// Of `leasehold-CLUSTER-EPOCH-INDEX.snapshot`, or with `-nNODE` after the index.
    pub(super) fn of(name: &str) -> Option<Self> {
        let stem = name.strip_prefix("leasehold-")?.strip_suffix(".snapshot")?;
        let by_node =
            stem.rsplit_once("-n").and_then(|(rest, node)| Some((rest, node.parse().ok()?)));
        let (stem, node) = by_node.map_or((stem, None), |(rest, node)| (rest, Some(node)));
        let (rest, index) = stem.rsplit_once('-')?;
        let (cluster_id, epoch) = rest.rsplit_once('-')?;
        let (epoch, index) = (epoch.parse().ok()?, index.parse().ok()?);
        Some(Self { cluster_id: cluster_id.to_owned(), epoch, index, node })
    }
}

/// The name of a snapshot file that a node takes by itself: several may share a directory.
pub(super) fn file_name_of(cluster_id: &str, epoch: u32, index: u64, node: NodeId) -> String {
    format!("leasehold-{cluster_id}-{epoch}-{index}-n{node}.snapshot")
}

/// The name of a snapshot file.
pub(super) fn file_name(cluster_id: &str, epoch: u32, index: u64) -> String {
    format!("leasehold-{cluster_id}-{epoch}-{index}.snapshot")
}

impl Inspection {
    /// Index of the last entry in it.
    pub(crate) fn index(&self) -> u64 {
        self.meta.applied.map_or(0, |applied| applied.index)
    }

    /// The term of that entry.
    fn term(&self) -> u64 {
        self.meta.applied.map_or(0, |applied| applied.term)
    }

    /// When its state was, by the civil clock.
    pub(crate) fn civil_time(&self) -> UtcTime {
        UtcTime::from_unix_ms(self.ledger.clock().civil_ms)
    }

    /// Rows in it.
    pub(crate) fn rows(&self) -> u64 {
        self.totals.rows
    }

    pub(crate) fn sha256_hex(&self) -> String {
        HEXLOWER.encode(&self.sha256)
    }

    fn json(&self) -> serde_json::Value {
        let cluster = self.ledger.cluster();
        let members: Vec<_> = self
            .ledger
            .members()
            .map(|member| json!({ "id": member.node, "peer_address": &*member.peer_address }))
            .collect();
        let tables: Vec<_> = self
            .tables
            .iter()
            .map(|(table, rows)| json!({ "table": table_name(*table), "rows": rows }))
            .collect();
        json!({
            "file": self.path,
            "bytes": self.bytes,
            "sha256": self.sha256_hex(),
            "format_version": FORMAT_VERSION,
            "cluster_id": cluster.map(|cluster| &*cluster.cluster_id),
            "epoch": cluster.map(|cluster| cluster.epoch),
            "index": self.index().to_string(),
            "term": self.term().to_string(),
            "civil_time": self.civil_time().to_string(),
            "rows": self.totals.rows,
            "packages": self.ledger.packages().count(),
            "leases": self.ledger.live_leases(),
            "audit_events": self.audit_events,
            "audit_hash": HEXLOWER.encode(&self.ledger.audit_head().hash),
            "state_sum": HEXLOWER.encode(&self.meta.state_sum),
            "members": members,
            "tables": tables,
        })
    }

    /// `snapshot status`
    pub(crate) fn told(&self) -> Told {
        let cluster = self.ledger.cluster();
        let members: Vec<String> =
            self.ledger.members().map(|it| format!("{} ({})", it.node, it.peer_address)).collect();
        let facts = vec![
            fact("file", self.path.display()),
            fact("cluster", cluster.map_or("-", |it| &it.cluster_id)),
            fact("epoch", cluster.map_or(0, |it| it.epoch)),
            fact("index", self.index()),
            fact("term", self.term()),
            fact("civil time", self.civil_time()),
            fact("packages", self.ledger.packages().count()),
            fact("leases", self.ledger.live_leases()),
            fact("audit events", self.audit_events),
            fact("members", members.join(", ")),
            fact("rows", self.totals.rows),
            fact("bytes", self.bytes),
            fact("format", FORMAT_VERSION),
            fact("sha-256", self.sha256_hex()),
        ];
        let rows =
            self.tables.iter().map(|(table, rows)| vec![table_name(*table), rows.to_string()]);
        let tables = ToldPart::Table(vec![("TABLE", false), ("ROWS", true)], rows.collect());
        told(self.json(), vec![ToldPart::Facts(facts), tables], self.sha256_hex())
    }
}

/// The audit events of a file, one block after the other.
#[derive(Default)]
struct AuditTrail {
    /// What the first event follows.
    begins_after: Option<AuditHead>,
    head: AuditHead,
    events: u64,
    /// Hashes of the first events by number, and of the one before them.
    hashes: BTreeMap<u64, [u8; 32]>,
}

impl AuditTrail {
    fn add(&mut self, block: &[u8]) -> Result<(), String> {
        let events = decode_audit_block(block)
            .map_err(|error| format!("a block of audit events does not read: {error}"))?;
        let Some(first) = events.first() else { return Ok(()) };
        let before = AuditHead { seq: first.seq.saturating_sub(1), hash: first.previous };
        if self.begins_after.is_none() {
            self.begins_after = Some(before);
            self.head = before;
        }
        self.head = verify_chain(self.head, &events).map_err(|error| error.to_string())?;
        self.events += events.len() as u64;
        // The floor stands in the first block or right before it: later ones are not remembered.
        if self.hashes.len() < KEPT_HASHES {
            let before = events.iter().map(|event| (event.seq.saturating_sub(1), event.previous));
            self.hashes.extend(before.chain([(self.head.seq, self.head.hash)]));
        }
        Ok(())
    }

    /// Whether the events lead from the floor, or from before it, to the head.
    fn check(&self, floor: AuditFloor, head: AuditHead) -> Result<(), String> {
        let begins_after =
            self.begins_after.unwrap_or(AuditHead { seq: floor.seq, hash: floor.hash });
        let ends = if self.events == 0 { begins_after } else { self.head };
        if ends != head {
            return Err(format!("its audit log ends at event {} of {}", ends.seq, head.seq));
        }
        if begins_after.seq > floor.seq {
            return Err(format!("audit event {} is missing", floor.seq + 1));
        }
        let found = self.hashes.get(&floor.seq).copied();
        match found {
            Some(hash) if hash != floor.hash => {
                Err(format!("audit event {} is not the one that the log was pruned at", floor.seq))
            }
            _ => Ok(()),
        }
    }
}

/// A file that is whole, and is not a state.
fn broken(path: &Path, what: &str) -> Trouble {
    let message = format!("{}: is not a usable state: {what}; use another backup", path.display());
    Trouble::new(Exit::Unverifiable, "snapshot_corrupt", message)
}

/// A table or a version that this build does not know is a newer build's.
fn not_a_ledger(path: &Path, error: &LoadError) -> Trouble {
    match error {
        LoadError::UnknownTable(_) | LoadError::Row { source: FormatError::Version { .. }, .. } => {
            let newer = storage::snapshot::SnapshotError::Newer { what: error.to_string() };
            snapshot_trouble(path, &newer)
        }
        _ => broken(path, &error.to_string()),
    }
}

/// Counts and hashes what is read through it.
struct Hashing<R> {
    input: R,
    bytes: u64,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

fn table_name(table: u8) -> String {
    let name = TABLES.get(usize::from(table).wrapping_sub(1));
    name.map_or_else(|| format!("table-{table}"), |name| (*name).to_owned())
}

const KEPT_HASHES: usize = 65_536;
const READ_BYTES: usize = 1 << 20;
/// Of the snapshot file (`storage::snapshot`).
const FORMAT_VERSION: u8 = 1;
/// Names of the ledger's tables, from table 1 on (`lease::rows::table`).
pub(super) const TABLES: [&str; 45] = [
    "meta",
    "member",
    "signing-key",
    "secret",
    "wrapped-key",
    "operator",
    "vendor",
    "app",
    "package",
    "document",
    "pool",
    "usage",
    "feature-usage",
    "lease",
    "subject",
    "refusal",
    "refusal-logged",
    "audit",
    "request",
    "license",
    "activation",
    "client",
    "product",
    "user",
    "trial",
    "identity",
    "guess",
    "license-usage",
    "hold",
    "offline-terms",
    "borrow-rules",
    "key-window",
    "api-key",
    "budget",
    "ticket",
    "former-member",
    "retired-key",
    "grace",
    "reserved",
    "alarm",
    "pool-rule",
    "pool-usage",
    "audit-floor",
    "app-policy",
    "trust-anchor",
];
