//! Disks that lose their power, bits and sectors, under real processes of the release binary; and
//! the order in which a node writes, syncs and answers, as the kernel saw it.
//!
//! ```text
//! power    each node's disk is cut under load, one, a majority, all at once, again and again
//! damage   a bit or a sector changes in the log, the state, a redo file, a backup
//! traced   strace: no answer leaves before a majority has synced the command it answers
//!
//! clients ─▶ book: what was acknowledged ─▶ invariants ◀─ audit, leases, applications: what is
//! ```
//!
//! Each kind of trial runs for some seconds, or as often as `LEASEHOLD_DISK_TRIALS` says, from the
//! seed in `LEASEHOLD_DISK_SEED` (`trials`); `cargo xtask disks` sets both. What was run is printed
//! in lines that begin with `ran:`. Disks need the right to mount: where it is missing, a line
//! `skipped:` says why. `README.md` beside this file has the rest.

mod book;
mod clients;
mod damage;
mod invariants;
mod places;
mod power;
mod traced;
mod trials;
