//! Disks that are full, and disks whose power is cut.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Arena, Fault, HowMany, victims};
use crate::rng::Rng;
use crate::volume::Volume;

/// Bytes of a node's own file system: above what a node needs to raise no alarm, and then its log.
pub(crate) const VOLUME_BYTES: u64 = 1_200 << 20;

/// Fills one node's disk, waits, frees it.
pub(super) async fn fill(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let how_many = if rng.percent(50) { HowMany::Leader } else { HowMany::One };
    let hold = Duration::from_millis(rng.between(1_500, 5_000));
    let mut cluster = arena.cluster.lock().await;
    let ids = cluster.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    let id = *targets.first().context("no node")?;
    arena.start(Fault::DiskFull, &targets, &format!("{}, to the last byte", how_many.name()));
    let ballast = cluster.node_mut(id)?.volume()?.dir().join("ballast");
    let left = {
        let volume = cluster.node_mut(id)?.volume()?;
        fill_up(volume, &ballast)?
    };
    // What is under way gets its answers; the node must notice, and follow.
    let noticed = noticed(arena, id, hold).await;
    if noticed {
        let detail = format!("{left} bytes left; the node says that it has no room");
        arena.hit(Fault::DiskFull, &targets, &detail);
    }
    free(cluster.node_mut(id)?.volume()?, &ballast)?;
    arena.end(Fault::DiskFull, &targets, "freed");
    if let Some(status) = cluster.node_mut(id)?.ended() {
        arena.find(format!("node {id} ended of a full disk: {status}"));
    }
    arena.bring_up(&mut cluster, &targets).await
}

/// Takes all bytes that there are; gives how many are left.
fn fill_up(volume: &Volume, ballast: &Path) -> Result<u64> {
    let file = File::create(ballast).context("cannot fill a disk")?;
    for unit in [16 << 20, 1 << 20, 64 << 10, 4 << 10_u64] {
        loop {
            let at = file.metadata()?.len();
            let flags = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, flags, at, unit) {
                Ok(()) => {}
                Err(rustix::io::Errno::NOSPC) => break,
                Err(error) => return Err(error).context("cannot fill a disk"),
            }
        }
    }
    volume.free_bytes()
}

/// Gives the bytes back, and for good: were the removal not synced, a power cut soon after would
/// fill the disk again.
fn free(volume: &Volume, ballast: &Path) -> Result<()> {
    std::fs::remove_file(ballast).context("cannot free a disk")?;
    let dir = File::open(volume.dir()).context("cannot free a disk")?;
    dir.sync_all().context("cannot free a disk")
}

/// Waits out the fault; whether the node said meanwhile that it has no room.
async fn noticed(arena: &Arena, id: u64, hold: Duration) -> bool {
    let until = arena.recorder.clock().elapsed() + hold;
    let mut noticed = false;
    while arena.recorder.clock().elapsed() < until {
        let detail = arena.observer.detail(id).await;
        noticed |= detail.is_some_and(|node| node["detail"]["has_room"] == false);
        arena.hold(Duration::from_millis(200)).await;
        if arena.is_stopping() && noticed {
            break;
        }
    }
    noticed
}

/// Cuts the power of disks, waits, mounts them, starts their nodes again.
pub(super) async fn cut(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let how_many = *rng.pick(&HowMany::EVERY).unwrap_or(&HowMany::One);
    let hold = Duration::from_millis(rng.between(0, 1_500));
    // Half of them go on for a moment on a dead disk, and must not say that they have stored.
    let dying = Duration::from_millis(if rng.percent(50) { rng.between(20, 800) } else { 0 });
    let mut cluster = arena.cluster.lock().await;
    let ids = cluster.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    arena.start(Fault::Power, &targets, &format!("disks of {}", how_many.name()));
    // All at once first, then what is left of their processes.
    for id in &targets {
        cluster.node_mut(*id)?.volume()?.cut()?;
    }
    arena.hold(dying).await;
    for id in &targets {
        cluster.node_mut(*id)?.kill().await?;
    }
    arena.hit(Fault::Power, &targets, "what was not synced is gone");
    arena.hold(hold).await;
    for id in &targets {
        let node = cluster.node_mut(*id)?;
        tokio::task::block_in_place(|| node.volume()?.remount())?;
    }
    for id in &targets {
        cluster.start(*id)?;
    }
    arena.end(Fault::Power, &targets, "mounted and started again");
    arena.bring_up(&mut cluster, &targets).await
}
