//! The rules: a pure ledger. `Command` in, `Outcome` out; no I/O, clock, randomness or async.
//!
//! Everything that decides whether a seat may be taken is in this crate, so that three replicas
//! that apply the same log hold the same bytes. What needs the world (an id, a time, a sealed
//! secret) is chosen before a command enters the log and travels inside it.

pub mod command;
pub mod entry;
pub mod format;
pub mod ids;
pub mod money;
pub mod outcome;
pub mod sum;
