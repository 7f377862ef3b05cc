//! The cluster's certificate authority, as a gateway uses it: to let a new node in.
//!
//! The node's process holds the key (sealed in the ledger, opened by the node) and implements
//! [`CertificateAuthority`]; a gateway names who a certificate is for and never sees a private key.
//!
//! What it leaves to others: where keys and certificates are (`node`), who may have one
//! (`calls::members`).

use lease::Ledger;
use lease::ids::NodeId;
use lease::operate::{AnchorState, TrustAnchor};
use thiserror::Error;

/// Whom a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateSubject<'a> {
    /// A node, towards its peers.
    Peer(NodeId),
    /// A gateway, by the host of its URL; loopback is added.
    Gateway {
        /// Host name or address.
        host: &'a str,
    },
}

/// Why no certificate was made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorityError {
    /// The key cannot be opened here.
    #[error("this node cannot open the key of the certificate authority")]
    Sealed,
    /// The request is no PKCS#10 request, or is not signed by its own key.
    #[error("the certificate request is not usable: {0}")]
    Request(String),
    /// The authority itself is not usable.
    #[error("the certificate authority is not usable: {0}")]
    Unusable(String),
}

/// Makes certificates of the cluster's own authority.
pub trait CertificateAuthority: Send + Sync + 'static {
    /// Certifies the key of a PKCS#10 request (PEM) whose own signature is checked; nothing else
    /// in the request counts. Gives the chain, PEM, leaf first.
    fn issue(
        &self,
        request_pem: &str,
        subject: CertificateSubject<'_>,
    ) -> Result<String, AuthorityError>;

    /// The authorities that the cluster believes, DER; the one that certifies comes first.
    fn anchors(&self) -> Result<Vec<Vec<u8>>, AuthorityError>;
}

/// The authority by which a node that joins knows the cluster's gateways; `None`: the ledger has
/// none yet.
///
/// All that gateways show while an authority takes another's place leads to the former: what it
/// issued, and what its successor issues, by the successor's certificate of it.
pub fn pinned_anchor(ledger: &Ledger) -> Option<&TrustAnchor> {
    let mut anchors = ledger.trust_anchors();
    anchors.find(|anchor| anchor.state == AnchorState::Retiring).or_else(|| ledger.issuing_anchor())
}
