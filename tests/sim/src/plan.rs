//! What a seed stands for: the cluster's sizes, and which faults come when.
//!
//! All of it is drawn before the run begins, so a fault's moment does not depend on what happened
//! before. Only whom it meets is decided then: "the leader" is whoever leads at that moment.

use std::time::Duration;

use lease::ids::NodeId;
use storage::testing::SeededEntropy;

/// What is asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Nodes at the beginning; `None`: three or five, as the seed says.
    pub nodes: Option<u64>,
    /// Simulated seconds at least.
    pub seconds: u64,
    /// Whether there are faults.
    pub faults: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { nodes: None, seconds: 60, faults: true }
    }
}

/// What happens in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Nodes at the beginning.
    pub nodes: u64,
    /// Sizes of log and checkpoints.
    pub sizes: Sizes,
    /// The faults, in order of when they begin.
    pub faults: Vec<PlannedFault>,
    /// When faults end at the latest.
    pub faults_end: Duration,
    /// People with programs that hold seats.
    pub holders: u32,
    /// Terms of the packages.
    pub packages: Vec<PackagePlan>,
}

/// Sizes of log and checkpoints: small, so that snapshots are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// A checkpoint is due after this many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// And after this time.
    pub checkpoint_interval: Duration,
    /// Entries kept below a checkpoint.
    pub keep_log_entries: u64,
    /// Bytes kept.
    pub keep_log_bytes: u64,
    /// One segment.
    pub log_segment_bytes: u64,
    /// The cache of entries.
    pub log_cache_bytes: u64,
}

/// Terms of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagePlan {
    /// Its name, and its product's.
    pub name: String,
    /// Paid seats.
    pub commit: u32,
    /// Seats beyond them.
    pub overage: u32,
    /// How long a lease lives.
    pub ttl_s: u32,
    /// How long a seat may be borrowed; 0: not at all.
    pub borrow_s: u32,
    /// Pools with their shares.
    pub pools: Vec<(String, u32)>,
}

impl PackagePlan {
    /// Most seats at once.
    pub fn total(&self) -> u32 {
        self.commit + self.overage
    }
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFault {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
}

/// Whom a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Whoever leads.
    Leader,
    /// One of those that run, by a number.
    One(u64),
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A node and all others do not reach each other.
    CutOff(Target),
    /// The nodes fall into two parts, by a number.
    Split(u64),
    /// No node reaches any other.
    Islands,
    /// The leader is killed; whoever is elected then is cut off at once, and one of those who voted
    /// for it loses its power.
    CutElection,
    /// Only what a node sends is lost.
    Mute(Target),
    /// Only what is sent to a node is lost.
    Deaf(Target),
    /// Two parts that only one node reaches both.
    Bridge(Target),
    /// Messages are lost, this many of a thousand begin a burst.
    Loss(u64),
    /// Messages take up to so many milliseconds, each its own time: they overtake each other.
    Delay(u64),
    /// Applications do not reach a node, its peers do.
    NoClients(Target),
    /// A node's answers to applications are lost, their requests are not.
    NoAnswers(Target),
    /// A process is killed and comes back.
    Kill(Target),
    /// A machine loses its power at the operation of the disk that comes after so many.
    PowerCut(Target, u64),
    /// A machine loses its power when a group of the log is written and not yet synced.
    TornGroup(Target),
    /// All machines lose their power at once.
    PowerCutAll,
    /// A process is stopped cleanly and comes back.
    Restart(Target),
    /// A disk has little room, and says so in time.
    LittleRoom(Target),
    /// A disk has no room, at once.
    NoRoom(Target),
    /// Every sync of a disk takes so many milliseconds.
    SlowDisk(Target, u64),
    /// A sync fails.
    FailedSync(Target),
    /// A wall clock is moved by so many milliseconds.
    WallStep(Target, i64),
    /// A wall clock jumps forth and back by so many milliseconds.
    WallStrobe(Target, i64),
    /// A monotonic clock runs at so many thousandths of true time.
    Rate(Target, u64),
    /// A node is replaced by a new one.
    Replace(Target),
    /// A node is added, and another removed later.
    Grow(Target),
    /// A node's disk is lost, the node is started on an empty one, and then replaced.
    Wipe(Target),
    /// Leadership is handed on, so many times.
    HandOver(u64),
}

impl Fault {
    /// Its name in totals.
    pub fn name(self) -> &'static str {
        match self {
            Self::CutOff(_) => "cut-off",
            Self::Split(_) => "split",
            Self::Mute(_) => "mute",
            Self::Deaf(_) => "deaf",
            Self::Bridge(_) => "bridge",
            Self::Loss(_) => "loss",
            Self::Delay(_) => "delay",
            Self::NoClients(_) => "no-clients",
            Self::NoAnswers(_) => "no-answers",
            Self::Kill(_) => "kill",
            Self::PowerCut(..) => "power-cut",
            Self::TornGroup(_) => "torn-group",
            Self::PowerCutAll => "power-cut-all",
            Self::Restart(_) => "restart",
            Self::LittleRoom(_) => "little-room",
            Self::NoRoom(_) => "no-room",
            Self::SlowDisk(..) => "slow-disk",
            Self::FailedSync(_) => "failed-sync",
            Self::WallStep(..) => "wall-step",
            Self::WallStrobe(..) => "wall-strobe",
            Self::Rate(..) => "rate",
            Self::Replace(_) => "replace",
            Self::Islands => "islands",
            Self::CutElection => "cut-election",
            Self::Wipe(_) => "wipe",
            Self::Grow(_) => "grow",
            Self::HandOver(_) => "hand-over",
        }
    }
}

impl Plan {
    /// What a seed stands for.
    pub fn of(seed: u64, options: Options) -> Self {
        let random = SeededEntropy::new(seed ^ 0x5eed_0f91_a2b3);
        let nodes = options.nodes.unwrap_or(if random.below(10) < 7 { 3 } else { 5 });
        let sizes = Sizes {
            checkpoint_log_bytes: 16 << (10 + random.below(4)),
            checkpoint_interval: Duration::from_millis(1_000 + random.below(4_000)),
            keep_log_entries: 4 + random.below(60),
            keep_log_bytes: 4 << (10 + random.below(4)),
            log_segment_bytes: 16 << (10 + random.below(4)),
            log_cache_bytes: 8 << (10 + random.below(5)),
        };
        let end_s = options.seconds.saturating_sub(CALM_S).max(BEGIN_S + 10);
        let faults_end = Duration::from_secs(end_s);
        let faults = if options.faults { faults(&random, end_s) } else { Vec::new() };
        let packages = packages(&random);
        let holders = 12 + random.below(6) as u32;
        Self { nodes, sizes, faults, faults_end, holders, packages }
    }
}

fn packages(random: &SeededEntropy) -> Vec<PackagePlan> {
    let few = 2 + random.below(3) as u32;
    let package = |name: &str, commit, overage, ttl_s, borrow_s, pools: &[(&str, u32)]| {
        let pools = pools.iter().map(|(name, seats)| ((*name).to_owned(), *seats)).collect();
        PackagePlan { name: name.to_owned(), commit, overage, ttl_s, borrow_s, pools }
    };
    vec![
        package("few", 1, few, 2 + random.below(2) as u32, 0, &[]),
        package("pools", 3, 2, 3 + random.below(3) as u32, 6, &[("red", 2), ("blue", 2)]),
        package("changing", 2, 3, 2 + random.below(3) as u32, 0, &[]),
    ]
}

fn faults(random: &SeededEntropy, end_s: u64) -> Vec<PlannedFault> {
    let mut faults = Vec::new();
    let room_ms = (end_s - BEGIN_S) * 1_000;
    for _ in 0..7 + random.below(6) {
        let at_ms = BEGIN_S * 1_000 + random.below(room_ms.saturating_sub(1_000).max(1));
        let lasts_ms = 300 + random.below(6_000);
        let fault = fault(random);
        // It takes a while until a group is long enough to be torn.
        let least_ms = if matches!(fault, Fault::TornGroup(_)) { 4_000 } else { 0 };
        let lasts_ms = lasts_ms.max(least_ms).min(end_s * 1_000 - at_ms);
        let (at, lasts) = (Duration::from_millis(at_ms), Duration::from_millis(lasts_ms));
        faults.push(PlannedFault { at, lasts, fault });
    }
    faults.sort_by_key(|planned| planned.at);
    faults
}

fn fault(random: &SeededEntropy) -> Fault {
    let target = match random.below(3) {
        0 => Target::Leader,
        _ => Target::One(random.next()),
    };
    match random.below(44) {
        0 | 1 => Fault::CutOff(target),
        2 => Fault::Split(random.next()),
        3 => Fault::Mute(target),
        4 => Fault::Deaf(target),
        5 => Fault::Bridge(target),
        6 | 7 => Fault::Loss(2 + random.below(20)),
        8 => Fault::Delay(20 + random.below(200)),
        9 => Fault::NoClients(target),
        10 | 11 => Fault::NoAnswers(target),
        12 | 13 => Fault::Kill(target),
        14 | 15 => Fault::PowerCut(target, random.below(60)),
        16..=20 => Fault::TornGroup(target),
        21 => Fault::PowerCutAll,
        22 => Fault::Restart(target),
        23 => Fault::LittleRoom(target),
        24 => Fault::NoRoom(target),
        25 | 26 => Fault::SlowDisk(target, 20 + random.below(400)),
        27 | 28 => Fault::FailedSync(target),
        29 => Fault::WallStep(target, signed(random, 6 * 3_600_000)),
        30 => Fault::WallStrobe(target, signed(random, 3_600_000)),
        31..=33 => Fault::Rate(target, [500, 800, 1_200, 2_000][random.below(4) as usize]),
        34 | 35 => Fault::Replace(target),
        36 => Fault::Grow(target),
        37 => Fault::Wipe(target),
        38 | 39 => Fault::Islands,
        40..=42 => Fault::CutElection,
        _ => Fault::HandOver(1 + random.below(6)),
    }
}

fn signed(random: &SeededEntropy, most: u64) -> i64 {
    let size = (1 + random.below(most)).cast_signed();
    if random.below(2) == 0 { size } else { -size }
}

/// A number for a part of a run, from its seed and the part's name.
pub(crate) fn seed_for(seed: u64, part: &str, number: NodeId) -> u64 {
    let sum = u64::from(crc32c::crc32c(part.as_bytes()));
    let mixed = SeededEntropy::new(seed ^ (sum << 32) ^ number.wrapping_mul(0x9e37_79b9));
    mixed.next()
}

/// Seconds at the beginning in which the cluster is founded.
const BEGIN_S: u64 = 4;
/// Seconds at the end without faults.
const CALM_S: u64 = 18;
