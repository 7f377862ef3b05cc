//! The node's log: lines for people or JSON for machines, on standard error.
//!
//! Our own crates log at the configured level; libraries only what needs attention, since their
//! chatter hides ours. `LEASEHOLD_LOG` (the directives of `tracing-subscriber`) overrides both.
//!
//! A thread of its own writes: a disk or a reader of the log that stalls for seconds must not stall
//! whoever has something to say, and with it the whole node. Lines of the access log gather for a
//! moment, so that a busy node does not write once for each request; any other line takes them
//! along, and an error is written before whoever reports it goes on. The order stays. A process
//! that is killed loses at most that moment. Of an access log that comes faster than it can be
//! written, lines are left out, and the log says how many.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tracing::{Level, Metadata};
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
    let writer = std::thread::Builder::new().name("log-lines".to_owned());
    if let Err(error) = writer.spawn(|| LOG.write_for_ever()) {
        tracing::error!(%error, "only errors are logged: there is no thread for the rest");
    }
}

/// Writes what has gathered: for the end of the program.
pub fn let_out() {
    LOG.let_out();
}

/// What the process says last when it ends badly, once and in one line: in the log's own form where
/// that is JSON, and whatever the log leaves out.
pub fn last_words(text: &str) {
    LOG.let_out();
    let is_json = matches!(FORMAT.get(), Some(LogFormat::Json));
    if is_json && tracing::enabled!(tracing::Level::ERROR) {
        tracing::error!("{}", one_line(text));
        return;
    }
    // In one piece: others may write there, too. Where it cannot be written nobody is left to tell.
    let _ = io::stderr().write_all(last_line(is_json, text).as_bytes());
}

/// Standard error.
#[derive(Debug, Clone, Copy)]
struct Output;

impl<'a> MakeWriter<'a> for Output {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { haste: Haste::Soon }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Line {
        let haste = match *event.level() {
            _ if event.target() == ACCESS_LOG => Haste::May,
            Level::ERROR => Haste::Now,
            _ => Haste::Soon,
        };
        Line { haste }
    }
}

/// How long a line may wait to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// For others, or for ever.
    May,
    /// For the thread.
    Soon,
    /// Not at all.
    Now,
}

/// One line, written in one piece.
struct Line {
    haste: Haste,
}

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        LOG.add(line, self.haste);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log on its way out.
struct Log {
    gathered: Mutex<Gathered>,
    came: Condvar,
    /// Held by whoever writes, from taking lines on.
    writing: Mutex<()>,
}

/// Lines that have not been written yet.
struct Gathered {
    lines: Vec<u8>,
    /// Whether one of them is not of the access log.
    is_due: bool,
    /// Lines of the access log that there was no room for.
    left_out: u64,
}

impl Log {
    const fn new() -> Self {
        let gathered = Gathered { lines: Vec::new(), is_due: false, left_out: 0 };
        Self { gathered: Mutex::new(gathered), came: Condvar::new(), writing: Mutex::new(()) }
    }

    fn add(&self, line: &[u8], haste: Haste) {
        let must_wake = {
            let mut gathered = self.gathered.lock();
            if haste == Haste::May && gathered.lines.len() >= MOST_GATHERED_BYTES {
                gathered.left_out += 1;
                return;
            }
            let (was_empty, was_due) = (gathered.lines.is_empty(), gathered.is_due());
            gathered.lines.extend_from_slice(line);
            gathered.is_due |= haste != Haste::May;
            was_empty || was_due != gathered.is_due()
        };
        if haste == Haste::Now {
            self.let_out();
        } else if must_wake {
            self.came.notify_one();
        }
    }

    fn write_for_ever(&self) {
        loop {
            {
                let mut gathered = self.gathered.lock();
                self.came.wait_while(&mut gathered, |gathered| gathered.lines.is_empty());
                let is_not_due = |gathered: &mut Gathered| !gathered.is_due();
                let _ = self.came.wait_while_for(&mut gathered, is_not_due, GATHERED_FOR);
            }
            let left_out = self.let_out();
            if left_out > 0 {
                tracing::warn!(
                    lines = left_out,
                    "lines of the access log were left out: they came faster than they are written"
                );
            }
        }
    }

    /// Writes what there is; gives how many lines were left out before.
    fn let_out(&self) -> u64 {
        let _one = self.writing.lock();
        let (lines, left_out) = {
            let mut gathered = self.gathered.lock();
            gathered.is_due = false;
            (std::mem::take(&mut gathered.lines), std::mem::take(&mut gathered.left_out))
        };
        // Where it cannot be written nobody is left to tell.
        let _ = io::stderr().write_all(&lines);
        left_out
    }
}

impl Gathered {
    fn is_due(&self) -> bool {
        self.is_due || self.lines.len() >= GATHERED_BYTES
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

static LOG: Log = Log::new();
/// Target of the access log (`gateway`).
const ACCESS_LOG: &str = "leasehold::access";
/// How long a line may wait for others: short to whoever follows the log.
const GATHERED_FOR: Duration = Duration::from_millis(200);
/// Lines that come faster are written in pieces of about this size.
const GATHERED_BYTES: usize = 64 << 10;
/// Lines of the access log do not wait behind more than this: some seconds of
/// a busy node.
const MOST_GATHERED_BYTES: usize = 8 << 20;
/// Set once logging has started.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_access_log_wait_and_any_other_takes_them_along() {
        let log = Log::new();
        let waiting = || log.gathered.lock().lines.len();
        let is_due = || log.gathered.lock().is_due();
        log.add(b"\n", Haste::May);
        log.add(b"\n", Haste::May);
        assert_eq!((waiting(), is_due()), (2, false));
        log.add(b"\n", Haste::Soon);
        assert_eq!((waiting(), is_due()), (3, true));
        log.add(b"\n", Haste::Now);
        assert_eq!((waiting(), is_due()), (0, false));
        log.add(&vec![b'\n'; GATHERED_BYTES], Haste::May);
        assert!(is_due());
    }

    #[test]
    fn of_too_much_at_once_the_access_log_is_left_out_and_counted() {
        let log = Log::new();
        log.add(&vec![b' '; MOST_GATHERED_BYTES], Haste::May);
        log.add(b"one\n", Haste::May);
        log.add(b"two\n", Haste::May);
        log.add(b"important\n", Haste::Soon);
        let gathered = log.gathered.lock();
        assert_eq!(gathered.left_out, 2);
        assert!(gathered.lines.ends_with(b"important\n"));
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
