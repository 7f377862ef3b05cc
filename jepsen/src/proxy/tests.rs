//! What each condition does to bytes, over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;

const CLIENT: Party = Party::Client(4);
const NODE: Party = Party::Node(7);
/// Longer than anything here may take.
const LONG: Duration = Duration::from_secs(20);

/// A server that says again what it hears, a proxy before it, and a client that has dialled.
struct Rig {
    network: Arc<Network>,
    client: TcpStream,
    _server: JoinSet<()>,
}

impl Rig {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let real = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        });
        let network = Network::new(1);
        let address = network.before_gateway(4, 7, real).await.unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        Self { network, client, _server: server }
    }

    /// Says something and waits for the echo.
    async fn echo(&mut self, text: &str) -> std::io::Result<String> {
        self.client.write_all(text.as_bytes()).await?;
        self.hear(text.len()).await
    }

    async fn hear(&mut self, bytes: usize) -> std::io::Result<String> {
        let mut heard = vec![0; bytes];
        timeout(LONG, self.client.read_exact(&mut heard)).await.expect("an echo")?;
        Ok(String::from_utf8(heard).expect("text"))
    }

    /// Waits until a link has had an effect.
    async fn until(&self, from: Party, to: Party, has: fn(condition::Counted) -> bool) {
        let look = || async { has(self.network.effects(from, to)).then_some(()) };
        crate::clock::eventually("an effect", LONG, look).await.unwrap();
    }
}

#[tokio::test]
async fn a_cut_holds_bytes_back_one_way_and_loses_none() {
    let mut rig = Rig::new().await;
    assert_eq!(rig.echo("one").await.unwrap(), "one");
    for (from, to) in [(CLIENT, NODE), (NODE, CLIENT)] {
        let before = rig.network.effects(to, from);
        rig.network.set(from, to, Condition::cut());
        rig.client.write_all(b"two").await.unwrap();
        rig.until(from, to, |counted| counted.held_back >= 1).await;
        let there = rig.network.effects(to, from).since(before);
        // The other way is not cut: what was said there has arrived.
        assert_eq!(there.held_back, 0);
        assert_eq!(there.passed, if from == NODE { 3 } else { 0 });
        rig.network.heal();
        assert_eq!(rig.hear(3).await.unwrap(), "two");
    }
}

#[tokio::test]
async fn what_is_late_comes_whole_and_in_order() {
    let mut rig = Rig::new().await;
    let late = Condition {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(20),
        stall_per_mille: 500,
        stall: Duration::from_millis(10),
        ..Condition::default()
    };
    rig.network.set(CLIENT, NODE, late);
    let mut want = String::new();
    for number in 0..20 {
        let text = format!("{number:04}");
        rig.client.write_all(text.as_bytes()).await.unwrap();
        want.push_str(&text);
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.hear(want.len()).await.unwrap(), want);
    assert!(rig.network.effects(CLIENT, NODE).delayed > 0);
    assert_eq!(rig.network.effects(NODE, CLIENT).delayed, 0);
}

#[tokio::test]
async fn drops_are_few_bytes_and_healing_ends_them() {
    let mut rig = Rig::new().await;
    let drip = Condition { bytes_per_second: 20, ..Condition::default() };
    rig.network.set(CLIENT, NODE, drip);
    let long = "a piece of some length".repeat(40);
    rig.client.write_all(long.as_bytes()).await.unwrap();
    rig.until(CLIENT, NODE, |counted| counted.dripped >= 2).await;
    assert!(rig.network.effects(CLIENT, NODE).passed < long.len() as u64);
    rig.network.heal();
    assert_eq!(rig.hear(long.len()).await.unwrap(), long);
}

#[tokio::test]
async fn a_reset_ends_the_connection_and_says_so() {
    let mut rig = Rig::new().await;
    let harsh = Condition { reset_per_mille: 1_000, ..Condition::default() };
    rig.network.set(CLIENT, NODE, harsh);
    let error = rig.echo("never").await.unwrap_err();
    assert_ne!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(rig.network.effects(CLIENT, NODE).reset, 1);
    assert_eq!(rig.network.effects(CLIENT, NODE).passed, 0);
}

#[tokio::test]
async fn who_dials_a_peer_is_known_by_its_process() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = Network::new(1);
    let address = network.before_peer(1, listener.local_addr().unwrap()).await.unwrap();
    network.lead_to(1, 7);
    network.is_process(3, std::process::id());
    let mut dialled = TcpStream::connect(address).await.unwrap();
    dialled.write_all(b"hello").await.unwrap();
    let (mut accepted, _) = listener.accept().await.unwrap();
    let mut heard = [0; 5];
    accepted.read_exact(&mut heard).await.unwrap();
    assert_eq!(network.effects(Party::Node(3), NODE).passed, 5);
}
