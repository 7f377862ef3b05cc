//! Opens what a node has on disk: its log, its state store, and from that its replica.

use std::sync::Arc;

use storage::log::{Log, LogConfig, LogWriter, OpenError as LogOpenError};
use storage::seam::{Clock, Disk};
use storage::state::{OpenError as StateOpenError, StateConfig, StateStore};

use crate::config::ClusterConfig;
use crate::fatal::Fatal;
use crate::replica::{LoadError, Replica};
use crate::status::Position;

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
    forget_superseded(&log, replica.checkpointed());
    Ok((log, writer, Arc::new(replica)))
}

/// Cuts off entries in whose place a later leader's were committed, when a checkpoint has those and
/// the log does not: what others have stored may be applied here, or come in a snapshot, before
/// this disk has it or has let the old ones go. openraft takes such a log for a corrupted one.
///
/// Nothing that was acknowledged is lost: what is cut was never committed, and what was committed
/// is in the state. It need not be waited for: undone, it is done again at the next start.
fn forget_superseded(log: &Log, applied: Option<Position>) {
    let (Some(applied), Some(last)) = (applied, log.state().last) else { return };
    if last.term >= applied.term || last.index < applied.index {
        return;
    }
    tracing::warn!(last.term, last.index, ?applied, "the state has gone on without the log's end");
    let kept = applied.index.checked_sub(1);
    log.truncate_after(
        kept,
        Box::new(|cut| {
            if let Err(error) = cut {
                tracing::warn!(%error, "the log's end was not cut");
            }
        }),
    );
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use storage::log::{LogEntry, LogPosition};
    use storage::seam::RealClock;
    use storage::testing::MemoryDisk;

    use super::*;

    /// A log with entries of these terms, from index 1 on.
    fn log_of(terms: &[u64]) -> Log {
        let config =
            LogConfig::new("/log".into(), ClusterConfig::new(1, "/".into(), 7).log_identity());
        let disk = Arc::new(MemoryDisk::new());
        let (log, _) = Log::open(disk, Arc::new(RealClock::new()), config).unwrap();
        let entry = |(index, term): (u64, &u64)| LogEntry {
            index,
            term: *term,
            kind: 0,
            payload: Bytes::from_static(b"x"),
        };
        let entries = (1..).zip(terms).map(entry).collect();
        log.append(entries, Box::new(|appended| appended.unwrap()));
        log
    }

    #[test]
    fn only_what_a_later_leader_replaced_is_cut() {
        let check = |terms: &[u64], applied: Option<(u64, u64)>, last: Option<(u64, u64)>| {
            let log = log_of(terms);
            forget_superseded(&log, applied.map(|(term, index)| Position { term, index }));
            let found = log.state().last.map(|LogPosition { index, term }| (term, index));
            assert_eq!(found, last, "{terms:?} {applied:?}");
        };
        // The seed that found it: the same place, another term.
        check(&[1, 1, 1], Some((2, 3)), Some((1, 2)));
        // More of the same leader behind it.
        check(&[1, 1, 1, 1, 1], Some((2, 3)), Some((1, 2)));
        check(&[1, 1, 1], Some((4, 1)), None);
        // What openraft mends, or what is in order, is left alone.
        check(&[1, 1], Some((2, 3)), Some((1, 2)));
        check(&[1, 1, 2], Some((2, 3)), Some((2, 3)));
        check(&[1, 1, 2, 3], Some((2, 3)), Some((3, 4)));
        check(&[1, 1, 1], Some((1, 2)), Some((1, 3)));
        check(&[1, 1, 1], None, Some((1, 3)));
    }
}
