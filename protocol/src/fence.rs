//! Fencing numbers: the text that a protected resource compares to turn away an older holder.
//!
//! ```text
//! eeeeeeee-iiiiiiiiiiiiiiii-pppp-nnnnnnnnnnnnnnnn    47 characters of lower-case hex
//! epoch    log index        position of the command in the batch
//!                                incarnation of the cluster, last: it tells forks apart
//! ```
//!
//! All fields have a fixed width, so that the order of texts is the order of numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Characters of a fence.
pub const TEXT_LEN: usize = 47;

/// The fence of one grant. Ordered as its text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// Counts restores and forced new clusters.
    pub epoch: u32,
    /// Index of the log entry that granted.
    pub index: u64,
    /// Position of the command inside that entry.
    pub position: u16,
    /// The random incarnation of the cluster in this epoch.
    pub incarnation: u64,
}

/// A text that is no fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a fence: want {TEXT_LEN} characters of lower-case hex in four groups")]
pub struct NotAFence;

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, index, position, incarnation } = self;
        write!(f, "{epoch:08x}-{index:016x}-{position:04x}-{incarnation:016x}")
    }
}

impl FromStr for Fence {
    type Err = NotAFence;

    fn from_str(text: &str) -> Result<Self, NotAFence> {
        let mut groups = text.split('-');
        let mut group = |width: usize| -> Result<u64, NotAFence> {
            let digits = groups.next().ok_or(NotAFence)?;
            let lower_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            if digits.len() != width || !digits.bytes().all(lower_hex) {
                return Err(NotAFence);
            }
            u64::from_str_radix(digits, 16).map_err(|_| NotAFence)
        };
        let fence = Self {
            epoch: u32::try_from(group(8)?).map_err(|_| NotAFence)?,
            index: group(16)?,
            position: u16::try_from(group(4)?).map_err(|_| NotAFence)?,
            incarnation: group(16)?,
        };
        if groups.next().is_some() { Err(NotAFence) } else { Ok(fence) }
    }
}

impl Serialize for Fence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for Fence {
    fn schema() -> RefOr<Schema> {
        crate::wire::text_schema(
            "Rises with every grant: the order of texts is the order of grants.",
            "fence",
            "00000001-000000000000002a-0000-9f3c5d7e11a0b2c4",
        )
    }
}

impl ToSchema for Fence {}
