//! A network of nodes in one process. A node that is not there refuses the connection; a link that
//! is cut swallows what is sent over it, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use lease::ids::NodeId;
use parking_lot::Mutex;
use raft::{Cluster, HandleError, PeerCall, PeerStream, Transport, TransportError};
use tokio::sync::{mpsc, watch};

/// All links.
#[derive(Default)]
pub(crate) struct Net {
    nodes: Mutex<BTreeMap<NodeId, Present>>,
    cut: watch::Sender<BTreeSet<NodeId>>,
    /// Whether the answers of streams wait.
    held: watch::Sender<bool>,
    /// Whether those of snapshots do.
    held_snapshots: watch::Sender<bool>,
    calls: watch::Sender<BTreeMap<(NodeId, PeerCall), u64>>,
    streams: AtomicU64,
}

/// A node that is there; its connections end with the other half of `gone`.
struct Present {
    cluster: Cluster,
    gone: watch::Sender<()>,
}

/// One node's end.
pub(crate) struct Link {
    from: NodeId,
    net: Arc<Net>,
}

impl Net {
    pub(crate) fn link(self: &Arc<Self>, from: NodeId) -> Arc<Link> {
        Arc::new(Link { from, net: Arc::clone(self) })
    }

    pub(crate) fn join(&self, node: NodeId, cluster: Cluster) {
        let gone = watch::Sender::new(());
        self.nodes.lock().insert(node, Present { cluster, gone });
    }

    pub(crate) fn leave(&self, node: NodeId) {
        self.nodes.lock().remove(&node);
    }

    /// Cuts all links of these nodes, and mends those of all others.
    pub(crate) fn cut_off(&self, nodes: &[NodeId]) {
        self.cut.send_replace(nodes.iter().copied().collect());
    }

    /// How many streams were opened.
    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Holds the answers of all streams up, or lets those that wait and all others go.
    pub(crate) fn hold_answers(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// Holds the answers to snapshots up, or lets those that wait and all others go.
    pub(crate) fn hold_snapshots(&self, hold: bool) {
        self.held_snapshots.send_replace(hold);
    }

    /// Waits until a node has made this many more calls of a kind.
    pub(crate) async fn wait_for_calls(&self, from: NodeId, call: PeerCall, more: u64) {
        self.wait_for_total(from, call, self.total(from, call) + more).await;
    }

    /// How many calls of a kind a node has made.
    pub(crate) fn total(&self, from: NodeId, call: PeerCall) -> u64 {
        self.calls.borrow().get(&(from, call)).copied().unwrap_or(0)
    }

    /// Waits until a node has made this many calls of a kind.
    pub(crate) async fn wait_for_total(&self, from: NodeId, call: PeerCall, total: u64) {
        let mut calls = self.calls.subscribe();
        let are_made = |calls: &BTreeMap<_, u64>| calls.get(&(from, call)).copied() >= Some(total);
        calls.wait_for(are_made).await.expect("the network stays");
    }

    /// The peer, or why it is not reached.
    fn reach(&self, to: NodeId) -> Result<Cluster, TransportError> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused).into();
        let nodes = self.nodes.lock();
        let there = nodes.get(&to).ok_or_else(|| TransportError::NotSent(refused()))?;
        Ok(there.cluster.clone())
    }

    /// The peer, and what resolves when it is there no more.
    fn connect(
        &self,
        to: NodeId,
    ) -> Result<(Cluster, impl Future<Output = ()> + use<>), TransportError> {
        let cluster = self.reach(to)?;
        let gone = self.nodes.lock().get(&to).map(|there| there.gone.subscribe());
        let gone = async move {
            if let Some(mut gone) = gone {
                // Nothing is ever sent: an error means that the other half was dropped.
                while gone.changed().await.is_ok() {}
            }
        };
        Ok((cluster, gone))
    }

    /// Goes on unless the link is cut; what it swallows blocks a stream for good.
    async fn pass(&self, from: NodeId, to: NodeId) {
        if self.is_cut(from, to) {
            std::future::pending::<()>().await;
        }
    }

    fn count(&self, from: NodeId, call: PeerCall) {
        self.calls.send_modify(|calls| *calls.entry((from, call)).or_default() += 1);
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let cut = self.cut.borrow();
        cut.contains(&from) || cut.contains(&to)
    }

    async fn over_the_link<T>(
        &self,
        from: NodeId,
        to: NodeId,
        deadline: Duration,
        work: impl Future<Output = Result<T, HandleError>>,
    ) -> Result<T, TransportError> {
        // What is lost on the way there was not seen by the peer, what is lost on the way back was;
        // the caller cannot tell.
        let both = async {
            if self.is_cut(from, to) {
                // Nor does it keep the peer's process.
                drop(work);
                return std::future::pending().await;
            }
            let answer = work.await;
            if self.is_cut(from, to) {
                std::future::pending::<()>().await;
            }
            answer
        };
        match tokio::time::timeout(deadline, both).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(HandleError::ShuttingDown)) => {
                Err(TransportError::NotSent(HandleError::ShuttingDown.into()))
            }
            Ok(Err(error)) => Err(TransportError::Unknown(error.into())),
            Err(elapsed) => Err(TransportError::Unknown(elapsed.into())),
        }
    }
}

impl Transport for Link {
    fn call(
        &self,
        to: NodeId,
        call: PeerCall,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        Box::pin(async move {
            self.net.count(self.from, call);
            let peer = self.net.reach(to)?;
            let work = async move { peer.handle(self.from, call, body).await };
            self.net.over_the_link(self.from, to, deadline, work).await
        })
    }

    fn open(
        &self,
        to: NodeId,
        call: PeerCall,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<PeerStream, TransportError>> {
        Box::pin(async move {
            let (peer, gone) = self.net.connect(to)?;
            self.net.streams.fetch_add(1, Ordering::Relaxed);
            let (from, net) = (self.from, Arc::clone(&self.net));
            let (requests, waiting) = mpsc::channel(raft::MAX_STREAMED_REQUESTS);
            let sent = stream::unfold((waiting, net), move |(mut waiting, net)| async move {
                let request: Bytes = waiting.recv().await?;
                net.count(from, call);
                net.pass(from, to).await;
                Some((request, (waiting, net)))
            });
            let net = Arc::clone(&self.net);
            let answers = peer.handle_stream(from, call, sent.boxed()).then(move |answer| {
                let net = Arc::clone(&net);
                async move {
                    net.pass(from, to).await;
                    let mut held = net.held.subscribe();
                    held.wait_for(|held| !held).await.expect("the network stays");
                    answer.map_err(|error| TransportError::Unknown(error.into()))
                }
            });
            // The peer's handle must not outlive the peer.
            drop(peer);
            Ok(PeerStream { requests, answers: answers.take_until(Box::pin(gone)).boxed() })
        })
    }

    fn send_snapshot(
        &self,
        to: NodeId,
        header: Bytes,
        chunks: BoxStream<'static, io::Result<Bytes>>,
        deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        Box::pin(async move {
            let peer = self.net.reach(to)?;
            self.net.count(self.from, PeerCall::Snapshot);
            let work = async move {
                let answer = peer.handle_snapshot(self.from, header, chunks).await;
                let mut held = self.net.held_snapshots.subscribe();
                held.wait_for(|held| !held).await.expect("the network stays");
                answer
            };
            self.net.over_the_link(self.from, to, deadline, work).await
        })
    }

    fn set_peers(&self, _peers: Vec<(NodeId, String)>) {}
}
