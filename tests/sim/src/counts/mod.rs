//! What one operation costs in figures that no clock and no neighbour on the machine changes:
//! instructions, allocations, bytes written, syncs.
//!
//! ```text
//! ledger    one thread, no I/O: `apply` per verb, an entry to bytes and back
//! gateway   one node, 64 connections in memory: HTTP, credentials, proposer, log, ledger, answer
//! cluster   three nodes, 256 connections: the same with forwarding and replication
//! ```
//!
//! Everything happens in one thread, from one seed, in simulated time, so a figure changes when the
//! code does. What the seams put in the place of disk and network costs something too, the same
//! before and after a change. TLS and HTTP/2 are not here; the benchmark has them.
//!
//! Who measures is a [`Meter`]; the binary `counts` has one for allocations and lets callgrind
//! watch it for instructions.

mod cluster;
mod ledger;

use anyhow::Result;

/// Takes down what the work of a case costs.
pub trait Meter {
    /// Does the work of a case: this many operations and nothing else.
    fn measure(&mut self, case: &'static str, operations: u64, work: &mut dyn FnMut());

    /// Takes down a figure that the case counts itself, for each operation.
    fn take_down(&mut self, case: &'static str, figure: &'static str, each: f64);
}

/// What is counted in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `apply` per verb, encoding, decoding.
    Ledger,
    /// One node's gateway.
    Gateway,
    /// Three nodes.
    Cluster,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ledger, Self::Gateway, Self::Cluster];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Gateway => "gateway",
            Self::Cluster => "cluster",
        }
    }

    /// Does all its cases; once in a process, which is seeded here.
    ///
    /// # Errors
    /// When an operation is not done, which would make its cost meaningless.
    pub fn count(self, meter: &mut dyn Meter) -> Result<()> {
        crate::random::seed(SEED);
        match self {
            Self::Ledger => ledger::count(meter),
            Self::Gateway => cluster::count(&cluster::GATEWAY, meter),
            Self::Cluster => cluster::count(&cluster::CLUSTER, meter),
        }
    }
}

const SEED: u64 = 1;
