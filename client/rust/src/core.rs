//! What all calls of one client share: the way to the servers, the access token, the offline store,
//! and the keys of checkouts whose answer was lost.

use std::sync::Arc;

use parking_lot::Mutex;
use protocol::mac::MacKey;
use tokio::sync::watch;

use crate::access::AccessTokens;
use crate::environment::{Deadline, Environment, nanoseconds};
use crate::error::Error;
use crate::kept::{self, Record};
use crate::network::Network;
use crate::store::OfflineStore;
use crate::transport::{Call, Reply, Timeouts};

/// Shared by a client, its leases and its background jobs.
pub(crate) struct Core {
    pub(crate) network: Network,
    pub(crate) access: AccessTokens,
    pub(crate) hostname: String,
    store: Option<Arc<dyn OfflineStore>>,
    store_key: MacKey,
    /// The published offline keys, as they were last fetched.
    pub(crate) offline_keys: tokio::sync::Mutex<Option<serde_json::Value>>,
    lost_keys: Mutex<Vec<LostKey>>,
    returns_pending: watch::Sender<usize>,
}

/// The idempotency key of a checkout that may have taken a seat nobody heard of.
struct LostKey {
    body: Vec<u8>,
    key: String,
    until_ns: u64,
}

/// Counts a lease that was dropped until it is given back.
pub(crate) struct PendingReturn(Arc<Core>);

impl Core {
    /// Takes the parts together.
    pub(crate) fn new(
        network: Network,
        access: AccessTokens,
        hostname: String,
        store: Option<Arc<dyn OfflineStore>>,
    ) -> Self {
        let store_key = kept::key(access.client_id(), access.client_secret());
        Self {
            network,
            access,
            hostname,
            store,
            store_key,
            offline_keys: tokio::sync::Mutex::new(None),
            lost_keys: Mutex::new(Vec::new()),
            returns_pending: watch::Sender::new(0),
        }
    }

    /// The machine.
    pub(crate) fn environment(&self) -> &dyn Environment {
        &**self.network.environment()
    }

    /// How long to wait for what.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.network.timeouts()
    }

    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.environment(), self.timeouts().total)
    }

    /// Sends a call in the application's name.
    pub(crate) async fn send(&self, call: Call, deadline: Deadline) -> Result<Reply, Error> {
        let transport = self.network.transport().await?;
        self.access.send(transport, self.environment(), call, deadline).await
    }

    /// Sends a call that needs no credentials.
    pub(crate) async fn send_open(&self, call: &Call) -> Result<Reply, Error> {
        self.network.transport().await?.send(call, self.deadline()).await
    }

    /// A new idempotency key.
    pub(crate) fn new_key(&self) -> Result<String, Error> {
        let mut bytes = [0; 16];
        self.environment()
            .random(&mut bytes)
            .map_err(|error| Error::machine("no randomness", &error))?;
        Ok(data_encoding::HEXLOWER.encode(&bytes))
    }

    /// The key of an equal checkout whose answer was lost a moment ago; it is given once.
    pub(crate) fn take_lost_key(&self, body: &[u8]) -> Option<String> {
        let now_ns = self.environment().monotonic_ns();
        let mut keys = self.lost_keys.lock();
        keys.retain(|lost| now_ns < lost.until_ns);
        let at = keys.iter().position(|lost| lost.body == body)?;
        Some(keys.swap_remove(at).key)
    }

    /// Remembers the key of a checkout whose answer was lost.
    pub(crate) fn keep_lost_key(&self, body: Vec<u8>, key: String) {
        let until_ns = self.environment().monotonic_ns().saturating_add(nanoseconds(LOST_KEY_LIFE));
        let mut keys = self.lost_keys.lock();
        if keys.len() == MAX_LOST_KEYS {
            keys.remove(0);
        }
        keys.push(LostKey { body, key, until_ns });
    }

    /// Counts a return that is to come.
    pub(crate) fn pending_return(self: &Arc<Self>) -> PendingReturn {
        self.returns_pending.send_modify(|pending| *pending += 1);
        PendingReturn(Arc::clone(self))
    }

    /// Waits until every dropped lease was given back, or that was given up.
    pub(crate) async fn no_return_pending(&self) {
        let mut pending = self.returns_pending.subscribe();
        // The sender lives in `self`.
        drop(pending.wait_for(|pending| *pending == 0).await);
    }

    /// Whether there is somewhere to keep offline tokens.
    pub(crate) fn has_store(&self) -> bool {
        self.store.is_some()
    }

    /// What is kept of a product's lease: nothing, a record, or why what is there is refused.
    pub(crate) async fn load(
        &self,
        product: &str,
    ) -> Result<Option<Result<Record, String>>, Error> {
        let name = kept::name(product);
        let document = self.in_store(move |store| store.load(&name)).await?.flatten();
        Ok(document.map(|document| Record::open(&document, &self.store_key)))
    }

    /// Keeps a record.
    pub(crate) async fn save(&self, record: &Record) -> Result<(), Error> {
        let document = record
            .seal(&self.store_key)
            .map_err(|reason| Error::machine("the offline record", &reason))?;
        let name = kept::name(&record.info.product);
        self.in_store(move |store| store.save(&name, &document)).await.map(drop)
    }

    /// Forgets what is kept of a lease; what another lease of the product has kept stays.
    pub(crate) async fn forget(&self, product: &str, lease_id: &str) -> Result<(), Error> {
        if let Some(Ok(record)) = self.load(product).await?
            && record.info.id != lease_id
        {
            return Ok(());
        }
        let name = kept::name(product);
        self.in_store(move |store| store.remove(&name)).await.map(drop)
    }

    /// Asks the store on a thread that may wait; `None` without a store.
    async fn in_store<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn OfflineStore) -> std::io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        let Some(store) = self.store.clone() else {
            return Ok(None);
        };
        match tokio::task::spawn_blocking(move || ask(&*store)).await {
            Ok(Ok(value)) => Ok(Some(value)),
            Ok(Err(error)) => Err(Error::machine("the offline store", &error)),
            Err(_) => Err(Error::machine("the offline store", &"it panicked")),
        }
    }
}

impl Drop for PendingReturn {
    fn drop(&mut self) {
        self.0.returns_pending.send_modify(|pending| *pending = pending.saturating_sub(1));
    }
}

/// How long the key of a lost answer is worth asking again with: the server remembers longer, but
/// the lease's end is counted from the first time.
const LOST_KEY_LIFE: std::time::Duration = std::time::Duration::from_secs(120);
/// Lost answers remembered at one time; the oldest are forgotten.
const MAX_LOST_KEYS: usize = 256;
