//! A founded cluster of one node with a gateway, and short ways to ask it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::to_bytes;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use gateway::{
    AuthorityError, CertificateAuthority, CertificateSubject, ClassicFace, ClientCertificate,
    Faces, Gateway, GatewayConfig, GatewayContext, KeysCell, NodeControl, NodeFacts, NodeOrder,
    OrderError, PeerAddress, PeerProbe, RateLimits, TokenSigner,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::Full;
use lease::command::{Command, InitCluster, Member, Operator, Role, WrappedDataKey};
use lease::entry::{Actor, Envelope};
use lease::ids::{NodeId, OperatorId, TraceId};
use lease::outcome::Outcome;
use protocol::keys::PrivateKey;
use protocol::package::{sample_document, sign_document};
use protocol::secret::Secret;
use raft::{Cluster, ClusterConfig, PeerCall, PeerStream, Transport, TransportError};
use serde_json::{Value, json};
use storage::seam::{Clock, RealClock, RealDisk, RealEntropy};

pub(crate) use crate::keys::keys;
use crate::keys::operator_pepper;

/// Nothing that must happen takes longer, not even on a machine that does ten other things.
pub(crate) const LIVENESS: Duration = Duration::from_secs(30);
pub(crate) const PRODUCT: &str = "davinci-configurator-se";
pub(crate) const PACKAGE: &str = "vec-davinci-se-bmw-2025-001";

/// One node, founded, unsealed, with an operator of each role.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) keys: Arc<KeysCell>,
    pub(crate) admin: String,
    pub(crate) operator: String,
    pub(crate) auditor: String,
    pub(crate) vendor: PrivateKey,
    /// What the gateway is built on: for what no call does, and for looking at the ledger.
    pub(crate) cluster: Cluster,
    pub(crate) clock: Arc<TestClock>,
    /// Where everything is stored.
    pub(crate) dir: tempfile::TempDir,
}

/// The real clock, ahead by what a test lets pass at once. Civil time follows; led time does not:
/// a node that was stopped does not count the time.
pub(crate) struct TestClock {
    real: RealClock,
    /// The wall clock shows so much more than the real one.
    shift_ms: i64,
    ahead_ms: AtomicU64,
}

impl TestClock {
    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).expect("some time");
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn monotonic_ns(&self) -> u64 {
        self.real.monotonic_ns() + self.ahead_ms.load(Ordering::SeqCst) * 1_000_000
    }

    fn wall_ms(&self) -> i64 {
        self.real.wall_ms() + self.shift_ms + self.ahead_ms.load(Ordering::SeqCst).cast_signed()
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, when the status is this one.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A request in the making.
pub(crate) struct Ask<'a> {
    gateway: &'a Gateway,
    builder: http::request::Builder,
    body: Bytes,
}

impl Ask<'_> {
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// Over a connection that was opened with a client certificate of this SHA-256.
    pub(crate) fn certificate(self, sha256: [u8; 32]) -> Self {
        let builder = self.builder.extension(ClientCertificate { sha256 });
        Self { builder, ..self }
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.builder = self.builder.header(name, value);
        self
    }

    /// Over a connection from this address.
    pub(crate) fn from(mut self, address: &str) -> Self {
        let address = PeerAddress(address.parse().expect("an address"));
        self.builder = self.builder.extension(address);
        self
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) async fn send(self) -> Answer {
        self.send_whole().await.expect("a body")
    }

    /// The answer with a body that is still being made.
    pub(crate) async fn open(self) -> http::Response<axum::body::Body> {
        let request = self.builder.body(Full::new(self.body)).expect("a request");
        self.gateway.answer(request).await
    }

    /// The same, or `None` when the body ends before its end.
    pub(crate) async fn send_whole(self) -> Option<Answer> {
        let request = self.builder.body(Full::new(self.body)).expect("a request");
        let response = self.gateway.answer(request).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.ok()?;
        let text = String::from_utf8(body.to_vec()).expect("text");
        Some(Answer { status: parts.status, headers: parts.headers, text })
    }
}

impl World {
    /// Founded, and nothing in it but operators.
    pub(crate) async fn founded() -> Self {
        Self::with_requests_in_flight(8_192).await
    }

    /// The same, with room for so many requests at once.
    pub(crate) async fn with_requests_in_flight(max_requests_in_flight: usize) -> Self {
        Self::configured(|config| config.max_requests_in_flight = max_requests_in_flight).await
    }

    /// Founded, with these rates.
    pub(crate) async fn with_rates(rates: RateLimits) -> Self {
        Self::configured(|config| config.rates = rates).await
    }

    /// Founded and unsealed, with these faces.
    pub(crate) async fn with_faces(faces: Faces) -> Self {
        let world = Self::configured(|config| config.faces = faces).await;
        world.keys.unseal(keys());
        world
    }

    /// Founded when the wall clock shows this; nobody has unsealed it.
    pub(crate) async fn at(wall_ms: i64) -> Self {
        Self::shifted(wall_ms - RealClock::new().wall_ms(), |_| {}).await
    }

    /// Founded, with a gateway as a test wants it; every face is switched on.
    async fn configured(configure: impl FnOnce(&mut GatewayConfig)) -> Self {
        Self::shifted(0, configure).await
    }

    async fn shifted(shift_ms: i64, configure: impl FnOnce(&mut GatewayConfig)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock =
            Arc::new(TestClock { real: RealClock::new(), shift_ms, ahead_ms: AtomicU64::new(0) });
        let cluster = start(dir.path(), &clock).await;
        cluster.initialize(vec![(1, "127.0.0.1:7411".to_owned())]).await.expect("founding");
        let signer = Arc::new(TokenSigner::generate().expect("a key"));
        let keys = Arc::new(KeysCell::sealed());
        let tokens = [Role::Admin, Role::Operator, Role::Auditor]
            .map(|role| (role, gateway::new_operator_token(&RealEntropy).expose().to_owned()));
        found(&cluster, &signer, &tokens).await;
        let gateway = gateway_over(&cluster, &keys, signer, &clock, configure);
        let [admin, operator, auditor] = tokens.map(|(_, token)| token);
        let vendor = PrivateKey::ed25519(&Secret::new([9; 32]));
        Self { gateway, keys, admin, operator, auditor, vendor, cluster, clock, dir }
    }

    /// The same node after a clean stop, with what happens to its directory in between. Access
    /// tokens of before are signed by a key that it no longer has.
    pub(crate) async fn restarted(self, between: impl FnOnce(&Path)) -> Self {
        let Self { gateway, cluster, dir, clock, keys, .. } = self;
        drop(gateway);
        cluster.shutdown().await;
        between(dir.path());
        let cluster = start(dir.path(), &clock).await;
        let leads = |status: &raft::Status| status.recovered && status.leader == Some(1);
        tokio::time::timeout(LIVENESS, cluster.wait_until(leads)).await.expect("it leads");
        let signer = Arc::new(TokenSigner::generate().expect("a key"));
        let gateway = gateway_over(&cluster, &keys, signer, &clock, |_| {});
        Self { gateway, cluster, dir, clock, keys, ..self }
    }

    /// Founded and unsealed.
    pub(crate) async fn unsealed() -> Self {
        let world = Self::founded().await;
        world.keys.unseal(keys());
        world
    }

    /// With the sample package imported and an application registered; policy as given.
    pub(crate) async fn ready(policy_seconds: &[(&str, u32)]) -> (Self, App) {
        let world = Self::unsealed().await;
        world.pin_vendor().await.expect(201);
        world.import(&world.sample(policy_seconds)).await.expect(201);
        let app = world.register().await;
        (world, app)
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> Ask<'_> {
        let builder = Request::builder().method(method).uri(path);
        Ask { gateway: &self.gateway, builder, body: Bytes::new() }
    }

    pub(crate) fn get(&self, path: &str) -> Ask<'_> {
        self.ask(Method::GET, path)
    }

    pub(crate) fn post(&self, path: &str) -> Ask<'_> {
        self.ask(Method::POST, path)
    }

    pub(crate) async fn pin_vendor(&self) -> Answer {
        let public_key = self.vendor.public_key().expect("a key").to_pem();
        let body = json!({
            "vendor_id": "vector-de",
            "name": "Vector Informatik GmbH",
            "public_key": public_key,
        });
        self.post("/admin/vendors").bearer(&self.admin).json(&body).send().await
    }

    /// The sample package, signed, valid from yesterday for a year.
    pub(crate) fn sample(&self, policy_seconds: &[(&str, u32)]) -> Value {
        let now_ms = RealClock::new().wall_ms();
        let day_ms = 24 * 60 * 60 * 1000;
        let document = sample_document(now_ms - day_ms, now_ms + 365 * day_ms, policy_seconds);
        self.sign(&document)
    }

    pub(crate) fn sign(&self, document: &str) -> Value {
        let signed = sign_document(document.as_bytes(), &self.vendor).expect("a signature");
        serde_json::from_str(&signed).expect("JSON")
    }

    pub(crate) async fn import(&self, package: &Value) -> Answer {
        let body = json!({ "package": package });
        self.post("/admin/licenses/import").bearer(&self.admin).json(&body).send().await
    }

    pub(crate) async fn register(&self) -> App {
        let body = json!({ "name": "DaVinci", "product_id": PRODUCT, "vendor_id": "vector-de" });
        let answer = self.post("/admin/apps").bearer(&self.admin).json(&body).send().await;
        let body = answer.expect(201);
        let text = |name: &str| body[name].as_str().expect("text").to_owned();
        let mut app = App {
            app_id: text("app_id"),
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            token: String::new(),
        };
        app.token = self.token(&app, None).await.expect(200)["access_token"]
            .as_str()
            .expect("a token")
            .to_owned();
        app
    }

    pub(crate) async fn token(&self, app: &App, scope: Option<&str>) -> Answer {
        let mut form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            app.client_id, app.client_secret
        );
        if let Some(scope) = scope {
            form.push_str(&format!("&scope={scope}"));
        }
        self.post("/oauth/token").body(form).send().await
    }

    /// A checkout by `user`.
    pub(crate) fn checkout(&self, token: &str, user: &str) -> Ask<'_> {
        let body = json!({
            "product_id": PRODUCT,
            "user": user,
            "hostname": "host-1",
            "metadata": { "version": "8.2.1", "session_id": "s" },
        });
        self.post("/api/v1/licenses/checkout").bearer(token).json(&body)
    }

    pub(crate) fn heartbeat(&self, token: &str, lease: &Value) -> Ask<'_> {
        let path = format!("/api/v1/licenses/{}/heartbeat", text_of(lease, "lease_id"));
        let body = json!({ "renewal_token": lease["renewal_token"], "still_active": true });
        self.ask(Method::PUT, &path).bearer(token).json(&body)
    }

    pub(crate) fn give_back(&self, token: &str, lease: &Value) -> Ask<'_> {
        let path = format!("/api/v1/licenses/{}/return", text_of(lease, "lease_id"));
        let usage = json!({ "session_duration_seconds": 60, "features_used": ["a"] });
        let body = json!({ "lease_id": lease["lease_id"], "usage_metadata": usage });
        self.post(&path).bearer(token).json(&body)
    }
}

/// A registered application with a token for every scope.
pub(crate) struct App {
    pub(crate) app_id: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) token: String,
}

pub(crate) fn text_of<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}"))
}

/// The node in a directory.
async fn start(dir: &Path, clock: &Arc<TestClock>) -> Cluster {
    let mut config = ClusterConfig::new(1, dir.join("data"), 7);
    config.log_segment_bytes = 1 << 20;
    config.state_cache_bytes = 4 << 20;
    let (disk, entropy) = (Arc::new(RealDisk), Arc::new(RealEntropy));
    Cluster::start(config, disk, clock.clone(), entropy, Arc::new(NoPeers))
        .await
        .expect("the node starts")
}

/// A gateway over it, as a test wants it; every face is switched on.
fn gateway_over(
    cluster: &Cluster,
    keys: &Arc<KeysCell>,
    signer: Arc<TokenSigner>,
    clock: &Arc<TestClock>,
    configure: impl FnOnce(&mut GatewayConfig),
) -> Gateway {
    let context = GatewayContext {
        cluster: cluster.clone(),
        keys: keys.clone(),
        signer,
        clock: clock.clone(),
        entropy: Arc::new(RealEntropy),
        peers: Arc::new(NoPeers),
        control: Arc::new(NoPeers),
        authority: Arc::new(TestAuthority),
    };
    let mut config = GatewayConfig::new(1, "https://127.0.0.1:7401");
    config.faces.classic = Some(ClassicFace::default());
    configure(&mut config);
    Gateway::new(config, context)
}

async fn found(cluster: &Cluster, signer: &TokenSigner, tokens: &[(Role, String); 3]) {
    let by_node = |command| Envelope {
        actor: Actor::Node(1),
        request: None,
        trace: TraceId(1),
        cause: None,
        command,
    };
    let init = Command::InitCluster(InitCluster {
        cluster_id: "lh-test".into(),
        client_id: "bmw-de-001".into(),
        org_domain: "bmw.com".into(),
        epoch: 1,
        incarnation: 77,
    });
    let member = Command::PutMember(Member {
        node: 1,
        peer_address: "127.0.0.1:7411".into(),
        gateway_url: "https://127.0.0.1:7401".into(),
        region: "eu".into(),
        zone: "a".into(),
        directory_incarnation: 7,
        kek_public: [0; 32],
    });
    let wrap = Command::WrapDataKey(WrappedDataKey {
        version: 1,
        node: 1,
        ephemeral_public: [0; 32],
        nonce: [0; 12],
        wrapped: vec![0; 48],
    });
    let mut commands = vec![init, member, wrap];
    commands.extend(signer.signing_keys(1).map(Command::PublishSigningKey));
    for (number, (role, token)) in (1_u64..).zip(tokens) {
        commands.push(Command::AddOperator(Operator {
            operator: OperatorId(number),
            name: "test".into(),
            role: *role,
            token_mac: gateway::operator_token_mac(&operator_pepper(), token),
            expires_at_ms: None,
        }));
    }
    for command in commands {
        let submitted = cluster.submit(vec![by_node(command)], LIVENESS).await.expect("a quorum");
        assert!(!matches!(submitted.outcomes[0], Outcome::Refused(_)), "{submitted:?}");
    }
}

/// Certifies whatever it is asked for, with text.
struct TestAuthority;

impl CertificateAuthority for TestAuthority {
    fn issue(
        &self,
        request_pem: &str,
        subject: CertificateSubject<'_>,
    ) -> Result<String, AuthorityError> {
        match request_pem {
            "bad" => Err(AuthorityError::Request("it is bad".to_owned())),
            _ => Ok(format!("{subject:?} by {request_pem}")),
        }
    }

    fn anchors(&self) -> Result<Vec<Vec<u8>>, AuthorityError> {
        Ok(vec![vec![7; 100]])
    }
}

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

impl PeerProbe for NoPeers {
    fn probe(&self, _node: NodeId, _deadline: Duration) -> BoxFuture<'_, Option<Bytes>> {
        Box::pin(async { None })
    }

    fn order(
        &self,
        _node: NodeId,
        _order: NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        Box::pin(async { Err(OrderError::Unreachable) })
    }
}

impl NodeControl for NoPeers {
    fn facts(&self) -> NodeFacts {
        NodeFacts { version: "0.0.0".to_owned(), ..NodeFacts::default() }
    }

    fn perform(
        &self,
        order: NodeOrder,
        _deadline: Duration,
    ) -> BoxFuture<'_, Result<String, OrderError>> {
        Box::pin(async move { Err(OrderError::Refused(format!("{order:?} has no process here"))) })
    }
}
