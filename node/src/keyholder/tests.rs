//! A cluster of one node that was founded with its first secrets only: its keyholder makes the
//! others, unseals the gateway, and takes up what changes while it runs.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lease::command::{InitCluster, Member, SealedSecret};
use raft::{ClusterConfig, PeerCall, Transport, TransportError};
use storage::seam::{Clock, RealClock, RealDisk, RealEntropy};
use tokio::task::JoinSet;

use super::*;
use crate::seal::{DataKey, random_secret};

const CLUSTER: &str = "lh-test";
/// Nothing that must happen takes longer, not even on a machine that does ten other things.
const LIVENESS: Duration = Duration::from_secs(30);

/// One node has no peers.
struct NoPeers;

impl Transport for NoPeers {
    fn call(
        &self,
        _to: NodeId,
        _call: PeerCall,
        _body: Bytes,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        Box::pin(async { Err(TransportError::NotSent("no peers".into())) })
    }

    fn send_snapshot(
        &self,
        _to: NodeId,
        _header: Bytes,
        _chunks: BoxStream<'static, io::Result<Bytes>>,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<Bytes, TransportError>> {
        Box::pin(async { Err(TransportError::NotSent("no peers".into())) })
    }

    fn set_peers(&self, _peers: Vec<(NodeId, String)>) {}
}

/// The node, and what its founder knew.
struct World {
    cluster: Cluster,
    data_key: DataKey,
    kek_pem: String,
    signer: Arc<TokenSigner>,
}

impl World {
    async fn founded(dir: &Path) -> Self {
        let mut config = ClusterConfig::new(1, dir.join("data"), 7);
        config.log_segment_bytes = 1 << 20;
        config.state_cache_bytes = 4 << 20;
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let entropy = Arc::new(RealEntropy);
        let cluster = Cluster::start(config, Arc::new(RealDisk), clock, entropy, Arc::new(NoPeers))
            .await
            .unwrap();
        cluster.initialize(vec![(1, "127.0.0.1:7411".to_owned())]).await.unwrap();
        let kek = KeyEncryptionKey::generate(&RealEntropy);
        let data_key = DataKey::generate(&RealEntropy);
        let wrap = data_key.wrap(CLUSTER, 1, kek.public(), &RealEntropy).unwrap();
        let kek_pem = kek.to_pem().expose().clone();
        let signer = Arc::new(TokenSigner::generate().unwrap());
        let world = Self { cluster, data_key, kek_pem, signer };
        let init = Command::InitCluster(InitCluster {
            cluster_id: CLUSTER.into(),
            client_id: "bmw-de-001".into(),
            org_domain: "bmw.com".into(),
            epoch: 1,
            incarnation: 77,
        });
        let member = Command::PutMember(Member {
            node: 1,
            peer_address: "127.0.0.1:7411".into(),
            gateway_url: "https://127.0.0.1:7401".into(),
            region: "".into(),
            zone: "".into(),
            directory_incarnation: 7,
            kek_public: kek.public(),
        });
        world.submit(vec![init]).await;
        let mut commands = vec![member];
        for name in opened::FOUNDED {
            let secret = random_secret(&RealEntropy);
            commands.push(Command::PutSecret(world.sealed(name, 1, secret.expose())));
        }
        commands.push(Command::WrapDataKey(wrap));
        world.submit(commands).await;
        world
    }

    fn sealed(&self, name: &str, version: u32, secret: &[u8]) -> SealedSecret {
        self.data_key.seal(CLUSTER, name, version, secret, &RealEntropy).unwrap()
    }

    async fn submit(&self, commands: Vec<Command>) {
        let envelope = |command| Envelope {
            actor: Actor::Node(1),
            request: None,
            trace: TraceId::default(),
            cause: None,
            command,
        };
        let envelopes = commands.into_iter().map(envelope).collect();
        let submitted = self.cluster.submit(envelopes, LIVENESS).await.unwrap();
        for outcome in &submitted.outcomes {
            assert!(!matches!(outcome, Outcome::Refused(_)), "{submitted:?}");
        }
    }

    fn keyholder(&self, kek_pem: &str, cell: &Arc<KeysCell>) -> Keyholder {
        Keyholder {
            node: 1,
            cluster: self.cluster.clone(),
            kek: Some(KeyEncryptionKey::from_pem(kek_pem).unwrap()),
            signer: Arc::clone(&self.signer),
            cell: Arc::clone(cell),
            authority: Arc::new(AuthorityCell::sealed()),
            roots: Vec::new(),
            entropy: Arc::new(RealEntropy),
        }
    }
}

/// Waits for keys that look so.
async fn keys_with(cell: &KeysCell, look: impl Fn(&Keys) -> bool) -> Arc<Keys> {
    let mut watch = cell.watch();
    let fits = watch.wait_for(|keys| keys.as_ref().is_some_and(|keys| look(keys)));
    let keys = tokio::time::timeout(LIVENESS, fits).await.expect("the keys come in time");
    keys.unwrap().clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_makes_what_is_missing_and_takes_up_what_changes() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::founded(dir.path()).await;
    assert_eq!(opened::missing(&world.cluster.ledger()).len(), 4);
    let cell = Arc::new(KeysCell::sealed());
    let mut tasks = JoinSet::new();
    tasks.spawn(world.keyholder(&world.kek_pem, &cell).run());
    let first = keys_with(&cell, |_| true).await;
    assert!(opened::missing(&world.cluster.ledger()).is_empty());
    assert_eq!(first.evaluation[&1].expose().len(), 32);
    assert!(first.classic_vendors.is_empty());
    let session = protocol::secret::Secret::new([3; 32]);
    let sealed = first.device.signer.seal("fingerprint", [1; 12], &session, b"{}").unwrap();
    let public = protocol::keys::PublicKey::from_pem(&first.device.public_pem).unwrap();
    let opened = sealed.open("fingerprint", Some(&public)).unwrap();
    assert_eq!(opened.license_json.as_slice(), b"{}");

    // Another keyholder finds the same secrets and makes none.
    let second_cell = Arc::new(KeysCell::sealed());
    tasks.spawn(world.keyholder(&world.kek_pem, &second_cell).run());
    let second = keys_with(&second_cell, |_| true).await;
    assert_eq!(second.offline.kid, first.offline.kid);
    assert_eq!(second.device.public_pem, first.device.public_pem);
    assert!(second.license_keys.tag(&[b"key"]) == first.license_keys.tag(&[b"key"]));
    let sealed = first.vault.seal("record", b"kept").unwrap();
    assert_eq!(second.vault.open("record", &sealed).unwrap().expose(), b"kept");

    // Of any length, under names that are understood; others are left alone.
    world
        .submit(vec![
            Command::PutSecret(world.sealed("evaluation-hmac-2", 1, b"short")),
            Command::PutSecret(world.sealed("evaluation-hmac-02", 1, b"no number")),
            Command::PutSecret(world.sealed("classic-vendor-techvendor", 1, &[7; 100])),
        ])
        .await;
    for cell in [&cell, &second_cell] {
        let keys = keys_with(cell, |keys| !keys.classic_vendors.is_empty()).await;
        assert_eq!(keys.evaluation.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(keys.evaluation[&2].expose(), b"short");
        assert_eq!(keys.classic_vendors["techvendor"].expose(), &[7; 100]);
    }
    let replaced = world.sealed("evaluation-hmac-1", 2, b"the next one");
    world.submit(vec![Command::PutSecret(replaced)]).await;
    keys_with(&cell, |keys| keys.evaluation[&1].expose() == b"the next one").await;

    // One that cannot be opened leaves the former ones in use; a later one mends it.
    let foreign = DataKey::generate(&RealEntropy);
    let foreign = foreign.seal(CLUSTER, "evaluation-hmac-1", 3, b"x", &RealEntropy).unwrap();
    world.submit(vec![Command::PutSecret(foreign)]).await;
    let mended = world.sealed("evaluation-hmac-1", 4, b"mended");
    world.submit(vec![Command::PutSecret(mended)]).await;
    keys_with(&cell, |keys| keys.evaluation[&1].expose() == b"mended").await;
    tasks.shutdown().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_another_key_stays_sealed_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::founded(dir.path()).await;
    let stranger = KeyEncryptionKey::generate(&RealEntropy).to_pem();
    let cell = Arc::new(KeysCell::sealed());
    let keyholder = world.keyholder(stranger.expose(), &cell);
    let kek = KeyEncryptionKey::from_pem(stranger.expose()).unwrap();
    let progress = keyholder.open(&kek, &world.cluster.ledger());
    assert!(matches!(progress, Progress::Sealed(_)));
    keyholder.make(&kek, &opened::missing(&world.cluster.ledger())).await;
    assert_eq!(opened::missing(&world.cluster.ledger()).len(), 4);
    assert!(cell.get().is_none());
    world.cluster.shutdown().await;
}
