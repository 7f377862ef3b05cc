//! What this process says of itself and its machine, and how it carries out orders.
//!
//! The other side of `gateway::NodeControl`. Facts are read when they are asked for; an order is
//! handed to whichever part of the node carries it out, and answered when that has.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use gateway::{KeysCell, NodeControl, NodeFacts, NodeOrder, OrderError};
use parking_lot::Mutex;
use storage::seam::Clock;
use tokio::sync::watch;

use crate::backup::BackupOrders;
use crate::certificates::{Certificates, CertificatesError};
use crate::config::chain;
use crate::signing::TokenKeys;
use crate::watch::Watched;

/// What the node shows and signs with.
pub(crate) struct Held {
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) keys: Arc<KeysCell>,
    pub(crate) token_keys: TokenKeys,
}

/// The node's process.
pub(crate) struct Control {
    data_dir: PathBuf,
    preset: &'static str,
    descriptors: u64,
    clock: Arc<dyn Clock>,
    started_ns: u64,
    held: Held,
    drain: watch::Sender<bool>,
    backups: BackupOrders,
    watched: Mutex<Watched>,
}

impl Control {
    pub(crate) fn new(
        data_dir: PathBuf,
        preset: &'static str,
        descriptors: u64,
        clock: Arc<dyn Clock>,
        held: Held,
        backups: BackupOrders,
    ) -> Self {
        let started_ns = clock.monotonic_ns();
        let drain = watch::Sender::new(false);
        let watched = Mutex::default();
        Self { data_dir, preset, descriptors, clock, started_ns, held, drain, backups, watched }
    }

    /// Takes in what the node's watch has seen.
    pub(crate) fn watched(&self, watched: Watched) {
        *self.watched.lock() = watched;
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
        let Watched { data_bytes, reserve_bytes, alarms } = self.watched.lock().clone();
        NodeFacts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: *self.drain.borrow(),
            uptime_ms: self.clock.monotonic_ns().saturating_sub(self.started_ns) / 1_000_000,
            disk_total_bytes: disk.as_ref().map_or(0, |disk| bytes(disk.f_blocks, disk.f_frsize)),
            disk_free_bytes: disk.as_ref().map_or(0, |disk| bytes(disk.f_bavail, disk.f_frsize)),
            preset: self.preset.to_owned(),
            descriptors: self.descriptors,
            data_bytes,
            disk_reserve_bytes: reserve_bytes,
            alarms,
            certificates: self.held.certificates.facts(),
            anchors: self.held.certificates.anchors(),
            data_key_version: self.held.keys.get().map_or(0, |keys| keys.vault.data_key_version()),
            last_backup_at_s: self.backups.last_at_s(),
        }
    }

    fn perform(
        &self,
        order: NodeOrder,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        async move {
            match order {
                NodeOrder::Drain => {
                    self.drain.send_replace(true);
                    Ok("the node drains and ends".to_owned())
                }
                NodeOrder::ReloadCertificates => self
                    .held
                    .certificates
                    .reload()
                    .map_err(|error| OrderError::Failed(chain(&error))),
                NodeOrder::RenewCertificates => {
                    self.held.certificates.renew().map_err(|error| match error {
                        CertificatesError::NoAuthority | CertificatesError::Unmanaged => {
                            OrderError::Refused(chain(&error))
                        }
                        _ => OrderError::Failed(chain(&error)),
                    })
                }
                NodeOrder::RotateTokenKeys => self.held.token_keys.rotate(deadline).await,
                NodeOrder::SaveSnapshot => self.backups.save(deadline).await,
            }
        }
        .boxed()
    }
}
