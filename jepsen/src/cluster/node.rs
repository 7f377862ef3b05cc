//! One node: its place on this machine and its process.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdin, Command};

use crate::clock::LIVENESS;
use crate::volume::Volume;

/// Where a node lives.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) dir: PathBuf,
    pub(super) gateway: SocketAddr,
    /// The number under which its proxy was made, before it had an id.
    pub(super) peer_slot: u64,
    volume: Option<Volume>,
}

impl Place {
    /// Makes the directory above it; on a file system of its own where that is asked for.
    pub(super) fn make(
        root: &Path,
        volume_bytes: Option<u64>,
        gateway: SocketAddr,
        peer_slot: u64,
    ) -> Result<Self> {
        let volume = match volume_bytes {
            Some(bytes) => {
                let parent = root.parent().context("a place without a parent")?;
                fs::create_dir_all(parent)?;
                Some(Volume::create(root, bytes)?)
            }
            None => {
                fs::create_dir_all(root)?;
                None
            }
        };
        Ok(Self { dir: root.join("node"), gateway, peer_slot, volume })
    }
}

/// How a node's clock runs.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pace {
    /// As the machine's.
    #[default]
    Real,
    /// Its wall clock can be set while it runs; its monotonic clock is the machine's.
    Settable,
    /// All its clocks run so many times as fast, from its start on.
    Times(f64),
}

/// One node.
#[derive(Debug)]
pub struct Node {
    id: u64,
    place: Place,
    config: PathBuf,
    log: PathBuf,
    faketime: Option<PathBuf>,
    pace: Pace,
    child: Option<Child>,
    /// Held open: a node ends with it, and waiting for a child would close it.
    stdin: Option<ChildStdin>,
}

impl Node {
    pub(super) fn new(
        id: u64,
        place: Place,
        config: PathBuf,
        log: PathBuf,
        faketime: Option<PathBuf>,
    ) -> Self {
        let pace = if faketime.is_some() { Pace::Settable } else { Pace::Real };
        Self { id, place, config, log, faketime, pace, child: None, stdin: None }
    }

    /// Address of its gateway.
    pub fn gateway(&self) -> SocketAddr {
        self.place.gateway
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.place.dir
    }

    /// Its file system, where it has one of its own.
    ///
    /// # Errors
    /// When it has none.
    pub fn volume(&mut self) -> Result<&mut Volume> {
        let id = self.id;
        self.place.volume.as_mut().with_context(|| format!("node {id} has no volume of its own"))
    }

    /// How its clock is to run from its next start on.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Sets its wall clock, so many seconds from the machine's.
    ///
    /// # Errors
    /// When it was not started for that.
    pub fn set_wall(&self, seconds: i64) -> Result<()> {
        ensure!(self.faketime.is_some(), "node {} runs on the machine's clock", self.id);
        // Renamed into its place: a half-written number is a time, too.
        let path = self.wall_file();
        let next = path.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n"))?;
        fs::rename(&next, &path).context("cannot set a clock")
    }

    fn wall_file(&self) -> PathBuf {
        self.log.with_extension("clock")
    }

    pub(super) fn start(&mut self, binary: &Path) -> Result<u32> {
        ensure!(self.child.is_none(), "node {} runs already", self.id);
        let log = File::options().append(true).create(true).open(&self.log)?;
        let mut command = Command::new(binary);
        // A rig that dies takes its nodes along: their standard input ends with it.
        command.args(["serve", "--exit-with-stdin", "--config"]).arg(&self.config);
        command.stdin(Stdio::piped());
        // Panics tell where.
        command.env("RUST_BACKTRACE", "1");
        command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        if let Some(library) = &self.faketime {
            self.fake_time(&mut command, library)?;
        }
        let mut child =
            command.spawn().with_context(|| format!("cannot start node {}", self.id))?;
        let pid = child.id().context("a process without an id")?;
        self.stdin = child.stdin.take();
        self.child = Some(child);
        Ok(pid)
    }

    fn fake_time(&self, command: &mut Command, library: &Path) -> Result<()> {
        match self.pace {
            Pace::Real => {}
            Pace::Settable => {
                self.set_wall(0)?;
                command.env("LD_PRELOAD", library).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
                command.env("FAKETIME_TIMESTAMP_FILE", self.wall_file());
                command.env("FAKETIME_NO_CACHE", "1");
            }
            Pace::Times(rate) => {
                command.env("LD_PRELOAD", library).env("FAKETIME", format!("+0 x{rate}"));
            }
        }
        Ok(())
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// How it ended, where it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// Whether it runs.
    pub fn is_up(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kills it (SIGKILL) and waits until it is gone; how it ended, `None` when it was down.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        // One that has ended by itself is not killed, and says how it ended.
        if child.try_wait()?.is_none() {
            child.start_kill()?;
        }
        Ok(Some(child.wait().await?))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is down.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().with_context(|| format!("node {} is down", self.id))?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("an odd process id")?;
        kill_process(pid, signal)?;
        Ok(())
    }

    /// Whether the kernel says that it is stopped.
    pub fn is_stopped(&self) -> bool {
        let Some(pid) = self.pid() else { return false };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // The state follows the name, which is in parentheses.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// When it has not within [`LIVENESS`]; then it is killed.
    pub async fn wait_end(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().with_context(|| format!("node {} is down", self.id))?;
        match tokio::time::timeout(LIVENESS, child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                let _ = child.start_kill();
                let _ = child.wait().await;
                anyhow::bail!("node {} did not end by itself", self.id)
            }
        }
    }
}

/// Has a node take checkpoints often and keep little of its log.
pub(super) fn with_small_log(config: &Path) -> Result<()> {
    let text = fs::read_to_string(config).context("cannot read a node's configuration")?;
    let mut document: toml::Table = text.parse().context("a configuration that is no TOML")?;
    let mut checkpoints = toml::Table::new();
    checkpoints.insert("every_seconds".to_owned(), toml::Value::Integer(2));
    checkpoints.insert("keep_log_entries".to_owned(), toml::Value::Integer(100));
    document.insert("checkpoints".to_owned(), toml::Value::Table(checkpoints));
    fs::write(config, toml::to_string_pretty(&document)?).context("cannot write a configuration")
}
