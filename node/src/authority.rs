//! The cluster's own certificate authority, as far as this node can issue from it.
//!
//! Its private key is a cluster secret, so any unsealed node can issue: for itself, when its
//! certificates are half way through their life, and for a node that joins. The certificate that
//! belongs to the key is the ledger's trust anchor with the same public key; before the first
//! anchor is stored it is found in the file of roots. A cluster whose peers have certificates from
//! elsewhere has no such key or no such certificate, and issues nothing.
//!
//! What it leaves to others: opening the key (`keyholder`), when to issue (`certificates`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use gateway::{AuthorityError, CertificateAuthority, CertificateSubject};
use lease::Ledger;
use lease::operate::{AnchorState, TrustAnchor};
use protocol::secret::Secret;
use rcgen::CertificateSigningRequestParams;
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use storage::seam::{Clock, Entropy};
use tokio::sync::watch;

use crate::certificates::Certificates;
use crate::config::chain;
use crate::pki::{self, Authority, PkiError};

/// Where the authority appears once the node is unsealed, and again when it was replaced.
pub(crate) struct AuthorityCell(watch::Sender<Option<Arc<IssuingKey>>>);

impl AuthorityCell {
    /// A sealed node's cell.
    pub(crate) fn sealed() -> Self {
        Self(watch::Sender::new(None))
    }

    /// What this node can issue from; `None`: it is sealed, or the cluster has no authority of its
    /// own.
    pub(crate) fn get(&self) -> Option<Arc<IssuingKey>> {
        self.0.borrow().clone()
    }

    pub(crate) fn set(&self, key: Option<IssuingKey>) {
        self.0.send_replace(key.map(Arc::new));
    }
}

/// An authority's certificates and private key.
pub(crate) struct IssuingKey {
    certificate: CertificateDer<'static>,
    cross_signed: Vec<u8>,
    key_pem: Secret<String>,
    key_version: u32,
    /// `None`: it is not in the ledger yet.
    state: Option<AnchorState>,
}

impl IssuingKey {
    /// Puts together what belongs together: the key (PKCS#8 PEM, with its version as a secret) and
    /// the anchor of the ledger, or the certificate among the roots of this node's file, that has
    /// its public half.
    pub(crate) fn find(
        ledger: &Ledger,
        roots: &[CertificateDer<'static>],
        key_pem: Secret<String>,
        key_version: u32,
    ) -> Option<Self> {
        let fits = |certificate: &[u8]| {
            let certificate = CertificateDer::from(certificate.to_vec());
            Authority::load(&certificate, &[], key_pem.expose(), 0).is_ok()
        };
        let anchor = ledger.trust_anchors().find(|anchor| fits(&anchor.certificate_der));
        let (certificate, cross_signed, state) = match anchor {
            Some(anchor) => (
                CertificateDer::from(anchor.certificate_der.clone()),
                anchor.cross_signed_der.clone(),
                Some(anchor.state),
            ),
            None => (roots.iter().find(|root| fits(root))?.clone(), Vec::new(), None),
        };
        Some(Self { certificate, cross_signed, key_pem, key_version, state })
    }

    /// SHA-256 of its certificate.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(&self.certificate).into()
    }

    /// Whether nodes are to have certificates of it and of no other.
    pub(crate) fn is_in_charge(&self) -> bool {
        self.state != Some(AnchorState::Trusted)
    }

    /// Whether a certificate came from it.
    pub(crate) fn issued(&self, certificate: &[u8]) -> bool {
        pki::is_issued_by(certificate, &self.certificate)
    }

    /// Its row, where the ledger does not have it yet.
    pub(crate) fn first_anchor(&self) -> Option<TrustAnchor> {
        self.state.is_none().then(|| TrustAnchor {
            fingerprint: self.fingerprint(),
            certificate_der: self.certificate.to_vec(),
            cross_signed_der: Vec::new(),
            key_version: self.key_version,
            state: AnchorState::Issuing,
        })
    }

    /// Ready to issue at that time (Unix milliseconds).
    pub(crate) fn authority(&self, now_ms: i64) -> Result<Authority, PkiError> {
        Authority::load(&self.certificate, &self.cross_signed, self.key_pem.expose(), now_ms)
    }
}

/// The gateway's way to the authority, for nodes that join.
pub(crate) struct ClusterAuthority {
    pub(crate) cluster_id: String,
    pub(crate) cell: Arc<AuthorityCell>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) leaf_days: u32,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl CertificateAuthority for ClusterAuthority {
    fn issue(
        &self,
        request_pem: &str,
        subject: CertificateSubject<'_>,
    ) -> Result<String, AuthorityError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        let unusable = |error: PkiError| AuthorityError::Unusable(chain(&error));
        let key = self.cell.get().ok_or(AuthorityError::Sealed)?;
        let authority = key.authority(self.clock.wall_ms()).map_err(unusable)?;
        let authority = authority.with_leaf_days(self.leaf_days);
        let public = &request.public_key;
        let certified = match subject {
            CertificateSubject::Peer(node) => {
                authority.certify_node(&self.cluster_id, node, public, &*self.entropy)
            }
            CertificateSubject::Gateway { host } => {
                let mut names = vec!["localhost"];
                let mut addresses =
                    vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
                    Ok(address) if addresses.contains(&address) => {}
                    Ok(address) => addresses.push(address),
                    Err(_) if names.contains(&host) => {}
                    Err(_) => names.push(host),
                }
                authority.certify_gateway(&names, &addresses, public, &*self.entropy)
            }
        };
        certified.map_err(unusable)
    }

    fn anchors(&self) -> Result<Vec<Vec<u8>>, AuthorityError> {
        let mut anchors = self.certificates.roots();
        if let Some(key) = self.cell.get() {
            // A stable sort: the one that issues comes first.
            anchors.sort_by_key(|anchor| *anchor != key.certificate);
        }
        Ok(anchors.into_iter().map(|anchor| anchor.to_vec()).collect())
    }
}

/// SHA-256 of certificates, hex.
pub(crate) fn fingerprints(certificates: &[CertificateDer<'static>]) -> Vec<String> {
    certificates.iter().map(|certificate| fingerprint(certificate)).collect()
}

/// SHA-256 of a certificate, hex.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(certificate))
}

/// The authority among these that issued a certificate by itself.
pub(crate) fn issuer_among<'a>(
    authorities: &'a [CertificateDer<'static>],
    certificate: &[u8],
) -> Option<&'a CertificateDer<'static>> {
    authorities.iter().find(|authority| pki::is_issued_by(certificate, authority))
}
