//! `cluster recover`: a survivor goes on alone when a majority is lost for good.
//!
//! What it has on its disk becomes the state of a new epoch, in a new data directory, under a new
//! node id. Nothing of the old one is changed: the one step that counts is the replacement of
//! `node.toml`, after everything that it names is there. Before it the node is the member it was,
//! after it the only member of the new epoch.
//!
//! ```text
//! node.toml                        replaced last
//! node.toml.before-epoch-E         what it was
//! DATA_DIR                         kept as it was
//! DATA_DIR-epoch-E/                the new data directory; .tmp at its end while it is made
//! DATA_DIR-epoch-E.aside-N/        one that an attempt before made and no node.toml names
//! peer-epoch-E.pem, keys/…         beside the files that they take the place of
//! ```
//!
//! It is for the worst day only: entries that the lost nodes had and this one had not are gone,
//! answered or not. Whoever asks for it types the cluster's id. What the lost nodes lent alone is
//! among it, so seats are kept for such borrows as after a restore.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cli::local::{Told, ToldPart, Trouble};
use cli::{Exit, RecoverArgs};
use gateway::TokenSigner;
use lease::operate::EpochReason;
use protocol::wire::UtcTime;
use raft::ClusterConfig;
use raft::offline::{self, Established, Export};
use serde_json::json;
use storage::seam::replace_file;

use super::new_node::{
    NewNode, Place, Secrets, check_time, consequences, epoch_facts, not_certified, opening_of,
};
use super::restore::{RESTORING, cluster_id, failed, move_out, private, public, refuse_used};
use super::save::SCRATCH;
use super::{World, fact, io_trouble, offline_trouble, unusable};
use crate::config::file::ConfigFile;
use crate::config::{self, Config};
use crate::directory::{self, Directory, Identity};

/// Asks whoever is there; the text that was typed.
pub(super) fn ask(cluster_id: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    let mut shown = io::stderr().lock();
    write!(shown, "To go on, type the id of the cluster ({cluster_id}): ")?;
    shown.flush()?;
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    Ok(Some(typed.trim().to_owned()))
}

/// `leasehold cluster recover`
pub(super) fn recover(
    args: &RecoverArgs,
    world: &World,
    confirm: &dyn Fn(&str) -> io::Result<Option<String>>,
) -> Result<Told, Trouble> {
    crate::pki::install_provider();
    let config = config::load(&args.config, &*world.clock)
        .map_err(|error| unusable("configuration", error.to_string()))?;
    let file = &config.file;
    let Some(kek) = &config.kek else {
        let message = "keys.kek is not set, or its file is not there: without it the cluster's \
                       secrets cannot be opened";
        return Err(unusable("kek_missing", message));
    };
    let stopped = directory::open_stopped(world.disk.as_ref(), &file.data_dir)
        .map_err(|error| unusable("data_directory", error.to_string()))?;
    check_identity(&stopped, file)?;
    let export = export(file, &stopped, world)?;
    let id = cluster_id(&export.ledger)?.to_owned();
    check_time(&export.ledger, world.clock.wall_ms(), &args.known)?;
    let known = Known::of(&export, file);
    confirmed(args, &id, confirm, &known)?;
    let secrets =
        Secrets::open(&export.ledger, kek, "keys.kek", &config.tls.roots).map_err(|trouble| {
            let message = format!("{}: {}", args.config.display(), trouble.message);
            Trouble { message, ..trouble }
        })?;
    let place = Place {
        node: None,
        peer_address: &file.peer_address,
        gateway_url: &file.gateway_url,
        region: &file.region,
        zone: &file.zone,
    };
    let new = secrets.plan(
        &export.ledger,
        &place,
        kek.public(),
        EpochReason::Recovered,
        &args.known,
        &*world.entropy,
    )?;
    let made = make(args, &config, &export, &secrets, new, world)?;
    let state_ms = export.ledger.clock().civil_ms;
    export.remove().map_err(|error| io_trouble(&file.data_dir, &error))?;
    Ok(report(&known, state_ms, &made))
}

/// What this node knows, before anything is done.
struct Known {
    node: u64,
    index: u64,
    term: u64,
    committed: u64,
    uncommitted: u64,
    voters: Vec<u64>,
    civil_time: UtcTime,
}

impl Known {
    fn of(export: &Export, file: &ConfigFile) -> Self {
        Self {
            node: file.node_id,
            index: export.applied.index,
            term: export.applied.term,
            committed: export.committed.map_or(0, |it| it.index),
            uncommitted: export.uncommitted,
            voters: export.voters.clone(),
            civil_time: UtcTime::from_unix_ms(export.ledger.clock().civil_ms),
        }
    }

    fn lines(&self) -> Vec<String> {
        let voters: Vec<String> = self.voters.iter().map(u64::to_string).collect();
        vec![
            format!(
                "Node {} has entries up to index {} (term {}), the last from {}.",
                self.node, self.index, self.term, self.civil_time
            ),
            format!(
                "It knows {} to be committed; the {} after it are taken along, answered or not.",
                self.committed, self.uncommitted
            ),
            format!(
                "The voters were {}. What a majority of them answered after index {} is lost: \
                 seats taken or given back, changes of every kind.",
                voters.join(", "),
                self.index
            ),
        ]
    }

    /// On standard error, since standard output is for what came of it.
    fn show(&self) {
        let mut shown = io::stderr().lock();
        for line in self.lines() {
            // Whoever cannot read it has not typed the id yet either.
            let _ = writeln!(shown, "{line}");
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "former_node_id": self.node,
            "index": self.index.to_string(),
            "term": self.term.to_string(),
            "committed_index": self.committed.to_string(),
            "uncommitted_entries": self.uncommitted,
            "voters": self.voters,
            "civil_time": self.civil_time.to_string(),
        })
    }
}

fn check_identity(stopped: &Directory, file: &ConfigFile) -> Result<(), Trouble> {
    let Identity { cluster_id, node, .. } = &stopped.identity;
    if *cluster_id == file.cluster_id && *node == file.node_id {
        return Ok(());
    }
    Err(unusable(
        "data_directory",
        format!(
            "{}: belongs to node {node} of cluster {cluster_id}, the configuration says node {} \
             of {}",
            file.data_dir.display(),
            file.node_id,
            file.cluster_id
        ),
    ))
}

fn export(file: &ConfigFile, stopped: &Directory, world: &World) -> Result<Export, Trouble> {
    let incarnation = stopped.identity.incarnation;
    let config = ClusterConfig::new(file.node_id, file.data_dir.clone(), incarnation);
    let scratch = file.data_dir.join(SCRATCH);
    if world.disk.exists(&scratch).unwrap_or(false) {
        world.disk.remove_dir_all(&scratch).map_err(|error| io_trouble(&scratch, &error))?;
    }
    offline::export(&config, world.disk.clone(), world.clock.clone(), scratch)
        .map_err(|error| offline_trouble(&file.data_dir, &error))
}

fn confirmed(
    args: &RecoverArgs,
    id: &str,
    confirm: &dyn Fn(&str) -> io::Result<Option<String>>,
    known: &Known,
) -> Result<(), Trouble> {
    let typed = match &args.confirm {
        Some(typed) => Some(typed.clone()),
        None => {
            // A script reads it in the error.
            if io::stdin().is_terminal() {
                known.show();
            }
            confirm(id).map_err(|error| failed(&error))?
        }
    };
    match typed {
        Some(typed) if typed == id => Ok(()),
        Some(_) => {
            let message = format!("that is not the id of this cluster, {id}; nothing was changed");
            Err(Trouble::new(Exit::Usage, "not_confirmed", message))
        }
        None => {
            let message = format!(
                "nothing was changed. {} To go on: --confirm {id}",
                known.lines().join(" ")
            );
            Err(Trouble::new(Exit::Usage, "not_confirmed", message))
        }
    }
}

/// What was made.
struct Made {
    node: u64,
    established: Established,
    data_dir: PathBuf,
    former_data_dir: PathBuf,
    /// What an attempt before had left.
    set_aside: Option<PathBuf>,
    former_config: PathBuf,
    config: PathBuf,
}

fn make(
    args: &RecoverArgs,
    config: &Config,
    export: &Export,
    secrets: &Secrets,
    new: NewNode,
    world: &World,
) -> Result<Made, Trouble> {
    let file = &config.file;
    let NewNode { node, incarnation, opening } = new;
    let epoch = opening.epoch;
    let (data_dir, set_aside) = match &args.dir {
        Some(dir) => (std::path::absolute(dir).map_err(|error| io_trouble(dir, &error))?, None),
        None => {
            let data_dir = beside(&file.data_dir, &format!("-epoch-{epoch}"));
            let set_aside = set_aside(&data_dir, world)?;
            (data_dir, set_aside)
        }
    };
    refuse_used(&data_dir)?;
    // One that is there may be a volume, which cannot be replaced.
    let within = data_dir.exists();
    let building = if within { data_dir.join(RESTORING) } else { beside(&data_dir, ".tmp") };
    if building.exists() {
        fs::remove_dir_all(&building).map_err(|error| io_trouble(&building, &error))?;
    }
    let cluster = ClusterConfig::new(node, building.clone(), incarnation);
    let chunks = export.snapshot.chunks().map_err(|error| failed(&error))?;
    let established = offline::establish(
        &cluster,
        world.disk.clone(),
        world.clock.clone(),
        chunks.map(|chunk| chunk.map_err(io::Error::other)),
        opening_of(opening, export.term, &*world.entropy),
    )
    .map_err(|error| offline_trouble(&building, &error))?;
    let identity = Identity { cluster_id: file.cluster_id.clone(), node, incarnation };
    directory::write_identity(world.disk.as_ref(), &building, &identity)
        .map_err(|error| unusable("data_directory", error.to_string()))?;
    let names = certify(config, secrets, node, epoch, world)?;
    name_directory(&building, &data_dir, within, world)?;
    let mut next = ConfigFile { node_id: node, data_dir: data_dir.clone(), ..file.clone() };
    // How it began is over: the new directory is none of those that a founding or a join made.
    next.bootstrap = None;
    next.join = None;
    next.tls.peer_cert = names.peer_cert;
    next.tls.peer_key = names.peer_key;
    next.keys.token_signing = names.token_signing;
    let former_config = beside(&config.path, &format!(".before-epoch-{epoch}"));
    let before = fs::read(&config.path).map_err(|error| io_trouble(&config.path, &error))?;
    replace_file(world.disk.as_ref(), &former_config, &before)
        .map_err(|error| io_trouble(&former_config, &error))?;
    let text = toml::to_string(&next).map_err(|error| failed(&error))?;
    // From here on the node is the new one.
    replace_file(world.disk.as_ref(), &config.path, text.as_bytes())
        .map_err(|error| io_trouble(&config.path, &error))?;
    Ok(Made {
        node,
        established,
        data_dir,
        former_data_dir: file.data_dir.clone(),
        set_aside,
        former_config,
        config: config.path.clone(),
    })
}

/// Gives the new data directory its name, or its place in the one that is there, durably.
fn name_directory(
    building: &Path,
    data_dir: &Path,
    within: bool,
    world: &World,
) -> Result<(), Trouble> {
    let sync = |path: &Path| world.disk.sync_dir(path).map_err(|error| io_trouble(path, &error));
    if within {
        let mode = fs::Permissions::from_mode(0o700);
        fs::set_permissions(data_dir, mode).map_err(|error| io_trouble(data_dir, &error))?;
        move_out(building, data_dir)?;
        fs::remove_dir(building).map_err(|error| io_trouble(building, &error))?;
        sync(data_dir)?;
    } else {
        fs::rename(building, data_dir).map_err(|error| io_trouble(data_dir, &error))?;
    }
    data_dir.parent().map_or(Ok(()), sync)
}

/// Renames what an attempt that died made under the name of the new directory: the configuration
/// names another, so it is in use only where a node runs in it.
fn set_aside(data_dir: &Path, world: &World) -> Result<Option<PathBuf>, Trouble> {
    if refuse_used(data_dir).is_ok() {
        return Ok(None);
    }
    let stopped = directory::open_stopped(world.disk.as_ref(), data_dir)
        .map_err(|error| unusable("directory_in_use", error.to_string()))?;
    let mut names = (1..100).map(|number| beside(data_dir, &format!(".aside-{number}")));
    let Some(aside) = names.find(|path| !path.exists()) else {
        let message = format!("{}: is in use; name a new directory: --dir", data_dir.display());
        return Err(unusable("directory_in_use", message));
    };
    fs::rename(data_dir, &aside).map_err(|error| io_trouble(&aside, &error))?;
    drop(stopped);
    Ok(Some(aside))
}

/// Where the new node's own keys and certificates are.
struct Names {
    peer_cert: PathBuf,
    peer_key: PathBuf,
    token_signing: PathBuf,
}

/// New ones of what names the node: the peer certificate and the key that signs access tokens. The
/// gateway's names no node and stays.
fn certify(
    config: &Config,
    secrets: &Secrets,
    node: u64,
    epoch: u32,
    world: &World,
) -> Result<Names, Trouble> {
    let file = &config.file;
    let suffix = format!("-epoch-{epoch}");
    let names = Names {
        peer_cert: before_extension(&file.tls.peer_cert, &suffix),
        peer_key: before_extension(&file.tls.peer_key, &suffix),
        token_signing: before_extension(&file.keys.token_signing, &suffix),
    };
    let authority = secrets.authority(world)?;
    let peer = authority.issue_node(secrets.cluster_id(), node, &*world.entropy);
    let peer = peer.map_err(|error| not_certified(&error))?;
    public(&names.peer_cert, &peer.certificate_pem)?;
    private(&names.peer_key, peer.key_pem.expose())?;
    let signer = TokenSigner::generate().map_err(|error| failed(&error))?;
    let signer = signer.to_pem().map_err(|error| failed(&error))?;
    private(&names.token_signing, signer.expose())?;
    Ok(names)
}

fn report(known: &Known, state_ms: i64, made: &Made) -> Told {
    let ledger = &made.established.ledger;
    let (mut json, lines) = consequences(ledger, state_ms);
    let next = [
        format!("leasehold serve --config {}", made.config.display()),
        "leasehold member add".to_owned(),
    ];
    json["cluster_id"] = json!(ledger.cluster().map(|it| &*it.cluster_id));
    json["epoch"] = json!(ledger.cluster().map(|it| it.epoch));
    json["node_id"] = json!(made.node);
    json["known"] = known.json();
    json["data_dir"] = json!(made.data_dir);
    json["former_data_dir"] = json!(made.former_data_dir);
    json["set_aside"] = json!(made.set_aside);
    json["config"] = json!(made.config);
    json["former_config"] = json!(made.former_config);
    json["next"] = json!(next);
    let mut facts = epoch_facts(ledger, made.node);
    facts.push(fact("index", made.established.position.index));
    facts.push(fact("data directory", made.data_dir.display()));
    facts.push(fact("kept aside", made.former_data_dir.display()));
    if let Some(aside) = &made.set_aside {
        facts.push(fact("set aside", aside.display()));
    }
    facts.push(fact("configuration", made.config.display()));
    facts.push(fact("as it was", made.former_config.display()));
    let mut parts = vec![ToldPart::Facts(facts)];
    parts.extend(lines.into_iter().map(ToldPart::Line));
    parts.push(ToldPart::Line(format!("Next: {}", next[0])));
    parts.push(ToldPart::Line(format!("Then, for each further node: {}", next[1])));
    Told { json, parts, ids: vec![made.data_dir.display().to_string()] }
}

/// A path with more at the end of its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// `peer.pem` as `peer-epoch-2.pem`.
fn before_extension(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    // Of an epoch before.
    if let Some((stem, _)) = name.to_string_lossy().rsplit_once("-epoch-") {
        name = stem.into();
    }
    name.push(suffix);
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}
