//! The server side of `leasehold`: configuration, keys, peers, and the order in which a node starts.
//!
//! | module | owns |
//! |---|---|
//! | [`config`] | `node.toml`: every error one line, before any socket opens |
//! | [`directory`] | the data directory: identity, lock, permissions |
//! | [`peer`] | HTTP/2 over mutual TLS between nodes |
//! | [`pki`] | certificates, and who a peer proves to be |
//! | [`provision`] | the files of a new cluster |
//! | [`seal`] | cluster secrets at rest |

pub mod config;
pub mod directory;
pub mod peer;
pub mod pki;
pub mod provision;
pub mod seal;
