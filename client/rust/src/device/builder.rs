//! Putting a device's client together: what is said goes before `LICENSE_CLIENT_*` variables, and
//! these before defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::keys::PublicKey;
use protocol::secret::Secret;

use super::client::DeviceClient;
use super::core::{Core, Settings};
use super::files::Files;
use crate::environment::Environment;
use crate::error::Error;
use crate::network::{Network, NetworkSettings};
use crate::variables;

/// A device's client that is being put together.
#[must_use = "a builder does nothing until `build`"]
pub struct DeviceClientBuilder {
    network: NetworkSettings,
    email: Option<String>,
    client_id: Option<String>,
    license_key: Option<Secret<String>>,
    product: Option<String>,
    directory: Option<PathBuf>,
    file_name: Option<String>,
    server_key_pem: Option<String>,
    fingerprint: Option<String>,
    variables: Option<BTreeMap<String, String>>,
}

impl DeviceClientBuilder {
    pub(super) fn new() -> Self {
        let mut network = NetworkSettings::default();
        network.timeouts.request = Duration::from_secs(15);
        Self {
            network,
            email: None,
            client_id: None,
            license_key: None,
            product: None,
            directory: None,
            file_name: None,
            server_key_pem: None,
            fingerprint: None,
            variables: None,
        }
    }

    /// The server, as `https://licenses.example.com:8801`.
    pub fn server_url(mut self, url: impl Into<String>) -> Self {
        self.network.endpoints.push(url.into());
        self
    }

    /// Who uses the license.
    pub fn email(mut self, email: impl Into<String>) -> Self {
        self.email = Some(email.into());
        self
    }

    /// The client that owns the license.
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// The license key, as it was typed.
    pub fn license_key(mut self, license_key: impl Into<String>) -> Self {
        self.license_key = Some(Secret::new(license_key.into()));
        self
    }

    /// The product that the license must be for, by id or short name; any when not set.
    pub fn product(mut self, product: impl Into<String>) -> Self {
        self.product = Some(product.into());
        self
    }

    /// Where the license is kept; `~/.licensing` when not set. A relative one is below the home
    /// directory.
    pub fn config_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Name of the license file; `.license.dat` when not set.
    pub fn license_file(mut self, name: impl Into<String>) -> Self {
        self.file_name = Some(name.into());
        self
    }

    /// The server's RSA key (PEM, `PUBLIC KEY`). Answers and files that are signed with another are
    /// refused. When not set, the key of the first activation is trusted from then on.
    pub fn server_key_pem(mut self, pem: impl Into<String>) -> Self {
        self.server_key_pem = Some(pem.into());
        self
    }

    /// What this device is known by, where it is not to be worked out from the machine: in
    /// containers, whose host names and addresses come and go.
    pub fn fingerprint(mut self, fingerprint: impl Into<String>) -> Self {
        self.fingerprint = Some(fingerprint.into());
        self
    }

    /// Names the program to the server.
    pub fn application(mut self, name: &str, version: &str) -> Self {
        self.network.user_agent = format!("{name}/{version}");
        self
    }

    /// Trusts these authorities (PEM) and no others; those of the system when not set.
    pub fn tls_roots_pem(mut self, pem: &[u8]) -> Self {
        self.network.tls.trust(pem);
        self
    }

    /// Permits a server without TLS beyond this machine; the license key then travels in the clear.
    /// Certificates are checked nevertheless where there are any.
    pub fn allow_insecure_http(mut self, is_allowed: bool) -> Self {
        self.network.is_plain_permitted = is_allowed;
        self
    }

    /// Longest time for a call with all its retries; 15 s when not set.
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

    /// The client. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot work: a URL or key that is none, no home directory.
    pub fn build(mut self) -> Result<DeviceClient, Error> {
        let variables = self.variables.take().unwrap_or_else(variables::of_process);
        let variable = |name: &str| variables::get(&variables, name);
        if self.network.endpoints.is_empty() {
            let url = variable(SERVER).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
            self.network.endpoints.push(url);
        }
        if variable(ALLOW_INSECURE_HTTP).is_some_and(|value| variables::is_true(&value)) {
            self.network.is_plain_permitted = true;
        }
        self.network.urls()?;
        let known_key = self
            .server_key_pem
            .as_deref()
            .map(PublicKey::from_pem)
            .transpose()
            .map_err(|error| Error::configuration(format!("the server's key: {error}")))?;
        let fingerprint = self.fingerprint;
        if fingerprint
            .as_deref()
            .is_some_and(|text| !protocol::device::fingerprint::is_fingerprint(text))
        {
            return Err(Error::configuration(
                "a fingerprint is 16 to 128 characters of A-Z a-z 0-9 _ -",
            ));
        }
        let directory = self.directory.or_else(|| variable(CONFIG_DIR).map(PathBuf::from));
        let directory =
            variables::in_home(directory.unwrap_or_else(|| ".licensing".into()), &variables)?;
        let name = self.file_name.or_else(|| variable(LICENSE_FILE));
        let name = name.unwrap_or_else(|| ".license.dat".to_owned());
        if name.contains(['/', '\\', '\0']) || matches!(name.as_str(), "" | "." | "..") {
            return Err(Error::configuration(format!("{name:?} is not a name of a file")));
        }
        let text = |said: Option<String>, name| said.or_else(|| variable(name)).unwrap_or_default();
        let settings = Settings {
            email: text(self.email, EMAIL).trim().to_owned(),
            client_id: text(self.client_id, CLIENT_ID).trim().to_owned(),
            license_key: self
                .license_key
                .unwrap_or_else(|| Secret::new(variable(LICENSE_KEY).unwrap_or_default())),
            product: self.product,
            known_key,
            fingerprint,
        };
        let files = Files { directory, name };
        Ok(DeviceClient::of(Core::new(Network::new(self.network), settings, files)))
    }
}

impl fmt::Debug for DeviceClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceClientBuilder")
            .field("endpoints", &self.network.endpoints)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

const SERVER: &str = "LICENSE_CLIENT_SERVER";
const CONFIG_DIR: &str = "LICENSE_CLIENT_CONFIG_DIR";
const LICENSE_FILE: &str = "LICENSE_CLIENT_LICENSE_FILE";
const EMAIL: &str = "LICENSE_CLIENT_EMAIL";
const CLIENT_ID: &str = "LICENSE_CLIENT_ID";
const LICENSE_KEY: &str = "LICENSE_CLIENT_LICENSE_KEY";
const ALLOW_INSECURE_HTTP: &str = "LICENSE_CLIENT_ALLOW_INSECURE_HTTP";
const DEFAULT_SERVER: &str = "https://localhost:8801";
