//! What verbs put together themselves, as types: everything that is not one of the wire types.
//!
//! Nothing is made of these types; they are there for their schemas, and every report that a test
//! comes to is held against them.

#![expect(dead_code, reason = "named for their schemas alone")]

use protocol::cloud::admin::LeaseView;
use protocol::cloud::admin::{
    ActivationGroup, ActivationView, AuditEventView, ClientView, CurrencyTotal, LicenseView,
    OfflineLeaseView, OperatorView, PackageCost, PackageUsage, PoolView, RefusalCount, UnusedView,
};
use protocol::cloud::denial::Remedy;
use protocol::offline::OfflineClaims;
use protocol::wire::{Id64, Money, UtcTime};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

macro_rules! shapes {
    ($($(#[$meta:meta])* $name:ident { $($(#[$of:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$meta])*
            #[derive(Serialize, ToSchema)]
            pub(super) struct $name { $($(#[$of])* $field: $type,)* }
        )*
    };
}

/// One of several documents, by the options of the verb.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident = $($variant:ident($type:ty))|*;)*) => {
        $(
            $(#[$meta])*
            #[derive(Serialize, ToSchema)]
            #[serde(untagged)]
            pub(super) enum $name { $($variant($type),)* }
        )*
    };
}

shapes! {
    /// What is on standard error when a verb fails; nothing is on standard output then.
    ErrorDocument {
        error: ErrorView,
    }
    /// Why a verb failed.
    ErrorView {
        /// The machine-readable reason.
        code: String,
        /// For people, in one line.
        message: String,
        /// The exit code of the process.
        exit_code: u8,
        /// What to do about it, for people.
        advice: Option<String>,
        /// The field that is wrong.
        field: Option<String>,
        /// The servers that were tried.
        tried: Option<Vec<TriedServer>>,
        /// `not_executed`, or `unknown`: it may have been done.
        outcome: Option<String>,
        /// The key under which the request may be repeated.
        idempotency_key: Option<String>,
        /// HTTP status of the answer.
        status: Option<u16>,
        /// When asking again may succeed.
        available_at: Option<String>,
        /// What would have been granted.
        would_be_satisfied_by: Option<Remedy>,
        /// The application that it is about.
        app_id: Option<String>,
        /// The request, as logs and audit name it.
        request_id: Option<String>,
    }
    /// A server that was tried in vain.
    TriedServer {
        server: String,
        reason: String,
    }
}

shapes! {
    /// How healthy a cluster is.
    ClusterHealth {
        /// `healthy`, `degraded` or `unhealthy`.
        state: String,
        healthy: bool,
        checks: Vec<HealthCheck>,
    }
    /// One of the lines that define healthy.
    HealthCheck {
        name: String,
        ok: bool,
        /// For people.
        says: String,
    }
    /// The nodes that were restarted, in order.
    RolledNodes {
        restarted: Vec<u64>,
    }
    /// A new cluster.
    FoundedCluster {
        cluster_id: String,
        node_id: u64,
        directory: String,
        config: String,
        ca_cert: String,
        gateway_url: String,
        peer_address: String,
        /// Shown this once.
        admin_token: String,
        /// The commands to go on with.
        next: Vec<String>,
    }
    /// A node that is a member now.
    JoinedNode {
        cluster_id: String,
        node_id: u64,
        directory: String,
        config: String,
        gateway_url: String,
        peer_address: String,
        epoch: u32,
        /// The commands to go on with.
        next: Vec<String>,
    }
    /// A node that was a member before.
    JoinedBefore {
        cluster_id: String,
        node_id: u64,
        config: String,
        joined_before: bool,
    }
    /// A cluster that goes on with one survivor, in a new epoch.
    RecoveredCluster {
        cluster_id: Option<String>,
        epoch: Option<u32>,
        node_id: u64,
        known: KnownBeforeRecovery,
        data_dir: String,
        former_data_dir: String,
        /// A directory that an attempt before had left, under its present name.
        set_aside: Option<String>,
        config: String,
        former_config: String,
        /// No new seat is granted for so long.
        grace_ms: u64,
        reserved: Vec<ReservedSeats>,
        /// Whose tokens are in force, ones that were revoked later among them.
        operators: Vec<String>,
        /// The commands to go on with.
        next: Vec<String>,
    }
    /// What the survivor knew; later changes may be lost.
    KnownBeforeRecovery {
        former_node_id: u64,
        index: Id64,
        term: Id64,
        committed_index: Id64,
        uncommitted_entries: u64,
        voters: Vec<u64>,
        civil_time: UtcTime,
    }
    /// Seats that are kept for borrows that the state may not know.
    ReservedSeats {
        package: String,
        seats: u32,
        until: UtcTime,
    }
    /// A member that votes now.
    PromotedMember {
        node_id: u64,
        /// `voter`.
        part: String,
    }
    /// A member that is none any more.
    RemovedMember {
        node_id: u64,
        removed: bool,
    }
    /// A node that took the place of another on this machine.
    ReplacedNode {
        node_id: u64,
        /// The one before.
        replaces: u64,
        config: String,
        former_config: String,
        /// Where what was left of its data is now; null where nothing was left.
        former_data: Option<String>,
        /// The commands to go on with.
        next: Vec<String>,
    }
    /// Alarms that were cleared.
    ClearedAlarms {
        cleared: Vec<ClearedAlarm>,
    }
    /// An alarm.
    ClearedAlarm {
        node_id: u64,
        kind: String,
    }
    /// What the doctor found.
    Diagnosis {
        /// The worst of all: `ok`, `warn` or `fail`.
        status: String,
        checks: Vec<DiagnosedCheck>,
    }
    /// A check that was run.
    DiagnosedCheck {
        name: String,
        threshold: String,
        measured: String,
        /// `ok`, `warn` or `fail`.
        status: String,
        fix: String,
    }
    /// The checks that there are.
    KnownChecks {
        checks: Vec<KnownCheck>,
    }
    /// A check.
    KnownCheck {
        name: String,
        threshold: String,
        fix: String,
    }
    /// What was gathered.
    GatheredBundle {
        file: String,
        bytes: u64,
        manifest: BundleManifest,
    }
    /// What is in a bundle.
    BundleManifest {
        format: u32,
        made_at: UtcTime,
        made_by: String,
        files: Vec<BundleFile>,
        missing: Vec<BundleGap>,
    }
    /// A file of a bundle.
    BundleFile {
        name: String,
        bytes: u64,
        sha256: String,
    }
    /// A file that could not be made.
    BundleGap {
        name: String,
        why: String,
    }
}

shapes! {
    /// A key pair of a vendor.
    NewKeyPair {
        algorithm: String,
        fingerprint: String,
        /// The file.
        private_key: String,
        /// The file.
        public_key: String,
    }
    /// A package that was signed into a file.
    SignedPackage {
        package_id: String,
        vendor_id: String,
        algorithm: String,
        key_fingerprint: String,
        /// The file.
        out: String,
    }
    /// The signed package itself, where standard output is its file. Its own schema is
    /// `package.schema.json`.
    PackageDocument {
        package_id: String,
        #[schema(value_type = Object)]
        product: Value,
        #[schema(value_type = Object)]
        client: Value,
        #[schema(value_type = Object)]
        entitlement: Value,
        #[schema(value_type = Object)]
        validity: Value,
    }
    /// A package that is genuine.
    GenuinePackage {
        verified: bool,
        package_id: String,
        layout: String,
        vendor_id: String,
        product_id: String,
        product_version: Option<String>,
        client_id: String,
        client_domain: Option<String>,
        total: u32,
        commit: u32,
        max_overage: u32,
        overage_per_use: Money,
        currency: Option<String>,
        features: Vec<String>,
        offline: bool,
        borrow_max_seconds: u64,
        borrow_seats_max: Option<u32>,
        borrow_online_reserve: u32,
        valid_from: UtcTime,
        valid_until: UtcTime,
        /// `valid`, `not_yet_valid` or `expired`.
        validity: String,
        key_fingerprint: String,
    }
    /// Who holds offline tokens of a package.
    OfflineLeases {
        package_id: String,
        seats_borrowed: u32,
        seats_offline: u32,
        leases: Vec<OfflineLeaseView>,
        /// Whether these are all.
        complete: bool,
    }
    /// An application that is removed.
    RemovedApp {
        app_id: String,
        /// `removed`.
        status: String,
    }
    /// Leases that are out.
    Leases {
        leases: Vec<LeaseView>,
        /// Whether these are all.
        complete: bool,
    }
    /// Pools of a package.
    Pools {
        pools: Vec<PoolView>,
        /// Whether these are all.
        complete: bool,
    }
    /// A pool that is removed.
    RemovedPool {
        package_id: String,
        pool: String,
        removed: bool,
    }
    /// Use of packages and pools.
    UsageReport {
        packages: Vec<PackageUsage>,
        /// Whether these are all.
        complete: bool,
    }
    /// Refusals by package and reason.
    RefusalReport {
        refusals: Vec<RefusalCount>,
        /// Whether these are all.
        complete: bool,
    }
    /// Cost so far this month.
    CostReport {
        month: String,
        packages: Vec<PackageCost>,
        totals: Vec<CurrencyTotal>,
        /// Whether these are all.
        complete: bool,
    }
    /// What nobody uses.
    UnusedReport {
        days: u32,
        unused: Vec<UnusedView>,
        note: Option<String>,
        /// Whether these are all.
        complete: bool,
    }
    /// Events of the audit log, oldest first.
    AuditEvents {
        events: Vec<AuditEventView>,
    }
    /// Whether the log of the node that answered is whole.
    VerifiedLog {
        intact: bool,
        node: u64,
        events: Id64,
        first: Option<Id64>,
        last: Id64,
        hash: String,
        floor: Id64,
        head: Id64,
        broken_at: Option<Id64>,
        reason: Option<String>,
    }
    /// A file of audit events that is genuine and whole.
    AuditSegment {
        file: String,
        verified: bool,
        cluster_id: String,
        epoch: u32,
        from: Id64,
        to: Id64,
        events: Id64,
        /// Hash of the event before the first.
        previous: String,
        /// Hash of the last event.
        hash: String,
        key_id: String,
    }
    /// What is left of the log.
    PrunedLog {
        floor: Id64,
        head: Id64,
        events: Id64,
    }
    /// Operator tokens, never the tokens themselves.
    Operators {
        operators: Vec<OperatorView>,
    }
    /// An operator token that is removed.
    RemovedOperator {
        operator_id: String,
        /// `removed`.
        status: String,
    }
    /// Licenses.
    Licenses {
        licenses: Vec<LicenseView>,
        /// Whether these are all.
        complete: bool,
    }
    /// Those to whom licenses are issued.
    Clients {
        clients: Vec<ClientView>,
        /// Whether these are all.
        complete: bool,
    }
    /// Devices of a license.
    Devices {
        devices: Vec<ActivationView>,
        /// Whether these are all.
        complete: bool,
    }
    /// Activations.
    Activations {
        activations: Vec<ActivationView>,
        groups: Vec<ActivationGroup>,
        /// How many there are, where the server counted.
        total: Option<u32>,
        /// Whether these are all.
        complete: bool,
    }
    /// What an offline token says of itself.
    InspectedToken {
        /// Never.
        verified: bool,
        key_id: String,
        claims: OfflineClaims,
    }
    /// An offline token that is genuine and in force.
    VerifiedToken {
        verified: bool,
        claims: OfflineClaims,
    }
}

shapes! {
    /// A backup that was taken.
    SavedSnapshot {
        file: String,
        index: Id64,
        civil_time: UtcTime,
        rows: u64,
        bytes: u64,
        sha256: String,
        /// Entries after the last that is known to be committed, of a stopped node.
        uncommitted_entries: Option<u64>,
    }
    /// What is in a snapshot file.
    SnapshotContents {
        file: String,
        bytes: u64,
        sha256: String,
        format_version: u32,
        cluster_id: Option<String>,
        epoch: Option<u32>,
        index: Id64,
        term: Id64,
        civil_time: UtcTime,
        rows: u64,
        packages: u64,
        leases: u64,
        audit_events: u64,
        audit_hash: String,
        state_sum: String,
        members: Vec<SnapshotMember>,
        tables: Vec<SnapshotTable>,
        /// Of `snapshot verify`: every hash, every row and every rule was checked.
        verified: Option<bool>,
    }
    /// A member when the snapshot was taken.
    SnapshotMember {
        id: u64,
        peer_address: String,
    }
    /// Rows of a table.
    SnapshotTable {
        table: String,
        rows: u64,
    }
    /// The first node of a cluster that begins again.
    RestoredCluster {
        cluster_id: Option<String>,
        epoch: Option<u32>,
        node_id: u64,
        directory: String,
        config: String,
        index: Id64,
        snapshot_index: Id64,
        snapshot_civil_time: UtcTime,
        /// No new seat is granted for so long.
        grace_ms: u64,
        reserved: Vec<ReservedSeats>,
        /// Whose tokens are in force, ones that were revoked later among them.
        operators: Vec<String>,
        /// The commands to go on with.
        next: Vec<String>,
    }
    /// The snapshot files of a directory.
    SnapshotFiles {
        directory: String,
        snapshots: Vec<SnapshotFile>,
    }
    /// A snapshot file, by its name.
    SnapshotFile {
        file: String,
        epoch: u32,
        index: Id64,
        bytes: u64,
        written_at: UtcTime,
    }
}

choices! {
    /// By whether the node was a member before.
    Joining = Now(JoinedNode) | Before(JoinedBefore);
    /// By whether the node's own files were given.
    Replacement = Invited(protocol::cloud::admin::AddMemberResponse) | Here(ReplacedNode);
    /// By `--list`.
    Doctor = Found(Diagnosis) | Listed(KnownChecks);
    /// By whether standard output is the file.
    Signing = File(SignedPackage) | Whole(PackageDocument);
    /// By whether a file was given.
    AuditVerdict = Log(VerifiedLog) | File(AuditSegment);
}
