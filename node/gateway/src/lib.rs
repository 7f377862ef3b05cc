//! The HTTP face of a node: every call of applications and operators, over HTTPS.
//!
//! ```text
//! server ─ gateway ─ routes ─ auth ─ calls/* ─ shared ─▶ raft::Cluster ─▶ lease::Ledger
//!  TLS,     request   one      who    request   submit,
//!  limits   in, out   table    asks   ─▶ command  read
//! ```
//!
//! One table ([`routes::operations`]) lists everything that can be asked; the router, the OpenAPI
//! document ([`openapi::document`]) and the tests that walk every route with every wrong credential
//! are made from it. Each protocol turns its requests into commands and outcomes into its own
//! bodies with a complete table from refusal to status (`refusal`); none of them decides anything.
//!
//! What it leaves to others: opening files, keys and peer links (`node`), consensus (`raft`), the
//! rules (`lease`), the forms of everything on the wire (`protocol`).

// The tests inside share one file with those around the crate.
#[cfg(test)]
#[path = "../tests/it/keys.rs"]
mod test_keys;

mod address;
mod auth;
mod authority;
mod call;
mod calls;
mod consistency;
mod context;
mod control;
mod credentials;
mod deadline;
mod docs;
mod face;
mod failure;
mod gateway;
mod keys;
mod licensing;
mod metrics;
mod metrics_pools;
mod metrics_watched;
pub mod openapi;
mod peppers;
mod rates;
mod refusal;
mod reply;
mod route_table;
pub mod routes;
mod server;
mod shared;
mod signer;
mod status;
mod tokens;
mod trace;
mod view;

pub use address::{NotANetwork, PeerAddress, ProxyNetwork};
pub use authority::{AuthorityError, CertificateAuthority, CertificateSubject, pinned_anchor};
pub use calls::device::record_of as session_record;
pub use context::{ClassicFace, Faces, GatewayConfig, GatewayContext, PeerProbe};
pub use control::{CertificateFacts, LocalAlarm, NodeControl, NodeFacts, NodeOrder, OrderError};
pub use credentials::{
    CLIENT_SECRET_PREFIX, OPERATOR_TOKEN_PREFIX, client_secret_mac, new_api_key, new_client_secret,
    new_operator_token, operator_token_mac,
};
pub use gateway::Gateway;
pub use keys::{DeviceSigner, Keys, KeysCell, NewAuthority, OfflineSigner, Vault, VaultError};
pub use peppers::Peppers;
pub use rates::{Rate, RateLimits};
pub use server::{ClientCertificate, ListenerLimits, tls_config};
pub use signer::{SignerError, TokenSigner};
pub use status::{ClusterStatus, NodeStatus, Role, node_report};
