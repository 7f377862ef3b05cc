//! What a node shows its peers, and whom of them it believes: one object that may change under the
//! connections that use it.
//!
//! Both TLS configurations of the peer link ask it at every handshake, so a new certificate is
//! shown, and a new authority believed, at once and without a new listener. Connections outlive
//! certificates: TLS proves who is there when it begins. An authority that is believed no more is
//! another matter, so every connection keeps the chain that was shown to it and is closed when that
//! chain leads to no root any more ([`PeerIdentity::until_distrusted`]).
//!
//! What it leaves to others: where certificates come from (`certificates`), who is a member.

use std::fmt;
use std::sync::Arc;

use lease::ids::NodeId;
use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};
use tokio::sync::watch;

use crate::pki::{self, PEER_ALPN, PkiError};

/// What this node shows and believes.
#[derive(Debug)]
pub struct PeerIdentity {
    shown: RwLock<Arc<CertifiedKey>>,
    believed: watch::Sender<Believed>,
}

/// Whom it believes.
#[derive(Clone)]
struct Believed {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Believed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Believed({} roots)", self.roots.len())
    }
}

impl Believed {
    fn new(roots: Arc<RootCertStore>) -> Result<Self, PkiError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
            .build()
            .map_err(|error| PkiError::Anchors(error.to_string()))?;
        Ok(Self { roots, clients })
    }
}

impl PeerIdentity {
    /// Begins with a chain (leaf first), its key, and these roots.
    pub fn new(
        roots: Arc<RootCertStore>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>, PkiError> {
        let shown = RwLock::new(certified(chain, key)?);
        let believed = watch::Sender::new(Believed::new(roots)?);
        Ok(Arc::new(Self { shown, believed }))
    }

    /// Shows another certificate from the next handshake on.
    pub fn show(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<(), PkiError> {
        *self.shown.write() = certified(chain, key)?;
        Ok(())
    }

    /// Believes other roots from now on; connections that depend on a former one end.
    pub fn believe(&self, roots: Arc<RootCertStore>) -> Result<(), PkiError> {
        self.believed.send_replace(Believed::new(roots)?);
        Ok(())
    }

    /// Resolves when a chain (leaf first) that was believed is so no more.
    pub(crate) async fn until_distrusted(&self, chain: Vec<CertificateDer<'static>>) {
        let mut believed = self.believed.subscribe();
        // A leaf that has run out since proved who was there when the connection began.
        let at_ms = chain
            .first()
            .and_then(|leaf| pki::particulars_of(leaf))
            .map_or(0, |leaf| leaf.not_after_s.saturating_mul(1_000));
        // The sender lives in self, so there is always a next change to wait for.
        let _ = believed
            .wait_for(|believed| pki::chains_to(&believed.roots, &chain, at_ms).is_err())
            .await;
    }

    /// TLS 1.3 towards one peer: our certificate shown, its certificate chained to a root and
    /// naming exactly that node.
    pub(crate) fn client_config(
        self: &Arc<Self>,
        cluster_id: &str,
        node: NodeId,
    ) -> Result<ClientConfig, PkiError> {
        let verifier =
            PeerVerifier { identity: self.clone(), expected: pki::spiffe_id(cluster_id, node) };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(self.clone());
        config.alpn_protocols = vec![PEER_ALPN.to_vec()];
        // Neither side keeps state of former connections: each one proves the certificate anew.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// TLS 1.3 for the peer listener: a client certificate chained to a root is required. Whom it
    /// names is checked by the caller (`pki::node_of` and the membership).
    pub(crate) fn server_config(self: &Arc<Self>) -> Result<ServerConfig, PkiError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(Arc::new(Clients(self.clone())))
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![PEER_ALPN.to_vec()];
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(config)
    }

    fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        self.believed.borrow().clients.clone()
    }
}

impl ResolvesServerCert for PeerIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().clone())
    }
}

impl ResolvesClientCert for PeerIdentity {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Takes certificates of whatever roots are believed at the time.
#[derive(Debug)]
struct Clients(Arc<PeerIdentity>);

impl ClientCertVerifier for Clients {
    /// No hints: they would have to be those of the configuration's beginning.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.0.clients().verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("peers speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.clients().verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clients().supported_verify_schemes()
    }
}

/// Accepts exactly one node's certificate.
struct PeerVerifier {
    identity: Arc<PeerIdentity>,
    expected: String,
}

impl fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerVerifier({})", self.expected)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let roots = self.identity.believed.borrow().roots.clone();
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)?;
        match pki::uris_of(end_entity).as_deref() {
            Some([uri]) if *uri == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("peers speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A chain with its key, which must belong to its leaf.
fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, PkiError> {
    Ok(Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?))
}
