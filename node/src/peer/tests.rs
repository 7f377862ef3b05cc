//! The transport against itself over real sockets: who is let in, what arrives, what an error says.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use gateway::PeerProbe;
use lease::ids::NodeId;
use raft::{HandleError, PeerCall, Transport, TransportError};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use storage::seam::{RealClock, RealEntropy};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Handlers, PeerIdentity, PeerListener, PeerTable, PeerTransport};
use crate::pki::{self, Authority};

const CLUSTER: &str = "lh-test";
const DEADLINE: Duration = Duration::from_secs(20);

struct Rig {
    authority: Authority,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// A node's process that says what it was told.
struct Obedient;

impl gateway::NodeControl for Obedient {
    fn facts(&self) -> gateway::NodeFacts {
        gateway::NodeFacts::default()
    }

    fn perform(
        &self,
        order: gateway::NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, gateway::OrderError>> {
        Box::pin(async move { Ok(format!("{order:?}")) })
    }
}

impl Rig {
    fn new() -> Self {
        pki::install_provider();
        let authority = Authority::generate(CLUSTER, &RealClock::new(), &RealEntropy).unwrap();
        Self { authority, stop: CancellationToken::new(), tasks: JoinSet::new() }
    }

    fn anchors(&self) -> Arc<rustls::RootCertStore> {
        let pem = self.authority.certificate_pem().as_bytes();
        pki::roots(&[CertificateDer::from_pem_slice(pem).unwrap()]).unwrap()
    }

    fn certified(
        &self,
        by: &Authority,
        cluster: &str,
        node: NodeId,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let issued = by.issue_node(cluster, node, &RealEntropy).unwrap();
        let chain = CertificateDer::pem_slice_iter(issued.certificate_pem.as_bytes());
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose().as_bytes()).unwrap();
        (chain.map(Result::unwrap).collect(), key)
    }

    /// A node that answers every call with `sender:call:body`.
    async fn listen(&mut self, node: NodeId, members: &[NodeId]) -> (String, PeerTable) {
        let (address, table, _) = self.listen_as(node, members).await;
        (address, table)
    }

    /// The same, and what it shows and believes.
    async fn listen_as(
        &mut self,
        node: NodeId,
        members: &[NodeId],
    ) -> (String, PeerTable, Arc<PeerIdentity>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (chain, key) = self.certified(&self.authority, CLUSTER, node);
        let identity = PeerIdentity::new(self.anchors(), chain, key).unwrap();
        let table = PeerTable::new(members.iter().map(|id| (*id, String::new())));
        let listen = PeerListener {
            cluster_id: CLUSTER.to_owned(),
            table: table.clone(),
            tls: Arc::new(identity.server_config().unwrap()),
            identity: identity.clone(),
            handlers: Handlers {
                call: Box::new(|from, call, body| {
                    Box::pin(async move {
                        if body.starts_with(b"shutting down") {
                            return Err(HandleError::ShuttingDown);
                        }
                        let text = format!("{from}:{}:{}", call.path(), body.len());
                        Ok(Bytes::from(text))
                    })
                }),
                stream: Box::new(|from, call, requests| {
                    let answer = move |request: Bytes| match request.starts_with(b"malformed") {
                        true => Err(HandleError::WrongCall(call)),
                        false => {
                            Ok(Bytes::from(format!("{from}:{}:{}", call.path(), request.len())))
                        }
                    };
                    requests.map(answer).boxed()
                }),
                report: Box::new(|| Bytes::from_static(b"fine")),
                control: Arc::new(Obedient),
                snapshot: Box::new(|from, header, mut chunks| {
                    Box::pin(async move {
                        let mut bytes = 0;
                        while let Some(chunk) = chunks.next().await {
                            bytes += chunk.map_err(HandleError::Snapshot)?.len();
                        }
                        Ok(Bytes::from(format!("{from}:{}:{bytes}", header.len())))
                    })
                }),
            },
        };
        self.tasks.spawn(listen.serve(listener, self.stop.clone()));
        (address, table, identity)
    }

    fn transport(&self, by: &Authority, me: NodeId, to: NodeId, address: &str) -> PeerTransport {
        let (chain, key) = self.certified(by, CLUSTER, me);
        PeerTransport::new(
            CLUSTER.to_owned(),
            PeerIdentity::new(self.anchors(), chain, key).unwrap(),
            PeerTable::new([(to, address.to_owned())]),
            Arc::new(RealClock::new()),
        )
    }
}

async fn call(transport: &PeerTransport, to: NodeId, body: Bytes) -> Result<String, String> {
    match transport.call(to, PeerCall::Append, body, DEADLINE).await {
        Ok(answer) => Ok(String::from_utf8(answer.to_vec()).unwrap()),
        Err(TransportError::NotSent(reason)) => Err(format!("not sent: {reason}")),
        Err(TransportError::Unknown(reason)) => Err(format!("unknown: {reason}")),
    }
}

#[tokio::test]
async fn calls_of_every_size_arrive_side_by_side_from_the_proven_node() {
    let mut rig = Rig::new();
    let (address, _) = rig.listen(2, &[1, 2]).await;
    let transport = rig.transport(&rig.authority, 1, 2, &address);
    let sizes = [0, 1, 1000, 300_000, 5 << 20, raft::MAX_CALL_BYTES];
    let calls = sizes.map(|size| call(&transport, 2, Bytes::from(vec![7; size])));
    for (answer, size) in futures_util::future::join_all(calls).await.into_iter().zip(sizes) {
        assert_eq!(answer, Ok(format!("1:append:{size}")));
    }
    let long = call(&transport, 2, Bytes::from(vec![7; raft::MAX_CALL_BYTES + 1])).await;
    assert!(long.unwrap_err().starts_with("not sent: 413"));
    let report = transport.report(2, DEADLINE).await;
    assert_eq!(report.as_deref(), Some(&b"fine"[..]));
    let told = transport.order(2, gateway::NodeOrder::Drain, DEADLINE).await;
    assert_eq!(told, Ok("Drain".to_owned()));
    let nobody = transport.order(3, gateway::NodeOrder::Drain, DEADLINE).await;
    assert_eq!(nobody, Err(gateway::OrderError::Unreachable));
    let stopping = call(&transport, 2, Bytes::from_static(b"shutting down")).await;
    assert!(stopping.unwrap_err().starts_with("unknown: 503"));
}

#[tokio::test]
async fn a_stream_is_answered_in_its_order_until_one_is_refused() {
    let mut rig = Rig::new();
    let (address, table) = rig.listen(2, &[1]).await;
    let transport = rig.transport(&rig.authority, 1, 2, &address);
    let stream = transport.open(2, PeerCall::Appends, DEADLINE).await.unwrap();
    let (requests, mut answers) = (stream.requests, stream.answers);
    let sizes = [0, 1, 1000, 300_000, 5 << 20, raft::MAX_CALL_BYTES, 3];
    for size in sizes {
        requests.send(Bytes::from(vec![7; size])).await.unwrap();
    }
    for size in sizes {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(answer, format!("1:appends:{size}").as_bytes());
    }
    // Both ways stay open for as long as there may be more.
    assert!(answers.next().now_or_never().is_none());
    requests.send(Bytes::from_static(b"malformed")).await.unwrap();
    let refused = answers.next().await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, TransportError::Unknown(why) if why.to_string().contains("Appends"))
    );

    // It ends with the last request, and is refused to a member no more.
    let stream = transport.open(2, PeerCall::Appends, DEADLINE).await.unwrap();
    stream.requests.send(Bytes::from_static(b"last")).await.unwrap();
    drop(stream.requests);
    assert_eq!(stream.answers.map(|it| it.is_ok()).collect::<Vec<_>>().await, [true]);
    let mut open = transport.open(2, PeerCall::Appends, DEADLINE).await.unwrap();
    table.replace(vec![(5, String::new())]);
    open.requests.send(Bytes::new()).await.unwrap();
    assert!(!matches!(open.answers.next().await, Some(Ok(_))));
    let mut refused = transport.open(2, PeerCall::Appends, DEADLINE).await.unwrap();
    let answer = refused.answers.next().await.unwrap();
    assert!(matches!(answer, Err(TransportError::NotSent(_))));
    // Nor does one that is open hold up a node that stops.
    let (address, _) = rig.listen(2, &[1]).await;
    transport.set_peers(vec![(2, address)]);
    let mut open = transport.open(2, PeerCall::Appends, DEADLINE).await.unwrap();
    open.requests.send(Bytes::new()).await.unwrap();
    assert!(open.answers.next().await.unwrap().is_ok());
    rig.stop.cancel();
    while rig.tasks.join_next().await.is_some() {}
    assert!(!matches!(open.answers.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_a_broken_one_is_reported() {
    let mut rig = Rig::new();
    let (address, _) = rig.listen(2, &[1]).await;
    let transport = rig.transport(&rig.authority, 1, 2, &address);
    let header = Bytes::from(vec![1; 70_000]);
    let chunks = || futures_util::stream::iter((0..40).map(|_| Ok(Bytes::from(vec![9; 1 << 20]))));
    let whole = transport.send_snapshot(2, header.clone(), chunks().boxed(), DEADLINE).await;
    assert_eq!(whole.unwrap(), format!("1:70000:{}", 40 << 20).as_bytes());
    let broken = chunks().chain(futures_util::stream::iter([Err(io::Error::other("disk"))]));
    let error = transport.send_snapshot(2, header, broken.boxed(), DEADLINE).await.unwrap_err();
    assert!(error.may_have_arrived());
}

#[tokio::test]
async fn strangers_are_not_let_in() {
    let mut rig = Rig::new();
    let (address, table) = rig.listen(2, &[1, 5]).await;
    let other = Authority::generate(CLUSTER, &RealClock::new(), &RealEntropy).unwrap();
    for (who, transport, to) in [
        ("a member that expects another node", rig.transport(&rig.authority, 1, 3, &address), 3),
        ("a node that is no member", rig.transport(&rig.authority, 4, 2, &address), 2),
        ("a certificate of another CA", rig.transport(&other, 1, 2, &address), 2),
    ] {
        let answer = call(&transport, to, Bytes::new()).await;
        assert!(answer.is_err(), "{who} was let in: {answer:?}");
    }
    let transport = rig.transport(&rig.authority, 1, 2, &address);
    assert!(call(&transport, 2, Bytes::new()).await.is_ok());
    table.replace(vec![(5, String::new())]);
    let removed = call(&transport, 2, Bytes::new()).await.unwrap_err();
    assert!(removed.starts_with("not sent: 403"), "{removed}");
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let mut rig = Rig::new();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let transport = rig.transport(&rig.authority, 1, 2, &address);
    for _ in 0..3 {
        let error = call(&transport, 2, Bytes::new()).await.unwrap_err();
        assert!(error.starts_with("not sent"), "{error}");
    }
    let (address, _) = rig.listen(2, &[1]).await;
    transport.set_peers(vec![(2, address)]);
    assert!(call(&transport, 2, Bytes::new()).await.is_ok());
    rig.stop.cancel();
    while rig.tasks.join_next().await.is_some() {}
    assert!(call(&transport, 2, Bytes::new()).await.is_err());
    rig.stop = CancellationToken::new();
    let (address, _) = rig.listen(2, &[1]).await;
    transport.set_peers(vec![(2, address)]);
    assert!(call(&transport, 2, Bytes::new()).await.is_ok());
}

#[tokio::test]
async fn an_authority_that_is_believed_no_more_loses_its_connections() {
    let mut rig = Rig::new();
    let next = rig.authority.successor(CLUSTER, 2, &RealEntropy).unwrap();
    let now_ms = storage::seam::Clock::wall_ms(&RealClock::new());
    let load = |cross_signed: &[u8]| {
        Authority::load(&next.certificate, cross_signed, next.key_pem.expose(), now_ms).unwrap()
    };
    let old_root = CertificateDer::from_pem_slice(rig.authority.certificate_pem().as_bytes());
    let both = pki::roots(&[old_root.unwrap(), next.certificate.clone()]).unwrap();
    let (address, _, server) = rig.listen_as(2, &[1, 3]).await;
    server.believe(both.clone()).unwrap();

    // Node 1 shows a certificate of the old authority, node 3 one of the new.
    let old = rig.transport(&rig.authority, 1, 2, &address);
    let new = rig.transport(&load(&next.cross_signed), 3, 2, &address);
    assert!(call(&old, 2, Bytes::new()).await.is_ok());
    assert!(call(&new, 2, Bytes::new()).await.is_ok());

    // The listener shows one of the new; who knows the old root alone finds it by the intermediate.
    let (chain, key) = rig.certified(&load(&next.cross_signed), CLUSTER, 2);
    server.show(chain, key).unwrap();
    let later = rig.transport(&rig.authority, 1, 2, &address);
    assert!(call(&later, 2, Bytes::new()).await.is_ok());

    // The old one goes: its connections end, and no other is let in; the rest goes on.
    server.believe(pki::roots(std::slice::from_ref(&next.certificate)).unwrap()).unwrap();
    for refused in [&old, &later, &rig.transport(&rig.authority, 1, 2, &address)] {
        while let Ok(answer) = call(refused, 2, Bytes::new()).await {
            // An answer that was on its way; the connection is closed meanwhile.
            assert_eq!(answer, "1:append:0");
        }
    }
    assert!(call(&new, 2, Bytes::new()).await.is_ok());
}

#[test]
fn who_may_speak_follows_the_membership_the_ledger_and_the_order_of_numbers() {
    let at = |node: NodeId| (node, format!("host-{node}:1"));
    let table = PeerTable::new([at(1), at(2), at(3)]);
    // A number above all that is known has joined since; what it may say is for consensus alone.
    for (node, contains, may_speak) in [(3, true, true), (4, false, true), (9, false, true)] {
        assert_eq!((table.contains(node), table.may_speak(node)), (contains, may_speak), "{node}");
    }
    table.learn([1, 2, 4, 7].into_iter(), [3, 5].into_iter());
    table.replace(vec![at(1), at(2)]);
    for (node, contains, may_speak) in [
        (2, true, true),
        (4, true, true),
        (3, false, true),
        (5, false, true),
        (6, false, false),
        (8, false, true),
    ] {
        assert_eq!((table.contains(node), table.may_speak(node)), (contains, may_speak), "{node}");
    }
    assert_eq!(table.address(4), None, "a row alone is no address to dial");
}

#[test]
fn a_node_that_joins_keeps_whom_it_was_told_of_until_its_log_counts_it_in() {
    let at = |node: NodeId| (node, format!("host-{node}:1"));
    let table = PeerTable::joining(5, [at(3), at(4)]);
    assert!(table.contains(4));
    // The first membership that it is sent is that of the founding.
    table.replace(vec![at(1)]);
    for node in [1, 3, 4] {
        assert_eq!(table.address(node), Some(at(node).1), "{node}");
    }
    table.replace(vec![at(3), at(4), at(5)]);
    table.replace(vec![at(3), at(5), at(6)]);
    assert!(!table.contains(4) && !table.contains(1));
}
