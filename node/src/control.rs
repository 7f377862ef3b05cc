//! What this process says of itself and its machine, and how it carries out orders.
//!
//! The other side of `gateway::NodeControl`. Facts are read when they are asked for; an order is
//! handed to whichever part of the node carries it out, and answered when that has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gateway::{NodeControl, NodeFacts, NodeOrder, OrderError};
use storage::seam::Clock;
use tokio::sync::watch;

/// The node's process.
pub(crate) struct Control {
    data_dir: PathBuf,
    preset: &'static str,
    descriptors: u64,
    clock: Arc<dyn Clock>,
    started_ns: u64,
    drain: watch::Sender<bool>,
}

impl Control {
    pub(crate) fn new(
        data_dir: PathBuf,
        preset: &'static str,
        descriptors: u64,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let started_ns = clock.monotonic_ns();
        let drain = watch::Sender::new(false);
        Self { data_dir, preset, descriptors, clock, started_ns, drain }
    }

    /// Waits until the node has been told to drain.
    pub(crate) async fn drained(&self) {
        // The sender lives as long as this.
        let _ = self.drain.subscribe().wait_for(|drain| *drain).await;
    }
}

impl NodeControl for Control {
    fn facts(&self) -> NodeFacts {
        let disk = rustix::fs::statvfs(&self.data_dir);
        let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
        NodeFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: *self.drain.borrow(),
            uptime_ms: self.clock.monotonic_ns().saturating_sub(self.started_ns) / 1_000_000,
            disk_total_bytes: disk.as_ref().map_or(0, |disk| bytes(disk.f_blocks, disk.f_frsize)),
            disk_free_bytes: disk.as_ref().map_or(0, |disk| bytes(disk.f_bavail, disk.f_frsize)),
            preset: self.preset.to_owned(),
            descriptors: self.descriptors,
            ..NodeFacts::default()
        }
    }

    fn perform(
        &self,
        order: NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        async move {
            match order {
                NodeOrder::Drain => {
                    self.drain.send_replace(true);
                    Ok("the node drains and ends".to_owned())
                }
                NodeOrder::ReloadCertificates
                | NodeOrder::RenewCertificates
                | NodeOrder::SaveSnapshot => {
                    Err(OrderError::Refused("this node is not configured for it".to_owned()))
                }
            }
        }
        .boxed()
    }
}
