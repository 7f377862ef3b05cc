//! Times of the `device` protocol: RFC 3339 to the nanosecond, and a zero that means "never".
//!
//! The reference implementation writes nanoseconds and its zero time, `0001-01-01T00:00:00Z`, where
//! others would leave a field out; and it cannot read an empty text. So what we write is always a
//! time in UTC, never `""`; what we read is any RFC 3339 offset, and null, an absent field or `""`
//! as the zero time. [`crate::wire::UtcTime`] is stricter and coarser, so this is another type.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;
use utoipa::{PartialSchema, ToSchema};

use crate::wire::{NotATime, UtcTime, text_schema, utc_timestamp};

/// A point in civil time, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LicenseTime(Timestamp);

impl LicenseTime {
    /// `0001-01-01T00:00:00Z`: never.
    pub const ZERO: Self = Self(Timestamp::constant(YEAR_ONE_SECOND, 0));

    /// A point in Unix milliseconds; outside the years 1 to 9999 the nearest that can be written.
    pub fn from_unix_ms(unix_ms: i64) -> Self {
        let clamped = UtcTime::from_unix_ms(unix_ms);
        Self(Timestamp::from_millisecond(clamped.unix_ms).unwrap_or(Self::ZERO.0))
    }

    /// Unix milliseconds, cut.
    pub fn unix_ms(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Whether it means "never".
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// The day in UTC, `YYYY-MM-DD`, as messages show it.
    pub fn day(self) -> String {
        self.to_string().chars().take(DAY_CHARS).collect()
    }
}

impl Default for LicenseTime {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for LicenseTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for LicenseTime {
    type Err = NotATime;

    /// Reads the `date-time` of RFC 3339, section 5.6, with `T` and `Z` in upper case and up to
    /// nine digits of fraction.
    fn from_str(text: &str) -> Result<Self, NotATime> {
        let time = utc_timestamp(text)?;
        if time < Self::ZERO.0 { Err(NotATime) } else { Ok(Self(time)) }
    }
}

impl Serialize for LicenseTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LicenseTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for LicenseTime {
    fn schema() -> RefOr<Schema> {
        text_schema(
            "A point in time, RFC 3339; 0001-01-01T00:00:00Z means never.",
            "date-time",
            "2026-11-22T05:28:15.371830493Z",
        )
    }
}

impl ToSchema for LicenseTime {}

/// Reads a time that may be null or `""`, both of which mean "never".
pub(super) fn or_zero<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LicenseTime, D::Error> {
    optional(deserializer).map(Option::unwrap_or_default)
}

/// Reads a time that may be null, `""` or the zero time: all three are none.
pub(super) fn optional<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<LicenseTime>, D::Error> {
    match Option::<Cow<'_, str>>::deserialize(deserializer)?.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => {
            let time: LicenseTime = text.parse().map_err(serde::de::Error::custom)?;
            Ok(Some(time).filter(|time| !time.is_zero()))
        }
    }
}

/// Characters of `YYYY-MM-DD`.
const DAY_CHARS: usize = 10;
/// 0001-01-01T00:00:00Z in Unix seconds.
const YEAR_ONE_SECOND: i64 = -62_135_596_800;
