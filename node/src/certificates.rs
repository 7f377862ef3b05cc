//! This node's certificates as one live object: what the gateway and the peer link show, and whom
//! the peer link believes.
//!
//! They begin as the files that `node.toml` names, and are read again when a file changes, on
//! SIGHUP and by order. Files that do not fit together change nothing: the former ones stay in use
//! and one line says which key is wrong. New connections use the new ones at once.
//!
//! What came from the cluster's own authority is *managed*: half way through its life this node
//! makes itself a new one, with the sealed key of that authority, and so it does when another
//! authority has come into charge, or when its gateway is reached at a host that the certificate
//! does not name. What came from elsewhere is watched and never touched. The roots are those of the
//! ledger once it has any, and the file of roots follows it.
//!
//! ```text
//! renewal:  KEY.next (fsync) ─ CERTIFICATE (rename) ─ KEY.next becomes KEY (rename)
//! ```
//!
//! A start that finds a certificate whose key is in `KEY.next` finishes the last step
//! ([`config::load_tls`]), so there is no moment in which a crash leaves a pair that does not fit.
//!
//! What it leaves to others: the authority ([`crate::authority`]), who rotates it (`gateway`).

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::CertificateFacts;
use lease::Ledger;
use lease::command::Command;
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, TraceId};
use parking_lot::Mutex;
use raft::Cluster;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use storage::seam::{Clock, Entropy, RealDisk, replace_file};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use crate::authority::{AuthorityCell, IssuingKey, fingerprint, fingerprints, issuer_among};
use crate::config::file::ConfigFile;
use crate::config::{self, ConfigError, TlsFiles, next_key};
use crate::peer::PeerIdentity;
use crate::pki::{self, Issued, PkiError};
use crate::provision;

/// Why certificates could not be changed; the former ones stay in use.
#[derive(Debug, Error)]
pub(crate) enum CertificatesError {
    /// The files do not fit.
    #[error(transparent)]
    Files(#[from] ConfigError),
    /// TLS cannot work with them.
    #[error("the certificates cannot be used")]
    Tls(#[source] PkiError),
    /// The gateway cannot work with them.
    #[error("the gateway's certificate cannot be used")]
    Gateway(#[source] rustls::Error),
    /// One could not be made.
    #[error("a certificate could not be made")]
    Make(#[source] PkiError),
    /// A file could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This node has nothing to issue from.
    #[error(
        "this node cannot issue certificates: it is sealed, or the cluster has no authority of its \
         own"
    )]
    NoAuthority,
    /// None of its certificates came from the cluster.
    #[error(
        "its certificates do not come from the cluster; replace the files and run: leasehold certs \
         rotate"
    )]
    Unmanaged,
}

/// The certificates of a running node.
pub(crate) struct Certificates {
    config: PathBuf,
    file: Arc<ConfigFile>,
    identity: Arc<PeerIdentity>,
    gateway: watch::Sender<Arc<ServerConfig>>,
    authority: Arc<AuthorityCell>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    live: Mutex<Live>,
}

/// What is in use.
struct Live {
    gateway: Vec<CertificateDer<'static>>,
    peer: Vec<CertificateDer<'static>>,
    /// The roots that peers are believed by.
    roots: Vec<CertificateDer<'static>>,
    /// What the file of roots holds.
    filed: Vec<CertificateDer<'static>>,
    /// Authorities of the cluster, as the ledger says.
    anchors: Vec<CertificateDer<'static>>,
    /// The files when they were read last.
    stamps: Stamps,
    /// What was found out of the above; `None`: something changed since.
    known: Option<Known>,
}

/// What is in use, as reports have it: whoever asks for it, and however often, signatures are
/// verified once.
struct Known {
    /// What it was found out with.
    authority: Option<Arc<IssuingKey>>,
    gateway: Option<CertificateFacts>,
    peer: Option<CertificateFacts>,
}

/// Which of the two pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Gateway,
    Peer,
}

impl Purpose {
    /// Both, in the order in which they are renewed.
    const ALL: [Self; 2] = [Self::Peer, Self::Gateway];

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Peer => "peer",
        }
    }
}

impl Certificates {
    /// Takes the files as the configuration was loaded with them.
    pub(crate) fn new(
        config: PathBuf,
        file: Arc<ConfigFile>,
        files: TlsFiles,
        authority: Arc<AuthorityCell>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, CertificatesError> {
        let stamps = Stamps::of(&file);
        let roots = pki::roots(&files.roots).map_err(CertificatesError::Tls)?;
        let live = Mutex::new(Live {
            gateway: files.gateway.chain.clone(),
            peer: files.peer.chain.clone(),
            roots: files.roots.clone(),
            filed: files.roots,
            anchors: Vec::new(),
            stamps,
            known: None,
        });
        let identity = PeerIdentity::new(roots, files.peer.chain, files.peer.key)
            .map_err(CertificatesError::Tls)?;
        let tls = gateway::tls_config(files.gateway.chain, files.gateway.key)
            .map_err(CertificatesError::Gateway)?;
        let gateway = watch::Sender::new(tls);
        Ok(Self { config, file, identity, gateway, authority, clock, entropy, live })
    }

    /// What the peer link shows and believes.
    pub(crate) fn identity(&self) -> Arc<PeerIdentity> {
        self.identity.clone()
    }

    /// What the gateway shows.
    pub(crate) fn gateway_tls(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.gateway.subscribe()
    }

    /// Certificates in use, for reports.
    pub(crate) fn facts(&self) -> Vec<CertificateFacts> {
        self.with_known(|known| known.gateway.iter().chain(&known.peer).cloned().collect())
    }

    fn with_known<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        let authority = self.authority.get();
        let mut live = self.live.lock();
        let is_current = |known: &Known| match (&known.authority, &authority) {
            (Some(then), Some(now)) => Arc::ptr_eq(then, now),
            (then, now) => then.is_none() && now.is_none(),
        };
        let known = match live.known.take().filter(is_current) {
            Some(known) => known,
            None => live.find_out(authority),
        };
        read(live.known.insert(known))
    }

    /// The authorities that peers are believed by.
    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.live.lock().roots.clone()
    }

    /// SHA-256 (hex) of the authorities that peers are believed by.
    pub(crate) fn anchors(&self) -> Vec<String> {
        fingerprints(&self.live.lock().roots)
    }

    /// Keeps them as they should be for as long as the node runs. SIGHUP reads the files again.
    pub(crate) async fn run(self: Arc<Self>, cluster: Cluster) {
        let mut hangups = match signal(SignalKind::hangup()) {
            Ok(hangups) => Some(hangups),
            Err(error) => {
                warn!(%error, "SIGHUP cannot be waited for");
                None
            }
        };
        let mut pace = Pace::default();
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => hangups.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = hangup => {
                    info!("SIGHUP: the certificates are read again");
                    self.reload_and_tell();
                }
                () = tokio::time::sleep(LOOK) => {}
            }
            if self.files_changed() {
                self.reload_and_tell();
            }
            let anchors = anchors_of(&cluster.ledger());
            self.follow(anchors);
            self.store_first_anchor(&cluster).await;
            let now_ns = self.clock.monotonic_ns();
            let due = self.due(self.now_ms(&cluster));
            if !due.is_empty() && pace.is_rested(now_ns) {
                let renewed = self.renew_these(&due);
                pace.note(now_ns, renewed.is_ok());
                match renewed {
                    Ok(told) => info!("{told}"),
                    Err(error) => {
                        error!(error = config::chain(&error), "certificates were not renewed");
                    }
                }
            }
        }
    }

    /// Reads the files again and uses them; the answer is a sentence.
    pub(crate) fn reload(&self) -> Result<String, CertificatesError> {
        let stamps = Stamps::of(&self.file);
        // What was read is looked at once, whatever comes of it.
        self.live.lock().stamps = stamps;
        let files = config::load_tls(&self.config, &self.file, self.clock.wall_ms())?;
        self.put_to_use(files)?;
        Ok("the certificates were read and are in use".to_owned())
    }

    /// Makes new certificates from the cluster's authority in the place of those that came from it
    /// or a former one, and uses them; the answer is a sentence.
    pub(crate) fn renew(&self) -> Result<String, CertificatesError> {
        self.renew_these(&Purpose::ALL)
    }

    /// One pair that cannot be renewed does not keep the other from it.
    fn renew_these(&self, purposes: &[Purpose]) -> Result<String, CertificatesError> {
        let key = self.authority.get().ok_or(CertificatesError::NoAuthority)?;
        let mut renewed = Vec::new();
        let mut failed = None;
        for purpose in purposes {
            match self.renew_one(&key, *purpose) {
                Ok(true) => renewed.push(purpose.name()),
                Ok(false) => {}
                Err(error) => failed = Some(error),
            }
        }
        if !renewed.is_empty() {
            self.reload()?;
        }
        match failed {
            Some(error) => Err(error),
            None if renewed.is_empty() => Err(CertificatesError::Unmanaged),
            None => Ok(format!("new certificates are in use: {}", renewed.join(", "))),
        }
    }

    fn renew_one(&self, key: &IssuingKey, purpose: Purpose) -> Result<bool, CertificatesError> {
        let is_managed = self.with_known(|known| known.of(purpose).is_some_and(|it| it.managed));
        if !is_managed {
            return Ok(false);
        }
        let leaf = self.live.lock().chain(purpose).first().cloned();
        let issued = self.issue(key, purpose, leaf.as_deref()).map_err(CertificatesError::Make)?;
        let tls = &self.file.tls;
        let (certificate, private) = match purpose {
            Purpose::Gateway => (&tls.gateway_cert, &tls.gateway_key),
            Purpose::Peer => (&tls.peer_cert, &tls.peer_key),
        };
        replace_pair(certificate, private, self.file.node_id, &issued)?;
        Ok(true)
    }

    fn issue(
        &self,
        key: &IssuingKey,
        purpose: Purpose,
        former: Option<&[u8]>,
    ) -> Result<Issued, PkiError> {
        let authority =
            key.authority(self.clock.wall_ms())?.with_leaf_days(self.file.tls.leaf_days);
        match purpose {
            Purpose::Peer => {
                authority.issue_node(&self.file.cluster_id, self.file.node_id, &*self.entropy)
            }
            Purpose::Gateway => {
                let former = former.and_then(pki::particulars_of);
                let (mut names, mut addresses) =
                    former.map(|former| (former.names, former.addresses)).unwrap_or_default();
                match host_of(&self.file.gateway_url) {
                    Some(Host::Address(address)) if !addresses.contains(&address) => {
                        addresses.push(address);
                    }
                    Some(Host::Name(name)) if !names.contains(&name) => names.push(name),
                    _ => {}
                }
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                authority.issue_gateway(&names, &addresses, &*self.entropy)
            }
        }
    }

    /// Managed certificates that are half way through their life, from an authority that is no
    /// longer in charge, or of a gateway that has moved to another host.
    fn due(&self, now_ms: i64) -> Vec<Purpose> {
        let Some(key) = self.authority.get() else { return Vec::new() };
        let in_charge = fingerprint_of(&key);
        let host = host_of(&self.file.gateway_url).map(|host| host.to_string());
        let is_due = |purpose: Purpose, facts: &CertificateFacts| {
            let replaced = key.is_in_charge() && facts.issuer != in_charge;
            let moved = purpose == Purpose::Gateway
                && host.as_ref().is_some_and(|host| !facts.names.contains(host));
            facts.managed && (replaced || moved || facts.renew_at_s <= now_ms.div_euclid(1_000))
        };
        self.with_known(|known| {
            let mut due = Purpose::ALL.to_vec();
            due.retain(|purpose| known.of(*purpose).is_some_and(|facts| is_due(*purpose, facts)));
            due
        })
    }

    /// Believes exactly the ledger's authorities, once it has any, and writes them into the file.
    pub(crate) fn follow(&self, anchors: Vec<CertificateDer<'static>>) {
        if anchors.is_empty() {
            return;
        }
        let mut live = self.live.lock();
        if live.anchors != anchors {
            live.anchors.clone_from(&anchors);
            live.known = None;
        }
        if !same(&live.roots, &anchors) {
            match pki::roots(&anchors).and_then(|roots| self.identity.believe(roots)) {
                Ok(()) => {
                    info!(authorities = anchors.len(), "believes the cluster's authorities");
                    live.roots.clone_from(&anchors);
                }
                Err(error) => error!(%error, "the ledger's authorities cannot be used"),
            }
        }
        let is_filed = same(&live.filed, &anchors);
        // Whoever asks what is in use does not wait for a disk.
        drop(live);
        if !is_filed {
            let path = &self.file.tls.ca_cert;
            let pem: String = anchors.iter().map(|anchor| pki::certificate_pem(anchor)).collect();
            match replace_public(path, self.file.node_id, &pem) {
                Ok(()) => {
                    let stamp = Stamps::of(&self.file).0[0];
                    let mut live = self.live.lock();
                    live.filed = anchors;
                    live.stamps.0[0] = stamp;
                }
                Err(error) => debug!(%error, path = %path.display(), "the roots were not written"),
            }
        }
    }

    /// Stores the authority that the cluster began with, where the ledger has none yet: the
    /// leader's work.
    async fn store_first_anchor(&self, cluster: &Cluster) {
        let Some(anchor) = self.authority.get().and_then(|key| key.first_anchor()) else { return };
        let none_yet = cluster.ledger().trust_anchors().next().is_none();
        if !none_yet || !cluster.status().leads_with_quorum(cluster.failover_bound()) {
            return;
        }
        let envelope = Envelope {
            actor: Actor::Node(self.file.node_id),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command: Command::PutTrustAnchor(Box::new(anchor)),
        };
        match cluster.submit(vec![envelope], PATIENCE).await {
            Ok(submitted) => debug!(outcome = ?submitted.outcomes, "stored the first authority"),
            Err(error) => debug!(%error, "storing the first authority waits for a quorum"),
        }
    }

    fn reload_and_tell(&self) {
        match self.reload() {
            Ok(told) => info!("{told}"),
            Err(error) => {
                error!(error = config::chain(&error), "the former certificates stay in use");
            }
        }
    }

    fn put_to_use(&self, files: TlsFiles) -> Result<(), CertificatesError> {
        let tls = gateway::tls_config(files.gateway.chain.clone(), files.gateway.key)
            .map_err(CertificatesError::Gateway)?;
        let mut live = self.live.lock();
        // Once the ledger has authorities, the file of roots is a copy of them.
        let wanted = if live.anchors.is_empty() { &files.roots } else { &live.anchors };
        let roots = pki::roots(wanted).map_err(CertificatesError::Tls)?;
        let wanted = wanted.clone();
        self.identity
            .show(files.peer.chain.clone(), files.peer.key)
            .map_err(CertificatesError::Tls)?;
        if !same(&wanted, &live.roots) {
            self.identity.believe(roots).map_err(CertificatesError::Tls)?;
        }
        self.gateway.send_replace(tls);
        live.roots = wanted;
        live.filed = files.roots;
        live.gateway = files.gateway.chain;
        live.peer = files.peer.chain;
        live.known = None;
        Ok(())
    }

    fn files_changed(&self) -> bool {
        let now = Stamps::of(&self.file);
        self.live.lock().stamps != now
    }

    /// Civil time, or the machine's before there is any.
    fn now_ms(&self, cluster: &Cluster) -> i64 {
        match cluster.displayed_civil_ms() {
            0 => self.clock.wall_ms(),
            civil_ms => civil_ms,
        }
    }
}

impl Live {
    fn chain(&self, purpose: Purpose) -> &[CertificateDer<'static>] {
        match purpose {
            Purpose::Gateway => &self.gateway,
            Purpose::Peer => &self.peer,
        }
    }

    fn authorities(&self) -> &[CertificateDer<'static>] {
        if self.anchors.is_empty() { &self.roots } else { &self.anchors }
    }

    fn find_out(&self, authority: Option<Arc<IssuingKey>>) -> Known {
        Known {
            gateway: self.facts_of(authority.as_deref(), Purpose::Gateway),
            peer: self.facts_of(authority.as_deref(), Purpose::Peer),
            authority,
        }
    }

    fn facts_of(&self, key: Option<&IssuingKey>, purpose: Purpose) -> Option<CertificateFacts> {
        let leaf = self.chain(purpose).first()?;
        let particulars = pki::particulars_of(leaf)?;
        let issuer = issuer_among(self.authorities(), leaf);
        let mut names = particulars.names;
        names.extend(particulars.addresses.iter().map(ToString::to_string));
        names.extend(pki::uris_of(leaf).unwrap_or_default());
        // From the cluster's own authority: that which issues, or another of the ledger's.
        let managed =
            key.is_some_and(|key| key.issued(leaf)) || issuer_among(&self.anchors, leaf).is_some();
        let (from_s, until_s) = (particulars.not_before_s, particulars.not_after_s);
        Some(CertificateFacts {
            purpose: purpose.name().to_owned(),
            fingerprint: fingerprint(leaf),
            issuer: issuer.map(|issuer| fingerprint(issuer)).unwrap_or_default(),
            not_before_s: from_s,
            not_after_s: until_s,
            managed,
            names,
            renew_at_s: if managed { half_life_s(from_s, until_s) } else { 0 },
        })
    }
}

impl Known {
    fn of(&self, purpose: Purpose) -> Option<&CertificateFacts> {
        match purpose {
            Purpose::Gateway => self.gateway.as_ref(),
            Purpose::Peer => self.peer.as_ref(),
        }
    }
}

/// How others name a gateway's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Name(String),
    Address(IpAddr),
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

fn host_of(url: &str) -> Option<Host> {
    let url: http::Uri = url.parse().ok()?;
    let host = url.host()?.trim_start_matches('[').trim_end_matches(']');
    Some(host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Address))
}

/// When this node may begin a renewal by itself again.
#[derive(Debug, Default)]
struct Pace {
    last_ns: Option<u64>,
    /// In a row.
    failures: u32,
}

impl Pace {
    fn is_rested(&self, now_ns: u64) -> bool {
        let pause_ns = RENEWAL_PAUSE_NS << self.failures.min(MAX_DOUBLINGS);
        self.last_ns.is_none_or(|at_ns| now_ns.saturating_sub(at_ns) >= pause_ns)
    }

    fn note(&mut self, now_ns: u64, is_renewed: bool) {
        self.last_ns = Some(now_ns);
        self.failures = if is_renewed { 0 } else { self.failures.saturating_add(1) };
    }
}

/// When a managed certificate is renewed: half way from when it was made (which is a day after it
/// says, since clocks differ) to its end. Unix seconds.
pub(crate) fn half_life_s(not_before_s: i64, not_after_s: i64) -> i64 {
    let made_s = not_before_s.saturating_add(pki::BACKDATED_S).min(not_after_s);
    made_s + (not_after_s - made_s) / 2
}

fn fingerprint_of(key: &IssuingKey) -> String {
    data_encoding::HEXLOWER.encode(&key.fingerprint())
}

/// Whether two sets of roots are the same, in whatever order.
fn same(these: &[CertificateDer<'static>], those: &[CertificateDer<'static>]) -> bool {
    these.len() == those.len() && these.iter().all(|one| those.contains(one))
}

/// Puts a new pair in the place of the old one; see the drawing above.
pub(crate) fn replace_pair(
    certificate: &Path,
    private: &Path,
    node: NodeId,
    issued: &Issued,
) -> Result<(), CertificatesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificatesError::Write { path, source }
    };
    let next = next_key(private);
    replace_file(&RealDisk, &next, issued.key_pem.expose().as_bytes()).map_err(failed(&next))?;
    replace_public(certificate, node, &issued.certificate_pem).map_err(failed(certificate))?;
    config::finish_key(private).map_err(failed(private))
}

/// Replaces a file that others may read, whole or not at all. Nodes of one machine may share the
/// file of roots, so each has a way there of its own.
fn replace_public(path: &Path, node: NodeId, text: &str) -> io::Result<()> {
    provision::replace_public(path, &format!(".node-{node}"), text)
}

/// The ledger's authorities.
pub(crate) fn anchors_of(ledger: &Ledger) -> Vec<CertificateDer<'static>> {
    let anchors = ledger.trust_anchors();
    anchors.map(|anchor| CertificateDer::from(anchor.certificate_der.clone())).collect()
}

/// How the files look from outside: another look means that one was replaced or written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamps([Option<(u64, i64, i64, u64)>; 5]);

impl Stamps {
    fn of(file: &ConfigFile) -> Self {
        let tls = &file.tls;
        let files =
            [&tls.ca_cert, &tls.gateway_cert, &tls.gateway_key, &tls.peer_cert, &tls.peer_key];
        Self(files.map(|path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
        }))
    }
}

/// Between two looks at files, roots and dates.
const LOOK: Duration = Duration::from_secs(2);
/// Between two renewals that this node begins by itself; twice as long after each that failed.
const RENEWAL_PAUSE_NS: u64 = 10 * 1_000_000_000;
/// Until it is about three quarters of an hour.
const MAX_DOUBLINGS: u32 = 8;
/// For one attempt to put something into the log.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
