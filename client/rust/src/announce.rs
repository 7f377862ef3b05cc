//! Telling the verdict on an installed license: to whoever asks, waits or wants to be called back.
//!
//! Shared by the clients of the device, deployment and evaluation protocols, which have one license
//! each; a lease tells its own. A callback of the host runs on a thread that may wait, and what it
//! does there, a panic included, stays there.

use std::fmt;

use tokio::sync::watch;

use crate::error::Error;
use crate::verdict::Verdict;
use crate::worker::Worker;

/// The last verdict that was told.
pub(crate) struct Announcer {
    published: watch::Sender<Verdict>,
}

/// Follows the verdict on an installed license; does not keep its client.
#[derive(Clone)]
pub struct VerdictFeed {
    published: watch::Receiver<Verdict>,
}

impl Announcer {
    /// Begins with a verdict that is told to nobody.
    pub(crate) fn new(verdict: Verdict) -> Self {
        Self { published: watch::Sender::new(verdict) }
    }

    /// Tells a verdict, where it is another than the last.
    pub(crate) fn tell(&self, protocol: &'static str, verdict: &Verdict) {
        self.published.send_if_modified(|published| {
            let is_new = published != verdict;
            if is_new {
                tracing::info!(protocol, %verdict, "the verdict on a license changed");
                published.clone_from(verdict);
            }
            is_new
        });
    }

    /// Follows what is told from now on.
    pub(crate) fn feed(&self) -> VerdictFeed {
        VerdictFeed { published: self.published.subscribe() }
    }

    /// Calls back at every change from now on, in order, until the client is gone.
    pub(crate) fn call_back(
        &self,
        worker: &Worker,
        callback: impl FnMut(&Verdict) + Send + 'static,
    ) -> Result<(), Error> {
        let callback = std::sync::Arc::new(parking_lot::Mutex::new(callback));
        let mut feed = self.feed();
        worker.spawn(async move {
            while let Some(verdict) = feed.changed().await {
                let callback = std::sync::Arc::clone(&callback);
                let told = tokio::task::spawn_blocking(move || (*callback.lock())(&verdict)).await;
                if told.is_err() {
                    tracing::error!("a callback of the host panicked; the license client goes on");
                }
            }
        })
    }
}

impl VerdictFeed {
    /// The verdict that was told last.
    pub fn current(&self) -> Verdict {
        self.published.borrow().clone()
    }

    /// Waits for the next change; fast ones may be told as one. `None` once the client is gone.
    pub async fn changed(&mut self) -> Option<Verdict> {
        self.published.changed().await.ok()?;
        Some(self.published.borrow_and_update().clone())
    }
}

impl fmt::Debug for VerdictFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerdictFeed").field(&self.current()).finish()
    }
}
