//! Putting an evaluation's client together: what is said goes before `EDON_*` variables, these
//! before defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::evaluation::config::{self, Config};
use protocol::evaluation::key_ring::KeyVersion;
use protocol::secret::Secret;

use super::client::EvaluationClient;
use super::core::{Core, Settings};
use super::file::Files;
use crate::environment::Environment;
use crate::error::Error;
use crate::network::{Network, NetworkSettings};
use crate::variables;

/// An evaluation's client that is being put together.
#[must_use = "a builder does nothing until `build`"]
pub struct EvaluationClientBuilder {
    network: NetworkSettings,
    said: BTreeMap<String, String>,
    variables: Option<BTreeMap<String, String>>,
    version: String,
    organisation: Option<String>,
    project: Option<String>,
    activation_code: Option<Secret<String>>,
    hostname: Option<String>,
    path: Option<PathBuf>,
    key_versions: (u32, u32),
}

impl EvaluationClientBuilder {
    pub(super) fn new() -> Self {
        let mut network = NetworkSettings::default();
        network.timeouts.total = Duration::from_secs(5);
        Self {
            network,
            said: BTreeMap::new(),
            variables: None,
            version: "2.0.0".to_owned(),
            organisation: None,
            project: None,
            activation_code: None,
            hostname: None,
            path: None,
            key_versions: (1, 1),
        }
    }

    /// The server: what `/activate` and `/validate` are appended to, as
    /// `https://licenses.example.com/v1`. One of these two words at its end is taken off.
    pub fn activation_server(self, url: impl Into<String>) -> Self {
        self.say(config::ACTIVATION_SERVER, url.into())
    }

    /// The secret of key version 1, for programs that may have it.
    pub fn secret_v1(self, secret: impl Into<String>) -> Self {
        self.say(config::SECRET_V1, secret.into())
    }

    /// The secret of key version 2.
    pub fn secret_v2(self, secret: impl Into<String>) -> Self {
        self.say(config::SECRET_V2, secret.into())
    }

    fn say(mut self, name: &str, value: String) -> Self {
        self.said.insert(name.to_owned(), value);
        self
    }

    /// The version that signs files made here, and the oldest that is accepted; 1 and 1 when not
    /// set.
    pub fn key_versions(mut self, current: u32, minimum: u32) -> Self {
        self.key_versions = (current, minimum);
        self
    }

    /// Version of the software; `2.0.0` when not set.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Which organisation evaluates.
    pub fn organisation(mut self, org_id: impl Into<String>) -> Self {
        self.organisation = Some(org_id.into());
        self
    }

    /// For which project.
    pub fn project(mut self, project_id: impl Into<String>) -> Self {
        self.project = Some(project_id.into());
        self
    }

    /// The code of the evaluation, where it needs one.
    pub fn activation_code(mut self, code: impl Into<String>) -> Self {
        self.activation_code = Some(Secret::new(code.into()));
        self
    }

    /// The name of this host, of which a hash is sent; `HOSTNAME`, else `unknown`, when not set, as
    /// in the published client.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// The license file; `~/.edon/license.json` when not set.
    pub fn license_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Trusts these authorities (PEM) and no others; those of the system when not set.
    pub fn tls_roots_pem(mut self, pem: &[u8]) -> Self {
        self.network.tls.trust(pem);
        self
    }

    /// Longest time for a call with all its retries; 5 s when not set.
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

    /// Permits a server without TLS beyond this machine.
    #[cfg(feature = "development")]
    pub fn danger_permit_plain_http(mut self) -> Self {
        self.network.is_plain_permitted = true;
        self
    }

    /// The client. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot work: a URL that is none, key versions without a
    /// secret, no home directory.
    pub fn build(mut self) -> Result<EvaluationClient, Error> {
        let mut variables = self.variables.unwrap_or_else(variables::of_process);
        variables.extend(self.said);
        let (current, minimum) = self.key_versions;
        let (current, minimum) = (KeyVersion(current), KeyVersion(minimum));
        let config = Config::resolve(&variables, current, minimum, IS_DEVELOPMENT)
            .map_err(|error| Error::configuration(error.to_string()))?;
        for name in &config.ignored {
            tracing::warn!(%name, "has no effect: this build is not for development");
        }
        self.network.endpoints = vec![config.base_url.clone()];
        self.network.urls()?;
        let secrets = [(config::SECRET_V1, KeyVersion(1)), (config::SECRET_V2, KeyVersion(2))];
        let configured = secrets
            .into_iter()
            .filter(|(name, _)| variables::get(&variables, name).is_some())
            .map(|(_, version)| version)
            .collect();
        let hostname = self.hostname.or_else(|| variables::get(&variables, "HOSTNAME"));
        let hostname = hostname.unwrap_or_else(|| "unknown".to_owned());
        let path = self.path.unwrap_or_else(|| PathBuf::from(".edon/license.json"));
        let path = variables::in_home(path, &variables)?;
        let settings = Settings {
            config,
            configured,
            version: self.version,
            organisation: self.organisation,
            project: self.project,
            activation_code: self.activation_code,
            hostname: hostname.clone(),
        };
        let files = Files { path, hostname };
        Ok(EvaluationClient::of(Core::new(Network::new(self.network), settings, files)))
    }
}

impl fmt::Debug for EvaluationClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EvaluationClientBuilder")
            .field("server", &self.said.get(config::ACTIVATION_SERVER))
            .field("organisation", &self.organisation)
            .finish_non_exhaustive()
    }
}

/// Whether bypass variables count, and licenses that were made without a server.
pub(super) const IS_DEVELOPMENT: bool = cfg!(feature = "development");
