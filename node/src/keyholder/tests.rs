//! A cluster of one node that was founded with its first secrets only: its keyholder makes the
//! others, unseals the gateway, and takes up what changes while it runs.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use lease::command::{InitCluster, Member, Operator, Role, SealedSecret};
use lease::ids::OperatorId;
use raft::{ClusterConfig, PeerCall, PeerStream, Transport, TransportError};
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

    fn open(
        &self,
        _to: NodeId,
        _call: PeerCall,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<PeerStream, TransportError>> {
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

/// Replaces the data key as an operator does, by way of some node's vault.
async fn replace_data_key(world: &World, keys: &Keys) -> u32 {
    let admin = OperatorId(9);
    let token_mac = [9; 32];
    let operator = Operator {
        operator: admin,
        name: "admin".into(),
        role: Role::Admin,
        token_mac,
        expires_at_ms: None,
    };
    world.submit(vec![Command::AddOperator(operator)]).await;
    let replace = {
        let ledger = world.cluster.ledger();
        let members: Vec<_> =
            ledger.members().map(|member| (member.node, member.kek_public)).collect();
        let secrets: Vec<_> = ledger.secrets().cloned().collect();
        keys.vault.replace_data_key(&members, &secrets).unwrap()
    };
    let version = replace.version;
    let envelope = Envelope {
        actor: Actor::Operator(admin),
        request: None,
        trace: TraceId::default(),
        cause: None,
        command: Command::ReplaceDataKey(Box::new(replace)),
    };
    let submitted = world.cluster.submit(vec![envelope], LIVENESS).await.unwrap();
    assert_eq!(submitted.outcomes, [Outcome::Done]);
    version
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_data_key_is_taken_up_by_who_runs_and_by_who_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::founded(dir.path()).await;
    let cell = Arc::new(KeysCell::sealed());
    let mut tasks = JoinSet::new();
    tasks.spawn(world.keyholder(&world.kek_pem, &cell).run());
    let first = keys_with(&cell, |_| true).await;
    let sealed = first.vault.seal("record", b"kept").unwrap();
    assert_eq!(replace_data_key(&world, &first).await, 2);

    // Who runs goes on with both; the secrets are the same ones, sealed anew.
    let second = keys_with(&cell, |keys| keys.vault.data_key_version() == 2).await;
    assert_eq!(second.vault.data_key_versions(), [1, 2]);
    assert_eq!(second.offline.kid, first.offline.kid);
    let under = |keys: &Keys| {
        let ledger = world.cluster.ledger();
        ledger.secrets().map(|row| keys.vault.version_of_secret(row)).collect::<Vec<_>>()
    };
    assert!(under(&second).iter().all(|version| *version == Some(2)), "every secret");
    assert!(under(&first).iter().all(Option::is_none), "the former key opens none");
    assert_eq!(second.vault.version_of_record("record", &sealed), Some(1));
    assert_eq!(second.vault.open("record", &sealed).unwrap().expose(), b"kept");
    let anew = second.vault.seal("record", b"kept").unwrap();
    assert_eq!(second.vault.version_of_record("record", &anew), Some(2));
    assert!(first.vault.open("record", &anew).is_err());

    // Who was down meanwhile opens all of it when it comes back; who is sealed stays sealed.
    let late = Arc::new(KeysCell::sealed());
    tasks.spawn(world.keyholder(&world.kek_pem, &late).run());
    let late = keys_with(&late, |_| true).await;
    assert_eq!(late.vault.open("record", &sealed).unwrap().expose(), b"kept");
    assert_eq!(late.vault.open("record", &anew).unwrap().expose(), b"kept");
    let stranger = KeyEncryptionKey::generate(&RealEntropy).to_pem();
    let sealed_node = world.keyholder(stranger.expose(), &Arc::new(KeysCell::sealed()));
    let kek = KeyEncryptionKey::from_pem(stranger.expose()).unwrap();
    let progress = sealed_node.open(&kek, &world.cluster.ledger());
    assert!(matches!(progress, Progress::Sealed(_)));

    // A node that joins gets both versions; what is made from then on needs the newest alone.
    let joins = KeyEncryptionKey::generate(&RealEntropy);
    let wraps = late.vault.wrap_to(7, joins.public()).unwrap();
    let opened: Vec<u32> = wraps
        .iter()
        .map(|wrap| DataKey::unwrap(CLUSTER, 7, &joins, wrap).unwrap().version())
        .collect();
    assert_eq!(opened, [2, 1]);
    world.submit(vec![Command::RetireDataKey { version: 1 }]).await;
    let only = keys_with(&cell, |keys| keys.vault.data_key_versions() == [2]).await;
    assert!(only.vault.open("record", &sealed).is_err(), "it was not sealed anew in time");
    assert_eq!(only.vault.open("record", &anew).unwrap().expose(), b"kept");
    tasks.shutdown().await;
    world.cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peppers_and_the_authority_are_taken_up_and_the_former_signing_keys_retired() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::founded(dir.path()).await;
    let ca = crate::pki::Authority::generate(CLUSTER, &RealClock::new(), &RealEntropy).unwrap();
    let root = rustls::pki_types::pem::PemObject::from_pem_slice(ca.certificate_pem().as_bytes());
    let ca_key = world.sealed(CA_KEY, 1, ca.key_pem().expose().as_bytes());
    world.submit(vec![Command::PutSecret(ca_key)]).await;
    let former = TokenSigner::generate().unwrap();
    let [rsa, ed25519] = former.signing_keys(1).map(Command::PublishSigningKey);
    world.submit(vec![rsa, ed25519]).await;
    let cell = Arc::new(KeysCell::sealed());
    let mut keyholder = world.keyholder(&world.kek_pem, &cell);
    keyholder.roots = vec![root.unwrap()];
    let authority = keyholder.authority.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(keyholder.run());
    let first = keys_with(&cell, |_| true).await;
    assert!(authority.get().unwrap().first_anchor().is_some(), "found by the file of roots");
    {
        let ledger = world.cluster.ledger();
        let signs = |kid: &str| ledger.retired_key(kid).is_none();
        for key in former.signing_keys(1) {
            assert!(!signs(&key.kid), "what it signed with before is retired");
        }
        for key in world.signer.signing_keys(1) {
            assert!(ledger.signing_key(&key.kid).is_some() && signs(&key.kid));
        }
    }
    assert_eq!(first.client_secret_pepper.newest_version(), 1);
    let stored = gateway::client_secret_mac(&first.client_secret_pepper, "lh_cs_x");
    let second = world.sealed("client-secret-pepper-2", 1, &[8; 32]);
    world.submit(vec![Command::PutSecret(second)]).await;
    let both = keys_with(&cell, |keys| keys.client_secret_pepper.newest_version() == 2).await;
    assert_eq!(both.client_secret_pepper.versions().collect::<Vec<_>>(), [1, 2]);
    assert!(both.client_secret_pepper.is_old(&stored));

    // The first version may go: the cluster is as founded as before.
    world.submit(vec![Command::RemoveSecret { name: "client-secret-pepper".into() }]).await;
    let only = keys_with(&cell, |keys| keys.client_secret_pepper.versions().count() == 1).await;
    assert_eq!(only.client_secret_pepper.newest_version(), 2);
    assert!(opened::is_founded(&world.cluster.ledger()));
    tasks.shutdown().await;
    world.cluster.shutdown().await;
}
