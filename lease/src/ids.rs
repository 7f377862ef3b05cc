//! Names of things: leases, fences, requests, people, nodes.
//!
//! All of them are chosen outside the ledger (by the gateway that admits a command, or by the
//! proposer) and travel in the entry. Text forms of lease ids, fences and renewal tokens belong to
//! `protocol`; here they are numbers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A bounded text shared without copying: package, product, vendor and pool names.
pub type Name = Arc<str>;

/// A node's number in its cluster: counts up from 1, never reused.
pub type NodeId = u64;

/// The group (shard) of a command. Today every package maps to group 0.
pub type Group = u16;

/// The one function that maps a package to its group.
pub fn group_of(_package: &str) -> Group {
    0
}

/// A lease: its group and 80 bits drawn by a gateway, the later half of them random. The MAC of its
/// text form is checked by the gateway and is not part of the identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId {
    /// The group whose ledger holds the lease.
    pub group: Group,
    /// Drawn by the gateway that admitted the checkout: leases that were drawn at about the same
    /// time stand together, and beyond that nothing follows from it.
    pub random: [u8; 10],
}

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.group)?;
        self.random.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A registered application; 64 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AppId(pub u64);

/// An operator token; 64 random bits that name the row, not the token itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperatorId(pub u64);

/// A face of the gateway whose callers carry their own proof in the request (a license key, an
/// activation id, a signature) instead of an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Face {
    /// Software bound to devices.
    Device,
    /// Self-hosted clusters of another product.
    Deployment,
    /// Evaluation and OEM software.
    Evaluation,
    /// The older borrow and return API.
    Classic,
}

impl Face {
    /// Every face.
    pub const ALL: [Self; 4] = [Self::Device, Self::Deployment, Self::Evaluation, Self::Classic];

    /// The wire word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Deployment => "deployment",
            Self::Evaluation => "evaluation",
            Self::Classic => "classic",
        }
    }

    /// The id that stands for the face where a lease names the application that holds it. No
    /// application is registered under an id above [`AppId::LAST`].
    pub fn app(self) -> AppId {
        AppId(u64::MAX - self as u64)
    }
}

impl AppId {
    /// The last id that an application may have; those above stand for faces.
    pub const LAST: Self = Self(u64::MAX - 256);

    /// The face that this id stands for.
    pub fn face(self) -> Option<Face> {
        Face::ALL.into_iter().find(|face| face.app() == self)
    }
}

/// A license key's row; shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LicenseId(pub u128);

/// A device, cluster or host that a license was activated on; 128 random bits, for `evaluation` the
/// proof itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActivationId(pub u128);

/// Whom license keys are issued to; shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClientId(pub u128);

/// A product of the catalog; shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductId(pub u128);

/// A user of the admin API's own kind; shown as a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserId(pub u128);

/// A key of the classic face; 64 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ApiKeyId(pub u64);

/// Stands for the network address that a request came from: a MAC of it, so that no address is
/// stored. 0: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AddressTag(pub u64);

/// A random stand-in for a person or a host in audit events. What it stands for is a separate row
/// that can be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubjectRef(pub u64);

/// The id that follows one request from the gateway's log through the entry to the audit event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TraceId(pub u128);

/// The order of grants: strictly increasing over the life of a cluster, across failover, restore
/// and upgrade. The cluster's incarnation is appended only in the text form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Number of the cluster's epoch.
    pub epoch: u32,
    /// Index of the log entry that granted.
    pub index: u64,
    /// Position of the command in that entry's batch.
    pub position: u16,
}

/// What makes a mutation happen once: who asked for what under which key, and with which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// First 16 bytes of SHA-256 over authenticated principal, operation and key (see
    /// [`RequestId::scope_of`]).
    pub scope: [u8; 16],
    /// First 8 bytes of SHA-256 over the request's body, to find a key used again for another.
    pub body: [u8; 8],
    /// Who chose the key, and so how long it is remembered.
    pub origin: KeyOrigin,
}

/// Who chose an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KeyOrigin {
    /// The caller, in the `Idempotency-Key` header: remembered for 15 minutes of led time.
    Caller,
    /// The gateway, for its own retries: remembered for 30 seconds of led time.
    Gateway,
}

impl RequestId {
    /// The scope of a key: principal, operation and key, each preceded by its length.
    pub fn scope_of(principal: &str, operation: &str, key: &str) -> [u8; 16] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for part in [principal, operation, key] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let mut scope = [0; 16];
        scope.copy_from_slice(&digest[..16]);
        scope
    }

    /// The short hash of a body.
    pub fn body_of(body: &[u8]) -> [u8; 8] {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(body);
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        short
    }
}
