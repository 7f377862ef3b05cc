//! The systems: how each is founded, started, stopped and asked.
//!
//! All run with the settings that they come with; what is set is only where they keep their data,
//! where they listen, and, for [`System::EtcdAuth`](crate::plan::System), TLS and users.

pub(crate) mod etcd;
pub(crate) mod leasehold;
pub(crate) mod postgres;
pub(crate) mod process;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{Mode, chmod};
use tempfile::TempDir;

use crate::plan::Placement;

/// A new directory that other users may pass through: PostgreSQL runs as one.
pub(crate) fn scratch(dir: &Path, name: &str) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(name).tempdir_in(dir);
    let made = made.with_context(|| format!("cannot make a directory in {}", dir.display()))?;
    chmod(made.path(), Mode::from_raw_mode(0o755))?;
    Ok(made)
}

/// A program by its name, in the PATH or in one of these directories.
pub(crate) fn find_program(name: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = first.iter().cloned().chain(std::env::split_paths(&path));
    dirs.map(|dir| dir.join(name)).find(|path| path.is_file())
}

/// The node, counted from 0, that a client is connected to.
pub(crate) fn node_of(placement: Placement, client: usize, leader: usize, nodes: usize) -> usize {
    match placement {
        Placement::Spread => (leader + client) % nodes,
        Placement::Leader => leader,
        Placement::Follower => (leader + 1) % nodes,
    }
}

/// Sessions are opened so many at a time: enough to be quick, too few to overrun a listener.
pub(crate) const OPENED_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_where_they_were_placed() {
        let nodes = |placement| (0..6).map(|client| node_of(placement, client, 2, 3)).collect();
        let table: [(Placement, Vec<usize>); 3] = [
            (Placement::Spread, vec![2, 0, 1, 2, 0, 1]),
            (Placement::Leader, vec![2; 6]),
            (Placement::Follower, vec![0; 6]),
        ];
        for (placement, want) in table {
            let got: Vec<usize> = nodes(placement);
            assert_eq!(got, want, "{placement}");
        }
    }
}
