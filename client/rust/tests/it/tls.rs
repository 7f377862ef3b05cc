//! TLS: whom the client trusts, and who it says it is.

use std::net::SocketAddr;
use std::sync::Arc;

use leasehold_client::{Error, LicenseClient, LicenseClientBuilder, Outcome};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::far::{story, within};

/// An authority and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Signed {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn sign(&self, name: &str) -> Signed {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Signed { certificate, key }
    }
}

/// A server of this authority that asks for certificates of it, and refuses all credentials.
async fn serve(authority: &Authority) -> (String, JoinSet<()>) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.issuer.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let Signed { certificate, key } = authority.sign("127.0.0.1");
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A handshake that fails is part of the story.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4_096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let body = r#"{"error":"invalid_client","error_description":"No."}"#;
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 401 X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                drop(stream.write_all(answer.as_bytes()).await);
                drop(stream.shutdown().await);
            }
        }
    });
    (url, tasks)
}

async fn ask(builder: LicenseClientBuilder) -> Error {
    let client = builder.total_timeout(std::time::Duration::from_millis(300)).build().unwrap();
    within(client.checkout("p", "u").outcome()).await.unwrap_err()
}

#[test]
fn both_sides_are_who_they_say_they_are() {
    story(async {
        let (ours, strangers) = (Authority::new(), Authority::new());
        let (url, _server) = serve(&ours).await;
        let builder = || LicenseClient::builder().endpoint(url.clone()).credentials("id", "secret");
        let me = ours.sign("client");
        let (chain, key) = (me.certificate.pem(), me.key.serialize_pem());
        let known = builder()
            .tls_roots_pem(ours.pem().as_bytes())
            .client_certificate_pem(chain.as_bytes(), key.as_bytes());
        // Heard and refused: the connection was made.
        assert!(matches!(ask(known).await, Error::Unauthorized { .. }));
        let nameless = builder().tls_roots_pem(ours.pem().as_bytes());
        assert!(matches!(ask(nameless).await, Error::Unavailable(_)));
        // Nothing is sent to a server of another authority.
        let fooled = builder()
            .tls_roots_pem(strangers.pem().as_bytes())
            .client_certificate_pem(chain.as_bytes(), key.as_bytes());
        let Error::Unavailable(trouble) = ask(fooled).await else { panic!() };
        assert_eq!(trouble.outcome, Outcome::NotExecuted);
        assert!(trouble.attempts[0].reason.contains("certificate"), "{trouble}");
    });
}
