//! `snapshot restore`: a new cluster directory, with one node in it, from a snapshot file.
//!
//! Everything is made in a directory beside the one that was named, and gets its name by one
//! rename: a crash leaves nothing that could be started. Where the named directory is there (empty,
//! as a mounted volume is), it is made inside of it and moved out, `node.toml` last. The cluster
//! keeps its id, its authority and its secrets; the epoch, the node and every key of the node are
//! new.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cli::local::{Told, ToldPart, Trouble};
use cli::{Exit, GlobalOptions, RestoreArgs, TimingPreset};
use gateway::TokenSigner;
use lease::Ledger;
use lease::operate::EpochReason;
use raft::ClusterConfig;
use raft::offline::{self, Established};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::inspect::{self, Inspection};
use super::new_node::{
    NewNode, Place, Secrets, check_time, consequences, epoch_facts, gateway_certificate,
    not_certified, not_founded, opening_of,
};
use super::{World, fact, io_trouble, offline_trouble, unusable};
use crate::config::file::{ConfigFile, Preset};
use crate::config::{self, chain, read_private};
use crate::directory::{self, Identity};
use crate::pki::certificate_pem;
use crate::provision::{ProvisionError, write_private, write_public};
use crate::seal::kek::KeyEncryptionKey;

/// `leasehold snapshot restore`
pub(super) fn restore(
    args: &RestoreArgs,
    options: &GlobalOptions,
    world: &World,
) -> Result<Told, Trouble> {
    let dir = &args.node.dir;
    let home = std::path::absolute(dir).map_err(|error| io_trouble(dir, &error))?;
    refuse_used(&home)?;
    let reached = Reached::of(args)?;
    let found = inspect::read(&args.file)?;
    let kek = read_kek(&args.kek)?;
    let roots = read_roots(options.ca_cert.as_deref())?;
    let named = args.kek.display().to_string();
    let secrets = Secrets::open(&found.ledger, &kek, &named, &roots)?;
    check_time(&found.ledger, world.clock.wall_ms(), &args.known)?;
    let building = Building::begin(&home)?;
    let made = building.fill(args, &reached, &found, &secrets, &roots, world)?;
    building.finish(&home)?;
    Ok(report(&home, &found, &made))
}

/// How others will reach the node.
struct Reached {
    gateway_url: String,
    peer_address: String,
}

impl Reached {
    /// What was said, or else this machine's name and the ports it listens on.
    fn of(args: &RestoreArgs) -> Result<Self, Trouble> {
        let node = &args.node;
        let own_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let or = |advertised: &Option<String>, host: &str, port: u16| {
            advertised.clone().unwrap_or_else(|| format!("{host}:{port}"))
        };
        let gateway = or(&node.advertise, &own_name, node.listen.port());
        let host = gateway.rsplit_once(':').map_or(own_name.as_str(), |(host, _)| host);
        let peer_address = or(&node.peer_advertise, host, node.peer_listen.port());
        let gateway_url = format!("https://{gateway}");
        match config::check_addresses(&peer_address, &gateway_url) {
            Ok(()) => Ok(Self { gateway_url, peer_address }),
            Err(reason) => Err(unusable("usage", reason)),
        }
    }
}

/// The directory while it has no name yet.
struct Building {
    path: PathBuf,
    done: bool,
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.done {
            // What stays behind is not what was named, and is cleared away by the next attempt.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Building {
    fn begin(home: &Path) -> Result<Self, Trouble> {
        let path = if home.exists() {
            home.join(RESTORING)
        } else {
            let mut name = home.file_name().unwrap_or_default().to_owned();
            name.push(RESTORING);
            home.with_file_name(name)
        };
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| io_trouble(&path, &error))?;
        }
        let building = Self { path, done: false };
        let world = World::real();
        let made = world.disk.create_dir_all(&building.path.join(KEYS));
        made.map_err(|error| io_trouble(&building.path, &error))?;
        Ok(building)
    }

    /// Keys, certificates, configuration, data.
    fn fill(
        &self,
        args: &RestoreArgs,
        reached: &Reached,
        found: &Inspection,
        secrets: &Secrets,
        roots: &[CertificateDer<'static>],
        world: &World,
    ) -> Result<Made, Trouble> {
        let kek = KeyEncryptionKey::generate(&*world.entropy);
        let place = Place {
            node: args.node_id,
            peer_address: &reached.peer_address,
            gateway_url: &reached.gateway_url,
            region: &args.node.region,
            zone: &args.node.zone,
        };
        let NewNode { node, incarnation, opening } = secrets.plan(
            &found.ledger,
            &place,
            kek.public(),
            EpochReason::Restored,
            &args.known,
            &*world.entropy,
        )?;
        public(&self.path.join("ca.pem"), &anchors_pem(&found.ledger, roots))?;
        self.write_keys(args, reached, node, &kek, secrets, world)?;
        let data = self.path.join(DATA);
        let cluster = ClusterConfig::new(node, data.clone(), incarnation);
        let established = offline::establish(
            &cluster,
            world.disk.clone(),
            world.clock.clone(),
            chunks_of(&args.file)?,
            opening_of(opening, 0, &*world.entropy),
        )
        .map_err(|error| offline_trouble(&args.file, &error))?;
        let cluster_id = secrets.cluster_id().to_owned();
        let identity = Identity { cluster_id, node, incarnation };
        directory::write_identity(world.disk.as_ref(), &data, &identity)
            .map_err(|error| unusable("data_directory", error.to_string()))?;
        let file = config_file(args, reached, &identity)?;
        let text = toml::to_string(&file).map_err(|error| failed(&error))?;
        public(&self.path.join(CONFIG), &text)?;
        Ok(Made { node, established })
    }

    fn write_keys(
        &self,
        args: &RestoreArgs,
        reached: &Reached,
        node: u64,
        kek: &KeyEncryptionKey,
        secrets: &Secrets,
        world: &World,
    ) -> Result<(), Trouble> {
        let authority = secrets.authority(world)?;
        let keys = self.path.join(KEYS);
        private(&keys.join("kek.pem"), kek.to_pem().expose())?;
        let signer = TokenSigner::generate().map_err(|error| failed(&error))?;
        let signer = signer.to_pem().map_err(|error| failed(&error))?;
        private(&keys.join("token-signing.pem"), signer.expose())?;
        let peer = authority.issue_node(secrets.cluster_id(), node, &*world.entropy);
        let peer = peer.map_err(|error| not_certified(&error))?;
        public(&self.path.join("peer.pem"), &peer.certificate_pem)?;
        private(&keys.join("peer.key"), peer.key_pem.expose())?;
        if args.node.gateway_cert.is_some() {
            return Ok(());
        }
        let (url, listen) = (&reached.gateway_url, args.node.listen.ip());
        let gateway = gateway_certificate(&authority, url, listen, &*world.entropy)?;
        public(&self.path.join("gateway.pem"), &gateway.certificate_pem)?;
        private(&keys.join("gateway.key"), gateway.key_pem.expose())
    }

    fn finish(mut self, home: &Path) -> Result<(), Trouble> {
        let disk = storage::seam::RealDisk;
        let sync = |path: &Path| {
            storage::seam::Disk::sync_dir(&disk, path).map_err(|error| io_trouble(path, &error))
        };
        sync_files(&self.path)?;
        sync(&self.path)?;
        if self.path.parent() == Some(home) {
            move_out(&self.path, home)?;
            sync(home)?;
            let (from, to) = (self.path.join(CONFIG), home.join(CONFIG));
            fs::rename(&from, &to).map_err(|error| io_trouble(&to, &error))?;
            self.done = true;
            fs::remove_dir(&self.path).map_err(|error| io_trouble(&self.path, &error))?;
            return sync(home);
        }
        fs::rename(&self.path, home).map_err(|error| io_trouble(home, &error))?;
        self.done = true;
        home.parent().map_or(Ok(()), sync)
    }
}

/// Moves everything but the configuration, without which nothing starts.
pub(super) fn move_out(building: &Path, home: &Path) -> Result<(), Trouble> {
    let failed = |error: io::Error| io_trouble(home, &error);
    for entry in fs::read_dir(building).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name() != CONFIG {
            fs::rename(entry.path(), home.join(entry.file_name())).map_err(failed)?;
        }
    }
    Ok(())
}

/// What was made.
struct Made {
    node: u64,
    established: Established,
}

fn report(home: &Path, found: &Inspection, made: &Made) -> Told {
    let ledger = &made.established.ledger;
    let (mut json, lines) = consequences(ledger, found.ledger.clock().civil_ms);
    let config = home.join(CONFIG);
    json["directory"] = json!(home);
    json["config"] = json!(config);
    json["cluster_id"] = json!(ledger.cluster().map(|it| &*it.cluster_id));
    json["epoch"] = json!(ledger.cluster().map(|it| it.epoch));
    json["node_id"] = json!(made.node);
    json["index"] = json!(made.established.position.index.to_string());
    json["snapshot_index"] = json!(found.index().to_string());
    json["snapshot_civil_time"] = json!(found.civil_time().to_string());
    let next = [
        format!("leasehold serve --config {}", config.display()),
        "leasehold member add".to_owned(),
    ];
    json["next"] = json!(next);
    let mut facts = epoch_facts(ledger, made.node);
    facts.push(fact("state of", format!("{} (index {})", found.civil_time(), found.index())));
    facts.push(fact("directory", home.display()));
    let mut parts = vec![ToldPart::Facts(facts)];
    parts.extend(lines.into_iter().map(ToldPart::Line));
    parts.push(ToldPart::Line(format!("Next: {}", next[0])));
    parts.push(ToldPart::Line(format!("Then, for each further node: {}", next[1])));
    Told { json, parts, ids: vec![home.display().to_string()] }
}

/// A directory that is there must be empty: whatever is in it is not overwritten. What a new file
/// system has in it by itself counts for nothing.
pub(super) fn refuse_used(path: &Path) -> Result<(), Trouble> {
    let is_nothing = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_dir && (entry.file_name() == RESTORING || entry.file_name() == "lost+found")
        })
    };
    match fs::read_dir(path).map(|mut entries| entries.all(is_nothing)) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let message = format!("{}: is in use; name a new directory", path.display());
            Err(unusable("directory_in_use", message))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_trouble(path, &error)),
    }
}

fn read_kek(path: &Path) -> Result<KeyEncryptionKey, Trouble> {
    let bad = |reason: String| unusable("kek_unusable", format!("{}: {reason}", path.display()));
    let text = read_private(path).map_err(bad)?;
    KeyEncryptionKey::from_pem(text.expose()).map_err(|error| bad(error.to_string()))
}

fn read_roots(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let bytes = fs::read(path).map_err(|error| io_trouble(path, &error))?;
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    roots.map_err(|_| {
        unusable("file", format!("{}: holds no certificate in PEM form", path.display()))
    })
}

/// What peers and applications of the cluster are to believe.
fn anchors_pem(ledger: &Ledger, roots: &[CertificateDer<'static>]) -> String {
    let anchors: String =
        ledger.trust_anchors().map(|anchor| certificate_pem(&anchor.certificate_der)).collect();
    match anchors.is_empty() {
        true => roots.iter().map(|root| certificate_pem(root)).collect(),
        false => anchors,
    }
}

/// The node's configuration: what is not said here is left at its default.
fn config_file(
    args: &RestoreArgs,
    reached: &Reached,
    identity: &Identity,
) -> Result<ConfigFile, Trouble> {
    let text = format!(
        "cluster_id = \"{}\"\nnode_id = {}\ndata_dir = \"{DATA}\"\nlisten = \"{}\"\n\
         peer_listen = \"{}\"\npeer_address = {:?}\ngateway_url = {:?}\n\
         [tls]\nca_cert = \"ca.pem\"\ngateway_cert = \"gateway.pem\"\n\
         gateway_key = \"{KEYS}/gateway.key\"\npeer_cert = \"peer.pem\"\n\
         peer_key = \"{KEYS}/peer.key\"\n\
         [keys]\nkek = \"{KEYS}/kek.pem\"\ntoken_signing = \"{KEYS}/token-signing.pem\"\n",
        identity.cluster_id,
        identity.node,
        args.node.listen,
        args.node.peer_listen,
        reached.peer_address,
        reached.gateway_url,
    );
    let mut file: ConfigFile = toml::from_str(&text).map_err(|error| failed(&error))?;
    file.region.clone_from(&args.node.region);
    file.zone.clone_from(&args.node.zone);
    for (place, own) in [
        (&mut file.tls.gateway_cert, &args.node.gateway_cert),
        (&mut file.tls.gateway_key, &args.node.gateway_key),
    ] {
        if let Some(own) = own {
            *place = std::path::absolute(own).map_err(|error| io_trouble(own, &error))?;
        }
    }
    file.preset = match args.preset {
        TimingPreset::Lan => Preset::Lan,
        TimingPreset::Region => Preset::Region,
        TimingPreset::Global => Preset::Global,
    };
    Ok(file)
}

/// A file in pieces.
fn chunks_of(path: &Path) -> Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>, Trouble> {
    let mut file = File::open(path).map_err(|error| io_trouble(path, &error))?;
    Ok(std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }))
}

/// Makes the files of a directory durable, and its directories' names; data was made durable when
/// it was written.
fn sync_files(dir: &Path) -> Result<(), Trouble> {
    for entry in fs::read_dir(dir).map_err(|error| io_trouble(dir, &error))? {
        let path = entry.map_err(|error| io_trouble(dir, &error))?.path();
        if path.file_name().is_some_and(|name| name == DATA) {
            continue;
        }
        if path.is_dir() {
            sync_files(&path)?;
        }
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| io_trouble(&path, &error))?;
    }
    Ok(())
}

pub(super) fn private(path: &Path, text: &str) -> Result<(), Trouble> {
    write_private(path, text).map_err(|error| not_provisioned(&error))
}

pub(super) fn public(path: &Path, text: &str) -> Result<(), Trouble> {
    write_public(path, text).map_err(|error| not_provisioned(&error))
}

fn not_provisioned(error: &ProvisionError) -> Trouble {
    Trouble::new(Exit::Failed, "failed", chain(error))
}

pub(super) fn failed(error: &dyn std::error::Error) -> Trouble {
    Trouble::new(Exit::Failed, "failed", chain(error))
}

/// Whether a state has a cluster in it.
pub(super) fn cluster_id(ledger: &Ledger) -> Result<&str, Trouble> {
    ledger.cluster().map(|it| &*it.cluster_id).ok_or_else(not_founded)
}

/// Ends the name of a directory that is not whole, or is that name inside the one that will be.
pub(super) const RESTORING: &str = ".restoring";
const CONFIG: &str = "node.toml";
const KEYS: &str = "keys";
const DATA: &str = "data";
const PIECE_BYTES: usize = 1 << 20;
