//! The verdict: whether the program may go on, and until when.
//!
//! ```text
//!   Held ──── no server answers ───▶ Grace ──── the end is reached ───▶ Lost
//!    ▲                                 │                                  ▲
//!    ├────────── renewed ──────────────┘                                  │
//!    └──────────────── ended, revoked or taken over by another ───────────┘
//! ```
//!
//! A lease that was borrowed stays `Held` without any server until its end. `Lost` is final for a
//! lease: what comes after it is a new checkout. Devices, deployments and evaluations have the same
//! verdict about the one license that they are installed with; theirs can come back, by an
//! activation or a good answer.

use std::fmt;
use std::time::SystemTime;

use crate::denied::Reason;

/// Whether the program may go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The seat is this program's.
    Held,
    /// The seat is still this program's, but it could not be renewed.
    Grace {
        /// When it ends unless it is renewed before, by this machine's wall clock, for people.
        /// What counts is [`crate::Lease::remaining`].
        until: SystemTime,
        /// Why it could not be renewed.
        why: GraceReason,
    },
    /// The seat is no longer this program's. Final for a lease.
    Lost {
        /// Why.
        reason: LostReason,
    },
}

impl Verdict {
    /// Whether the program may use what the license is for: `Held` and `Grace`.
    pub fn permits_use(&self) -> bool {
        !matches!(self, Self::Lost { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.write_str("the license is held"),
            Self::Grace { why, .. } => write!(f, "the license is held for now: {why}"),
            Self::Lost { reason } => write!(f, "the license is lost: {reason}"),
        }
    }
}

/// Why a lease could not be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GraceReason {
    /// No server could answer.
    Unreachable,
    /// The credentials are no longer accepted.
    Unauthorized,
    /// The answer was not understood.
    Misunderstood,
}

impl fmt::Display for GraceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable => "no license server can be reached",
            Self::Unauthorized => "the license server no longer accepts the credentials",
            Self::Misunderstood => "the license server's answers are not understood",
        })
    }
}

/// Why a lease is lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// It could not be renewed before its end.
    Expired {
        /// What stood in the way, where something did.
        why: Option<GraceReason>,
    },
    /// The server says that it has ended: expired there, given back, or released by an operator.
    Ended,
    /// Somebody else renewed it: a copy of this program's state is in use elsewhere.
    Replayed,
    /// The server no longer grants it, as when the package is revoked.
    Denied(Reason),
    /// This program gave it back.
    Returned,
    /// What was kept for times without a server is no proof: changed, of another cluster, or the
    /// machine's clock went back.
    OfflineRefused(String),
    /// There is no license here: none was activated, or none was looked at yet.
    NotActivated,
    /// The server decided against it. Not final where it can be lifted, as a suspension.
    Refused {
        /// The wire code, or the status where the protocol has no codes.
        code: String,
        /// The same for people.
        detail: String,
    },
    /// What is stored of the license, or what the server answered, is not believed: changed,
    /// readable by others, of another device, signed with another key.
    Unbelieved(String),
    /// The machine's clock is behind a time that was seen before, and no server answered.
    ClockWentBack {
        /// By so many milliseconds.
        by_ms: u64,
    },
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { why: None } => f.write_str("it has expired"),
            Self::Expired { why: Some(why) } => write!(f, "it has expired: {why}"),
            Self::Ended => f.write_str("it has ended at the license server"),
            Self::Replayed => f.write_str("it was renewed by somebody else"),
            Self::Denied(reason) => write!(f, "it is no longer granted: {reason}"),
            Self::Returned => f.write_str("it was given back"),
            Self::NotActivated => f.write_str("license not found - please activate first"),
            Self::Refused { detail, .. } => f.write_str(detail),
            Self::Unbelieved(reason) => write!(f, "it is not believed: {reason}"),
            Self::ClockWentBack { by_ms } => {
                write!(f, "the machine's clock went back by {} s", by_ms / 1_000)
            }
            Self::OfflineRefused(reason) => write!(f, "the offline token is refused: {reason}"),
        }
    }
}
