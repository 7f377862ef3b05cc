//! The nodes' processes: started, watched, stopped.
//!
//! Each node is this same program with `serve --config`. It is in a process group of its own, so
//! that a Ctrl-C at the terminal reaches us alone and we stop the nodes in order; and it holds
//! the reading end of a pipe from us, so that it stops by itself if we are killed.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{ChildStdin, Command};
use tokio::task::JoinSet;

use super::place::Place;
use super::story::program;
use super::{Result, failed};

/// The nodes that were started.
pub(crate) struct Children {
    /// In order of id.
    pids: Vec<u32>,
    /// Those that have not ended, by id.
    running: Vec<(u64, u32)>,
    waits: JoinSet<Ended>,
    /// Held open: the nodes stop when these close.
    _pipes: Vec<ChildStdin>,
}

/// A node's process that has ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    id: u64,
    status: Option<ExitStatus>,
    /// Where in the log this start began.
    log_from: u64,
}

impl Children {
    /// Starts all nodes.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| failed(format!("this program's own file is not known: {error}")))?;
        let mut children = Self {
            pids: Vec::new(),
            running: Vec::new(),
            waits: JoinSet::new(),
            _pipes: Vec::new(),
        };
        for id in 1..=place.state.nodes {
            let path = place.log(id);
            let log = fs::File::options()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(|error| failed(format!("{}: {error}", path.display())))?;
            let log_from = log.metadata().map_or(0, |file| file.len());
            let second =
                log.try_clone().map_err(|error| failed(format!("{}: {error}", path.display())))?;
            let mut child = Command::new(&program)
                .arg("serve")
                .arg("--config")
                .arg(place.config(id))
                .arg("--exit-with-stdin")
                .stdin(Stdio::piped())
                .stdout(log)
                .stderr(second)
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| failed(format!("node {id} cannot be started: {error}")))?;
            let pid = child.id().ok_or_else(|| failed(format!("node {id} ended at once")))?;
            children._pipes.extend(child.stdin.take());
            children.pids.push(pid);
            children.running.push((id, pid));
            children
                .waits
                .spawn(async move { Ended { id, status: child.wait().await.ok(), log_from } });
        }
        Ok(children)
    }

    /// Process ids, in order of node id.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.clone()
    }

    /// How many have not ended.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Waits until one more has ended; for ever when all have.
    pub(crate) async fn any_ended(&mut self) -> Ended {
        loop {
            match self.waits.join_next().await {
                Some(Ok(ended)) => {
                    self.running.retain(|(id, _)| *id != ended.id);
                    return ended;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Asks all to stop and waits; kills those that take too long.
    pub(crate) async fn stop(&mut self) {
        self.signal_all(Signal::TERM);
        let all = async {
            while !self.running.is_empty() {
                self.any_ended().await;
            }
        };
        if tokio::time::timeout(STOP_WITHIN, all).await.is_err() {
            self.signal_all(Signal::KILL);
            while self.waits.join_next().await.is_some() {}
        }
        self.running.clear();
    }

    fn signal_all(&self, signal: Signal) {
        for (_, pid) in &self.running {
            // It is our child and has not been waited for: the id is still its own. It may have
            // ended; then there is nothing to do.
            if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Ended {
    /// What happened, with the last thing the node said.
    pub(crate) fn told(&self, place: &Place) -> String {
        let how = match self.status {
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("ended with exit code {code}"),
                (_, Some(signal)) => format!("was killed by signal {signal}"),
                _ => "ended".to_owned(),
            },
            None => "ended".to_owned(),
        };
        let log = place.log(self.id);
        let has_failed = self.status.and_then(|status| status.code()).is_some_and(|code| code != 0);
        let said = Some(&log)
            .filter(|_| has_failed)
            .and_then(|log| end_of(log, self.log_from).ok())
            .and_then(|text| last_words(&text))
            .map_or_else(String::new, |words| format!(": {words}"));
        format!("node {} {how}{said} (log: {})", self.id, log.display())
    }

    /// How to start it again.
    pub(crate) fn restart(&self, place: &Place) -> String {
        let (program, config) = (program(), place.config(self.id));
        format!("start it again: {program} serve --config {}", config.display())
    }
}

/// The end of a log, not from before `from` and not more than is worth reading.
fn end_of(path: &Path, from: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let begin = file.metadata()?.len().saturating_sub(LAST_WORDS_BYTES).max(from);
    file.seek(SeekFrom::Start(begin))?;
    let mut bytes = Vec::new();
    file.take(LAST_WORDS_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last line of a log that says what was wrong, without its date.
fn last_words(text: &str) -> Option<String> {
    let line = text
        .lines()
        .rev()
        .take(200)
        .find_map(|line| line.strip_prefix("error: "))
        .or_else(|| text.lines().last())?;
    let shown: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    (!shown.is_empty()).then_some(shown)
}

/// The last words of a node are within this much of its log's end.
const LAST_WORDS_BYTES: u64 = 64 * 1024;
/// For requests in flight, a hand-over and the log's last sync.
const STOP_WITHIN: Duration = Duration::from_secs(15);
