//! How every node stands, as verbs that work on one node after the other need it.

use serde::Deserialize;
use serde_json::Value;

use crate::client::Request;
use crate::error::{CliError, Result};
use crate::session::Session;

/// What is read of `GET /admin/cluster/status`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Standing {
    /// Who leads.
    #[serde(default)]
    pub(crate) leader: Option<u64>,
    /// The nodes, in order of id.
    pub(crate) nodes: Vec<NodeStanding>,
}

/// One node.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct NodeStanding {
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) gateway: String,
    #[serde(default)]
    lag: Option<Value>,
    #[serde(default)]
    sealed: Option<bool>,
    #[serde(default)]
    detail: Option<Detail>,
}

#[derive(Debug, Clone, Deserialize)]
struct Detail {
    #[serde(default)]
    uptime_ms: Option<u64>,
    #[serde(default)]
    recovered: Option<bool>,
    #[serde(default)]
    draining: Option<bool>,
}

impl NodeStanding {
    /// Whether it answers.
    pub(crate) fn is_up(&self) -> bool {
        self.role != "unreachable"
    }

    /// Milliseconds since its process started, where it says so.
    pub(crate) fn uptime_ms(&self) -> Option<u64> {
        self.detail.as_ref()?.uptime_ms
    }

    /// What is wrong with it; nothing: it serves and has caught up.
    pub(crate) fn fault(&self) -> Option<String> {
        if !self.is_up() {
            return Some("does not answer".to_owned());
        }
        if self.sealed == Some(true) {
            return Some("has no keys".to_owned());
        }
        let detail = self.detail.as_ref();
        if detail.is_some_and(|detail| detail.draining == Some(true)) {
            return Some("is on its way down".to_owned());
        }
        if detail.is_some_and(|detail| detail.recovered == Some(false)) {
            return Some("has not caught up with its own log".to_owned());
        }
        match self.lag() {
            lag if lag > MAX_LAG => Some(format!("is {lag} entries behind")),
            _ => None,
        }
    }

    fn lag(&self) -> u64 {
        match &self.lag {
            Some(Value::Number(number)) => number.as_u64().unwrap_or(0),
            Some(Value::String(text)) => text.parse().unwrap_or(0),
            _ => 0,
        }
    }

    /// The host of its gateway.
    pub(crate) fn host(&self) -> Option<String> {
        let url = reqwest::Url::parse(&self.gateway).ok()?;
        url.host_str().map(str::to_owned)
    }
}

/// Asks the servers in turn until one of them knows a leader, or the last has answered.
pub(crate) async fn now(session: &Session<'_>) -> Result<Standing> {
    let mut last: Result<Standing> = Err(CliError::NotReachable { tried: Vec::new() });
    for server in 0..session.client.server_count() {
        match ask(session, server).await {
            Ok(standing) if standing.leader.is_some() => return Ok(standing),
            Ok(standing) => last = Ok(standing),
            Err(error) if last.is_err() => last = Err(error),
            Err(_) => {}
        }
    }
    last
}

/// Whether no server takes a connection.
pub(crate) async fn is_silent(session: &Session<'_>) -> bool {
    matches!(now(session).await, Err(CliError::NotReachable { .. }))
}

async fn ask(session: &Session<'_>, server: usize) -> Result<Standing> {
    let request =
        Request::get(&["admin", "cluster", "status"]).bearer(session.settings.operator_token()?);
    session.client.ask(server, &request).await?.json()
}

/// Entries that a node may be behind and still count as caught up: what a busy cluster writes
/// while it is asked.
const MAX_LAG: u64 = 1_000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_well_when_nothing_is_wrong_with_it() {
        for (fields, fault) in [
            (json!({ "role": "leader" }), None),
            (json!({ "role": "follower", "lag": "12", "sealed": false }), None),
            (json!({ "role": "unreachable" }), Some("does not answer")),
            (json!({ "role": "follower", "sealed": true }), Some("has no keys")),
            (json!({ "role": "learner", "lag": "5000" }), Some("is 5000 entries behind")),
            (
                json!({ "role": "follower", "detail": { "recovered": false } }),
                Some("has not caught up with its own log"),
            ),
            (
                json!({ "role": "follower", "detail": { "draining": true } }),
                Some("is on its way down"),
            ),
        ] {
            let mut node = json!({ "id": 1, "gateway": "https://a.example:7401" });
            node.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            let node: NodeStanding = serde_json::from_value(node).unwrap();
            assert_eq!(node.fault().as_deref(), fault, "{fields}");
            assert_eq!(node.host().as_deref(), Some("a.example"));
        }
    }
}
