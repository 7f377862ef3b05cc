//! What a gateway is made of: its configuration, and what the node lends it.
//!
//! The `node` crate opens everything (storage, consensus, keys, peer links) and hands it over here;
//! nothing in this crate opens a file or a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use lease::ids::NodeId;
use raft::Cluster;
use storage::seam::{Clock, Entropy};

use crate::address::ProxyNetwork;
use crate::authority::CertificateAuthority;
use crate::control::{NodeControl, NodeOrder, OrderError};
use crate::keys::KeysCell;
use crate::rates::RateLimits;
use crate::server::ListenerLimits;
use crate::signer::TokenSigner;

/// What an operator configures.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// This node.
    pub node: NodeId,
    /// Where applications reach this node, without a slash at the end, as
    /// `https://licenses.example.com:7401`. Equal to `gateway_url` of the node's member row.
    pub public_url: String,
    /// Bounds of the listener.
    pub limits: ListenerLimits,
    /// Requests at once; one more is answered 503 with `Retry-After`, so that queues stay short.
    pub max_requests_in_flight: usize,
    /// How often callers may ask.
    pub rates: RateLimits,
    /// What is served beside `cloud`, and how.
    pub faces: Faces,
}

/// The switches of the faces.
#[derive(Debug, Clone, Default)]
pub struct Faces {
    /// The older borrow and return API; `None`: it does not exist.
    pub classic: Option<ClassicFace>,
    /// Whether the device face answers decisions against a caller with 200 and `success:false`, as
    /// its first server did, instead of with the statuses that its document names.
    pub device_compat_200: bool,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<ProxyNetwork>,
}

/// The classic face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClassicFace {
    /// How long a borrowed seat lasts, in led milliseconds: these clients never renew.
    pub ttl_ms: u64,
    /// Whether a return must be signed like a borrow; the old clients send nothing but the id.
    pub strict_return: bool,
}

impl Default for ClassicFace {
    fn default() -> Self {
        Self { ttl_ms: 24 * 60 * 60 * 1_000, strict_return: false }
    }
}

impl GatewayConfig {
    /// The configuration of a node with every bound at its default.
    pub fn new(node: NodeId, public_url: impl Into<String>) -> Self {
        Self {
            node,
            public_url: public_url.into(),
            limits: ListenerLimits::default(),
            max_requests_in_flight: 8_192,
            rates: RateLimits::default(),
            faces: Faces::default(),
        }
    }
}

/// What the node lends to its gateway.
pub struct GatewayContext {
    /// Consensus and the applied ledger.
    pub cluster: Cluster,
    /// The cluster's keys, once the node is unsealed.
    pub keys: Arc<KeysCell>,
    /// This node's token-signing key. Its public half must be published in the log
    /// (`TokenSigner::signing_key`) before a token of it verifies.
    pub signer: Arc<TokenSigner>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// How other nodes stand, and the way to tell them something.
    pub peers: Arc<dyn PeerProbe>,
    /// This node's own process.
    pub control: Arc<dyn NodeControl>,
    /// The cluster's certificate authority, as this node can use it.
    pub authority: Arc<dyn CertificateAuthority>,
}

/// Asks another node how it stands, over the authenticated peer link.
///
/// The other node's side answers with the bytes of [`crate::node_report`]. This is how `cluster
/// status` tells the truth from every node and without a quorum: it asks each member.
pub trait PeerProbe: Send + Sync + 'static {
    /// The report of `node`, or `None` when it cannot be had within `deadline`.
    fn probe(&self, node: NodeId, deadline: Duration) -> BoxFuture<'_, Option<Bytes>>;

    /// Tells `node` what to do and waits for its answer. Never this node itself: its own
    /// [`NodeControl`] is asked directly.
    fn order(
        &self,
        node: NodeId,
        order: NodeOrder,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>>;
}
