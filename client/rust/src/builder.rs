//! Putting a client together: servers, credentials, timeouts, TLS, offline store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use protocol::secret::Secret;

use crate::access::AccessTokens;
use crate::client::LicenseClient;
use crate::core::Core;
use crate::environment::Environment;
use crate::error::Error;
use crate::network::{Network, NetworkSettings};
use crate::store::OfflineStore;
use crate::transport::tls::Identity;

/// A client that is being put together. Needed are one server and the credentials.
#[must_use = "a builder does nothing until `build`"]
pub struct LicenseClientBuilder {
    network: NetworkSettings,
    client_id: String,
    client_secret: Secret<String>,
    hostname: Option<String>,
    store: Option<Arc<dyn OfflineStore>>,
    fault: Option<Error>,
}

impl LicenseClientBuilder {
    pub(crate) fn new() -> Self {
        Self {
            network: NetworkSettings::default(),
            client_id: String::new(),
            client_secret: Secret::new(String::new()),
            hostname: None,
            store: None,
            fault: None,
        }
    }

    /// Adds a server, as `https://licenses.example.com`. The one that answered last is asked first,
    /// the others when it does not answer.
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.network.endpoints.push(url.into());
        self
    }

    /// Adds several servers.
    pub fn endpoints<T: Into<String>>(mut self, urls: impl IntoIterator<Item = T>) -> Self {
        self.network.endpoints.extend(urls.into_iter().map(Into::into));
        self
    }

    /// The application's credentials, as its registration gave them.
    pub fn credentials(
        mut self,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> Self {
        self.client_id = client_id.into();
        self.client_secret = Secret::new(client_secret.into());
        self
    }

    /// Longest wait for a connection, TLS handshake included; 3 s when not set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.network.timeouts.connect = timeout;
        self
    }

    /// Longest wait for the answer of one server; 5 s when not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.network.timeouts.request = timeout;
        self
    }

    /// Longest time for a call with all its retries; 15 s when not set.
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.network.timeouts.total = timeout;
        self
    }

    /// Trusts these authorities (PEM) and no others; those of the system when not set.
    pub fn tls_roots_pem(mut self, pem: &[u8]) -> Self {
        self.network.tls.trust(pem);
        self
    }

    /// Shows this certificate (PEM chain, leaf first, and private key) to servers that ask for one.
    pub fn client_certificate_pem(mut self, chain_pem: &[u8], key_pem: &[u8]) -> Self {
        match Identity::from_pem(chain_pem, key_pem) {
            Ok(identity) => self.network.tls.identity = Some(identity),
            Err(error) => self.fault = Some(error),
        }
        self
    }

    /// Names the program to the server, as `my-tool/8.2`.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.network.user_agent = user_agent.into();
        self
    }

    /// The name of this host; the system's own when not set. Offline tokens are bound to it.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// Where to keep what carries the program through an outage and a restart; nowhere when not
    /// set.
    pub fn offline_store(mut self, store: impl OfflineStore) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Another machine than the real one, for tests.
    pub fn environment(mut self, environment: Arc<dyn Environment>) -> Self {
        self.network.environment = environment;
        self
    }

    /// Permits servers without TLS beyond this machine. The secret then travels in the clear.
    #[cfg(feature = "development")]
    pub fn danger_permit_plain_http(mut self) -> Self {
        self.network.is_plain_permitted = true;
        self
    }

    /// The client. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Configuration`] when it cannot work: no server, a URL that is none, a certificate
    /// that cannot be read, no credentials.
    pub fn build(mut self) -> Result<LicenseClient, Error> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.client_id.is_empty() || self.client_secret.expose().is_empty() {
            return Err(Error::configuration("the client id or the client secret is empty"));
        }
        self.network.urls()?;
        Ok(self.assemble())
    }

    /// The client, whatever it was given: the first call says what is wrong.
    pub(crate) fn assemble(self) -> LicenseClient {
        let Self { network, client_id, client_secret, hostname, store, fault: _ } = self;
        let access = AccessTokens::new(client_id, client_secret);
        let hostname = hostname.unwrap_or_else(system_hostname);
        LicenseClient::of(Core::new(Network::new(network), access, hostname, store))
    }
}

impl fmt::Debug for LicenseClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LicenseClientBuilder")
            .field("endpoints", &self.network.endpoints)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// The machine's name for itself; `unknown` when it has none.
fn system_hostname() -> String {
    known_hostname().unwrap_or_else(|| "unknown".to_owned())
}

/// The machine's name for itself.
pub(crate) fn known_hostname() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    Some(name).filter(|name| !name.is_empty())
}
