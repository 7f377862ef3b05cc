//! A node's first files on its own machine: the first node of a new cluster (`init`), one that
//! joins (`join`), one that takes the place of another on the same machine (`replace`).
//!
//! ```text
//! DIR/node.toml              the configuration, written last: what is there can be started
//! DIR/context.toml           where the cluster's gateways are, for the `leasehold` command
//! DIR/ca.pem, peer.pem, gateway.pem
//! DIR/keys/                  0700; every file in it 0600
//!       kek.pem, token-signing.pem, peer.key, gateway.key, directory.ticket
//!       founding.toml        `init` only: the cluster's secrets, until it is founded
//!       joining.toml         `join` only: what a repeat goes on with, until all is there
//! DIR/replacing.toml         `replace` only, 0600: the same
//! DIR/data/                  made by the node itself
//! ```
//!
//! Private keys are made where they stay. What it leaves to others: founding (`founding`), letting
//! a node in (`gateway`), starting it (`serve`).

mod init;
mod join;
mod replace;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use cli::local::{Failed, Told, ToldPart, Trouble, conclude};
use cli::{AddressArgs, Exit, GlobalOptions, InitArgs, JoinArgs, ReplaceMemberArgs, TimingPreset};
use gateway::TokenSigner;
use lease::ids::NodeId;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use storage::seam::{Disk, RealDisk};

use crate::config::file::{ConfigFile, Preset};
use crate::config::{self, chain, io_reason};
use crate::provision::{write_private, write_public};

/// `leasehold cluster init`
pub(crate) fn init(args: &InitArgs, options: &GlobalOptions) -> Exit {
    crate::pki::install_provider();
    conclude(init::init(args).map_err(Failed::from), options)
}

/// `leasehold cluster join`
pub(crate) fn join(args: &JoinArgs, options: &GlobalOptions) -> Exit {
    crate::pki::install_provider();
    conclude(within_runtime(join::join(args, options)), options)
}

/// `leasehold member replace ID --config FILE`
pub(crate) fn replace(args: &ReplaceMemberArgs, config: &Path, options: &GlobalOptions) -> Exit {
    crate::pki::install_provider();
    conclude(within_runtime(replace::replace(args, config, options)), options)
}

fn within_runtime(work: impl Future<Output = Result<Told, Failed>>) -> Result<Told, Failed> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            let line = format!("the runtime cannot be started: {error}");
            Err(Trouble::new(Exit::Failed, "failed", line).into())
        }
    }
}

/// How others reach a node.
struct Reached {
    gateway_url: String,
    peer_address: String,
}

impl Reached {
    /// What was said, or else this machine's name and the ports that the node listens on.
    fn of(args: &AddressArgs) -> Result<Self, Trouble> {
        let at = |address: SocketAddr| match address.ip() {
            ip if ip.is_unspecified() => format!("{}:{}", own_name(), address.port()),
            _ => address.to_string(),
        };
        let gateway = args.advertise.clone().unwrap_or_else(|| at(args.listen));
        let peer_address = args.peer_advertise.clone().unwrap_or_else(|| match &args.advertise {
            Some(gateway) => {
                let host = gateway.rsplit_once(':').map_or(gateway.as_str(), |(host, _)| host);
                format!("{host}:{}", args.peer_listen.port())
            }
            None => at(args.peer_listen),
        });
        let gateway_url = format!("https://{gateway}");
        config::check_addresses(&gateway, &gateway_url)
            .and_then(|()| config::check_addresses(&peer_address, &gateway_url))
            .map_err(|reason| usage(format!("{reason}; see --advertise and --peer-advertise")))?;
        Ok(Self { gateway_url, peer_address })
    }

    /// The names and addresses that a gateway's certificate must have.
    fn gateway_host(&self) -> String {
        let host = self.gateway_url.trim_start_matches("https://");
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }
}

/// This machine's name.
fn own_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A node's configuration: what is not said here is left at its default.
fn config_file(
    args: &AddressArgs,
    reached: &Reached,
    preset: TimingPreset,
    (cluster_id, node): (&str, NodeId),
) -> Result<ConfigFile, Trouble> {
    let text = format!(
        "cluster_id = {cluster_id:?}\nnode_id = {node}\ndata_dir = \"data\"\nlisten = \"{}\"\n\
         peer_listen = \"{}\"\npeer_address = {:?}\ngateway_url = {:?}\n\
         [tls]\nca_cert = \"ca.pem\"\ngateway_cert = \"gateway.pem\"\n\
         gateway_key = \"keys/gateway.key\"\npeer_cert = \"peer.pem\"\n\
         peer_key = \"keys/peer.key\"\n\
         [keys]\nkek = \"keys/kek.pem\"\ntoken_signing = \"keys/token-signing.pem\"\n",
        args.listen, args.peer_listen, reached.peer_address, reached.gateway_url,
    );
    let mut file: ConfigFile = toml::from_str(&text).map_err(|error| failed(&error))?;
    file.region.clone_from(&args.region);
    file.zone.clone_from(&args.zone);
    for (place, own) in [
        (&mut file.tls.gateway_cert, &args.gateway_cert),
        (&mut file.tls.gateway_key, &args.gateway_key),
    ] {
        if let Some(own) = own {
            *place = std::path::absolute(own).map_err(|error| at(own, &error))?;
        }
    }
    file.preset = match preset {
        TimingPreset::Lan => Preset::Lan,
        TimingPreset::Region => Preset::Region,
        TimingPreset::Global => Preset::Global,
    };
    Ok(file)
}

/// Checks what can be known of a configuration before anything is made or asked for: what is wrong
/// later costs an invitation.
fn check_early(path: &Path, file: &ConfigFile, has_gateway_cert: bool) -> Result<(), Trouble> {
    let text = toml::to_string(file).map_err(|error| failed(&error))?;
    config::check_early(path, &text, has_gateway_cert).map_err(|error| usage(error.to_string()))
}

/// A configuration's text, once a start would take it at that path: everything that it names is
/// there.
fn checked(path: &Path, file: &ConfigFile) -> Result<String, Trouble> {
    let text = toml::to_string(file).map_err(|error| failed(&error))?;
    let clock = storage::seam::RealClock::new();
    match config::check(path.to_owned(), &text, &clock) {
        Ok(_) => Ok(text),
        Err(error) => Err(usage(error.to_string())),
    }
}

/// Writes the text of a configuration.
fn write_config(path: &Path, text: &str) -> Result<(), Trouble> {
    storage::seam::replace_file(&RealDisk, path, text.as_bytes()).map_err(|error| at(path, &error))
}

/// Where the cluster is, for the `leasehold` command; it holds no token.
fn write_context(dir: &Path, servers: &[String], ca_cert: &str) -> Result<(), Trouble> {
    let servers: Vec<String> = servers.iter().map(|server| format!("{server:?}")).collect();
    let text = format!("server = [{}]\nca_cert = {ca_cert:?}\n", servers.join(", "));
    private(&dir.join(CONTEXT), &text)
}

/// Makes the private key of a certificate, or finds the one that was made before.
fn key_pair(path: &Path) -> Result<KeyPair, Trouble> {
    if path.exists() {
        let text = config::read_private(path).map_err(|reason| named(path, &reason))?;
        return KeyPair::from_pem(text.expose()).map_err(|error| failed(&error));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| failed(&error))?;
    let text = protocol::secret::Secret::new(key.serialize_pem());
    private(path, text.expose())?;
    Ok(key)
}

/// A request (PEM) to certify a key. What a certificate says is decided by who makes it.
fn certificate_request(key: &KeyPair) -> Result<String, Trouble> {
    let request = CertificateParams::default().serialize_request(key);
    request.and_then(|request| request.pem()).map_err(|error| failed(&error))
}

/// Makes a token-signing key unless it is there.
fn token_signing_key(path: &Path) -> Result<(), Trouble> {
    if path.exists() {
        return Ok(());
    }
    let pem = TokenSigner::generate().and_then(|signer| signer.to_pem());
    private(path, pem.map_err(|error| failed(&error))?.expose())
}

fn make_dir(path: &Path) -> Result<(), Trouble> {
    RealDisk.create_dir_all(path).map_err(|error| at(path, &error))
}

fn private(path: &Path, text: &str) -> Result<(), Trouble> {
    write_private(path, text).map_err(|error| failed(&error))
}

fn public(path: &Path, text: &str) -> Result<(), Trouble> {
    write_public(path, text).map_err(|error| failed(&error))
}

/// A directory that is not there, or has nothing in it.
fn is_unused(path: &Path) -> Result<bool, Trouble> {
    match fs::read_dir(path) {
        Ok(entries) => Ok(entries.count() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(at(path, &error)),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The line of a service's unit, for machines that have systemd.
fn unit_hint(config: &Path) -> Vec<ToldPart> {
    let program = std::env::current_exe().unwrap_or_else(|_| "leasehold".into());
    vec![
        line(format!("Start it:  leasehold serve --config {}", config.display())),
        line(format!(
            "With systemd: ExecStart={} serve --config {} and Restart=on-failure in its unit",
            program.display(),
            config.display()
        )),
    ]
}

fn line(text: impl Into<String>) -> ToldPart {
    ToldPart::Line(text.into())
}

fn usage(line: impl Into<String>) -> Trouble {
    Trouble::new(Exit::Usage, "usage", line)
}

fn failed(error: &dyn std::error::Error) -> Trouble {
    Trouble::new(Exit::Failed, "failed", chain(error))
}

fn at(path: &Path, error: &io::Error) -> Trouble {
    named(path, &io_reason(error))
}

fn named(path: &Path, reason: &str) -> Trouble {
    Trouble::new(Exit::Usage, "file", format!("{}: {reason}", path.display()))
}

/// The configuration.
const CONFIG: &str = "node.toml";
/// Where the gateways are.
const CONTEXT: &str = "context.toml";
/// Private keys.
const KEYS: &str = "keys";

#[cfg(test)]
mod tests;
