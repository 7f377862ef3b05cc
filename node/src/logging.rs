//! The node's log: lines for people or JSON for machines, on standard error.
//!
//! Our own crates log at the configured level; libraries only what needs attention, since their
//! chatter hides ours. `LEASEHOLD_LOG` (the directives of `tracing-subscriber`) overrides both.

use std::io::Write;
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

/// What the process says last when it ends badly, once and in one line: in the log's own form where
/// that is JSON, and whatever the log leaves out.
pub fn last_words(text: &str) {
    let is_json = matches!(FORMAT.get(), Some(LogFormat::Json));
    if is_json && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{}", one_line(text));
        return;
    }
    // In one piece: others may write there, too. Where it cannot be written nobody is left to tell.
    let _ = std::io::stderr().write_all(last_line(is_json, text).as_bytes());
}

fn last_line(is_json: bool, text: &str) -> String {
    let line = one_line(text);
    if is_json {
        format!("{}\n", serde_json::json!({ "level": "ERROR", "message": line }))
    } else {
        format!("error: {line}\n")
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

fn ours(level: String) -> String {
    let crates = ["node", "gateway", "raft", "storage", "lease", "leasehold"];
    crates.map(|name| format!("{name}={level}")).join(",")
}

/// Set once logging has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_one_whole_line() {
        for (is_json, text, line) in [
            (false, "a file is gone", "error: a file is gone\n"),
            (false, "one\ntwo\n", "error: one two\n"),
            (
                true,
                "say \"it\"\r\ntwo",
                "{\"level\":\"ERROR\",\"message\":\"say \\\"it\\\" two\"}\n",
            ),
        ] {
            assert_eq!(last_line(is_json, text), line);
        }
    }
}
