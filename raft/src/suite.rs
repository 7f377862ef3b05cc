//! openraft's own suite for log storage and state machine, run over our adapters on real
//! directories. In the crate and not in `tests/it`, so that no openraft type has to be public.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use storage::log::{Log, LogConfig};
use storage::seam::{RealClock, RealDisk};
use storage::state::{StateConfig, StateStore};
use tempfile::TempDir;

use crate::fatal::Fatal;
use crate::log_store::LogStore;
use crate::replica::Replica;
use crate::state_machine::StateMachine;
use crate::types::TypeConfig;
use crate::workers::Workers;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (disk, clock) = (Arc::new(RealDisk), Arc::new(RealClock::new()));
        let log_config = LogConfig {
            segment_bytes: 64 << 10,
            ..LogConfig::new(dir.path().join("log"), [7; 16])
        };
        let (log, _) = Log::open(disk.clone(), clock.clone(), log_config).unwrap();
        let state_config =
            StateConfig { cache_bytes: 1 << 20, ..StateConfig::new(dir.path().join("state")) };
        let (store, _) = StateStore::open(disk, clock.clone(), state_config).unwrap();
        let replica = Replica::load(0, store, log.clone(), clock, Fatal::new()).unwrap();
        let log_store = LogStore::new(log, Workers::Threads, Fatal::new());
        Ok((dir, log_store, StateMachine::new(Arc::new(replica), Workers::Threads)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
