//! Where nodes are, and how they say they are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::Value;

use super::Operator;
use super::http::{Answer, Http, Reply};
use crate::clock::{LIVENESS, eventually};

/// Where one node is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Face {
    /// Its id.
    pub id: u64,
    /// Its gateway's own address, no proxy before it.
    pub gateway: SocketAddr,
}

/// All nodes of the cluster.
#[derive(Debug, Default)]
pub struct Directory {
    faces: RwLock<BTreeMap<u64, Face>>,
}

impl Directory {
    pub(super) fn add(&self, face: Face) {
        self.faces.write().unwrap_or_else(PoisonError::into_inner).insert(face.id, face);
    }

    pub(super) fn remove(&self, id: u64) {
        self.faces.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// As of now, in order of id.
    pub fn faces(&self) -> Vec<Face> {
        self.faces.read().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }

    /// One of them.
    pub fn face(&self, id: u64) -> Option<Face> {
        self.faces.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }
}

/// Asks nodes how they are, past every proxy.
#[derive(Debug, Clone)]
pub struct Observer {
    http: Http,
    token: String,
    directory: Arc<Directory>,
}

impl Observer {
    pub(super) fn new(operator: &Operator, directory: Arc<Directory>) -> Result<Self> {
        let http = Http::with_timeout(operator.ca_cert(), LOOK_WITHIN)?;
        Ok(Self { http, token: operator.token().to_owned(), directory })
    }

    /// Ids of all nodes, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.directory.faces().iter().map(|face| face.id).collect()
    }

    /// Where they all are, in order of id.
    pub fn faces(&self) -> Vec<Face> {
        self.directory.faces()
    }

    /// An operator's call to one node.
    pub async fn call(&self, node: u64, method: Method, path: &str, body: Option<&Value>) -> Reply {
        let Some(face) = self.directory.face(node) else {
            return Reply::NotSent(format!("no node {node}"));
        };
        let mut request = self.http.request(method, face.gateway, path).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.http.send(request).await
    }

    /// An operator's read from one node; `None` unless it was answered 200.
    pub async fn get(&self, node: u64, path: &str) -> Option<Answer> {
        match self.call(node, Method::GET, path, None).await {
            Reply::Answer(answer) if answer.status == 200 => Some(answer),
            _ => None,
        }
    }

    /// The same from the first node that answers it.
    pub async fn get_from_any(&self, path: &str) -> Option<Answer> {
        for face in self.directory.faces() {
            if let Some(answer) = self.get(face.id, path).await {
                return Some(answer);
            }
        }
        None
    }

    /// How the cluster stands, as the first node says that answers.
    pub async fn status(&self) -> Option<Value> {
        self.get_from_any("/admin/cluster/status").await.map(|answer| answer.body)
    }

    /// The members.
    pub async fn members(&self) -> Option<Vec<Value>> {
        let list = self.get_from_any("/admin/members").await?;
        list.body["members"].as_array().cloned()
    }

    /// Who leads with a quorum, and the term.
    pub async fn leader(&self) -> Option<(u64, u64)> {
        for face in self.directory.faces() {
            let Some(status) = self.get(face.id, "/admin/cluster/status").await else { continue };
            if let Some(leader) = status.body["leader"].as_u64() {
                return Some((leader, term_of(&status.body, leader)));
            }
        }
        None
    }

    /// Waits for a leader.
    ///
    /// # Errors
    /// When there is none for long.
    pub async fn wait_leader(&self) -> Result<u64> {
        let look = || async { self.leader().await.map(|(leader, _)| leader) };
        eventually("a leader is known", LIVENESS, look).await
    }

    /// What a node says of itself in the status of whoever answers.
    pub async fn detail(&self, node: u64) -> Option<Value> {
        let status = self.status().await?;
        let nodes = status["nodes"].as_array()?;
        nodes.iter().find(|known| known["id"] == node).cloned()
    }

    /// One number of a node's metrics, by its name and labels as they stand there.
    pub async fn metric(&self, node: u64, name: &str) -> Option<f64> {
        let text = self.metrics(node).await?;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        text.lines().find_map(value)
    }

    /// A node's metrics, as text.
    pub async fn metrics(&self, node: u64) -> Option<String> {
        let answer = self.get(node, "/metrics").await?;
        String::from_utf8(answer.bytes).ok()
    }

    /// An operator's call that any node may take, repeated elsewhere when nobody answers.
    ///
    /// # Errors
    /// When none does, or one refuses.
    pub async fn order(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut last = String::new();
        for face in self.directory.faces() {
            match self.call(face.id, method.clone(), path, body).await {
                Reply::Answer(answer) if answer.status < 300 => return Ok(answer),
                Reply::Answer(answer) => last = format!("{}: {}", answer.status, answer.body),
                Reply::NotSent(why) | Reply::Unknown(why) => last = why,
            }
        }
        bail!("{path}: {last}")
    }
}

/// A node's term in a status.
fn term_of(status: &Value, node: u64) -> u64 {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found = nodes.iter().find(|known| known["id"] == node);
    found.and_then(|known| known["term"].as_str()?.parse().ok()).unwrap_or(0)
}

/// Longest wait for a node that says how it is: it asks the others, and waits for them.
const LOOK_WITHIN: Duration = Duration::from_secs(3);
