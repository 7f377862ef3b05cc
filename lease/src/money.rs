//! Exact decimals: money in a currency's major unit, and metered amounts; stored as 16 bytes.

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount, e.g. `500.0` euros. Which currency is said by the package it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub Decimal);

/// A metered amount, e.g. `1.5` CPU hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Measure(pub Decimal);

macro_rules! stored_as_16_bytes {
    ($type:ident) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize().serialize(serializer)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = <[u8; 16]>::deserialize(deserializer)?;
                let amount = Decimal::deserialize(bytes);
                if amount.serialize() != bytes {
                    return Err(serde::de::Error::custom("not a canonical decimal"));
                }
                Ok(Self(amount))
            }
        }
    };
}

stored_as_16_bytes!(Money);
stored_as_16_bytes!(Measure);
