//! Certificates: a development CA, node and gateway certificates, and who a peer proves to be.
//!
//! A node's identity towards its peers is one URI in its certificate, `spiffe://CLUSTER/node/ID`.
//! It is compared as a whole string with the cluster's id and with the membership, on every
//! connection and in both directions; names and addresses play no part. Gateway certificates
//! carry host names only, so that one of them can never pass for a node.
//!
//! An authority's successor is certified by it as well as by itself, so that whoever knows only the
//! former believes what the new one issues.
//!
//! What it leaves to others: who is a member (`peer`), how peers show and check certificates
//! (`peer::identity`), files and their permissions (`config`, `provision`, `certificates`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use lease::ids::NodeId;
use protocol::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use storage::seam::{Clock, Entropy};
use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What peers agree to speak.
pub const PEER_ALPN: &[u8] = b"h2";
/// How long a development CA is valid.
pub const CA_DAYS: i64 = 3650;
/// How long node and gateway certificates are valid where nothing else is said.
pub const LEAF_DAYS: i64 = crate::config::file::DEFAULT_LEAF_DAYS as i64;
/// How long before it is made a certificate says it begins, in seconds: clocks differ.
pub const BACKDATED_S: i64 = 24 * 60 * 60;

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
    /// A private key that belongs to another certificate.
    #[error("the private key is not that of the certificate")]
    OtherKey,
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
    /// What it shows to those who only know the authority before it; PEM, or empty.
    intermediate_pem: String,
    now_ms: i64,
    leaf_days: i64,
}

impl Authority {
    /// Makes a cluster's first one: ECDSA P-256.
    pub fn generate(
        cluster_id: &str,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
    ) -> Result<Self, PkiError> {
        let now_ms = clock.wall_ms();
        let params = authority_params(&format!("Leasehold CA {cluster_id}"), now_ms, 1, entropy)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
            intermediate_pem: String::new(),
            now_ms,
            leaf_days: LEAF_DAYS,
        })
    }

    /// Takes one that was made before, from its certificate and its private key (PKCS#8 PEM), at
    /// that time (Unix milliseconds). A key of another certificate is [`PkiError::OtherKey`].
    /// `cross_signed` is what [`Authority::successor`] made beside it; empty for the first.
    pub fn load(
        certificate: &CertificateDer<'_>,
        cross_signed: &[u8],
        key_pem: &str,
        now_ms: i64,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem)?;
        if public_key_of(certificate).as_deref() != Some(&key.subject_public_key_info()[..]) {
            return Err(PkiError::OtherKey);
        }
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(certificate, key)?,
            certificate_pem: certificate_pem(certificate),
            intermediate_pem: match cross_signed {
                [] => String::new(),
                der => certificate_pem(der),
            },
            now_ms,
            leaf_days: LEAF_DAYS,
        })
    }

    /// The same, its certificates valid for so many days.
    pub fn with_leaf_days(self, leaf_days: u32) -> Self {
        Self { leaf_days: i64::from(leaf_days), ..self }
    }

    /// Makes the authority that takes this one's place, and its certificate by this one: whoever
    /// trusts this one believes what the new one issues, by way of that.
    pub fn successor(
        &self,
        cluster_id: &str,
        number: u32,
        entropy: &dyn Entropy,
    ) -> Result<Successor, PkiError> {
        let name = format!("Leasehold CA {cluster_id} {number}");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = authority_params(&name, self.now_ms, 1, entropy)?.self_signed(&key)?;
        let mut crossed = authority_params(&name, self.now_ms, 0, entropy)?;
        crossed.use_authority_key_identifier_extension = true;
        let cross_signed = crossed.signed_by(&key, &self.issuer)?;
        Ok(Successor {
            certificate: certificate.der().clone(),
            cross_signed: cross_signed.der().clone(),
            key_pem: Secret::new(key.serialize_pem()),
        })
    }

    /// What goes behind a leaf of it in a chain, so that those who only know the authority before
    /// it believe the leaf; PEM, empty for the first.
    pub fn intermediate_pem(&self) -> &str {
        &self.intermediate_pem
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
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = self.certify_node(cluster_id, node, &key, entropy)?;
        Ok(Issued { certificate_pem, key_pem: Secret::new(key.serialize_pem()) })
    }

    /// The same for a key that stays where it was made: the certificate's chain, PEM.
    pub fn certify_node(
        &self,
        cluster_id: &str,
        node: NodeId,
        key: &impl PublicKeyData,
        entropy: &dyn Entropy,
    ) -> Result<String, PkiError> {
        let mut params = dated(self.now_ms, self.leaf_days, entropy)?;
        params.distinguished_name = named(&format!("Leasehold node {node}"));
        params.subject_alt_names =
            vec![SanType::URI(spiffe_id(cluster_id, node).as_str().try_into()?)];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.certify(params, key)
    }

    /// A certificate for a gateway's host names and addresses.
    pub fn issue_gateway(
        &self,
        names: &[&str],
        addresses: &[IpAddr],
        entropy: &dyn Entropy,
    ) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate_pem = self.certify_gateway(names, addresses, &key, entropy)?;
        Ok(Issued { certificate_pem, key_pem: Secret::new(key.serialize_pem()) })
    }

    /// The same for a key that stays where it was made: the certificate's chain, PEM.
    pub fn certify_gateway(
        &self,
        names: &[&str],
        addresses: &[IpAddr],
        key: &impl PublicKeyData,
        entropy: &dyn Entropy,
    ) -> Result<String, PkiError> {
        let mut params = dated(self.now_ms, self.leaf_days, entropy)?;
        params.distinguished_name = named("Leasehold gateway");
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.certify(params, key)
    }

    fn certify(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<String, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(certificate.pem() + &self.intermediate_pem)
    }
}

/// An authority that is to take another's place.
pub struct Successor {
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// The same name and key, certified by the one before.
    pub cross_signed: CertificateDer<'static>,
    /// Its private key, PKCS#8 PEM.
    pub key_pem: Secret<String>,
}

/// SubjectPublicKeyInfo of a certificate.
pub fn public_key_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// A certificate as PEM.
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// What a certificate says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Particulars {
    /// Host names.
    pub names: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// First second of validity, Unix.
    pub not_before_s: i64,
    /// Last second of validity, Unix.
    pub not_after_s: i64,
}

/// Reads them; `None` where the certificate cannot be read.
pub fn particulars_of(certificate: &[u8]) -> Option<Particulars> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut found = Particulars {
        names: Vec::new(),
        addresses: Vec::new(),
        not_before_s: parsed.validity().not_before.timestamp(),
        not_after_s: parsed.validity().not_after.timestamp(),
    };
    let alternatives = parsed.subject_alternative_name().ok()?;
    for name in alternatives.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => found.names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                found.addresses.extend(address.ok());
            }
            _ => {}
        }
    }
    Some(found)
}

/// Whether a certificate was issued by exactly this authority, whatever the time.
pub fn is_issued_by(certificate: &[u8], authority: &[u8]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(certificate) else { return false };
    let Ok((_, issuer)) = X509Certificate::from_der(authority) else { return false };
    leaf.issuer() == issuer.subject()
        && roots(&[CertificateDer::from(authority.to_vec())]).is_ok_and(|roots| {
            let at_ms = leaf.validity().not_after.timestamp().saturating_mul(1_000);
            let leaf = CertificateDer::from(certificate.to_vec());
            chains_to(&roots, &[leaf], at_ms).is_ok()
        })
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

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Leasehold");
    name.push(DnType::CommonName, common_name);
    name
}

/// Parameters of an authority below which there may be so many more.
fn authority_params(
    name: &str,
    now_ms: i64,
    below: u8,
    entropy: &dyn Entropy,
) -> Result<CertificateParams, PkiError> {
    let mut params = dated(now_ms, CA_DAYS, entropy)?;
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// Parameters valid from the day before (clocks differ) for so many days, with a random serial.
fn dated(now_ms: i64, days: i64, entropy: &dyn Entropy) -> Result<CertificateParams, PkiError> {
    let date = |offset_s: i64| {
        let at_s = now_ms.div_euclid(1_000).checked_add(offset_s)?;
        // rcgen panics on years outside of what a certificate can express.
        let at_s = u64::try_from(at_s).ok().filter(|at_s| *at_s < END_OF_9998_S)?;
        Some(rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at_s))
    };
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    serial[0] &= 0x7f; // RFC 5280: positive
    let mut params = CertificateParams::default();
    params.not_before = date(-BACKDATED_S).ok_or(PkiError::Date)?;
    params.not_after = days.checked_mul(DAY_S).and_then(date).ok_or(PkiError::Date)?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

const DAY_S: i64 = 24 * 60 * 60;
/// The first second of the year 9999, Unix.
const END_OF_9998_S: u64 = 253_370_764_800;

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::ServerName;
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
        let late = now + (LEAF_DAYS + 1) * DAY_S * 1_000;
        assert!(chains_to(&trust(&ca), &[leaf], late).is_err(), "expired");
    }

    #[test]
    fn who_knows_the_old_root_alone_believes_the_new_ones_leaf_by_way_of_the_old() {
        let now = RealClock::new().wall_ms();
        let old = authority();
        let next = old.successor("lh-a", 2, &RealEntropy).unwrap();
        let load = |cross_signed: &[u8]| {
            Authority::load(&next.certificate, cross_signed, next.key_pem.expose(), now).unwrap()
        };
        let chain = |by: &Authority| {
            let issued = by.issue_node("lh-a", 3, &RealEntropy).unwrap();
            let pem = issued.certificate_pem.into_bytes();
            CertificateDer::pem_slice_iter(&pem).map(Result::unwrap).collect::<Vec<_>>()
        };
        let old_root = roots(&[certificate(old.certificate_pem())]).unwrap();
        let new_root = roots(std::slice::from_ref(&next.certificate)).unwrap();
        let (with, without) = (chain(&load(&next.cross_signed)), chain(&load(&[])));
        assert_eq!((with.len(), without.len()), (2, 1));
        for (what, roots, chain, believed) in [
            ("old root, with the certificate by the old", &old_root, &with, true),
            ("old root, without it", &old_root, &without, false),
            ("new root", &new_root, &without, true),
            ("new root, with what it needs not", &new_root, &with, true),
            ("new root, a leaf of the old", &new_root, &chain(&old), false),
        ] {
            assert_eq!(chains_to(roots, chain, now).is_ok(), believed, "{what}");
        }
        assert!(is_issued_by(&with[0], &next.certificate));
        assert!(!is_issued_by(&with[0], &certificate(old.certificate_pem())));
        assert!(!is_issued_by(&with[0], &with[0]));
        let other_key = Authority::load(&next.certificate, &[], old.key_pem().expose(), now);
        assert!(matches!(other_key, Err(PkiError::OtherKey)));
    }

    #[test]
    fn days_of_life_are_counted_from_when_it_is_made() {
        let issued = authority().with_leaf_days(2).issue_node("lh-a", 1, &RealEntropy).unwrap();
        let found = particulars_of(&certificate(&issued.certificate_pem)).unwrap();
        let days = found.not_after_s - (found.not_before_s + BACKDATED_S);
        assert_eq!(days, 2 * DAY_S);
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
