//! Offline use in memory: tokens outstanding, what packages and operators say of it, keys and
//! budgets.

use std::collections::BTreeMap;

use crate::ids::{ApiKeyId, LeaseId, Name};
use crate::offline::{ApiKeyRow, BorrowRules, BudgetRow, HoldRow, OfflineTerms};
use crate::rows::{LoadError, RowKey, encode_value, table};

use super::load::RowBytes;

/// Tables 29 to 31, 33 and 34.
#[derive(Debug, Default)]
pub(super) struct Offline {
    holds: BTreeMap<LeaseId, HoldRow>,
    terms: BTreeMap<Name, OfflineTerms>,
    rules: BTreeMap<Name, BorrowRules>,
    api_keys: BTreeMap<ApiKeyId, ApiKeyRow>,
    budgets: BTreeMap<Name, BudgetRow>,
}

impl Offline {
    /// Present value of a row.
    pub(super) fn row_value(&self, key: &RowKey) -> Option<Vec<u8>> {
        match key {
            RowKey::Hold(lease) => self.holds.get(lease).map(encode_value),
            RowKey::OfflineTerms(package) => self.terms.get(package).map(encode_value),
            RowKey::BorrowRules(package) => self.rules.get(package).map(encode_value),
            RowKey::ApiKey(key) => self.api_keys.get(key).map(encode_value),
            RowKey::Budget(package) => self.budgets.get(package).map(encode_value),
            _ => None,
        }
    }

    /// Takes a stored row in.
    pub(super) fn load(&mut self, row: &RowBytes<'_>) -> Result<(), LoadError> {
        let name = || std::str::from_utf8(row.key).map(Name::from).map_err(|_| row.wrong_key());
        match row.table {
            table::HOLD => {
                let hold: HoldRow = row.read()?;
                row.check(&RowKey::Hold(hold.lease))?;
                row.hold(self.holds.insert(hold.lease, hold).is_none())
            }
            table::OFFLINE_TERMS => row.hold(self.terms.insert(name()?, row.read()?).is_none()),
            table::BORROW_RULES => row.hold(self.rules.insert(name()?, row.read()?).is_none()),
            table::API_KEY => {
                let key: ApiKeyRow = row.read()?;
                row.check(&RowKey::ApiKey(key.key))?;
                row.hold(self.api_keys.insert(key.key, key).is_none())
            }
            table::BUDGET => row.hold(self.budgets.insert(name()?, row.read()?).is_none()),
            unknown => Err(LoadError::UnknownTable(unknown)),
        }
    }
}
