//! Clients: whom license keys are issued to.

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{default_page, page_items};
use crate::wire::{self, UtcTime};

/// Longest e-mail address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
pub const MAX_EMAIL_CHARS: usize = 254;

/// Whether a text can be an e-mail address: something on either side of one `@`, no space, nothing
/// that controls. Whether anybody reads it is not ours to find out.
pub fn is_email(text: &str) -> bool {
    let sides: Vec<&str> = text.split('@').collect();
    matches!(sides.as_slice(), [user, host] if !user.is_empty() && !host.is_empty())
        && text.chars().count() <= MAX_EMAIL_CHARS
        && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Reads an address, in lower case from then on.
pub(super) fn email<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?.to_lowercase();
    if is_email(&text) {
        Ok(text)
    } else {
        Err(serde::de::Error::custom(format_args!(
            "want an e-mail address of at most {MAX_EMAIL_CHARS} characters"
        )))
    }
}

/// Reads an address that may be absent or null.
pub(super) fn optional_email<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    struct Address(#[serde(deserialize_with = "email")] String);
    Ok(Option::<Address>::deserialize(deserializer)?.map(|Address(text)| text))
}

/// `POST /admin/clients`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddClientRequest {
    /// Their e-mail address; no two clients have one.
    #[serde(deserialize_with = "email")]
    #[schema(example = "alice@bmw.com", max_length = 254)]
    pub email: String,
}

/// Where a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// Their licenses are in force.
    Active,
    /// All their licenses are refused.
    Banned,
}

/// A client as an administrator sees it: the answer of adding, banning and unbanning, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientView {
    /// The client.
    #[schema(example = "0195f3a2-7c11-7d3e-9c55-0d8f2b6a4e10")]
    pub client_id: String,
    /// Their address; absent when erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice@bmw.com")]
    pub email: Option<String>,
    /// Where they stand.
    pub state: ClientState,
    /// When they were added.
    pub created_at: UtcTime,
    /// When they were last changed.
    pub updated_at: UtcTime,
    /// Since when they are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banned_at: Option<UtcTime>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ban_reason: Option<String>,
    /// Licenses issued to them.
    #[schema(example = 1)]
    pub licenses: u32,
}

/// `GET /admin/clients`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ClientQuery {
    /// Only the client of this address.
    #[serde(default, deserialize_with = "optional_email")]
    #[param(max_length = 254)]
    pub email: Option<String>,
    /// Only clients that stand here.
    #[serde(default)]
    #[param(inline)]
    pub state: Option<ClientState>,
    /// Where the last page ended (`next` of its answer).
    #[serde(default, deserialize_with = "wire::optional_text")]
    #[param(max_length = 256)]
    pub cursor: Option<String>,
    /// Items of a page, 1 to 1,000.
    #[serde(default = "default_page", deserialize_with = "page_items")]
    #[param(minimum = 1, maximum = 1_000, example = 100)]
    pub limit: u32,
}

/// Clients, in order of client id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClientList {
    /// One page; it may be empty and not the last.
    pub clients: Vec<ClientView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
