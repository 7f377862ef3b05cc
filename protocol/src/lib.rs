//! The contracts: what Leasehold says to vendors, applications and operators, byte by byte.
//!
//! Pure: no I/O, no clock, no randomness beyond what a caller brings (making an RSA key excepted,
//! see [`keys`]), no async. A gateway turns these types into commands; an SDK and the CLI use the
//! same types from the other side.
//!
//! | module | owns |
//! |---|---|
//! | [`strict_json`] | the loader and canonical bytes of signed documents |
//! | [`package`] | license packages: both layouts, policy, signatures, version ranges |
//! | [`keys`] | the gate for public keys; private keys |
//! | [`secret`], [`mac`] | secrets that cannot leak by accident; MAC keys |
//! | [`lease_id`], [`renewal`], [`fence`] | identifiers and tokens of leases |
//! | [`join_token`] | what a new node is handed |
//! | [`oauth`] | scopes, token requests, claims, key sets, metadata |
//! | [`cloud`] | every request and answer of the `cloud` protocol and of the admin API |
//! | [`device`] | the `device` protocol: wire, envelope, license payload, stored files, schedules |
//! | [`offline`] | offline tokens for every protocol, their key set, a clock's high-water mark |
//! | [`deployment`] | the `deployment` protocol: wire, errors, tokens, its client's rules |
//! | [`evaluation`] | the `evaluation` protocol: wire, signed license file, its client's rules |
//! | [`classic`] | the older borrow and return API: wire, request signatures, API keys |
//! | [`audit_segment`] | signed parts of the audit log |
//! | [`csv`] | tables as text for spreadsheets |
//! | [`wire`] | times, money and large numbers as JSON shows them |

pub mod audit_segment;
pub mod classic;
pub mod cloud;
pub mod csv;
pub mod deployment;
pub mod device;
pub mod evaluation;
pub mod fence;
pub mod join_token;
pub mod keys;
pub mod lease_id;
pub mod mac;
pub mod oauth;
pub mod offline;
pub mod package;
pub mod renewal;
pub mod secret;
pub mod strict_json;
pub mod wire;
