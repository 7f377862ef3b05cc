//! PostgreSQL: one node with `synchronous_commit=on`, its own client protocol, a table of seats.
//!
//! A checkout takes a free row that nobody else is about to take (`FOR UPDATE SKIP LOCKED`), in one
//! transaction; a return gives the row back in another. More connections are allowed than by
//! default, since one client is one connection. It refuses to run as root and is then run as
//! another user.

pub(crate) mod session;

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use leasehold_tests::cluster::free_base_port;
use leasehold_tests::wait::eventually;
use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use crate::load::probe::Probe;
use crate::machine::Device;
use crate::plan::Workload;
use crate::systems::process::Server;
use crate::systems::{OPENED_AT_ONCE, find_program, scratch};
use session::{Job, PostgresSession};

/// A node of PostgreSQL.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    dir: TempDir,
    port: u16,
    user: Option<User>,
    server: Option<Server>,
}

/// Somebody else.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Postgres {
    /// Why it cannot be measured here; `None`: it can.
    pub(crate) fn missing() -> Option<String> {
        if find_program("initdb", &packaged()).is_none() {
            return Some("initdb not found; Debian: postgresql".to_owned());
        }
        let is_stuck = geteuid().is_root() && another_user().is_none();
        is_stuck.then(|| "it refuses to run as root, and there is no user postgres".to_owned())
    }

    /// What it says its version is.
    pub(crate) fn version() -> Result<String> {
        let said = Command::new(programs()?.join("postgres")).arg("--version").output()?;
        let said = String::from_utf8(said.stdout)?;
        Ok(said.trim().strip_prefix("postgres (PostgreSQL) ").unwrap_or(said.trim()).to_owned())
    }

    /// Founds a node with a table of seats; it runs.
    pub(crate) async fn found(dir: &Path) -> Result<Self> {
        let dir = scratch(dir, "postgres-")?;
        let user = if geteuid().is_root() { another_user() } else { None };
        if let Some(user) = user {
            chown(dir.path(), Some(user.uid), Some(user.gid))?;
        }
        let port = free_base_port()? + 1;
        let mut postgres = Self { programs: programs()?, dir, port, user, server: None };
        let mut command = postgres.command("initdb");
        command.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=bench", "-D"]);
        let output = command.arg(postgres.data()).output().context("cannot run initdb")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb: {}", said.trim());
        postgres.start().await?;
        let (client, _connection) = session::connect(&postgres.address()).await?;
        client.batch_execute(&tables()).await?;
        Ok(postgres)
    }

    /// Starts it, and waits until it answers.
    pub(crate) async fn start(&mut self) -> Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "synchronous_commit=on",
            "fsync=on",
            "max_connections=1100",
            &format!("port={}", self.port),
        ] {
            command.args(["-c", setting]);
        }
        let log = self.dir.path().join("log");
        let server = self.server.insert(Server::start("postgres", command, log)?);
        let address = format!("host=127.0.0.1 port={} user=bench dbname=postgres", self.port);
        let answers = eventually("PostgreSQL answers", || {
            let (state, address) = (server.must_run(), address.clone());
            async move {
                if let Err(error) = state {
                    return Some(Err(error));
                }
                let (client, _connection) = session::connect(&address).await.ok()?;
                client.simple_query("SELECT 1").await.ok().map(|_| Ok(()))
            }
        });
        answers.await?
    }

    /// Stops it: connections are cut, what is running is rolled back.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.stop(Signal::INT).await,
            None => Ok(()),
        }
    }

    /// Frees all seats, and makes the table as good as new.
    pub(crate) async fn free_seats(&self) -> Result<()> {
        let (client, _connection) = session::connect(&self.address()).await?;
        client.batch_execute("UPDATE large SET holder = NULL WHERE holder IS NOT NULL").await?;
        client.batch_execute("VACUUM large").await?;
        Ok(client.batch_execute("VACUUM hot").await?)
    }

    /// Clients of a workload.
    pub(crate) async fn sessions(
        &self,
        workload: Workload,
        clients: usize,
    ) -> Result<Vec<PostgresSession>> {
        let job = if workload == Workload::CycleHot { Job::Cycle } else { Job::Take };
        let address = self.address();
        let opening =
            (0..clients).map(|client| PostgresSession::open(address.clone(), job, client));
        stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await
    }

    /// Where to look for what it uses. It counts syncs of its log only roughly, so they are not
    /// said.
    pub(crate) fn probe(&self) -> Result<Probe> {
        Ok(Probe {
            pids: self.server.iter().map(Server::pid).collect(),
            has_children: true,
            counters: Vec::new(),
            tls: None,
            sync_counter: "",
            device: Device::below(self.dir.path())?,
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.dir.path());
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn address(&self) -> String {
        format!("host=127.0.0.1 port={} user=bench dbname=postgres", self.port)
    }
}

/// Two pools, one as large as for ours, one that outlasts a measurement.
fn tables() -> String {
    let table = |name: &str, seats: u32| {
        format!(
            "CREATE TABLE {name} (id integer PRIMARY KEY, holder text, until timestamptz);
             INSERT INTO {name} (id) SELECT generate_series(1, {seats});
             CREATE INDEX {name}_free ON {name} (id) WHERE holder IS NULL;"
        )
    };
    format!("{}{}ANALYZE;", table("hot", HOT_SEATS), table("large", LARGE_SEATS))
}

fn programs() -> Result<PathBuf> {
    let initdb = find_program("initdb", &packaged()).context("no initdb")?;
    Ok(initdb.parent().context("a program without a directory")?.to_owned())
}

/// Where Debian puts what is not for the PATH, newest first.
fn packaged() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    let version =
        |dir: &PathBuf| -> Option<u32> { dir.parent()?.file_name()?.to_str()?.parse().ok() };
    dirs.sort_by_key(|dir| std::cmp::Reverse(version(dir)));
    dirs
}

/// Whom it runs as instead of root.
fn another_user() -> Option<User> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    ["postgres", "nobody"].into_iter().find_map(|name| user_named(&passwd, name))
}

fn user_named(passwd: &str, name: &str) -> Option<User> {
    let mut fields =
        passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':');
    let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
    Some(User { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

const HOT_SEATS: u32 = 10_000;
const LARGE_SEATS: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\nnobody2:x:9:9::/:/\nnobody:x:65534:65533:n:/:/\n";
        let user = user_named(passwd, "nobody").unwrap();
        assert_eq!((user.uid, user.gid), (65_534, 65_533));
        assert!(user_named(passwd, "postgres").is_none());
    }
}
