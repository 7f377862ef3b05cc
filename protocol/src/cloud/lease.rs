//! The calls of applications: checkout, heartbeat, return, borrow, show, discover.
//!
//! Source: the protocol document's steps 5 to 7; an *extension* is an addition that an older client
//! does not look at.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::fence::Fence;
use crate::wire::{self, Money, UtcTime};

/// Most leases in one bulk heartbeat.
pub const MAX_BULK_HEARTBEATS: usize = 1_000;
/// Longest lease id or renewal token that is looked at.
pub const MAX_TOKEN_CHARS: usize = 128;
/// Longest offline token that is looked at.
pub const MAX_OFFLINE_TOKEN_CHARS: usize = crate::offline::MAX_TOKEN_BYTES;
/// Longest borrow that can be asked for: a leap year.
pub const MAX_BORROW_SECONDS: u32 = 366 * 86_400;

/// `POST /api/v1/licenses/checkout`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckoutRequest {
    /// The product.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "davinci-configurator-se", max_length = 128)]
    pub product_id: String,
    /// Who sits before it.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "alice@bmw.com", min_length = 1, max_length = 256)]
    pub user: String,
    /// Where it runs.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "dev-workstation-042", min_length = 1, max_length = 256)]
    pub hostname: String,
    /// About the program.
    #[serde(default, deserialize_with = "wire::object")]
    pub metadata: CheckoutMetadata,
    /// Extension: Features, all or nothing.
    #[serde(default, deserialize_with = "wire::ids", skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["can_editor"]), max_items = 64)]
    pub features: Vec<String>,
    /// Extension: How many seats; 1 when left out.
    #[serde(default = "one", deserialize_with = "wire::quantity")]
    #[schema(example = 1, minimum = 1, maximum = 10_000_000)]
    pub quantity: u32,
    /// Extension: From which pool.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "team-a", max_length = 128)]
    pub pool: Option<String>,
}

fn one() -> u32 {
    1
}

/// About the program that checks out. Other members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckoutMetadata {
    /// Its version, compared with the range that the package covers.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "8.2.1", max_length = 256)]
    pub version: Option<String>,
    /// Its own name for the session.
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "sess-xyz789", max_length = 256)]
    pub session_id: Option<String>,
}

/// Which seats a lease holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseType {
    /// Paid for in advance.
    Commit,
    /// Charged at checkout.
    Overage,
}

/// Always `success`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckoutStatus {
    /// A seat is taken.
    Success,
}

/// A seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckoutResponse {
    /// Always `success`.
    pub status: CheckoutStatus,
    /// Name of the lease.
    #[schema(example = "lease-aaaqcaqdaqcqmbyibeflcnvw5no6slnpjxga")]
    pub lease_id: String,
    /// Which seats it holds.
    pub lease_type: LeaseType,
    /// What the checkout costs; only for overage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// Extension: ISO 4217 code; only with a cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "EUR")]
    pub currency: Option<String>,
    /// When it ends unless it is renewed, for people: programs count `expires_in_ms`.
    pub expires_at: UtcTime,
    /// Extension: Milliseconds until then, counted from when the request was sent.
    #[schema(example = 900_000)]
    pub expires_in_ms: u64,
    /// Extension: How often to renew.
    #[schema(example = 300_000)]
    pub heartbeat_interval_ms: u64,
    /// Spent by the next heartbeat.
    #[schema(example = "rt1-AQABAQIDBAUGBwgJCgAAAAM68c7dLyk4fQcVZe0jwfrE")]
    pub renewal_token: String,
    /// Extension: Rises with every grant; a guarded resource turns away a lower one.
    pub fence: Fence,
    /// Extension: The package.
    #[schema(example = "vec-davinci-se-bmw-2025-001")]
    pub package_id: String,
    /// Extension: How many seats.
    #[schema(example = 1)]
    pub quantity: u32,
    /// Extension: Features granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Extension: Pool the seats came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// `PUT /api/v1/licenses/{lease_id}/heartbeat`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatRequest {
    /// From the checkout or the last heartbeat.
    #[serde(deserialize_with = "token")]
    #[schema(example = "rt1-AQABAQIDBAUGBwgJCgAAAAM68c7dLyk4fQcVZe0jwfrE", max_length = 128)]
    pub renewal_token: String,
    /// Whether the program still runs; true when left out.
    #[serde(default = "yes")]
    pub still_active: bool,
}

fn yes() -> bool {
    true
}

fn token<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if (1..=MAX_TOKEN_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want 1 to {MAX_TOKEN_CHARS} visible ASCII characters"
        )))
    }
}

/// Always `renewed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RenewedStatus {
    /// The lease lives on.
    Renewed,
}

/// A lease that lives on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeartbeatResponse {
    /// Always `renewed`.
    pub status: RenewedStatus,
    /// When it ends unless it is renewed again.
    pub expires_at: UtcTime,
    /// Extension: Milliseconds until then, counted from when the request was sent.
    #[schema(example = 900_000)]
    pub expires_in_ms: u64,
    /// Extension: How often to renew.
    #[schema(example = 300_000)]
    pub heartbeat_interval_ms: u64,
    /// Extension: For the next heartbeat; the one that was sent is spent where rotation is on.
    pub renewal_token: String,
    /// Extension: The lease's fence, unchanged since checkout.
    pub fence: Fence,
    /// Extension: Proof of the lease for when no server can be reached, where the package allows
    /// one; it ends with the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_token: Option<String>,
}

/// `POST /api/v1/licenses/heartbeats`, an extension
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkHeartbeatRequest {
    /// 1 to 1,000 leases.
    #[serde(deserialize_with = "bulk_items")]
    #[schema(min_items = 1, max_items = 1_000)]
    pub leases: Vec<BulkHeartbeatItem>,
}

fn bulk_items<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<BulkHeartbeatItem>, D::Error> {
    #[derive(Deserialize)]
    struct Item(#[serde(deserialize_with = "wire::object")] BulkHeartbeatItem);
    let items = Vec::<Item>::deserialize(deserializer)?;
    if (1..=MAX_BULK_HEARTBEATS).contains(&items.len()) {
        Ok(items.into_iter().map(|Item(item)| item).collect())
    } else {
        Err(serde::de::Error::custom(format_args!("want 1 to {MAX_BULK_HEARTBEATS} leases")))
    }
}

/// One lease of a bulk heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkHeartbeatItem {
    /// Name of the lease.
    #[serde(deserialize_with = "token")]
    #[schema(max_length = 128)]
    pub lease_id: String,
    /// From the checkout or the last heartbeat.
    #[serde(deserialize_with = "token")]
    #[schema(max_length = 128)]
    pub renewal_token: String,
}

/// What became of each lease, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkHeartbeatResponse {
    /// One for each lease.
    pub results: Vec<BulkHeartbeatResult>,
}

/// What became of one lease of a bulk heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BulkHeartbeatStatus {
    /// It lives on.
    Renewed,
    /// It ended before.
    Ended,
    /// The renewal token was spent, or is not this lease's.
    Replayed,
    /// Not a lease of this app.
    Unknown,
}

/// One lease's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkHeartbeatResult {
    /// Name of the lease, as asked.
    pub lease_id: String,
    /// What became of it.
    pub status: BulkHeartbeatStatus,
    /// When it ends unless it is renewed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcTime>,
    /// Milliseconds until then, counted from when the request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// How often to renew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_interval_ms: Option<u64>,
    /// For the next heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_token: Option<String>,
    /// The lease's fence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
    /// Proof of the lease for when no server can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_token: Option<String>,
}

/// `POST /api/v1/licenses/{lease_id}/borrow`, an extension: lengthens the lease, so that an offline
/// token may be signed that long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BorrowRequest {
    /// From the checkout or the last heartbeat; spent as by a heartbeat.
    #[serde(deserialize_with = "token")]
    #[schema(max_length = 128)]
    pub renewal_token: String,
    /// For how long, from now; the package and an operator's rules may allow less.
    #[serde(deserialize_with = "borrow_seconds")]
    #[schema(example = 86_400, minimum = 1, maximum = 31_622_400)]
    pub duration_seconds: u32,
}

fn borrow_seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if (1..=MAX_BORROW_SECONDS).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(serde::de::Error::custom(format_args!("want 1 to {MAX_BORROW_SECONDS}")))
    }
}

/// Always `borrowed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum BorrowedStatus {
    /// The seat may leave the network.
    Borrowed,
}

/// A seat that may leave the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BorrowResponse {
    /// Always `borrowed`.
    pub status: BorrowedStatus,
    /// Name of the lease.
    pub lease_id: String,
    /// Until when the offline token is good.
    pub borrowed_until: UtcTime,
    /// When the lease ends unless it is renewed or given back.
    pub expires_at: UtcTime,
    /// Milliseconds until then, counted from when the request was sent.
    #[schema(example = 86_400_000)]
    pub expires_in_ms: u64,
    /// How often to renew while a server can be reached.
    #[schema(example = 300_000)]
    pub heartbeat_interval_ms: u64,
    /// For the next heartbeat, or to give the borrow back.
    pub renewal_token: String,
    /// The lease's fence, unchanged since checkout.
    pub fence: Fence,
    /// Proof of the lease for when no server can be reached.
    pub offline_token: String,
}

/// `POST /api/v1/licenses/{lease_id}/return-borrow`, an extension: ends a borrow early. The lease
/// goes on as an ordinary one, renewed now; the answer is a heartbeat's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnBorrowRequest {
    /// From the borrow or the last heartbeat.
    #[serde(deserialize_with = "token")]
    #[schema(max_length = 128)]
    pub renewal_token: String,
}

/// `POST /api/v1/offline/validate`, an extension: what a program asks when it can reach a server
/// again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfflineValidateRequest {
    /// The token.
    #[serde(deserialize_with = "offline_token")]
    #[schema(max_length = 8_192)]
    pub offline_token: String,
}

fn offline_token<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let length = 1..=MAX_OFFLINE_TOKEN_CHARS;
    if length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want 1 to {MAX_OFFLINE_TOKEN_CHARS} visible ASCII characters"
        )))
    }
}

/// What a lease of an offline token has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OfflineState {
    /// Its lease lives, and no newer token was given for it.
    Live,
    /// Its lease lives, and a newer token was given for it, or its license's version was raised.
    Superseded,
    /// Its lease has ended.
    Ended,
}

/// What a server says of a token. A token that it cannot believe is no error: `valid` is false and
/// `reason` says why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OfflineValidateResponse {
    /// Whether it is genuine and its lease is `live`.
    #[schema(example = true)]
    pub valid: bool,
    /// Why not: `bad_signature`, `unknown_key`, `expired`, `not_yet_valid`, `wrong_cluster`,
    /// `wrong_epoch`, `superseded`, `lease_ended` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Name of the lease; of a genuine token only, like all that follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// What the lease has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<OfflineState>,
    /// When the lease ends unless it is renewed; of a living one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<UtcTime>,
    /// Milliseconds until then, counted from when the request was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// Whether the lease is borrowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<bool>,
}

/// `POST /api/v1/licenses/{lease_id}/return`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnRequest {
    /// The same as in the path.
    #[serde(deserialize_with = "token")]
    #[schema(max_length = 128)]
    pub lease_id: String,
    /// What was done with it.
    #[serde(default, deserialize_with = "wire::object")]
    pub usage_metadata: UsageMetadata,
}

/// What a session did. Other members are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageMetadata {
    /// How long the program says it ran.
    #[serde(default, deserialize_with = "optional_count")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 3600, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub session_duration_seconds: Option<u64>,
    /// What was used, at most 64.
    #[serde(default, deserialize_with = "wire::ids", skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["arxml_validator", "can_editor"]), max_items = 64)]
    pub features_used: Vec<String>,
    /// How many files.
    #[serde(default, deserialize_with = "optional_count")]
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 42, minimum = 0, maximum = 9_007_199_254_740_991_u64)]
    pub files_processed: Option<u64>,
}

fn optional_count<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let count = Option::<u64>::deserialize(deserializer)?;
    let most = crate::strict_json::MAX_SAFE_INTEGER.unsigned_abs();
    if count.is_none_or(|count| count <= most) {
        Ok(count)
    } else {
        Err(serde::de::Error::custom("want an integer below 2^53"))
    }
}

/// Always `returned`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReturnedStatus {
    /// The seat is free.
    Returned,
}

/// A seat given back. Asked again with the same lease, the same answer comes again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReturnResponse {
    /// Always `returned`.
    pub status: ReturnedStatus,
    /// What was charged at checkout; `0.0` for a commit seat.
    pub total_cost: Money,
    /// How long it was out, in hours and minutes.
    #[schema(example = "1h 0m")]
    pub lease_duration: String,
}

/// A length of time in hours and minutes, cut to the minute: `1h 0m`.
pub fn lease_duration(duration_ms: u64) -> String {
    let minutes = duration_ms / 60_000;
    format!("{}h {}m", minutes / 60, minutes % 60)
}

/// What state a lease is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// Out.
    Active,
    /// Given back by its holder.
    Returned,
    /// Not renewed in time.
    Expired,
    /// Taken back by an administrator.
    Released,
    /// Ended, and no longer remembered how.
    Ended,
}

/// `GET /api/v1/licenses/{lease_id}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseResponse {
    /// Name of the lease.
    pub lease_id: String,
    /// What state it is in.
    pub state: LeaseState,
    /// Which seats it holds.
    pub lease_type: LeaseType,
    /// The product.
    pub product_id: String,
    /// The package.
    pub package_id: String,
    /// How many seats.
    pub quantity: u32,
    /// Features granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Pool the seats came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// When it was taken.
    pub acquired_at: UtcTime,
    /// When it ends unless it is renewed, or ended.
    pub expires_at: UtcTime,
    /// Milliseconds until then; 0 when it has ended.
    pub expires_in_ms: u64,
    /// What the checkout cost; only for overage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Money>,
    /// The lease's fence.
    pub fence: Fence,
}

/// `GET /api/v1/licenses/discover?product=`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DiscoverQuery {
    /// The product; every one of the app's packages when left out.
    #[serde(default, deserialize_with = "wire::optional_id")]
    #[param(example = "davinci-configurator-se", max_length = 128)]
    pub product: Option<String>,
}

/// What the app could check out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiscoverResponse {
    /// One for each package, in order of package id.
    pub licenses: Vec<DiscoveredLicense>,
}

/// What one package offers now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiscoveredLicense {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub product_name: String,
    /// Which versions are covered.
    #[schema(example = ">=8.0.0")]
    pub product_version: String,
    /// Who sold it.
    pub vendor_id: String,
    /// The package.
    pub package_id: String,
    /// Whether a checkout can succeed at all.
    pub state: super::admin::PackageState,
    /// Features included.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Most seats out at one time.
    #[schema(example = 20)]
    pub total: u32,
    /// Seats out now.
    #[schema(example = 3)]
    pub in_use: u32,
    /// Paid seats free now.
    #[schema(example = 2)]
    pub commit_available: u32,
    /// Overage seats free now.
    #[schema(example = 15)]
    pub overage_available: u32,
    /// What an overage checkout costs.
    pub overage_per_use: Money,
    /// ISO 4217 code.
    #[schema(example = "EUR")]
    pub currency: String,
    /// First valid time.
    pub valid_from: UtcTime,
    /// Last valid time.
    pub valid_until: UtcTime,
}
