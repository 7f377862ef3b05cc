//! Options that every verb takes, and those of verbs that act as an application.
//!
//! Environment variables are not read here but in [`crate::settings`], where one function decides
//! between flag, environment and context file, and can be tested without touching the process.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

/// Options of every verb; put before or after it.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// A node's gateway; any node will do. Repeat it to name more [env: LEASEHOLD_SERVER, comma
    /// between URLs]
    #[arg(long, global = true, value_name = "URL", help_heading = CONNECTION)]
    pub server: Vec<String>,
    /// PEM file with the authority that signed the gateways' certificates; the system's
    /// authorities when left out [env: LEASEHOLD_CA_CERT]
    #[arg(long, global = true, value_name = "PATH", help_heading = CONNECTION)]
    pub ca_cert: Option<PathBuf>,
    /// Operator token (lh_op_…). Other users may see command lines: prefer the environment or a
    /// context file [env: LEASEHOLD_TOKEN]
    #[arg(long, global = true, value_name = "TOKEN", help_heading = CONNECTION)]
    pub token: Option<Hidden>,
    /// TOML file with server, ca_cert, token and [app]; otherwise ./leasehold-dev/context.toml or
    /// ~/.config/leasehold/context.toml [env: LEASEHOLD_CONTEXT]
    #[arg(long, global = true, value_name = "PATH", help_heading = CONNECTION)]
    pub context: Option<PathBuf>,
    /// Longest wait for an answer, over all servers and repeats, as 10s or 500ms
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        default_value = "10s",
        help_heading = CONNECTION
    )]
    pub timeout: Wait,
    /// What to print: table (for people), json (one document; errors too) or csv (the table as rows
    /// for spreadsheets)
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        hide_possible_values = true,
        default_value_t = OutputFormat::Table,
        help_heading = OUTPUT
    )]
    pub output: OutputFormat,
    /// Print only ids, one a line: no headers, no notes
    #[arg(short, long, global = true, help_heading = OUTPUT)]
    pub quiet: bool,
}

impl GlobalOptions {
    /// Whether verbs may say more than their report: not to scripts, nor to those who asked for
    /// quiet.
    pub(crate) fn is_talkative(&self) -> bool {
        !self.quiet && self.output == OutputFormat::Table
    }
}

/// What to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Tables and sentences.
    Table,
    /// One JSON document on standard output; errors as JSON on standard error.
    Json,
    /// The table as rows (RFC 4180), the first with the names of the columns; errors as for people.
    Csv,
}

/// Who the verb acts as, for the verbs that an application calls.
#[derive(Debug, Clone, Default, Args)]
pub struct AppOptions {
    /// The application's client id [env: LEASEHOLD_CLIENT_ID]
    #[arg(long, value_name = "ID", help_heading = APPLICATION)]
    pub client_id: Option<String>,
    /// The application's client secret. Other users may see command lines: prefer the
    /// environment or a file [env: LEASEHOLD_CLIENT_SECRET]
    #[arg(
        long,
        value_name = "SECRET",
        conflicts_with = "client_secret_file",
        help_heading = APPLICATION
    )]
    pub client_secret: Option<Hidden>,
    /// A file that holds the client secret; `-` reads it from standard input
    #[arg(long, value_name = "PATH", help_heading = APPLICATION)]
    pub client_secret_file: Option<PathBuf>,
}

/// The options of verbs that change something.
#[derive(Debug, Clone, Default, Args)]
pub struct MutationOptions {
    /// Repeating a request under the same key does it once; made up when left out
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// A secret given on the command line; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(pub(crate) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden(…)")
    }
}

impl FromStr for Hidden {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

/// A length of time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Milliseconds, 1 to [`MAX_WAIT_MS`].
    pub ms: u64,
}

/// Longest wait that can be asked for: an hour.
pub const MAX_WAIT_MS: u64 = 3_600_000;

impl FromStr for Wait {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "want a time as 500ms, 10s or 2m, an hour at most";
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit {
            "ms" => 1,
            "" | "s" => 1_000,
            "m" => 60_000,
            _ => return Err(WANT),
        };
        let number: u64 = digits.parse().map_err(|_| WANT)?;
        match number.checked_mul(factor) {
            Some(ms @ 1..=MAX_WAIT_MS) => Ok(Self { ms }),
            _ => Err(WANT),
        }
    }
}

/// A length of time that something lasts, on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Seconds, 0 to [`MAX_SPAN_SECONDS`].
    pub seconds: u32,
}

/// Longest span that can be given: a leap year, as the server's own bound is.
pub const MAX_SPAN_SECONDS: u32 = 366 * 86_400;

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "want a time as 90s, 30m, 12h or 7d, 366 days at most";
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let factor = match unit {
            "" | "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(WANT),
        };
        let number: u32 = digits.parse().map_err(|_| WANT)?;
        match number.checked_mul(factor) {
            Some(seconds @ ..=MAX_SPAN_SECONDS) => Ok(Self { seconds }),
            _ => Err(WANT),
        }
    }
}

const CONNECTION: &str = "Connection";
const OUTPUT: &str = "Output";
const APPLICATION: &str = "Application";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, ms: Option<u64>) {
        assert_eq!(text.parse::<Wait>().ok().map(|wait| wait.ms), ms, "{text:?}");
    }

    #[test]
    fn waits_have_units_and_bounds() {
        check("500ms", Some(500));
        check("10s", Some(10_000));
        check("10", Some(10_000));
        check("2m", Some(120_000));
        check("60m", Some(3_600_000));
        check("61m", None);
        check("0", None);
        check("", None);
        check("s", None);
        check("1.5s", None);
        check("-1s", None);
        check("1h", None);
        check("99999999999999999999s", None);
        check("18446744073709551615s", None);
    }

    #[test]
    fn spans_have_units_and_bounds() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("30m", Some(1_800)),
            ("12h", Some(43_200)),
            ("7d", Some(604_800)),
            ("0", Some(0)),
            ("366d", Some(MAX_SPAN_SECONDS)),
            ("367d", None),
            ("99999999h", None),
            ("1w", None),
            ("-1d", None),
            ("1.5h", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Span>().ok().map(|span| span.seconds), seconds, "{text:?}");
        }
    }

    #[test]
    fn a_secret_is_not_in_debug_output() {
        let hidden: Hidden = "lh_op_abc".parse().unwrap();
        assert!(!format!("{hidden:?}").contains("lh_op"));
    }
}
