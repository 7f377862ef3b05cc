//! Check modes: when a device must verify its license again.
//!
//! The server works out the next check at every activation and verification and says it in the
//! payload; the client obeys. Where the protocol's document and its reference disagree about
//! `yearly`, the anniversary of the check is right, not the first of January. All in UTC.
//!
//! What it leaves to others: doing the check, and what a failed one means (the SDK).

use std::borrow::Cow;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::time::LicenseTime;

/// Shortest interval of `custom`; a shorter one becomes [`DEFAULT_INTERVAL_SECONDS`].
pub const MIN_INTERVAL_SECONDS: u64 = 300;
/// Interval of `custom` when none is given.
pub const DEFAULT_INTERVAL_SECONDS: u64 = 86_400;
/// How long a background check waits after the server was not reachable.
pub const BACKGROUND_RETRY_MS: u64 = 300_000;

/// How often a device verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
#[schema(as = DeviceCheckMode)]
#[serde(rename_all = "snake_case")]
pub enum CheckMode {
    /// Never.
    None,
    /// At every start.
    #[default]
    EachExecution,
    /// On the first of every month.
    Monthly,
    /// A year after the last check.
    Yearly,
    /// After an interval, also while the program runs.
    Custom,
}

impl CheckMode {
    /// Every mode.
    pub const ALL: [Self; 5] =
        [Self::None, Self::EachExecution, Self::Monthly, Self::Yearly, Self::Custom];

    /// The mode's name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::EachExecution => "each_execution",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
            Self::Custom => "custom",
        }
    }

    /// The mode of a name, in letters of either case.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.trim();
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(name))
    }

    /// What a client takes a payload's mode for: an unknown, empty or absent one means every start,
    /// so that a mode from the future is checked too often and not too seldom.
    pub fn of_payload(name: Option<&str>) -> Self {
        name.and_then(Self::from_name).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for CheckMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_payload(Option::<Cow<'_, str>>::deserialize(deserializer)?.as_deref()))
    }
}

/// The interval that is kept for `custom`: the one asked for, a day when it is absent or under five
/// minutes.
pub fn effective_interval_seconds(asked_seconds: Option<u64>) -> u64 {
    asked_seconds
        .filter(|seconds| *seconds >= MIN_INTERVAL_SECONDS)
        .unwrap_or(DEFAULT_INTERVAL_SECONDS)
}

/// When the next check is due, in Unix milliseconds, after one at `now_ms`. None for `none`, and
/// for a point past the year 9999.
pub fn next_check_ms(mode: CheckMode, interval_seconds: Option<u64>, now_ms: i64) -> Option<i64> {
    match mode {
        CheckMode::None => None,
        CheckMode::EachExecution => Some(now_ms),
        CheckMode::Monthly => {
            let first = civil(now_ms)?.date().first_of_month();
            unix_ms(first.checked_add(1.month()).ok()?.to_datetime(Time::midnight()))
        }
        CheckMode::Yearly => {
            let now = civil(now_ms)?;
            unix_ms(DateTime::from_parts(a_year_after(now.date())?, now.time()))
        }
        CheckMode::Custom => {
            let seconds = effective_interval_seconds(interval_seconds);
            let interval_ms = i64::try_from(seconds.checked_mul(1_000)?).ok()?;
            let next_ms = now_ms.checked_add(interval_ms)?;
            civil(next_ms).map(|_| next_ms)
        }
    }
}

/// Whether a client has to verify now. A scheduled mode without a next check never does, and the
/// zero time is none.
pub fn is_due(mode: CheckMode, next_check_at: Option<LicenseTime>, now_ms: i64) -> bool {
    match mode {
        CheckMode::None => false,
        CheckMode::EachExecution => true,
        CheckMode::Monthly | CheckMode::Yearly | CheckMode::Custom => {
            next_check_at.is_some_and(|at| !at.is_zero() && now_ms >= at.unix_ms())
        }
    }
}

/// How long a running program waits for its next background check, in milliseconds: until the next
/// check, else for the interval. Only `custom` checks in the background.
pub fn background_wait_ms(
    mode: CheckMode,
    next_check_at: Option<LicenseTime>,
    interval_seconds: Option<u64>,
    now_ms: i64,
) -> Option<u64> {
    if mode != CheckMode::Custom {
        return None;
    }
    let wait_ms = match next_check_at.filter(|at| !at.is_zero()) {
        Some(at) => u64::try_from(at.unix_ms().saturating_sub(now_ms)).unwrap_or(0),
        None => effective_interval_seconds(interval_seconds).saturating_mul(1_000),
    };
    Some(wait_ms)
}

fn civil(unix_ms: i64) -> Option<DateTime> {
    Some(TimeZone::UTC.to_datetime(Timestamp::from_millisecond(unix_ms).ok()?))
}

fn unix_ms(civil: DateTime) -> Option<i64> {
    Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

/// The same day a year later; after 29 February comes 1 March, as in the reference implementation.
fn a_year_after(date: Date) -> Option<Date> {
    let year = date.year().checked_add(1)?;
    Date::new(year, date.month(), date.day()).or_else(|_| Date::new(year, 3, 1)).ok()
}
