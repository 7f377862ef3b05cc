//! The audit chain: what an event holds, how events hang together, how they are stored.
//!
//! Every event holds the hash of the one before it, and the hash of an event is SHA-256 over its
//! encoded bytes, which begin with that hash. So an event that was removed, added or edited breaks
//! the chain, and the head in the ledger's META row vouches for all of them. Events wait in memory
//! until the next checkpoint takes them as blocks; reading them back from blocks, exporting and
//! pruning belong to others.
//!
//! People and hosts appear as references whose names are separate, erasable rows. No event holds
//! text that names a person.

mod kinds;

use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::command::{Role, SeatClass};
use crate::entry::{Actor, Cause};
use crate::format::{self, FormatError, Kind};
use crate::ids::{
    ActivationId, ApiKeyId, AppId, ClientId, Face, Fence, LeaseId, LicenseId, Name, NodeId,
    OperatorId, ProductId, SubjectRef, TraceId, UserId,
};
use crate::license::{ActivationChange, LicenseState};
use crate::limits::MAX_BLOCK_BYTES;
use crate::money::Money;
use crate::operate::{AlarmKind, AnchorState, EpochReason};
use crate::outcome::RefusalCode;
use crate::rows::{Row, table};

/// Version of blocks of audit events.
const BLOCK_VERSION: u8 = 1;
/// Room in a block for its frame, first sequence number and count.
const BLOCK_OVERHEAD_BYTES: usize = 64;
/// Room for the length of an event in a block.
const LENGTH_BYTES: usize = 4;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// SHA-256 of the encoded event before; zeros before the first.
    pub previous: [u8; 32],
    /// Counts up from 1 without a gap.
    pub seq: u64,
    /// Civil clock, Unix milliseconds.
    pub civil_ms: i64,
    /// Lease clock.
    pub led_ms: u64,
    /// On whose behalf; the proposing node where time did it.
    pub actor: Actor,
    /// Follows the request that did it.
    pub trace: TraceId,
    /// The command in another group that made it necessary.
    pub cause: Option<Cause>,
    /// What happened.
    pub kind: AuditKind,
    /// To which package.
    pub package: Option<Name>,
    /// To which lease.
    pub lease: Option<LeaseId>,
    /// Who used it; zero: nobody named.
    pub user: SubjectRef,
    /// On which host; zero: none named.
    pub host: SubjectRef,
    /// The particulars.
    pub detail: AuditDetail,
}

/// What can happen. Append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AuditKind {
    /// The cluster was founded.
    ClusterFounded,
    /// A node's row was added or changed.
    MemberPut,
    /// A node's token-signing key was published.
    SigningKeyPublished,
    /// A sealed secret was stored.
    SecretStored,
    /// The data key was wrapped to a node.
    DataKeyWrapped,
    /// An operator token was added.
    OperatorAdded,
    /// A vendor's key was pinned.
    VendorPinned,
    /// A package was imported.
    PackageImported,
    /// A package was suspended.
    PackageSuspended,
    /// A package was resumed.
    PackageResumed,
    /// A package was revoked.
    PackageRevoked,
    /// An application was registered.
    AppRegistered,
    /// An application got a new secret.
    AppSecretRotated,
    /// An application was removed.
    AppRemoved,
    /// A seat was taken.
    LeaseGranted,
    /// A seat was given back by its holder.
    LeaseReturned,
    /// A seat was taken back by an operator.
    LeaseReleased,
    /// A lease ran out.
    LeaseExpired,
    /// A lease ended because its package did.
    LeaseEndedWithPackage,
    /// A lease ended because the seats it came from are no longer there.
    LeaseEndedWithSeats,
    /// Seats were moved between pools.
    SeatsTransferred,
    /// A renewal token older than the one before the current was shown.
    RenewalTokenReplayed,
    /// Something was refused (once per actor, package, reason and civil minute).
    Refused,
    /// A license was issued.
    LicenseIssued,
    /// A license was suspended, resumed, cancelled, revoked or reinstated.
    LicenseChanged,
    /// A license got a new key.
    LicenseKeyRotated,
    /// A license was set up: somebody accepted its terms.
    LicenseSetUp,
    /// A device, cluster or host took a seat under a license.
    Activated,
    /// An activation lost its seat.
    ActivationEnded,
    /// An activation was removed, revoked or reinstated.
    ActivationChanged,
    /// A trial began.
    TrialStarted,
    /// Somebody other than its owner activated a license for the first time.
    IdentityDelegated,
    /// A client was added.
    ClientAdded,
    /// A client was banned, or no longer is.
    ClientChanged,
    /// A product of the catalog was stored.
    ProductPut,
    /// A product of the catalog was removed.
    ProductRemoved,
    /// A user of the admin API that `device` tools speak was added.
    UserAdded,
    /// Other versions of a rotating key are in use.
    KeyWindowSet,
    /// A lease was lengthened for offline use.
    LeaseBorrowed,
    /// A borrow was ended early.
    BorrowReturned,
    /// A seat was taken back from a lost device.
    LeaseWrittenOff,
    /// Rules for borrowing were set or removed.
    BorrowRulesSet,
    /// A key of the classic face was added.
    ApiKeyAdded,
    /// A key of the classic face was removed.
    ApiKeyRemoved,
    /// The bound of a month's overage was set.
    BudgetSet,
    /// A node id was given out and a token made to join under it.
    MemberInvited,
    /// A node joined.
    MemberJoined,
    /// A node was removed, or its token withdrawn.
    MemberRemoved,
    /// A new epoch was opened.
    EpochOpened,
    /// An operator token was removed.
    OperatorRemoved,
    /// An alarm was raised.
    AlarmRaised,
    /// An alarm was cleared.
    AlarmCleared,
    /// A person's or host's name was taken away.
    SubjectErased,
    /// A pool was created or changed.
    PoolSet,
    /// A pool was removed.
    PoolRemoved,
    /// Audit events were let go.
    AuditPruned,
    /// How an application is let in was set.
    AppPolicySet,
    /// A certificate authority was stored, or is trusted otherwise.
    TrustAnchorPut,
    /// A certificate authority is no longer trusted.
    TrustAnchorRemoved,
    /// The data key was replaced.
    DataKeyReplaced,
    /// A former data key was let go.
    DataKeyRetired,
    /// A lease of the former epoch came back.
    LeaseReclaimed,
    /// Seats kept for unknown borrows were given back.
    ReservedReleased,
    /// A signing key signs no more.
    SigningKeyRetired,
    /// A version of a secret was let go.
    SecretRemoved,
}

/// The particulars of an event. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuditDetail {
    /// None.
    None,
    /// Of a founding.
    Cluster {
        /// Text id of the cluster.
        cluster_id: Name,
        /// Epoch number.
        epoch: u32,
        /// Its incarnation.
        incarnation: u64,
    },
    /// Of a node.
    Node {
        /// Its number.
        node: NodeId,
        /// Incarnation of its data directory.
        directory_incarnation: u64,
    },
    /// Of a signing key.
    SigningKey {
        /// Its id.
        kid: Name,
        /// The node that holds it.
        node: NodeId,
    },
    /// Of a sealed secret.
    Secret {
        /// Its name.
        name: Name,
        /// Its version.
        version: u32,
    },
    /// Of a wrap of the data key.
    DataKey {
        /// To which node.
        node: NodeId,
        /// Version of the data key.
        version: u32,
    },
    /// Of an operator token.
    Operator {
        /// Its row.
        operator: OperatorId,
        /// What it allows.
        role: Role,
    },
    /// Of a vendor.
    Vendor {
        /// Its id.
        vendor: Name,
        /// SHA-256 of the pinned key.
        fingerprint: [u8; 32],
    },
    /// Of an import.
    Package {
        /// The vendor.
        vendor: Name,
        /// The product.
        product: Name,
        /// Most seats at once.
        total: u32,
        /// SHA-256 of the canonical bytes.
        document: [u8; 32],
    },
    /// An operator's reason.
    Reason(Box<str>),
    /// Of an application.
    App {
        /// Its id.
        app: AppId,
        /// Generation of its secret.
        generation: u32,
    },
    /// Of a grant.
    Grant {
        /// Its place in the order of grants.
        fence: Fence,
        /// Commit or overage.
        class: SeatClass,
        /// Seats.
        quantity: u32,
        /// From which pool.
        pool: Option<Name>,
        /// Charged.
        cost: Option<Money>,
    },
    /// Of an end.
    End {
        /// Commit or overage.
        class: SeatClass,
        /// Seats freed.
        quantity: u32,
        /// Civil milliseconds since the grant.
        duration_ms: u64,
    },
    /// Of an end by an operator.
    Release {
        /// Commit or overage.
        class: SeatClass,
        /// Seats freed.
        quantity: u32,
        /// The operator's reason.
        reason: Box<str>,
    },
    /// Of a transfer.
    Transfer {
        /// From which pool.
        from: Option<Name>,
        /// To which pool.
        to: Option<Name>,
        /// Seats.
        quantity: u32,
    },
    /// Of a replay.
    Replay {
        /// The sequence shown.
        shown: u32,
        /// The sequence in force.
        current: u32,
    },
    /// Of a refusal.
    Refusal {
        /// The reason.
        code: RefusalCode,
    },
    /// Of an issue.
    License {
        /// Its id.
        license: LicenseId,
        /// Through which face it is used.
        face: Face,
        /// To whom.
        client: Option<ClientId>,
    },
    /// Of a change to a license.
    LicenseChange {
        /// Its id.
        license: LicenseId,
        /// Where it stands now.
        state: LicenseState,
        /// Its token version now.
        token_version: u32,
        /// The operator's reason.
        reason: Box<str>,
    },
    /// Of a license set up, or a trial.
    OfLicense(LicenseId),
    /// Of an activation.
    Activation {
        /// Its license.
        license: LicenseId,
        /// Its id.
        activation: ActivationId,
    },
    /// Of a change to an activation.
    ActivationChange {
        /// Its license.
        license: LicenseId,
        /// Its id.
        activation: ActivationId,
        /// What became of it.
        change: ActivationChange,
        /// Whether its seat was freed although an offline token may be outstanding.
        write_off: bool,
        /// The operator's reason.
        reason: Box<str>,
    },
    /// Of a delegate.
    Identity {
        /// The license.
        license: LicenseId,
        /// The client id that the delegate got.
        subject_client: ClientId,
    },
    /// Of a client.
    Client {
        /// Their id.
        client: ClientId,
        /// Whether they are banned now.
        banned: bool,
        /// The operator's reason; may be empty.
        reason: Box<str>,
    },
    /// Of a product of the catalog.
    Product {
        /// Its id.
        product: ProductId,
        /// Its version.
        version: u32,
    },
    /// Of a user of the admin API that `device` tools speak.
    User(UserId),
    /// Of a rotating key.
    KeyWindow {
        /// Which key.
        name: Name,
        /// What new documents are signed with.
        current: u32,
        /// The oldest that is accepted.
        minimum: u32,
    },
    /// Of a borrow.
    Borrow {
        /// Last civil millisecond.
        ends_ms: i64,
        /// Seats.
        quantity: u32,
    },
    /// Of rules for borrowing. Who is named in them is not part of the event.
    BorrowRules {
        /// Longest borrow.
        max_ms: Option<u64>,
        /// Seats at once.
        seats_max: Option<u32>,
        /// Seats left for online users.
        online_reserve: u32,
    },
    /// Of a key of the classic face.
    ApiKey {
        /// Its id.
        key: ApiKeyId,
    },
    /// Of a budget.
    Budget {
        /// The bound; `None`: none.
        max_spend: Option<Money>,
    },
    /// Of a ticket.
    Ticket {
        /// The id given out.
        node: NodeId,
        /// Whose place it takes.
        replaces: Option<NodeId>,
    },
    /// Of a removal of a node.
    NodeRemoved {
        /// The node.
        node: NodeId,
        /// Whether its tokens ended at once.
        revoke_tokens: bool,
        /// The operator's reason.
        reason: Box<str>,
    },
    /// Of an epoch.
    Epoch {
        /// Its number.
        epoch: u32,
        /// Its incarnation.
        incarnation: u64,
        /// Why it was opened.
        reason: EpochReason,
    },
    /// Of an alarm.
    Alarm {
        /// The node it is about.
        node: NodeId,
        /// What is wrong.
        kind: AlarmKind,
    },
    /// Of an erasure.
    Erasure {
        /// Who.
        subject: SubjectRef,
        /// The operator's reason.
        reason: Box<str>,
    },
    /// Of a pool. Who is named in its rule is not part of the event.
    Pool {
        /// The pool.
        pool: Name,
        /// Its share now.
        seats: u32,
        /// How many are named in its rule.
        reserved_for: u32,
    },
    /// Of a pruning.
    AuditFloor {
        /// Sequence number of the last event that went.
        seq: u64,
    },
    /// Of a certificate authority.
    TrustAnchor {
        /// SHA-256 of its certificate.
        fingerprint: [u8; 32],
        /// How far it is trusted now; `None`: not at all.
        state: Option<AnchorState>,
    },
    /// Of a lease that came back.
    Reclaim {
        /// Its place in the order of grants now.
        fence: Fence,
        /// Whether the state knew it.
        known: bool,
        /// Seats.
        quantity: u32,
    },
    /// Of seats kept.
    Reserved {
        /// How many.
        seats: u32,
        /// The operator's reason; empty: time.
        reason: Box<str>,
    },
}

/// The newest event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditHead {
    /// Its sequence number; 0 before the first.
    pub seq: u64,
    /// SHA-256 of its encoded bytes; zeros before the first.
    pub hash: [u8; 32],
}

/// Where a chain of events is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// A sequence number is missing or repeated.
    #[error("audit event {found} stands where {expected} belongs")]
    Gap {
        /// Sequence number expected.
        expected: u64,
        /// Sequence number found.
        found: u64,
    },
    /// The event does not hold the hash of the one before.
    #[error("audit event {seq} does not follow from the one before")]
    Broken {
        /// Sequence number of the event that does not fit.
        seq: u64,
    },
}

/// Hash of an event.
pub fn hash_event(event: &AuditEvent) -> [u8; 32] {
    Sha256::digest(format::encode_body(event)).into()
}

/// Checks that `events` follow `head` without gap or change, and gives the head after them.
pub fn verify_chain(head: AuditHead, events: &[AuditEvent]) -> Result<AuditHead, ChainError> {
    events.iter().try_fold(head, |head, event| {
        // Events may come from a file of anybody's: nothing follows the greatest number.
        if head.seq.checked_add(1) != Some(event.seq) {
            let expected = head.seq.saturating_add(1);
            return Err(ChainError::Gap { expected, found: event.seq });
        }
        if event.previous != head.hash {
            return Err(ChainError::Broken { seq: event.seq });
        }
        Ok(AuditHead { seq: event.seq, hash: hash_event(event) })
    })
}

/// Reads the events of a stored block (a row's value of table AUDIT), in order.
pub fn decode_audit_block(bytes: &[u8]) -> Result<Vec<AuditEvent>, FormatError> {
    let block: AuditBlock = format::decode(Kind::AuditBlock, BLOCK_VERSION, bytes)?;
    block.events.iter().map(|event| format::decode_body(event)).collect()
}

/// The events of a stored block, in order, as the bytes that were hashed.
pub fn split_audit_block(bytes: &[u8]) -> Result<Vec<Vec<u8>>, FormatError> {
    let block: AuditBlock = format::decode(Kind::AuditBlock, BLOCK_VERSION, bytes)?;
    Ok(block.events)
}

/// Reads one event back from the bytes that were hashed.
pub fn decode_event(bytes: &[u8]) -> Result<AuditEvent, FormatError> {
    format::decode_body(bytes)
}

/// A block as stored: events as the bytes that were hashed.
#[derive(Deserialize)]
struct AuditBlock {
    #[expect(dead_code, reason = "stored for whoever repairs a block whose key was lost")]
    first_seq: u64,
    events: Vec<Vec<u8>>,
}

#[derive(Serialize)]
struct AuditBlockOut<'a> {
    first_seq: u64,
    events: Vec<Bytes<'a>>,
}

/// Bytes that are encoded in one copy, with the layout of `Vec<u8>`.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Events that no checkpoint has taken yet, in blocks as they will be stored.
#[derive(Debug, Default)]
pub(crate) struct RecentEvents {
    /// In order; the last has room.
    blocks: Vec<EventBlock>,
}

/// Events of one row: their encoded bytes back to back.
#[derive(Debug)]
pub(crate) struct EventBlock {
    first_seq: u64,
    bytes: Vec<u8>,
    /// End of each event in `bytes`.
    ends: Vec<u32>,
}

impl RecentEvents {
    /// Appends an event that follows `head`; gives the new head.
    pub(crate) fn append(&mut self, head: AuditHead, event: &AuditEvent) -> AuditHead {
        assert!(event.seq == head.seq + 1 && event.previous == head.hash, "the chain goes on");
        let body = format::encode_body(event);
        match self.blocks.last_mut().filter(|block| block.has_room_for(&body)) {
            Some(block) => block.push(&body),
            None => {
                let mut block = EventBlock::new(event.seq);
                block.push(&body);
                self.blocks.push(block);
            }
        }
        AuditHead { seq: event.seq, hash: Sha256::digest(&body).into() }
    }

    /// The events, oldest first.
    pub(crate) fn events(&self) -> impl Iterator<Item = Result<AuditEvent, FormatError>> + '_ {
        self.blocks.iter().flat_map(EventBlock::bodies).map(format::decode_body)
    }

    /// The encoded events from a sequence number on, oldest first, each with its number.
    pub(crate) fn encoded_from(&self, seq: u64) -> impl Iterator<Item = (u64, &[u8])> + '_ {
        let after = self.blocks.partition_point(|block| block.first_seq <= seq);
        let blocks = &self.blocks[after.saturating_sub(1)..];
        let numbered = blocks.iter().flat_map(|block| (block.first_seq..).zip(block.bodies()));
        numbered.skip_while(move |(number, _)| *number < seq)
    }

    /// Gives all events away.
    pub(crate) fn take(&mut self) -> Vec<EventBlock> {
        std::mem::take(&mut self.blocks)
    }
}

impl EventBlock {
    fn new(first_seq: u64) -> Self {
        Self { first_seq, bytes: Vec::with_capacity(MAX_BLOCK_BYTES), ends: Vec::new() }
    }

    /// Whether the block, with another event, takes at most [`MAX_BLOCK_BYTES`] as a row. An event
    /// is far smaller.
    fn has_room_for(&self, body: &[u8]) -> bool {
        let lengths = LENGTH_BYTES * (self.ends.len() + 1);
        BLOCK_OVERHEAD_BYTES + self.bytes.len() + body.len() + lengths <= MAX_BLOCK_BYTES
    }

    fn push(&mut self, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
    }

    fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let ends = self.ends.iter().map(|end| *end as usize);
        let starts = std::iter::once(0).chain(ends.clone());
        starts.zip(ends).map(|(start, end)| &self.bytes[start..end])
    }

    /// As it is stored.
    pub(crate) fn into_row(self) -> Row {
        let events = self.bodies().map(Bytes).collect();
        let block = AuditBlockOut { first_seq: self.first_seq, events };
        Row {
            table: table::AUDIT,
            key: self.first_seq.to_be_bytes().to_vec(),
            value: Some(format::encode(Kind::AuditBlock, BLOCK_VERSION, &block)),
        }
    }
}
