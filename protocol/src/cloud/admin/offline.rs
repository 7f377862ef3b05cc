//! Offline use: rules for borrowing, who is offline until when, seats of lost devices.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::plan::MAX_INTERVAL_SECONDS;
use super::{default_page, optional_count, page_items};
use crate::cloud::lease::LeaseState;
use crate::package::MAX_QUANTITY;
use crate::wire::{self, UtcTime};

/// Most users and hosts that the rules of a package include, and most that they exclude.
pub const MAX_BORROW_PARTIES: usize = 256;

/// `PUT /admin/packages/{package_id}/borrow-rules`: replaces the rules. They narrow what the
/// package allows and never widen it; an empty object takes them away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BorrowRules {
    /// Longest borrow; the package's when left out; 0: nobody borrows.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_INTERVAL_SECONDS, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 604_800, minimum = 0, maximum = 31_622_400)]
    pub max_seconds: Option<u32>,
    /// Seats that may be borrowed at once; the package's when left out.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_QUANTITY, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 5, minimum = 0, maximum = 10_000_000)]
    pub seats_max: Option<u32>,
    /// Seats that borrowing leaves for online users; the larger of this and the package's counts.
    #[serde(default, deserialize_with = "optional_count::<0, MAX_QUANTITY, _>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 2, minimum = 0, maximum = 10_000_000)]
    pub online_reserve: Option<u32>,
    /// Who may borrow; empty: everybody.
    #[serde(default, deserialize_with = "parties")]
    #[schema(max_items = 256)]
    pub include: Vec<BorrowParty>,
    /// Who may not, whatever `include` says.
    #[serde(default, deserialize_with = "parties")]
    #[schema(max_items = 256)]
    pub exclude: Vec<BorrowParty>,
}

/// Somebody named in a rule; compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BorrowParty {
    /// A user by name.
    #[schema(example = json!({"user": "alice@bmw.com"}))]
    User(#[serde(deserialize_with = "wire::text")] String),
    /// A host by name.
    #[schema(example = json!({"host": "dev-workstation-042"}))]
    Host(#[serde(deserialize_with = "wire::text")] String),
}

fn parties<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<BorrowParty>, D::Error> {
    let mut parties = Vec::<BorrowParty>::deserialize(deserializer)?;
    if parties.len() > MAX_BORROW_PARTIES {
        return Err(serde::de::Error::custom(format_args!("want at most {MAX_BORROW_PARTIES}")));
    }
    parties.sort();
    parties.dedup();
    Ok(parties)
}

/// The rules of a package, and what comes of them and of the package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BorrowRulesView {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// What an operator said; every field is absent or empty when nothing.
    pub rules: BorrowRules,
    /// What is in force: the package's own limits, narrowed by the rules.
    pub in_force: BorrowLimitsView,
}

/// What may be borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BorrowLimitsView {
    /// Longest borrow; 0: none.
    #[schema(example = 604_800)]
    pub max_seconds: u32,
    /// Seats at once; absent: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = 5)]
    pub seats_max: Option<u32>,
    /// Seats left for online users.
    #[schema(example = 2)]
    pub online_reserve: u32,
}

/// `GET /admin/packages/{package_id}/offline`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfflineQuery {
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Leases of a package for which an offline token is outstanding, in order of lease id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfflineList {
    /// The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Seats borrowed, on all pages.
    #[schema(example = 1)]
    pub seats_borrowed: u32,
    /// Seats for which a token is outstanding, the borrowed ones included, on all pages.
    #[schema(example = 3)]
    pub seats_offline: u32,
    /// One page; it may be empty and not the last.
    pub leases: Vec<OfflineLeaseView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A lease for which an offline token is outstanding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfflineLeaseView {
    /// Name of the lease.
    pub lease_id: String,
    /// How many seats.
    #[schema(example = 1)]
    pub quantity: u32,
    /// Who sits before it; absent when erased, or where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub user: Option<String>,
    /// Where it runs: the host's name, or what an activation has in its place; absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "dev-workstation-042")]
    pub hostname: Option<String>,
    /// Until when the newest token is good.
    pub until: UtcTime,
    /// Until when the seats stay taken unless they come back: the package's skew later.
    pub seats_taken_until: UtcTime,
    /// Whether the seat was borrowed, and not just renewed with a token.
    pub borrowed: bool,
    /// The activation whose seat it is; absent for a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_id: Option<String>,
}

/// `POST /admin/leases/{lease_id}/write-off`: frees the seats of a device that is lost for good.
/// Its token stays good until it ends, which is why a reason is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteOffRequest {
    /// For the audit trail.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "laptop stolen, case 4711", min_length = 1, max_length = 256)]
    pub reason: String,
}

/// Seats that are free although a token may still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WriteOffResponse {
    /// Name of the lease.
    pub lease_id: String,
    /// Always `released`.
    pub state: LeaseState,
    /// Until when the lost token is good; absent when none was outstanding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_good_until: Option<UtcTime>,
}
