//! Certificates: a development CA, node and gateway certificates, and who a peer proves to be.
//!
//! A node's identity towards its peers is one URI in its certificate, `spiffe://CLUSTER/node/ID`.
//! It is compared as a whole string with the cluster's id and with the membership, on every
//! connection and in both directions; names and addresses play no part. Gateway certificates
//! carry host names only, so that one of them can never pass for a node.
//!
//! What it leaves to others: who is a member (`peer`), files and their permissions (`config`,
//! `provision`), issuing certificates to nodes that join.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lease::ids::NodeId;
use protocol::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use storage::seam::{Clock, Entropy};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What peers agree to speak.
pub const PEER_ALPN: &[u8] = b"h2";
/// How long a development CA is valid.
pub const CA_DAYS: i64 = 3650;
/// How long node and gateway certificates are valid.
pub const LEAF_DAYS: i64 = 825;

/// Why a certificate could not be made or used.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The certificate library refused.
    #[error("making a certificate failed")]
    Make(#[from] rcgen::Error),
    /// The TLS library refused.
    #[error("the TLS configuration is not usable")]
    Tls(#[from] rustls::Error),
    /// The trust anchors cannot be used.
    #[error("the CA certificate is not usable: {0}")]
    Anchors(String),
    /// The machine's date is not one that certificates can express.
    #[error("the machine's clock shows a date that certificates cannot express")]
    Date,
}

/// The process-wide TLS provider: aws-lc-rs only.
pub fn install_provider() {
    // A second call finds the first one's provider, which is the same.
    let _ = aws_lc_rs::default_provider().install_default();
}

/// The URI that names a node.
pub fn spiffe_id(cluster_id: &str, node: NodeId) -> String {
    format!("spiffe://{cluster_id}/node/{node}")
}

/// The node that a URI names in this cluster; only the one spelling of [`spiffe_id`] is read.
pub fn node_of_spiffe_id(cluster_id: &str, uri: &str) -> Option<NodeId> {
    let node: NodeId = uri.rsplit('/').next()?.parse().ok()?;
    (spiffe_id(cluster_id, node) == uri).then_some(node)
}

/// The URIs among a certificate's names.
pub fn uris_of(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    Some(
        names
            .value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect(),
    )
}

/// The node that a certificate (whose chain was verified) names in this cluster. A certificate with
/// two URIs names nobody.
pub fn node_of(cluster_id: &str, certificate: &CertificateDer<'_>) -> Option<NodeId> {
    match uris_of(certificate)?.as_slice() {
        [uri] => node_of_spiffe_id(cluster_id, uri),
        _ => None,
    }
}

/// A certificate with its private key, as PEM texts.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// PKCS#8.
    pub key_pem: Secret<String>,
}

/// An authority that issues certificates of one cluster.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    now_ms: i64,
}

impl Authority {
    /// Makes a new one: ECDSA P-256, may sign leaf certificates only.
    pub fn generate(
        cluster_id: &str,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, PkiError> {
        let now_ms = clock.wall_ms();
        let mut params = dated(now_ms, CA_DAYS, entropy)?;
        params.distinguished_name = named(&format!("Leasehold development CA {cluster_id}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem, now_ms })
    }

    /// Its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> Secret<String> {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// A certificate by which a node proves its id to peers, as client and as server.
    pub fn issue_node(
        &self,
        cluster_id: &str,
        node: NodeId,
        entropy: &dyn Entropy,
    ) -> Result<Issued, PkiError> {
        let mut params = dated(self.now_ms, LEAF_DAYS, entropy)?;
        params.distinguished_name = named(&format!("Leasehold node {node}"));
        params.subject_alt_names =
            vec![SanType::URI(spiffe_id(cluster_id, node).as_str().try_into()?)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// A certificate for a gateway's host names and addresses.
    pub fn issue_gateway(
        &self,
        names: &[&str],
        addresses: &[IpAddr],
        entropy: &dyn Entropy,
    ) -> Result<Issued, PkiError> {
        let mut params = dated(self.now_ms, LEAF_DAYS, entropy)?;
        params.distinguished_name = named("Leasehold gateway");
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params)
    }

    fn issue(&self, mut params: CertificateParams) -> Result<Issued, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: Secret::new(key.serialize_pem()) })
    }
}

/// Trust anchors.
pub fn roots(anchors: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, PkiError> {
    let mut store = RootCertStore::empty();
    for anchor in anchors {
        store.add(anchor.clone()).map_err(|error| PkiError::Anchors(error.to_string()))?;
    }
    if store.is_empty() {
        return Err(PkiError::Anchors("the file holds no certificate".to_owned()));
    }
    Ok(Arc::new(store))
}

/// Whether a certificate chains to the anchors at that time (Unix milliseconds), for either end of
/// a connection.
pub fn chains_to(
    roots: &RootCertStore,
    chain: &[CertificateDer<'static>],
    now_ms: i64,
) -> Result<(), rustls::Error> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(CertificateError::BadEncoding.into());
    };
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms.max(0).unsigned_abs()));
    let leaf = ParsedCertificate::try_from(leaf)?;
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, intermediates, now, algorithms.all)
}

/// TLS 1.3 towards one peer: our certificate shown, its certificate chained to the cluster's CA and
/// naming exactly that node.
pub fn peer_client_config(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    cluster_id: &str,
    node: NodeId,
) -> Result<ClientConfig, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        PeerVerifier { roots, provider: provider.clone(), expected: spiffe_id(cluster_id, node) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![PEER_ALPN.to_vec()];
    // Neither side keeps state of former connections: each one proves the certificate anew.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// TLS 1.3 for the peer listener: a client certificate chained to the cluster's CA is required.
/// Whom it names is checked by the caller ([`node_of`] and the membership).
pub fn peer_server_config(
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| PkiError::Anchors(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![PEER_ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(config)
}

/// Accepts exactly one node's certificate.
struct PeerVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
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
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(
            &leaf,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        match uris_of(end_entity).as_deref() {
            Some([uri]) if *uri == self.expected => Ok(ServerCertVerified::assertion()),
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("peers speak TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Leasehold");
    name.push(DnType::CommonName, common_name);
    name
}

/// Parameters valid from the day before (clocks differ) for so many days, with a random serial.
fn dated(now_ms: i64, days: i64, entropy: &dyn Entropy) -> Result<CertificateParams, PkiError> {
    let date = |offset_days: i64| {
        let at_ms = now_ms.checked_add(offset_days.checked_mul(DAY_MS)?)?;
        let date = jiff::Timestamp::from_millisecond(at_ms).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
        let month = u8::try_from(date.month()).ok()?;
        let day = u8::try_from(date.day()).ok()?;
        // rcgen panics on years outside of what a certificate can express.
        (1970..=9998)
            .contains(&date.year())
            .then(|| rcgen::date_time_ymd(i32::from(date.year()), month, day))
    };
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    serial[0] &= 0x7f; // RFC 5280: positive
    let mut params = CertificateParams::default();
    params.not_before = date(-1).ok_or(PkiError::Date)?;
    params.not_after = date(days).ok_or(PkiError::Date)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use storage::seam::{RealClock, RealEntropy};

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn authority() -> Authority {
        Authority::generate("lh-a", &RealClock::new(), &RealEntropy).unwrap()
    }

    #[test]
    fn a_spiffe_id_has_one_spelling() {
        for (uri, node) in [
            ("spiffe://lh-a/node/1", Some(1)),
            ("spiffe://lh-a/node/12", Some(12)),
            ("spiffe://lh-a/node/01", None),
            ("spiffe://lh-a/node/+1", None),
            ("spiffe://lh-a/node/1/", None),
            ("spiffe://lh-a/node/", None),
            ("spiffe://lh-b/node/1", None),
            ("SPIFFE://lh-a/node/1", None),
            ("spiffe://lh-a.evil/node/1", None),
            ("spiffe://lh-a/x/node/1", None),
            ("https://lh-a/node/1", None),
            ("", None),
        ] {
            assert_eq!(node_of_spiffe_id("lh-a", uri), node, "{uri}");
        }
    }

    #[test]
    fn a_node_certificate_names_its_node_and_chains_to_its_ca() {
        let (ca, other) = (authority(), authority());
        let issued = ca.issue_node("lh-a", 3, &RealEntropy).unwrap();
        let leaf = certificate(&issued.certificate_pem);
        assert_eq!(node_of("lh-a", &leaf), Some(3));
        assert_eq!(node_of("lh-b", &leaf), None);
        let now = RealClock::new().wall_ms();
        let trust = |ca: &Authority| roots(&[certificate(ca.certificate_pem())]).unwrap();
        chains_to(&trust(&ca), std::slice::from_ref(&leaf), now).unwrap();
        assert!(chains_to(&trust(&other), std::slice::from_ref(&leaf), now).is_err());
        let late = now + (LEAF_DAYS + 1) * DAY_MS;
        assert!(chains_to(&trust(&ca), &[leaf], late).is_err(), "expired");
    }

    #[test]
    fn a_gateway_certificate_names_no_node() {
        let addresses = ["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let issued = authority().issue_gateway(&["localhost"], &addresses, &RealEntropy).unwrap();
        let leaf = certificate(&issued.certificate_pem);
        assert_eq!(node_of("lh-a", &leaf), None);
        let parsed = ParsedCertificate::try_from(&leaf).unwrap();
        for name in ["localhost", "127.0.0.1", "::1"] {
            let name = ServerName::try_from(name).unwrap();
            rustls::client::verify_server_name(&parsed, &name).unwrap();
        }
    }
}
