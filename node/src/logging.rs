//! The node's log: lines for people or JSON for machines, on standard error.
//!
//! Our own crates log at the configured level; libraries only what needs attention, since their
//! chatter hides ours. `LEASEHOLD_LOG` (the directives of `tracing-subscriber`) overrides both.
//!
//! Lines of the access log gather for a moment ([`let_out`]), so that a busy node does not write
//! once for each request. Any other line takes them along: the order stays, and what a node says
//! last is never behind them. A process that is killed loses at most that moment of them.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::Metadata;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
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
        .with_writer(Output)
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
    GATHERED.lock().let_out();
    let is_json = matches!(FORMAT.get(), Some(LogFormat::Json));
    if is_json && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{}", one_line(text));
        return;
    }
    // In one piece: others may write there, too. Where it cannot be written nobody is left to tell.
    let _ = io::stderr().write_all(last_line(is_json, text).as_bytes());
}

/// Lets lines out that have gathered, for as long as the node runs.
pub(crate) async fn let_out() -> Infallible {
    loop {
        GATHERING.notified().await;
        tokio::time::sleep(GATHERED_FOR).await;
        GATHERED.lock().let_out();
    }
}

/// Standard error.
#[derive(Debug, Clone, Copy)]
struct Output;

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { may_wait: false }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        Line { may_wait: event.target() == ACCESS_LOG }
    }
}

/// One line, written in one piece.
struct Line {
    may_wait: bool,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut gathered = GATHERED.lock();
        if gathered.lines.is_empty() && self.may_wait {
            GATHERING.notify_one();
        }
        gathered.lines.extend_from_slice(line);
        if !self.may_wait || gathered.lines.len() >= GATHERED_BYTES {
            gathered.let_out();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines that have not been written yet.
struct Gathered {
    lines: Vec<u8>,
}

impl Gathered {
    fn let_out(&mut self) {
        // Where it cannot be written nobody is left to tell.
        let _ = io::stderr().write_all(&self.lines);
        self.lines.clear();
    }
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

static GATHERED: Mutex<Gathered> = Mutex::new(Gathered { lines: Vec::new() });
/// Told when the first line waits.
static GATHERING: Notify = Notify::const_new();
/// Target of the access log (`gateway`).
const ACCESS_LOG: &str = "leasehold::access";
/// How long a line may wait for others: short to whoever follows the log.
const GATHERED_FOR: Duration = Duration::from_millis(200);
/// Lines that come faster are written in pieces of about this size.
const GATHERED_BYTES: usize = 16 << 10;
/// Set once logging has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_access_log_wait_and_any_other_takes_them_along() {
        let waiting = || GATHERED.lock().lines.len();
        let mut access = Line { may_wait: true };
        assert_eq!(access.write(b"").unwrap() + waiting(), 0);
        access.write_all(b"one\n").unwrap();
        access.write_all(b"two\n").unwrap();
        assert_eq!(waiting(), 8);
        Line { may_wait: false }.write_all(b"three\n").unwrap();
        assert_eq!(waiting(), 0);
        access.write_all(&vec![b'\n'; GATHERED_BYTES]).unwrap();
        assert_eq!(waiting(), 0);
    }

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
