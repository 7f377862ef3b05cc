//! All nodes drained and restarted, one after the other, as for an upgrade.

use anyhow::Result;
use rustix::process::Signal;

use super::{Arena, Fault};
use crate::rng::Rng;

/// SIGTERM, wait until it has ended well, start, wait until it is ready; then the next.
pub(super) async fn roll(arena: &Arena, rng: &mut Rng) -> Result<()> {
    let mut cluster = arena.cluster.lock().await;
    let ids = rng.shuffled(&cluster.ids());
    arena.start(Fault::Rolling, &ids, &format!("in the order {ids:?}"));
    let mut rolled = Vec::new();
    for id in &ids {
        if arena.is_stopping() && !rolled.is_empty() {
            break;
        }
        let node = cluster.node_mut(*id)?;
        node.signal(Signal::TERM)?;
        let status = node.wait_end().await?;
        if status.success() {
            rolled.push(*id);
        } else {
            arena.find(format!("node {id} did not end well on SIGTERM: {status}"));
        }
        cluster.start(*id)?;
        cluster.ready(*id).await?;
    }
    if !rolled.is_empty() {
        arena.hit(Fault::Rolling, &rolled, "each ended with 0 and was started again");
    }
    arena.end(Fault::Rolling, &ids, "all are back");
    Ok(())
}
