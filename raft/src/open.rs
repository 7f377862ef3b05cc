//! Opens what a node has on disk: its log, its state store, and from that its replica.

use std::sync::Arc;

use storage::log::{Log, LogConfig, LogPosition, LogState, LogWriter, OpenError as LogOpenError};
use storage::seam::{Clock, Disk};
use storage::state::{OpenError as StateOpenError, StateConfig, StateStore};

use crate::config::ClusterConfig;
use crate::fatal::Fatal;
use crate::log_store::report;
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

/// Has the log go on from the state where a checkpoint holds what the log does not: what others
/// have stored may be applied here, or come in a snapshot, before this disk has it or has let go of
/// entries in whose place a later leader's were committed.
///
/// Then all of the log goes, whatever its terms are: its end may be of a higher term than the
/// checkpoint and yet never have been committed, and openraft takes the higher term for the newer.
///
/// Nothing that was acknowledged is lost: what is cut was never committed, and what was committed
/// is in the state. It need not be waited for: undone, it is done again at the next start.
fn forget_superseded(log: &Log, applied: Option<Position>) {
    let (Some(applied), LogState { purged, last: Some(last), .. }) = (applied, log.state()) else {
        return;
    };
    let is_let_go = purged.is_some_and(|purged| purged.index >= applied.index);
    if is_let_go || log.term_at(applied.index) == Some(applied.term) {
        return;
    }
    tracing::warn!(last.term, last.index, ?applied, "the state has gone on without the log's end");
    log.truncate_after(applied.index.checked_sub(1), Box::new(report));
    log.purge(LogPosition { index: applied.index, term: applied.term }, Box::new(report));
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
    use storage::log::LogEntry;
    use storage::seam::RealClock;
    use storage::testing::MemoryDisk;

    use super::*;

    fn open_log(disk: &Arc<MemoryDisk>) -> Log {
        let config =
            LogConfig::new("/log".into(), ClusterConfig::new(1, "/".into(), 7).log_identity());
        Log::open(disk.clone(), Arc::new(RealClock::new()), config).unwrap().0
    }

    /// Appends entries of these terms, from an index on.
    fn append(log: &Log, first: u64, terms: &[u64]) {
        let entry = |(index, term): (u64, &u64)| LogEntry {
            index,
            term: *term,
            kind: 0,
            payload: Bytes::from_static(b"x"),
        };
        let entries = (first..).zip(terms).map(entry).collect();
        log.append(entries, Box::new(|appended| appended.unwrap()));
    }

    #[test]
    fn a_log_goes_on_from_the_state_that_replaced_its_end() {
        let check = |terms: &[u64], applied: Option<(u64, u64)>, is_replaced: bool| {
            let disk = Arc::new(MemoryDisk::new());
            let log = open_log(&disk);
            append(&log, 1, terms);
            forget_superseded(&log, applied.map(|(term, index)| Position { term, index }));
            let last = log.state().last.map(|it| (it.term, it.index));
            let own = terms.last().map(|term| (*term, terms.len() as u64));
            assert_eq!(last, if is_replaced { applied } else { own }, "{terms:?} {applied:?}");
            // The next leader's first entry follows, and all of it is found again.
            let next = last.map_or(1, |(_, index)| index + 1);
            append(&log, next, &[9]);
            log.close().unwrap();
            let found = open_log(&disk).state();
            assert_eq!(found.last, Some(LogPosition { index: next, term: 9 }), "{terms:?}");
            let purged = found.purged.map(|it| (it.term, it.index));
            assert_eq!(purged, applied.filter(|_| is_replaced), "{terms:?}");
        };
        // The same place, another term.
        check(&[1, 1, 1], Some((2, 3)), true);
        // More of the same leader behind it.
        check(&[1, 1, 1, 1, 1], Some((2, 3)), true);
        check(&[1, 1, 1], Some((4, 1)), true);
        // An end of a higher term, which was never committed: shorter than the snapshot, as long,
        // longer.
        check(&[1, 5], Some((4, 3)), true);
        check(&[1, 1, 5], Some((4, 3)), true);
        check(&[1, 1, 5, 5], Some((4, 3)), true);
        // The end alone is missing.
        check(&[1, 1], Some((2, 3)), true);
        // What is in order is left alone.
        check(&[1, 1, 2], Some((2, 3)), false);
        check(&[1, 1, 2, 3], Some((2, 3)), false);
        check(&[1, 1, 1], Some((1, 2)), false);
        check(&[1, 1, 1], None, false);
        check(&[], None, false);
    }

    #[test]
    fn what_the_log_let_go_of_is_not_missed() {
        let disk = Arc::new(MemoryDisk::new());
        let log = open_log(&disk);
        append(&log, 1, &[1, 1, 2, 2]);
        log.purge(LogPosition { index: 3, term: 2 }, Box::new(|purged| purged.unwrap()));
        for index in [1, 2, 3] {
            forget_superseded(&log, Some(Position { term: 2, index }));
            assert_eq!(log.state().last, Some(LogPosition { index: 4, term: 2 }));
        }
    }
}
