//! How a node remembers: the write-ahead log, the state store and snapshot files.
//!
//! The only crate that names sled. It knows nothing of consensus: the log holds opaque payloads by
//! index and term, the state store holds rows of the ledger by table and key.

mod blob;
pub mod log;
pub mod seam;
pub mod snapshot;
pub mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
