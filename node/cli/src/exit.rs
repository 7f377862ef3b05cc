//! Exit codes: what a script learns from a verb without reading its output.
//!
//! One table, used by every verb of the binary, those that start servers included. What it leaves
//! to others: which failure is which ([`crate::error`], [`crate::answer`]).

use std::process::ExitCode;

/// How a verb ended. The numbers are part of the interface and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; of `cluster status`: every node is up.
    Done,
    /// Failed in a way that no other code says.
    Failed,
    /// The command line, a file it names, or a configuration cannot be used; also a request that
    /// the server found malformed.
    Usage,
    /// No server was reached.
    NotReachable,
    /// The credentials are missing, wrong, or not enough (401, 403).
    NotAllowed,
    /// No such thing, or not ours (404).
    NotFound,
    /// Refused by the rules (409, 410, 422), or by a disk that is nearly full (507).
    Refused,
    /// No quorum within the wait (503).
    NoQuorum,
    /// Corrupt, or not to be believed: a signature that does not verify.
    Unverifiable,
    /// The cluster has no leader.
    Unhealthy,
    /// The cluster works, and a node of it does not.
    Degraded,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotReachable => 3,
            Self::NotAllowed => 4,
            Self::NotFound => 5,
            Self::Refused => 6,
            Self::NoQuorum => 7,
            Self::Unverifiable => 8,
            Self::Unhealthy => 10,
            Self::Degraded => 11,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The codes as the help shows them.
pub const EXIT_CODES: &str = "\
Exit codes:
   0  done, or healthy          6  refused by the rules
   1  failed                    7  no quorum within the wait
   2  usage or configuration    8  corrupt or unverifiable
   3  no server reached        10  cluster unhealthy
   4  not allowed              11  cluster degraded
   5  not found";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::NotReachable,
            Exit::NotAllowed,
            Exit::NotFound,
            Exit::Refused,
            Exit::NoQuorum,
            Exit::Unverifiable,
            Exit::Unhealthy,
            Exit::Degraded,
        ] {
            let shown = format!(" {}  ", exit.code());
            assert!(EXIT_CODES.contains(&shown), "{exit:?} is not in the help");
        }
    }
}
