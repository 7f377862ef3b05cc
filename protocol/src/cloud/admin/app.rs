//! Apps: who may ask for seats.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::oauth::Scopes;
use crate::secret::Disclosed;
use crate::wire::{self, UtcTime};

/// What signs an app's access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub enum TokenAlgorithm {
    /// RSA PKCS#1 v1.5 with SHA-256, as the protocol document shows.
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// `POST /admin/apps`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterAppRequest {
    /// Name for people.
    #[serde(deserialize_with = "wire::text")]
    #[schema(example = "DaVinci Configurator SE", min_length = 1, max_length = 256)]
    pub name: String,
    /// The product it checks out.
    #[serde(deserialize_with = "wire::id")]
    #[schema(example = "davinci-configurator-se", max_length = 128)]
    pub product_id: String,
    /// Who makes the product.
    #[serde(alias = "vendor", deserialize_with = "wire::id")]
    #[schema(example = "vector-de", max_length = 128)]
    pub vendor_id: String,
    /// Scopes it may ask for; all when left out.
    #[serde(default = "all_scopes", deserialize_with = "some_scopes")]
    pub scopes: Scopes,
    /// What signs its access tokens; RS256 when left out.
    #[serde(default)]
    pub token_algorithm: TokenAlgorithm,
}

fn all_scopes() -> Scopes {
    Scopes::ALL
}

fn some_scopes<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Scopes, D::Error> {
    let scopes = Scopes::deserialize(deserializer)?;
    if scopes.is_empty() {
        return Err(serde::de::Error::custom("want at least one scope"));
    }
    Ok(scopes)
}

/// A new app. The secret is shown this once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RegisterAppResponse {
    /// The app.
    #[schema(example = "app-davinci-12345")]
    pub app_id: String,
    /// Its name at the token endpoint.
    #[schema(example = "davinci-bmw-client")]
    pub client_id: String,
    /// Its secret, shown this once.
    pub client_secret: Disclosed,
    /// Where it finds this cluster.
    #[schema(example = "https://licenses.example.com")]
    pub license_server_url: String,
    /// Where it asks for tokens.
    #[schema(example = "/oauth/token")]
    pub token_endpoint: String,
}

/// `POST /admin/apps/{app_id}/rotate`: a new secret; tokens given under the old one end at once.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct RotateSecretResponse {
    /// The app.
    pub app_id: String,
    /// Its name at the token endpoint, unchanged.
    pub client_id: String,
    /// Its new secret, shown this once.
    pub client_secret: Disclosed,
    /// Counts secrets, from 1.
    #[schema(example = 2)]
    pub secret_generation: u32,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppView {
    /// The app.
    #[schema(example = "app-davinci-12345")]
    pub app_id: String,
    /// Its name at the token endpoint.
    #[schema(example = "davinci-bmw-client")]
    pub client_id: String,
    /// Name for people.
    #[schema(example = "DaVinci Configurator SE")]
    pub name: String,
    /// The product it checks out.
    #[schema(example = "davinci-configurator-se")]
    pub product_id: String,
    /// Who makes the product.
    #[schema(example = "vector-de")]
    pub vendor_id: String,
    /// Scopes it may ask for.
    pub scopes: Scopes,
    /// What signs its access tokens.
    pub token_algorithm: TokenAlgorithm,
    /// Counts secrets, from 1.
    #[schema(example = 1)]
    pub secret_generation: u32,
    /// When it was registered.
    pub registered_at: UtcTime,
}

/// Apps, in order of app id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppList {
    /// One page.
    pub apps: Vec<AppView>,
    /// Where it ended; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
