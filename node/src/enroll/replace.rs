//! `member replace ID --config FILE`: on the machine of a node that was lost or damaged, puts its
//! data aside and has a new node join in its place, at the same addresses, from the same files.
//!
//! ```text
//! ticket (operator's token) ─ data ▶ data.lost-ID-N ─ keys beside the old ones ─ join ─
//! FILE ▶ FILE.before-ID ─ FILE
//! ```
//!
//! The configuration is changed last, in one step: until then the old node is what it was, lost;
//! afterwards starting the service again is all that is left. An attempt that was cut short leaves
//! an invitation that ends by itself, and is simply made again.

use std::fs;
use std::path::{Path, PathBuf};

use cli::local::{Failed, Told, Trouble};
use cli::{Exit, GlobalOptions, Remote, ReplaceMemberArgs};
use protocol::cloud::admin::{AddMemberRequest, AddMemberResponse, JoinRequest};
use protocol::join_token::JoinToken;
use protocol::wire::UtcTime;
use serde_json::json;
use storage::seam::{Clock, Disk, RealClock, RealDisk};

use super::join::{Joining, ask, join_file, key_encryption_key};
use super::{
    CONTEXT, absolute, at, certificate_request, key_pair, line, named, private, public,
    token_signing_key, unit_hint, usage, write_config,
};
use crate::config::file::ConfigFile;
use crate::directory;

pub(super) async fn replace(
    args: &ReplaceMemberArgs,
    config: &Path,
    options: &GlobalOptions,
) -> Result<Told, Failed> {
    let config = absolute(config);
    let old = read(&config)?;
    if old.node_id != args.id {
        let line = format!("{}: is the configuration of node {}", config.display(), old.node_id);
        return Err(usage(line).into());
    }
    let home = config.parent().unwrap_or(Path::new("/")).to_owned();
    let data = home.join(&old.data_dir);
    refuse_running(&data)?;
    let options = reach(options, &home, &old);
    let invited = invite(args, &options).await?;
    let token =
        JoinToken::decode(invited.token.expose()).map_err(|error| usage(error.to_string()))?;
    let aside = put_aside(&data, args.id)?;
    let (mut file, request, joining) = prepare(&old, &home, &token)?;
    let answer = ask(&invited.token, &token, &request, &options).await?;
    public(&home.join(&file.tls.peer_cert), &answer.peer_certificate)?;
    public(&home.join(&file.tls.ca_cert), &answer.ca_certificates)?;
    let ticket = beside(&old.tls.peer_key, "directory", token.node, "ticket");
    private(&home.join(&ticket), "")?;
    file.join = Some(join_file(&answer, &joining, &ticket.to_string_lossy()));
    let before = with_ending(&config, &format!("before-{}", args.id));
    fs::copy(&config, &before).map_err(|error| at(&before, &error))?;
    write_config(&config, &file)?;
    Ok(report(args.id, token.node, &config, aside.as_deref(), &before))
}

/// The file as it is written: relative paths stay relative.
fn read(config: &Path) -> Result<ConfigFile, Trouble> {
    let text = fs::read_to_string(config).map_err(|error| at(config, &error))?;
    toml::from_str(&text).map_err(|error| named(config, error.message()))
}

/// A node that runs is not lost.
fn refuse_running(data: &Path) -> Result<(), Trouble> {
    if !data.is_dir() {
        return Ok(());
    }
    match directory::take_lock(data) {
        Ok(_) => Ok(()),
        Err(error) => Err(usage(format!("{error}; stop the node first"))),
    }
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

/// Gives what is left of the data another name; where it is now.
fn put_aside(data: &Path, node: u64) -> Result<Option<PathBuf>, Trouble> {
    if !data.exists() {
        return Ok(None);
    }
    let aside = (1..)
        .map(|number: u32| with_ending(data, &format!("lost-{node}-{number}")))
        .find(|path| !path.exists())
        .ok_or_else(|| usage("there is no name left for the old data"))?;
    fs::rename(data, &aside).map_err(|error| at(data, &error))?;
    if let Some(parent) = data.parent() {
        RealDisk.sync_dir(parent).map_err(|error| at(parent, &error))?;
    }
    Ok(Some(aside))
}

/// The new node's keys, beside the old ones, and its configuration but for `[join]`.
fn prepare(
    old: &ConfigFile,
    home: &Path,
    token: &JoinToken,
) -> Result<(ConfigFile, JoinRequest, Joining), Trouble> {
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
    let joining = Joining::of(token);
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
    Ok((file, request, joining))
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

fn report(old: u64, new: u64, config: &Path, aside: Option<&Path>, before: &Path) -> Told {
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
