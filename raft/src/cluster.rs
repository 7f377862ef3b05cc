//! The handle of a node's part in the cluster.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use lease::entry::Envelope;
use lease::ids::NodeId;
use storage::seam::{Clock, Disk, Entropy};

use crate::config::ClusterConfig;
use crate::outcome::{ReadError, ReadPoint, SubmitError, Submitted};
use crate::status::{Metrics, Status};
use crate::transport::{HandleError, PeerCall, Transport};

/// A node's part in the cluster. A clone is another handle to the same one.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work.
    #[error("the configuration does not work: {0}")]
    Config(String),
    /// The disk refused.
    #[error("the data directory cannot be used")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something acknowledged is missing or changed: this member must be replaced.
    #[error("the data directory is damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why a cluster was not founded.
#[derive(Debug, thiserror::Error)]
pub enum InitializeError {
    /// It was founded before; nothing changed.
    #[error("the cluster has been founded already")]
    Already,
    /// This node is not among the members given.
    #[error("this node is not among the members")]
    NotAMember,
    /// The node has failed or is stopping.
    #[error("the node has failed: {0}")]
    Failed(String),
}

/// Why the membership or the leader was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader can; ask this one.
    #[error("this node does not lead")]
    NotLeader(Option<NodeId>),
    /// Not possible as things stand.
    #[error("the change is not possible: {0}")]
    NotPossible(String),
    /// Not done within the deadline; it may yet happen.
    #[error("the change was not seen within the deadline")]
    Timeout,
    /// The node has failed or is stopping.
    #[error("the node has failed: {0}")]
    Failed(String),
}

impl Cluster {
    /// Opens log and state, loads the ledger, and takes part. Does not wait for a leader.
    pub async fn start(
        config: ClusterConfig,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        let _ = (config, disk, clock, entropy, transport);
        todo!()
    }

    /// Founds the cluster with these voters (number and `host:port`); on one node only.
    pub async fn initialize(&self, members: Vec<(NodeId, String)>) -> Result<(), InitializeError> {
        let _ = (members, &self.inner);
        todo!()
    }

    /// Whether the cluster has been founded, as far as this node's log knows.
    pub async fn is_initialized(&self) -> bool {
        todo!()
    }

    /// Has the leader propose these commands, wherever it is, and waits until they are applied.
    /// Retries within the deadline under the same request ids, against whoever leads. At most
    /// 1,024 commands; they come into one entry, in this order.
    pub async fn submit(
        &self,
        commands: Vec<Envelope>,
        deadline: Duration,
    ) -> Result<Submitted, SubmitError> {
        let _ = (commands, deadline);
        todo!()
    }

    /// Waits until this node's ledger holds everything that was answered anywhere before the call.
    pub async fn read_barrier(&self, deadline: Duration) -> Result<ReadPoint, ReadError> {
        let _ = deadline;
        todo!()
    }

    /// Waits until this node has applied `index` (or more).
    pub async fn wait_applied(&self, index: u64) {
        let _ = index;
        todo!()
    }

    /// *F*.
    pub fn failover_bound(&self) -> Duration {
        todo!()
    }

    /// How this node stands.
    pub fn status(&self) -> Status {
        todo!()
    }

    /// Counters since the start.
    pub fn metrics(&self) -> Metrics {
        todo!()
    }

    /// Unix milliseconds to show: the last applied stamp's civil time plus this node's monotonic
    /// time since it applied it.
    pub fn displayed_civil_ms(&self) -> i64 {
        todo!()
    }

    /// Answers a peer's call; `from` is the node the transport proved.
    pub async fn handle(
        &self,
        from: NodeId,
        call: PeerCall,
        body: Bytes,
    ) -> Result<Bytes, HandleError> {
        let _ = (from, call, body);
        todo!()
    }

    /// Receives and installs a peer's snapshot.
    pub async fn handle_snapshot(
        &self,
        from: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
    ) -> Result<Bytes, HandleError> {
        let _ = (from, header, chunks);
        todo!()
    }

    /// Whether this node may ask for votes; a sealed node must not.
    pub fn set_may_lead(&self, may: bool) {
        let _ = may;
        todo!()
    }

    /// Hands leadership to `to`, or to the most up-to-date other voter, and waits until another
    /// node leads.
    pub async fn transfer_leader(
        &self,
        to: Option<NodeId>,
        deadline: Duration,
    ) -> Result<NodeId, ChangeError> {
        let _ = (to, deadline);
        todo!()
    }

    /// Adds a node that follows without a vote; on the leader.
    pub async fn add_learner(&self, node: NodeId, address: String) -> Result<(), ChangeError> {
        let _ = (node, address);
        todo!()
    }

    /// Gives a learner a vote; on the leader.
    pub async fn promote(&self, node: NodeId) -> Result<(), ChangeError> {
        let _ = node;
        todo!()
    }

    /// Removes a node, voter or learner; on the leader.
    pub async fn remove(&self, node: NodeId) -> Result<(), ChangeError> {
        let _ = node;
        todo!()
    }

    /// Writes a checkpoint now and waits for it.
    pub async fn checkpoint_now(&self) -> Result<(), ChangeError> {
        todo!()
    }

    /// Resolves when this node must not go on: its storage failed or its state was found damaged.
    /// The process logs the text and exits with a status other than 0.
    pub async fn fatal(&self) -> String {
        todo!()
    }

    /// The clean stop: answers what waits, closes log and state.
    pub async fn shutdown(self) {
        todo!()
    }
}
