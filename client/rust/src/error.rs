//! Obstacles: why a call got no decision. A decision against a request is not an error but a value
//! ([`crate::Denied`]); a bug of the client is contained and told as [`Error::Closed`].

use std::fmt;
use std::time::Duration;

use thiserror::Error;

/// Whether a call that failed may have had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It had none, and will have none.
    NotExecuted,
    /// Nobody knows. Nothing is lost: a seat that was taken unseen is found again by the same
    /// checkout soon after, and is free at its end at the latest.
    Unknown,
}

/// No server could answer in the time there was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// Whether the call may have had an effect.
    pub outcome: Outcome,
    /// When a server that was there wants to be asked again.
    pub retry_after: Option<Duration>,
    /// What came of the last attempt at each server.
    pub attempts: Vec<Attempt>,
}

/// One server that could not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Which server, as it was configured.
    pub endpoint: String,
    /// Why not, for people.
    pub reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome {
            Outcome::NotExecuted => "nothing was done",
            Outcome::Unknown => "it may have been done",
        })?;
        for Attempt { endpoint, reason } in &self.attempts {
            write!(f, "; {endpoint}: {reason}")?;
        }
        Ok(())
    }
}

/// Why a call got no decision.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// No server could answer: transport trouble, an election, overload. Passes by itself.
    #[error("no license server could answer: {0}")]
    Unavailable(Unavailable),
    /// The credentials are not, or no longer, good for this. Passes when somebody corrects them.
    #[error("the license server does not accept the credentials: {reason}")]
    Unauthorized {
        /// What the server said.
        reason: String,
    },
    /// The server does not take the request: a name too long, a product id that is none.
    #[error("the license server does not take the request: {detail} ({code}, HTTP {status})")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// The kind of problem, for programs.
        code: String,
        /// What happened, for people.
        detail: String,
    },
    /// The answer is not one of this protocol; something else may stand at this address.
    #[error("the answer of {endpoint} is not understood: {reason}")]
    Protocol {
        /// Who answered.
        endpoint: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The client was set up with something that cannot work.
    #[error("the license client is not set up right: {reason}")]
    Configuration {
        /// What, and what would do.
        reason: String,
    },
    /// The machine did not give what is needed: a thread, randomness, a file.
    #[error("the machine failed the license client: {reason}")]
    Machine {
        /// What it did not give.
        reason: String,
    },
    /// The client's background thread has ended before the answer.
    #[error("the license client has ended")]
    Closed,
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    pub(crate) fn configuration(reason: impl Into<String>) -> Self {
        Self::Configuration { reason: reason.into() }
    }

    pub(crate) fn machine(what: &str, error: &dyn fmt::Display) -> Self {
        Self::Machine { reason: format!("{what}: {error}") }
    }
}
