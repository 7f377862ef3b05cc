//! What all parts of one run share: its plan, its time, what happened, what was found.
//!
//! A run is one thread, so nothing here is locked; no borrow is held across an await.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use lease::ids::NodeId;
use raft::Cluster;

use crate::history::History;
use crate::net::Failures;
use crate::node::Machine;
use crate::plan::{Options, Plan, seed_for};
use crate::report::Totals;
use crate::time::Time;
use crate::trace::Trace;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// The cluster is founded and packages imported.
    Founding,
    /// Load and faults.
    Faults,
    /// Load and no faults.
    Calm,
    /// Nobody renews or takes anything any more.
    Leaving,
    /// Everything is read once more.
    Final,
}

/// A rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The rule's name, the same in every tier.
    pub(crate) rule: &'static str,
    /// What was found.
    pub(crate) what: String,
}

/// Shared by everything in a run.
pub(crate) struct Shared {
    /// What the run follows from.
    pub(crate) seed: u64,
    /// What happens in it.
    pub(crate) plan: Plan,
    /// What happened.
    pub(crate) trace: Arc<Trace>,
    /// True time.
    pub(crate) time: Time,
    /// Calls between peers that got no answer.
    pub(crate) failures: Failures,
    /// Calls between peers that took long.
    pub(crate) late: Arc<AtomicU64>,
    /// What applications and operators were told.
    pub(crate) history: RefCell<History>,
    /// Counts.
    pub(crate) totals: RefCell<Totals>,
    /// How far the run is.
    pub(crate) phase: Cell<Phase>,
    /// All machines there ever were.
    pub(crate) machines: RefCell<BTreeMap<NodeId, Rc<Machine>>>,
    /// The nodes that are members, as operators know it: these are asked.
    pub(crate) members: RefCell<Vec<NodeId>>,
    /// Whether what happens is printed as it happens.
    pub(crate) verbose: bool,
    violations: RefCell<Vec<Violation>>,
}

impl Shared {
    /// Of a run that has not begun.
    pub(crate) fn new(seed: u64, options: Options, verbose: bool) -> Rc<Self> {
        Self::with_plan(seed, Plan::of(seed, options), verbose)
    }

    /// Of a run in which what is planned here happens.
    pub(crate) fn with_plan(seed: u64, plan: Plan, verbose: bool) -> Rc<Self> {
        Rc::new(Self {
            seed,
            plan,
            trace: Arc::default(),
            time: Time::default(),
            failures: Failures::default(),
            late: Arc::default(),
            history: RefCell::default(),
            totals: RefCell::default(),
            phase: Cell::new(Phase::Founding),
            machines: RefCell::default(),
            members: RefCell::default(),
            verbose,
            violations: RefCell::default(),
        })
    }

    /// A number for a part of this run.
    pub(crate) fn seed_for(&self, part: &str, number: u64) -> u64 {
        seed_for(self.seed, part, number)
    }

    /// Notes an event in words.
    pub(crate) fn tell(&self, what: &'static str, text: impl Into<String>) {
        let (at_ns, text) = (self.time.now_ns(), text.into());
        if self.verbose {
            eprintln!("{:>10.3} {what:<10} {text}", at_ns as f64 / 1e9);
        }
        self.trace.tell(at_ns, what, text);
    }

    /// A rule did not hold.
    pub(crate) fn violate(&self, rule: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.tell("VIOLATION", format!("{rule}: {what}"));
        let mut violations = self.violations.borrow_mut();
        if violations.len() < MAX_VIOLATIONS {
            violations.push(Violation { rule, what });
        }
    }

    /// What was found.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.violations.borrow().clone()
    }

    /// Whether anything was found.
    pub(crate) fn is_violated(&self) -> bool {
        !self.violations.borrow().is_empty()
    }

    /// A machine.
    pub(crate) fn machine(&self, node: NodeId) -> Option<Rc<Machine>> {
        self.machines.borrow().get(&node).cloned()
    }

    /// Who leads now with a quorum, as far as any node says.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let machines: Vec<Rc<Machine>> = self.machines.borrow().values().cloned().collect();
        let leads = |machine: &Rc<Machine>| {
            let bound = machine.cluster()?.failover_bound();
            let status = machine.cluster()?.status();
            status.leads_with_quorum(bound).then_some((status.term, machine.node))
        };
        machines.iter().filter_map(leads).max().map(|(_, node)| node)
    }

    /// A node has started from what was on its disk.
    pub(crate) fn note_recovered(&self, node: NodeId, cluster: &Cluster) {
        let torn_bytes = cluster.metrics().log.torn_bytes;
        let status = cluster.status();
        self.tell(
            "started",
            format!("node {node}: last {:?}, {torn_bytes} torn bytes", status.last_log),
        );
        self.totals.borrow_mut().torn_tails += u64::from(torn_bytes > 0);
    }
}

/// One is enough; a few more may tell why.
const MAX_VIOLATIONS: usize = 20;
