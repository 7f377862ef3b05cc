//! `node.toml` as it is written: every key, and nothing else.
//!
//! One set of types reads the file (unknown keys are errors) and writes it (`provision`), so that
//! what is generated is what is understood. Paths may be relative; they are then relative to the
//! directory of the file. 64-bit numbers that people copy are hex texts, since TOML's integers are
//! signed.
//!
//! What it leaves to others: whether values make sense ([`super::load`]).

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use gateway::{Rate, RateLimits};
use lease::ids::NodeId;
use serde::{Deserialize, Serialize};

use super::alarms::AlarmsFile;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The cluster's id, e.g. `lh-3f2a…`; part of every node's certificate.
    pub cluster_id: String,
    /// This node's number: counts up from 1, never reused.
    pub node_id: NodeId,
    /// Where the log and the state are kept.
    pub data_dir: PathBuf,
    /// Where the gateway listens for applications and operators.
    pub listen: SocketAddr,
    /// Where peers connect.
    pub peer_listen: SocketAddr,
    /// How peers reach this node, `host:port`.
    pub peer_address: String,
    /// How applications reach this node, `https://host:port`.
    pub gateway_url: String,
    /// Region label; may be empty.
    #[serde(default)]
    pub region: String,
    /// Zone label; may be empty.
    #[serde(default)]
    pub zone: String,
    /// Timing between nodes.
    #[serde(default)]
    pub preset: Preset,
    /// Certificates.
    pub tls: TlsFile,
    /// Private keys that are not TLS keys.
    pub keys: KeysFile,
    /// Logging.
    #[serde(default)]
    pub log: LogFile,
    /// The faces beside `cloud`.
    #[serde(default)]
    pub protocols: ProtocolsFile,
    /// How often callers may ask.
    #[serde(default)]
    pub limits: LimitsFile,
    /// When the node says that something is wrong.
    #[serde(default, skip_serializing_if = "AlarmsFile::is_default")]
    pub alarms: AlarmsFile,
    /// How often the state is written, and how much of the log is kept behind it.
    #[serde(default, skip_serializing_if = "CheckpointsFile::is_default")]
    pub checkpoints: CheckpointsFile,
    /// Backups that the node takes by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<SnapshotsFile>,
    /// How the cluster begins; read until it has been founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapFile>,
    /// How this node begins, which joined a cluster that ran; read until it has caught up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<JoinFile>,
}

/// How far apart the nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// One data centre: heartbeat 50 ms, election 200 to 300 ms.
    #[default]
    Lan,
    /// One region: heartbeat 150 ms, election 800 to 1,100 ms.
    Region,
    /// Several continents: heartbeat 500 ms, election 3,000 to 3,600 ms.
    Global,
}

/// `[tls]`: PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFile {
    /// The cluster's CA: what peers' certificates must chain to.
    pub ca_cert: PathBuf,
    /// Certificate chain shown to applications.
    pub gateway_cert: PathBuf,
    /// Its private key.
    pub gateway_key: PathBuf,
    /// Certificate chain shown to peers; names `spiffe://CLUSTER/node/ID`.
    pub peer_cert: PathBuf,
    /// Its private key.
    pub peer_key: PathBuf,
    /// How long certificates are valid that the cluster makes for this node, 1 to 3,650 days.
    #[serde(default = "default_leaf_days", skip_serializing_if = "is_default_leaf_days")]
    pub leaf_days: u32,
}

/// `[keys]`: private key files, outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysFile {
    /// X25519 key-encryption key. Without it the node is sealed: it votes and stores, and does not
    /// serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kek: Option<PathBuf>,
    /// RSA key that signs access tokens.
    pub token_signing: PathBuf,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFile {
    /// `text` for people, `json` for machines.
    #[serde(default)]
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    #[serde(default = "default_level")]
    pub level: LogLevel,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: default_level() }
    }
}

/// `[protocols]`: what is served beside `cloud`, and how. Equal on every node of a cluster, or
/// clients see what node they talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProtocolsFile {
    /// Whether the older borrow and return API exists.
    pub classic: bool,
    /// How long a seat borrowed there lasts; its clients never renew.
    pub classic_ttl_seconds: u64,
    /// Whether a return there must be signed like a borrow; the old clients send an id alone.
    pub classic_strict_return: bool,
    /// Whether the device protocol answers refusals with 200 and `success:false`.
    pub device_compat_200: bool,
    /// Addresses and networks (CIDR) of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for ProtocolsFile {
    fn default() -> Self {
        Self {
            classic: false,
            classic_ttl_seconds: 24 * 60 * 60,
            classic_strict_return: false,
            device_compat_200: false,
            trusted_proxies: Vec::new(),
        }
    }
}

/// `[limits]`: how often callers may ask this node. A rate of 0 is no bound; an application that an
/// operator gave a rate of its own has that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Requests a second of one application.
    pub app_requests_per_second: u32,
    /// Requests at once above that rate.
    pub app_burst: u32,
    /// Requests a second of one address that has not shown a good credential.
    pub address_requests_per_second: u32,
    /// Requests at once above that rate.
    pub address_burst: u32,
}

impl Default for LimitsFile {
    fn default() -> Self {
        let RateLimits { app, address } = RateLimits::default();
        let numbers = |rate: Option<Rate>| {
            rate.map_or((0, 0), |rate| (rate.per_second.get(), rate.burst.get()))
        };
        let (app_requests_per_second, app_burst) = numbers(app);
        let (address_requests_per_second, address_burst) = numbers(address);
        Self { app_requests_per_second, app_burst, address_requests_per_second, address_burst }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs a person.
    Error,
    /// What may need a person.
    Warn,
    /// What happens, one line per request.
    Info,
    /// How it happens.
    Debug,
    /// Everything.
    Trace,
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}

/// `[checkpoints]`: how often the state is written, and how much of the log is kept behind it. A
/// node that was away for longer than the log reaches is sent a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointsFile {
    /// Longest time between two, in seconds, while anything changes.
    pub every_seconds: u64,
    /// Entries kept in the log below one.
    pub keep_log_entries: u64,
}

impl CheckpointsFile {
    /// Whether everything is as it is without the table.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for CheckpointsFile {
    fn default() -> Self {
        Self { every_seconds: 30, keep_log_entries: 10_000 }
    }
}

/// `[snapshots]`: backups that the node takes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotsFile {
    /// Where they go; best on another file system than the data.
    pub directory: PathBuf,
    /// Between two, as `30m`, `6h` or `1d`.
    #[serde(default = "default_every")]
    pub every: String,
    /// How many are kept.
    #[serde(default = "default_keep")]
    pub keep: u32,
}

/// `[bootstrap]`: a new cluster's first members, the same on every one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapFile {
    /// Whether this node founds the cluster; exactly one does.
    #[serde(default)]
    pub founder: bool,
    /// The founder's secrets; the file is removed once the cluster is founded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<PathBuf>,
    /// Allows this node to create its data directory; the file is removed once it has. A node whose
    /// data directory is gone and that has no such file must be replaced.
    pub directory_ticket: PathBuf,
    /// The client organisation that packages must be issued to.
    pub client_id: String,
    /// Its domain.
    pub org_domain: String,
    /// The first members, this node included.
    pub members: Vec<MemberFile>,
}

/// One first member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// Its number.
    pub id: NodeId,
    /// How peers reach it, `host:port`.
    pub peer_address: String,
    /// How applications reach it.
    pub gateway_url: String,
    /// Region label.
    #[serde(default)]
    pub region: String,
    /// Zone label.
    #[serde(default)]
    pub zone: String,
    /// Incarnation of its data directory: 16 hex digits.
    pub directory_incarnation: Hex<8>,
    /// Public half of its key-encryption key: 64 hex digits.
    pub kek_public: Hex<32>,
}

/// `[join]`: what a node was told when it was let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinFile {
    /// As [`BootstrapFile::directory_ticket`].
    pub directory_ticket: PathBuf,
    /// Incarnation of its data directory, as the ledger has it: 16 hex digits.
    pub directory_incarnation: Hex<8>,
    /// The members there were, this node excepted.
    pub members: Vec<JoinPeerFile>,
}

/// A member that a new node can talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinPeerFile {
    /// Its number.
    pub id: NodeId,
    /// How peers reach it, `host:port`.
    pub peer_address: String,
}

/// Bytes written as hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl<const N: usize> fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const N: usize> std::str::FromStr for Hex<N> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        data_encoding::HEXLOWER_PERMISSIVE
            .decode(text.trim().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| format!("expected {} hex digits", 2 * N))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl Hex<8> {
    /// The number whose hex digits these are.
    pub fn number(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// Days for which certificates are valid where nothing else is said.
pub const DEFAULT_LEAF_DAYS: u32 = 825;

fn default_leaf_days() -> u32 {
    DEFAULT_LEAF_DAYS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_leaf_days(days: &u32) -> bool {
    *days == DEFAULT_LEAF_DAYS
}

fn default_every() -> String {
    "6h".to_owned()
}

fn default_keep() -> u32 {
    14
}

fn default_level() -> LogLevel {
    LogLevel::Info
}
