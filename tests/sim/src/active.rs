//! Faults while they last: how each begins and ends, and what tells that it was felt.
//!
//! A fault hits when something came of it: a call between peers that got no answer, a sync that was
//! slow, a clock that was read, a process that started again. One that nobody noticed is counted
//! apart.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lease::ids::NodeId;
use raft::NodeRole;
use storage::testing::SeededEntropy;

use crate::net::host;
use crate::node::Machine;
use crate::operator::{Errand, Errands};
use crate::plan::{Fault, PlannedFault, Target};
use crate::shared::Shared;

/// What a fault may do to the world.
pub(crate) trait Hands {
    /// The run.
    fn shared(&self) -> &Rc<Shared>;
    /// Errands for the operator.
    fn errands(&self) -> &Rc<Errands>;
    /// Draws.
    fn random(&self) -> &SeededEntropy;
    /// Nothing gets from one host to another any more.
    fn cut(&mut self, from: &str, to: &str);
    /// It does again.
    fn mend(&mut self, from: &str, to: &str);
    /// This many of a thousand messages begin a burst of losses; 0: none.
    fn lose(&mut self, permille: u64);
    /// Messages take up to so long; `None`: as usual.
    fn delay(&mut self, most: Option<Duration>);
    /// A process is killed.
    fn kill(&mut self, node: NodeId, now: Duration);
    /// A machine loses its power now.
    fn cut_power(&mut self, node: NodeId, now: Duration);
    /// A machine loses what is on its disk, and is started again.
    fn wipe(&mut self, node: NodeId, now: Duration);
    /// A process is told to stop.
    fn stop_cleanly(&mut self, node: NodeId);
}

/// The world at one moment.
pub(crate) struct Network<'a, H: Hands> {
    /// What can be done to it.
    pub(crate) world: &'a mut H,
    /// The moment.
    pub(crate) now: Duration,
}

/// A fault that lasts.
pub(crate) struct Active {
    /// Its number in the plan.
    pub(crate) number: usize,
    /// What it is.
    pub(crate) fault: Fault,
    /// When it ends.
    pub(crate) until: Duration,
    node: Option<NodeId>,
    /// Links that were cut: from, to.
    cut: Vec<(String, String)>,
    failures_before: u64,
    lost_before: u64,
    late_before: u64,
    boots_before: u64,
    /// The highest term when it began, while a later one's leader is waited for.
    waits_for_term_after: Option<u64>,
}

impl Active {
    /// Begins a fault; `None` when there is nobody whom it could meet.
    pub(crate) fn begin<H: Hands>(
        number: usize,
        planned: &PlannedFault,
        network: Network<'_, H>,
    ) -> Option<Self> {
        let Network { world, now } = network;
        let shared = Rc::clone(world.shared());
        // A second disk lost before the first is replaced may be a majority's.
        let was_wiped = shared.machines.borrow().values().any(|machine| machine.is_wiped.get());
        if matches!(planned.fault, Fault::Wipe(_)) && was_wiped {
            return None;
        }
        // Nor does anything hold once a majority's clocks are wrong together.
        let is_off = shared.time.now_ns() < shared.history.borrow().off_rate_until_ns;
        if matches!(planned.fault, Fault::Rate(..)) && is_off {
            return None;
        }
        let node = match target_of(planned.fault) {
            Some(target) => Some(find(&shared, target)?),
            None => None,
        };
        shared.tell("fault", format!("{:?} on {node:?} for {:?}", planned.fault, planned.lasts));
        let mut active = Self {
            number,
            fault: planned.fault,
            until: now + planned.lasts,
            node,
            cut: Vec::new(),
            failures_before: failures(&shared),
            lost_before: lost(&shared),
            late_before: shared.late.load(Ordering::Relaxed),
            boots_before: boots(&shared),
            waits_for_term_after: None,
        };
        active.take_effect(world, now, planned.lasts);
        Some(active)
    }

    fn take_effect<H: Hands>(&mut self, world: &mut H, now: Duration, lasts: Duration) {
        let shared = Rc::clone(world.shared());
        let machine = self.node.and_then(|node| shared.machine(node));
        match self.fault {
            Fault::CutOff(_)
            | Fault::Split(_)
            | Fault::Islands
            | Fault::Mute(_)
            | Fault::Deaf(_)
            | Fault::Bridge(_)
            | Fault::NoClients(_)
            | Fault::NoAnswers(_) => self.cut_links(world),
            Fault::CutElection => {
                if let Some((leader, term)) = newest_leader(&shared) {
                    self.waits_for_term_after = Some(term);
                    world.kill(leader, now);
                }
            }
            Fault::Loss(permille) => world.lose(permille),
            Fault::Delay(most_ms) => world.delay(Some(Duration::from_millis(most_ms))),
            Fault::PowerCutAll => {
                let all: Vec<NodeId> = shared.machines.borrow().keys().copied().collect();
                for node in all {
                    if shared.machine(node).is_some_and(|machine| machine.cluster().is_some()) {
                        world.cut_power(node, now);
                    }
                }
            }
            Fault::HandOver(times) => self.send_errand(world, Errand::HandOver(times)),
            _ => {
                if let Some(machine) = machine {
                    self.trouble(world, &machine, now, lasts);
                }
            }
        }
    }

    /// What has to wait for something: called between any two steps of the run.
    pub(crate) fn step<H: Hands>(&mut self, network: Network<'_, H>) {
        let Network { world, now } = network;
        let shared = Rc::clone(world.shared());
        let Some(before) = self.waits_for_term_after else { return };
        let Some((leader, _)) = newest_leader(&shared).filter(|(_, term)| *term > before) else {
            return;
        };
        self.waits_for_term_after = None;
        self.node = Some(leader);
        shared.tell("election", format!("node {leader} was elected, and is cut off"));
        self.cut_links(world);
        let members = shared.members.borrow().clone();
        let runs = |node: &NodeId| shared.machine(*node).is_some_and(|it| it.cluster().is_some());
        let voters: Vec<NodeId> =
            members.into_iter().filter(|node| *node != leader && runs(node)).collect();
        let chosen = world.random().below(voters.len().max(1) as u64);
        if let Some(voter) = usize::try_from(chosen).ok().and_then(|at| voters.get(at)) {
            world.cut_power(*voter, now);
        }
    }

    /// What befalls one machine.
    fn trouble<H: Hands>(&self, world: &mut H, machine: &Machine, now: Duration, lasts: Duration) {
        let node = machine.node;
        let ns = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        let until_ns = ns(now + lasts + Duration::from_secs(1));
        match self.fault {
            Fault::Kill(_) => world.kill(node, now),
            Fault::PowerCut(_, after) => machine.disk.cut_after(after),
            // A slow disk makes groups that lie in several sectors.
            Fault::TornGroup(_) => {
                machine.disk.set_slow(Some(SLOW_FOR_GROUPS));
                machine.disk.cut_at_log_sync();
            }
            Fault::Restart(_) => world.stop_cleanly(node),
            Fault::LittleRoom(_) => machine.disk.set_full(false, true),
            Fault::NoRoom(_) => machine.disk.set_full(true, true),
            Fault::SlowDisk(_, ms) => machine.disk.set_slow(Some(Duration::from_millis(ms))),
            Fault::FailedSync(_) => machine.disk.fail_next_sync(),
            Fault::WallStep(_, ms) => {
                machine.clock.step_wall(ms);
                world.shared().history.borrow_mut().moved_walls.push((ns(now), until_ns));
            }
            Fault::WallStrobe(_, ms) => {
                machine.clock.strobe_wall(ms);
                world.shared().history.borrow_mut().moved_walls.push((ns(now), until_ns));
            }
            Fault::Rate(_, permille) => {
                machine.clock.set_rate(permille);
                let mut history = world.shared().history.borrow_mut();
                history.off_rate_until_ns = until_ns;
                match permille.checked_sub(1_000) {
                    None => {
                        history.slow_clock_until_ns = history.slow_clock_until_ns.max(until_ns);
                    }
                    Some(gained) => history.fast_clocks.push((ns(now), until_ns, gained)),
                }
            }
            Fault::Replace(_) => self.send_errand(world, Errand::Replace(node)),
            Fault::Grow(_) => self.send_errand(world, Errand::Grow(node)),
            Fault::Wipe(_) => {
                world.wipe(node, now);
                self.send_errand(world, Errand::Replace(node));
            }
            _ => {}
        }
    }

    fn send_errand<H: Hands>(&self, world: &mut H, errand: Errand) {
        world.errands().waiting.borrow_mut().push((self.number, errand));
    }

    fn cut_links<H: Hands>(&mut self, world: &mut H) {
        let nodes: Vec<NodeId> = world.shared().machines.borrow().keys().copied().collect();
        let own = self.node.unwrap_or(0);
        let half: u64 = match self.fault {
            Fault::Split(number) => number,
            Fault::Bridge(_) => world.random().next(),
            _ => 0,
        };
        let side = |node: NodeId| (half >> (node % 32)) & 1;
        let mut cut = Vec::new();
        for from in &nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                let is_cut = match self.fault {
                    Fault::CutOff(_) | Fault::CutElection => own == *from || own == *to,
                    Fault::Islands => true,
                    Fault::Mute(_) => own == *from,
                    Fault::Deaf(_) => own == *to,
                    Fault::Split(_) => side(*from) != side(*to),
                    Fault::Bridge(_) => own != *from && own != *to && side(*from) != side(*to),
                    _ => false,
                };
                if is_cut {
                    cut.push((host(*from), host(*to)));
                }
            }
        }
        if let Fault::NoClients(_) = self.fault {
            cut.push(("apps".to_owned(), host(own)));
            cut.push((host(own), "apps".to_owned()));
        }
        if let Fault::NoAnswers(_) = self.fault {
            cut.push((host(own), "apps".to_owned()));
        }
        for (from, to) in &cut {
            world.cut(from, to);
        }
        self.cut = cut;
    }

    /// Ends a fault; gives how often it was felt.
    pub(crate) fn end<H: Hands>(self, network: Network<'_, H>) -> u64 {
        let world = network.world;
        let shared = Rc::clone(world.shared());
        for (from, to) in &self.cut {
            world.mend(from, to);
        }
        let machine = self.node.and_then(|node| shared.machine(node));
        let failed = failures(&shared).saturating_sub(self.failures_before);
        let booted = boots(&shared).saturating_sub(self.boots_before);
        match self.fault {
            Fault::Loss(_) => world.lose(0),
            Fault::Delay(_) => world.delay(None),
            _ => {}
        }
        if self.fault == Fault::CutElection {
            // Nobody may have been elected in its time.
            return if self.cut.is_empty() { 0 } else { booted };
        }
        let Some(machine) = machine else {
            return match self.fault {
                Fault::Delay(_) => {
                    shared.late.load(Ordering::Relaxed).saturating_sub(self.late_before)
                }
                Fault::PowerCutAll => booted,
                Fault::HandOver(_) => self.errand_done(world),
                _ => failed,
            };
        };
        match self.fault {
            Fault::LittleRoom(_) | Fault::NoRoom(_) => {
                machine.disk.set_full(false, false);
                machine.disk.take_hits()
            }
            Fault::SlowDisk(..) => {
                machine.disk.set_slow(None);
                machine.disk.take_hits()
            }
            Fault::FailedSync(_) => machine.disk.take_hits(),
            Fault::WallStep(..) | Fault::WallStrobe(..) => {
                let read = machine.clock.readings();
                machine.clock.step_wall(0);
                read
            }
            Fault::Rate(..) => {
                let read = machine.clock.readings();
                machine.clock.set_rate(1_000);
                read
            }
            Fault::TornGroup(_) => {
                machine.disk.set_slow(None);
                booted
            }
            Fault::Kill(_) | Fault::PowerCut(..) | Fault::Restart(_) => booted,
            Fault::Replace(_) | Fault::Grow(_) | Fault::Wipe(_) => self.errand_done(world),
            Fault::NoClients(_) | Fault::NoAnswers(_) => {
                lost(&shared).saturating_sub(self.lost_before)
            }
            _ => failed,
        }
    }

    fn errand_done<H: Hands>(&self, world: &H) -> u64 {
        u64::from(world.errands().done.borrow().contains(&self.number))
    }
}

fn target_of(fault: Fault) -> Option<Target> {
    match fault {
        Fault::CutOff(target)
        | Fault::Mute(target)
        | Fault::Deaf(target)
        | Fault::Bridge(target)
        | Fault::NoClients(target)
        | Fault::NoAnswers(target)
        | Fault::TornGroup(target)
        | Fault::Kill(target)
        | Fault::PowerCut(target, _)
        | Fault::Restart(target)
        | Fault::LittleRoom(target)
        | Fault::NoRoom(target)
        | Fault::SlowDisk(target, _)
        | Fault::FailedSync(target)
        | Fault::WallStep(target, _)
        | Fault::WallStrobe(target, _)
        | Fault::Rate(target, _)
        | Fault::Replace(target)
        | Fault::Grow(target)
        | Fault::Wipe(target) => Some(target),
        Fault::Split(_)
        | Fault::Islands
        | Fault::CutElection
        | Fault::Loss(_)
        | Fault::Delay(_)
        | Fault::PowerCutAll
        | Fault::HandOver(_) => None,
    }
}

/// Whom a fault meets now.
fn find(shared: &Shared, target: Target) -> Option<NodeId> {
    let running: Vec<NodeId> = {
        let members = shared.members.borrow();
        let runs = |node: &&NodeId| shared.machine(**node).is_some_and(|it| it.cluster().is_some());
        members.iter().filter(runs).copied().collect()
    };
    if running.is_empty() {
        return None;
    }
    match target {
        Target::Leader => shared.leader().or_else(|| running.first().copied()),
        Target::One(number) => {
            let at = usize::try_from(number % running.len() as u64).unwrap_or(0);
            running.get(at).copied()
        }
    }
}

/// The leader of the highest term that anybody leads, with a quorum or without, and that term.
fn newest_leader(shared: &Shared) -> Option<(NodeId, u64)> {
    let machines = shared.machines.borrow();
    let leading = machines.values().filter_map(|machine| {
        let status = machine.cluster()?.status();
        (status.role == NodeRole::Leader).then_some((status.term, machine.node))
    });
    leading.max().map(|(term, node)| (node, term))
}

fn failures(shared: &Shared) -> u64 {
    shared.failures.lock().values().sum()
}

/// Requests of applications that got no answer, or could not be sent.
fn lost(shared: &Shared) -> u64 {
    let totals = shared.totals.borrow();
    totals.lost + totals.not_sent
}

fn boots(shared: &Shared) -> u64 {
    shared.machines.borrow().values().map(|machine| machine.boots()).sum()
}

const SLOW_FOR_GROUPS: Duration = Duration::from_millis(150);
