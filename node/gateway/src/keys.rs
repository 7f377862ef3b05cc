//! The cluster's own keys as a gateway uses them, and the cell they arrive in.
//!
//! Every node of a cluster holds the same four keys. They are stored sealed in the replicated
//! state; the `node` crate opens them with this node's key-encryption key and fills the
//! [`KeysCell`]. Until then the node is *sealed*: it votes and stores, and this crate answers 503.
//!
//! What it leaves to others: sealing and unsealing (`node`), the forms of lease ids and renewal
//! tokens (`protocol`).

use std::sync::Arc;

use parking_lot::RwLock;
use protocol::mac::MacKey;

/// The keys that must be equal on every node.
pub struct Keys {
    /// Makes and recognises lease ids (`lease-id-mac`).
    pub lease_id: MacKey,
    /// Makes and recognises renewal tokens (`renewal-mac`).
    pub renewal: MacKey,
    /// Peppers the stored form of client secrets (`client-secret-pepper`).
    pub client_secret_pepper: MacKey,
    /// Peppers the stored form of operator tokens (`operator-pepper`).
    pub operator_pepper: MacKey,
}

/// Where the keys appear once the node is unsealed. Cheap to read on every request.
#[derive(Default)]
pub struct KeysCell(RwLock<Option<Arc<Keys>>>);

impl KeysCell {
    /// A sealed node's cell.
    pub fn sealed() -> Self {
        Self::default()
    }

    /// Puts the keys in; from now on requests are served.
    pub fn unseal(&self, keys: Keys) {
        *self.0.write() = Some(Arc::new(keys));
    }

    /// The keys, or `None` while sealed.
    pub fn get(&self) -> Option<Arc<Keys>> {
        self.0.read().clone()
    }
}
