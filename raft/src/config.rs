//! What a node needs to know to take part, and what openraft is told because of it.
//!
//! Every field of openraft's `Config` that matters is set here with its reason; none is left to a
//! default, since those are meant for demonstrations and move between releases.

use std::path::PathBuf;
use std::time::Duration;

use lease::ids::NodeId;
use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use crate::workers::Workers;

/// How far apart the nodes are. All nodes of a cluster must have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Preset {
    /// One network: heartbeat 50 ms, election after 200 to 300 ms.
    #[default]
    Lan,
    /// One region with several zones: heartbeat 150 ms, election after 800 to 1,100 ms.
    Region,
    /// Several continents: heartbeat 500 ms, election after 3,000 to 3,600 ms.
    Global,
}

/// The times of a preset, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats.
    pub heartbeat_ms: u64,
    /// Lower bound of the election timeout.
    pub election_min_ms: u64,
    /// Upper bound of the election timeout; also how long an acknowledgement of a quorum lasts.
    pub election_max_ms: u64,
    /// Entries proposed and not yet applied.
    pub entries_in_flight: usize,
}

impl Preset {
    /// Its times.
    pub fn timing(self) -> Timing {
        let (heartbeat_ms, election_min_ms, election_max_ms, entries_in_flight) = match self {
            Self::Lan => (50, 200, 300, 8),
            Self::Region => (150, 800, 1_100, 32),
            Self::Global => (500, 3_000, 3_600, 32),
        };
        Timing { heartbeat_ms, election_min_ms, election_max_ms, entries_in_flight }
    }

    /// *F*: within this, a service that can come back is back, and a call that cannot be served
    /// has failed. Two upper election timeouts and 100 ms.
    pub fn failover_bound(self) -> Duration {
        Duration::from_millis(2 * self.timing().election_max_ms + 100)
    }
}

/// What [`crate::Cluster::start`] needs to know.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// This node's number.
    pub node: NodeId,
    /// The data directory; `log/` and `state/` below it are this crate's.
    pub data_dir: PathBuf,
    /// How far apart the nodes are.
    pub preset: Preset,
    /// Random incarnation of the data directory, made when the node joined.
    pub directory_incarnation: u64,
    /// A checkpoint is due after this many bytes of log.
    pub checkpoint_log_bytes: u64,
    /// A checkpoint is due after this long, when anything was applied since the last.
    pub checkpoint_interval: Duration,
    /// Entries kept in the log below a checkpoint, so that a node that lags a little catches up
    /// without a snapshot.
    pub keep_log_entries: u64,
    /// Bytes kept for the same reason; whichever bound is reached first holds.
    pub keep_log_bytes: u64,
    /// Size of the log, in whole segments, up to which it is kept for peers that are being sent a
    /// snapshot. A peer that takes longer needs another one.
    pub held_log_bytes: u64,
    /// Size of one segment of the log in bytes.
    pub log_segment_bytes: u64,
    /// Memory for the newest entries in bytes.
    pub log_cache_bytes: u64,
    /// Pages of the state store kept in memory, in bytes as they are on disk: in memory sled needs
    /// four to five times as much for rows of a lease's size.
    pub state_cache_bytes: u64,
    /// Where blocking work is done: on threads, except in a simulation.
    pub workers: Workers,
}

impl ClusterConfig {
    /// A configuration with the sizes the design names.
    pub fn new(node: NodeId, data_dir: PathBuf, directory_incarnation: u64) -> Self {
        Self {
            node,
            data_dir,
            preset: Preset::default(),
            directory_incarnation,
            checkpoint_log_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(30),
            keep_log_entries: 10_000,
            keep_log_bytes: 64 << 20,
            held_log_bytes: 1 << 30,
            log_segment_bytes: 64 << 20,
            log_cache_bytes: 16 << 20,
            state_cache_bytes: 12 << 20,
            workers: Workers::Threads,
        }
    }

    /// The name of this directory's log, which tells its segments from those of any other.
    pub(crate) fn log_identity(&self) -> [u8; 16] {
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&self.directory_incarnation.to_le_bytes());
        identity[8..].copy_from_slice(&self.node.to_le_bytes());
        identity
    }

    pub(crate) fn openraft(&self) -> Result<Config, openraft::ConfigError> {
        let timing = self.preset.timing();
        let config = Config {
            cluster_name: "leasehold".to_owned(),
            heartbeat_interval: timing.heartbeat_ms,
            election_timeout_min: timing.election_min_ms,
            election_timeout_max: timing.election_max_ms,
            // Heartbeats carry the clocks' readings, so none is left out under load.
            heartbeat_min_interval: Some(0),
            // Our own chunks and deadlines; see `network`.
            install_snapshot_timeout: 60_000,
            // At most this many entries in one append; the log reader bounds their bytes.
            max_payload_entries: 256,
            max_append_entries: Some(256),
            // Only what was purged needs a snapshot: reading 10,000 entries is cheaper.
            replication_lag_threshold: u64::MAX,
            // Our checkpoint is the snapshot; `upkeep` says when.
            snapshot_policy: SnapshotPolicy::Never,
            snapshot_max_chunk_size: 1 << 20,
            // What may go is ours to say; see `upkeep`.
            max_in_snapshot_log_to_keep: u64::MAX,
            // Purging happens once per checkpoint, so there is nothing to gather.
            purge_batch_size: 1,
            // The proposer keeps at most 32 entries in flight; the rest are messages of peers.
            api_channel_size: Some(4_096),
            api_batch_capacity: 64,
            api_batch_linger_ms: 0,
            notification_channel_size: Some(4_096),
            state_machine_channel_size: Some(1_024),
            log_stage_capacity: None,
            // Followers get an entry while the leader still syncs it.
            broadcast_submitted_on_append: Some(true),
            enable_tick: true,
            enable_heartbeat: true,
            enable_elect: true,
            removed_leader_step_down: StepDownPolicy::After(2 * timing.election_max_ms),
            // A leader without a quorum goes quiet in turns, so that a cut that lets its
            // heartbeats out and no answers in cannot keep the others from electing.
            quorum_loss_probe_interval: Some(2 * timing.election_max_ms),
            enable_pre_vote: Some(true),
            backoff: "20ms 50ms 100ms ...500ms".to_owned(),
            reset_backoff_on_transfer_leader: Some(true),
            // A node whose log went back is refused for good; it rejoins under a new id.
            allow_log_reversion: Some(false),
            // A restarted leader asks again: its old term may have ended meanwhile.
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        config.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_one_that_openraft_accepts() {
        for preset in [Preset::Lan, Preset::Region, Preset::Global] {
            let config = ClusterConfig { preset, ..ClusterConfig::new(1, "x".into(), 7) };
            assert!(config.openraft().is_ok(), "{preset:?}");
        }
        assert_eq!(Preset::Lan.failover_bound(), Duration::from_millis(700));
    }
}
