//! Nodes of an [`Operated`] cluster whose directories are file systems of their own, so that their
//! power can be cut while they work, and what is on them can be damaged.
//!
//! A cut is that of [`jepsen::volume`]: the disk first, then the process, as a machine that loses
//! its power loses both. In between, the process can only find that every write fails; whatever it
//! still answers then, it must have had on its disk before.

use std::fs;
use std::process::ExitStatus;
use std::thread;

use anyhow::{Context, Result, ensure};
use jepsen::volume::Volume;

use crate::operated::Operated;
use crate::wait::eventually;

/// What a node needs and some more: two segments of the log, a generation of the state, the data of
/// a node that was replaced here, and room that raises no alarm.
pub const DISK_BYTES: u64 = 2 << 30;

impl Operated {
    /// A cluster of so many voters, each with its directory on a disk of its own.
    ///
    /// # Errors
    /// Where no disk can be made ([`Volume::possible`]), or the cluster does not come to be.
    pub async fn on_disks(nodes: usize) -> Result<Self> {
        let mut cluster = Self::found(&[], Some(DISK_BYTES)).await?;
        for _ in 1..nodes {
            cluster.add().await?;
        }
        Ok(cluster)
    }

    /// The disk of a node.
    pub fn disk(&mut self, id: u64) -> Result<&mut Volume> {
        let dir = self.node(id)?.dir.clone();
        self.disks.get_mut(&dir).with_context(|| format!("node {id} has no disk of its own"))
    }

    /// Cuts the disks of these nodes at one moment; their processes find that every write fails.
    /// Something is written to each just before, and not synced.
    pub fn cut_disks(&mut self, ids: &[u64]) -> Result<()> {
        let mut dirs = Vec::new();
        for id in ids {
            dirs.push(self.node(*id)?.dir.clone());
        }
        let disks: Vec<&Volume> = dirs.iter().filter_map(|dir| self.disks.get(dir)).collect();
        ensure!(disks.len() == ids.len(), "some of {ids:?} have no disk of their own");
        for disk in &disks {
            fs::write(disk.dir().join(UNSYNCED), UNSYNCED)?;
        }
        thread::scope(|scope| {
            let cuts: Vec<_> = disks.iter().map(|disk| scope.spawn(|| disk.cut())).collect();
            cuts.into_iter().try_for_each(|cut| {
                cut.join().map_err(|_| anyhow::anyhow!("a cut panicked"))?.context("no cut")
            })
        })
    }

    /// Cuts the power of these nodes at one moment: their disks, then their processes.
    pub fn cut_power(&mut self, ids: &[u64]) -> Result<()> {
        self.cut_disks(ids)?;
        ids.iter().try_for_each(|id| self.kill(*id))
    }

    /// The same, but the processes live on until the first of them has noticed; gives how it ended.
    /// The others may have nothing to write, and are killed then.
    pub async fn cut_disks_and_see(&mut self, ids: &[u64]) -> Result<ExitStatus> {
        self.cut_disks(ids)?;
        let first = eventually("a node finds that its disk is dead", || {
            let first = ids.iter().copied().find(|id| !self.is_up(*id));
            async move { first }
        })
        .await?;
        let ended = self.ended(first).await?;
        ids.iter().filter(|id| **id != first).try_for_each(|id| self.kill(*id))?;
        Ok(ended)
    }

    /// Gives these nodes their power back: their disks are mounted again, and they start.
    ///
    /// # Errors
    /// Also when a disk still has what was not synced: then nothing was cut.
    pub fn power_on(&mut self, ids: &[u64]) -> Result<()> {
        for id in ids {
            let disk = self.disk(*id)?;
            disk.remount()?;
            let unsynced = disk.dir().join(UNSYNCED);
            // Its name may be there, by a sync of the directory's journal; its bytes may not.
            ensure!(
                fs::read(&unsynced).unwrap_or_default().is_empty(),
                "node {id}'s disk has what was not synced: it was not cut"
            );
            let _ = fs::remove_file(&unsynced);
        }
        ids.iter().try_for_each(|id| self.start(*id))
    }
}

/// A file on each disk that is written before a cut and never synced.
const UNSYNCED: &str = "unsynced";
