//! Tables to rows: the sum over them, what changed, what each holds.
//!
//! A row is marked before it changes and encoded when it is asked for, so nothing is encoded that
//! nobody stores or sums.

use crate::format;
use crate::limits::DOCUMENT_PIECE_BYTES;
use crate::rows::{Meta, PoolRow, RefusalRow, RowKey, encode_value, lease_key, table};
use crate::sum::RowSum;

use super::lease::Lease;
use super::lease_marks::LeaseMarks;
use super::{Package, State};
use crate::ids::LeaseId;

impl State {
    /// Sum over all rows but blocks.
    pub(crate) fn sum(&mut self) -> RowSum {
        self.settle(0);
        self.sum
    }

    /// Brings changed rows into the sum, oldest first, until at most `keep` of a family wait.
    pub(crate) fn settle(&mut self, keep: usize) {
        while let Some(key) = self.marks.settle_next(keep) {
            if let Some(value) = self.row_value(&key) {
                self.sum.add(key.table(), &key.bytes(), &value);
            }
        }
        let Self { lease_marks, leases, packages, sum, .. } = self;
        while let Some(slot) = lease_marks.settle_next(keep) {
            if let Some(lease) = leases.in_slot_mut(slot)
                && LeaseMarks::settle(lease)
            {
                sum.add(table::LEASE, &lease_key(lease.id), &lease_value(packages, lease));
            }
        }
    }

    /// Present value of a row.
    pub(crate) fn row_value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Meta => {
                // Nothing has happened yet: there is no row.
                (self.meta != Meta::default()).then(|| encode_value(&self.meta))
            }
            RowKey::Member(node) => self.members.get(node).map(encode_value),
            RowKey::SigningKey(kid) => self.signing_keys.get(kid).map(encode_value),
            RowKey::Secret(name) => self.secrets.get(name).map(encode_value),
            RowKey::WrappedKey(node, version) => {
                self.wrapped_keys.get(&(*node, *version)).map(encode_value)
            }
            RowKey::Operator(operator) => self.operators.get(operator).map(encode_value),
            RowKey::Vendor(vendor) => self.vendors.get(vendor).map(encode_value),
            RowKey::App(app) => self.apps.get(app).map(encode_value),
            RowKey::Package(name) => Some(encode_value(&self.named(name)?.row())),
            RowKey::Document(name, piece) => {
                let bytes = format::encode_body(&self.named(name)?.document());
                bytes
                    .chunks(DOCUMENT_PIECE_BYTES)
                    .nth((*piece).into())
                    .map(|piece| encode_value(&piece))
            }
            RowKey::Pool(name, pool) => {
                let share = self.named(name)?.pools.get(pool)?.share;
                Some(encode_value(&PoolRow { share }))
            }
            RowKey::Usage(name) => Some(encode_value(&self.named(name)?.usage)),
            RowKey::FeatureUsage(name, feature) => {
                self.named(name)?.feature_usage.get(feature).map(encode_value)
            }
            RowKey::Subject(reference) => self.subjects.get(reference).map(encode_value),
            RowKey::Refusal(package, code) => {
                let count = *self.refusals.get(&(package.clone(), *code))?;
                Some(encode_value(&RefusalRow { code: *code, count }))
            }
            RowKey::RefusalLogged(logged) => self.refusals_logged.get(logged).map(encode_value),
            RowKey::Hold(_)
            | RowKey::OfflineTerms(_)
            | RowKey::BorrowRules(_)
            | RowKey::ApiKey(_)
            | RowKey::Budget(_) => self.offline.row_value(key),
            key if key.table() >= table::TICKET => self.operate.row_value(key),
            _ => self.licensing.row_value(key),
        }
    }

    pub(super) fn touch(&mut self, key: RowKey) {
        self.save_pending(&key);
        // The marks leave `self` for the moment in which the row is read.
        let mut marks = std::mem::take(&mut self.marks);
        let mut sum = self.sum;
        marks.touch(key.clone(), || match self.row_value(&key) {
            Some(value) => {
                sum.sub(key.table(), &key.bytes(), &value);
                true
            }
            None => false,
        });
        self.sum = sum;
        self.marks = marks;
    }

    pub(super) fn touch_lease(&mut self, id: LeaseId) {
        let Self { lease_marks, leases, packages, sum, .. } = self;
        let Some(slot) = leases.slot(id) else { return };
        if let Some(lease) = leases.in_slot_mut(slot)
            && lease_marks.touch(slot, lease)
        {
            sum.sub(table::LEASE, &lease_key(lease.id), &lease_value(packages, lease));
        }
    }
}

fn lease_value(packages: &[Package], lease: &Lease) -> Vec<u8> {
    encode_value(&lease.row(&packages[lease.package as usize].terms.package))
}
