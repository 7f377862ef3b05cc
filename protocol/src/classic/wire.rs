//! Requests and answers. The C client finds `"id":"` and `"total":` by searching, so bodies are
//! compact JSON and fields keep their order.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::validation::{Fields, ValidationErrors};
use crate::secret::Disclosed;
use crate::wire::Money;

/// `POST /licenses/borrow`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClassicBorrowRequest)]
pub struct BorrowRequest {
    /// The tool: a product.
    #[schema(example = "CAN Bus Analyzer Pro", min_length = 1, max_length = 256)]
    pub tool: String,
    /// Who borrows.
    #[schema(example = "alice", min_length = 1, max_length = 256)]
    pub user: String,
}

impl BorrowRequest {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<Self, ValidationErrors> {
        let mut fields = Fields::of(body)?;
        let request = Self { tool: fields.text("tool"), user: fields.text("user") };
        fields.finish(request)
    }
}

/// A seat that is out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicBorrow)]
pub struct Borrow {
    /// Its name; shorter than 64 characters.
    #[schema(example = "0a0a5cc9-66ef-437d-8402-3966f50a42c0")]
    pub id: String,
    /// The tool.
    pub tool: String,
    /// Who borrowed.
    pub user: String,
    /// When: [`iso_utc`].
    #[schema(example = "2026-11-22T05:29:15.474000+00:00")]
    pub borrowed_at: String,
}

/// `POST /licenses/return`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClassicReturnRequest)]
pub struct ReturnRequest {
    /// Name of the borrow.
    #[schema(example = "0a0a5cc9-66ef-437d-8402-3966f50a42c0", min_length = 1, max_length = 256)]
    pub id: String,
}

impl ReturnRequest {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<Self, ValidationErrors> {
        let mut fields = Fields::of(body)?;
        let request = Self { id: fields.text("id") };
        fields.finish(request)
    }
}

/// Always `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ClassicOkStatus)]
pub enum OkStatus {
    /// The call was done.
    Ok,
}

/// Answer of a return.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicReturnAnswer)]
pub struct ReturnAnswer {
    /// Always `ok`.
    pub status: OkStatus,
    /// What was returned.
    pub tool: String,
}

/// `GET /licenses/{tool}/status`; a list of them at `GET /licenses/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicToolStatus)]
pub struct ToolStatus {
    /// The tool.
    #[schema(example = "ECU Development Suite")]
    pub tool: String,
    /// Seats.
    pub total: u32,
    /// Seats that are out.
    pub borrowed: u32,
    /// Seats that are free.
    pub available: u32,
    /// Seats paid for in advance.
    pub commit: u32,
    /// Seats that may be out beyond those.
    pub max_overage: u32,
    /// Seats that are out beyond those.
    pub overage: u32,
    /// Whether none is.
    pub in_commit: bool,
    /// Price of the seats paid for in advance.
    pub commit_price: Money,
    /// Price of one more.
    pub overage_price_per_license: Money,
    /// What the seats beyond cost now.
    pub current_overage_cost: Money,
    /// Both together.
    pub total_cost: Money,
}

/// Seats and prices of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolSeats {
    /// Seats.
    pub total: u32,
    /// Seats that are out.
    pub borrowed: u32,
    /// Of those, beyond the ones paid for in advance.
    pub overage: u32,
    /// Seats paid for in advance.
    pub commit: u32,
    /// Seats that may be out beyond those.
    pub max_overage: u32,
    /// Price of the seats paid for in advance.
    pub commit_price: Decimal,
    /// Price of one more.
    pub overage_price: Decimal,
}

impl ToolStatus {
    /// The status of a tool.
    pub fn of(tool: String, seats: ToolSeats) -> Self {
        let overage_cost = seats.overage_price * Decimal::from(seats.overage);
        Self {
            tool,
            total: seats.total,
            borrowed: seats.borrowed,
            available: seats.total.saturating_sub(seats.borrowed),
            commit: seats.commit,
            max_overage: seats.max_overage,
            overage: seats.overage,
            in_commit: seats.overage == 0,
            commit_price: Money(seats.commit_price),
            overage_price_per_license: Money(seats.overage_price),
            current_overage_cost: Money(overage_cost),
            total_cost: Money(seats.commit_price + overage_cost),
        }
    }
}

/// `GET /overage-charges`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicOverageCharges)]
pub struct OverageCharges {
    /// Newest first.
    pub charges: Vec<OverageCharge>,
}

/// What one borrow beyond the seats paid for cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicOverageCharge)]
pub struct OverageCharge {
    /// Name of the borrow.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// Who borrowed.
    pub user: String,
    /// What it cost.
    pub amount: Money,
    /// When: [`iso_utc`].
    pub charged_at: String,
}

/// `GET /version`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicVersion)]
pub struct Version {
    /// Of the server.
    #[schema(example = "0.1.0")]
    pub version: String,
}

/// `GET /config/budget`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicBudget)]
pub struct Budget {
    /// In order of name.
    pub tools: Vec<ToolBudget>,
}

/// What a tool costs and may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicToolBudget)]
pub struct ToolBudget {
    /// The tool.
    pub tool: String,
    /// Seats.
    pub total: u32,
    /// Seats that are out.
    pub borrowed: u32,
    /// Seats paid for in advance.
    pub commit: u32,
    /// Seats that may be out beyond those.
    pub max_overage: u32,
    /// Price of the seats paid for in advance.
    pub commit_price: Money,
    /// Price of one more.
    pub overage_price_per_license: Money,
    /// What overage may cost in a month; null when without limit.
    pub customer_max_spend: Option<Money>,
    /// What it has cost this month.
    pub month_to_date_overage_cost: Money,
    /// What is left; null when without limit.
    pub remaining_spend: Option<Money>,
}

impl ToolBudget {
    /// The budget of a tool.
    pub fn of(tool: String, seats: ToolSeats, spent: Decimal, max_spend: Option<Decimal>) -> Self {
        Self {
            tool,
            total: seats.total,
            borrowed: seats.borrowed,
            commit: seats.commit,
            max_overage: seats.max_overage,
            commit_price: Money(seats.commit_price),
            overage_price_per_license: Money(seats.overage_price),
            customer_max_spend: max_spend.map(Money),
            month_to_date_overage_cost: Money(spent),
            remaining_spend: max_spend.map(|limit| Money((limit - spent).max(Decimal::ZERO))),
        }
    }
}

/// `PUT /config/protection` and `PUT /config/budget`: what overage of a tool may cost in a month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClassicProtectionRequest)]
pub struct ProtectionRequest {
    /// The tool.
    #[schema(example = "ECU Development Suite", min_length = 1, max_length = 256)]
    pub tool: String,
    /// The limit; null takes it away.
    pub max_spend: Option<Money>,
}

impl ProtectionRequest {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<Self, ValidationErrors> {
        let mut fields = Fields::of(body)?;
        let request =
            Self { tool: fields.text("tool"), max_spend: fields.optional_amount("max_spend") };
        fields.finish(request)
    }
}

/// Answer of `PUT /config/protection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicProtectionAnswer)]
pub struct ProtectionAnswer {
    /// Always `ok`.
    pub status: OkStatus,
    /// The tool.
    pub tool: String,
    /// The limit in force.
    pub max_spend: Option<Money>,
}

/// `POST /api/keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ClassicNewKeyRequest)]
pub struct NewKeyRequest {
    /// What the key is for.
    #[schema(example = "build farm", min_length = 1, max_length = 256)]
    pub name: String,
    /// `live`, `test` and the like.
    #[schema(example = "test", min_length = 1, max_length = 32)]
    pub environment: String,
    /// Whose it is.
    #[schema(example = "acme", min_length = 1, max_length = 64)]
    pub tenant_id: String,
}

impl NewKeyRequest {
    /// Reads a body.
    pub fn from_body(body: &[u8]) -> Result<Self, ValidationErrors> {
        let mut fields = Fields::of(body)?;
        let request = Self {
            name: fields.text("name"),
            environment: fields.text("environment"),
            tenant_id: fields.text("tenant_id"),
        };
        fields.finish(request)
    }
}

/// Answer of `POST /api/keys`: the only time that the key is shown.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicNewKeyAnswer)]
pub struct NewKeyAnswer {
    /// Its name in lists.
    #[schema(example = "key_1a5399c30c9c32e0")]
    pub key_id: String,
    /// The key.
    pub api_key: Disclosed,
}

/// `GET /api/keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicKeys)]
pub struct Keys {
    /// Newest first.
    pub keys: Vec<KeyView>,
}

/// Whether a key is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ClassicKeyStatus)]
pub enum KeyStatus {
    /// It is.
    Active,
    /// It was taken back.
    Revoked,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicKeyView)]
pub struct KeyView {
    /// Its name in lists.
    pub id: String,
    /// Whose it is.
    pub tenant_id: String,
    /// What it is for.
    pub name: String,
    /// `live`, `test` and the like.
    pub environment: String,
    /// When it was made: [`iso_naive`].
    pub created_at: String,
    /// When it was last used; null: never.
    pub last_used_at: Option<String>,
    /// Whether it is in force.
    pub status: KeyStatus,
}

/// Answer of `DELETE /api/keys/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ClassicKeyRevoked)]
pub struct KeyRevoked {
    /// Always `ok`.
    pub status: OkStatus,
    /// Its name in lists.
    pub key_id: String,
}

/// A time as Python's `isoformat` writes it in UTC: six digits of fraction unless there is none,
/// `+00:00` at the end.
pub fn iso_utc(unix_ms: i64) -> String {
    format!("{}+00:00", iso_naive(unix_ms))
}

/// The same without a zone.
pub fn iso_naive(unix_ms: i64) -> String {
    let unix_ms = crate::wire::UtcTime::from_unix_ms(unix_ms).unix_ms;
    let time = Timestamp::from_millisecond(unix_ms).unwrap_or_default();
    let form =
        if unix_ms.rem_euclid(1_000) == 0 { "%Y-%m-%dT%H:%M:%S" } else { "%Y-%m-%dT%H:%M:%S.%6f" };
    time.to_zoned(TimeZone::UTC).strftime(form).to_string()
}
