//! A node's configuration: read, checked and loaded before any socket opens.
//!
//! Everything that can be wrong with a configuration is found here, and every finding is one line
//! that names the key and the file: a person who starts a node at night reads one line and knows
//! what to change. Certificates are read again later, under the same checks (`certificates`);
//! nothing else is.
//!
//! What it leaves to others: the data directory itself (`directory`), the founder's secrets
//! (`provision`).

pub mod alarms;
pub mod file;

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use gateway::{ClassicFace, Faces, ProxyNetwork, Rate, RateLimits, TokenSigner};
use protocol::secret::Secret;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use storage::seam::{Clock, Disk, RealDisk};
use thiserror::Error;

use crate::backup::Schedule;
use crate::pki;
use crate::seal::kek::KeyEncryptionKey;
use file::{BootstrapFile, ConfigFile, JoinFile};

/// Why a configuration is not usable. Each is one line.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file itself cannot be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The configuration file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Not TOML, an unknown key, a missing key or a value of the wrong type.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The configuration file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value that makes no sense.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// The configuration file.
        path: PathBuf,
        /// The key, e.g. `tls.peer_cert`.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A file that a key names is missing, not readable or not what it should be.
    #[error("{}: {key}: {}: {reason}", path.display(), file.display())]
    File {
        /// The configuration file.
        path: PathBuf,
        /// The key, e.g. `tls.peer_cert`.
        key: &'static str,
        /// The file that it names.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// A certificate chain with its private key.
pub struct Certified {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// The certificates that a configuration names.
pub struct TlsFiles {
    /// The cluster's CA certificates.
    pub roots: Vec<CertificateDer<'static>>,
    /// What applications see.
    pub gateway: Certified,
    /// What peers see.
    pub peer: Certified,
}

/// A configuration that was checked, with everything it names loaded.
pub struct Config {
    /// What the file says, paths made absolute.
    pub file: ConfigFile,
    /// Where it was read from.
    pub path: PathBuf,
    /// Certificates.
    pub tls: TlsFiles,
    /// `None`: the node is sealed.
    pub kek: Option<KeyEncryptionKey>,
    /// Signs access tokens.
    pub signer: TokenSigner,
    /// What is served beside `cloud`.
    pub faces: Faces,
    /// How often callers may ask.
    pub rates: RateLimits,
    /// Backups that the node takes by itself.
    pub(crate) backups: Option<Schedule>,
}

/// Reads and checks a configuration.
pub fn load(path: &Path, clock: &dyn Clock) -> Result<Config, ConfigError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = fs::read_to_string(&path).map_err(|error| ConfigError::Unreadable {
        path: path.clone(),
        reason: io_reason(&error),
    })?;
    check(path, &text, clock)
}

/// Checks the text of a configuration, which is at that absolute path or is to be written there.
pub(crate) fn check(path: PathBuf, text: &str, clock: &dyn Clock) -> Result<Config, ConfigError> {
    let file = parse(&path, text)?;
    let loader = Checker { path: &path, file: &file };
    loader.check_values()?;
    let faces = loader.faces()?;
    let rates = loader.rates()?;
    let backups = loader.backups()?;
    let tls = loader.tls(clock.wall_ms())?;
    file.bootstrap.as_ref().map_or(Ok(()), |bootstrap| loader.check_bootstrap(bootstrap))?;
    file.join.as_ref().map_or(Ok(()), |join| loader.check_join(join))?;
    let kek = loader.kek()?;
    let signer = loader.token_signing()?;
    Ok(Config { path: path.clone(), tls, kek, signer, faces, rates, backups, file })
}

/// Checks of a configuration what can be known before its node has keys and certificates: values,
/// and the gateway's certificate where that is there already.
pub(crate) fn check_early(
    path: &Path,
    text: &str,
    has_gateway_cert: bool,
) -> Result<(), ConfigError> {
    let file = parse(path, text)?;
    let checker = Checker { path, file: &file };
    checker.check_values()?;
    checker.faces()?;
    checker.rates()?;
    checker.backups()?;
    if has_gateway_cert {
        let tls = &file.tls;
        checker.certified(
            ("tls.gateway_cert", &tls.gateway_cert),
            ("tls.gateway_key", &tls.gateway_key),
        )?;
    }
    Ok(())
}

/// Reads the certificates of a configuration again.
pub(crate) fn load_tls(
    path: &Path,
    file: &ConfigFile,
    now_ms: i64,
) -> Result<TlsFiles, ConfigError> {
    Checker { path, file }.tls(now_ms)
}

/// Where the next private key waits while its certificate takes its place.
pub(crate) fn next_key(private: &Path) -> PathBuf {
    let mut name = private.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    private.with_file_name(name)
}

/// Puts that key into its place.
pub(crate) fn finish_key(private: &Path) -> io::Result<()> {
    RealDisk.rename(&next_key(private), private)?;
    private.parent().map_or(Ok(()), |dir| RealDisk.sync_dir(dir))
}

/// Reads the text and makes its paths absolute.
fn parse(path: &Path, text: &str) -> Result<ConfigFile, ConfigError> {
    let mut file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1),
        reason: error.message().lines().collect::<Vec<_>>().join(" "),
    })?;
    let base = path.parent().unwrap_or(Path::new("/"));
    let resolve = |target: &mut PathBuf| {
        let joined = base.join(&*target);
        *target = std::path::absolute(&joined).unwrap_or(joined);
    };
    resolve(&mut file.data_dir);
    for target in [
        &mut file.tls.ca_cert,
        &mut file.tls.gateway_cert,
        &mut file.tls.gateway_key,
        &mut file.tls.peer_cert,
        &mut file.tls.peer_key,
        &mut file.keys.token_signing,
    ] {
        resolve(target);
    }
    file.keys.kek.iter_mut().for_each(resolve);
    file.snapshots.iter_mut().for_each(|it| resolve(&mut it.directory));
    if let Some(bootstrap) = &mut file.bootstrap {
        bootstrap.secrets.iter_mut().for_each(resolve);
        resolve(&mut bootstrap.directory_ticket);
    }
    if let Some(join) = &mut file.join {
        resolve(&mut join.directory_ticket);
    }
    Ok(file)
}

struct Checker<'a> {
    path: &'a Path,
    file: &'a ConfigFile,
}

impl Checker<'_> {
    fn check_values(&self) -> Result<(), ConfigError> {
        let file = self.file;
        let plain = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        if !plain(&file.cluster_id) {
            return self.value(
                "cluster_id",
                "must be 1 to 64 lower-case letters, digits and hyphens".to_owned(),
            );
        }
        if file.node_id == 0 {
            return self.value("node_id", "must be 1 or more".to_owned());
        }
        if file.listen == file.peer_listen {
            return self.value("peer_listen", format!("is the same as listen, {}", file.listen));
        }
        if !is_host_port(&file.peer_address) {
            return self.value("peer_address", not_host_port(&file.peer_address));
        }
        if !is_https_url(&file.gateway_url) {
            return self.value("gateway_url", not_https(&file.gateway_url));
        }
        for (key, label) in [("region", &file.region), ("zone", &file.zone)] {
            if label.len() > 64 || label.chars().any(char::is_control) {
                return self.value(key, "must be at most 64 printable characters".to_owned());
            }
        }
        if !(1..=MAX_LEAF_DAYS).contains(&file.tls.leaf_days) {
            return self.value("tls.leaf_days", format!("must be from 1 to {MAX_LEAF_DAYS}"));
        }
        if file.checkpoints.every_seconds == 0 {
            return self.value("checkpoints.every_seconds", "must be 1 or more".to_owned());
        }
        self.check_key_places()
    }

    fn backups(&self) -> Result<Option<Schedule>, ConfigError> {
        let Some(snapshots) = &self.file.snapshots else { return Ok(None) };
        let every: cli::Span = snapshots
            .every
            .parse()
            .or_else(|want: &str| self.value("snapshots.every", want.to_owned()))?;
        if every.seconds < MIN_BACKUP_SECONDS {
            return self.value("snapshots.every", "must be a minute or more".to_owned());
        }
        if snapshots.keep == 0 {
            return self.value("snapshots.keep", "must be 1 or more".to_owned());
        }
        if canonical(&snapshots.directory).starts_with(canonical(&self.file.data_dir)) {
            let reason = "must be outside of data_dir: what is lost with the data is no backup";
            return self.value("snapshots.directory", reason.to_owned());
        }
        Ok(Some(Schedule {
            directory: snapshots.directory.clone(),
            every: Duration::from_secs(every.seconds.into()),
            keep: snapshots.keep as usize,
            cluster_id: self.file.cluster_id.clone(),
            node: self.file.node_id,
            data_dir: self.file.data_dir.clone(),
            min_free: self.file.alarms.min_free,
        }))
    }

    fn faces(&self) -> Result<Faces, ConfigError> {
        let protocols = &self.file.protocols;
        if !(1..=MAX_CLASSIC_TTL_SECONDS).contains(&protocols.classic_ttl_seconds) {
            return self.value(
                "protocols.classic_ttl_seconds",
                format!("must be from 1 to {MAX_CLASSIC_TTL_SECONDS}"),
            );
        }
        let mut trusted_proxies = Vec::with_capacity(protocols.trusted_proxies.len());
        for text in &protocols.trusted_proxies {
            match text.parse::<ProxyNetwork>() {
                Ok(network) => trusted_proxies.push(network),
                Err(error) => {
                    let reason = format!("`{}` is {error}", text.escape_default());
                    return self.value("protocols.trusted_proxies", reason);
                }
            }
        }
        Ok(Faces {
            classic: protocols.classic.then_some(ClassicFace {
                ttl_ms: protocols.classic_ttl_seconds * 1_000,
                strict_return: protocols.classic_strict_return,
            }),
            device_compat_200: protocols.device_compat_200,
            trusted_proxies,
        })
    }

    fn rates(&self) -> Result<RateLimits, ConfigError> {
        let limits = &self.file.limits;
        let rate = |key, per_second: u32, burst: u32| match Rate::new(per_second, burst) {
            None if per_second > 0 => self.value(key, "must be 1 or more".to_owned()),
            rate => Ok(rate),
        };
        let app = rate("limits.app_burst", limits.app_requests_per_second, limits.app_burst)?;
        let address =
            rate("limits.address_burst", limits.address_requests_per_second, limits.address_burst)?;
        Ok(RateLimits { app, address })
    }

    /// Private keys must not be part of what is backed up or copied as the node's data.
    fn check_key_places(&self) -> Result<(), ConfigError> {
        let data_dir = canonical(&self.file.data_dir);
        let keys = &self.file.keys;
        for (key, place) in [
            ("keys.kek", keys.kek.as_ref()),
            ("keys.token_signing", Some(&keys.token_signing)),
            ("tls.gateway_key", Some(&self.file.tls.gateway_key)),
            ("tls.peer_key", Some(&self.file.tls.peer_key)),
        ] {
            if place.is_some_and(|place| canonical(place).starts_with(&data_dir)) {
                return self.value(
                    key,
                    format!(
                        "the key must be outside the data directory {}",
                        self.file.data_dir.display()
                    ),
                );
            }
        }
        Ok(())
    }

    fn check_bootstrap(&self, bootstrap: &BootstrapFile) -> Result<(), ConfigError> {
        let key = "bootstrap.members";
        let mut ids: Vec<_> = bootstrap.members.iter().map(|member| member.id).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != bootstrap.members.len() || ids.contains(&0) {
            return self.value(key, "every member needs an id of its own, from 1 up".to_owned());
        }
        for member in &bootstrap.members {
            if !is_host_port(&member.peer_address) {
                return self.value(key, not_host_port(&member.peer_address));
            }
            if !is_https_url(&member.gateway_url) {
                return self.value(key, not_https(&member.gateway_url));
            }
        }
        let Some(me) = bootstrap.members.iter().find(|member| member.id == self.file.node_id)
        else {
            return self.value(key, format!("node {} is not among them", self.file.node_id));
        };
        // Once the node has run, the cluster knows it by its row: it may have moved since.
        let is_new = bootstrap.directory_ticket.exists();
        if is_new
            && (me.peer_address != self.file.peer_address
                || me.gateway_url != self.file.gateway_url)
        {
            return self.value(
                key,
                format!("node {} has other addresses than peer_address and gateway_url", me.id),
            );
        }
        match (bootstrap.founder, &bootstrap.secrets) {
            (true, None) => {
                self.value("bootstrap.secrets", "the founder needs a secrets file".to_owned())
            }
            (false, Some(_)) => self
                .value("bootstrap.secrets", "only the founder may have a secrets file".to_owned()),
            (true, Some(secrets)) if bootstrap.directory_ticket.exists() => {
                // A node that has never run: nothing can have been founded yet.
                let named = ("bootstrap.secrets", secrets);
                self.private_text(named).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn check_join(&self, join: &JoinFile) -> Result<(), ConfigError> {
        let key = "join.members";
        if self.file.bootstrap.is_some() {
            return self.value("join", "a node founds a cluster or joins one, not both".to_owned());
        }
        for member in &join.members {
            if !is_host_port(&member.peer_address) {
                return self.value(key, not_host_port(&member.peer_address));
            }
            if member.id == self.file.node_id || member.id == 0 {
                return self.value(key, "must name the other members".to_owned());
            }
        }
        match join.members.is_empty() {
            true => self.value(key, "names no member to talk to".to_owned()),
            false => Ok(()),
        }
    }

    fn tls(&self, now_ms: i64) -> Result<TlsFiles, ConfigError> {
        let tls = &self.file.tls;
        let named = ("tls.ca_cert", &tls.ca_cert);
        let roots = self.chain(named)?;
        let store = pki::roots(&roots).or_else(|error| self.bad_file(named, error.to_string()))?;
        let gateway = self.certified(
            ("tls.gateway_cert", &tls.gateway_cert),
            ("tls.gateway_key", &tls.gateway_key),
        )?;
        let peer =
            self.certified(("tls.peer_cert", &tls.peer_cert), ("tls.peer_key", &tls.peer_key))?;
        self.check_peer_identity(&peer, &store, now_ms)?;
        Ok(TlsFiles { roots, gateway, peer })
    }

    fn certified(
        &self,
        certificate: (&'static str, &PathBuf),
        key: (&'static str, &PathBuf),
    ) -> Result<Certified, ConfigError> {
        let chain = self.chain(certificate)?;
        let pem = self.private_text(key)?;
        let Ok(private) = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()) else {
            return self.bad_file(key, "holds no private key in PEM form".to_owned());
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        match rustls::sign::CertifiedKey::from_der(chain.clone(), private.clone_key(), &provider) {
            Ok(_) => Ok(Certified { chain, key: private }),
            Err(rustls::Error::InconsistentKeys(_))
                if self.is_next_key(&chain, key) && finish_key(key.1).is_ok() =>
            {
                // A renewal that was cut short: its last step is done now.
                self.certified(certificate, key)
            }
            Err(rustls::Error::InconsistentKeys(_)) => self.bad_file(
                key,
                format!("is not the key of the certificate {}", certificate.1.display()),
            ),
            Err(error) => self.bad_file(key, format!("is not usable: {error}")),
        }
    }

    /// Whether the key that waits is that of the certificate.
    fn is_next_key(
        &self,
        chain: &[CertificateDer<'static>],
        key: (&'static str, &PathBuf),
    ) -> bool {
        let next = next_key(key.1);
        let Ok(pem) = self.private_text((key.0, &next)) else { return false };
        let Ok(private) = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()) else {
            return false;
        };
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.to_vec(), private, &provider).is_ok()
    }

    fn check_peer_identity(
        &self,
        peer: &Certified,
        roots: &RootCertStore,
        now_ms: i64,
    ) -> Result<(), ConfigError> {
        let named = ("tls.peer_cert", &self.file.tls.peer_cert);
        let expected = pki::spiffe_id(&self.file.cluster_id, self.file.node_id);
        let uris = peer.chain.first().and_then(pki::uris_of).unwrap_or_default();
        if uris != [expected.as_str()] {
            let found = if uris.is_empty() { "no URI".to_owned() } else { uris.join(", ") };
            return self.bad_file(named, format!("names {found}, must name {expected}"));
        }
        pki::chains_to(roots, &peer.chain, now_ms).or_else(|error| {
            let ca = self.file.tls.ca_cert.display();
            self.bad_file(named, format!("is not valid under {ca}: {error}"))
        })
    }

    fn kek(&self) -> Result<Option<KeyEncryptionKey>, ConfigError> {
        let Some(place) = &self.file.keys.kek else { return Ok(None) };
        // A node that has served and lost its key still votes; one that is new is set up wrongly.
        if !place.exists() && self.file.data_dir.exists() {
            return Ok(None);
        }
        let named = ("keys.kek", place);
        let text = self.private_text(named)?;
        let key = KeyEncryptionKey::from_pem(text.expose())
            .or_else(|error| self.bad_file(named, error.to_string()))?;
        let me = self.file.node_id;
        let expected = self
            .file
            .bootstrap
            .iter()
            .flat_map(|bootstrap| &bootstrap.members)
            .find(|member| member.id == me)
            .map(|member| member.kek_public.0);
        if expected.is_some_and(|expected| expected != key.public()) {
            return self
                .bad_file(named, format!("is not the key of node {me} in bootstrap.members"));
        }
        Ok(Some(key))
    }

    fn token_signing(&self) -> Result<TokenSigner, ConfigError> {
        let named = ("keys.token_signing", &self.file.keys.token_signing);
        let text = self.private_text(named)?;
        TokenSigner::from_pem(text.expose()).or_else(|error| self.bad_file(named, chain(&error)))
    }

    fn chain(
        &self,
        named: (&'static str, &PathBuf),
    ) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let bytes = fs::read(named.1).or_else(|error| self.bad_file(named, io_reason(&error)))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => Ok(chain),
            _ => self.bad_file(named, "holds no certificate in PEM form".to_owned()),
        }
    }

    /// A private key's text; the file must be the process owner's and closed to everybody else.
    fn private_text(&self, named: (&'static str, &PathBuf)) -> Result<Secret<String>, ConfigError> {
        read_private(named.1).or_else(|reason| self.bad_file(named, reason))
    }

    fn value<T>(&self, key: &'static str, reason: String) -> Result<T, ConfigError> {
        Err(ConfigError::Value { path: self.path.to_owned(), key, reason })
    }

    fn bad_file<T>(
        &self,
        (key, file): (&'static str, &PathBuf),
        reason: String,
    ) -> Result<T, ConfigError> {
        Err(ConfigError::File { path: self.path.to_owned(), key, file: file.clone(), reason })
    }
}

/// An error with its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text.lines().collect::<Vec<_>>().join(" ")
}

/// Reads a file that must be ours and closed to group and others; the error is a phrase.
pub(crate) fn read_private(path: &Path) -> Result<Secret<String>, String> {
    let metadata = fs::metadata(path).map_err(|error| io_reason(&error))?;
    if !metadata.is_file() {
        return Err("is not a file".to_owned());
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("is open to others (mode {mode:04o}); private files must be 0600"));
    }
    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != me && owner != 0 {
        return Err(format!("belongs to user {owner}, not to {me}"));
    }
    fs::read_to_string(path).map(Secret::new).map_err(|error| io_reason(&error))
}

/// What went wrong with a file, without the "(os error 2)" that helps nobody.
pub(crate) fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::InvalidData => "is not UTF-8 text".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
    }
}

/// The path without links and `..` as far as it exists, and as it would be beyond: neither hides
/// that one path is inside another.
fn canonical(path: &Path) -> PathBuf {
    let mut known = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                known.pop();
            }
            component => known.push(component),
        }
        if let Ok(resolved) = known.canonicalize() {
            known = resolved;
        }
    }
    known
}

/// Whether a node can be reached so; the error is a phrase.
pub(crate) fn check_addresses(peer_address: &str, gateway_url: &str) -> Result<(), String> {
    if !is_host_port(peer_address) {
        return Err(not_host_port(peer_address));
    }
    if is_https_url(gateway_url) { Ok(()) } else { Err(not_https(gateway_url)) }
}

fn is_host_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

fn not_host_port(text: &str) -> String {
    format!("`{}` is not host:port", text.escape_default())
}

fn is_https_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https")
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.path_and_query().is_none_or(|path| path.as_str() == "/")
    }) && !text.ends_with('/')
}

fn not_https(text: &str) -> String {
    format!("`{}` is not https://host:port", text.escape_default())
}

/// No certificate outlives the authority.
const MAX_LEAF_DAYS: u32 = 3_650;
/// A backup reads and writes the whole state.
const MIN_BACKUP_SECONDS: u32 = 60;
/// Thirty days: a seat that nobody renews must come back some day.
const MAX_CLASSIC_TTL_SECONDS: u64 = 30 * 24 * 60 * 60;

#[cfg(test)]
mod tests;
