//! Where a program keeps what it needs when no server can be reached.
//!
//! An [`OfflineStore`] holds small named documents. What is in them is the client's: each is
//! sealed by a MAC under the application's secret, so a changed byte is found whatever the store.
//! [`FileStore`] is a directory; [`MemoryStore`] keeps nothing beyond the process.

pub(crate) mod file;

use std::collections::BTreeMap;
use std::io;

use parking_lot::Mutex;

pub use file::FileStore;

/// A place for small named documents. Names are 1 to 200 characters of `A-Z a-z 0-9 . _ -`, and
/// begin with a letter or digit. Calls may block; they are made on threads that may wait.
pub trait OfflineStore: Send + Sync + 'static {
    /// The document of this name; `None` when there is none.
    ///
    /// # Errors
    /// When the store cannot say.
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Writes a document whole or not at all, replacing one of the same name; durable when it
    /// returns.
    ///
    /// # Errors
    /// When it could not be written; the former document is then still there.
    fn save(&self, name: &str, document: &[u8]) -> io::Result<()>;

    /// Removes a document; one that is not there is fine.
    ///
    /// # Errors
    /// When it could not be removed.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Keeps documents as long as the process lives.
#[derive(Debug, Default)]
pub struct MemoryStore {
    documents: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl OfflineStore for MemoryStore {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.documents.lock().get(name).cloned())
    }

    fn save(&self, name: &str, document: &[u8]) -> io::Result<()> {
        self.documents.lock().insert(name.to_owned(), document.to_vec());
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.documents.lock().remove(name);
        Ok(())
    }
}

/// A store that several clients may share.
impl<T: OfflineStore> OfflineStore for std::sync::Arc<T> {
    fn load(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (**self).load(name)
    }

    fn save(&self, name: &str, document: &[u8]) -> io::Result<()> {
        (**self).save(name, document)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }
}
