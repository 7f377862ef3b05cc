//! `cluster join`: the files of a node that was invited.
//!
//! ```text
//! token ─ authority's certificate fetched, compared by its hash ─ keys made here ─ join ─ files
//! ```
//!
//! What a repeat needs is kept in `keys/joining.toml` from before the first question to the cluster
//! until everything is there: the same token then asks for the same node with the same keys and
//! directory. Another token begins anew.

use std::fs;
use std::path::{Path, PathBuf};

use cli::local::{Failed, Told, Trouble};
use cli::{Exit, GlobalOptions, JoinArgs, Remote, Trust, given_token};
use data_encoding::HEXLOWER;
use protocol::cloud::admin::{JoinRequest, JoinResponse};
use protocol::join_token::JoinToken;
use protocol::secret::Disclosed;
use protocol::wire::UtcTime;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use storage::seam::{Clock, RealClock, RealEntropy};

use super::{
    CONFIG, KEYS, Reached, absolute, at, certificate_request, check_early, checked, config_file,
    failed, is_unused, key_pair, line, make_dir, private, public, token_signing_key, unit_hint,
    usage, write_config, write_context,
};
use crate::config;
use crate::config::file::{ConfigFile, Hex, JoinFile, JoinPeerFile};
use crate::pki::certificate_pem;
use crate::provision::random;
use crate::seal::kek::KeyEncryptionKey;

pub(super) async fn join(args: &JoinArgs, options: &GlobalOptions) -> Result<Told, Failed> {
    let dir = absolute(&args.node.dir);
    let (text, token) = read_token(options)?;
    let config = dir.join(CONFIG);
    let keys = dir.join(KEYS);
    if let Some(found) = joined_before(&config)? {
        let told = already(&found, &token, &config)?;
        remove(&keys.join(JOINING))?;
        return Ok(told);
    }
    let reached = Reached::of(&args.node)?;
    let named = (token.cluster_id.as_str(), token.node);
    let mut file = config_file(&args.node, &reached, args.preset, named)?;
    check_early(&config, &file, args.node.gateway_cert.is_some())?;
    let joining = begin(&dir, &keys, &token)?;
    let kek = key_encryption_key(&keys.join("kek.pem"))?;
    token_signing_key(&keys.join("token-signing.pem"))?;
    let peer = key_pair(&keys.join("peer.key"))?;
    let gateway = match &args.node.gateway_cert {
        Some(_) => None,
        None => Some(key_pair(&keys.join("gateway.key"))?),
    };
    let request = JoinRequest {
        csr_peer: certificate_request(&peer)?,
        csr_gateway: gateway.as_ref().map(certificate_request).transpose()?,
        kek_public: HEXLOWER.encode(&kek.public()),
        directory_incarnation: joining.directory_incarnation.to_string(),
        peer_address: reached.peer_address.clone(),
        gateway_url: reached.gateway_url.clone(),
        region: args.node.region.clone(),
        zone: args.node.zone.clone(),
        clock: UtcTime::from_unix_ms(RealClock::new().wall_ms()),
    };
    let answer = ask(&text, &token, &request, options).await?;
    public(&dir.join("peer.pem"), &answer.peer_certificate)?;
    if let Some(certificate) = &answer.gateway_certificate {
        public(&dir.join("gateway.pem"), certificate)?;
    }
    public(&dir.join("ca.pem"), &answer.ca_certificates)?;
    private(&keys.join("directory.ticket"), "")?;
    file.join = Some(join_file(&answer, &joining, "keys/directory.ticket"));
    let mut servers = token.gateways.clone();
    servers.push(reached.gateway_url.clone());
    servers.dedup();
    let ca_cert = options.ca_cert.as_ref().map_or_else(|| "ca.pem".into(), |path| absolute(path));
    write_context(&dir, &servers, &ca_cert.to_string_lossy())?;
    write_config(&config, &checked(&config, &file)?)?;
    remove(&keys.join(JOINING))?;
    Ok(report(&answer, &dir, &config, &reached))
}

/// The join token of the command line, and its text.
pub(super) fn read_token(options: &GlobalOptions) -> Result<(Disclosed, JoinToken), Trouble> {
    let text = given_token(options).ok_or_else(|| {
        usage(
            "no join token: give --token, or set LEASEHOLD_TOKEN; `leasehold member add` makes one",
        )
    })?;
    let token = JoinToken::decode(text.expose()).map_err(|error| usage(error.to_string()))?;
    Ok((text, token))
}

/// What `[join]` is to say.
pub(super) fn join_file(answer: &JoinResponse, joining: &Joining, ticket: &str) -> JoinFile {
    JoinFile {
        directory_ticket: ticket.into(),
        directory_incarnation: joining.directory_incarnation,
        members: answer
            .members
            .iter()
            .map(|peer| JoinPeerFile { id: peer.node_id, peer_address: peer.peer_address.clone() })
            .collect(),
    }
}

/// What a repeat goes on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Joining {
    cluster_id: String,
    node_id: u64,
    directory_incarnation: Hex<8>,
}

impl Joining {
    pub(super) fn of(token: &JoinToken) -> Self {
        Self {
            cluster_id: token.cluster_id.clone(),
            node_id: token.node,
            directory_incarnation: Hex(random(&RealEntropy)),
        }
    }

    pub(super) fn is_node(&self, cluster_id: &str, node: u64) -> bool {
        self.cluster_id == cluster_id && self.node_id == node
    }

    pub(super) fn incarnation(&self) -> String {
        self.directory_incarnation.to_string()
    }
}

/// Takes an unused directory, or goes on in one that the same token has begun.
pub(super) fn begin(dir: &Path, keys: &Path, token: &JoinToken) -> Result<Joining, Trouble> {
    let path = keys.join(JOINING);
    if path.exists() {
        let text =
            crate::config::read_private(&path).map_err(|reason| super::named(&path, &reason))?;
        let found: Option<Joining> = toml::from_str(text.expose()).ok();
        if let Some(found) = found.filter(|found| found.is_node(&token.cluster_id, token.node)) {
            return Ok(found);
        }
        // Begun with another token: those keys were never a node's.
        for name in ["kek.pem", "token-signing.pem", "peer.key", "gateway.key"] {
            remove(&keys.join(name))?;
        }
    } else if !is_unused(dir)? {
        return Err(usage(format!(
            "{}: is not empty; name another directory, or empty this one if nothing runs from it",
            dir.display()
        )));
    }
    make_dir(keys)?;
    let joining = Joining::of(token);
    let text = toml::to_string(&joining).map_err(|error| failed(&error))?;
    private(&path, &text)?;
    Ok(joining)
}

pub(super) fn remove(path: &Path) -> Result<(), Trouble> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(path, &error)),
        _ => Ok(()),
    }
}

/// The configuration of a node that has its files already.
fn joined_before(config: &Path) -> Result<Option<ConfigFile>, Trouble> {
    match fs::read_to_string(config) {
        Ok(text) => {
            toml::from_str(&text).map(Some).map_err(|error| super::named(config, error.message()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(config, &error)),
    }
}

fn already(found: &ConfigFile, token: &JoinToken, config: &Path) -> Result<Told, Trouble> {
    if found.cluster_id != token.cluster_id || found.node_id != token.node {
        return Err(usage(format!(
            "{}: belongs to node {} of cluster {}; name another directory",
            config.display(),
            found.node_id,
            found.cluster_id
        )));
    }
    config::load(config, &RealClock::new()).map_err(|error| usage(error.to_string()))?;
    let mut parts = vec![line(format!("node {} has joined before", found.node_id))];
    parts.extend(unit_hint(config));
    Ok(Told {
        json: json!({
            "cluster_id": found.cluster_id, "node_id": found.node_id, "config": config,
            "joined_before": true,
        }),
        parts,
        ids: vec![found.node_id.to_string()],
    })
}

pub(super) fn key_encryption_key(path: &Path) -> Result<KeyEncryptionKey, Trouble> {
    if path.exists() {
        let text =
            crate::config::read_private(path).map_err(|reason| super::named(path, &reason))?;
        return KeyEncryptionKey::from_pem(text.expose()).map_err(|error| failed(&error));
    }
    let key = KeyEncryptionKey::generate(&RealEntropy);
    private(path, key.to_pem().expose())?;
    Ok(key)
}

/// Asks the cluster to let the node in, over TLS that is pinned by the token.
pub(super) async fn ask(
    text: &Disclosed,
    token: &JoinToken,
    request: &JoinRequest,
    options: &GlobalOptions,
) -> Result<JoinResponse, Failed> {
    let own_trust = options.ca_cert.is_some();
    let first = if own_trust { Trust::Options } else { Trust::Unchecked };
    let strangers = Remote::at(&token.gateways, &first, options)?;
    let fetched = strangers.get(&["cluster", "ca.pem"]).await?;
    let authority = pinned(&fetched, token).ok_or_else(|| {
        Trouble::new(
            Exit::Unverifiable,
            "other_authority",
            format!(
                "the authority at {} is not the one of the join token: another cluster answers \
                 there, or its authority was changed since; ask for a new token: leasehold member \
                 add",
                token.gateways.join(", ")
            ),
        )
    })?;
    let trust = if own_trust { Trust::Options } else { Trust::Authorities(authority) };
    let cluster = Remote::at(&token.gateways, &trust, options)?;
    let asked = cluster.post(&["cluster", "join"], request, Some(text.expose().trim()), None).await;
    let answer = asked.map_err(|error| match error.status() {
        // Not known at all, or known and not to be used (again).
        Some(401 | 403) => Trouble::new(
            Exit::NotAllowed,
            "join_token_over",
            "the join token was used, has ended or was withdrawn; ask for a new one: leasehold \
             member add",
        )
        .into(),
        _ => error,
    })?;
    let answer: JoinResponse = serde_json::from_slice(&answer).map_err(|error| {
        Trouble::new(
            Exit::Failed,
            "answer_not_understood",
            format!("the answer to the join: {error}"),
        )
    })?;
    if answer.cluster_id != token.cluster_id || answer.node_id != token.node {
        let line = format!(
            "the join token is for node {} of {}, the answer for node {} of {}",
            token.node, token.cluster_id, answer.node_id, answer.cluster_id
        );
        return Err(Trouble::new(Exit::Unverifiable, "other_cluster", line).into());
    }
    Ok(answer)
}

/// The certificate (PEM) that has the token's hash, among those that were fetched.
fn pinned(fetched: &[u8], token: &JoinToken) -> Option<String> {
    CertificateDer::pem_slice_iter(fetched)
        .filter_map(Result::ok)
        .find(|certificate| Sha256::digest(certificate)[..] == token.authority)
        .map(|certificate| certificate_pem(&certificate))
}

fn report(answer: &JoinResponse, dir: &Path, config: &Path, reached: &Reached) -> Told {
    let node = answer.node_id;
    let data: PathBuf = dir.to_owned();
    let json = json!({
        "cluster_id": answer.cluster_id,
        "node_id": node,
        "directory": data,
        "config": config,
        "gateway_url": reached.gateway_url,
        "peer_address": reached.peer_address,
        "epoch": answer.epoch,
        "next": [format!("leasehold serve --config {}", config.display())],
    });
    let mut parts =
        vec![line(format!("node {node} of cluster {} is in {}", answer.cluster_id, dir.display()))];
    parts.extend(unit_hint(config));
    parts.push(line("It gets its vote by itself once it has caught up."));
    Told { json, parts, ids: vec![node.to_string()] }
}

/// What a repeat goes on with.
const JOINING: &str = "joining.toml";
