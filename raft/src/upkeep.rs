//! When a checkpoint is due, and what of the log may go after it.
//!
//! openraft is told of a checkpoint by asking it for a snapshot, which is one; it then purges the
//! log but for the newest entries. The bound in bytes is ours.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::ClusterConfig;
use crate::context::{Context, Raft, stopped};

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
        let checkpoints = context.replica.counters.checkpoints.load(Ordering::Relaxed);
        if checkpoints != last.checkpoints && context.replica.store.has_room_for(LEAST_ROOM, 0) {
            last.checkpoints = checkpoints;
            shed(&context, &raft, config.keep_log_bytes).await;
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

/// Lets go of what a finished checkpoint has made unnecessary, in the log and in the state store.
/// The store's file is written anew only where the disk has room for that beside all else.
async fn shed(context: &Arc<Context>, raft: &Raft, keep_log_bytes: u64) {
    let covered = context.replica.checkpointed().map(|position| position.index);
    let bound = context.replica.index_before_last_bytes(keep_log_bytes);
    if let (Some(covered), Some(bound)) = (covered, bound) {
        // An error means that openraft has stopped, which `conduct` reports.
        let _ = raft.trigger().purge_log(bound.min(covered)).await;
    }
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
/// How often to look whether a checkpoint is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
