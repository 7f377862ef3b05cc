//! Tables to rows: the sum over them, what changed, what each holds.
//!
//! A row is marked before it changes and encoded when it is asked for, so nothing is encoded that
//! nobody stores or sums.

use std::collections::BTreeMap;

use crate::format;
use crate::ids::{LeaseId, Name};
use crate::limits::DOCUMENT_PIECE_BYTES;
use crate::rows::{Meta, PoolRow, RefusalRow, Row, RowKey, encode_value, lease_key, table};
use crate::sum::RowSum;

use super::dirty::Mark;
use super::lease::{Lease, LeaseTable};
use super::{Package, State};

/// Leases as they were when they were taken, in order of id; they become rows when somebody has the
/// time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TakenLeases {
    /// `None`: it has ended.
    leases: Vec<(LeaseId, Option<Lease>)>,
    /// Names by slot.
    packages: Vec<Name>,
}

impl TakenLeases {
    pub(crate) fn into_rows(self) -> impl Iterator<Item = Row> {
        let Self { leases, packages } = self;
        leases.into_iter().map(move |(id, lease)| Row {
            table: table::LEASE,
            key: lease_key(id).to_vec(),
            value: lease.map(|lease| encode_value(&lease.row(&packages[lease.package as usize]))),
        })
    }
}

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
        while let Some(id) = self.lease_marks.settle_next(keep) {
            if let Some(value) = lease_value(&self.leases, &self.packages, id) {
                self.sum.add(table::LEASE, &lease_key(id), &value);
            }
        }
    }

    /// Rows changed since they were last taken, in order of table and key, those of leases apart. A
    /// row that came and went in between is not among them.
    pub(crate) fn take(&mut self, rows: &mut Vec<Row>) -> TakenLeases {
        let (marks, lease_marks) = (self.marks.take(), self.lease_marks.take());
        rows.reserve(marks.len());
        for (key, mark) in marks {
            let value = self.row_value(&key);
            self.take_row(key.table(), key.bytes(), value, mark, rows);
        }
        self.take_leases(lease_marks)
    }

    fn take_leases(&mut self, marks: BTreeMap<LeaseId, Mark>) -> TakenLeases {
        let packages = self.packages.iter().map(|package| package.terms.package.clone());
        let packages = packages.collect();
        let mut leases = Vec::with_capacity(marks.len());
        for (id, mark) in marks {
            if !mark.summed
                && let Some(value) = lease_value(&self.leases, &self.packages, id)
            {
                self.sum.add(table::LEASE, &lease_key(id), &value);
            }
            let lease = self.leases.get(id).cloned();
            if mark.stored || lease.is_some() {
                leases.push((id, lease));
            }
        }
        TakenLeases { leases, packages }
    }

    fn take_row(
        &mut self,
        table: u8,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
        mark: Mark,
        rows: &mut Vec<Row>,
    ) {
        if let Some(value) = value.as_ref().filter(|_| !mark.summed) {
            self.sum.add(table, &key, value);
        }
        if mark.stored || value.is_some() {
            rows.push(Row { table, key, value });
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
            RowKey::Lease(id) => lease_value(&self.leases, &self.packages, *id),
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
        lease_marks.touch(id, || match lease_value(leases, packages, id) {
            Some(value) => {
                sum.sub(table::LEASE, &lease_key(id), &value);
                true
            }
            None => false,
        });
    }
}

fn lease_value(leases: &LeaseTable, packages: &[Package], id: LeaseId) -> Option<Vec<u8>> {
    let lease = leases.get(id)?;
    Some(encode_value(&lease.row(&packages[lease.package as usize].terms.package)))
}
