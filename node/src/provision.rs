//! Makes the files of a new cluster, offline: what its nodes need to find and to trust each other.
//!
//! ```text
//! DIR/ca.pem                       the CA's certificate
//! DIR/node-N/node.toml             the node's configuration
//! DIR/node-N/keys/                 0700; every file in it 0600
//!       kek.pem                    key-encryption key (X25519)
//!       token-signing.pem          signs access tokens (RSA)
//!       gateway.key, peer.key      TLS keys
//!       directory.ticket           allows one data directory to be made
//!       founding.toml              the founder only: the cluster's secrets, until it is founded
//! DIR/node-N/gateway.pem, peer.pem certificates
//! DIR/node-N/data/                 made by the node itself
//! ```
//!
//! The cluster's secrets exist in the clear in one file, the founder's, which it removes once they
//! are sealed in the log ([`crate::founding`]). The first operator token is returned and written
//! nowhere here; the founding file holds only its MAC.
//!
//! What it leaves to others: starting the nodes, adding nodes to a cluster that runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use gateway::TokenSigner;
use lease::ids::NodeId;
use protocol::mac::MacKey;
use protocol::secret::{Disclosed, Secret};
use serde::Deserialize;
use storage::seam::{Clock, Disk, Entropy, RealDisk, replace_file};
use thiserror::Error;

use crate::config::alarms::AlarmsFile;
use crate::config::file::{
    BootstrapFile, CheckpointsFile, ConfigFile, DEFAULT_LEAF_DAYS, Hex, KeysFile, LimitsFile,
    LogFile, MemberFile, Preset, ProtocolsFile, TlsFile,
};
use crate::config::{io_reason, read_private};
use crate::pki::{Authority, Issued, PkiError};
use crate::seal::kek::KeyEncryptionKey;
use crate::seal::{self, DataKey, random_secret};

/// A cluster to be made.
pub struct Plan {
    /// The client organisation that packages must be issued to.
    pub client_id: String,
    /// Its domain.
    pub org_domain: String,
    /// Timing between nodes.
    pub preset: Preset,
    /// Logging.
    pub log: LogFile,
    /// The faces that every node serves.
    pub protocols: ProtocolsFile,
    /// The nodes; the first one founds.
    pub nodes: Vec<NodePlan>,
}

/// One node of it.
pub struct NodePlan {
    /// Its number.
    pub id: NodeId,
    /// Where applications and operators connect.
    pub listen: SocketAddr,
    /// Where peers connect.
    pub peer_listen: SocketAddr,
}

/// What was made.
pub struct Provisioned {
    /// The cluster's new id.
    pub cluster_id: String,
    /// The first operator token, role admin. It is not kept anywhere.
    pub admin_token: Disclosed,
}

/// Why the files could not be made.
#[derive(Debug, Error)]
pub enum ProvisionError {
    /// The file system refused.
    #[error("{}: {reason}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A token-signing key could not be made.
    #[error("making a token-signing key failed")]
    Signer(#[from] gateway::SignerError),
    /// The configuration could not be written as TOML.
    #[error("writing a configuration failed")]
    Toml(#[from] toml::ser::Error),
}

/// Where a node's files are below the cluster's directory.
pub fn node_dir(dir: &Path, node: NodeId) -> PathBuf {
    dir.join(format!("node-{node}"))
}

/// Makes a cluster's files in an existing directory. `progress` is called with each node's id once
/// its files are there.
pub fn provision(
    dir: &Path,
    plan: &Plan,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    progress: &dyn Fn(NodeId),
) -> Result<Provisioned, ProvisionError> {
    let cluster_id = new_cluster_id(entropy);
    let authority = Authority::generate(&cluster_id, clock, entropy)?;
    write_public(&dir.join("ca.pem"), authority.certificate_pem())?;
    let mut members = Vec::new();
    let mut keks = Vec::new();
    for node in &plan.nodes {
        let kek = KeyEncryptionKey::generate(entropy);
        members.push(member_of(node, &kek, entropy));
        keks.push(kek);
    }
    for (at, node) in plan.nodes.iter().enumerate() {
        let home = node_dir(dir, node.id);
        let keys = home.join("keys");
        RealDisk.create_dir_all(&keys).map_err(failed(&keys))?;
        write_private(&keys.join("kek.pem"), keks[at].to_pem().expose())?;
        let signer = TokenSigner::generate()?;
        write_private(&keys.join("token-signing.pem"), signer.to_pem()?.expose())?;
        let gateway = issue_gateway(&authority, node, entropy)?;
        write_public(&home.join("gateway.pem"), &gateway.certificate_pem)?;
        write_private(&keys.join("gateway.key"), gateway.key_pem.expose())?;
        let peer = authority.issue_node(&cluster_id, node.id, entropy)?;
        write_public(&home.join("peer.pem"), &peer.certificate_pem)?;
        write_private(&keys.join("peer.key"), peer.key_pem.expose())?;
        write_private(&keys.join("directory.ticket"), "")?;
        let file = config_of(plan, &cluster_id, at, &members);
        write_public(&home.join("node.toml"), &toml::to_string(&file)?)?;
        progress(node.id);
    }
    let (founding, admin_token) = founding_text(&authority, entropy);
    if let Some(founder) = plan.nodes.first() {
        let path = node_dir(dir, founder.id).join("keys/founding.toml");
        write_private(&path, founding.expose())?;
    }
    Ok(Provisioned { cluster_id, admin_token })
}

/// The founder's secrets, read back.
pub struct Founding {
    /// Random incarnation of the cluster's first epoch.
    pub incarnation: u64,
    /// The data key.
    pub data_key: DataKey,
    /// Names the first operator token's row.
    pub operator: u64,
    /// Whose it is.
    pub operator_name: String,
    /// Its MAC under the operator pepper.
    pub operator_mac: [u8; 32],
    /// What is sealed under the data key, by name.
    pub secrets: BTreeMap<String, Secret<Vec<u8>>>,
}

/// Reads the founder's secrets; the error is a phrase.
pub fn read_founding(path: &Path) -> Result<Founding, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        version: u32,
        incarnation: Hex<8>,
        data_key: Secret<String>,
        operator: OperatorFile,
        secrets: BTreeMap<String, Secret<String>>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct OperatorFile {
        id: Hex<8>,
        name: String,
        token_mac: Hex<32>,
    }
    let text = read_private(path)?;
    let file: File = toml::from_str(text.expose()).map_err(|error| {
        // The message could quote the line, and with it a secret.
        let line = error.span().and_then(|span| text.expose().get(..span.start));
        format!("line {} is not understood", line.map_or(1, |text| text.lines().count().max(1)))
    })?;
    if file.version != FOUNDING_VERSION {
        return Err(format!("is of version {}, which this release does not know", file.version));
    }
    let bytes = |name: &str, text: &Secret<String>| {
        HEXLOWER
            .decode(text.expose().as_bytes())
            .map(Secret::new)
            .map_err(|_| format!("{name} is not hex"))
    };
    let data_key: [u8; 32] = bytes("data_key", &file.data_key)?
        .expose()
        .as_slice()
        .try_into()
        .map_err(|_| "data_key is not 32 bytes".to_owned())?;
    let mut secrets = BTreeMap::new();
    for (name, text) in &file.secrets {
        secrets.insert(name.clone(), bytes(name, text)?);
    }
    Ok(Founding {
        incarnation: file.incarnation.number(),
        data_key: DataKey::from_bytes(data_key),
        operator: file.operator.id.number(),
        operator_name: file.operator.name,
        operator_mac: file.operator.token_mac.0,
        secrets,
    })
}

/// The text of the founder's secrets, and the first operator token.
pub(crate) fn founding_text(
    authority: &Authority,
    entropy: &dyn Entropy,
) -> (Secret<String>, Disclosed) {
    let data_key = DataKey::generate(entropy);
    let pepper = random_secret(entropy);
    let admin_token = gateway::new_operator_token(entropy);
    let peppers = gateway::Peppers::first(MacKey::new(*pepper.expose()));
    let token_mac = gateway::operator_token_mac(&peppers, admin_token.expose());
    let ca_key = authority.key_pem();
    let keys = [
        (seal::LEASE_ID_MAC, random_secret(entropy)),
        (seal::RENEWAL_MAC, random_secret(entropy)),
        (seal::CLIENT_SECRET_PEPPER, random_secret(entropy)),
        (seal::OPERATOR_PEPPER, pepper),
    ];
    // Room for everything from the start: a text that grows leaves copies behind.
    let mut text = String::with_capacity(4096);
    text.push_str("# The secrets of a cluster that is about to be founded. The founder removes\n");
    text.push_str("# this file once they are sealed in the replicated log.\n");
    let mut line = |name: &str, bytes: &[u8]| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name} = \"{}\"", HEXLOWER.encode(bytes));
    };
    line("incarnation", &random::<8>(entropy));
    line("data_key", data_key.expose());
    let _ = writeln!(text, "version = {FOUNDING_VERSION}\n\n[operator]\nname = \"admin\"");
    let mut line = |name: &str, bytes: &[u8]| {
        let _ = writeln!(text, "{name} = \"{}\"", HEXLOWER.encode(bytes));
    };
    line("id", &random::<8>(entropy));
    line("token_mac", &token_mac);
    text.push_str("\n[secrets]\n");
    for (name, key) in &keys {
        let _ = writeln!(text, "{name} = \"{}\"", HEXLOWER.encode(key.expose()));
    }
    let _ =
        writeln!(text, "{} = \"{}\"", seal::CA_KEY, HEXLOWER.encode(ca_key.expose().as_bytes()));
    (Secret::new(text), admin_token)
}

fn member_of(node: &NodePlan, kek: &KeyEncryptionKey, entropy: &dyn Entropy) -> MemberFile {
    MemberFile {
        id: node.id,
        peer_address: node.peer_listen.to_string(),
        gateway_url: format!("https://{}", node.listen),
        region: String::new(),
        zone: String::new(),
        directory_incarnation: Hex(random(entropy)),
        kek_public: Hex(kek.public()),
    }
}

fn issue_gateway(
    authority: &Authority,
    node: &NodePlan,
    entropy: &dyn Entropy,
) -> Result<Issued, PkiError> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    if !addresses.contains(&node.listen.ip()) {
        addresses.push(node.listen.ip());
    }
    authority.issue_gateway(&["localhost"], &addresses, entropy)
}

/// Paths are relative to the file, so that the directory can be moved.
fn config_of(plan: &Plan, cluster_id: &str, at: usize, members: &[MemberFile]) -> ConfigFile {
    let (node, me) = (&plan.nodes[at], &members[at]);
    let founder = at == 0;
    ConfigFile {
        cluster_id: cluster_id.to_owned(),
        node_id: node.id,
        data_dir: "data".into(),
        listen: node.listen,
        peer_listen: node.peer_listen,
        peer_address: me.peer_address.clone(),
        gateway_url: me.gateway_url.clone(),
        region: String::new(),
        zone: String::new(),
        preset: plan.preset,
        tls: TlsFile {
            ca_cert: "../ca.pem".into(),
            gateway_cert: "gateway.pem".into(),
            gateway_key: "keys/gateway.key".into(),
            peer_cert: "peer.pem".into(),
            peer_key: "keys/peer.key".into(),
            leaf_days: DEFAULT_LEAF_DAYS,
        },
        keys: KeysFile {
            kek: Some("keys/kek.pem".into()),
            token_signing: "keys/token-signing.pem".into(),
        },
        log: plan.log.clone(),
        protocols: plan.protocols.clone(),
        limits: LimitsFile::default(),
        alarms: AlarmsFile::default(),
        checkpoints: CheckpointsFile::default(),
        snapshots: None,
        bootstrap: Some(BootstrapFile {
            founder,
            secrets: founder.then(|| "keys/founding.toml".into()),
            directory_ticket: "keys/directory.ticket".into(),
            client_id: plan.client_id.clone(),
            org_domain: plan.org_domain.clone(),
            members: members.to_vec(),
        }),
        join: None,
    }
}

/// Draws the id of a new cluster.
pub(crate) fn new_cluster_id(entropy: &dyn Entropy) -> String {
    format!("lh-{}", HEXLOWER.encode(&random::<8>(entropy)))
}

/// Random bytes.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    bytes
}

/// Writes a file of mode 0600, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), ProvisionError> {
    replace_file(&RealDisk, path, text.as_bytes()).map_err(failed(path))
}

/// Writes a file of mode 0644, whole or not at all.
pub(crate) fn write_public(path: &Path, text: &str) -> Result<(), ProvisionError> {
    replace_public(path, ".tmp", text).map_err(failed(path))
}

/// Replaces a file that others may read so that, after a crash at any point, the old or the new
/// text is there. On its way the new one has the file's name with that ending.
pub(crate) fn replace_public(path: &Path, ending: &str, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&temporary)?;
    // Whatever the process's mask of permissions is.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    RealDisk.rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| RealDisk.sync_dir(dir))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ProvisionError + use<> {
    let path = path.to_owned();
    move |error| ProvisionError::Io { path, reason: io_reason(&error) }
}

const FOUNDING_VERSION: u32 = 1;
