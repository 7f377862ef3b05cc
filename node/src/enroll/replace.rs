//! `member replace ID --config FILE`: on the machine of a node that was lost or damaged, has a new
//! node join in its place, at the same addresses, from the same files, and puts its data aside.
//!
//! ```text
//! ticket (operator's token) ─ replacing.toml ─ keys beside the old ones ─ join ─
//! data ▶ data.lost-ID-N ─ FILE ▶ FILE.before-ID ─ FILE
//! ```
//!
//! Nothing of the old node is touched before the cluster has let the new one in, and the lock of
//! its data is held to the end. The configuration is changed last, in one step: until then the old
//! node is what it was, lost; afterwards starting the service again is all that is left.
//!
//! `replacing.toml`, beside FILE and of mode 0600, holds the invitation from before it is used
//! until all is done: an attempt that was cut short is made again with the same command, and goes
//! on as the same new node. Without it the cluster would keep a member that nobody can start.
//!
//! Where the data directory cannot be renamed, as the root of a file system, what is in it moves
//! into `lost-ID-N` below it.

use std::fs;
use std::path::{Path, PathBuf};

use cli::local::{Failed, Told, Trouble};
use cli::{Exit, GlobalOptions, Remote, ReplaceMemberArgs};
use protocol::cloud::admin::{AddMemberRequest, AddMemberResponse, JoinRequest, JoinResponse};
use protocol::join_token::JoinToken;
use protocol::secret::{Disclosed, Secret};
use protocol::wire::UtcTime;
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::seam::{Clock, Disk, RealClock, RealDisk};

use super::join::{Joining, ask, join_file, key_encryption_key, remove};
use super::{
    CONTEXT, absolute, at, certificate_request, check_early, checked, failed, key_pair, line,
    make_dir, named, private, public, token_signing_key, unit_hint, usage, write_config,
};
use crate::config::file::ConfigFile;
use crate::directory::{self, DirectoryError};

pub(super) async fn replace(
    args: &ReplaceMemberArgs,
    config: &Path,
    options: &GlobalOptions,
) -> Result<Told, Failed> {
    let config = absolute(config);
    let old = read(&config)?;
    let home = config.parent().unwrap_or(Path::new("/")).to_owned();
    let data = home.join(&old.data_dir);
    let notes = home.join(REPLACING);
    let begun = Begun::read(&notes)?.filter(|begun| begun.replaces == args.id);
    if old.node_id != args.id {
        if begun.is_some_and(|begun| begun.joining.is_node(&old.cluster_id, old.node_id)) {
            // All but this was done.
            remove(&notes)?;
            return Ok(report(
                args.id,
                old.node_id,
                &config,
                last_aside(&data, args.id).as_deref(),
            ));
        }
        let line = format!("{}: is the configuration of node {}", config.display(), old.node_id);
        return Err(usage(line).into());
    }
    check_early(&config, &old, true)?;
    let _lock = hold(&data)?;
    let options = reach(options, &home, &old);
    let begun = match begun {
        Some(begun) => begun,
        None => Begun::new(args.id, invite(args, &options).await?.token, &notes)?,
    };
    let token = decoded(&begun.token)?;
    let (file, request) = prepare(&old, &home, &token, &begun.joining)?;
    let asked = ask(&begun.token, &token, &request, &options).await;
    if asked.as_ref().is_err_and(|error| error.exit() == Exit::NotAllowed) {
        remove(&notes)?;
        let line = "the invitation was used, has ended or was withdrawn; run the same command \
                    again: it asks for a new one";
        return Err(Trouble::new(Exit::NotAllowed, "join_token_over", line).into());
    }
    finish(args.id, &config, file, &asked?, &begun).map_err(Failed::from)
}

/// The cluster has let the new node in: its files, the old data, the configuration.
fn finish(
    lost: u64,
    config: &Path,
    mut file: ConfigFile,
    answer: &JoinResponse,
    begun: &Begun,
) -> Result<Told, Trouble> {
    let home = config.parent().unwrap_or(Path::new("/"));
    public(&home.join(&file.tls.peer_cert), &answer.peer_certificate)?;
    public(&home.join(&file.tls.ca_cert), &answer.ca_certificates)?;
    let ticket = beside(&file.tls.peer_key, "directory", file.node_id, "ticket");
    private(&home.join(&ticket), "")?;
    file.join = Some(join_file(answer, &begun.joining, &ticket.to_string_lossy()));
    let text = checked(config, &file)?;
    let before = former_config(config, lost);
    fs::copy(config, &before).map_err(|error| at(&before, &error))?;
    let aside = put_aside(&home.join(&file.data_dir), lost)?;
    let written = write_config(config, &text).and_then(|()| remove(&home.join(REPLACING)));
    written.map_err(|trouble| match &aside {
        Some(aside) => Trouble {
            message: format!(
                "{}; the data of node {lost} is in {}, run the same command again",
                trouble.message,
                aside.display()
            ),
            ..trouble
        },
        None => trouble,
    })?;
    Ok(report(lost, file.node_id, config, aside.as_deref()))
}

/// A replacement that was begun: what a repeat goes on with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Begun {
    /// The node that is lost.
    replaces: u64,
    /// The invitation of the one that takes its place.
    token: Disclosed,
    joining: Joining,
}

impl Begun {
    /// Notes an invitation before it is used.
    fn new(replaces: u64, token: Disclosed, path: &Path) -> Result<Self, Trouble> {
        let joining = Joining::of(&decoded(&token)?);
        let begun = Self { replaces, token, joining };
        let text = Secret::new(toml::to_string(&begun).map_err(|error| failed(&error))?);
        private(path, text.expose())?;
        Ok(begun)
    }

    fn read(path: &Path) -> Result<Option<Self>, Trouble> {
        if !path.exists() {
            return Ok(None);
        }
        let text = crate::config::read_private(path).map_err(|reason| named(path, &reason))?;
        // The message could quote the token.
        let begun = toml::from_str(text.expose());
        begun.map(Some).map_err(|_| named(path, "is not understood; remove it to begin anew"))
    }
}

fn decoded(token: &Disclosed) -> Result<JoinToken, Trouble> {
    JoinToken::decode(token.expose().trim()).map_err(|error| usage(error.to_string()))
}

/// The file as it is written: relative paths stay relative.
fn read(config: &Path) -> Result<ConfigFile, Trouble> {
    let text = fs::read_to_string(config).map_err(|error| at(config, &error))?;
    toml::from_str(&text).map_err(|error| named(config, error.message()))
}

/// A node that runs is not lost, and must not be started meanwhile.
fn hold(data: &Path) -> Result<Option<fs::File>, Trouble> {
    if !data.is_dir() {
        return Ok(None);
    }
    directory::take_lock(data).map(Some).map_err(|error| match error {
        DirectoryError::InUse { .. } => usage(format!("{error}; stop the node first")),
        error => usage(error.to_string()),
    })
}

/// Where nothing is said of servers, those that the node knew when it joined.
fn reach(options: &GlobalOptions, home: &Path, old: &ConfigFile) -> GlobalOptions {
    let mut options = options.clone();
    let is_set = |name: &str| std::env::var(name).is_ok_and(|value| !value.is_empty());
    let context = home.join(CONTEXT);
    if options.server.is_empty()
        && options.context.is_none()
        && !is_set("LEASEHOLD_SERVER")
        && !is_set("LEASEHOLD_CONTEXT")
        && context.exists()
    {
        options.context = Some(context);
    } else if options.ca_cert.is_none()
        && options.context.is_none()
        && !is_set("LEASEHOLD_CA_CERT")
        && !is_set("LEASEHOLD_CONTEXT")
    {
        options.ca_cert = Some(home.join(&old.tls.ca_cert)).filter(|path| path.exists());
    }
    options
}

async fn invite(
    args: &ReplaceMemberArgs,
    options: &GlobalOptions,
) -> Result<AddMemberResponse, Failed> {
    let minutes = u32::try_from(args.valid.ms.div_ceil(60_000)).unwrap_or(u32::MAX);
    let request = AddMemberRequest {
        learner: false,
        replaces: Some(args.id),
        valid_minutes: Some(minutes.max(1)),
    };
    let key = args.mutation.idempotency_key.as_deref();
    let remote = Remote::of_options(options)?;
    let answer = remote.post(&["admin", "members"], &request, None, key).await?;
    serde_json::from_slice(&answer).map_err(|error| {
        Trouble::new(Exit::Failed, "answer_not_understood", format!("the invitation: {error}"))
            .into()
    })
}

/// Gives what is left of the data another name, or moves what is in the directory where that cannot
/// be renamed; where it is now.
fn put_aside(data: &Path, node: u64) -> Result<Option<PathBuf>, Trouble> {
    let left = left_in(data)?;
    if left.is_empty() {
        return Ok(last_aside(data, node));
    }
    let Some(number) = (1..u32::MAX)
        .find(|number| places(data, node, *number).iter().all(|place| !place.exists()))
    else {
        return Err(usage("there is no name left for the old data"));
    };
    let [beside, inside] = places(data, node, number);
    if fs::rename(data, &beside).is_ok() {
        sync_dir(data.parent().unwrap_or(Path::new("/")))?;
        return Ok(Some(beside));
    }
    move_contents(data, &left, &inside)?;
    Ok(Some(inside))
}

fn move_contents(data: &Path, names: &[String], to: &Path) -> Result<(), Trouble> {
    make_dir(to)?;
    for name in names {
        fs::rename(data.join(name), to.join(name)).map_err(|error| {
            let reason = crate::config::io_reason(&error);
            let line = format!("cannot be moved: {reason}; what could be is in {}", to.display());
            named(&data.join(name), &line)
        })?;
    }
    sync_dir(to)?;
    sync_dir(data)
}

/// What a lost node left in its directory.
fn left_in(data: &Path) -> Result<Vec<String>, Trouble> {
    let names = match RealDisk.list(data) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|error| at(data, &error))?,
    };
    Ok(names.into_iter().filter(|name| !directory::is_no_data(name)).collect())
}

/// Where it is put: beside the directory, or else inside.
fn places(data: &Path, node: u64, number: u32) -> [PathBuf; 2] {
    let name = format!("{}{node}-{number}", directory::PUT_ASIDE);
    [with_ending(data, &name), data.join(name)]
}

/// Where an earlier attempt has put it.
fn last_aside(data: &Path, node: u64) -> Option<PathBuf> {
    let found = |number| places(data, node, number).into_iter().find(|place| place.exists());
    (1..u32::MAX).map_while(found).last()
}

fn sync_dir(dir: &Path) -> Result<(), Trouble> {
    RealDisk.sync_dir(dir).map_err(|error| at(dir, &error))
}

/// The new node's keys, beside the old ones, and its configuration but for `[join]`.
fn prepare(
    old: &ConfigFile,
    home: &Path,
    token: &JoinToken,
    joining: &Joining,
) -> Result<(ConfigFile, JoinRequest), Trouble> {
    let node = token.node;
    let mut file = old.clone();
    file.node_id = node;
    file.bootstrap = None;
    file.tls.peer_key = beside(&old.tls.peer_key, "peer", node, "key");
    file.tls.peer_cert = beside(&old.tls.peer_cert, "peer", node, "pem");
    let kek = beside(&old.keys.token_signing, "kek", node, "pem");
    file.keys.token_signing = beside(&old.keys.token_signing, "token-signing", node, "pem");
    file.keys.kek = Some(kek.clone());
    let kek = key_encryption_key(&home.join(kek))?;
    token_signing_key(&home.join(&file.keys.token_signing))?;
    let peer = key_pair(&home.join(&file.tls.peer_key))?;
    let request = JoinRequest {
        csr_peer: certificate_request(&peer)?,
        // Its names are those of the place, which stays.
        csr_gateway: None,
        kek_public: data_encoding::HEXLOWER.encode(&kek.public()),
        directory_incarnation: joining.incarnation(),
        peer_address: old.peer_address.clone(),
        gateway_url: old.gateway_url.clone(),
        region: old.region.clone(),
        zone: old.zone.clone(),
        clock: UtcTime::from_unix_ms(RealClock::new().wall_ms()),
    };
    Ok((file, request))
}

/// A file of the new node in the directory of another.
fn beside(other: &Path, name: &str, node: u64, ending: &str) -> PathBuf {
    other.with_file_name(format!("{name}-{node}.{ending}"))
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{ending}"));
    path.with_file_name(name)
}

/// What the configuration of a lost node is kept as.
fn former_config(config: &Path, lost: u64) -> PathBuf {
    with_ending(config, &format!("before-{lost}"))
}

fn report(old: u64, new: u64, config: &Path, aside: Option<&Path>) -> Told {
    let before = former_config(config, old);
    let mut parts = vec![line(format!("node {new} takes the place of node {old}"))];
    if let Some(aside) = aside {
        let aside = aside.display();
        parts.push(line(format!(
            "What was left of the data is in {aside}; remove it when you like"
        )));
    }
    parts.push(line(format!("The former configuration is {}", before.display())));
    parts.extend(unit_hint(config));
    parts.push(line(format!("Node {old} leaves the cluster by itself once node {new} votes.")));
    Told {
        json: json!({
            "node_id": new,
            "replaces": old,
            "config": config,
            "former_config": before,
            "former_data": aside,
            "next": [format!("leasehold serve --config {}", config.display())],
        }),
        parts,
        ids: vec![new.to_string()],
    }
}

/// What a repeat goes on with.
const REPLACING: &str = "replacing.toml";

#[cfg(test)]
mod tests;
