//! Live leases in memory: one compact record each and the indexes that find them.
//!
//! A million of them are to fit into some 200 MB with every index, so a record is 144 bytes, what
//! few leases have (pool, features, session, parent) is boxed apart, versions are shared, records
//! stand in chunks that never move, and what finds them by a key holds slots alone: the key is in
//! the record. What is iterated is an ordered set: no order here depends on a hash.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::command::SeatClass;
use crate::ids::{AppId, Fence, KeyOrigin, LeaseId, Name, RequestId, SubjectRef};
use crate::lookup::SlotLookup;
use crate::rows::LeaseRow;
use crate::runs::RunSet;

use super::lease_marks::Standing;

/// Versions that are remembered for sharing.
const RECENT_VERSIONS: usize = 16;
/// Records in one chunk, some 2 MiB: what the allocator adds to a chunk is little beside it.
const CHUNK: usize = 16 << 10;

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(super) id: LeaseId,
    pub(super) position: u16,
    pub(super) class: SeatClass,
    /// 0 no request, 1 caller's key, 2 gateway's key.
    origin: u8,
    /// Whether there is a hold on it; derived.
    held: bool,
    pub(super) app: AppId,
    pub(super) expires_led_ms: u64,
    /// `i64::MAX`: none.
    not_after_ms: i64,
    granted_at_ms: i64,
    pub(super) renewed_led_ms: u64,
    index: u64,
    user: SubjectRef,
    host: SubjectRef,
    scope: [u8; 16],
    body: [u8; 8],
    version: Option<Version>,
    rare: Option<Box<Rare>>,
    /// Slot of the package.
    pub(super) package: u32,
    pub(super) sequence: u32,
    pub(super) quantity: u32,
    epoch: u32,
    pub(super) replay_minute: u32,
    /// Of its row; not a part of it.
    pub(super) standing: Standing,
}

/// The version of a product that asked; never empty. One pointer: a million leases have it.
type Version = Arc<Box<str>>;

/// What few leases have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rare {
    session: Box<str>,
    pool: Option<Name>,
    features: Vec<Name>,
    parent: Option<LeaseId>,
}

/// Versions of the leases that came last. Of a product few are in use, and leases that name the
/// same one share it.
#[derive(Debug, Default)]
struct RecentVersions(VecDeque<Version>);

impl RecentVersions {
    /// Gives a lease the version that others have, if it is equal.
    fn share(&mut self, lease: &mut Lease) {
        let Some(version) = &mut lease.version else { return };
        if let Some(known) = self.0.iter().find(|known| *known == version) {
            version.clone_from(known);
            return;
        }
        if self.0.len() == RECENT_VERSIONS {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(version));
    }
}

impl Lease {
    /// From its row and the slot of its package.
    pub(crate) fn new(row: LeaseRow<'_>, package: u32) -> Self {
        let rare = Rare {
            session: row.session.into(),
            pool: row.pool,
            features: row.features.into_owned(),
            parent: row.parent,
        };
        let version = (!row.version.is_empty()).then(|| Arc::new(row.version.into()));
        Self {
            id: row.lease,
            position: row.fence.position,
            class: row.class,
            held: false,
            origin: match row.request.map(|request| request.origin) {
                None => 0,
                Some(KeyOrigin::Caller) => 1,
                Some(KeyOrigin::Gateway) => 2,
            },
            app: row.app,
            expires_led_ms: row.expires_led_ms,
            not_after_ms: row.not_after_ms.unwrap_or(i64::MAX),
            granted_at_ms: row.granted_at_ms,
            renewed_led_ms: row.renewed_led_ms,
            index: row.fence.index,
            user: row.user,
            host: row.host,
            scope: row.request.map_or([0; 16], |request| request.scope),
            body: row.request.map_or([0; 8], |request| request.body),
            version,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            package,
            sequence: row.sequence,
            quantity: row.quantity,
            epoch: row.fence.epoch,
            replay_minute: row.replay_minute,
            standing: Standing::LOADED,
        }
    }

    /// As stored; `package` is the name of its package.
    pub(crate) fn row(&self, package: &Name) -> LeaseRow<'_> {
        LeaseRow {
            lease: self.id,
            app: self.app,
            package: package.clone(),
            pool: self.pool().cloned(),
            class: self.class,
            quantity: self.quantity,
            features: Cow::Borrowed(self.features()),
            parent: self.parent(),
            fence: self.fence(),
            granted_at_ms: self.granted_at_ms,
            renewed_led_ms: self.renewed_led_ms,
            expires_led_ms: self.expires_led_ms,
            not_after_ms: self.not_after_ms(),
            sequence: self.sequence,
            user: self.user,
            host: self.host,
            version: Cow::Borrowed(self.version()),
            session: Cow::Borrowed(self.session()),
            request: self.request(),
            replay_minute: self.replay_minute,
        }
    }

    pub(crate) fn id(&self) -> LeaseId {
        self.id
    }

    pub(crate) fn app(&self) -> AppId {
        self.app
    }

    /// Slot of its package.
    pub(crate) fn package(&self) -> u32 {
        self.package
    }

    pub(crate) fn class(&self) -> SeatClass {
        self.class
    }

    pub(crate) fn quantity(&self) -> u32 {
        self.quantity
    }

    pub(crate) fn sequence(&self) -> u32 {
        self.sequence
    }

    pub(crate) fn expires_led_ms(&self) -> u64 {
        self.expires_led_ms
    }

    pub(crate) fn renewed_led_ms(&self) -> u64 {
        self.renewed_led_ms
    }

    pub(crate) fn granted_at_ms(&self) -> i64 {
        self.granted_at_ms
    }

    pub(crate) fn replay_minute(&self) -> u32 {
        self.replay_minute
    }

    /// Whether an offline token is outstanding for it.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    pub(crate) fn not_after_ms(&self) -> Option<i64> {
        (self.not_after_ms != i64::MAX).then_some(self.not_after_ms)
    }

    pub(crate) fn user(&self) -> SubjectRef {
        self.user
    }

    pub(crate) fn host(&self) -> SubjectRef {
        self.host
    }

    pub(crate) fn fence(&self) -> Fence {
        Fence { epoch: self.epoch, index: self.index, position: self.position }
    }

    pub(crate) fn pool(&self) -> Option<&Name> {
        self.rare()?.pool.as_ref()
    }

    pub(crate) fn features(&self) -> &[Name] {
        self.rare().map_or(&[], |rare| &rare.features)
    }

    pub(crate) fn parent(&self) -> Option<LeaseId> {
        self.rare()?.parent
    }

    fn rare(&self) -> Option<&Rare> {
        self.rare.as_deref()
    }

    pub(crate) fn version(&self) -> &str {
        self.version.as_deref().map_or("", |version| version)
    }

    pub(crate) fn session(&self) -> &str {
        self.rare().map_or("", |rare| &rare.session)
    }

    /// The request that made it.
    pub(crate) fn request(&self) -> Option<RequestId> {
        let origin = match self.origin {
            0 => return None,
            1 => KeyOrigin::Caller,
            _ => KeyOrigin::Gateway,
        };
        Some(RequestId { scope: self.scope, body: self.body, origin })
    }
}

/// All live leases.
#[derive(Debug, Default)]
pub(super) struct LeaseTable {
    records: Records,
    by_id: SlotLookup,
    /// What `by_id` finds, in order: for whoever asks for one after the other.
    ordered: RunSet<LeaseId>,
    by_scope: SlotLookup,
    /// Leases that have a last civil millisecond of their own and no hold.
    not_after: RunSet<(i64, LeaseId)>,
    versions: RecentVersions,
}

/// Leases in their slots, and slots that are free.
#[derive(Debug, Default)]
struct Records {
    chunks: Vec<Vec<Option<Lease>>>,
    free: Vec<u32>,
}

impl LeaseTable {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.slot(id).map(|slot| self.records.at(slot))
    }

    pub(super) fn get_mut(&mut self, id: LeaseId) -> Option<&mut Lease> {
        self.in_slot_mut(self.slot(id)?)
    }

    /// The slot of a lease, as long as it lives.
    pub(super) fn slot(&self, id: LeaseId) -> Option<u32> {
        self.by_id.find(&id, |slot| self.records.at(slot).id)
    }

    /// The lease that is in a slot now.
    pub(super) fn in_slot_mut(&mut self, slot: u32) -> Option<&mut Lease> {
        self.records.place(slot).as_mut()
    }

    pub(super) fn by_scope(&self, scope: &[u8; 16]) -> Option<&Lease> {
        let slot = self.by_scope.find(scope, |slot| self.records.at(slot).scope)?;
        Some(self.records.at(slot))
    }

    /// Leases after `after` in order of id.
    pub(super) fn after(&self, after: Option<LeaseId>) -> impl Iterator<Item = &Lease> {
        self.ordered.after(after).filter_map(|id| self.get(*id))
    }

    /// The lease whose own civil end comes first.
    pub(super) fn first_not_after(&self) -> Option<(i64, LeaseId)> {
        self.not_after.first().copied()
    }

    /// Takes a loaded lease in; it is found only after [`Self::index_loaded`].
    pub(super) fn load(&mut self, mut lease: Lease) {
        self.versions.share(&mut lease);
        self.records.put(lease);
    }

    /// Builds all indexes; whether no id was there twice.
    pub(super) fn index_loaded(&mut self) -> bool {
        let Self { records, by_id, ordered, by_scope, not_after, .. } = self;
        let leases = || records.iter().map(|(_, lease)| lease);
        *ordered = leases().map(|lease| lease.id).collect();
        let ending = leases().filter_map(|lease| Some((lease.not_after_ms()?, lease.id)));
        *not_after = ending.collect();
        *by_id = SlotLookup::with_capacity(ordered.len());
        *by_scope = SlotLookup::with_capacity(ordered.len());
        let mut all = 0;
        for (slot, lease) in records.iter() {
            all += 1;
            by_id.insert(&lease.id, slot, |slot| records.at(slot).id);
            if let Some(request) = lease.request() {
                by_scope.insert(&request.scope, slot, |slot| records.at(slot).scope);
            }
        }
        ordered.len() == all
    }

    /// Takes a new lease in; gives its slot.
    pub(super) fn insert(&mut self, mut lease: Lease) -> u32 {
        let Self { records, by_id, ordered, by_scope, not_after, versions } = self;
        versions.share(&mut lease);
        let (id, request) = (lease.id, lease.request());
        if let Some(not_after_ms) = lease.not_after_ms() {
            not_after.insert((not_after_ms, id));
        }
        ordered.insert(id);
        let slot = records.put(lease);
        by_id.insert(&id, slot, |slot| records.at(slot).id);
        if let Some(request) = request {
            by_scope.insert(&request.scope, slot, |slot| records.at(slot).scope);
        }
        slot
    }

    pub(super) fn remove(&mut self, id: LeaseId) -> Option<Lease> {
        let Self { records, by_id, ordered, by_scope, not_after, .. } = self;
        let slot = by_id.take(&id, |slot| records.at(slot).id)?;
        if let Some(request) = records.at(slot).request() {
            by_scope.take(&request.scope, |slot| records.at(slot).scope);
        }
        ordered.remove(&id);
        let lease = records.take(slot)?;
        if let Some(not_after_ms) = lease.not_after_ms() {
            not_after.remove(&(not_after_ms, id));
        }
        Some(lease)
    }

    /// Notes whether there is a hold on a lease.
    pub(super) fn set_held(&mut self, id: LeaseId, held: bool) -> Option<&Lease> {
        let slot = self.slot(id)?;
        let lease = self.records.place(slot).as_mut()?;
        lease.held = held;
        if let Some(not_after_ms) = lease.not_after_ms() {
            if held {
                self.not_after.remove(&(not_after_ms, id));
            } else {
                self.not_after.insert((not_after_ms, id));
            }
        }
        Some(lease)
    }

    /// Whether every record is found by id, by request and by civil end, and by nothing else.
    pub(super) fn is_indexed(&self) -> bool {
        let (mut all, mut keyed, mut ending) = (0, 0, 0);
        let found = self.records.iter().all(|(_, lease)| {
            all += 1;
            keyed += usize::from(lease.request().is_some());
            let own_end = lease.not_after_ms().filter(|_| !lease.held);
            ending += usize::from(own_end.is_some());
            let same = |found: Option<&Lease>| found.is_some_and(|found| found.id == lease.id);
            same(self.get(lease.id))
                && self.ordered.contains(&lease.id)
                && lease.request().is_none_or(|request| same(self.by_scope(&request.scope)))
                && own_end.is_none_or(|end| self.not_after.contains(&(end, lease.id)))
        });
        found
            && all == self.by_id.len()
            && all == self.ordered.len()
            && keyed == self.by_scope.len()
            && ending == self.not_after.len()
    }
}

impl Records {
    /// The lease in a slot that an index gave.
    fn at(&self, slot: u32) -> &Lease {
        match &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] {
            Some(lease) => lease,
            None => unreachable!("indexes lead to live records only"),
        }
    }

    fn place(&mut self, slot: u32) -> &mut Option<Lease> {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn put(&mut self, lease: Lease) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        *self.place(slot) = Some(lease);
        slot
    }

    fn take(&mut self, slot: u32) -> Option<Lease> {
        let lease = self.place(slot).take()?;
        self.free.push(slot);
        Some(lease)
    }

    fn iter(&self) -> impl Iterator<Item = (u32, &Lease)> {
        let places = (0..).zip(self.chunks.iter().flatten());
        places.filter_map(|(slot, lease)| Some((slot, lease.as_ref()?)))
    }

    fn grow(&mut self) -> u32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunks = self.chunks.len();
        let slot = (chunks - 1) * CHUNK + self.chunks[chunks - 1].len();
        self.chunks[chunks - 1].push(None);
        match u32::try_from(slot) {
            Ok(slot) => slot,
            Err(_) => panic!("four thousand million leases do not fit into any machine"),
        }
    }
}
