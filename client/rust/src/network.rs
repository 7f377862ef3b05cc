//! The way to the servers as it was set up, made at its first use.
//!
//! Setting up never blocks and never fails: what is wrong with it is told by the first call, or by
//! a builder that asks for it. Reading the system's authorities takes a moment, so the transport is
//! made on the client's own thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::environment::{Environment, SystemEnvironment};
use crate::error::Error;
use crate::transport::tls::{self, TlsSettings};
use crate::transport::{Timeouts, Transport};

/// Everything that the way to the servers depends on.
pub(crate) struct NetworkSettings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) timeouts: Timeouts,
    pub(crate) tls: TlsSettings,
    pub(crate) user_agent: String,
    pub(crate) is_plain_permitted: bool,
    pub(crate) environment: Arc<dyn Environment>,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            timeouts: Timeouts {
                connect: Duration::from_secs(3),
                request: Duration::from_secs(5),
                total: Duration::from_secs(15),
            },
            tls: TlsSettings::default(),
            user_agent: concat!("leasehold-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            is_plain_permitted: false,
            environment: Arc::new(SystemEnvironment::new()),
        }
    }
}

impl NetworkSettings {
    /// The servers; fails when there is none, or one that cannot be spoken to.
    pub(crate) fn urls(&self) -> Result<Vec<reqwest::Url>, Error> {
        let Self { endpoints, is_plain_permitted, .. } = self;
        if endpoints.is_empty() {
            return Err(Error::configuration("no license server is named"));
        }
        endpoints.iter().map(|text| tls::endpoint(text, *is_plain_permitted)).collect()
    }
}

/// The way to the servers.
pub(crate) struct Network {
    settings: NetworkSettings,
    transport: OnceCell<Transport>,
}

impl Network {
    /// Takes the settings; nothing is opened.
    pub(crate) fn new(settings: NetworkSettings) -> Self {
        Self { settings, transport: OnceCell::new() }
    }

    /// The machine.
    pub(crate) fn environment(&self) -> &Arc<dyn Environment> {
        &self.settings.environment
    }

    /// The servers as they were configured.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.settings.endpoints
    }

    /// How long to wait for what.
    pub(crate) fn timeouts(&self) -> Timeouts {
        self.settings.timeouts
    }

    /// The transport, made at the first call.
    pub(crate) async fn transport(&self) -> Result<&Transport, Error> {
        self.transport.get_or_try_init(|| async { self.open() }).await
    }

    fn open(&self) -> Result<Transport, Error> {
        let urls = self.settings.urls()?;
        let NetworkSettings { timeouts, tls, user_agent, environment, .. } = &self.settings;
        let http = tls::http_client(tls, &urls, *timeouts, user_agent)?;
        Ok(Transport::new(http, urls, *timeouts, Arc::clone(environment)))
    }
}
