//! How a package's seats may be used: `x_leasehold.policy`, inside the signed bytes.
//!
//! | field | unit | bounds | default |
//! |---|---|---|---|
//! | `lease_ttl_seconds` | s | 1 to 86,400 | 900 |
//! | `heartbeat_interval_seconds` | s | 1 to the TTL | a third of the TTL |
//! | `renewal_rotation` | `on`, `off` | | `on` |
//! | `sharing` | `none`, `user`, `host`, `user_host` | | `none` |
//! | `offline` | `on`, `off` | | `off` |
//! | `offline_skew_seconds` | s | 0 to 86,400 | 600 |
//! | `borrow_max_seconds` | s | 0 (none) to 31,622,400 (366 days) | 0 |
//! | `borrow_seats_max` | seats | 0 to 1,000,000 | absent: as many as there are |
//! | `borrow_online_reserve` | seats | 0 to 1,000,000 | 0 |
//!
//! `borrow_seats_max` bounds the seats that are borrowed at once; `borrow_online_reserve` is how
//! many free seats a borrow must leave for those who are online.
//!
//! An unknown field is an error that names it: a restriction that a server does not understand must
//! not be dropped in silence.

use std::collections::BTreeMap;

use super::error::PackageError;
use super::read::Fields;
use crate::strict_json::Value;

/// What the vendor allows. Lengths of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a lease lives after a checkout or a heartbeat, in lease time.
    pub lease_ttl_ms: u64,
    /// How often holders are asked to renew.
    pub heartbeat_interval_ms: u64,
    /// Whether every heartbeat hands out a new renewal token and spends the one before.
    pub renewal_rotation: bool,
    /// Whose checkouts share one seat.
    pub sharing: Sharing,
    /// Whether a heartbeat may carry an offline token.
    pub offline: bool,
    /// How far a device's clock may be off.
    pub offline_skew_ms: u64,
    /// How long a seat may be borrowed; 0: not at all.
    pub borrow_max_ms: u64,
    /// Seats that may be borrowed at once; `None`: as many as there are.
    pub borrow_seats_max: Option<u32>,
    /// Seats that borrowing must leave for online users.
    pub borrow_online_reserve: u32,
}

/// Whose checkouts share one seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Every checkout takes its own.
    None,
    /// All of one user.
    User,
    /// All of one host.
    Host,
    /// All of one user on one host.
    UserHost,
}

impl Sharing {
    /// The wire word.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::User => "user",
            Self::Host => "host",
            Self::UserHost => "user_host",
        }
    }

    const ALL: [Self; 4] = [Self::None, Self::User, Self::Host, Self::UserHost];
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease_ttl_ms: 900_000,
            heartbeat_interval_ms: 300_000,
            renewal_rotation: true,
            sharing: Sharing::None,
            offline: false,
            offline_skew_ms: 600_000,
            borrow_max_ms: 0,
            borrow_seats_max: None,
            borrow_online_reserve: 0,
        }
    }
}

impl Policy {
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Self, PackageError> {
        let default = Self::default();
        let mut seconds_as_ms = |name, least: u64, most: u64, default_ms: u64| {
            let seconds = fields.optional_integer(name, least, most)?;
            Ok::<u64, PackageError>(seconds.map_or(default_ms, |seconds| seconds * 1_000))
        };
        let lease_ttl_ms =
            seconds_as_ms("lease_ttl_seconds", 1, MAX_LEASE_TTL_SECONDS, default.lease_ttl_ms)?;
        let policy = Self {
            lease_ttl_ms,
            heartbeat_interval_ms: seconds_as_ms(
                "heartbeat_interval_seconds",
                1,
                lease_ttl_ms / 1_000,
                lease_ttl_ms / 3,
            )?,
            offline_skew_ms: seconds_as_ms(
                "offline_skew_seconds",
                0,
                MAX_OFFLINE_SKEW_SECONDS,
                default.offline_skew_ms,
            )?,
            borrow_max_ms: seconds_as_ms(
                "borrow_max_seconds",
                0,
                MAX_BORROW_SECONDS,
                default.borrow_max_ms,
            )?,
            borrow_seats_max: optional_seats(&mut fields, "borrow_seats_max")?,
            borrow_online_reserve: optional_seats(&mut fields, "borrow_online_reserve")?
                .unwrap_or(0),
            renewal_rotation: fields.optional_switch("renewal_rotation")?.unwrap_or(true),
            offline: fields.optional_switch("offline")?.unwrap_or(false),
            sharing: fields
                .optional_word("sharing", &Sharing::ALL.map(Sharing::name))?
                .and_then(|word| Sharing::ALL.into_iter().find(|sharing| sharing.name() == word))
                .unwrap_or(Sharing::None),
        };
        fields.finish()?;
        Ok(policy)
    }

    /// The policy as a document has it, every field written out.
    pub(super) fn write(&self) -> Value {
        let switch = |on| Value::String(if on { "on" } else { "off" }.to_owned());
        let seconds = |ms: u64| Value::Integer(i64::try_from(ms / 1_000).unwrap_or(i64::MAX));
        let mut fields = BTreeMap::from([
            ("lease_ttl_seconds".to_owned(), seconds(self.lease_ttl_ms)),
            ("renewal_rotation".to_owned(), switch(self.renewal_rotation)),
            ("sharing".to_owned(), Value::String(self.sharing.name().to_owned())),
            ("offline".to_owned(), switch(self.offline)),
            ("offline_skew_seconds".to_owned(), seconds(self.offline_skew_ms)),
            ("borrow_max_seconds".to_owned(), seconds(self.borrow_max_ms)),
            ("borrow_online_reserve".to_owned(), Value::Integer(self.borrow_online_reserve.into())),
        ]);
        // No number says "as many as there are".
        if let Some(seats) = self.borrow_seats_max {
            fields.insert("borrow_seats_max".to_owned(), Value::Integer(seats.into()));
        }
        // A third of a short TTL is no whole number of seconds: left out, it comes out the same.
        if self.heartbeat_interval_ms != self.lease_ttl_ms / 3 {
            fields.insert(
                "heartbeat_interval_seconds".to_owned(),
                seconds(self.heartbeat_interval_ms),
            );
        }
        Value::Object(fields)
    }
}

/// A number of seats, if the document has it.
fn optional_seats(
    fields: &mut Fields<'_>,
    name: &'static str,
) -> Result<Option<u32>, PackageError> {
    let seats = fields.optional_integer(name, 0, MAX_BORROW_SEATS)?;
    Ok(seats.and_then(|seats| u32::try_from(seats).ok()))
}

/// A day: longer and a crashed holder keeps a seat past any reason for heartbeats.
const MAX_LEASE_TTL_SECONDS: u64 = 86_400;
/// A day: devices whose clock is further off are refused anyway.
const MAX_OFFLINE_SKEW_SECONDS: u64 = 86_400;
/// A leap year.
const MAX_BORROW_SECONDS: u64 = 366 * 86_400;
/// Each borrowed seat is looked at on its own, by people too; a million is more than anybody does.
const MAX_BORROW_SEATS: u64 = 1_000_000;
