//! One run: turmoil's hosts and network, the moments at which things go wrong, and the end.
//!
//! ```text
//! founding ─ faults ─────────── calm ─────────────── leaving ──────── final
//!            load, what the     load, nothing wrong  nobody renews   all is read
//!            plan says: safety  a leader, all follow  seats come back one state
//! ```
//!
//! Between two ticks of the simulation this looks at every machine: one whose power went is cut
//! off, one whose process ended is emptied, and both are started again after a while, as an
//! operator's machine would; one that says it is damaged never is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use lease::ids::NodeId;
use raft::{NodeRole, Preset};
use storage::testing::SeededEntropy;
use tokio::task::JoinSet;
use turmoil::{Builder, Sim};

use crate::active::{Active, Network};
use crate::apps::Holder;
use crate::invariants;
use crate::net::host;
use crate::node::{self, End, Machine, Order};
use crate::operator::{Admin, Errands};
use crate::plan::{Fault, Options, PlannedFault, Target};
use crate::report::Report;
use crate::shared::{Phase, Shared};

/// Runs a seed to its end.
///
/// # Errors
/// When the simulation itself fails, which is no finding about the cluster.
pub fn run(seed: u64, options: Options, verbose: bool) -> Result<Report> {
    listen_for_panics();
    let shared = Shared::new(seed, options, verbose);
    let errands = Rc::new(Errands::default());
    let mut world = World::new(Rc::clone(&shared), errands);
    let ended = world.run();
    let last_ns = shared.time.now_ns();
    for panic in panics() {
        shared.violate("no_panic", panic);
    }
    // Machines hold what the hosts' runtimes need to be taken apart.
    drop(world);
    ended?;
    invariants::judge(&shared);
    let mut totals = shared.totals.borrow().clone();
    totals.leader_changes = shared.history.borrow().terms().saturating_sub(1);
    totals.simulated_ms = last_ns / 1_000_000;
    totals.events = shared.trace.events();
    let violations = shared.violations();
    let last = match violations.is_empty() {
        true => Vec::new(),
        false => shared.trace.last().iter().map(ToString::to_string).collect(),
    };
    Ok(Report {
        seed,
        digest: shared.trace.digest().iter().map(|byte| format!("{byte:02x}")).collect(),
        totals,
        violations: violations.into_iter().map(|it| (it.rule.to_owned(), it.what)).collect(),
        last,
        cpu_ms: 0,
    })
}

struct World<'a> {
    shared: Rc<Shared>,
    errands: Rc<Errands>,
    sim: Sim<'a>,
    random: SeededEntropy,
    /// When machines that stand still are to start again.
    starts: BTreeMap<NodeId, Duration>,
    /// Nodes that never start again.
    gone: BTreeSet<NodeId>,
    active: Vec<Active>,
    next_fault: usize,
    calm_since: Option<Duration>,
    leaving_since: Option<Duration>,
}

impl World<'_> {
    fn new(shared: Rc<Shared>, errands: Rc<Errands>) -> Self {
        let mut sim = Builder::new()
            .epoch(UNIX_EPOCH + Duration::from_secs(1))
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(3_600))
            .min_message_latency(LATENCY_LEAST)
            .max_message_latency(LATENCY_MOST)
            .tcp_capacity(4_096)
            .rng_seed(shared.seed_for("network", 0))
            .enable_random_order()
            .build();
        let founders: Vec<NodeId> = (1..=shared.plan.nodes).collect();
        shared.members.replace(founders.clone());
        for node in founders {
            add_machine(&mut sim, &shared, node);
        }
        let (for_apps, for_errands) = (Rc::clone(&shared), Rc::clone(&errands));
        sim.client(APPS, async move { everybody(for_apps, for_errands).await });
        let random = SeededEntropy::new(shared.seed_for("world", 0));
        Self {
            shared,
            errands,
            sim,
            random,
            starts: BTreeMap::new(),
            gone: BTreeSet::new(),
            active: Vec::new(),
            next_fault: 0,
            calm_since: None,
            leaving_since: None,
        }
    }

    fn run(&mut self) -> Result<()> {
        loop {
            self.sim.step().map_err(|error| anyhow!("the simulation failed: {error}"))?;
            let now = self.sim.elapsed();
            self.shared.time.reached(now);
            self.tend_machines(now);
            self.tend_members();
            if self.shared.phase.get() == Phase::Faults {
                self.tend_faults(now);
            }
            if self.shared.is_violated() || has_panicked() {
                return Ok(());
            }
            if self.go_on(now) {
                return Ok(());
            }
        }
    }

    /// Moves to the next phase when it is time; `true` at the end.
    fn go_on(&mut self, now: Duration) -> bool {
        let acknowledged = self.shared.totals.borrow().acknowledged;
        match self.shared.phase.get() {
            Phase::Founding => {
                if now > FOUNDED_WITHIN {
                    self.shared.violate("a_leader_is_found", "the cluster was not founded");
                }
            }
            Phase::Faults => {
                let faults = self.shared.plan.faults.is_empty()
                    || self.shared.totals.borrow().faults_hit() >= FAULTS;
                let enough = faults && acknowledged >= ACKNOWLEDGED;
                let over = now > self.shared.plan.faults_end * 3;
                if now >= self.shared.plan.faults_end && (enough || over) {
                    self.end_faults(now);
                    self.calm_since = Some(now);
                    self.enter(Phase::Calm);
                }
            }
            Phase::Calm => {
                let since = self.calm_since.unwrap_or(now);
                if now >= since + CALM {
                    let found = self.not_live();
                    // A leader that finds out only now that its clock was off hands over, and has
                    // the time for it that any failover has.
                    if !found.is_empty() && now < since + CALM + Preset::Lan.failover_bound() {
                        return false;
                    }
                    for (rule, what) in found {
                        self.shared.violate(rule, what);
                    }
                    self.leaving_since = Some(now);
                    self.enter(Phase::Leaving);
                }
            }
            Phase::Leaving => {
                let since = self.leaving_since.unwrap_or(now);
                let longest_s = self.shared.plan.packages.iter().map(|it| it.ttl_s).max();
                let lives = Duration::from_secs(u64::from(longest_s.unwrap_or(0)));
                if now >= since + lives + LEAVING_SLACK {
                    self.enter(Phase::Final);
                }
            }
            Phase::Final => {
                let since = self.leaving_since.unwrap_or(now);
                let read = self.shared.history.borrow().final_reads.len();
                let members = self.shared.members.borrow().clone();
                let all = members
                    .iter()
                    .all(|node| self.shared.history.borrow().final_reads.contains_key(node));
                if all {
                    invariants::expired_in_time_when_calm(&self.shared);
                    return true;
                }
                if now > since + FINAL_WITHIN {
                    let what = format!("{read} of {} nodes could be read", members.len());
                    self.shared.violate("every_acknowledged_write_is_readable", what);
                }
            }
        }
        false
    }

    fn enter(&self, phase: Phase) {
        self.shared.tell("phase", format!("{phase:?}"));
        self.shared.phase.set(phase);
    }

    /// What is not as it must be after the calm: there is a leader, and everybody follows it.
    fn not_live(&self) -> Vec<(&'static str, String)> {
        let Some(leader) = self.shared.leader() else {
            let machines = self.shared.machines.borrow();
            let running = machines.values().filter_map(|it| it.cluster());
            let statuses: Vec<String> =
                running.map(|cluster| format!("{:?}", cluster.status())).collect();
            return vec![("a_leader_is_found", format!("nobody leads: {}", statuses.join("; ")))];
        };
        let members = self.shared.members.borrow().clone();
        let machines = members.iter().filter_map(|node| self.shared.machine(*node));
        // Of one whose disk was lost, the replacement is under way.
        let stray = machines.filter(|machine| !machine.is_wiped.get()).filter_map(|machine| {
            let node = machine.node;
            let Some(cluster) = machine.cluster() else {
                return Some(format!("node {node} does not run"));
            };
            let status = cluster.status();
            let follows = status.leader == Some(leader) || status.role == NodeRole::Leader;
            (!follows).then(|| format!("node {node} does not follow {leader}: {status:?}"))
        });
        stray.map(|what| ("every_node_comes_back", what)).collect()
    }

    fn tend_machines(&mut self, now: Duration) {
        let machines: Vec<Rc<Machine>> = self.shared.machines.borrow().values().cloned().collect();
        for machine in machines {
            let node = machine.node;
            if machine.disk.is_off() {
                self.cut_power(&machine, now);
            } else if let Some(end) = machine.end.take() {
                self.ended(&machine, end, now);
            }
            if self.starts.get(&node).is_some_and(|at| *at <= now) {
                self.starts.remove(&node);
                self.shared.totals.borrow_mut().restarts += 1;
                self.sim.bounce(host(node));
            }
        }
    }

    /// The power of a machine goes, and what it had not synced with it.
    pub(crate) fn cut_power(&mut self, machine: &Machine, now: Duration) {
        machine.disk.turn_off();
        self.stop_process(machine);
        machine.disk.power_cut(self.random.next());
        self.start_later(machine.node, now);
        self.shared.tell("power", format!("node {} lost its power", machine.node));
    }

    /// A process is killed; its machine goes on.
    pub(crate) fn kill(&mut self, machine: &Machine, now: Duration) {
        machine.disk.turn_off();
        self.stop_process(machine);
        machine.disk.process_crash();
        self.start_later(machine.node, now);
        self.shared.tell("kill", format!("node {}", machine.node));
    }

    /// A machine loses what is on its disk, and is started again as if nothing were wrong.
    pub(crate) fn wipe(&mut self, machine: &Machine, now: Duration) {
        machine.disk.turn_off();
        self.stop_process(machine);
        machine.disk.wipe();
        machine.is_wiped.set(true);
        self.start_later(machine.node, now);
        self.shared.tell("wipe", format!("node {} lost its disk", machine.node));
    }

    fn stop_process(&mut self, machine: &Machine) {
        machine.process.replace(None);
        machine.end.replace(None);
        self.sim.crash(host(machine.node));
    }

    fn start_later(&mut self, node: NodeId, now: Duration) {
        if !self.gone.contains(&node) {
            let down_ms = 100 + self.random.below(4_000);
            self.starts.insert(node, now + Duration::from_millis(down_ms));
        }
    }

    fn ended(&mut self, machine: &Machine, end: End, now: Duration) {
        let node = machine.node;
        machine.disk.turn_off();
        self.stop_process(machine);
        machine.disk.process_crash();
        match end {
            End::Clean | End::Failed(_) => self.start_later(node, now),
            End::Removed => {
                self.gone.insert(node);
                if self.shared.members.borrow().contains(&node) {
                    let removing = self.errands.leaving.borrow().contains(&node);
                    if !removing {
                        let what = format!("node {node} was removed by nobody");
                        self.shared.violate("no_member_is_lost", what);
                    }
                }
            }
            End::Damaged(why) => {
                self.gone.insert(node);
                let what = format!("node {node}: {why}");
                self.shared.violate("nothing_is_damaged_by_a_crash", what);
            }
        }
    }

    fn tend_members(&mut self) {
        let wanted = self.errands.wanted.take();
        for node in wanted {
            add_machine(&mut self.sim, &self.shared, node);
        }
        let dismissed = self.errands.dismissed.take();
        for node in dismissed {
            self.gone.insert(node);
            self.starts.remove(&node);
            if let Some(machine) = self.shared.machine(node) {
                machine.disk.turn_off();
                self.stop_process(&machine);
                machine.disk.process_crash();
            }
        }
    }

    fn tend_faults(&mut self, now: Duration) {
        while let Some(planned) = self.shared.plan.faults.get(self.next_fault)
            && planned.at <= now
        {
            let planned = planned.clone();
            let number = self.next_fault;
            self.next_fault += 1;
            let begun = Active::begin(number, &planned, self.as_network(now));
            self.active.extend(begun);
        }
        let too_few = self.shared.totals.borrow().faults_hit() < FAULTS;
        let planned = !self.shared.plan.faults.is_empty();
        if planned && too_few && now >= self.shared.plan.faults_end && self.active.is_empty() {
            // What was drawn met nobody: this will.
            let fault = Fault::Kill(Target::One(self.random.next()));
            let further = PlannedFault { at: now, lasts: Duration::from_secs(5), fault };
            let begun = Active::begin(self.next_fault, &further, self.as_network(now));
            self.active.extend(begun);
        }
        let mut going = std::mem::take(&mut self.active);
        for active in &mut going {
            active.step(self.as_network(now));
        }
        let over: Vec<Active> = going.extract_if(.., |active| active.until <= now).collect();
        self.active = going;
        for active in over {
            self.end_fault(active, now);
        }
    }

    fn end_fault(&mut self, active: Active, now: Duration) {
        let name = active.fault.name();
        let hits = active.end(self.as_network(now));
        self.shared.tell("over", format!("{name}: {hits} hits"));
        let mut totals = self.shared.totals.borrow_mut();
        if hits > 0 {
            *totals.faults.entry(name.to_owned()).or_default() += 1;
        } else {
            totals.faults_missed += 1;
        }
    }

    /// Everything that is wrong is put right, and whoever is down is started.
    fn end_faults(&mut self, now: Duration) {
        for active in std::mem::take(&mut self.active) {
            self.end_fault(active, now);
        }
        for at in self.starts.values_mut() {
            *at = (*at).min(now + Duration::from_millis(50));
        }
        // What a machine was to meet and did not yet.
        for machine in self.shared.machines.borrow().values() {
            machine.disk.spare();
        }
    }

    fn as_network(&mut self, now: Duration) -> Network<'_, Self>
    where
        Self: Sized,
    {
        Network { world: self, now }
    }
}

impl<'a> crate::active::Hands for World<'a> {
    fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    fn errands(&self) -> &Rc<Errands> {
        &self.errands
    }

    fn random(&self) -> &SeededEntropy {
        &self.random
    }

    fn cut(&mut self, from: &str, to: &str) {
        self.sim.partition_oneway(from, to);
    }

    fn mend(&mut self, from: &str, to: &str) {
        self.sim.repair_oneway(from, to);
    }

    fn lose(&mut self, permille: u64) {
        self.sim.set_fail_rate(permille as f64 / 1_000.0);
    }

    fn delay(&mut self, most: Option<Duration>) {
        self.sim.set_max_message_latency(most.unwrap_or(LATENCY_MOST));
    }

    fn kill(&mut self, node: NodeId, now: Duration) {
        if let Some(machine) = self.shared.machine(node) {
            World::kill(self, &machine, now);
        }
    }

    fn cut_power(&mut self, node: NodeId, now: Duration) {
        if let Some(machine) = self.shared.machine(node) {
            World::cut_power(self, &machine, now);
        }
    }

    fn wipe(&mut self, node: NodeId, now: Duration) {
        if let Some(machine) = self.shared.machine(node) {
            World::wipe(self, &machine, now);
        }
    }

    fn stop_cleanly(&mut self, node: NodeId) {
        if let Some(machine) = self.shared.machine(node)
            && let Some(process) = machine.process.borrow().as_ref()
        {
            // A full queue of orders means that it is on its way down already.
            let _ = process.orders.try_send(Order::Stop);
        }
    }
}

fn add_machine(sim: &mut Sim<'_>, shared: &Rc<Shared>, node: NodeId) {
    let machine = Machine::new(node, shared);
    shared.machines.borrow_mut().insert(node, Rc::clone(&machine));
    let shared = Rc::clone(shared);
    sim.host(host(node), move || node::process(Rc::clone(&machine), Rc::clone(&shared)));
}

/// Applications and operators: everybody outside the cluster.
async fn everybody(shared: Rc<Shared>, errands: Rc<Errands>) -> turmoil::Result {
    let apps = Admin::new(Rc::clone(&shared), Rc::clone(&errands), 1).found().await;
    shared.phase.set(Phase::Faults);
    let mut tasks = JoinSet::new();
    for number in 0..u64::from(shared.plan.holders) {
        tasks.spawn_local(Holder::new(Rc::clone(&shared), Rc::clone(&apps), number).run());
    }
    tasks.spawn_local(Admin::new(Rc::clone(&shared), Rc::clone(&errands), 2).run());
    tasks.spawn_local(Admin::new(Rc::clone(&shared), errands, 3).run_errands());
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            shared.violate("no_panic", error.to_string());
        }
    }
    std::future::pending().await
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on a panic anywhere in the process is a finding.
fn listen_for_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let trace = std::backtrace::Backtrace::force_capture().to_string();
        let ours: Vec<&str> =
            trace.lines().filter(|line| line.contains("/main/")).take(6).collect();
        if let Ok(mut panics) = PANICS.lock() {
            panics.push(format!("{panic} {}", ours.join(" ")));
        }
    }));
}

fn panics() -> Vec<String> {
    PANICS.lock().map(|panics| panics.clone()).unwrap_or_default()
}

fn has_panicked() -> bool {
    PANICS.lock().is_ok_and(|panics| !panics.is_empty())
}

const APPS: &str = "apps";
const TICK: Duration = Duration::from_millis(2);
const LATENCY_LEAST: Duration = Duration::from_millis(1);
const LATENCY_MOST: Duration = Duration::from_millis(6);
/// Commands that must be acknowledged in every run.
const ACKNOWLEDGED: u64 = 2_000;
/// Faults that must have hit in every run.
const FAULTS: u64 = 3;
const FOUNDED_WITHIN: Duration = Duration::from_secs(20);
/// Load without faults: within it there must be a leader, and everybody must have caught up.
const CALM: Duration = Duration::from_secs(7);
/// Beyond the longest lease: the last requests, two ticks, a failover that was under way.
const LEAVING_SLACK: Duration = Duration::from_millis(5_000);
const FINAL_WITHIN: Duration = Duration::from_secs(30);
