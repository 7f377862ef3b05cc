//! The one place where a node learns that it must not go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// A shared flag with a reason; the first reason stays.
#[derive(Debug, Clone)]
pub(crate) struct Fatal {
    reason: watch::Sender<Option<String>>,
    corrupt: Arc<AtomicBool>,
    removed: Arc<AtomicBool>,
}

impl Fatal {
    pub(crate) fn new() -> Self {
        Self { reason: watch::Sender::new(None), corrupt: Arc::default(), removed: Arc::default() }
    }

    /// This node has failed.
    pub(crate) fn fail(&self, reason: String) {
        self.reason.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(reason);
            }
            is_first
        });
    }

    /// This node's state is not what a majority has.
    pub(crate) fn corrupt(&self, reason: String) {
        self.corrupt.store(true, Ordering::Relaxed);
        self.fail(reason);
    }

    /// This node is a member no more.
    pub(crate) fn removed(&self, reason: String) {
        self.removed.store(true, Ordering::Relaxed);
        self.fail(reason);
    }

    /// Whether this node is a member no more.
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Whether the state was found damaged.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// The reason, if there is one.
    pub(crate) fn reason(&self) -> Option<String> {
        self.reason.borrow().clone()
    }

    /// Waits for a reason.
    pub(crate) async fn wait(&self) -> String {
        let mut reason = self.reason.subscribe();
        match reason.wait_for(Option::is_some).await {
            Ok(found) => found.clone().unwrap_or_default(),
            // The sender is in `self`.
            Err(_) => std::future::pending().await,
        }
    }
}
