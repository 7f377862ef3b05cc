//! The server side of `leasehold`: configuration, keys, peers, and the order in which a node
//! starts.
//!
//! | module | owns |
//! |---|---|
//! | `assembly` | how the parts of a node are put together |
//! | `authority` | the cluster's certificate authority, where this node can issue from it |
//! | `certificates` | what gateway and peer link show and believe, live |
//! | `backup` | snapshots, restore and recovery |
//! | [`config`] | `node.toml`: every error one line, before any socket opens |
//! | [`dev`] | a whole cluster on one machine |
//! | [`directory`] | the data directory: identity, lock, permissions |
//! | `enroll` | a node's first files: init, join, replace |
//! | [`founding`] | from empty nodes to a cluster that serves |
//! | `keyholder` | unsealing, the secrets a cluster makes itself, this node's signing key |
//! | [`logging`] | the node's log |
//! | `moved` | telling the others where a node is now |
//! | [`peer`] | HTTP/2 over mutual TLS between nodes |
//! | [`pki`] | certificates, and who a peer proves to be |
//! | [`program`] | the command line and its exit codes |
//! | [`provision`] | the files of a new cluster |
//! | [`seal`] | cluster secrets at rest |
//! | [`serve`] | a node from start to stop |
//! | `steward` | carrying over to consensus what the ledger says of members |
//! | `signing` | new token-signing keys |
//! | `watch` | what is wrong with the node, and room on its disk |

mod assembly;
mod authority;
mod backup;
mod certificates;
pub mod config;
mod control;
pub mod dev;
pub mod directory;
mod enroll;
pub mod founding;
mod keyholder;
pub mod logging;
mod manual;
mod moved;
pub mod peer;
pub mod pki;
pub mod program;
pub mod provision;
pub mod seal;
pub mod serve;
mod signing;
mod steward;
mod watch;
