//! The node's log: lines for people or JSON for machines, on standard error.
//!
//! Our own crates log at the configured level; libraries only what needs attention, since their
//! chatter hides ours. `LEASEHOLD_LOG` (the directives of `tracing-subscriber`) overrides both.

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::config::file::{LogFile, LogFormat};

/// Starts logging for the process; a second call changes nothing.
pub fn start(log: &LogFile) {
    let filter = EnvFilter::try_from_env("LEASEHOLD_LOG").unwrap_or_else(|_| {
        let level = log.level;
        EnvFilter::new(format!("warn,openraft=error,sled=warn,{}", ours(level.to_string())))
    });
    let _ = FORMAT.set(log.format);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime);
    // Err: a subscriber is there already, as in tests.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(false).try_init(),
    };
}

/// What the process says last when it ends badly: in the log's own form where that is JSON.
pub fn last_words(line: &str) {
    match FORMAT.get() {
        Some(LogFormat::Json) => tracing::error!("{line}"),
        Some(LogFormat::Text) | None => eprintln!("error: {line}"),
    }
}

fn ours(level: String) -> String {
    let crates = ["node", "gateway", "raft", "storage", "lease", "leasehold"];
    crates.map(|name| format!("{name}={level}")).join(",")
}

/// Set once logging has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();
