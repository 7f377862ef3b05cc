//! What clients were told: every act that was acknowledged, with the times that its client knows.
//!
//! Every act is tried again with its key until it is answered, so in the end none is open; while a
//! client waits, its act is in no list. All times are nanoseconds of the test's own clock.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use leasehold_tests::holds::Hold;
use leasehold_tests::wait::LIVENESS;
use parking_lot::Mutex;
use tokio::sync::watch;

/// A lease that a client was given.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    /// Its fence.
    pub(crate) fence: String,
    /// When it was asked for, and when the answer had come.
    pub(crate) asked_ns: u64,
    pub(crate) from_ns: u64,
    /// When its return was sent, and when that was acknowledged.
    pub(crate) returning_ns: Option<u64>,
    pub(crate) is_returned: bool,
}

/// All that was acknowledged so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    /// Leases by id.
    pub(crate) grants: BTreeMap<String, Grant>,
    /// Ids of applications that were registered.
    pub(crate) apps: BTreeSet<String>,
}

/// The book that all clients write into.
#[derive(Debug)]
pub(crate) struct Book {
    pages: Mutex<Pages>,
    acknowledged: watch::Sender<u64>,
}

impl Book {
    pub(crate) fn new() -> Self {
        Self { pages: Mutex::default(), acknowledged: watch::Sender::new(0) }
    }

    /// Notes something that was acknowledged, and tells who waits for it.
    pub(crate) fn note(&self, act: impl FnOnce(&mut Pages)) {
        act(&mut self.pages.lock());
        self.acknowledged.send_modify(|acknowledged| *acknowledged += 1);
    }

    /// Notes that a return is sent: from now on the lease may end.
    pub(crate) fn is_returning(&self, lease_id: &str, now_ns: u64) {
        if let Some(grant) = self.pages.lock().grants.get_mut(lease_id) {
            grant.returning_ns = Some(now_ns);
        }
    }

    /// What stands in it now.
    pub(crate) fn pages(&self) -> Pages {
        self.pages.lock().clone()
    }

    /// Acts acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        *self.acknowledged.borrow()
    }

    /// Waits until so many more are acknowledged: returns in the moment of the last one.
    pub(crate) async fn so_many_more(&self, acts: u64) -> Result<()> {
        let mut acknowledged = self.acknowledged.subscribe();
        let enough = self.acknowledged() + acts;
        let waiting = acknowledged.wait_for(|so_far| *so_far >= enough);
        let waited = tokio::time::timeout(LIVENESS, waiting).await;
        waited.with_context(|| format!("{acts} acts in {LIVENESS:?}"))?.context("no book")?;
        Ok(())
    }
}

impl Pages {
    /// Leases that are definitely out: their grant was acknowledged, their return not begun.
    pub(crate) fn out(&self) -> BTreeSet<&str> {
        let grants = self.grants.iter().filter(|(_, grant)| grant.returning_ns.is_none());
        grants.map(|(id, _)| id.as_str()).collect()
    }

    /// Leases that are definitely back.
    pub(crate) fn back(&self) -> BTreeSet<&str> {
        let grants = self.grants.iter().filter(|(_, grant)| grant.is_returned);
        grants.map(|(id, _)| id.as_str()).collect()
    }

    /// For how long each seat was definitely held.
    pub(crate) fn holds(&self) -> Vec<Hold> {
        let hold = |(id, grant): (&String, &Grant)| Hold {
            lease_id: id.clone(),
            fence: grant.fence.clone(),
            quantity: 1,
            asked_ns: grant.asked_ns,
            from_ns: grant.from_ns,
            until_ns: grant.returning_ns.unwrap_or(u64::MAX),
        };
        self.grants.iter().map(hold).collect()
    }
}
