//! The rules: a pure ledger. `Command` in, `Outcome` out; no I/O, clock, randomness or async.
//!
//! Everything that decides whether a seat may be taken is in this crate, so that three replicas
//! that apply the same log hold the same bytes. What needs the world (an id, a time, a sealed
//! secret) is chosen before a command enters the log and travels inside it.
//!
//! Where to look: `apply` has one file per family of verbs, `expiry` what time does, `requests`
//! what makes a mutation happen once, `license` and `offline` what keys and borrowing need, `audit`
//! the chain of events, `rows` what is stored and under which key, `state` the tables in memory,
//! `invariants` the rules as checks, `limits` every bound, `planted` what tests must catch.
//!
//! Nothing here opens what is sealed: one log leaves the same bytes on a node that could and on one
//! that could not, because no rule ever looks inside.

mod apply;
pub mod audit;
pub mod command;
pub mod entry;
mod expiry;
pub mod format;
pub mod ids;
pub mod invariants;
mod ledger;
pub mod license;
pub mod limits;
mod lookup;
pub mod money;
pub mod offline;
pub mod operate;
pub mod outcome;
pub mod planted;
mod queries;
mod record;
mod requests;
pub mod rows;
mod runs;
mod state;
pub mod sum;

pub use audit::{AuditEvent, AuditHead, decode_audit_block, verify_chain};
pub use ledger::{ApplyError, Due, Ledger};
pub use queries::{Bond, LeaseView, PackageView, PepperHolder, PoolSeats, Seats};
pub use rows::{App, Changes, ClusterIdentity, LoadError, PackageState, Row, SubjectKind, Usage};
