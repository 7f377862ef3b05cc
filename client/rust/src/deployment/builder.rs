//! Putting a deployment's client together: what is said goes before `LICENSE_*` variables, these
//! before the section of a file, and that before defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::deployment::config::{self, Config, FileConfig};
use protocol::deployment::wire::Metadata;

use super::client::DeploymentClient;
use super::core::{Core, Settings};
use crate::environment::Environment;
use crate::error::Error;
use crate::network::{Network, NetworkSettings};
use crate::store::{FileStore, OfflineStore};
use crate::variables;

/// A deployment's client that is being put together.
#[must_use = "a builder does nothing until `build`"]
pub struct DeploymentClientBuilder {
    network: NetworkSettings,
    file: FileConfig,
    said: BTreeMap<String, String>,
    variables: Option<BTreeMap<String, String>>,
    offline_grace: Option<Duration>,
    heartbeat_interval: Option<Duration>,
    nodes: Option<u32>,
    metadata: Metadata,
    store: Option<Arc<dyn OfflineStore>>,
}

impl DeploymentClientBuilder {
    pub(super) fn new() -> Self {
        let mut network = NetworkSettings::default();
        network.timeouts.request = Duration::from_secs(15);
        network.timeouts.total = Duration::from_secs(30);
        Self {
            network,
            file: FileConfig::default(),
            said: BTreeMap::new(),
            variables: None,
            offline_grace: None,
            heartbeat_interval: None,
            nodes: None,
            metadata: Metadata::default(),
            store: None,
        }
    }

    /// The server, as `https://licenses.example.com`.
    pub fn server_url(self, url: impl Into<String>) -> Self {
        self.say(config::SERVER_URL, url.into())
    }

    /// The license key.
    pub fn license_key(self, license_key: impl Into<String>) -> Self {
        self.say(config::KEY, license_key.into())
    }

    /// The cluster, as a setup gave it.
    pub fn cluster_id(self, cluster_id: impl Into<String>) -> Self {
        self.say(config::CLUSTER_ID, cluster_id.into())
    }

    fn say(mut self, name: &str, value: String) -> Self {
        self.said.insert(name.to_owned(), value);
        self
    }

    /// The `license:` section of a configuration file, as it was read.
    pub fn file_config(mut self, file: FileConfig) -> Self {
        self.file = file;
        self
    }

    /// How long to go on after the last success while no server can be reached; 24 hours when not
    /// set.
    pub fn offline_grace(mut self, grace: Duration) -> Self {
        self.offline_grace = Some(grace);
        self
    }

    /// How often to call; 15 minutes when not set, and more often where the server says so.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = Some(interval);
        self
    }

    /// How many nodes the cluster has; can be told anew later.
    pub fn nodes(mut self, nodes: u32) -> Self {
        self.nodes = Some(nodes);
        self
    }

    /// What runs, for operators and for the server's log.
    pub fn product(mut self, name: &str, version: &str) -> Self {
        self.network.user_agent = format!("{name}/{version}");
        self.metadata.product = Some(name.to_owned());
        self.metadata.version = Some(version.to_owned());
        self
    }

    /// The name of this host, shown to operators; the system's own when not set.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.metadata.hostname = Some(hostname.into());
        self
    }

    /// The address of this host, shown to operators.
    pub fn ip(mut self, ip: impl Into<String>) -> Self {
        self.metadata.ip = Some(ip.into());
        self
    }

    /// Where to keep the time of the last success; `~/.leasehold` when not set. Without a home
    /// directory nothing is kept, and a restart has no grace.
    pub fn offline_store(mut self, store: impl OfflineStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Trusts these authorities (PEM) and no others; those of the system when not set.
    pub fn tls_roots_pem(mut self, pem: &[u8]) -> Self {
        self.network.tls.trust(pem);
        self
    }

    /// Longest time for a call with all its retries; 30 s when not set.
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.network.timeouts.total = timeout;
        self
    }

    /// Variables to read in place of those of the process.
    pub fn variables(mut self, variables: BTreeMap<String, String>) -> Self {
        self.variables = Some(variables);
        self
    }

    /// Another machine than the real one, for tests.
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.network.environment = environment;
        self
    }

    /// Permits a server without TLS beyond this machine. The license key then travels in the clear.
    #[cfg(feature = "development")]
    pub fn danger_permit_plain_http(mut self) -> Self {
        self.network.is_plain_permitted = true;
        self
    }

    /// The client. Opens nothing. A key or cluster id that is missing is told by
    /// [`DeploymentClient::start`]: a setup has neither.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot work: no server, a URL, key or number that is none.
    pub fn build(mut self) -> Result<DeploymentClient, Error> {
        let mut variables = self.variables.unwrap_or_else(variables::of_process);
        variables.extend(self.said);
        let mut config = Config::resolve(&variables, self.file)
            .map_err(|error| Error::configuration(error.to_string()))?;
        if let Some(grace) = self.offline_grace {
            config.offline_grace_ms = milliseconds(grace);
        }
        if let Some(interval) = self.heartbeat_interval {
            config.heartbeat_interval_ms = milliseconds(interval).max(1_000);
        }
        self.network.endpoints = vec![config.server_url.clone()];
        self.network.urls()?;
        self.metadata.hostname = self.metadata.hostname.or_else(crate::builder::known_hostname);
        let in_home = || {
            let directory = variables::in_home(".leasehold".into(), &variables).ok()?;
            let store: Arc<dyn OfflineStore> = Arc::new(FileStore::new(directory));
            Some(store)
        };
        let store = self.store.or_else(in_home);
        let settings = Settings { config, metadata: self.metadata, nodes: self.nodes };
        Ok(DeploymentClient::of(Core::new(Network::new(self.network), settings, store)))
    }
}

impl fmt::Debug for DeploymentClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeploymentClientBuilder")
            .field("server", &self.said.get(config::SERVER_URL))
            .field("cluster_id", &self.said.get(config::CLUSTER_ID))
            .finish_non_exhaustive()
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
