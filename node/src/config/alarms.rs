//! `[alarms]`: when a node says that something is wrong with it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `[alarms]`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlarmsFile {
    /// Free space of the data's file system below which `NOSPACE` is raised, as `256MiB` or `5%`.
    /// Less than the node needs to stay alive is taken for what it needs.
    pub min_free: MinFree,
}

impl AlarmsFile {
    /// Whether everything is as it is without the table.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An amount of free space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinFree {
    /// So many bytes.
    Bytes(u64),
    /// So much of the file system, 1 to 50.
    Percent(u8),
}

impl MinFree {
    /// In bytes of a file system of this size.
    pub fn bytes_of(self, total_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => total_bytes / 100 * u64::from(percent),
        }
    }
}

impl Default for MinFree {
    fn default() -> Self {
        Self::Bytes(256 << 20)
    }
}

impl FromStr for MinFree {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANT: &str = "want an amount as \"256MiB\", \"2GiB\" or \"5%\" (1 to 50)";
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let number: u64 = digits.parse().map_err(|_| WANT)?;
        let shift = match unit {
            "%" => {
                let percent = u8::try_from(number).ok().filter(|it| (1..=50).contains(it));
                return percent.map(Self::Percent).ok_or(WANT);
            }
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            "TiB" => 40,
            _ => return Err(WANT),
        };
        let bytes = number.checked_mul(1 << shift).filter(|bytes| *bytes > 0);
        bytes.map(Self::Bytes).ok_or(WANT)
    }
}

impl fmt::Display for MinFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Bytes(bytes) if bytes.is_multiple_of(1 << 30) => {
                write!(f, "{}GiB", bytes >> 30)
            }
            Self::Bytes(bytes) if bytes.is_multiple_of(1 << 20) => {
                write!(f, "{}MiB", bytes >> 20)
            }
            Self::Bytes(bytes) => write!(f, "{}KiB", bytes.div_ceil(1 << 10)),
        }
    }
}

impl Serialize for MinFree {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MinFree {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units_and_are_written_as_they_are_read() {
        for (text, want) in [
            ("256MiB", Some(MinFree::Bytes(256 << 20))),
            ("2GiB", Some(MinFree::Bytes(2 << 30))),
            ("100KiB", Some(MinFree::Bytes(100 << 10))),
            ("5%", Some(MinFree::Percent(5))),
            ("0%", None),
            ("51%", None),
            ("0MiB", None),
            ("256", None),
            ("256MB", None),
            ("-1GiB", None),
            ("99999999999TiB", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), want, "{text:?}");
            if let Some(amount) = want {
                assert_eq!(amount.to_string(), text);
            }
        }
        assert_eq!(MinFree::Percent(5).bytes_of(1_000), 50);
    }
}
