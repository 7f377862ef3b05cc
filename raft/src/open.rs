//! Opens what a node has on disk: its log, its state store, and from that its replica.

use std::sync::Arc;

use storage::log::{Log, LogConfig, LogWriter, OpenError as LogOpenError};
use storage::seam::{Clock, Disk};
use storage::state::{OpenError as StateOpenError, StateConfig, StateStore};

use crate::config::ClusterConfig;
use crate::fatal::Fatal;
use crate::replica::{LoadError, Replica};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("the configuration does not work: {0}")]
    Config(String),
    /// The disk refused, or a newer version wrote what is on it.
    #[error("the data directory cannot be used")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something acknowledged is missing or changed: this member must be replaced.
    #[error("the data directory is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The log's directory below the data directory.
pub(crate) const LOG_DIR: &str = "log";
/// The state store's.
pub(crate) const STATE_DIR: &str = "state";

/// Blocks for as long as it takes to read all of it.
pub(crate) fn open(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    fatal: Fatal,
) -> Result<(Log, Option<LogWriter>, Arc<Replica>), StartError> {
    let (log, writer, store) = open_files(config, disk, Arc::clone(&clock))?;
    let replica =
        Replica::load(config.node, store, log.clone(), clock, fatal).map_err(not_loaded)?;
    Ok((log, writer, Arc::new(replica)))
}

/// The log and the state store as they are; with the log's writer when it has no thread.
pub(crate) fn open_files(
    config: &ClusterConfig,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<(Log, Option<LogWriter>, StateStore), StartError> {
    let in_place = config.workers.are_in_place();
    let log_config = LogConfig {
        segment_bytes: config.log_segment_bytes,
        cache_bytes: config.log_cache_bytes,
        ..LogConfig::new(config.data_dir.join(LOG_DIR), config.log_identity())
    };
    let (log_disk, log_clock) = (Arc::clone(&disk), Arc::clone(&clock));
    let opened = if in_place {
        Log::open_stepped(log_disk, log_clock, log_config)
            .map(|(log, writer, recovered)| (log, Some(writer), recovered))
    } else {
        Log::open(log_disk, log_clock, log_config).map(|(log, recovered)| (log, None, recovered))
    };
    let (log, writer, recovered) = opened.map_err(|error| match error {
        LogOpenError::Damaged { .. } => StartError::Damaged(error.into()),
        LogOpenError::Config { .. } => StartError::Config(error.to_string()),
        _ => StartError::Storage(error.into()),
    })?;
    tracing::info!(
        entries = recovered.entries,
        segments = recovered.segments,
        torn_bytes = recovered.torn_bytes,
        "log opened"
    );
    let state_config = StateConfig {
        cache_bytes: config.state_cache_bytes,
        ..StateConfig::new(config.data_dir.join(STATE_DIR))
    };
    let open_store = if in_place { StateStore::open_over_disk } else { StateStore::open };
    let (store, _) = open_store(disk, clock, state_config).map_err(|error| match error {
        StateOpenError::Damaged(_) => StartError::Damaged(error.into()),
        _ => StartError::Storage(error.into()),
    })?;
    Ok((log, writer, store))
}

/// Why a stored state did not become a ledger, in the words of a start.
pub(crate) fn not_loaded(error: LoadError) -> StartError {
    match error {
        LoadError::Obstacle(error) => StartError::Storage(error),
        LoadError::Damaged(error) => StartError::Damaged(error),
    }
}
