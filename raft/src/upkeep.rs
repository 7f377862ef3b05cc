//! When a checkpoint is due, and what of the log may go after it.
//!
//! openraft is told of a checkpoint by asking it for a snapshot, which is one. Of the log that it
//! covers, the newest entries stay, up to a number and a size, and what peers need after a snapshot
//! that they are being sent (`held`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal as RaftFatal;

use crate::config::ClusterConfig;
use crate::context::{Context, Raft, stopped};
use crate::report::matched;
use crate::status::Position;
use crate::types::{TypeConfig, position_of};

/// Runs until the node stops.
pub(crate) async fn upkeep(context: Arc<Context>, raft: Raft, config: ClusterConfig) {
    let mut stopping = context.stopping.subscribe();
    let mut look = tokio::time::interval(LOOK_INTERVAL.min(config.checkpoint_interval));
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Last {
        bytes: context.log.metrics().bytes_written,
        at_ns: context.clock.monotonic_ns(),
        checkpoints: 0,
    };
    let mut cut = Cut::default();
    loop {
        tokio::select! {
            () = stopped(&mut stopping) => return,
            _ = look.tick() => {}
        }
        if last.is_due(&context, &config) {
            last.bytes = context.log.metrics().bytes_written;
            last.at_ns = context.clock.monotonic_ns();
            if raft.trigger().snapshot().await.is_err() {
                return;
            }
        }
        cut.perform(&context, &raft, &config).await;
        let checkpoints = context.replica.counters.checkpoints.load(Ordering::Relaxed);
        if checkpoints != last.checkpoints && context.replica.store.has_room_for(LEAST_ROOM, 0) {
            last.checkpoints = checkpoints;
            maintain(&context).await;
        }
    }
}

struct Last {
    bytes: u64,
    at_ns: u64,
    checkpoints: u64,
}

impl Last {
    fn is_due(&self, context: &Context, config: &ClusterConfig) -> bool {
        let replica = &context.replica;
        if !context.has_room() || replica.applied.borrow().position <= replica.checkpointed() {
            return false;
        }
        let bytes = context.log.metrics().bytes_written.saturating_sub(self.bytes);
        let passed_ns = context.clock.monotonic_ns().saturating_sub(self.at_ns);
        let is_due = bytes >= config.checkpoint_log_bytes
            || Duration::from_nanos(passed_ns) >= config.checkpoint_interval;
        // The disk itself is asked, too: a checkpoint that fails ends the node, and whoever watches
        // the disk looks at it only now and then.
        is_due && replica.store.has_room_for(bytes.max(LEAST_ROOM), 0)
    }
}

/// Has openraft take a checkpoint up to here for its snapshot, and waits until it has.
pub(crate) async fn tell_of_checkpoint(
    raft: &Raft,
    covered: Option<Position>,
) -> Result<(), RaftFatal<TypeConfig>> {
    let mut metrics = raft.metrics();
    let known = |metrics: &RaftMetrics<TypeConfig>| metrics.snapshot.as_ref().map(position_of);
    while known(&metrics.borrow_watched()) < covered {
        raft.trigger().snapshot().await?;
        let mut newest = known(&metrics.borrow_watched());
        let told = async {
            while newest < covered {
                metrics.changed().await.map_err(|_| RaftFatal::Stopped)?;
                newest = known(&metrics.borrow_watched());
            }
            Ok(())
        };
        // While another is being made, nothing is asked for.
        if let Ok(told) = tokio::time::timeout(ASK_AGAIN, told).await {
            return told;
        }
    }
    Ok(())
}

/// What of the log the last checkpoint lets go.
#[derive(Default)]
struct Cut {
    covered: u64,
    upto: u64,
}

impl Cut {
    /// Lets go of the log that is covered by a checkpoint and needed by nobody. Who reads the log
    /// for a peer is not interrupted: openraft then cuts it when that is done.
    async fn perform(&mut self, context: &Context, raft: &Raft, config: &ClusterConfig) {
        let Some(covered) = context.replica.checkpointed().map(|position| position.index) else {
            return;
        };
        if covered != self.covered {
            let by_number = covered.saturating_sub(config.keep_log_entries);
            let by_bytes = context.replica.index_before_last_bytes(config.keep_log_bytes);
            *self = Self { covered, upto: by_number.max(by_bytes.unwrap_or(0).min(covered)) };
        }
        let purged = context.log.state().purged.map_or(0, |purged| purged.index);
        let mut upto = self.upto;
        if may_hold(context, config) {
            let matched = matched(&raft.metrics().borrow_watched());
            let now_ns = context.clock.monotonic_ns();
            upto = upto.min(context.held.free_up_to(purged, &matched, now_ns));
        }
        if upto > purged {
            // An error means that openraft has stopped, which `conduct` reports.
            let _ = raft.trigger().purge_log(upto).await;
        }
    }
}

/// Whether the log is small enough, and the disk has room enough, to keep it for peers.
fn may_hold(context: &Context, config: &ClusterConfig) -> bool {
    let log_bytes = context.log.metrics().segments.saturating_mul(config.log_segment_bytes);
    let reserve_bytes = context.reserve_bytes.load(Ordering::Relaxed);
    let room = &context.replica.store;
    log_bytes <= config.held_log_bytes
        && context.has_room()
        && room.has_room_for(LEAST_ROOM, reserve_bytes.saturating_add(ROOM_TO_HOLD))
}

/// Lets go of what a finished checkpoint has made unnecessary in the state store. Its file is
/// written anew only where the disk has room for that beside all else.
async fn maintain(context: &Context) {
    let store = context.replica.store.clone();
    let reserve_bytes = context.reserve_bytes.load(Ordering::Relaxed);
    let maintained = context.workers.run(move || store.maintain(reserve_bytes)).await;
    match maintained {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => context.fatal.fail(format!("the state store has failed: {error}")),
        Err(panicked) => context.fatal.fail(format!("the state store has failed: {panicked}")),
    }
}

/// Bytes of rows that there must be room for, however few have changed.
const LEAST_ROOM: u64 = 1 << 20;
/// Room beyond what stops the node, and beyond the warning that comes before, below which no log is
/// kept for peers.
const ROOM_TO_HOLD: u64 = 256 << 20;
/// How long to wait for a checkpoint that openraft was told of before it is told again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often to look whether a checkpoint is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
