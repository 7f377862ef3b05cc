//! What a node says of itself beyond consensus, and what it can be told to do.
//!
//! The node's own process implements [`NodeControl`] and lends it to its gateway. A gateway that is
//! asked about another node carries the question there by [`crate::PeerProbe`], over the peer link;
//! an order is told to the node it concerns and to no other. Orders are repeatable: each says what
//! state to reach, and reaching it again changes nothing.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How a node's process and machine stand. Fields are only added, each with a default, so that
/// nodes of two releases understand each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// Version of the binary.
    pub version: String,
    /// Whether it is on its way down by an order.
    pub draining: bool,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Bytes of the file system that holds the data directory.
    pub disk_total_bytes: u64,
    /// Bytes of it that this process may still write.
    pub disk_free_bytes: u64,
    /// Bytes in the data directory.
    pub data_bytes: u64,
    /// Free bytes below which nothing new is written.
    pub disk_reserve_bytes: u64,
    /// Certificates in use.
    pub certificates: Vec<CertificateFacts>,
    /// SHA-256 (hex) of the certificate authorities that it believes.
    pub anchors: Vec<String>,
    /// Newest version of the data key that it has opened; 0: sealed.
    pub data_key_version: u32,
    /// Timing preset of its configuration.
    pub preset: String,
    /// Unix seconds of the newest scheduled backup that was finished here; 0: none.
    pub last_backup_at_s: i64,
    /// Open file descriptors allowed.
    pub descriptors: u64,
    /// What the node finds wrong now, with itself and, leading, with others, whether or not it
    /// could be written into the log.
    pub alarms: Vec<LocalAlarm>,
}

/// Something that a node finds wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LocalAlarm {
    /// The node that it is about.
    pub node: u64,
    /// Its kind's name, as `NOSPACE`.
    pub kind: String,
    /// The measured value and the bound, for people.
    pub detail: String,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateFacts {
    /// `gateway` or `peer`.
    pub purpose: String,
    /// SHA-256 (hex) of the leaf.
    pub fingerprint: String,
    /// SHA-256 (hex) of the authority it chains to; empty where that is not one of the cluster's.
    pub issuer: String,
    /// First second of validity, Unix.
    pub not_before_s: i64,
    /// Last second of validity, Unix.
    pub not_after_s: i64,
    /// Whether the cluster renews it by itself: it came from the cluster's own authority.
    pub managed: bool,
    /// Host names, addresses and URIs that it is for.
    pub names: Vec<String>,
    /// Unix second at which it is renewed; 0: it is not managed.
    pub renew_at_s: i64,
}

/// What a node can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeOrder {
    /// Take no more work, hand leadership on, finish what is under way, and end the process.
    Drain,
    /// Read certificates, keys and roots from their files again.
    ReloadCertificates,
    /// Make new certificates from the cluster's issuing authority, and use them.
    RenewCertificates,
    /// Write a backup into the configured directory now.
    SaveSnapshot,
    /// Sign access tokens with new keys.
    RotateTokenKeys,
}

/// Why a node did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrderError {
    /// The node did not answer in time; it may have obeyed.
    #[error("the node did not answer")]
    Unreachable,
    /// It will not, as things stand: a sentence that says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// It tried, and failed: what went wrong.
    #[error("{0}")]
    Failed(String),
}

/// The node's process, as its gateway sees it.
pub trait NodeControl: Send + Sync + 'static {
    /// How it stands; cheap enough for every probe.
    fn facts(&self) -> NodeFacts;

    /// Carries out an order; the answer is a sentence that says what was done. An order to drain is
    /// answered before the process ends.
    fn perform(
        &self,
        order: NodeOrder,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>>;
}
