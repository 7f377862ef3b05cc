//! The listener over TLS: what a good client gets, and what a bad one loses.

use std::net::SocketAddr;
use std::sync::Arc;

use gateway::{Gateway, tls_config};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{LIVENESS, World};

struct Serving {
    address: SocketAddr,
    client: Arc<ClientConfig>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _tls: watch::Sender<Arc<rustls::ServerConfig>>,
}

impl Serving {
    #[expect(clippy::disallowed_methods, reason = "the handle is awaited by the test")]
    async fn start(gateway: Gateway) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .expect("the test's own TLS works");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
            .expect("the test's own TLS works");
        let config =
            tls_config(vec![made.cert.der().clone()], key).expect("the test's own TLS works");
        let (sender, receiver) = watch::channel(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the test's own TLS works");
        let address = listener.local_addr().expect("the test's own TLS works");
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            gateway.serve(vec![listener], receiver, shutdown).await;
        });
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("the test's own TLS works");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the test's own TLS works")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, client: Arc::new(client), stop, served, _tls: sender }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.expect("the test's own TLS works");
        let name = ServerName::try_from("localhost").expect("the test's own TLS works");
        TlsConnector::from(self.client.clone())
            .connect(name, stream)
            .await
            .expect("the test's own TLS works")
    }

    async fn stop(self) {
        self.stop.send(()).expect("the test's own TLS works");
        tokio::time::timeout(LIVENESS, self.served)
            .await
            .expect("the drain ends")
            .expect("the test's own TLS works");
    }
}

/// Reads until the server closes; an abrupt close is a close.
async fn read_to_close(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(LIVENESS, read).await.expect("the server closes");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_served_and_the_headers_give_nothing_away() {
    let world = World::unsealed().await;
    let serving = Serving::start(world.gateway.clone()).await;
    let mut stream = serving.connect().await;
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read_to_close(&mut stream).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("strict-transport-security"), "{answer}");
    assert!(!answer.contains("\r\nserver:"), "{answer}");
    serving.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalls_and_floods_cost_the_client_its_connection_only() {
    let world = World::unsealed().await;
    let serving = Serving::start(world.gateway.clone()).await;

    let mut stalled = TcpStream::connect(serving.address).await.unwrap();
    stalled.write_all(&[0x16, 0x03]).await.unwrap();

    let mut flood = serving.connect().await;
    let mut request = "GET /livez HTTP/1.1\r\nhost: localhost\r\n".to_owned();
    for number in 0..2_000 {
        request.push_str(&format!("x-{number}: y\r\n"));
    }
    // The server may close before all is written.
    let _ = flood.write_all(request.as_bytes()).await;
    let answer = read_to_close(&mut flood).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");

    let mut long = serving.connect().await;
    let request = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    let _ = long.write_all(request.as_bytes()).await;
    let answer = read_to_close(&mut long).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");

    let mut garbage = serving.connect().await;
    garbage.write_all(b"\x00\x01\x02 nonsense\r\n\r\n").await.unwrap();
    let answer = read_to_close(&mut garbage).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");

    let mut good = serving.connect().await;
    let request = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    good.write_all(request.as_bytes()).await.unwrap();
    assert!(read_to_close(&mut good).await.starts_with("HTTP/1.1 200"));

    assert_eq!(read_to_close(&mut stalled).await, "", "a stalled handshake is cut");
    serving.stop().await;
}
