//! A whole cluster in one process, from one seed: production's ledger, log, state store, consensus
//! and gateways, under faults, and the rules that must hold all the while.
//!
//! ```text
//!                  turmoil: hosts, one clock, a network that cuts, loses, delays, reorders
//!  ┌──────────── node-1 … node-N ────────────┐          ┌──────────── apps ────────────┐
//!  │ gateway::Gateway ── http (hyper) ───────┼──────────┤ apps: holders with leases    │
//!  │ raft::Cluster ───── net (peer frames) ──┼─ node-2  │ operator: packages, members  │
//!  │   storage::log, state  over  SimDisk    │          └──────────────────────────────┘
//!  │   Clock = SimClock   Entropy = a seed   │            history ── invariants ── report
//!  └──────────── observer ───────────────────┘
//! ```
//!
//! # What is production, and what stands in
//!
//! Everything that decides is production: the ledger, proposer, clocks, log, checkpoints,
//! snapshots, admission, credentials, idempotency, forwarding. What stands in are the seams:
//! `Disk` (`disk`, over `storage::testing::MemoryDisk`), `Clock` (`time`), `Entropy` (a seed for
//! each process),
//! `Transport` (`net`), and below them `raft::Workers`, by which everything that production does on
//! threads (the log's writer and its files, checkpoints, snapshots, signing) is done in the
//! simulated task, with the simulated disk's time. sled, TLS and HTTP/2 are not here: sled opens
//! its own files (the disk tier has it), TLS decides nothing about leases.
//!
//! # One seed, one trace
//!
//! A run is one thread of a process of its own. turmoil's clock and network follow from the seed;
//! so do the faults (`plan`), what applications do (`apps`), what std and tokio draw for themselves
//! (`random`). Every message, disk operation and acknowledgement goes into a digest (`trace`); two
//! runs of a seed have the same one.
//!
//! # The course of a run
//!
//! Founding; load under faults for most of 60 simulated seconds and until 2,000 commands were
//! acknowledged; then all is put right and, seven seconds later, there must be a leader and
//! everyone must follow it; then nobody renews any more, and once the longest lease is over every
//! seat must be back, every node must have the same state and the whole audit log (`world`).
//!
//! # How it was found whether a rule held
//!
//! `invariants` judges by what applications were told and what the audit logs say; `observer` looks
//! into each node (`lease::invariants`, sums, leaders); a panic anywhere is a finding, and so is a
//! node that calls its data damaged after a mere crash.

mod active;
mod apps;
pub mod counts;
mod disk;
mod history;
mod http;
mod invariants;
mod keys;
mod net;
mod node;
mod observer;
mod operator;
mod plan;
pub mod random;
pub mod report;
mod shared;
mod time;
mod trace;
mod world;

pub use plan::{Fault, Options, PackagePlan, Plan, PlannedFault, Sizes, Target};
pub use world::run;
