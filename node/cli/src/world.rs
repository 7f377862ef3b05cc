//! What the CLI asks of the machine: time, randomness, who and where it is.
//!
//! The seams of `storage` make a cluster repeatable in one process; nothing of the CLI runs there,
//! and it reaches no crate but `protocol`, so it asks the machine here, in one place.
//! What it leaves to others: files ([`crate::files`]), the network ([`crate::client`]).

use std::time::Instant;

use jiff::Timestamp;

use crate::error::CliError;

/// Time since the verb began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the CLI is outside every simulation")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start.
    pub(crate) fn elapsed_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Unix milliseconds of the wall clock: shows how long something still lasts, says which month
/// this is, and, like any reader's clock, whether an offline token has ended.
#[expect(clippy::disallowed_methods, reason = "the CLI is outside every simulation")]
pub(crate) fn wall_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// Random bytes fit for keys.
#[expect(clippy::disallowed_methods, reason = "the CLI is outside every simulation")]
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| CliError::Failed(format!("the machine gave no randomness: {error}")))?;
    Ok(bytes)
}

/// Who is logged in: the name that the login left in the environment, or else the user's number,
/// which is all that a container has.
pub(crate) fn user(var: &dyn Fn(&str) -> Option<String>) -> String {
    let name = ["USER", "LOGNAME"].into_iter().filter_map(var).find(|name| !name.is_empty());
    name.unwrap_or_else(|| format!("uid-{}", rustix::process::getuid().as_raw()))
}

/// The machine's name.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
