//! What a run looked like from outside: one line for each thing a client or the nemesis did.
//!
//! The discipline is Jepsen's. A client writes `invoke` before it asks, and one of three after:
//! `ok` (it happened, and this was the answer), `fail` (it certainly did not happen), `info`
//! (nobody knows: a timeout, a reset, an answer that leaves it open). After an `info` the process
//! is never heard of again. The nemesis writes `info` only.
//!
//! ```text
//! DIR/header.json     what was run: workload, faults, seed, packages and their terms
//! DIR/history.jsonl   one event a line, in the order of their times, written while it runs
//! DIR/history.edn     the same as EDN, for Knossos, Elle and porcupine (crate::edn)
//! ```
//!
//! All times are nanoseconds since the run began, on one monotonic clock of the rig: no clock of a
//! node is believed. What else lies in the directory is in [`crate::evidence`]; this file leaves
//! to others what events mean together ([`crate::operation`], [`crate::check`]).
//!
//! The types are here; reading and writing them is in `files`.

mod files;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use files::{Draft, HEADER_FILE, HISTORY_FILE, HistoryError, Writer};

/// What a run was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the workload.
    pub workload: String,
    /// Names of the faults that were asked for.
    pub faults: Vec<String>,
    /// What every choice of the run was drawn from.
    pub seed: u64,
    /// The commit of the binary that ran.
    pub commit: String,
    /// Ids of the founding nodes.
    pub nodes: Vec<u64>,
    /// Packages that clients used, and what was bought.
    pub packages: Vec<PackageTerms>,
    /// The upper election timeout of the cluster's preset, in milliseconds.
    pub election_timeout_ms: u64,
    /// How far the rate of the cluster's lease clock may be off, as a part of one (0.01 is 1 %).
    pub epsilon: f64,
}

impl Header {
    /// *F*, the failover bound: within it a cluster with a majority has a leader again.
    pub fn failover_bound_ms(&self) -> u64 {
        2 * self.election_timeout_ms + 100
    }

    /// Terms of a package.
    pub fn package(&self, name: &str) -> Option<&PackageTerms> {
        self.packages.iter().find(|terms| terms.name == name)
    }
}

/// What was bought of one package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageTerms {
    /// Its name in every act of the history.
    pub name: String,
    /// Seats that are paid for in advance.
    pub commit: u32,
    /// Seats beyond those.
    pub overage: u32,
    /// How long a lease lasts when the checkout asks for nothing else.
    pub ttl_ms: u64,
    /// Shares of its pools at the beginning, by name; empty where it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<(String, u32)>,
    /// Whether its renewal tokens are good once only (`renewal_rotation`).
    #[serde(default = "yes")]
    pub rotation: bool,
    /// How long after the end of an offline token its seat is kept (`offline_skew_seconds`); 0
    /// when it is not known.
    #[serde(default)]
    pub offline_skew_ms: u64,
}

fn yes() -> bool {
    true
}

impl PackageTerms {
    /// Seats that may be taken at once.
    pub fn total(&self) -> u32 {
        self.commit.saturating_add(self.overage)
    }
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the file, from 0.
    pub index: u64,
    /// Nanoseconds since the run began.
    pub time_ns: u64,
    /// Who.
    pub process: Process,
    /// Beginning or end, and of what kind.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The node that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u64>,
    /// What was asked; an end repeats what its beginning said.
    #[serde(flatten)]
    pub act: Act,
    /// What was answered; `ok` and `fail` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What a person may want to know, such as why an outcome is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "ProcessText", try_from = "ProcessText")]
pub enum Process {
    /// A client; at most one of its acts is under way.
    Client(u64),
    /// Who injects the faults.
    Nemesis,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ProcessText {
    Number(u64),
    Name(String),
}

impl From<Process> for ProcessText {
    fn from(process: Process) -> Self {
        match process {
            Process::Client(number) => Self::Number(number),
            Process::Nemesis => Self::Name("nemesis".to_owned()),
        }
    }
}

impl TryFrom<ProcessText> for Process {
    type Error = String;

    fn try_from(text: ProcessText) -> Result<Self, String> {
        match text {
            ProcessText::Number(number) => Ok(Self::Client(number)),
            ProcessText::Name(name) if name == "nemesis" => Ok(Self::Nemesis),
            ProcessText::Name(name) => Err(format!("no process is called {name:?}")),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(number) => write!(f, "{number}"),
            Self::Nemesis => f.write_str("nemesis"),
        }
    }
}

/// Beginning or end of an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is about to be asked.
    Invoke,
    /// It happened.
    Ok,
    /// It certainly did not happen.
    Fail,
    /// Nobody knows whether it happened.
    Info,
}

impl Kind {
    /// Its name in a history.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
        }
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "kebab-case")]
pub enum Act {
    /// Take seats.
    Checkout {
        /// Of which package.
        package: String,
        /// The `Idempotency-Key`; a retry repeats it.
        key: String,
        /// Who is to hold them.
        holder: String,
        /// How long the lease is to last; the package's own time when absent.
        ttl_ms: Option<u64>,
        /// How many.
        seats: u32,
        /// The pool that was asked for; `None`: seats that are in no pool.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<String>,
    },
    /// Keep a lease.
    Heartbeat {
        /// Its package.
        package: String,
        /// The lease.
        lease: String,
        /// The renewal token that was sent.
        sequence_token: String,
    },
    /// Give a lease back.
    Return {
        /// Its package.
        package: String,
        /// The lease.
        lease: String,
        /// The `Idempotency-Key`.
        key: String,
    },
    /// Lengthen a lease, for use without a network.
    Borrow {
        /// Its package.
        package: String,
        /// The lease.
        lease: String,
        /// The `Idempotency-Key`.
        key: String,
        /// For how long.
        duration_ms: u64,
    },
    /// Give a borrowed lease back.
    ReturnBorrow {
        /// Its package.
        package: String,
        /// The lease.
        lease: String,
        /// The `Idempotency-Key`.
        key: String,
    },
    /// Move seats from one pool of a package to another.
    Transfer {
        /// The package.
        package: String,
        /// The pool that loses them.
        from: String,
        /// The pool that gets them.
        to: String,
        /// How many.
        seats: u32,
        /// The `Idempotency-Key`.
        key: String,
    },
    /// Read how many seats of a package are taken.
    ReadPackage {
        /// The package.
        package: String,
        /// Whether a node may answer from what it has (`consistency=stale`).
        stale: bool,
    },
    /// Read one lease.
    ReadLease {
        /// Its package.
        package: String,
        /// The lease.
        lease: String,
        /// Whether a node may answer from what it has.
        stale: bool,
    },
    /// Read the pools of a package.
    ReadPools {
        /// The package.
        package: String,
        /// Whether a node may answer from what it has.
        stale: bool,
    },
    /// The nemesis did something.
    Fault(FaultEvent),
}

impl Act {
    /// Its name in a history (`:f`).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Checkout { .. } => "checkout",
            Self::Heartbeat { .. } => "heartbeat",
            Self::Return { .. } => "return",
            Self::Borrow { .. } => "borrow",
            Self::ReturnBorrow { .. } => "return-borrow",
            Self::Transfer { .. } => "transfer",
            Self::ReadPackage { .. } => "read-package",
            Self::ReadLease { .. } => "read-lease",
            Self::ReadPools { .. } => "read-pools",
            Self::Fault(_) => "fault",
        }
    }

    /// The package that it is about; `None` for a fault.
    pub fn package(&self) -> Option<&str> {
        match self {
            Self::Checkout { package, .. }
            | Self::Heartbeat { package, .. }
            | Self::Return { package, .. }
            | Self::Borrow { package, .. }
            | Self::ReturnBorrow { package, .. }
            | Self::Transfer { package, .. }
            | Self::ReadPackage { package, .. }
            | Self::ReadLease { package, .. }
            | Self::ReadPools { package, .. } => Some(package),
            Self::Fault(_) => None,
        }
    }

    /// The lease that it names.
    pub fn lease(&self) -> Option<&str> {
        match self {
            Self::Heartbeat { lease, .. }
            | Self::Return { lease, .. }
            | Self::Borrow { lease, .. }
            | Self::ReturnBorrow { lease, .. }
            | Self::ReadLease { lease, .. } => Some(lease),
            _ => None,
        }
    }

    /// The `Idempotency-Key` that it carries.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Checkout { key, .. }
            | Self::Return { key, .. }
            | Self::Borrow { key, .. }
            | Self::ReturnBorrow { key, .. }
            | Self::Transfer { key, .. } => Some(key),
            _ => None,
        }
    }

    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self, Self::ReadPackage { .. } | Self::ReadLease { .. } | Self::ReadPools { .. })
    }

    /// Whether it is a read that may be answered from an older state.
    pub fn is_stale_read(&self) -> bool {
        match self {
            Self::ReadPackage { stale, .. }
            | Self::ReadLease { stale, .. }
            | Self::ReadPools { stale, .. } => *stale,
            _ => false,
        }
    }
}

/// One moment of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FaultEvent {
    /// Which fault, as it is called on the command line.
    pub name: String,
    /// Which moment of it.
    pub phase: FaultPhase,
    /// The nodes that it is for.
    pub targets: Vec<u64>,
    /// What exactly.
    pub detail: String,
}

/// Moments of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultPhase {
    /// It was begun.
    Start,
    /// There is evidence that it had an effect.
    Hit,
    /// It was healed.
    End,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// Seats were taken.
    Granted {
        /// The lease.
        lease: String,
        /// Its fence: text order is the order of grants.
        fence: String,
        /// `commit` or `overage`.
        class: String,
        /// How long it lasts, counted from when it was asked.
        expires_in_ms: u64,
        /// What the next heartbeat has to send.
        renewal_token: String,
        /// Whether the server says that it answers a repeat; `false` where it does not tell.
        repeated: bool,
        /// Hash over what a repeat of the answer must have the same (lease, fence, class, token).
        body_hash: String,
    },
    /// The lease was kept.
    Renewed {
        /// How long it lasts, counted from when it was asked.
        expires_in_ms: u64,
        /// What the next heartbeat has to send.
        renewal_token: String,
        /// Until when an offline token is good, in Unix milliseconds.
        offline_until_ms: Option<i64>,
    },
    /// The lease was given back.
    Returned,
    /// The lease was lengthened.
    Borrowed {
        /// How long it lasts, counted from when it was asked.
        until_in_ms: u64,
        /// The end of its offline token, in Unix milliseconds.
        offline_ends_ms: i64,
    },
    /// Seats were moved between pools.
    Transferred,
    /// How a package stands.
    Package {
        /// Seats that are taken.
        in_use: u32,
        /// Seats that there are.
        total: u32,
        /// The log index that the answer reflects.
        index: u64,
        /// The live leases, where the rig read them all.
        leases: Option<Vec<String>>,
    },
    /// How a lease stands.
    Lease {
        /// Whether it lives.
        live: bool,
        /// How long it still lasts.
        expires_in_ms: Option<u64>,
    },
    /// How the pools of a package stand.
    Pools {
        /// Name, seats and seats in use of each.
        shares: Vec<(String, u32, u32)>,
        /// The log index that the answer reflects.
        index: u64,
    },
    /// It was refused.
    Refused {
        /// The stable code of the refusal.
        code: String,
        /// The HTTP status.
        status: u16,
    },
}

/// A whole history.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// What was run.
    pub header: Header,
    /// What happened, in the order of times.
    pub events: Vec<Event>,
}
