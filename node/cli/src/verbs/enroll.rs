//! What `cluster init`, `cluster join` and `member replace --config` are told about a node: where
//! its files are, where it listens, how others reach it. The node's own program does them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options of `cluster init`.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// The client organisation that license packages must be issued to
    #[arg(long, value_name = "ID")]
    pub client_id: String,
    /// Its domain
    #[arg(long, value_name = "DOMAIN")]
    pub org_domain: String,
    /// How far apart the nodes will be
    #[arg(long, value_enum, value_name = "PRESET", default_value_t = TimingPreset::Lan)]
    pub preset: TimingPreset,
    /// How long certificates are valid that the cluster makes itself, in days
    #[arg(
        long,
        value_name = "DAYS",
        default_value_t = 825,
        value_parser = clap::value_parser!(u32).range(1..=3650)
    )]
    pub leaf_days: u32,
    /// Where the node is and how it is reached.
    #[command(flatten)]
    pub node: AddressArgs,
}

/// Options of `cluster join`. The join token is given as `--token`, or in LEASEHOLD_TOKEN.
#[derive(Debug, Clone, Args)]
pub struct JoinArgs {
    /// How far apart the nodes are; the same on every node
    #[arg(long, value_enum, value_name = "PRESET", default_value_t = TimingPreset::Lan)]
    pub preset: TimingPreset,
    /// Where the node is and how it is reached.
    #[command(flatten)]
    pub node: AddressArgs,
}

/// Where a node is and how it is reached.
#[derive(Debug, Clone, Args)]
pub struct AddressArgs {
    /// Directory for its configuration, keys and data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/leasehold")]
    pub dir: PathBuf,
    /// Where it listens for applications and operators
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7401")]
    pub listen: SocketAddr,
    /// Where it listens for the other nodes
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7411")]
    pub peer_listen: SocketAddr,
    /// How applications reach it; this machine's name and the port of --listen when left out
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// How the other nodes reach it; as --advertise, with the port of --peer-listen
    #[arg(long, value_name = "HOST:PORT")]
    pub peer_advertise: Option<String>,
    /// Region label
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true)]
    pub region: String,
    /// Zone label
    #[arg(long, value_name = "LABEL", default_value = "", hide_default_value = true)]
    pub zone: String,
    /// A certificate chain of your own for applications to see, PEM; with --gateway-key
    #[arg(long, value_name = "PEM", requires = "gateway_key")]
    pub gateway_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "PEM", requires = "gateway_cert")]
    pub gateway_key: Option<PathBuf>,
}

/// How far apart nodes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TimingPreset {
    /// One data centre.
    Lan,
    /// One region.
    Region,
    /// Several continents.
    Global,
}
