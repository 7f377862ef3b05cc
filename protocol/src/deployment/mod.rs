//! The `deployment` protocol: a license key activated by a cluster of machines, kept by heartbeats.
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] | requests and answers of `/v1/license/*` |
//! | [`telemetry`] | `/v1/telemetry`: exact amounts, usage and upgrade hints |
//! | [`refusal`] | the one table of statuses, codes and sentences |
//! | [`token`] | the access token of an activated cluster |
//! | [`license_key`], [`cluster_id`] | the two identifiers |
//! | [`client`] | what a program does with each answer, as a pure state machine |
//! | [`config`] | `LICENSE_*` variables and the `license:` section of a file |
//!
//! Source: the protocol document "BZZZ licensing"; where it only sketches, the forms are ours.
//! Offline tokens are [`crate::offline`]. What it leaves to others: who holds the slot and which
//! token version is in force (`lease`), HTTP (`node`, SDKs).

pub mod client;
pub mod cluster_id;
pub mod config;
pub mod license_key;
pub mod refusal;
pub mod telemetry;
pub mod token;
pub mod wire;

/// How often a cluster calls, as every answer tells it.
pub const HEARTBEAT_INTERVAL_SECONDS: u32 = 900;
/// How long a cluster may run after its last success while no server can be reached.
pub const OFFLINE_GRACE_SECONDS: u32 = 86_400;
/// After so long without a heartbeat the slot is free for another cluster.
pub const SLOT_TIMEOUT_SECONDS: u32 = 86_400;
