//! The one node that a new epoch begins with: its id, its row, its copies of the data key, its
//! certificates from the cluster's own authority.
//!
//! Everything comes out of the state: the data key, opened by the key-encryption key of any node
//! that was a member; the authority's private key, sealed under that; the authority's certificate,
//! a trust anchor of the ledger. Only a state from before the first anchor needs the file of roots.

use std::net::IpAddr;

use cli::local::Trouble;
use cli::{Exit, KnownArgs};
use lease::Ledger;
use lease::command::Member;
use lease::ids::{NodeId, TraceId};
use lease::operate::{EpochReason, OpenEpoch};
use protocol::secret::Secret;
use protocol::wire::UtcTime;
use raft::offline::Opening;
use rustls::pki_types::CertificateDer;
use storage::seam::Entropy;

use super::{World, fact, unusable};
use crate::authority::IssuingKey;
use crate::config::chain;
use crate::pki::{Authority, Issued, PkiError};
use crate::seal::kek::KeyEncryptionKey;
use crate::seal::ring::Keyring;
use crate::seal::{CA_KEY, SealError};

/// The new node as it will be reached.
pub(super) struct Place<'a> {
    /// `None`: one above all that the state knows.
    pub(super) node: Option<NodeId>,
    pub(super) peer_address: &'a str,
    pub(super) gateway_url: &'a str,
    pub(super) region: &'a str,
    pub(super) zone: &'a str,
}

/// What a state's secrets open to.
pub(super) struct Secrets {
    cluster_id: String,
    keyring: Keyring,
    authority: IssuingKey,
}

/// The new node.
pub(super) struct NewNode {
    pub(super) node: NodeId,
    /// Incarnation of its data directory.
    pub(super) incarnation: u64,
    pub(super) opening: OpenEpoch,
}

impl Secrets {
    /// Opens a state with the key-encryption key of a node that was a member. `named` is how the
    /// user named the key.
    pub(super) fn open(
        ledger: &Ledger,
        kek: &KeyEncryptionKey,
        named: &str,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self, Trouble> {
        let cluster = ledger.cluster().ok_or_else(not_founded)?;
        let cluster_id = cluster.cluster_id.to_string();
        let public = kek.public();
        let Some(member) = ledger.members().find(|member| member.kek_public == public) else {
            return Err(strange_key(ledger, named, &public));
        };
        let opened = Keyring::unwrap(ledger, &cluster_id, member.node, kek);
        let keyring = opened.map_err(|error| sealed(&error))?.ok_or_else(|| {
            let what = format!("the data key is not wrapped to node {}", member.node);
            Trouble::new(Exit::Unverifiable, "secrets_unopenable", what)
        })?;
        let authority = Self::authority_of(ledger, &cluster_id, &keyring, roots)?;
        Ok(Self { cluster_id, keyring, authority })
    }

    fn authority_of(
        ledger: &Ledger,
        cluster_id: &str,
        keyring: &Keyring,
        roots: &[CertificateDer<'static>],
    ) -> Result<IssuingKey, Trouble> {
        let Some(row) = ledger.secret(CA_KEY) else {
            return Err(unusable(
                "no_authority",
                "the cluster has no certificate authority of its own, so no certificate can be \
                 made for a new node",
            ));
        };
        let opened = keyring.open(cluster_id, row).map_err(|error| sealed(&error))?;
        let text = String::from_utf8(opened.expose().clone());
        let key_pem = text.map(Secret::new).map_err(|_| {
            sealed(&SealError::Unusable { what: "the certificate authority's key".to_owned() })
        })?;
        IssuingKey::find(ledger, roots, key_pem, row.version).ok_or_else(|| {
            unusable(
                "no_authority",
                "the state does not hold the certificate of the cluster's authority; name its \
                 file: --ca-cert ca.pem",
            )
        })
    }

    /// The row, the copies of the data key and the epoch of a new node. `kek_public` is the public
    /// half of its own key.
    pub(super) fn plan(
        &self,
        ledger: &Ledger,
        place: &Place<'_>,
        kek_public: [u8; 32],
        reason: EpochReason,
        known: &KnownArgs,
        entropy: &dyn Entropy,
    ) -> Result<NewNode, Trouble> {
        let former = ledger.cluster().map_or(0, |it| it.epoch);
        let epoch = known.epoch_above.map_or(former, |used| used.max(former)).checked_add(1);
        let next = ledger.next_node_id();
        let (Some(epoch), Some(next)) = (epoch, next) else {
            return Err(Trouble::new(Exit::Refused, "epoch_refused", "there is no number left"));
        };
        let node = place.node.unwrap_or(next);
        if node < next {
            let message = format!(
                "node id {node} was used before, or may have been: --node-id wants {next} or more"
            );
            return Err(unusable("node_id_taken", message));
        }
        let wraps = self.keyring.wrap_to(&self.cluster_id, node, kek_public, entropy);
        let mut wraps = wraps.map_err(|error| sealed(&error))?;
        // The keys at hand may be newer or older than the state.
        let in_use = ledger.data_key_versions_in_use();
        wraps.retain(|wrap| in_use.contains(&wrap.version));
        let incarnation = number(entropy);
        let member = Member {
            node,
            peer_address: place.peer_address.into(),
            gateway_url: place.gateway_url.into(),
            region: place.region.into(),
            zone: place.zone.into(),
            directory_incarnation: incarnation,
            kek_public,
        };
        let opening = OpenEpoch {
            epoch,
            incarnation: number(entropy),
            reason,
            member,
            wraps,
            no_borrows_since: known.no_borrows_since,
        };
        Ok(NewNode { node, incarnation, opening })
    }

    /// What certifies the new node.
    pub(super) fn authority(&self, world: &World) -> Result<Authority, Trouble> {
        self.authority.authority(world.clock.wall_ms()).map_err(|error| not_certified(&error))
    }

    pub(super) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }
}

/// A certificate for the gateway's name and for the machine itself.
pub(super) fn gateway_certificate(
    authority: &Authority,
    gateway_url: &str,
    listen: IpAddr,
    entropy: &dyn Entropy,
) -> Result<Issued, Trouble> {
    let uri: Option<http::Uri> = gateway_url.parse().ok();
    let host = uri.as_ref().and_then(|uri| uri.host()).unwrap_or("localhost");
    let host = host.trim_matches(['[', ']']);
    let mut names = vec!["localhost"];
    let mut addresses: Vec<IpAddr> =
        vec![std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()];
    match host.parse::<IpAddr>() {
        Ok(address) => addresses.push(address),
        Err(_) => names.push(host),
    }
    if !listen.is_unspecified() {
        addresses.push(listen);
    }
    names.dedup();
    addresses.sort();
    addresses.dedup();
    let issued = authority.issue_gateway(&names, &addresses, entropy);
    issued.map_err(|error| not_certified(&error))
}

/// What begins the epoch, with a trace of its own.
pub(super) fn opening_of(command: OpenEpoch, after_term: u64, entropy: &dyn Entropy) -> Opening {
    let mut trace = [0; 16];
    entropy.fill(&mut trace);
    Opening { command, trace: TraceId(u128::from_le_bytes(trace)), after_term }
}

/// Whether this machine's clock can be believed: by it the new epoch judges what is valid, and how
/// long what it cannot know may last.
pub(super) fn check_time(ledger: &Ledger, wall_ms: i64, known: &KnownArgs) -> Result<(), Trouble> {
    let state_ms = ledger.clock().civil_ms;
    let ahead_ms = wall_ms.saturating_sub(state_ms);
    if known.civil_time_is_right || (-MAX_BEHIND_MS..=MAX_AHEAD_MS).contains(&ahead_ms) {
        return Ok(());
    }
    let way = if ahead_ms < 0 { "10 minutes behind" } else { "7 days ahead of" };
    let (wall, state) = (UtcTime::from_unix_ms(wall_ms), UtcTime::from_unix_ms(state_ms));
    Err(unusable(
        "clock_doubtful",
        format!(
            "this machine's clock says {wall}, the state is of {state}: more than {way} it; set \
             the clock, or say that it is right: --civil-time-is-right"
        ),
    ))
}

/// What an operator must know of a state that a new epoch was opened in: JSON and sentences.
/// `state_ms`: when the state was, before.
pub(super) fn consequences(ledger: &Ledger, state_ms: i64) -> (serde_json::Value, Vec<String>) {
    let clock = ledger.clock();
    let grace_ms = ledger.grace().map_or(0, |it| it.until_led_ms.saturating_sub(clock.led_ms));
    let mut reserved = Vec::new();
    let mut lines = vec![format!(
        "For {} from the first leader on nobody gets a new seat: who held one comes back by \
         renewing.",
        seconds(grace_ms)
    )];
    lines.push(
        "Whoever comes back to a lease that this state does not know has it as one seat, however \
         many it had. Activations that it does not know and that last until they are given back \
         are forgotten: their devices activate anew."
            .to_owned(),
    );
    for package in ledger.packages() {
        let name = &package.terms.package;
        let Some(row) = ledger.reserved(name) else { continue };
        let until = UtcTime::from_unix_ms(row.until_ms);
        lines.push(format!(
            "{} seats of {name} are kept until {until} for borrows that this state cannot know: \
             `leasehold package release-reserved {name}` when there are none.",
            row.seats
        ));
        reserved.push(serde_json::json!({
            "package": &**name, "seats": row.seats, "until": until.to_string(),
        }));
    }
    lines.push(
        "Access tokens of the former epoch are refused: applications log in anew. Client secrets, \
         license keys and operator tokens go on."
            .to_owned(),
    );
    lines.push(
        "Former nodes are no members any more; whatever they still hold must not serve again."
            .to_owned(),
    );
    let operators: Vec<&str> = ledger.operators().map(|operator| &*operator.name).collect();
    let since = UtcTime::from_unix_ms(state_ms);
    lines.push(format!(
        "What was revoked, rotated or removed after {since} is in force again: check operator \
         tokens (`leasehold operator list`), applications, API keys. Operators: {}.",
        operators.join(", ")
    ));
    let json = serde_json::json!({
        "grace_ms": grace_ms, "reserved": reserved, "operators": operators,
    });
    (json, lines)
}

/// The facts of the new epoch.
pub(super) fn epoch_facts(ledger: &Ledger, node: NodeId) -> Vec<(&'static str, String)> {
    let cluster = ledger.cluster();
    vec![
        fact("cluster", cluster.map_or("-", |it| &it.cluster_id)),
        fact("epoch", cluster.map_or(0, |it| it.epoch)),
        fact("node", node),
    ]
}

fn seconds(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

fn number(entropy: &dyn Entropy) -> u64 {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    u64::from_be_bytes(bytes)
}

fn strange_key(ledger: &Ledger, named: &str, public: &[u8; 32]) -> Trouble {
    let members: Vec<String> = ledger
        .members()
        .map(|member| format!("node {} ({}…)", member.node, short(&member.kek_public)))
        .collect();
    unusable(
        "kek_unknown",
        format!(
            "{named} ({}…) is the key of no member in this state, and without one its secrets \
             cannot be opened; name the kek.pem of {}",
            short(public),
            members.join(" or ")
        ),
    )
}

fn short(key: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(&key[..4])
}

fn sealed(error: &SealError) -> Trouble {
    let message = format!("the secrets of the cluster cannot be opened: {}", chain(error));
    Trouble::new(Exit::Unverifiable, "secrets_unopenable", message)
}

/// A certificate or a key that could not be made.
pub(super) fn not_certified(error: &PkiError) -> Trouble {
    Trouble::new(Exit::Failed, "failed", format!("no certificate was made: {}", chain(error)))
}

pub(super) fn not_founded() -> Trouble {
    unusable("not_founded", "there is no cluster in this state")
}

/// By so much may the clock of a machine be off without anybody noticing.
const MAX_BEHIND_MS: i64 = 10 * 60 * 1000;
/// A backup older than this is rarely the one that was meant.
const MAX_AHEAD_MS: i64 = 7 * 24 * 3600 * 1000;
