//! What was asked before: the table that makes a mutation happen once.
//!
//! A live lease carries the id of the request that made it. When it ends, or when another mutation
//! with an id is done, a record goes to the end of one of two queues: requests under a caller's key
//! are remembered for 15 minutes of led time, a gateway's own for 30 seconds. Within a queue
//! everything is remembered equally long and the lease clock never goes back, so the front is
//! always what is forgotten next, and forgetting depends on nothing but the clock.
//!
//! The table refuses admission when it is full and never forgets early. Ends of leases need no
//! admission: they may overrun the bound by as many as there are live leases.
//!
//! Records are stored in blocks of up to 32 KiB, never one key each; a block is removed when its
//! last record is forgotten. For the state sum each record counts as a row of table REQUEST with
//! key (queue, sequence) and its encoded body as value, so the sum does not depend on the blocks.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::format::{self, FormatError, Kind};
use crate::ids::{ActivationId, AppId, KeyOrigin, LeaseId, LicenseId, Name, NodeId, RequestId};
use crate::limits::{CALLER_REQUEST_MS, GATEWAY_REQUEST_MS, MAX_BLOCK_BYTES};
use crate::lookup::Lookup;
use crate::money::Money;
use crate::rows::{LoadError, Row, table};
use crate::sum::RowSum;

/// Version of blocks of remembered requests.
const BLOCK_VERSION: u8 = 1;
/// Room in a block for its frame and count.
const BLOCK_OVERHEAD_BYTES: usize = 64;
/// Room for the length of a record in a block.
const LENGTH_BYTES: usize = 4;

/// Something that was asked and done. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RequestRecord {
    Lease(EndedLease),
    Other(Box<Remembered>),
}

/// A lease that ended lately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedLease {
    pub lease: LeaseId,
    pub app: AppId,
    pub package: Name,
    /// The request that made it.
    pub checkout: Option<RequestId>,
    pub end: LeaseEnd,
    pub ended_led_ms: u64,
}

/// How a lease ended. Append-only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeaseEnd {
    Returned { total_cost: Money, duration_ms: u64, request: Option<RequestId> },
    Expired,
    Released,
    WithPackage,
    WithSeats,
    WrittenOff,
}

/// Another mutation that was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub request: RequestId,
    pub outcome: RememberedOutcome,
    pub done_led_ms: u64,
}

/// What it answered. Append-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RememberedOutcome {
    Done,
    Unchanged,
    Imported,
    App { app: AppId, client_id: Name, generation: u32 },
    Activation { activation: ActivationId },
    Counted { license: LicenseId },
    Ticket { node: NodeId },
}

impl RequestRecord {
    fn ids(&self) -> [Option<RequestId>; 2] {
        match self {
            Self::Lease(ended) => {
                let returned = match ended.end {
                    LeaseEnd::Returned { request, .. } => request,
                    _ => None,
                };
                [ended.checkout, returned]
            }
            Self::Other(other) => [Some(other.request), None],
        }
    }

    /// The queue of the longer memory of its ids.
    fn queue(&self) -> usize {
        let caller = |id: &Option<RequestId>| id.is_some_and(|id| id.origin == KeyOrigin::Caller);
        usize::from(!self.ids().iter().any(caller))
    }

    fn since_led_ms(&self) -> u64 {
        match self {
            Self::Lease(ended) => ended.ended_led_ms,
            Self::Other(other) => other.done_led_ms,
        }
    }
}

/// Led milliseconds for which each queue remembers: callers' keys, gateways' keys.
const REMEMBERED_MS: [u64; 2] = [CALLER_REQUEST_MS, GATEWAY_REQUEST_MS];

/// No queue counts its records so far; a stored block that says so has a damaged key, which no sum
/// guards, and places are twice as large.
const MAX_SEQUENCE: u64 = u64::MAX >> 2;

/// Where a record is: sequence number times two plus queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u64);

impl Place {
    fn new(queue: usize, seq: u64) -> Self {
        Self(seq * 2 + queue as u64)
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// Sequence number of the first record.
    front: u64,
    records: VecDeque<RequestRecord>,
    /// Records below are in blocks, stored or recent.
    blocked: u64,
    /// Records below are in the sum.
    summed: u64,
    /// First and last sequence number of each stored block.
    stored: VecDeque<(u64, u64)>,
    /// Blocks that no checkpoint has taken yet; the last has room.
    recent: VecDeque<RequestBlock>,
}

impl Queue {
    fn next(&self) -> u64 {
        self.front + self.records.len() as u64
    }

    /// Puts the next record that is in no block into one.
    fn put_into_block(&mut self, number: usize, body: Vec<u8>) {
        let seq = self.blocked;
        self.blocked += 1;
        match self.recent.back_mut().filter(|block| block.has_room_for(seq, &body)) {
            Some(block) => block.push(body),
            None => {
                let mut block = RequestBlock::new(number, seq);
                block.push(body);
                self.recent.push_back(block);
            }
        }
    }
}

/// Records of one row, encoded.
#[derive(Debug)]
pub(crate) struct RequestBlock {
    queue: usize,
    first: u64,
    bodies: Vec<Vec<u8>>,
    /// Bytes it takes as a row.
    size: usize,
}

impl RequestBlock {
    fn new(queue: usize, first: u64) -> Self {
        Self { queue, first, bodies: Vec::new(), size: BLOCK_OVERHEAD_BYTES }
    }

    fn next(&self) -> u64 {
        self.first + self.bodies.len() as u64
    }

    /// Leaves out what was forgotten by now: a later record may have the same scope.
    fn forget_before(&mut self, front: u64) {
        let forgotten = front.saturating_sub(self.first).min(self.bodies.len() as u64);
        self.bodies.drain(..forgotten as usize);
        self.first += forgotten;
    }

    /// Whether a record is the next one of the block, and the block is small enough still.
    fn has_room_for(&self, seq: u64, body: &[u8]) -> bool {
        seq == self.next() && self.size + body.len() + LENGTH_BYTES <= MAX_BLOCK_BYTES
    }

    fn push(&mut self, body: Vec<u8>) {
        self.size += body.len() + LENGTH_BYTES;
        self.bodies.push(body);
    }

    /// As it is stored.
    pub(crate) fn into_row(self) -> Row {
        let value = format::encode(Kind::RequestBlock, BLOCK_VERSION, &self.bodies);
        Row { table: table::REQUEST, key: key(self.queue, self.first), value: Some(value) }
    }
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    queues: [Queue; 2],
    by_scope: Lookup<[u8; 16], Place>,
    by_lease: Lookup<LeaseId, Place>,
    sum: RowSum,
}

impl Requests {
    /// Records remembered.
    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.records.len()).sum()
    }

    /// First sequence numbers, for the META row.
    pub(crate) fn first(&self) -> [u64; 2] {
        [self.queues[0].front, self.queues[1].front]
    }

    /// Next sequence numbers, for the META row.
    pub(crate) fn next(&self) -> [u64; 2] {
        [self.queues[0].next(), self.queues[1].next()]
    }

    /// The record under a request's scope.
    pub(crate) fn find(&self, scope: &[u8; 16]) -> Option<&RequestRecord> {
        self.by_scope.get(scope).map(|place| self.at(*place))
    }

    /// The end of a lease, while it is remembered.
    pub(crate) fn ended(&self, lease: LeaseId) -> Option<&EndedLease> {
        match self.at(*self.by_lease.get(&lease)?) {
            RequestRecord::Lease(ended) => Some(ended),
            RequestRecord::Other(_) => None,
        }
    }

    /// Remembers.
    pub(crate) fn push(&mut self, record: RequestRecord) {
        let queue = record.queue();
        let place = Place::new(queue, self.queues[queue].next());
        self.index(&record, place);
        self.queues[queue].records.push_back(record);
    }

    /// Forgets what is old enough at this reading of the lease clock.
    pub(crate) fn forget(&mut self, led_ms: u64) {
        for (queue, remembered_ms) in REMEMBERED_MS.into_iter().enumerate() {
            while let Some(record) = self.queues[queue].records.front() {
                if record.since_led_ms().saturating_add(remembered_ms) > led_ms {
                    break;
                }
                self.forget_front(queue);
            }
        }
    }

    fn forget_front(&mut self, number: usize) {
        let queue = &mut self.queues[number];
        let seq = queue.front;
        let Some(record) = queue.records.pop_front() else { return };
        queue.front += 1;
        queue.blocked = queue.blocked.max(queue.front);
        if seq < queue.summed {
            self.sum.sub(table::REQUEST, &key(number, seq), &format::encode_body(&record));
        } else {
            queue.summed = queue.front;
        }
        let place = Place::new(number, seq);
        for id in record.ids().into_iter().flatten() {
            if self.by_scope.get(&id.scope) == Some(&place) {
                self.by_scope.remove(&id.scope);
            }
        }
        if let RequestRecord::Lease(ended) = record
            && self.by_lease.get(&ended.lease) == Some(&place)
        {
            self.by_lease.remove(&ended.lease);
        }
    }

    /// Sum of all records as logical rows.
    pub(crate) fn sum(&mut self) -> RowSum {
        self.settle(0);
        self.sum
    }

    /// Brings records into the sum, oldest first, until at most `keep` of a queue wait. What comes
    /// into the sum comes into a block, so that a checkpoint finds blocks.
    pub(crate) fn settle(&mut self, keep: u64) {
        for (number, queue) in self.queues.iter_mut().enumerate() {
            while queue.summed + keep < queue.next() {
                let record = &queue.records[(queue.summed - queue.front) as usize];
                let body = format::encode_body(record);
                self.sum.add(table::REQUEST, &key(number, queue.summed), &body);
                if queue.summed == queue.blocked {
                    queue.put_into_block(number, body);
                }
                queue.summed += 1;
            }
        }
    }

    /// Gives what is not stored yet, and the keys of blocks of forgotten records as rows to remove.
    pub(crate) fn take(&mut self, gone: &mut Vec<Row>) -> Vec<RequestBlock> {
        self.settle(0);
        let mut taken = Vec::new();
        for (number, queue) in self.queues.iter_mut().enumerate() {
            while let Some((first, last)) = queue.stored.front().copied() {
                if last >= queue.front {
                    break;
                }
                queue.stored.pop_front();
                gone.push(Row { table: table::REQUEST, key: key(number, first), value: None });
            }
            for mut block in std::mem::take(&mut queue.recent) {
                block.forget_before(queue.front);
                if block.next() > block.first {
                    queue.stored.push_back((block.first, block.next() - 1));
                    taken.push(block);
                }
            }
        }
        taken
    }

    /// Takes a stored block back in; blocks come in order of key.
    pub(crate) fn load(&mut self, key: &[u8], value: &[u8]) -> Result<(), LoadError> {
        let wrong = LoadError::Key { table: table::REQUEST };
        let Some((number @ (0 | 1), first)) = key.split_first() else { return Err(wrong) };
        let Ok(first) = <[u8; 8]>::try_from(first).map(u64::from_be_bytes) else {
            return Err(wrong);
        };
        if first > MAX_SEQUENCE {
            return Err(wrong);
        }
        let records = decode_block(value)
            .map_err(|source| LoadError::Row { table: table::REQUEST, source })?;
        let number = usize::from(*number);
        let queue = &mut self.queues[number];
        if queue.records.is_empty() {
            queue.front = first;
        }
        if first != queue.next() || records.is_empty() {
            return Err(LoadError::Missing(format!("requests before {first} are missing")));
        }
        queue.stored.push_back((first, first + records.len() as u64 - 1));
        for record in records {
            if record.queue() != number {
                return Err(wrong);
            }
            let place = Place::new(number, self.queues[number].next());
            self.index(&record, place);
            self.queues[number].records.push_back(record);
        }
        Ok(())
    }

    /// Ends loading: `first` and `next` are the META row's word on where the queues begin and end.
    pub(crate) fn finish_load(
        &mut self,
        first: [u64; 2],
        next: [u64; 2],
        led_ms: u64,
    ) -> Result<(), LoadError> {
        for (queue, next) in self.queues.iter_mut().zip(next) {
            if queue.records.is_empty() {
                queue.front = next;
            }
            if queue.next() != next {
                return Err(LoadError::Missing(format!("requests up to {next} are missing")));
            }
            queue.blocked = next;
            queue.summed = queue.front;
        }
        // Blocks may begin with records that were forgotten after they were stored.
        self.forget(led_ms);
        if self.first() != first {
            return Err(LoadError::Missing(format!("requests from {first:?} on are missing")));
        }
        Ok(())
    }

    /// All records, oldest first within each queue.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &RequestRecord> {
        self.queues.iter().flat_map(|queue| &queue.records)
    }

    /// Whether both indexes lead to exactly the records there are.
    pub(crate) fn is_indexed(&self) -> bool {
        let mut leases = 0;
        for (number, queue) in self.queues.iter().enumerate() {
            for (seq, record) in (queue.front..).zip(&queue.records) {
                let place = Place::new(number, seq);
                if record.ids().iter().flatten().any(|id| !self.by_scope.contains_key(&id.scope)) {
                    return false;
                }
                if let RequestRecord::Lease(ended) = record {
                    leases += 1;
                    if self.by_lease.get(&ended.lease) != Some(&place) {
                        return false;
                    }
                }
            }
        }
        leases == self.by_lease.len()
    }

    fn index(&mut self, record: &RequestRecord, place: Place) {
        for id in record.ids().into_iter().flatten() {
            self.by_scope.insert_new(id.scope, place);
        }
        if let RequestRecord::Lease(ended) = record {
            self.by_lease.insert(ended.lease, place);
        }
    }

    fn at(&self, place: Place) -> &RequestRecord {
        let queue = &self.queues[(place.0 % 2) as usize];
        &queue.records[(place.0 / 2 - queue.front) as usize]
    }
}

/// Reads the records of a stored block.
pub(crate) fn decode_block(bytes: &[u8]) -> Result<Vec<RequestRecord>, FormatError> {
    let bodies: Vec<Vec<u8>> = format::decode(Kind::RequestBlock, BLOCK_VERSION, bytes)?;
    bodies.iter().map(|body| format::decode_body(body)).collect()
}

fn key(queue: usize, seq: u64) -> Vec<u8> {
    [&[u8::from(queue == 1)][..], &seq.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_at_a_number_that_no_queue_reaches_is_refused() {
        for first in [MAX_SEQUENCE + 1, u64::MAX >> 1, u64::MAX] {
            let loaded = Requests::default().load(&key(0, first), &[]);
            assert!(matches!(loaded, Err(LoadError::Key { .. })), "{first}: {loaded:?}");
        }
    }
}
