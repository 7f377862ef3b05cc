//! What the checks judge: answers of the servers, gathered once.
//!
//! Everything is asked with `GET`. Metrics and readiness are asked of every server that was named,
//! since each speaks for its own node; the rest of whoever answers. An answer that is refused or
//! missing leaves its part of the evidence empty.

use std::collections::BTreeMap;

use protocol::cloud::admin::{MemberList, PackageList, PackageView};
use serde::de::DeserializeOwned;

use crate::client::Request;
use crate::error::{CliError, Result};
use crate::session::Session;
use crate::verbs::pages;
use crate::verbs::watching::{self, Status};
use crate::world;

/// What was gathered.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Wall clock of this machine, Unix milliseconds.
    pub(crate) now_ms: i64,
    /// Every server that was named, in order.
    pub(crate) servers: Vec<Server>,
    pub(crate) status: Option<Status>,
    pub(crate) packages: Option<Vec<PackageView>>,
    pub(crate) members: Option<MemberList>,
}

/// A server that was named.
#[derive(Debug, Clone, Default)]
pub(crate) struct Server {
    pub(crate) url: String,
    /// Why it was not reached.
    pub(crate) unreached: Option<String>,
    /// Its metrics without labels, by name.
    pub(crate) metrics: BTreeMap<String, f64>,
    /// The same as text, for a bundle.
    pub(crate) metrics_text: String,
}

impl Evidence {
    /// Asks everybody. Fails only where no server is reached, or the token is none.
    pub(crate) async fn gather(session: &Session<'_>) -> Result<Self> {
        let mut servers = Vec::new();
        for server in 0..session.client.server_count() {
            servers.push(look_at(session, server).await);
        }
        let status = match watching::gather(session).await {
            Ok((status, _)) => Some(status),
            Err(CliError::NotServing(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            now_ms: world::wall_ms(),
            servers,
            status,
            packages: packages(session).await,
            members: optional(session, &["admin", "members"]).await,
        })
    }

    /// The greatest value of a metric over all servers that were reached.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let values = self.servers.iter().filter_map(|server| server.metrics.get(name).copied());
        values.reduce(f64::max)
    }
}

async fn look_at(session: &Session<'_>, server: usize) -> Server {
    let url = session.settings.servers[server].as_str().trim_end_matches('/').to_owned();
    match session.client.ask(server, &Request::get(&["metrics"])).await {
        Ok(answer) => {
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            Server { url, unreached: None, metrics: samples(&text), metrics_text: text }
        }
        Err(CliError::NotReachable { tried }) => {
            let reason = tried.into_iter().next().map(|(_, reason)| reason);
            Server { url, unreached: Some(reason.unwrap_or_default()), ..Server::default() }
        }
        Err(error) => Server { url, unreached: Some(error.line()), ..Server::default() },
    }
}

async fn packages(session: &Session<'_>) -> Option<Vec<PackageView>> {
    let split = |page: PackageList| (page.packages, page.next);
    let found = pages(session, &["admin", "packages"], &[], Some(MAX_PACKAGES), split).await;
    found.ok().map(|(packages, _)| packages)
}

/// An answer that a check can do without.
async fn optional<T: DeserializeOwned>(session: &Session<'_>, path: &[&str]) -> Option<T> {
    session.get(path).await.ok()?.json().ok()
}

/// Samples without labels of a page in the text format of Prometheus.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Looked at; who has more has other tools.
const MAX_PACKAGES: u32 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_without_labels_are_read() {
        let text = "# HELP leasehold_leases Live leases\nleasehold_leases 7\n\
                    leasehold_refusals_total{reason=\"x\"} 3\nleasehold_x 1.5e3\nbad\n# EOF\n";
        let read = samples(text);
        assert_eq!(read.get("leasehold_leases"), Some(&7.0));
        assert_eq!(read.get("leasehold_x"), Some(&1_500.0));
        assert_eq!(read.len(), 2);
    }
}
