//! Money: a decimal amount in a currency's major unit, stored as 16 bytes.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount, e.g. `500.0` euros. Which currency is said by the package it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub Decimal);

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <[u8; 16]>::deserialize(deserializer)?;
        let amount = Decimal::deserialize(bytes);
        if amount.serialize() != bytes {
            return Err(serde::de::Error::custom("not a canonical decimal"));
        }
        Ok(Self(amount))
    }
}
