//! Clients, whom licenses are issued to; admin users and their API keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::time::LicenseTime;
use super::super::wire;
use super::{AdminFault, AdminRequest, free_text, metadata};
use crate::secret::{Disclosed, Secret};

/// Fewest characters of an admin user's password.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Most characters of an admin user's password: hashing a longer one only costs time.
pub const MAX_PASSWORD_CHARS: usize = 256;

/// `POST /api/clients`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceCreateClientRequest)]
#[serde(deny_unknown_fields)]
pub struct CreateClientRequest {
    /// The client's address; no two clients have one.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(example = "owner@example.com", max_length = 256)]
    pub email: String,
    /// Name for people.
    #[serde(default, deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub name: String,
    /// Company.
    #[serde(default, deserialize_with = "free_text", skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 256)]
    pub company_name: String,
    /// Read and not kept.
    #[serde(default, deserialize_with = "metadata", skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl AdminRequest for CreateClientRequest {
    fn check(&self) -> Result<(), AdminFault> {
        wire::email(&self.email).map(|_| ()).map_err(|_| AdminFault::Field("invalid email address"))
    }
}

/// Whether a client's licenses work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceClientStatus)]
#[serde(rename_all = "lowercase")]
pub enum ClientStatus {
    /// They do.
    Active,
    /// They are refused.
    Banned,
}

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceClientView)]
pub struct ClientView {
    /// The client.
    #[schema(example = "6a3d09a9-7701-42b7-8f54-cfcda8b14d32")]
    pub id: String,
    /// Its address; empty when erased.
    pub email: String,
    /// Name for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Company.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub company_name: String,
    /// Whether its licenses work.
    pub status: ClientStatus,
    /// When it was added.
    pub created_at: LicenseTime,
    /// When it was last changed.
    pub updated_at: LicenseTime,
    /// When it was banned; the zero time when it is not.
    pub banned_at: LicenseTime,
    /// Why it was banned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ban_reason: String,
}

/// `POST /api/admin/users`
#[derive(Deserialize, ToSchema)]
#[schema(as = DeviceCreateUserRequest)]
#[serde(deny_unknown_fields)]
pub struct CreateUserRequest {
    /// Name; no two users have one.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub username: String,
    /// Password, 8 to 256 characters; kept as a hash.
    #[schema(value_type = String, format = Password, min_length = 8, max_length = 256)]
    pub password: Secret<String>,
}

impl AdminRequest for CreateUserRequest {
    fn check(&self) -> Result<(), AdminFault> {
        if self.username.is_empty() {
            return Err(AdminFault::Field("username is required"));
        }
        if !crate::wire::is_id(&self.username) {
            return Err(AdminFault::Field("username has characters that no name may have"));
        }
        let characters = self.password.expose().chars().count();
        if characters < MIN_PASSWORD_CHARS {
            return Err(AdminFault::Field("password must be at least 8 characters"));
        }
        if characters > MAX_PASSWORD_CHARS {
            return Err(AdminFault::Field("password must be at most 256 characters"));
        }
        Ok(())
    }
}

/// An admin user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceUserView)]
pub struct UserView {
    /// The user.
    pub id: String,
    /// Name.
    pub username: String,
    /// When they were added.
    pub created_at: LicenseTime,
    /// The same: users are not changed.
    pub updated_at: LicenseTime,
}

/// `POST /api/admin/api-keys`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceCreateApiKeyRequest)]
#[serde(deny_unknown_fields)]
pub struct CreateApiKeyRequest {
    /// Whose key it is to be.
    #[serde(default, deserialize_with = "free_text")]
    #[schema(max_length = 256)]
    pub user_id: String,
}

impl AdminRequest for CreateApiKeyRequest {
    fn check(&self) -> Result<(), AdminFault> {
        if self.user_id.is_empty() {
            return Err(AdminFault::Field("user_id is required"));
        }
        Ok(())
    }
}

/// A new API key.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceCreateApiKeyResponse)]
pub struct CreateApiKeyResponse {
    /// The key, shown this once: 48 hex digits in upper case.
    pub token: Disclosed,
    /// About it.
    pub metadata: ApiKeyView,
}

/// An API key without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeviceApiKeyView)]
pub struct ApiKeyView {
    /// The key's row.
    pub id: String,
    /// Whose key it is.
    pub user_id: String,
    /// The key's first characters.
    pub prefix: String,
    /// When it was made.
    pub created_at: LicenseTime,
}

/// Bytes of an API key's token.
pub const API_KEY_BYTES: usize = 24;

/// The text of an API key of 24 random bytes: 48 hex digits in upper case.
pub fn api_key_text(bytes: &[u8; API_KEY_BYTES]) -> Disclosed {
    Disclosed::new(data_encoding::HEXUPPER.encode(bytes))
}

/// Whether a text has the form of an API key.
pub fn is_api_key(text: &str) -> bool {
    text.len() == 2 * API_KEY_BYTES
        && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'))
}
