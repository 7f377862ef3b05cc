//! The sequential specification: what the leases of one package do, one operation after another.
//!
//! Naive on purpose, and written from the documents rather than from the ledger: the checkers
//! compare the product with this, so it shares no line with it. It has no clock. Each extension of
//! a lease says until when the lease lives at least, counted from when it was asked; expiry is a
//! step that nobody asks for ([`Package::expire`]), possible from that moment on, at any time.
//!
//! A step is an operation with its answer. [`Package::apply`] says whether the answer is the right
//! one in this state, and if so makes the state the next one. An operation whose answer is unknown
//! applies only if it changes something; nothing is learned from it otherwise.
//!
//! | operation | from | to |
//! |---|---|---|
//! | checkout | key never used, seats free | live, commit seats before overage seats |
//! | | key used, lease live | the same lease again, nothing changed |
//! | | key used, lease ended | refused |
//! | heartbeat | live, current sequence | extended, next sequence |
//! | | live, the sequence before | the same answer again, nothing extended |
//! | return | live | ended; the same return again is answered alike |
//! | borrow, return of a borrow | live | extended anew, next sequence |
//! | | live, a renewal outlasted the borrow | it is not borrowed |
//! | | live, done before under another key | the same answer, nothing extended |
//! | transfer | so many seats of a pool free | in the other pool |
//! | expire | live, not before its earliest end | ended |

mod package;

use std::collections::BTreeSet;

pub(crate) use package::scramble;
pub use package::{Package, Undo};

/// Place of a lease among those of its package in one history.
pub type LeaseNo = usize;
/// Place of a pool; 0 stands for the seats that are in none.
pub type PoolNo = usize;
/// Place of an idempotency key.
pub type KeyNo = usize;

/// Which seats a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Paid for in advance.
    Commit,
    /// Beyond those.
    Overage,
}

/// One operation with its answer, or `None` where the answer is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take seats.
    Checkout {
        /// The lease that its key makes.
        lease: LeaseNo,
        /// How many.
        seats: u32,
        /// From which pool.
        pool: PoolNo,
        /// Place of its fence among all fences of the package; `None` where it is unknown.
        fence: Option<u32>,
        /// What was answered.
        answer: Option<CheckoutAnswer>,
    },
    /// Keep a lease.
    Heartbeat {
        /// Which.
        lease: LeaseNo,
        /// Sequence of the renewal token that was sent.
        sent: u32,
        /// Whether a token that gave way may have been refused as too old by then.
        late: Lateness,
        /// What was answered.
        answer: Option<HeartbeatAnswer>,
    },
    /// Give a lease back.
    Return {
        /// Which.
        lease: LeaseNo,
        /// Under which key.
        key: KeyNo,
        /// What was answered.
        answer: Option<ReturnAnswer>,
    },
    /// Lengthen a lease.
    Borrow {
        /// Which.
        lease: LeaseNo,
        /// Under which key.
        key: KeyNo,
        /// What was answered.
        answer: Option<BorrowAnswer>,
    },
    /// End the lengthening of a lease.
    ReturnBorrow {
        /// Which.
        lease: LeaseNo,
        /// Under which key.
        key: KeyNo,
        /// What was answered.
        answer: Option<BorrowAnswer>,
    },
    /// Move seats between pools.
    Transfer {
        /// The pool that gives.
        from: PoolNo,
        /// The pool that takes.
        to: PoolNo,
        /// How many.
        seats: u32,
        /// Under which key.
        key: KeyNo,
        /// Whether it was done; `Some(false)`: the pool had fewer free seats.
        answer: Option<bool>,
    },
    /// Read how many seats are taken, and perhaps by which leases.
    ReadPackage {
        /// Seats that are taken.
        in_use: u32,
        /// Seats that there are.
        total: u32,
        /// The live leases.
        live: Option<BTreeSet<LeaseNo>>,
    },
    /// Read whether a lease lives.
    ReadLease {
        /// Which.
        lease: LeaseNo,
        /// Whether it does.
        live: bool,
    },
    /// Read the pools: seats and seats in use of each that was named.
    ReadPools {
        /// Pool, seats, seats in use.
        shares: Vec<(PoolNo, u32, u32)>,
    },
    /// The read names something that no history knows of: never right.
    Never,
}

/// Answers to a checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckoutAnswer {
    /// The lease is there, with these seats and this sequence of its renewal token.
    Granted {
        /// Which seats; `None`: it was not told.
        class: Option<Class>,
        /// Sequence of the renewal token.
        sequence: u32,
    },
    /// Every seat of the package is out.
    Full,
    /// Every seat of the pool is out.
    PoolFull,
    /// The key made a lease that has ended.
    Ended,
}

/// Answers to a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeartbeatAnswer {
    /// The lease lives; the sequence of the token to send next.
    Renewed {
        /// Its sequence.
        next: u32,
    },
    /// The lease has ended.
    Ended,
    /// The token had given way to another.
    Replayed,
    /// There is no such lease.
    NoSuchLease,
}

/// Answers to a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnAnswer {
    /// It is given back.
    Returned,
    /// It had ended before.
    AlreadyEnded,
    /// There is no such lease.
    NoSuchLease,
}

/// Answers to a borrow, and to the return of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BorrowAnswer {
    /// It was done.
    Done,
    /// The lease has ended.
    Ended,
    /// The lease is not borrowed.
    NotBorrowed,
    /// There is no such lease.
    NoSuchLease,
}

/// For a heartbeat: which extensions lie so far back that the token before them is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lateness {
    /// Extensions that were asked before this moment, in nanoseconds of the run.
    pub before_ns: u64,
}

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// Not granted yet.
    Unborn,
    /// Live.
    Live(Live),
    /// Given back under a key.
    Returned(KeyNo),
    /// Ended by itself.
    Expired,
}

/// A live lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Live {
    /// Which seats.
    pub class: Class,
    /// How many.
    pub seats: u32,
    /// From which pool.
    pub pool: PoolNo,
    /// Sequence of the renewal token in force.
    pub sequence: u32,
    /// When the last extension was asked, in nanoseconds of the run.
    pub extended_ns: u64,
    /// Its earliest end: until then it lives whatever else happens, unless it is given back.
    pub until_ns: u64,
    /// Whether it is borrowed.
    pub borrowed: Borrowed,
    /// A number for the keys under which it was lengthened: it takes them along when it ends.
    pub keys: u128,
}

/// Whether a lease is borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Borrowed {
    /// It is not.
    No,
    /// It is, as long as no ordinary term outlasts the borrow.
    Yes {
        /// When the borrow ends at the earliest, in nanoseconds of the run.
        ends_ns: u64,
    },
    /// It was, and an ordinary term may have outlasted the borrow.
    Perhaps,
}

/// Seats of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Its share.
    pub share: u32,
    /// Seats of it that are out.
    pub in_use: u32,
}

/// What was bought of a package, and how it renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Seats paid for in advance.
    pub commit: u32,
    /// Seats beyond those.
    pub overage: u32,
    /// Whether renewal tokens are good once only.
    pub rotation: bool,
}

/// When an operation was asked, in nanoseconds of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// When.
    pub invoke_ns: u64,
    /// If it extends a lease: until when the lease lives then, at least.
    pub until_ns: u64,
    /// Of a borrow: when it ends at the earliest. Of a renewal: when the ordinary term ends at the
    /// latest. A borrow that an ordinary term outlasts is none any more.
    pub term_ns: u64,
}
