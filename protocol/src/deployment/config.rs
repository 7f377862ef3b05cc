//! What a program is configured with: `LICENSE_*` variables, and the `license:` section of a file.
//!
//! A variable goes before the file, the file before the default; an empty variable is absent. The
//! caller brings the variables as a map and the section already read (YAML, JSON or TOML).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::cluster_id::is_cluster_id;
use super::license_key::LicenseKey;
use super::{HEARTBEAT_INTERVAL_SECONDS, OFFLINE_GRACE_SECONDS};
use crate::wire::UtcTime;

/// Where the server is.
pub const SERVER_URL: &str = "LICENSE_SERVER_URL";
/// The key.
pub const KEY: &str = "LICENSE_KEY";
/// The cluster.
pub const CLUSTER_ID: &str = "CLUSTER_ID";
/// Hours to go on while no server can be reached.
pub const OFFLINE_GRACE_HOURS: &str = "LICENSE_OFFLINE_GRACE_HOURS";
/// Minutes between heartbeats.
pub const HEARTBEAT_INTERVAL_MINUTES: &str = "LICENSE_HEARTBEAT_INTERVAL_MINUTES";
/// Longest grace that may be configured: 30 days.
pub const MAX_GRACE_HOURS: u32 = 720;
/// Longest pause between heartbeats: less than the day after which the slot is free.
pub const MAX_HEARTBEAT_MINUTES: u32 = 720;

/// The `license:` section of a configuration file. Times are shown and stored, not judged by,
/// except `expires_at`; the access token is never in a file.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FileConfig {
    /// Where the server is.
    pub server_url: Option<String>,
    /// The key.
    pub license_key: Option<LicenseKey>,
    /// The cluster; made once, kept.
    pub cluster_id: Option<String>,
    /// Who set up.
    pub email: Option<String>,
    /// For whom.
    pub organization_name: Option<String>,
    /// The plan.
    pub license_type: Option<String>,
    /// Most nodes; 0 is no limit.
    pub max_nodes: Option<u32>,
    /// What may be used.
    pub features: Vec<String>,
    /// When the license ends.
    #[serde(deserialize_with = "super::wire::optional_time")]
    pub expires_at: Option<UtcTime>,
    /// When the server last said so.
    #[serde(deserialize_with = "super::wire::optional_time")]
    pub validated_at: Option<UtcTime>,
    /// When the terms were accepted.
    #[serde(deserialize_with = "super::wire::optional_time")]
    pub terms_accepted_at: Option<UtcTime>,
    /// Hours to go on while no server can be reached.
    pub offline_grace_hours: Option<u32>,
    /// Minutes between heartbeats.
    pub heartbeat_interval_minutes: Option<u32>,
}

/// What is in force.
pub struct Config {
    /// Where the server is; no slash at the end.
    pub server_url: String,
    /// The key; `None` before setup.
    pub license_key: Option<LicenseKey>,
    /// The cluster; `None` before setup.
    pub cluster_id: Option<String>,
    /// When the license ends, as far as the file knows.
    pub expires_at: Option<UtcTime>,
    /// What may be used, as far as the file knows.
    pub features: Vec<String>,
    /// Most nodes, as far as the file knows; 0 is no limit.
    pub max_nodes: u32,
    /// How long to go on while no server can be reached.
    pub offline_grace_ms: i64,
    /// How often to call.
    pub heartbeat_interval_ms: i64,
}

/// A setting that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name}: {reason}")]
pub struct ConfigError {
    /// Which one.
    pub name: &'static str,
    /// What would do.
    pub reason: String,
}

/// Why a program cannot run licensed, found before any call; the texts are the document's.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NotLicensed {
    /// No key.
    #[error("no license key configured")]
    NoKey,
    /// No cluster id.
    #[error("no cluster ID configured")]
    NoClusterId,
    /// The license's end has come.
    #[error("license expired on {}", super::refusal::date(*at))]
    Expired {
        /// When.
        at: UtcTime,
    },
    /// The server refused, or could not be reached and there is no grace.
    #[error("license activation failed: {0}")]
    ActivationFailed(String),
    /// More nodes than the license allows.
    #[error("{}", super::refusal::node_limit_text(*nodes, *max_nodes))]
    TooManyNodes {
        /// How many there are.
        nodes: u32,
        /// How many there may be.
        max_nodes: u32,
    },
}

impl Config {
    /// Variables before the file before the defaults.
    pub fn resolve(
        variables: &BTreeMap<String, String>,
        file: FileConfig,
    ) -> Result<Self, ConfigError> {
        let variable = |name: &str| {
            variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
        };
        let wrong =
            |name, reason: &dyn std::fmt::Display| ConfigError { name, reason: reason.to_string() };
        let server_url = variable(SERVER_URL).map(str::to_owned).or(file.server_url);
        let server_url = server_url.ok_or_else(|| wrong(SERVER_URL, &"no server is configured"))?;
        let license_key = match variable(KEY) {
            Some(text) => Some(text.parse().map_err(|error| wrong(KEY, &error))?),
            None => file.license_key,
        };
        let cluster_id = variable(CLUSTER_ID).map(str::to_owned).or(file.cluster_id);
        let cluster_id = cluster_id.filter(|id| !id.is_empty());
        if cluster_id.as_deref().is_some_and(|id| !is_cluster_id(id)) {
            return Err(wrong(CLUSTER_ID, &"want 1 to 128 printable characters"));
        }
        let number = |name, from_file: Option<u32>, least: u32, most: u32| {
            let text = variable(name).map(str::to_owned);
            let text = text.or_else(|| from_file.map(|number| number.to_string()));
            let Some(text) = text else { return Ok(None) };
            let number = text.parse::<u32>().ok().filter(|n| (least..=most).contains(n));
            number.map(Some).ok_or_else(|| wrong(name, &format_args!("want {least} to {most}")))
        };
        let grace_hours =
            number(OFFLINE_GRACE_HOURS, file.offline_grace_hours, 0, MAX_GRACE_HOURS)?;
        let minutes = number(
            HEARTBEAT_INTERVAL_MINUTES,
            file.heartbeat_interval_minutes,
            1,
            MAX_HEARTBEAT_MINUTES,
        )?;
        let grace_seconds = grace_hours.map_or(OFFLINE_GRACE_SECONDS, |hours| hours * 3_600);
        let interval_seconds = minutes.map_or(HEARTBEAT_INTERVAL_SECONDS, |minutes| minutes * 60);
        Ok(Self {
            server_url: server_url.trim_end_matches('/').to_owned(),
            license_key,
            cluster_id,
            expires_at: file.expires_at,
            features: file.features,
            max_nodes: file.max_nodes.unwrap_or(0),
            offline_grace_ms: i64::from(grace_seconds) * 1_000,
            heartbeat_interval_ms: i64::from(interval_seconds) * 1_000,
        })
    }

    /// What a runtime call needs, in the document's order of checks: key, cluster id, end.
    pub fn check(&self, now_ms: i64) -> Result<(&LicenseKey, &str), NotLicensed> {
        let key = self.license_key.as_ref().ok_or(NotLicensed::NoKey)?;
        let cluster_id = self.cluster_id.as_deref().ok_or(NotLicensed::NoClusterId)?;
        match self.expires_at {
            Some(at) if now_ms > at.unix_ms => Err(NotLicensed::Expired { at }),
            _ => Ok((key, cluster_id)),
        }
    }
}

/// Whether a cluster of so many nodes may run; a limit of 0 is none.
pub fn check_nodes(nodes: u32, max_nodes: u32) -> Result<(), NotLicensed> {
    if max_nodes > 0 && nodes > max_nodes {
        return Err(NotLicensed::TooManyNodes { nodes, max_nodes });
    }
    Ok(())
}
