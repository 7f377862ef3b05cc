//! An order-independent sum over rows, which tells whether two sets of rows are the same.
//!
//! Each row is hashed (SHA-256 over table, key length, key, value) and the hashes are added as
//! little-endian 256-bit numbers, modulo 2^256. Adding and taking away a row costs one hash, so a
//! replica keeps the sum of a million rows up to date for the price of the rows it changes. The key
//! length is part of what is hashed, so that bytes cannot move between key and value unseen.
//!
//! What it leaves to others: which rows are summed (`storage` sums all rows it stores, the ledger
//! its own), and what happens when two sums differ. The sum guards against faults, not against
//! somebody who picks rows to make two sums equal.

use sha2::{Digest, Sha256};

/// The sum of the hashes of a set of rows, modulo 2^256, least significant limb first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct RowSum([u64; LIMBS]);

impl RowSum {
    /// The sum over no rows.
    pub const EMPTY: Self = Self([0; LIMBS]);

    /// The sum of one row.
    pub fn of(table: u8, key: &[u8], value: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update([table]);
        hasher.update((key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(value);
        Self::from_bytes(hasher.finalize().into())
    }

    /// Adds one row.
    pub fn add(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.add_sum(&Self::of(table, key, value));
    }

    /// Takes one row away, which must have been added with these very bytes.
    pub fn sub(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.sub_sum(&Self::of(table, key, value));
    }

    /// Adds all rows of another set.
    pub fn add_sum(&mut self, other: &Self) {
        let mut carry = false;
        for (limb, addend) in self.0.iter_mut().zip(other.0) {
            let (partial, first) = limb.overflowing_add(addend);
            let (sum, second) = partial.overflowing_add(u64::from(carry));
            *limb = sum;
            carry = first || second;
        }
    }

    /// Takes all rows of another set away.
    pub fn sub_sum(&mut self, other: &Self) {
        let mut borrow = false;
        for (limb, subtrahend) in self.0.iter_mut().zip(other.0) {
            let (partial, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = partial.overflowing_sub(u64::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
    }

    /// The 32 bytes that are stored and compared, little endian.
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`RowSum::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut limbs = [0; LIMBS];
        for (limb, chunk) in limbs.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            *limb = u64::from_le_bytes(word);
        }
        Self(limbs)
    }
}

const LIMBS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type TestRow = (u8, Vec<u8>, Vec<u8>);

    fn sum(rows: &[TestRow]) -> RowSum {
        let mut sum = RowSum::EMPTY;
        for (table, key, value) in rows {
            sum.add(*table, key, value);
        }
        sum
    }

    #[test]
    fn carries_and_borrows_cross_every_limb() {
        let mut sum = RowSum::from_bytes([0xff; 32]);
        let one = RowSum([1, 0, 0, 0]);
        sum.add_sum(&one);
        assert_eq!(sum, RowSum::EMPTY);
        sum.sub_sum(&one);
        assert_eq!(sum.to_bytes(), [0xff; 32]);
    }

    #[test]
    fn the_stored_bytes_of_one_row_are_fixed() {
        let mut bytes = String::new();
        for byte in sum(&[(3, b"lease".to_vec(), b"held".to_vec())]).to_bytes() {
            bytes.push_str(&format!("{byte:02x}"));
        }
        assert_eq!(bytes, "e467a1e40f8bf637dd4f63ebaf39cc39dd91fe8f8df82180abb424c0fbac11e9");
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_what_was_added_can_be_taken_away(
            rows in prop::collection::vec(any::<TestRow>(), 0..12), extra in any::<TestRow>(),
        ) {
            let forward = sum(&rows);
            let mut backward: Vec<_> = rows.clone();
            backward.reverse();
            prop_assert_eq!(forward, sum(&backward));
            let mut changed = forward;
            changed.add(extra.0, &extra.1, &extra.2);
            prop_assert_ne!(changed, forward);
            changed.sub(extra.0, &extra.1, &extra.2);
            prop_assert_eq!(changed, forward);
            prop_assert_eq!(RowSum::from_bytes(forward.to_bytes()), forward);
        }

        #[test]
        fn a_byte_that_moves_between_key_and_value_changes_the_sum(
            key in prop::collection::vec(any::<u8>(), 1..8),
            value in prop::collection::vec(any::<u8>(), 0..8),
        ) {
            let mut longer = vec![key[key.len() - 1]];
            longer.extend_from_slice(&value);
            let shorter = key[..key.len() - 1].to_vec();
            prop_assert_ne!(sum(&[(1, key, value)]), sum(&[(1, shorter, longer)]));
        }
    }
}
