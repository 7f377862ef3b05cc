//! Processes that are killed, and processes that are stopped for a while.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{Arena, Fault, HowMany, victims};
use crate::rng::Rng;

/// Kills, waits, starts again.
pub(super) async fn kill(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let how_many = *rng.pick(&HowMany::EVERY).unwrap_or(&HowMany::One);
    let hold = Duration::from_millis(rng.between(0, 3_000));
    let mut cluster = arena.cluster.lock().await;
    let ids = cluster.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    let detail = format!("{}, down for {} ms", how_many.name(), hold.as_millis());
    arena.start(Fault::Kill, &targets, &detail);
    let mut killed = Vec::new();
    for id in &targets {
        let status = cluster.node_mut(*id)?.kill().await?;
        match status.and_then(|status| status.signal()) {
            Some(9) => killed.push(*id),
            _ => arena.find(format!("node {id} had ended by itself: {status:?}")),
        }
    }
    if !killed.is_empty() {
        arena.hit(Fault::Kill, &killed, "SIGKILL ended the processes");
    }
    arena.hold(hold).await;
    for id in &targets {
        cluster.start(*id)?;
    }
    arena.end(Fault::Kill, &targets, "started again");
    arena.bring_up(&mut cluster, &targets).await
}

/// Stops, waits, lets go on.
pub(super) async fn pause(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let choices = [HowMany::One, HowMany::Leader, HowMany::Leader, HowMany::All];
    let how_many = *rng.pick(&choices).unwrap_or(&HowMany::Leader);
    // Half to ten election timeouts.
    let hold = Duration::from_millis(arena.election_ms * rng.between(5, 100) / 10);
    let mut cluster = arena.cluster.lock().await;
    let ids = cluster.ids();
    let targets = victims(arena, rng, &ids, how_many).await;
    let detail = format!("{}, stopped for {} ms", how_many.name(), hold.as_millis());
    arena.start(Fault::Pause, &targets, &detail);
    let mut stopped = Vec::new();
    for id in &targets {
        let node = cluster.node_mut(*id)?;
        // A node that has ended meanwhile is found by whoever looks after processes.
        if node.signal(Signal::STOP).is_err() {
            continue;
        }
        // The kernel stops each thread when it next runs: soon, and not at once.
        for _ in 0..LOOKS {
            if node.is_stopped() {
                stopped.push(*id);
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    arena.hold(hold).await;
    if !stopped.is_empty() {
        arena.hit(Fault::Pause, &stopped, "the kernel had them stopped");
    }
    for id in &targets {
        let _ = cluster.node_mut(*id)?.signal(Signal::CONT);
    }
    arena.end(Fault::Pause, &targets, "they go on");
    Ok(())
}

/// Looks at whether a process is stopped, a millisecond apart.
const LOOKS: usize = 50;
