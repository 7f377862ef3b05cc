//! The data key in every version that a node has opened.
//!
//! What is new is sealed under the newest; what is there is opened by whichever version fits. A
//! replaced data key comes with all secrets sealed anew, so secrets need the newest alone; what
//! records keep secret is sealed anew one by one, and needs the older ones until that is done.

use std::collections::BTreeMap;

use lease::Ledger;
use lease::command::{SealedSecret, WrappedDataKey};
use lease::ids::NodeId;
use protocol::secret::Secret;
use storage::seam::Entropy;

use super::kek::KeyEncryptionKey;
use super::{DataKey, SealError};

/// At least one version.
pub(crate) struct Keyring {
    older: BTreeMap<u32, DataKey>,
    newest: DataKey,
}

impl Keyring {
    /// One version alone.
    #[cfg(test)]
    pub(crate) fn of(newest: DataKey) -> Self {
        Self { older: BTreeMap::new(), newest }
    }

    /// Opens every version that is wrapped to a node; `None` when none is.
    pub(crate) fn unwrap(
        ledger: &Ledger,
        cluster_id: &str,
        node: NodeId,
        kek: &KeyEncryptionKey,
    ) -> Result<Option<Self>, SealError> {
        let mut opened = BTreeMap::new();
        for version in ledger.data_key_versions(node) {
            if let Some(wrap) = ledger.wrapped_data_key(node, version) {
                opened.insert(version, DataKey::unwrap(cluster_id, node, kek, wrap)?);
            }
        }
        Ok(opened.pop_last().map(|(_, newest)| Self { older: opened, newest }))
    }

    /// What seals.
    pub(crate) fn newest(&self) -> &DataKey {
        &self.newest
    }

    /// Every version, oldest first.
    pub(crate) fn versions(&self) -> Vec<u32> {
        self.older.keys().copied().chain([self.newest.version()]).collect()
    }

    /// Every version, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &DataKey> {
        [&self.newest].into_iter().chain(self.older.values().rev())
    }

    /// Opens a sealed secret, under whichever version it is.
    pub(crate) fn open(
        &self,
        cluster_id: &str,
        row: &SealedSecret,
    ) -> Result<Secret<Vec<u8>>, SealError> {
        let mut failure = None;
        for key in self.newest_first() {
            match key.open(cluster_id, row) {
                Ok(opened) => return Ok(opened),
                Err(error) => failure = Some(error),
            }
        }
        let what = format!("secret {}", row.name);
        Err(failure.unwrap_or(SealError::Unopenable { what }))
    }

    /// Every version, wrapped to a node.
    pub(crate) fn wrap_to(
        &self,
        cluster_id: &str,
        node: NodeId,
        kek_public: [u8; 32],
        entropy: &dyn Entropy,
    ) -> Result<Vec<WrappedDataKey>, SealError> {
        self.newest_first().map(|key| key.wrap(cluster_id, node, kek_public, entropy)).collect()
    }
}
